"""The floating-point types that operations compute in, where they are given half precision or several types.

Beside them, the number in each type that stands for a message that is not heard.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

UNHEARD = -1e6  # stands for the message of a sender that is not heard


def at_least_float32(x: Tensor) -> Tensor:
    """`x` in float32, or as it is if its type is wider."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def alike(*tensors: Tensor) -> list[Tensor]:
    """The tensors in the widest of their types, and at least in float32."""
    dtype = torch.float32
    for tensor in tensors:
        dtype = torch.promote_types(dtype, tensor.dtype)
    return [tensor.to(dtype) for tensor in tensors]


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Let torch make new tensors of this type as long as the context lasts."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def unheard(dtype: torch.dtype) -> float:
    """The number that stands for a message that is not heard: -1e6, or the lowest of a type of less range."""
    return max(UNHEARD, torch.finfo(dtype).min)
