"""The update of gated nodes on a GPU: each way one kernel before and one after the gate's product.

PyTorch would launch one for each sum, rectification, norm and product. The gate's own product is left to cuBLAS, as in
:mod:`nar.ops.max_message.triton`. The gradient adds and rectifies again what was added and rectified, which is the same
to the bit; it keeps the mean and the deviation of each row.
"""
# Axes: B graphs, N nodes, H hidden, M rows.

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from nar.ops.affine import GradientBuffer, affine, bias_gradient, deferred
from nar.ops.border import differentiable_gradients, has_to_be_differentiable
from nar.ops.device import in_rows
from nar.ops.gated_update.reference import plain_mixture, plain_states_and_opens
from nar.ops.precision import at_least_float32

_ROWS = 4  # of nodes that a program computes
_BLOCK = 1024  # of numbers that a program mixes


def gated_update(
    update: Tensor,
    gate: Tensor,
    messages: Tensor,
    hidden: Tensor,
    norm_weight: Tensor,
    norm_bias: Tensor,
    gate_weight: Tensor,
    gate_bias: Tensor,
    eps: float = 1e-5,
) -> Tensor:
    """The new states, [B, N, H], from the arguments of :func:`nar.ops.gated_update.gated_update`."""
    (uses_of_weight, _, norm_weight), (uses_of_bias, _, norm_bias) = (
        deferred(None, x) for x in (norm_weight, norm_bias)
    )
    states, opens = _StatesAndOpens.apply(
        uses_of_weight, uses_of_bias, update, gate, messages, norm_weight, norm_bias, eps
    )
    made: Tensor = _Mixture.apply(states, affine(opens, gate_weight, gate_bias), hidden)
    return made


