"""Checkpoints that know their algorithms and their processor."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jsonargparse import ArgumentParser
from lightning.pytorch import Callback, LightningModule, Trainer

from nar.errors import UserError
from nar.module import Reasoner
from nar.processor import Processor
from nar.specs import Location, Probe, Stage, Type

_KEY = "nar_config"


class KeepConfig(Callback):
    """Writes the configuration of the model and the data into every checkpoint, as plain values.

    Args:
        config: With ``model`` and ``data``.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = dict(config)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add the configuration, and the specs as lists of strings."""
        assert isinstance(pl_module, Reasoner)
        specs = {
            algorithm: {name: [*map(str, probe[:3]), probe.num_classes] for name, probe in spec.items()}
            for algorithm, spec in pl_module.specs.items()
        }
        checkpoint[_KEY] = {**self.config, "specs": specs}


def load_reasoner(path: str | Path) -> Reasoner:
    """The model of a checkpoint with its weights, in evaluation mode on the CPU.

    The processor's class is imported by the name that the checkpoint gives: load only checkpoints that you trust.

    Raises:
        UserError: If there is no file, or it is damaged, or another program's.
    """
    checkpoint = read_checkpoint(path)
    config = config_of(checkpoint)
    specs = {
        algorithm: {name: Probe(Stage(s), Location(loc), Type(t), n) for name, (s, loc, t, n) in spec.items()}
        for algorithm, spec in config["specs"].items()
    }
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--processor", type=Processor)
    processor = parser.instantiate(parser.parse_object({"processor": config["model"]["processor"]})).processor
    reasoner = Reasoner(specs, **{**config["model"], "processor": processor})
    reasoner.load_state_dict(checkpoint["state_dict"])
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
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    except Exception as error:  # what a file of any other kind makes the unpickler raise has no end
        raise UserError(f"{path} is damaged or no checkpoint at all: expected one written by nar fit") from error
    if not isinstance(checkpoint, dict) or _KEY not in checkpoint:
        raise UserError(f"{path} is another program's checkpoint: expected one written by nar fit")
    return checkpoint


def config_of(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """What the run that wrote a checkpoint was given, as plain values: ``model`` and ``data``; and its ``specs``."""
    config: dict[str, Any] = checkpoint[_KEY]
    return config
