"""What a checkpoint tells of the run that wrote it."""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from nar.errors import UserError

_KEY = "nar_config"


class KeepConfig(Callback):
    """Writes the configuration of the model and the data into every checkpoint, as plain values.

    Args:
        config: With ``model`` and ``data``.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = dict(config)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add the configuration."""
        checkpoint[_KEY] = self.config


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """A checkpoint of this library, read without running any code that it may hold.

    Raises:
        UserError: If there is no file, or it is damaged, or another program's.
    """
    if not Path(path).is_file():
        raise UserError(f"no checkpoint at {path}; expected a file such as runs/quickstart/best.ckpt")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, OSError, ValueError, KeyError) as error:
        raise UserError(f"{path} is damaged or no checkpoint at all: expected one written by nar fit") from error
    if not isinstance(checkpoint, dict) or _KEY not in checkpoint:
        raise UserError(f"{path} is another program's checkpoint: expected one written by nar fit")
    return checkpoint


def config_of(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of the run that wrote a checkpoint: ``model`` and ``data``, as plain values."""
    config: dict[str, Any] = checkpoint[_KEY]
    return config