class _StatesAndOpens(torch.autograd.Function):
    """``LayerNorm(ReLU(update + m))`` and ``ReLU(gate + m')``, and the gradients of all arguments."""

    @staticmethod
    def forward(
        ctx: Any,
        uses_of_weight: GradientBuffer | None,
        uses_of_bias: GradientBuffer | None,
        update: Tensor,
        gate: Tensor,
        messages: Tensor,
        norm_weight: Tensor,
        norm_bias: Tensor,
        eps: float,
    ) -> tuple[Tensor, Tensor]:
        """The states [B, N, H], in the type of the norm's weight, and what opens the gate [B, N, H]."""
        states, opens = update.new_empty(update.shape, dtype=norm_weight.dtype), gate.new_empty(gate.shape)
        moments = at_least_float32(update[..., :0]).new_empty(2, update.shape[0] * update.shape[1])
        rows = [in_rows(x) for x in (update, gate, messages)]
        strides = [x.stride(0) for x in rows]
        norm = (norm_weight.contiguous(), norm_bias.contiguous())
        _states_and_opens[_programs(update)](
            *rows, *strides, *norm, states, opens, moments, eps, *_sizes(update), **_blocks(update)
        )
        ctx.save_for_backward(update, gate, messages, norm_weight, norm_bias, moments)
        ctx.uses_of_weight, ctx.uses_of_bias, ctx.eps = uses_of_weight, uses_of_bias, eps
        return states, opens

    @staticmethod
    def backward(ctx: Any, grad_states: Tensor, grad_opens: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients of all arguments."""
        *given, moments = ctx.saved_tensors
        if has_to_be_differentiable(grad_states):
            gradients = (grad_states, grad_opens)
            return None, None, *differentiable_gradients(plain_states_and_opens, (*given, ctx.eps), gradients)
        update, gate, messages, norm_weight, _ = given
        grad_messages = messages.new_empty(messages.shape)
        grad_norm = moments.new_empty(2, *_programs(update), update.shape[-1])
        rows = [in_rows(x) for x in (update, gate, messages)]
        strides = [x.stride(0) for x in rows]
        _states_and_opens_backward[_programs(update)](
            grad_states.contiguous(),
            grad_opens.contiguous(),
            *rows,
            *strides,
            norm_weight.contiguous(),
            moments,
            grad_messages,
            grad_norm,
            *_sizes(update),
            **_blocks(update),
        )
        grad_update, grad_gate = (x.to(update.dtype) for x in grad_messages.chunk(2, dim=-1))
        grad_weight = bias_gradient(ctx.uses_of_weight, grad_norm[0])
        grad_bias = bias_gradient(ctx.uses_of_bias, grad_norm[1])
        return None, None, grad_update, grad_gate, grad_messages, grad_weight, grad_bias, None


class _Mixture(torch.autograd.Function):
    """``σ(logits) states + (1 - σ(logits)) hidden``, in the type of the old states, and the gradients of all three."""

    @staticmethod
    def forward(ctx: Any, *arguments: Tensor) -> Tensor:
        """The mixture, [B, N, H]."""
        states, logits, hidden = (x.contiguous() for x in arguments)
        made = torch.empty_like(hidden)
        _mixture[_programs_of_numbers(made)](states, logits, hidden, made, *_number(made), **_blocks_of_numbers(made))
        ctx.save_for_backward(states, logits, hidden)
        return made

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients of all arguments."""
        given = ctx.saved_tensors
        if has_to_be_differentiable(gradient):
            return differentiable_gradients(plain_mixture, given, gradient)
        made = tuple(torch.empty_like(x) for x in given)
        _mixture_backward[_programs_of_numbers(gradient)](
            gradient.contiguous(), *given, *made, *_number(gradient), **_blocks_of_numbers(gradient)
        )
        return made


def _programs(nodes: Tensor) -> tuple[int]:
    """The grid of the kernels of nodes [B, N, H]: one program for some of them."""
    return (triton.cdiv(nodes.shape[0] * nodes.shape[1], _ROWS),)


def _sizes(nodes: Tensor) -> tuple[int, int]:
    """The sizes that the kernels of nodes are given: M and H."""
    return nodes.shape[0] * nodes.shape[1], nodes.shape[2]


def _blocks(nodes: Tensor) -> dict[str, Any]:
    """The constants of the kernels of nodes: rows at a time, what holds H, the type they compute in."""
    return {"ROWS": _ROWS, "WIDTH": triton.next_power_of_2(nodes.shape[-1]), "COMPUTE": _compute(nodes)}


def _programs_of_numbers(x: Tensor) -> tuple[int]:
    """The grid of the kernels of single numbers."""
    return (triton.cdiv(x.numel(), _BLOCK),)


def _number(x: Tensor) -> tuple[int]:
    """The size that the kernels of single numbers are given."""
    return (x.numel(),)


def _blocks_of_numbers(x: Tensor) -> dict[str, Any]:
    """The constants of the kernels of single numbers: how many at a time, and the type that they compute in."""
    return {"BLOCK": _BLOCK, "COMPUTE": _compute(x)}


def _compute(x: Tensor) -> Any:
    return tl.float64 if x.dtype == torch.float64 else tl.float32


@triton.jit
def _sum(of_node, of_messages, inside, COMPUTE: tl.constexpr):
    """What a node and its messages add up to, before it is rectified."""
    return tl.load(of_node, mask=inside, other=0).to(COMPUTE) + tl.load(of_messages, mask=inside, other=0).to(COMPUTE)


@triton.jit
def _states_and_opens(
    update,
    gate,
    messages,
    update_stride,
    gate_stride,
    messages_stride,
    norm_weight,
    norm_bias,
    states,
    opens,
    moments,
    eps,
    M,
    H,
    ROWS: tl.constexpr,
    WIDTH: tl.constexpr,
    COMPUTE: tl.constexpr,
):
    """Write the states and what opens the gate of some nodes, and the mean and the inverse deviation of each."""
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    h = tl.arange(0, WIDTH)[None, :]
    inside = (row < M) & (h < H)
    x = _sum(update + row * update_stride + h, messages + row * messages_stride + h, inside, COMPUTE)
    x = tl.where(x < 0, 0, x)
    mean = tl.sum(x, 1)[:, None] / H
    centred = tl.where(inside, x - mean, 0)
    inverse = 1 / tl.sqrt(tl.sum(centred * centred, 1)[:, None] / H + eps)
    weight = tl.load(norm_weight + h, mask=h < H, other=0).to(COMPUTE)
    bias = tl.load(norm_bias + h, mask=h < H, other=0).to(COMPUTE)
    tl.store(states + row * H + h, centred * inverse * weight + bias, mask=inside)
    tl.store(moments + row, mean, mask=row < M)
    tl.store(moments + M + row, inverse, mask=row < M)
    y = _sum(gate + row * gate_stride + h, messages + row * messages_stride + H + h, inside, COMPUTE)
    tl.store(opens + row * H + h, tl.where(y < 0, 0, y), mask=inside)


@triton.jit
def _states_and_opens_backward(
    grad_states,
    grad_opens,
    update,
    gate,
    messages,
    update_stride,
    gate_stride,
    messages_stride,
    norm_weight,
    moments,
    grad_messages,
    grad_norm,
    M,
    H,
    ROWS: tl.constexpr,
    WIDTH: tl.constexpr,
    COMPUTE: tl.constexpr,
):
    """Write the gradients of both sums of some nodes, and these nodes' part in those of the norm's weight and bias."""
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    h = tl.arange(0, WIDTH)[None, :]
    inside = (row < M) & (h < H)
    x = _sum(update + row * update_stride + h, messages + row * messages_stride + h, inside, COMPUTE)
    mean = tl.load(moments + row, mask=row < M, other=0)
    inverse = tl.load(moments + M + row, mask=row < M, other=0)
    normed = tl.where(inside, (tl.where(x < 0, 0, x) - mean) * inverse, 0)
    of_states = tl.load(grad_states + row * H + h, mask=inside, other=0).to(COMPUTE)
    of_normed = of_states * tl.load(norm_weight + h, mask=h < H, other=0).to(COMPUTE)
    along = tl.sum(of_normed * normed, 1)[:, None] / H
    of_sum = inverse * (of_normed - tl.sum(of_normed, 1)[:, None] / H - normed * along)
    there = grad_messages + row * 2 * H + h
    tl.store(there, tl.where(x <= 0, 0, of_sum), mask=inside)
    y = _sum(gate + row * gate_stride + h, messages + row * messages_stride + H + h, inside, COMPUTE)
    of_opens = tl.load(grad_opens + row * H + h, mask=inside, other=0).to(COMPUTE)
    tl.store(there + H, tl.where(y <= 0, 0, of_opens), mask=inside)
    part = grad_norm + tl.program_id(0) * H + h
    tl.store(part, tl.sum(of_states * normed, 0)[None, :], mask=h < H)
    tl.store(part + tl.num_programs(0) * H, tl.sum(of_states, 0)[None, :], mask=h < H)


@triton.jit
def _mixture(states, logits, hidden, made, number, BLOCK: tl.constexpr, COMPUTE: tl.constexpr):
    """Write some numbers of the mixture."""
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = i < number
    gate = 1 / (1 + tl.exp(-tl.load(logits + i, mask=inside, other=0).to(COMPUTE)))
    new, old = tl.load(states + i, mask=inside, other=0), tl.load(hidden + i, mask=inside, other=0)
    tl.store(made + i, gate * new.to(COMPUTE) + (1 - gate) * old.to(COMPUTE), mask=inside)


@triton.jit
def _mixture_backward(
    gradient,
    states,
    logits,
    hidden,
    grad_states,
    grad_logits,
    grad_hidden,
    number,
    BLOCK: tl.constexpr,
    COMPUTE: tl.constexpr,
):
    """Write some numbers of the gradients of all three."""
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = i < number
    g = tl.load(gradient + i, mask=inside, other=0).to(COMPUTE)
    gate = 1 / (1 + tl.exp(-tl.load(logits + i, mask=inside, other=0).to(COMPUTE)))
    new, old = tl.load(states + i, mask=inside, other=0), tl.load(hidden + i, mask=inside, other=0)
    tl.store(grad_states + i, g * gate, mask=inside)
    tl.store(grad_hidden + i, g * (1 - gate), mask=inside)
    tl.store(grad_logits + i, g * (new.to(COMPUTE) - old.to(COMPUTE)) * gate * (1 - gate), mask=inside)
