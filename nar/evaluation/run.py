"""Evaluation of checkpoints at several sizes and on several families of graphs, which can be stopped and goes on."""

import hashlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import BadZipFile

import numpy as np
import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from nar.batch import NumpyArray
from nar.configuration import made
from nar.datasets import Algorithm
from nar.datasets.clrs30.families import GRAPH_FAMILIES
from nar.datasets.clrs30.recipe import num_nodes_at
from nar.datasets.clrs30.samplers import CLRS_30
from nar.datasets.splits.cache import Cache
from nar.errors import UserError
from nar.evaluation.instances import Marks, Question, mark
from nar.files import lock_folder, release, replacing
from nar.specs import Spec
from nar.training.checkpoint import (
    config_of,
    kind_of,
    load_weights,
    make_reasoner,
    making_model_of,
    read_checkpoint,
    run_of,
)
from nar.training.folders import WEIGHTS_FILE, facts_of, folder_of
from nar.training.reasoner import Reasoner
from nar.training.saving import specs_of

logger = logging.getLogger(__name__)

MOST_KEPT = 2**28
"""How many bytes of checkpoints are kept in memory until their models are made, at most; others are read twice."""

FAMILY_OF_DM_CLRS = "dm-clrs"
"""What the column ``family`` has for instances of the sampler that the model was trained on."""


@dataclass(frozen=True)
class Subject:
    """A checkpoint that is evaluated.

    Attributes:
        checkpoint: Its path, as it was given or found.
        digest: Of its content: what was evaluated before a file was replaced is told from what was after.
        processor: The class of its processor.
        seed: Of its training; None where it is not told.
        step: After how many training steps it was written; None where it is not told.
        train_sizes: In nodes.
        specs: The probes of each algorithm that it knows, by name.
    """

    checkpoint: str
    digest: str
    processor: str
    seed: int | None
    step: int | None
    train_sizes: tuple[int, ...]
    specs: Mapping[str, Spec] = field(compare=False)

    @property
    def algorithms(self) -> tuple[str, ...]:
        """The names of the algorithms that it knows."""
        return tuple(self.specs)


class Unit(NamedTuple):
    """What is evaluated at a time: one model on one set of instances.

    Attributes:
        subject: The model's.
        algorithm: By name.
        size: The number of nodes asked for (string matchers have 5/4 of it).
        family: Of graphs, or :data:`FAMILY_OF_DM_CLRS`.
        num_nodes: As asked of the sampler.
    """

    subject: Subject
    algorithm: str
    size: int
    family: str
    num_nodes: int

    @property
    def file_name(self) -> str:
        """The name of the file that has its marks."""
        return f"{self.subject.digest[:12]}_{self.algorithm}_{self.family}_{self.size}.npz"


class Evaluation(NamedTuple):
    """The marks of all models on all sets of instances, and the probes by which to read them.

    Attributes:
        specs: Of every algorithm by name.
        marks: What is right of each instance, by unit.
    """

    specs: dict[str, Spec]
    marks: dict[Unit, Marks]


