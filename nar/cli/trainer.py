"""How the trainer of a command is made: where it logs, which checkpoints it keeps, what it shows."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from traceback import walk_tb
from typing import Any

from jsonargparse import Namespace
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.callbacks import ProgressBar, TQDMProgressBar, WeightAveraging
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

from nar.cli.parser import origin
from nar.errors import UserError, one_line
from nar.training.curves import draw_curves
from nar.training.progress import ProgressLines
from nar.training.runs import StopOnSignal, checkpoints

RECIPE = {  # of Ibarz et al. (2022), as far as the trainer has a part in it
    "max_epochs": -1,  # training data has no end, and steps are what counts
    "max_steps": 10_000,
    "val_check_interval": 50,
    "check_val_every_n_epoch": None,
    "gradient_clip_val": 1.0,
    "log_every_n_steps": 10,
    "devices": 1,  # more of them make the batch larger, which is for the user to say
    "num_sanity_val_steps": 0,
    "reload_dataloaders_every_n_epochs": 1,  # the stream goes on where the last epoch, if it was cut short, ended
    "use_distributed_sampler": False,  # the data module deals out batches itself, none twice
}
_ONCE_BEGUN = ("advance", "_evaluation_step", "_predict_step")
"""Functions of Lightning's loops that are only called once there is a batch."""
_MOST_PROCESSES = 8
"""The number of processes that a CPU may be given, even if it has fewer cores."""


class Beginning(Callback):
    """Remembers whether training has begun: errors after that are not the checkpoint's, which is then restored."""

    def __init__(self) -> None:
        self.is_over = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remember that training has begun."""
        self.is_over = True


def given_callbacks(settings: Namespace) -> list[Callback]:
    """The callbacks that a user gave."""
    given = settings.callbacks or []
    return list(given) if isinstance(given, list) else [given]


def own_settings(settings: Namespace) -> dict[str, Any]:
    """The arguments of the trainer that follow from what is configured of it."""
    own: dict[str, Any] = {}
    if settings.logger in (None, True):
        root = Path(settings.default_root_dir)
        csv = CSVLogger(root, name="logs")
        own["logger"] = [csv, TensorBoardLogger(root, name="logs", version=csv.version)]
    if settings.limit_train_batches is None and settings.max_steps > 0:
        # The stream of training data has no end: this tells the progress bar where training does.
        num_batches = settings.max_steps * settings.accumulate_grad_batches
        own["limit_train_batches"] = num_batches
        if isinstance(settings.val_check_interval, int):
            # Checkpoints are saved at validations, and no gradients that wait for others are in them.
            interval = -(-settings.val_check_interval // settings.accumulate_grad_batches)
            own["val_check_interval"] = min(interval * settings.accumulate_grad_batches, num_batches)
    if settings.enable_model_summary is None and not (sys.stdout.isatty() and settings.enable_progress_bar):
        own["enable_model_summary"] = False  # in a log a line of ours says the number of parameters
    if settings.barebones:
        own |= {"logger": None, "log_every_n_steps": 0, "enable_checkpointing": False}
    return own


def own_callbacks(settings: Namespace, command: str) -> list[Callback]:
    """The callbacks that show how far a run is, and save its checkpoints."""
    given = given_callbacks(settings)
    own: list[Callback] = []
    shows = settings.enable_progress_bar is not False and not any(isinstance(c, ProgressBar) for c in given)
    if shows and not settings.barebones:
        if sys.stdout.isatty():
            own.append(TQDMProgressBar(refresh_rate=10))  # a GPU is waited for; Rich's would count epochs
        else:
            counts = settings.enable_model_summary is not False and command == "fit"
            own.append(ProgressLines(counts_parameters=counts))
    if command == "fit":
        own += [StopOnSignal(), Beginning()]
    if saves(settings, command):
        own += checkpoints(Path(settings.default_root_dir), given)
    return own


def saves(settings: Namespace, command: str) -> bool:
    """Whether a command saves checkpoints."""
    is_real = not settings.fast_dev_run and not settings.barebones
    return command == "fit" and is_real and settings.enable_checkpointing is not False


def check_averages(path: str | None, checkpoint: Mapping[str, Any], settings: Namespace) -> None:
    """Raise a :class:`UserError` if a run of averaged weights would go on without averaging them."""
    averages = any(isinstance(callback, WeightAveraging) for callback in given_callbacks(settings))
    if "averaging_state" in checkpoint and not averages:
        raise UserError(
            f"{path} was made with averaged weights: expected the same trainer.callbacks, given none that averages them"
        )


def check_devices(trainer: Trainer) -> None:
    """Raise a :class:`UserError` if there would be far more processes than cores."""
    most = max(_MOST_PROCESSES, os.cpu_count() or 1)
    if isinstance(trainer.accelerator, CPUAccelerator) and trainer.num_devices > most:
        raise UserError(f"expected --trainer.devices of at most {most} on the CPU, given {trainer.num_devices}")


def draw_logged(trainer: Trainer) -> None:
    """Draw what a run has logged as CSV, in this process and in those before, into its folder."""
    path = Path(trainer.default_root_dir) / "curves.png"
    try:
        for logger in trainer.loggers:
            if isinstance(logger, CSVLogger) and draw_curves(Path(logger.root_dir), path):
                return
    except OSError as error:  # a run is not lost for want of a picture
        print(f"nar: {path} could not be drawn: {one_line(error)}", file=sys.stderr)


def is_of_settings(error: BaseException) -> bool:
    """Whether Lightning refuses something, or what it was given does before a batch is there and code of ours runs."""
    calls = [(frame.f_globals.get("__name__", ""), frame.f_code.co_name) for frame, _ in walk_tb(error.__traceback__)]
    ours = any(module.startswith("nar.") and not module.startswith("nar.cli.") for module, _ in calls)
    has_begun = any(function in _ONCE_BEGUN for _, function in calls)
    return origin(error).startswith("lightning.") or not (ours or has_begun)
