"""In what floating-point type things are computed."""

import torch
from torch import Tensor


def at_least_float32(x: Tensor) -> Tensor:
    """`x`, not in half precision."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def alike(*tensors: Tensor) -> list[Tensor]:
    """The tensors in one type: on a GPU that of autocast, if it is on; on a CPU not in half precision."""
    device = tensors[0].device.type
    if torch.is_autocast_enabled(device) and device != "cpu":
        dtype = torch.get_autocast_dtype(device)
    else:
        dtype = tensors[0].dtype
        for tensor in tensors[1:]:
            dtype = torch.promote_types(dtype, tensor.dtype)
        if device == "cpu":
            dtype = torch.promote_types(dtype, torch.float32)
    return [tensor.to(dtype) for tensor in tensors]