def evaluate(
    checkpoints: Sequence[str | Path],
    out: str | Path,
    *,
    sizes: Sequence[int] = (16, 32, 64),
    algorithms: Sequence[str] | None = None,
    families: Sequence[str] = (FAMILY_OF_DM_CLRS,),
    num_samples: int | None = None,
    with_hints: bool = False,
    cache_dir: str = "~/.cache/nar",
    device: str | None = None,
    after_each: Callable[[Evaluation], object] = lambda evaluation: None,
) -> Evaluation:
    """The marks of checkpoints at every size and on every family; each is kept in ``out/instances`` when it is known.

    What is there from an earlier call with the same settings is not computed again.

    Args:
        checkpoints: Files, or folders in which every ``best.ckpt`` is taken, as those of ``nar sweep``.
        out: Folder to write to.
        sizes: Numbers of nodes.
        algorithms: Names of those to evaluate on; all that a checkpoint knows if not given.
        families: Families of graphs (see :mod:`nar.datasets.clrs30.families`), for the algorithms that have them;
            ``dm-clrs`` are the instances of the official test split.
        num_samples: How many instances of each; as many as the official test split has if not given.
        with_hints: Whether whole trajectories are drawn and hints are scored, which takes memory at large sizes.
        cache_dir: Folder of the cache of splits.
        device: Such as ``cuda``; a GPU if there is one, if not given.
        after_each: What is done after each unit with what there is by then.

    Raises:
        UserError: If there is no such checkpoint, algorithm, family or size.
    """
    out = Path(out)
    settings = {"num_samples": num_samples, "with_hints": with_hints}
    subjects, contents = _read(found(checkpoints))
    if len({subject.digest for subject in subjects.values()}) < len(subjects):
        raise UserError("expected different checkpoints, given some with the same content")
    units = _units_of(list(subjects.values()), sizes, algorithms, families)
    (out / "instances").mkdir(parents=True, exist_ok=True)
    lock = lock_folder(out)
    try:
        where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        evaluation, cache = Evaluation({}, {}), Cache(cache_dir)
        with _progress() as progress:
            task = progress.add_task("evaluating", total=len(units))
            for path, subject in subjects.items():
                own = [unit for unit in units if unit.subject == subject]
                evaluation.specs.update(subject.specs)
                model: tuple[Reasoner, dict[str, str | Algorithm]] | None = None
                for unit in own:
                    progress.update(task, description=f"{unit.algorithm} {unit.size}")
                    marks = _kept(out, unit, settings)
                    if marks is None:
                        model = model or _reasoner(path, contents.pop(path, None))
                        reasoner, given = model
                        marks = _marks(reasoner.to(where), unit, given[unit.algorithm], settings, cache, where)
                        _keep(out, unit, marks, settings)
                    evaluation.marks[unit] = marks
                    after_each(evaluation)
                    progress.advance(task)
    finally:
        if lock is not None:
            release(lock)
    return evaluation


def found(checkpoints: Sequence[str | Path]) -> list[str]:
    """The files, the names, the folders of ``save_pretrained``, and every ``best.ckpt`` below other folders.

    Raises:
        UserError: If there is none.
    """
    paths: list[str] = []
    for given in checkpoints:
        path, folder = Path(given), folder_of(given)
        below = sorted(path.rglob("best.ckpt")) if path.is_dir() and folder is None else [given]
        if not below:
            raise UserError(f"no checkpoint in {path}: expected a best.ckpt in it or below")
        paths += map(str, below)
    if not paths:
        raise UserError("expected one checkpoint or more, given none")
    return list(dict.fromkeys(paths))


def _read(paths: Sequence[str]) -> tuple[dict[str, Subject], dict[str, Mapping[str, Any]]]:
    """The models of checkpoints as tables name them, and what is in the first of them, as long as that is little.

    Raises:
        UserError: If one is not of a reasoner of dense graphs.
    """
    subjects: dict[str, Subject] = {}
    contents: dict[str, Mapping[str, Any]] = {}
    room = MOST_KEPT
    for path in paths:
        checkpoint = read_checkpoint(path)
        if (kind := kind_of(config_of(checkpoint))) != "dense":
            raise UserError(f"{path} is of a model of the kind {kind}: expected a reasoner of dense graphs")
        subjects[path] = subject_of(path, checkpoint)
        room -= _weights_file(path).stat().st_size
        if room >= 0:
            contents[path] = checkpoint
    return subjects, contents


def subject_of(path: str, checkpoint: Mapping[str, Any]) -> Subject:
    """The model of a checkpoint that has been read, of whatever kind, as tables name it."""
    config = config_of(checkpoint)
    processor, folder = config["model"].get("processor", {}), folder_of(path)
    facts = {} if folder is None else facts_of(folder)
    sizes = config["data"].get("train_sizes") or []
    return Subject(
        checkpoint=path,
        digest=hashlib.sha256(_weights_file(path).read_bytes()).hexdigest(),
        processor=str(processor.get("class_path", "")).rpartition(".")[2] if isinstance(processor, dict) else "",
        seed=run_of(checkpoint).get("seed_everything", facts.get("seed")),
        step=checkpoint.get("global_step", facts.get("steps")),
        train_sizes=tuple(int(size) for size in sizes),
        specs=specs_of(config["specs"]),
    )


