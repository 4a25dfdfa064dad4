"""Logits of pointers on a GPU; :mod:`nar.ops.pointer_logits` has them on a CPU.

Nothing as large as pairs times H is kept for the gradient, and of three nodes times H nothing is ever made. The one
layer of width H on pairs, on edge states, is left to cuBLAS, as in :mod:`nar.ops.max_message.triton`; the rest
is bound by memory, and done by one program for each row with its H features in registers.
"""
# Axes: B graphs, N nodes, S sender, R receiver, H hidden, K channels, M rows. An edge's is [B, S, R, ...], in order.

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from nar.ops.affine import GradientBuffer, affine, gathered, weight_gradient
from nar.ops.border import differentiable_gradients, has_to_be_differentiable
from nar.ops.pointer_logits.reference import plain_edge_logits, plain_product_logits
from nar.ops.precision import at_least_float32

_BLOCK = 16  # of rows that a program reads at a time


def edge_logits(
    source: Tensor, target: Tensor, weight: Tensor, x: Tensor, x_weight: Tensor, *of_states: Tensor
) -> Tensor:
    """The logits, [B, S, R], from the arguments of :func:`nar.ops.pointer_logits.edge_logits`."""
    uses, x_weight = gathered(x_weight)
    source, target, weight, x, x_weight = (y.contiguous() for y in (source, target, weight, x, x_weight))

    def logits() -> Tensor:
        states = None
        if of_states:
            data, first_weight, first_bias, states_weight = of_states
            states = affine(affine(data, first_weight, first_bias).relu(), states_weight)
        result: Tensor = _EdgeLogits.apply(uses, source, target, weight, x, x_weight, states)
        return result

    # The gradient computes the states of edges again: kept, they were the largest tensor of a step, [B, S, R, H].
    result: Tensor = checkpoint(logits, use_reentrant=False, preserve_rng_state=False)
    return result


