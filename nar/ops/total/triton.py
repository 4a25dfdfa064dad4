"""The sum of some tensors on a GPU, eight at a time."""
# Axes: B graphs, N nodes, H hidden, M rows.

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from nar.ops.device import in_rows

_AT_ONCE = 8
_BLOCK = 1024  # of numbers that a program adds up


def total(*tensors: Tensor) -> Tensor:
    """The sum, from the arguments of :func:`nar.ops.total.total`."""
    made, rest = tensors[0], tensors[1:]
    while rest:
        made, rest = _Total.apply(made, *rest[: _AT_ONCE - 1]), rest[_AT_ONCE - 1 :]
    return made


class _Total(torch.autograd.Function):
    """The sum of up to eight tensors, whose gradient is that of each."""

    @staticmethod
    def forward(ctx: Any, *tensors: Tensor) -> Tensor:
        """The sum."""
        ctx.dtypes = [x.dtype for x in tensors]
        made = tensors[0].new_empty(tensors[0].shape)
        rows: list[Tensor | None] = [in_rows(x) for x in tensors]
        strides = [x.stride(0) for x in rows if x is not None]
        absent = _AT_ONCE - len(rows)
        compute = tl.float64 if made.dtype == torch.float64 else tl.float32
        _total[(triton.cdiv(made.numel(), _BLOCK),)](
            *rows, *[None] * absent, *strides, *[0] * absent, made, made.numel(), made.shape[-1], _BLOCK, compute
        )
        return made

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, ...]:
        """The gradient, for each."""
        return tuple(gradient.to(dtype) for dtype in ctx.dtypes)


@triton.jit
def _plus(sum, rows, stride, row, column, inside):
    """The sum plus some numbers of a matrix, if there is that matrix."""
    if rows is not None:
        sum += tl.load(rows + row * stride + column, mask=inside, other=0).to(sum.dtype)
    return sum


@triton.jit
def _total(
    a, b, c, d, e, f, g, h,
    stride_a, stride_b, stride_c, stride_d, stride_e, stride_f, stride_g, stride_h,
    made, number, width, BLOCK: tl.constexpr, COMPUTE: tl.constexpr,
):  # fmt: skip
    """Write some numbers of the sum of up to eight matrices."""
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside, row, column = i < number, i // width, i % width
    sum = tl.zeros((BLOCK,), COMPUTE)
    sum = _plus(sum, a, stride_a, row, column, inside)
    sum = _plus(sum, b, stride_b, row, column, inside)
    sum = _plus(sum, c, stride_c, row, column, inside)
    sum = _plus(sum, d, stride_d, row, column, inside)
    sum = _plus(sum, e, stride_e, row, column, inside)
    sum = _plus(sum, f, stride_f, row, column, inside)
    sum = _plus(sum, g, stride_g, row, column, inside)
    sum = _plus(sum, h, stride_h, row, column, inside)
    tl.store(made + i, sum, mask=inside)
