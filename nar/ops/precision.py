"""The floating-point types that operations compute in, where they are given half precision or several types."""

import torch
from torch import Tensor


def at_least_float32(x: Tensor) -> Tensor:
    """`x`, not in half precision."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def alike(*tensors: Tensor) -> list[Tensor]:
    """The tensors in one type, not in half precision."""
    dtype = torch.float32
    for tensor in tensors:
        dtype = torch.promote_types(dtype, tensor.dtype)
    return [tensor.to(dtype) for tensor in tensors]
