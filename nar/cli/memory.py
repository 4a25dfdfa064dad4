"""How much memory a model would take, told before the system ends the program that makes it."""

import math
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from nar.datasets.engine.memory import num_free_bytes
from nar.errors import UserError

_BYTES_OF_A_NUMBER = 4
COPIES_IN_TRAINING = 4
"""How many numbers training holds for each parameter: itself, its gradient and Adam's two moments."""


class Room(TorchFunctionMode):
    """Refuses, while a model is made, more tensors than there is room for: the system would end the program later.

    Args:
        copies: How many of each there will be: gradients and what an optimizer keeps are as large.
    """

    def __init__(self, copies: int) -> None:
        super().__init__()
        self.copies = copies
        self.num_free = num_free_bytes()
        self.num_bytes = 0

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """What a function of torch returns, if there is room for what it makes."""
        kwargs = kwargs or {}
        if function in (torch.empty, torch.zeros, torch.ones, torch.randn, torch.rand):
            size = kwargs.get("size", args[0] if len(args) == 1 and not isinstance(args[0], int) else args)
            self.num_bytes += self.copies * _BYTES_OF_A_NUMBER * math.prod(size)
            if self.num_bytes > self.num_free:
                gib = [f"{number / 2**30:.4g} GiB" for number in (self.num_bytes, self.num_free)]
                raise UserError(f"the model would take {gib[0]} or more, and {gib[1]} are free: make it smaller")
        return function(*args, **kwargs)
