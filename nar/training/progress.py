"""How far a run is where no bar can be shown: as lines, for a log that is read later."""

import logging
import time
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.trainer.states import TrainerFn

_NOISE = ("TPU available", "💡 Tip")
"""How lines of Lightning begin that say nothing about a run."""


class ProgressLines(ProgressBar):
    """Prints a line whenever a model has been validated, and every so often in between.

    It has the step, what a bar would show beside it, and how many steps are taken in a second.

    Args:
        seconds: How long there is no line at most, if steps do not take longer.
        counts_parameters: Whether the first line says how many parameters are trained.
    """

    def __init__(self, seconds: float = 30.0, *, counts_parameters: bool = False) -> None:
        super().__init__()
        self.seconds = seconds
        self.counts_parameters = counts_parameters
        self.last = (0.0, 0)
        """The time and the step of the last line."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin to count time."""
        self.last = time.monotonic(), trainer.global_step
        if self.counts_parameters and trainer.is_global_zero:
            number = sum(parameter.numel() for parameter in pl_module.parameters() if parameter.requires_grad)
            print(f"training {number:,} parameters", flush=True)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Print a line if there was none for `seconds`."""
        if time.monotonic() - self.last[0] >= self.seconds:
            self._print_line(trainer, pl_module)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print a line, if it was while a model is trained."""
        if trainer.state.fn is TrainerFn.FITTING and not trainer.sanity_checking:
            self._print_line(trainer, pl_module)

    def _print_line(self, trainer: Trainer, pl_module: LightningModule) -> None:
        now, step = time.monotonic(), trainer.global_step
        rate = (step - self.last[1]) / max(now - self.last[0], 1e-9)
        self.last = now, step
        metrics = {name: value for name, value in self.get_metrics(trainer, pl_module).items() if name != "v_num"}
        if trainer.is_global_zero:
            of = f" of {trainer.max_steps}" if trainer.max_steps > 0 else ""
            shown = [f"{name} {value:.4g}" for name, value in metrics.items() if isinstance(value, int | float)]
            print(", ".join([f"step {step}{of}", *shown, f"{rate:.3g} steps per second"]), flush=True)


def is_no_noise(record: logging.LogRecord) -> bool:
    """Whether a record of Lightning's log is worth a line: a filter for its logger."""
    return not record.getMessage().startswith(_NOISE)
