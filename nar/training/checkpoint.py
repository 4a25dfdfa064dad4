"""Checkpoints that know their algorithms and their processor: models from them, and files of weights alone."""

from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from nar.errors import UserError
from nar.training.checkpoint_file import (
    KINDS,
    TO_GO_ON,
    WholeFiles,
    config_of,
    content_of,
    holds_weights_only,
    kind_of,
    load_weights,
    making_model_of,
    read_checkpoint,
    run_of,
    with_new_names,
)
from nar.training.reasoner import Reasoner
from nar.training.saving import CONFIG
from nar.training.sparse_reasoner import SparseReasoner

__all__ = [
    "KINDS",
    "TO_GO_ON",
    "WholeFiles",
    "config_of",
    "holds_weights_only",
    "kind_of",
    "load_reasoner",
    "load_weights",
    "make_reasoner",
    "making_model_of",
    "read_checkpoint",
    "run_of",
    "with_new_names",
    "write_checkpoint",
]


def load_reasoner(path: str | Path) -> Reasoner | SparseReasoner:
    """The model of a checkpoint with its weights, in evaluation mode on the CPU: of dense or of sparse graphs.

    Args:
        path: As :func:`read_checkpoint` takes it.

    The processor's class is imported by the name that the checkpoint gives: load only checkpoints that you trust.

    Raises:
        UserError: If there is no file, or it is damaged, or another program's.
    """
    checkpoint = read_checkpoint(path)
    config = config_of(checkpoint)
    if kind_of(config) == "text":
        raise UserError(f"{path} is a checkpoint of a language model: expected one of a reasoner")
    return (SparseReasoner if kind_of(config) == "sparse" else Reasoner).of_checkpoint(checkpoint, path)


def make_reasoner(config: Mapping[str, Any]) -> Reasoner | SparseReasoner:
    """The model of a configuration (see :func:`config_of`) with random weights, in evaluation mode on the CPU."""
    return (SparseReasoner if kind_of(config) == "sparse" else Reasoner).of_config(config)


def write_checkpoint(file: IO[bytes], reasoner: Reasoner, data: Any = None) -> None:
    """Write a checkpoint of `reasoner` into an open file: its weights, and nothing to train it further with.

    That no half-written file is left under the checkpoint's name is the caller's to see to, as
    :func:`nar.files.replacing` does.

    Args:
        file: Open for writing bytes.
        reasoner: The model.
        data: That is to be tested on: a data module.
    """
    config = {**reasoner.config, "data": reasoner.data_config(data)}
    file.write(content_of({"state_dict": reasoner.state_dict(), CONFIG: config}))
