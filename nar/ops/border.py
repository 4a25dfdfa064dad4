"""What stands between a user's tensors and compiled code, which reads and writes where it is told without a look.

Every entry into numba's and Triton's code states here what it needs of shapes, dtypes, devices and indices, and asks
whether compiled code may be entered at all.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

_Operand = tuple[Tensor | None, str] | tuple[Tensor | None, str, torch.dtype]


def check_shapes(operation: str, **operands: _Operand) -> dict[str, int]:
    """The size of every axis of an operation's operands, by its name.

    Args:
        operation: The name of what is called, for errors.
        **operands: Each tensor with the names of its axes, such as ``(sent, "B S H")``, or ``"3F"`` for one that is
            three times as long as F, and with its dtype, if it is not to be of some floating-point type; None is not
            looked at.

    Raises:
        ValueError: If a number of axes or a size differs from what the operands before it have.
        TypeError: If a dtype is not as expected, or if devices differ.
    """
    sizes: dict[str, int] = {}
    device: torch.device | None = None
    for name, (tensor, axes, *dtypes) in operands.items():
        if tensor is None:
            continue
        names, shape = axes.split(), tensor.shape
        fits = len(names) == len(shape)
        for axis, size in zip(names, shape, strict=False):
            times, single = (int(axis[0]), axis[1:]) if axis[0].isdigit() else (1, axis)
            sizes.setdefault(single, size // times)
            if sizes.setdefault(axis, times * sizes[single]) != size:
                fits = False
        if not fits:
            expected = ", ".join(f"{axis}={sizes[axis]}" if axis in sizes else axis for axis in names)
            raise ValueError(f"{operation}: expected {name} [{expected}], given {list(shape)}")
        if tensor.dtype is not dtypes[0] if dtypes else not tensor.is_floating_point():
            expected = str(dtypes[0]) if dtypes else "a floating-point type"
            raise TypeError(f"{operation}: expected {name} of {expected}, given {tensor.dtype}")
        if device is None:
            device = tensor.device
        elif tensor.device != device:
            raise TypeError(f"{operation}: expected {name} on {device}, given one on {tensor.device}")
    return sizes


def check_index(operation: str, name: str, index: Tensor, size: int) -> Tensor:
    """An index of rows as int64, once it is known that all of it lies in 0 … size − 1.

    What is compiled, traced or transformed has no values yet; there torch's own operations look at them when they run.

    Args:
        operation: The name of what is called, for errors.
        name: Of the index, for errors.
        index: Of any shape.
        size: The number of rows that it chooses among.

    Raises:
        TypeError: If it is not of whole numbers.
        IndexError: If one lies outside.
    """
    if index.is_floating_point() or index.is_complex() or index.dtype == torch.bool:
        raise TypeError(f"{operation}: expected {name} of whole numbers, given {index.dtype}")
    if not is_watched(index) and not index.is_meta and index.numel():
        low, high = (int(bound) for bound in torch.aminmax(index))
        if low < 0 or high >= size:
            raise IndexError(f"{operation}: expected {name} in 0 … {size - 1}, given {low if low < 0 else high}")
    return index.long()


def is_watched(*tensors: Tensor | None) -> bool:
    """Whether something but autograd's backward pass is to see the operations on some tensors.

    That is a compiler, an exporter or a tracer, a transform of ``torch.func``, a dispatch mode such as a counter of
    operations, forward-mode differentiation, or a tensor that stands for another. Compiled code would hide the
    operations from it, or find no numbers: the plain formula is for these.
    """
    return (
        torch.compiler.is_compiling()
        or torch._C._get_tracing_state() is not None  # by torch.jit
        or torch._C._are_functorch_transforms_active()
        or torch._C._len_torch_dispatch_stack() > 0
        or forward_ad._current_level >= 0
        or any(tensor is not None and type(tensor) not in (Tensor, nn.Parameter) for tensor in tensors)
    )


def has_to_be_differentiable(gradient: Tensor) -> bool:
    """Whether a backward pass that is given this gradient is to be differentiated again, or is watched."""
    is_batched = torch._C._functorch.is_legacy_batchedtensor(gradient)  # by is_grads_batched=True
    return torch.is_grad_enabled() or is_batched or is_watched(gradient)


def differentiable_gradients(
    plain: Callable[..., Any], given: Sequence[Any], gradient: Tensor | tuple[Tensor, ...]
) -> tuple[Tensor | None, ...]:
    """The gradients of what a plain formula makes of its arguments, as functions of these and of `gradient`.

    Args:
        plain: The formula.
        given: Its arguments; those that need no gradient get None.
        gradient: Of the formula's result, or of each of its results.
    """
    again = torch.is_grad_enabled()
    with torch.enable_grad():
        # Of each argument a copy: one may have been made of another, which is not to be followed here.
        copies = [x.clone() if isinstance(x, Tensor) and x.requires_grad else x for x in given]
        result = plain(*copies)
    wanted = [x for x in copies if isinstance(x, Tensor) and x.requires_grad]
    found = iter(torch.autograd.grad(result, wanted, gradient, create_graph=again, allow_unused=True))
    return tuple(next(found) if isinstance(x, Tensor) and x.requires_grad else None for x in copies)
