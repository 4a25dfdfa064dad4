"""Affine maps on an x86 CPU by oneDNN, which uses the widest instructions that a core has, whoever made it.

torch multiplies matrices of float32 by MKL, which on AMD's cores keeps to half of their width; oneDNN, which comes with
torch as well, takes half the time there. Its call is made for torch's compiler and has no gradient of its own.
"""
# Axes: M rows.

import platform
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from nar.ops.border import differentiable_gradients, has_to_be_differentiable, is_watched

_LARGE = 2**22
"""Multiplications from which a product is large: a smaller one does not make up for a call from Python."""


def is_for_onednn(x: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    """Whether ``x weightᵀ + bias`` is large, of float32 on a CPU, and seen by nobody: see :func:`is_watched`."""
    if not x.is_cpu or x.numel() * len(weight) < _LARGE or is_watched(x, weight, bias):
        return False
    are_float32 = all(y is None or y.dtype == torch.float32 for y in (x, weight, bias))
    return are_float32 and not torch.is_autocast_enabled("cpu") and _has_onednn()


def onednn_linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """``x weightᵀ + bias``, [..., out]: :func:`torch.nn.functional.linear`."""
    result: Tensor = _Linear.apply(x, weight, bias)  # type: ignore[no-untyped-call]
    return result


class _Linear(torch.autograd.Function):
    """``x weightᵀ + bias``, and the gradients of all three."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The result."""
        ctx.save_for_backward(x, weight, bias)
        return _product(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients, of what needs one."""
        x, weight, bias = ctx.saved_tensors
        if has_to_be_differentiable(gradient):
            return differentiable_gradients(functional.linear, (x, weight, bias), gradient)
        of_x, of_weight, of_bias = ctx.needs_input_grad
        rows, of_rows = x.flatten(0, -2), gradient.flatten(0, -2)
        return (
            _product(gradient, weight.mT) if of_x else None,
            _product(of_rows.mT, rows.mT) if of_weight else None,
            of_rows.sum(dim=0) if of_bias else None,
        )


def _product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``x weightᵀ + bias`` without a gradient, [..., out]."""
    made: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return made


@cache
def _has_onednn() -> bool:
    is_x86 = platform.machine().lower() in ("x86_64", "amd64")
    return is_x86 and torch._C._has_mkldnn and hasattr(torch.ops.mkldnn, "_linear_pointwise")
