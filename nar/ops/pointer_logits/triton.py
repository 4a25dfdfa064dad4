"""Logits of pointers of edges on a GPU; :mod:`nar.ops.pointer_logits` has them on a CPU.

Of three nodes times H nothing is ever made: one program computes some rows, with their H features in registers.
"""
# Axes: B graphs, N nodes, H hidden, M rows.

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from nar.ops.border import differentiable_gradients, has_to_be_differentiable
from nar.ops.pointer_logits.reference import plain_product_logits
from nar.ops.precision import at_least_float32

_BLOCK = 16  # of rows that a program reads at a time


def product_logits(source: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """The logits, [B, M, N], from the arguments of :func:`nar.ops.pointer_logits.product_logits`."""
    logits: Tensor = _ProductLogits.apply(source.contiguous(), target.contiguous(), weight.contiguous())
    return logits


class _ProductLogits(torch.autograd.Function):
    """``w · max(source_m, target_k)``, [B, M, N], and the gradients of all arguments."""

    @staticmethod
    def forward(ctx: Any, *arguments: Tensor) -> Tensor:
        """The logits."""
        source, target, weight = arguments
        logits = source.new_empty(*source.shape[:2], target.shape[1])
        _product_logits[_blocks_of_rows(source)](
            source, target, weight, logits, *logits.shape[1:], source.shape[-1], **_blocks(source)
        )
        ctx.save_for_backward(source, target, weight)
        return logits

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients of all arguments; the target's is the source's of the product the other way round."""
        source, target, weight = ctx.saved_tensors
        if has_to_be_differentiable(gradient):
            return differentiable_gradients(plain_product_logits, (source, target, weight), gradient)
        grad_source, grad_weight = _grad_rows(gradient, source, target, weight)
        grad_target, _ = _grad_rows(gradient.mT, target, source, weight)
        return grad_source, grad_target, grad_weight


def _grad_rows(gradient: Tensor, source: Tensor, target: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients of the source and the weight of :class:`_ProductLogits`."""
    grad_source, grad_weight = torch.empty_like(source), at_least_float32(torch.empty_like(source[:, ::_BLOCK]))
    _product_logits_backward[_blocks_of_rows(source)](
        gradient.contiguous(),
        source,
        target,
        weight,
        grad_source,
        grad_weight,
        *gradient.shape[1:],
        source.shape[-1],
        **_blocks(source),
    )
    return grad_source, grad_weight.sum(dim=(0, 1)).to(weight.dtype)


def _blocks_of_rows(source: Tensor) -> tuple[int, int]:
    """The grid of the kernels of products: one program for some rows of a graph."""
    return triton.cdiv(source.shape[1], _BLOCK), source.shape[0]


def _blocks(source: Tensor) -> dict[str, Any]:
    """The constants of kernels: rows at a time, the power of two that holds H, and the type that they compute in."""
    compute = tl.float64 if source.dtype == torch.float64 else tl.float32
    return {"ROWS": _BLOCK, "WIDTH": triton.next_power_of_2(source.shape[-1]), "COMPUTE": compute}


@triton.jit
def _product_logits(
    source, target, weight, logits, M, N, H, ROWS: tl.constexpr, WIDTH: tl.constexpr, COMPUTE: tl.constexpr
):
    """Write the logits of some rows."""
    graph = tl.program_id(1).to(tl.int64)
    m = tl.program_id(0) * ROWS + tl.arange(0, ROWS)[:, None]
    h = tl.arange(0, WIDTH)[None, :]
    w = tl.load(weight + h, mask=h < H, other=0).to(COMPUTE)
    first = tl.load(source + (graph * M + m) * H + h, mask=(m < M) & (h < H), other=0).to(COMPUTE)
    for k in range(N):
        second = tl.load(target + (graph * N + k) * H + h, mask=h < H, other=0).to(COMPUTE)
        highest = tl.where((first > second) | (first != first), first, second)
        tl.store(logits + (graph * M + m) * N + k, tl.sum(w * highest, 1)[:, None], mask=m < M)


@triton.jit
def _product_logits_backward(
    gradient,
    source,
    target,
    weight,
    grad_source,
    grad_weight,
    M,
    N,
    H,
    ROWS: tl.constexpr,
    WIDTH: tl.constexpr,
    COMPUTE: tl.constexpr,
):
    """Write the gradient of some rows of the source, and their part in that of the weight."""
    graph = tl.program_id(1).to(tl.int64)
    m = tl.program_id(0) * ROWS + tl.arange(0, ROWS)[:, None]
    h = tl.arange(0, WIDTH)[None, :]
    inside = (m < M) & (h < H)
    w = tl.load(weight + h, mask=h < H, other=0).to(COMPUTE)
    first = tl.load(source + (graph * M + m) * H + h, mask=inside, other=0).to(COMPUTE)
    grad_first, grad_w = tl.zeros((ROWS, WIDTH), COMPUTE), tl.zeros((ROWS, WIDTH), COMPUTE)
    for k in range(N):
        second = tl.load(target + (graph * N + k) * H + h, mask=h < H, other=0).to(COMPUTE)
        g = tl.load(gradient + (graph * M + m) * N + k, mask=m < M, other=0).to(COMPUTE)
        grad_first += g * w * tl.where(first > second, 1.0, tl.where(first < second, 0.0, 0.5)).to(COMPUTE)
        grad_w += g * tl.where(first > second, first, second)
    tl.store(grad_source + (graph * M + m) * H + h, grad_first, mask=inside)
    there = (graph * tl.num_programs(0) + tl.program_id(0)) * H + h
    tl.store(grad_weight + there, tl.sum(grad_w, 0)[None, :], mask=h < H)
