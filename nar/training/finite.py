"""That training stops where a loss is not finite, without waiting for a GPU to say whether it is."""

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from nar.errors import UserError
from nar.training.distributed import minimum


class PendingLosses(NamedTuple):
    """The losses of a step on their way to the CPU, where they are looked at.

    To read a number from a GPU is to wait until it has done all that it was told. Here it is told to copy the losses,
    and the next step is begun meanwhile; by its end they have long arrived.

    Attributes:
        step: After how many training steps they were computed.
        algorithm: What the batch was about; None if it was about several.
        names: Of the probes (``loss/pi``), the penalties (``penalty/entropy``), or ``loss`` alone.
        values: Whether the loss is finite in all processes, and the value of each name, [1 + len(names)].
        arrived: When `values` are there, if they come from a GPU.
    """

    step: int
    algorithm: str | None
    names: list[str]
    values: Tensor
    arrived: torch.cuda.Event | None

    @classmethod
    def send(
        cls, by_name: Mapping[str, Tensor], loss: Tensor, *, step: int, algorithm: str | None = None
    ) -> "PendingLosses":
        """Losses that have been sent on their way; `loss` is their sum."""
        finite = minimum(loss.detach().isfinite().float())
        values = torch.stack([finite, *(value.detach() for value in by_name.values())]).to("cpu", non_blocking=True)
        arrived = None
        if loss.is_cuda:
            arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
            arrived.record()
        return cls(step, algorithm, list(by_name), values, arrived)

    def check_finite(self) -> None:
        """Raise a :class:`UserError` that names the probes if the loss is not finite in some process."""
        if self.arrived is not None:
            self.arrived.synchronize()
        finite, *values = self.values.tolist()
        if finite:
            return
        named = zip(self.names, values, strict=True)
        bad = [f"{self._whose(name)} is {value}" for name, value in named if not math.isfinite(value)]
        what = " and".join(bad) or ", here or in another process, is no number"
        raise UserError(
            f"the loss{what} after step {self.step}; expected a finite number: training stops, "
            "checkpoints stay as they were last saved"
        )

    def _whose(self, name: str) -> str:
        """The words after "the loss" in a message that say whose it is; "" if it is the sum."""
        kind, _, probe = name.partition("/")
        return f" of {self.algorithm}'s {'probe' if kind == 'loss' else kind} {probe}" if probe else ""