def product_logits(source: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """The logits, [B, M, N], from the arguments of :func:`nar.ops.pointer_logits.product_logits`."""
    logits: Tensor = _ProductLogits.apply(source.contiguous(), target.contiguous(), weight.contiguous())
    return logits


class _EdgeLogits(torch.autograd.Function):
    """``w · max(source_j, target_i + We x_ij + states_ij)``, [B, S, R], and the gradients of all arguments."""

    @staticmethod
    def forward(ctx: Any, uses: GradientBuffer | None, *given: Tensor | None) -> Tensor:
        """The logits."""
        source, _, _, x, *_ = given
        assert source is not None
        assert x is not None
        logits = source.new_empty(x.shape[:3])
        _edge_logits[_receivers(x)](*given, logits, *_sizes(x, source), **_blocks(source))
        ctx.uses = uses
        ctx.save_for_backward(*given)
        return logits

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients of all arguments."""
        if has_to_be_differentiable(gradient):
            return None, *differentiable_gradients(plain_edge_logits, ctx.saved_tensors, gradient)
        saved = source, target, weight, x, x_weight, states = ctx.saved_tensors
        like = target if states is None else states
        grad_second = like.new_empty(*x.shape[:3], source.shape[-1])
        grad_source, grad_weight = torch.empty_like(source), at_least_float32(torch.empty_like(source))
        _edge_logits_backward[_receivers(x)](
            gradient.contiguous(),
            *saved,
            grad_second,
            grad_source,
            grad_weight,
            *_sizes(x, source),
            **_blocks(source),
        )
        grad_x = (grad_second @ x_weight.to(like.dtype)).to(x.dtype)
        grad_x_weight = weight_gradient(ctx.uses, x, grad_second)
        grad_target = grad_second.sum(dim=2).to(target.dtype)
        grad_weight = grad_weight.sum(dim=(0, 1)).to(weight.dtype)
        of_states = None if states is None else grad_second
        return None, grad_source, grad_target, grad_weight, grad_x, grad_x_weight, of_states


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


def _receivers(x: Tensor) -> tuple[int]:
    """The grid of the kernels of edges: one program for each receiver of each graph."""
    return (x.shape[0] * x.shape[2],)


def _blocks_of_rows(source: Tensor) -> tuple[int, int]:
    """The grid of the kernels of products: one program for some rows of a graph."""
    return triton.cdiv(source.shape[1], _BLOCK), source.shape[0]


def _sizes(x: Tensor, source: Tensor) -> tuple[int, ...]:
    """The sizes that the kernels of edges are given: S, R, H and K."""
    return *x.shape[1:3], source.shape[-1], x.shape[-1]


def _blocks(source: Tensor) -> dict[str, Any]:
    """The constants of kernels: rows at a time, the power of two that holds H, and the type that they compute in."""
    compute = tl.float64 if source.dtype == torch.float64 else tl.float32
    return {"ROWS": _BLOCK, "WIDTH": triton.next_power_of_2(source.shape[-1]), "COMPUTE": compute}


@triton.jit
def _second(target, x, x_weight, states, graph, s, r, S, R, H, K, h, inside, COMPUTE: tl.constexpr):
    """``target_i + We x_ij + states_ij`` for some senders and receiver r."""
    pair = (graph * S + s) * R + r
    total = tl.load(target + (graph * S + s) * H + h, mask=inside, other=0).to(COMPUTE)
    if states is not None:
        total += tl.load(states + pair * H + h, mask=inside, other=0).to(COMPUTE)
    for k in range(K):
        channel = tl.load(x + pair * K + k, mask=s < S, other=0).to(COMPUTE)
        total += channel * tl.load(x_weight + h * K + k, mask=h < H, other=0).to(COMPUTE)
    return total


@triton.jit
def _edge_logits(
    source,
    target,
    weight,
    x,
    x_weight,
    states,
    logits,
    S,
    R,
    H,
    K,
    ROWS: tl.constexpr,
    WIDTH: tl.constexpr,
    COMPUTE: tl.constexpr,
):
    """Write the logits of receiver r."""
    row = tl.program_id(0).to(tl.int64)
    graph, r = row // R, row % R
    h = tl.arange(0, WIDTH)[None, :]
    w = tl.load(weight + h, mask=h < H, other=0).to(COMPUTE)
    first = tl.load(source + row * H + h, mask=h < H, other=0).to(COMPUTE)
    for start in range(0, S, ROWS):
        s = start + tl.arange(0, ROWS)[:, None]
        inside = (s < S) & (h < H)
        second = _second(target, x, x_weight, states, graph, s, r, S, R, H, K, h, inside, COMPUTE)
        highest = tl.where((first > second) | (first != first), first, second)
        tl.store(logits + (graph * S + s) * R + r, tl.sum(w * highest, 1)[:, None], mask=s < S)


@triton.jit
def _edge_logits_backward(
    gradient,
    source,
    target,
    weight,
    x,
    x_weight,
    states,
    grad_second,
    grad_source,
    grad_weight,
    S,
    R,
    H,
    K,
    ROWS: tl.constexpr,
    WIDTH: tl.constexpr,
    COMPUTE: tl.constexpr,
):
    """Write the gradients of the second arguments at receiver r, and r's part in those of the source and the weight."""
    row = tl.program_id(0).to(tl.int64)
    graph, r = row // R, row % R
    h = tl.arange(0, WIDTH)[None, :]
    w = tl.load(weight + h, mask=h < H, other=0).to(COMPUTE)
    first = tl.load(source + row * H + h, mask=h < H, other=0).to(COMPUTE)
    grad_first, grad_w = tl.zeros((WIDTH,), COMPUTE), tl.zeros((WIDTH,), COMPUTE)
    for start in range(0, S, ROWS):
        s = start + tl.arange(0, ROWS)[:, None]
        inside = (s < S) & (h < H)
        second = _second(target, x, x_weight, states, graph, s, r, S, R, H, K, h, inside, COMPUTE)
        g = tl.load(gradient + (graph * S + s) * R + r, mask=s < S, other=0).to(COMPUTE)
        passed = g * w
        of_first = tl.where(first > second, passed, tl.where(first < second, 0, 0.5 * passed))
        tl.store(grad_second + ((graph * S + s) * R + r) * H + h, passed - of_first, mask=inside)
        grad_first += tl.sum(of_first, 0)
        grad_w += tl.sum(g * tl.where(first > second, first, second), 0)
    tl.store(grad_source + row * H + h, grad_first[None, :], mask=h < H)
    tl.store(grad_weight + row * H + h, grad_w[None, :], mask=h < H)


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
