"""The kinds of models that there are commands for, in one table, and which of them a command line is about.

The kind is said where Lightning says it: by the ``class_path`` of the model or of the data in YAML, or by ``--model``
and ``--data``; a checkpoint knows its own. It is known before there is a parser, which is then made for the classes of
that kind alone: help lists their arguments, errors name them, and YAML may have them with or without ``init_args``.
(In Lightning's subclass mode help lists no argument of a model, and errors name neither flags nor what was meant.)
"""

import argparse
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from lightning.pytorch import LightningDataModule, LightningModule

import nar.processors
from nar.cli.reports import check_texts, report_answers, report_scores, tune
from nar.cli.settings import config_paths, is_file
from nar.errors import UserError, meant
from nar.processor import SparseProcessor
from nar.training.checkpoint import config_of, kind_of, read_checkpoint
from nar.training.runs import resumable
from nar.training.saving import Kind as KindName

PGN_CONV = {"in_channels": 256, "out_channels": 128, "edge_dim": 128, "graph_dim": 128}
_SPARSE_PROCESSOR = {
    "class_path": "nar.processors.sparse.ConvProcessor",
    "init_args": {"conv": {"class_path": "nar.processors.sparse.PGNConv", "init_args": PGN_CONV}},
}
_ONE_NAME = re.compile(r"[^\W\d][\w.]*")
GROUPS = ("model", "data")


@dataclass(frozen=True)
class Kind:
    """What commands need to know of the models of a kind.

    Attributes:
        name: As checkpoints have it.
        model: The import path of the class of models.
        data: The import path of the class of data.
        links: Arguments of the model which are attributes of the data.
        first_arguments: What is read before the command line. The default processor is among them: as a default of the
            parser it would leave its own arguments to any other processor that is asked for.
        needs: What has to be installed for it.
        takes_optimizers: Whether an optimizer and the schedule of its learning rate can be given.
        commands: Those of Lightning's that there are for it.
        runs: Where runs have their folders.
        free_in_evaluation: Arguments of the model that need not be those of training then.
        kept_data: Arguments of the data that a run that goes on has as before.
        folder: The name of a run's folder by the arguments of the model; None if it is named after the algorithm.
        prepare: What is done with the model and the data before they are trained.
        report: What is printed and written of a test, by the model, the data, the settings, the content of the
            checkpoint and the folder.
        processors: The short names of the processors that its models can have.
    """

    name: KindName
    model: str
    data: str
    links: tuple[str, ...]
    first_arguments: tuple[str, ...]
    needs: str
    takes_optimizers: bool
    commands: tuple[str, ...]
    runs: Path
    free_in_evaluation: tuple[str, ...]
    kept_data: tuple[str, ...]
    folder: Callable[[Mapping[str, Any]], str | None]
    prepare: Callable[[Any, Any], None]
    report: Callable[[Any, Any, Any, Mapping[str, Any], Path], None]
    processors: Callable[[], list[str]]

    def classes(self) -> tuple[type[LightningModule], type[LightningDataModule]]:
        """The classes of models and of data.

        Raises:
            UserError: If what they need is not installed.
        """
        try:
            model, data = (
                getattr(import_module(path.rpartition(".")[0]), path.rpartition(".")[2])
                for path in (self.model, self.data)
            )
        except ImportError as error:
            raise UserError(f"{self.needs} ({error})" if self.needs else str(error)) from error
        return model, data

    @property
    def is_default(self) -> bool:
        """Whether this is the kind of a command line that says none: dense."""
        return self is DENSE

    @property
    def class_paths(self) -> dict[str, str]:
        """The short names of both classes, by group."""
        return {"model": self.model.rpartition(".")[2], "data": self.data.rpartition(".")[2]}


def _dense_processors() -> list[str]:
    """The short names of processors of dense graphs."""
    named = [getattr(nar.processors, name) for name in nar.processors.__all__]
    return [kind.__name__ for kind in named if isinstance(kind, type)]


def _sparse_processors() -> list[str]:
    """The short names of processors of sparse graphs."""
    return [kind.__name__ for kind in SparseProcessor.__subclasses__() if kind.__module__.startswith("nar.")]


DENSE = Kind(
    name="dense",
    model="nar.training.reasoner.Reasoner",
    data="nar.datasets.CLRS30",
    links=("specs",),
    first_arguments=("--model.processor", "TripletGMPNN"),
    needs="",
    takes_optimizers=True,
    commands=("fit", "validate", "test", "predict"),
    runs=Path("runs"),
    free_in_evaluation=(
        "hint_feedback",
        "hint_loss",
        "learning_rate",
        "hint_teacher_forcing",
        "dropout",
        "latent_noise",
        "lr_scheduler",
        "optimizer",
        "penalties",
    ),
    kept_data=("train_sizes", "batch_size", "chunk_length", "seed", "val_size", "random_pos", "train_communities"),
    folder=lambda model: None,
    prepare=tune,
    report=report_scores,
    processors=_dense_processors,
)
SPARSE = Kind(
    name="sparse",
    model="nar.training.sparse_reasoner.SparseReasoner",
    data="nar.datasets.salsa.datamodule.SALSA",
    links=DENSE.links,
    first_arguments=("--model.processor", json.dumps(_SPARSE_PROCESSOR)),
    needs="",
    takes_optimizers=True,
    commands=("fit", "validate", "test"),
    runs=Path("runs/salsa"),
    free_in_evaluation=("learning_rate", "lr_scheduler", "optimizer"),
    kept_data=("train_sizes", "batch_size", "seed"),
    folder=lambda model: None,
    prepare=tune,
    report=report_scores,
    processors=_sparse_processors,
)
TEXT = Kind(
    name="text",
    model="nar.hybrid.module.LanguageReasoner",
    data="nar.datasets.text.datamodule.CLRSText",
    links=("tokenizer", "algorithms"),
    first_arguments=("--model.language_model", ""),  # it may be a checkpoint's
    needs='a language model needs transformers: pip install "transformers>=5.24,<6"',
    takes_optimizers=False,
    commands=("fit", "validate", "test"),
    runs=Path("runs"),
    free_in_evaluation=(
        "adaptive_temperature",
        "freeze_reasoner",
        "learning_rate",
        "loss_on",
        "positions_in_evaluation",
        "shuffle_graphs",
        "warmup_steps",
        "weight_decay",
    ),
    kept_data=("train_sizes", "batch_size", "hints", "tokenizer", "whole_numbers", "decimals", "seed"),
    folder=lambda model: "transformer" if model["language_model_only"] else "transnar",
    prepare=check_texts,
    report=report_answers,
    processors=list,
)
KINDS: Mapping[KindName, Kind] = {kind.name: kind for kind in (DENSE, SPARSE, TEXT)}


