"""What stands between a user's tensors and compiled code, which reads and writes where it is told without a look.

Every entry into numba's and Triton's code states here what it needs of shapes, dtypes, devices and indices.
"""

import torch
from torch import Tensor


def check_shapes(operation: str, **operands: tuple[Tensor | None, str]) -> dict[str, int]:
    """The size of every axis of an operation's operands, by its name.

    Args:
        operation: Named in errors.
        **operands: Each tensor with the names of its axes, such as ``(sent, "B S H")``; None is not looked at.
            Floating-point operands have to be of one dtype, and all of one device.

    Raises:
        ValueError: If a number of axes or a size differs from what the operands before it have.
        TypeError: If dtypes or devices differ.
    """
    sizes: dict[str, int] = {}
    first: Tensor | None = None
    for name, (tensor, axes) in operands.items():
        if tensor is None:
            continue
        names = axes.split()
        own = dict(zip(names, tensor.shape, strict=False))
        if tensor.dim() != len(names) or [sizes.get(axis, own[axis]) for axis in names] != list(tensor.shape):
            expected = ", ".join(f"{axis}={sizes[axis]}" if axis in sizes else axis for axis in names)
            raise ValueError(f"{operation}: expected {name} [{expected}], given {list(tensor.shape)}")
        sizes |= own
        if first is None:
            first = tensor
        elif tensor.device != first.device:
            raise TypeError(f"{operation}: expected {name} on {first.device}, given one on {tensor.device}")
        elif tensor.is_floating_point() and tensor.dtype != first.dtype:
            raise TypeError(f"{operation}: expected {name} of {first.dtype}, given {tensor.dtype}")
    return sizes


def check_index(operation: str, name: str, index: Tensor, size: int) -> Tensor:
    """An index of rows as int64, once it is known that all of it lies in 0 … size − 1.

    Args:
        operation: Named in errors, as `name` is.
        name: The index's.
        index: Any shape.
        size: The number of rows that it chooses among.

    Raises:
        TypeError: If it is not of whole numbers.
        IndexError: If one lies outside.
    """
    if index.is_floating_point() or index.is_complex() or index.dtype == torch.bool:
        raise TypeError(f"{operation}: expected {name} of whole numbers, given {index.dtype}")
    if index.numel() and not torch.compiler.is_compiling():
        low, high = (int(bound) for bound in torch.aminmax(index))
        if low < 0 or high >= size:
            raise IndexError(f"{operation}: expected {name} in 0 … {size - 1}, given {low if low < 0 else high}")
    return index.long()
