"""Checkpoints that know their algorithms and their processor."""

import io
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Literal

import torch
from jsonargparse import ArgumentParser
from lightning.pytorch import Callback, LightningModule, Trainer

from nar.errors import UserError
from nar.files import check_archive
from nar.module import Reasoner
from nar.noise import Noise
from nar.processor import Processor
from nar.sparse_module import SparseReasoner
from nar.specs import Location, Probe, Stage, Type

Kind = Literal["dense", "sparse", "text"]
_KEY = "nar_config"


class KeepConfig(Callback):
    """Writes the configuration of the model and the data into every checkpoint, as plain values.

    Args:
        config: With ``model`` and ``data``.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = dict(config)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add the configuration, and the specs of a reasoner."""
        if isinstance(pl_module, Reasoner | SparseReasoner):
            checkpoint[_KEY] = _kept(self.config, pl_module)
        else:
            checkpoint[_KEY] = self.config


def _kept(config: Mapping[str, Any], reasoner: Reasoner | SparseReasoner) -> dict[str, Any]:
    """The configuration with the specs as lists of strings, and the kind of the model."""
    specs = {
        algorithm: {name: [*map(str, probe[:3]), probe.num_classes] for name, probe in spec.items()}
        for algorithm, spec in reasoner.specs.items()
    }
    kind: Kind = "sparse" if isinstance(reasoner, SparseReasoner) else "dense"
    return {**config, "specs": specs, "kind": kind}


def write_checkpoint(file: IO[bytes], reasoner: Reasoner, config: Mapping[str, Any]) -> None:
    """Write a checkpoint that holds the weights of `reasoner` and nothing to train it further with.

    Args:
        file: Where to.
        reasoner: The model.
        config: As in :class:`KeepConfig`.
    """
    content = io.BytesIO()  # of a full disk torch.save would say nothing that could be understood
    torch.save({"state_dict": reasoner.state_dict(), _KEY: _kept(config, reasoner)}, content)
    file.write(content.getvalue())


def holds_weights_only(checkpoint: Mapping[str, Any]) -> bool:
    """Whether it is of :func:`write_checkpoint`, so that no run can go on from it."""
    return "optimizer_states" not in checkpoint


@contextmanager
def replacing(path: str | Path) -> Iterator[IO[bytes]]:
    """A file to write what is to be at `path`: it takes its place when it is whole, and is gone if that fails.

    Raises:
        UserError: If the file cannot be written.
    """
    path = Path(path).resolve()  # what a link leads to is replaced, and not the link
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        if path.exists() and not path.is_file():
            raise UserError(f"cannot write {path}: it is there already and is no file")
        with open(temporary, "wb") as file:
            yield file
        os.replace(temporary, path)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError):
            raise UserError(f"cannot write {path}: {error.strerror or error}") from error
        raise


def load_reasoner(path: str | Path) -> Reasoner | SparseReasoner:
    """The model of a checkpoint with its weights, in evaluation mode on the CPU; of ``nar salsa fit``, the sparse one.

    The processor's class is imported by the name that the checkpoint gives: load only checkpoints that you trust.

    Raises:
        UserError: If there is no file, or it is damaged, or another program's.
    """
    checkpoint = read_checkpoint(path)
    config = config_of(checkpoint)
    if kind_of(config) == "text":
        raise UserError(f"{path} is a checkpoint of a language model: expected one of a reasoner")
    reasoner = make_reasoner(config)
    reasoner.load_state_dict(checkpoint["state_dict"])
    return reasoner


def make_reasoner(config: Mapping[str, Any]) -> Reasoner | SparseReasoner:
    """The model of a configuration (see :func:`config_of`) with random weights, in evaluation mode on the CPU."""
    specs = {
        algorithm: {name: Probe(Stage(s), Location(loc), Type(t), n) for name, (s, loc, t, n) in spec.items()}
        for algorithm, spec in config["specs"].items()
    }
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--processor", type=Processor)
    parser.add_argument("--latent_noise", type=Noise | None)
    classes = {name: config["model"][name] for name in ("processor", "latent_noise") if name in config["model"]}
    objects = parser.instantiate(parser.parse_object(classes)).as_dict()
    is_sparse = kind_of(config) == "sparse"
    make, names = (SparseReasoner, ["processor"]) if is_sparse else (Reasoner, ["processor", "latent_noise"])
    reasoner = make(specs, **{**config["model"], **{name: objects[name] for name in names}})
    reasoner.config = {name: config[name] for name in ("model", "specs", "kind", "is_sparse") if name in config}
    return reasoner.eval()


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """A checkpoint of this library, read without running any code that it may hold.

    Raises:
        UserError: If there is no file, or it is damaged, or another program's.
    """
    if not Path(path).is_file():
        raise UserError(f"no checkpoint at {path}; expected a file such as runs/quickstart/best.ckpt")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            check_archive(path)
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    except Exception as error:  # what a file of any other kind makes the unpickler raise has no end
        raise UserError(
            f"{path} is damaged or no checkpoint at all: expected one written by nar fit or nar convert"
        ) from error
    if not isinstance(checkpoint, dict) or _KEY not in checkpoint:
        raise UserError(f"{path} is another program's checkpoint: expected one written by nar fit or nar convert")
    return checkpoint


def config_of(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """What the run that wrote a checkpoint was given, as plain values: ``model`` and ``data``; and its ``specs``."""
    config: dict[str, Any] = checkpoint[_KEY]
    return config


def kind_of(config: Mapping[str, Any]) -> Kind:
    """What a configuration of :func:`config_of` is of: a reasoner of dense or of sparse graphs, or a language model."""
    kind: Kind = config.get("kind", "sparse" if config.get("is_sparse") else "dense")  # the latter as it once was
    return kind