class Choice(NamedTuple):
    """What :func:`choose` finds in a command line: the kind of model that it is about, and its checkpoint.

    Attributes:
        kind: The kind of model.
        args: The command line without what says the kind.
        checkpoint: The path and the content of the checkpoint that the command line names; None if it names none.
    """

    kind: Kind
    args: list[str]
    checkpoint: tuple[str, dict[str, Any]] | None = None


def choose(args: Sequence[str]) -> Choice:
    """The kind of model (dense, sparse or text) that a command line is about, and the checkpoint that it names.

    The command line says the kind, or one of its configurations does; else it is that of the checkpoint, or dense. A
    checkpoint that is named is read here, whole.

    Raises:
        UserError: If the model and the data are of different kinds, or a class is of none, or the checkpoint cannot be
            read.
    """
    stated, rest = _classes_of_flags(args)
    for config in configurations(args):
        stated = {**_classes_of_config(config), **stated}
    kinds = {group: _kind_of_class(group, path) for group, path in stated.items()}
    named = [kinds[group] for group in GROUPS if group in kinds]
    if len({kind.name for kind in named}) > 1:
        model, data = (kind.class_paths for kind in named)
        raise UserError(f"--data: expected {model['data']} for a {model['model']}, given {data['data']}")
    checkpoint = _named_checkpoint(args)
    if named or checkpoint is None:
        return Choice(named[0] if named else DENSE, rest, checkpoint)
    return Choice(KINDS[kind_of(config_of(checkpoint[1]))], rest, checkpoint)


def _classes_of_flags(args: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """The classes that ``--model`` and ``--data`` name, and the other arguments."""
    classes: dict[str, str] = {}
    rest: list[str] = []
    left = iter(args)
    for arg in left:
        flag, equals, value = arg.partition("=")
        group = flag.removeprefix("--")
        if group not in GROUPS or not flag.startswith("--"):
            rest.append(re.sub(r"^--(model|data)\.init_args\.", r"--\1.", arg))
            continue
        value = value if equals else next(left, "")
        if _ONE_NAME.fullmatch(value) and not is_file(value):
            classes[group] = value
        else:
            rest.append(f"{flag}={value}")  # settings, or a file of some
    if "model" not in classes and any(arg.startswith("--model.language_model") for arg in args):
        classes["model"] = TEXT.model  # as it was told before there was --model, for one release
    return classes, rest


def _classes_of_config(config: Mapping[str, Any]) -> dict[str, str]:
    """The classes that a configuration names."""
    groups = {group: config[group] for group in GROUPS if isinstance(config.get(group), Mapping)}
    classes = {group: str(settings["class_path"]) for group, settings in groups.items() if "class_path" in settings}
    if "model" not in classes and "language_model" in groups.get("model", ()):
        classes["model"] = TEXT.model  # as above
    return classes


def configurations(args: Sequence[str]) -> Iterator[Mapping[str, Any]]:
    """The configurations that ``--config`` gives, the last first; what is wrong with one is said where it is parsed."""
    for path in reversed(config_paths(args)):
        try:
            config = yaml.safe_load(Path(path).read_text(encoding="utf-8") if is_file(path) else path)
        except (OSError, ValueError, yaml.YAMLError):
            continue
        if isinstance(config, Mapping):
            yield config


def _kind_of_class(group: str, path: str) -> Kind:
    """The kind of models of which a class is, by its short name or its import path.

    Raises:
        UserError: If it is no class of any kind.
    """
    known = {kind.class_paths[group]: kind for kind in KINDS.values()}
    module, _, name = path.rpartition(".")
    if name not in known or (module and not module.startswith("nar.")):
        raise UserError(f"--{group}: expected {', '.join(known)}, given {path}{meant(name, known)}")
    return known[name]


def _named_checkpoint(args: Sequence[str]) -> tuple[str, dict[str, Any]] | None:
    """The path and the content of the checkpoint that a command line names, if it can be told which that is."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--ckpt_path")
    parser.add_argument("--trainer.default_root_dir", dest="root")
    try:
        given, _ = parser.parse_known_args(args)
    except argparse.ArgumentError:
        return None
    path = given.ckpt_path
    if path == "last" and given.root is not None:
        path = str(resumable(Path(given.root)))
        return (path, read_checkpoint(path)) if is_file(path) else None
    return None if path in (None, "", "last", "null") else (path, read_checkpoint(path))
