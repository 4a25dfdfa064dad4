"""What several processes that train one model tell one another; one process alone has nobody to ask."""

from typing import Any

import torch
from torch import Tensor


def _is_distributed() -> bool:
    """Whether this is one of several processes that train together."""
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def gather(value: Any) -> list[Any]:
    """The values of all processes, in the order of their ranks."""
    if not _is_distributed():
        return [value]
    values: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(values, value)
    return values


def minimum(value: Tensor) -> Tensor:
    """The smallest of the values of all processes; it may be written into the tensor that is given."""
    if _is_distributed():
        torch.distributed.all_reduce(value, torch.distributed.ReduceOp.MIN)
    return value