def _weights_file(path: str) -> Path:
    folder = folder_of(path)
    return Path(path) if folder is None else folder / WEIGHTS_FILE


def _units_of(
    subjects: Sequence[Subject], sizes: Sequence[int], algorithms: Sequence[str] | None, families: Sequence[str]
) -> list[Unit]:
    """All that is to be evaluated, the smallest graphs first.

    Raises:
        UserError: If there is nothing, or an algorithm, a family or a size that there is not.
    """
    known = sorted({name for subject in subjects for name in subject.algorithms})
    for name in algorithms or ():
        if name not in known:
            raise UserError(f"expected algorithms that a checkpoint knows, {', '.join(known)}; given {name}")
    for family in families:
        if family not in (FAMILY_OF_DM_CLRS, *GRAPH_FAMILIES):
            raise UserError(
                f"expected families among {', '.join([FAMILY_OF_DM_CLRS, *GRAPH_FAMILIES])}; given {family}"
            )
    if not sizes or min(sizes) < 1:
        raise UserError(f"expected sizes ≥ 1, given {list(sizes)}")
    units = [
        Unit(subject, name, size, family, num_nodes_at(name, size) if name in CLRS_30 else size)
        for size in sorted(set(sizes))
        for subject in subjects
        for name in subject.algorithms
        if algorithms is None or name in algorithms
        for family in dict.fromkeys(families)
        if family == FAMILY_OF_DM_CLRS or _takes_families(name)
    ]
    if not units:
        raise UserError(f"none of {', '.join(known)} is about graphs: expected families {FAMILY_OF_DM_CLRS}")
    return units


def _takes_families(algorithm: str) -> bool:
    """Whether an algorithm of that name can be run on other families of graphs than dm-clrs's."""
    return algorithm in CLRS_30 and CLRS_30[algorithm].graph is not None


def _reasoner(path: str, content: Mapping[str, Any] | None = None) -> tuple[Reasoner, dict[str, str | Algorithm]]:
    """The model of a checkpoint, and its algorithms by name: by name too, or one of a user's own.

    Args:
        path: The checkpoint.
        content: What is in it, if it has been read.
    """
    checkpoint = read_checkpoint(path) if content is None else content
    config = config_of(checkpoint)
    with making_model_of(path):
        reasoner = make_reasoner(config)
        given: dict[str, str | Algorithm] = {}
        for name, plain in zip(config["specs"], config["data"]["algorithms"], strict=True):
            given[name] = plain if isinstance(plain, str) else made(plain, Algorithm)
    load_weights(reasoner, checkpoint["state_dict"], path)
    assert isinstance(reasoner, Reasoner)
    return reasoner, given


def _marks(
    reasoner: Reasoner,
    unit: Unit,
    algorithm: str | Algorithm,
    settings: Mapping[str, Any],
    cache: Cache,
    device: torch.device,
) -> Marks:
    family = None if unit.family == FAMILY_OF_DM_CLRS else unit.family
    question = Question(algorithm, unit.num_nodes, family, **settings)
    split, feedback = question.draw(cache)
    return mark(reasoner.model, reasoner.specs[unit.algorithm], split, feedback, device, question.drawn())


def _kept(out: Path, unit: Unit, settings: Mapping[str, Any]) -> Marks | None:
    """The marks that were kept of a unit; None if there are none, or of other settings, or the file is damaged."""
    path = out / "instances" / unit.file_name
    with suppress(OSError, ValueError, KeyError, BadZipFile, EOFError):
        with path.open("rb") as content, np.load(content, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        told = json.loads(str(arrays.pop("settings")))
        if told == settings and arrays.pop("digest") == unit.subject.digest:
            return Marks.of_arrays(arrays)
    return None


def _keep(out: Path, unit: Unit, marks: Marks, settings: Mapping[str, Any]) -> None:
    with replacing(out / "instances" / unit.file_name) as file:
        arrays: dict[str, NumpyArray] = {"settings": np.asarray(json.dumps(settings))}
        arrays["digest"] = np.asarray(unit.subject.digest)
        np.savez_compressed(file, **arrays, **marks.arrays())  # type: ignore[arg-type]


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), transient=True
    )
