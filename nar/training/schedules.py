"""Optimizers and learning rates that change from step to step, for ``--optimizer`` and ``--lr_scheduler``."""

import math
from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import Any

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from nar.errors import UserError


def optimizer_of(parameters: Iterable[tuple[str, Tensor]], optimizer: Mapping[str, Any]) -> Optimizer:
    """The optimizer of parameters by name that has a ``class_path``, and ``init_args`` besides the parameters.

    Raises:
        UserError: If there is no such class, or it does not take its arguments.
    """
    made: Optimizer = _made("optimizer", optimizer, [*parameters])
    return made


def with_scheduler(optimizer: Optimizer, scheduler: Mapping[str, Any] | None) -> Optimizer | dict[str, Any]:
    """For Lightning: an optimizer and, if there is one, the scheduler that changes its learning rate after each step.

    Args:
        optimizer: Any.
        scheduler: Its ``class_path``, and ``init_args`` besides the optimizer: plain values, which can be copied with
            the model and sent to other processes.

    Raises:
        UserError: If there is no such class, or it does not take its arguments.
    """
    if scheduler is None:
        return optimizer
    made = _made("lr_scheduler", scheduler, optimizer)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": made, "interval": "step"}}


def _made(name: str, settings: Mapping[str, Any], subject: Any) -> Any:
    """An object of the class that settings name, made of what it is for and of their ``init_args``."""
    module, _, kind = str(settings.get("class_path")).rpartition(".")
    try:
        return getattr(import_module(module), kind)(subject, **settings.get("init_args", {}))
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        raise UserError(f"{name}: {' '.join(str(error).split())}") from error


class WarmupCosine(LambdaLR):
    """Raises the learning rate to the optimizer's in equal steps, and then lowers it to 0 along half a cosine.

    Args:
        optimizer: Whose learning rate it is.
        warmup_steps: Training steps until the learning rate is the optimizer's own.
        total_steps: Training steps until it is 0; on the command line the trainer's ``max_steps``, if not given.
    """

    def __init__(self, optimizer: Optimizer, warmup_steps: int = 100, total_steps: int | None = None) -> None:
        if warmup_steps < 0:
            raise UserError(f"expected warmup_steps ≥ 0, given {warmup_steps}")
        if total_steps is None or total_steps < 1:
            raise UserError(
                f"expected total_steps ≥ 1 (or trainer.max_steps, if total_steps is not given), given {total_steps}"
            )
        last = total_steps  # no attribute: a run that goes on with more steps has a later end than its checkpoint

        def factor(step: int) -> float:
            if step < warmup_steps:
                return (step + 1) / warmup_steps
            return (1 + math.cos(math.pi * (step - warmup_steps) / (last - warmup_steps))) / 2 if step < last else 0.0

        super().__init__(optimizer, factor)
