"""Logits on pairs of nodes on a GPU; :mod:`nar.ops.pair_logits` has them on a CPU.

The layer of width H on states of edges is left to cuBLAS, as in :mod:`nar.ops.max_message.triton`, and is one product
for all probes; the rest is bound by memory, and done by one program for each receiver. Nothing as large as pairs times
H is kept: the gradient makes states and that product again, by the same calls, so that the same arguments win.
"""
# Axes: B graphs, N nodes, P pointers, H hidden, Q other probes, C = P · H + Q columns, K channels.
# What belongs to an edge is [B, sender, receiver, ...], in order.

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from nar.ops.affine import GradientBuffer, as_autocast, bias_gradient, deferred, weight_gradient
from nar.ops.border import differentiable_gradients, has_to_be_differentiable
from nar.ops.pair_logits.reference import plain_pair_logits
from nar.ops.precision import at_least_float32

_SENDERS = 16  # that a program reads at a time


class _Uses(NamedTuple):
    """The buffers of weights' gradients, None where they are not gathered."""

    weight: GradientBuffer | None = None
    bias: GradientBuffer | None = None
    x: GradientBuffer | None = None
    first: GradientBuffer | None = None
    states: GradientBuffer | None = None


def pair_logits(
    receiver: Tensor, sender: Tensor, weight: Tensor, bias: Tensor, x: Tensor, x_weight: Tensor, *of_states: Tensor
) -> Tensor:
    """The logits from the arguments of :func:`nar.ops.pair_logits.pair_logits`."""
    of_weight, _, weight = deferred(None, weight)
    of_bias, _, bias = deferred(None, bias)
    of_x, x_weight, _ = deferred(x_weight)
    uses = _Uses(of_weight, of_bias, of_x)
    if of_states:
        data, first_weight, first_bias, states_weight = of_states
        of_first, first_weight, first_bias = deferred(first_weight, first_bias, as_autocast)
        of_states_weight, states_weight, _ = deferred(states_weight, None, as_autocast)
        first = (y.contiguous() for y in (as_autocast(data), first_weight, first_bias))
        of_states = *first, states_weight
        uses = uses._replace(first=of_first, states=of_states_weight)
    nodes = (y if _is_in_rows(y) else y.contiguous() for y in (receiver, sender))
    given = (y.contiguous() for y in (weight, bias, x, x_weight))
    logits: Tensor = _PairLogits.apply(uses, *nodes, *given, *of_states)
    return logits


class _PairLogits(torch.autograd.Function):
    """The logits, and the gradients of all arguments."""

    @staticmethod
    def forward(ctx: Any, uses: _Uses, *given: Tensor) -> Tensor:
        """The logits."""
        receiver, _, weight, bias, x, _, *of_states = given
        num_graphs, num_nodes, num_columns = receiver.shape
        logits = receiver.new_empty(len(bias) + num_columns - len(weight), num_graphs, num_nodes, num_nodes)
        _, of_edges = _of_states(*of_states) if of_states else (None, None)
        _pair_logits[_receivers(x)](*given[:6], of_edges, logits, *_sizes(given), **_blocks(given))
        ctx.uses = uses
        ctx.save_for_backward(*given)
        return logits

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients of all arguments."""
        given = receiver, sender, weight, bias, x, x_weight, *of_states = ctx.saved_tensors
        if has_to_be_differentiable(gradient):
            return None, *differentiable_gradients(plain_pair_logits, given, gradient)
        first, of_edges = _of_states(*of_states) if of_states else (None, None)
        grad_z = (sender if of_edges is None else of_edges).new_empty(*x.shape[:3], receiver.shape[-1])
        grad_receiver = receiver.new_empty(receiver.shape)
        # Of w and b every program has a part of its own.
        parts = [at_least_float32(y[:0]).new_empty(*receiver.shape[:2], len(y)) for y in (weight, bias)]
        _pair_logits_backward[_receivers(x)](
            gradient.contiguous(),
            *given[:3],
            *given[4:6],
            of_edges,
            grad_z,
            grad_receiver,
            *parts,
            *_sizes(given),
            **_blocks(given),
        )
        grad_weight, grad_bias = map(bias_gradient, (ctx.uses.weight, ctx.uses.bias), parts)
        grad_x = (grad_z @ x_weight.to(grad_z.dtype)).to(x.dtype)
        grad_x_weight = weight_gradient(ctx.uses.x, x, grad_z)
        made = grad_receiver, grad_z.sum(dim=2).to(sender.dtype), grad_weight, grad_bias, grad_x, grad_x_weight
        if first is None:
            return None, *made
        data, first_weight, _, states_weight = of_states
        grad_states_weight = weight_gradient(ctx.uses.states, first, grad_z)
        grad_first, grad_data = grad_z @ states_weight, torch.empty_like(data)
        _edge_states_backward[_tiles(first)](
            first, first_weight, grad_first, grad_data, *_rows(data, first), **_states_blocks(first)
        )
        grad_first_weight = weight_gradient(ctx.uses.first, data, grad_first)
        grad_first_bias = grad_first.sum(dim=(0, 1, 2)) if ctx.uses.first is None else None
        return None, *made, grad_data, grad_first_weight, grad_first_bias, grad_states_weight


def _of_states(data: Tensor, first_weight: Tensor, first_bias: Tensor, states_weight: Tensor) -> tuple[Tensor, Tensor]:
    """``ReLU(Wf data + bf)``, [B, N, N, W], and what Ws makes of it, [B, N, N, C]."""
    first = data.new_empty(*data.shape[:3], len(first_bias))
    _edge_states[_tiles(first)](data, first_weight, first_bias, first, *_rows(data, first), **_states_blocks(first))
    return first, first @ states_weight.mT


def _is_in_rows(nodes: Tensor) -> bool:
    """Whether what belongs to nodes, [B, N, C], is rows at equal distances in memory, such as some columns of more."""
    return nodes.stride(2) == 1 and nodes.stride(0) == nodes.shape[1] * nodes.stride(1)


def _receivers(x: Tensor) -> tuple[int]:
    """The grid of the kernels: one program for each receiver of each graph."""
    return (x.shape[0] * x.shape[2],)


def _sizes(given: Sequence[Tensor]) -> tuple[int, ...]:
    """What kernels are given: the distances of the receivers' rows and of the senders', B, N, P, H, Q and K."""
    receiver, sender, weight, bias, x, *_ = given
    width = len(weight) // max(1, len(bias))
    sizes = *receiver.shape[:2], len(bias), width, receiver.shape[2] - len(weight), x.shape[3]
    return receiver.stride(1), sender.stride(1), *sizes


def _blocks(given: Sequence[Tensor]) -> dict[str, Any]:
    """The constants of kernels: rows at a time, powers of two that hold H and Q, and the type that they compute in."""
    *_, width, num_others, _ = _sizes(given)
    blocks = {"WIDTH": triton.next_power_of_2(max(1, width)), "OTHERS": triton.next_power_of_2(max(1, num_others))}
    return {"ROWS": _SENDERS, **blocks, "COMPUTE": tl.float64 if given[0].dtype == torch.float64 else tl.float32}


def _tiles(first: Tensor) -> tuple[int]:
    """The grid of the kernels of states: one program for some pairs."""
    return (triton.cdiv(first.shape[:3].numel(), _SENDERS),)


def _rows(data: Tensor, first: Tensor) -> tuple[int, int, int]:
    """What kernels of states are given: the number of pairs, F and W."""
    return data.shape[:3].numel(), data.shape[3], first.shape[3]


def _states_blocks(first: Tensor) -> dict[str, Any]:
    """The constants of kernels of states: rows at a time, the power of two that holds W, and the type."""
    compute = tl.float64 if first.dtype == torch.float64 else tl.float32
    return {"ROWS": _SENDERS, "WIDTH": triton.next_power_of_2(first.shape[3]), "COMPUTE": compute}


@triton.jit
def _edge_states(data, weight, bias, out, E, F, W, ROWS: tl.constexpr, WIDTH: tl.constexpr, COMPUTE: tl.constexpr):
    """Write ``ReLU(weight data + bias)`` for some of E pairs, NaN where the sum is."""
    e, w = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None], tl.arange(0, WIDTH)[None, :]
    total = tl.zeros((ROWS, WIDTH), COMPUTE) + tl.load(bias + w, mask=w < W, other=0).to(COMPUTE)
    for f in range(F):
        feature = tl.load(data + e * F + f, mask=e < E, other=0).to(COMPUTE)
        total += feature * tl.load(weight + w * F + f, mask=w < W, other=0).to(COMPUTE)
    tl.store(out + e * W + w, tl.where(total < 0, 0, total), mask=(e < E) & (w < W))


@triton.jit
def _edge_states_backward(
    first, weight, gradient, grad_data, E, F, W, ROWS: tl.constexpr, WIDTH: tl.constexpr, COMPUTE: tl.constexpr
):
    """Write the gradient of the sum in the place of that of its ReLU, and that of the data, for some of E pairs."""
    e, w = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None], tl.arange(0, WIDTH)[None, :]
    inside = (e < E) & (w < W)
    is_kept = tl.load(first + e * W + w, mask=inside, other=0) > 0
    passed = tl.where(is_kept, tl.load(gradient + e * W + w, mask=inside, other=0).to(COMPUTE), 0)
    tl.store(gradient + e * W + w, passed, mask=inside)
    for f in range(F):
        of_feature = passed * tl.load(weight + w * F + f, mask=w < W, other=0).to(COMPUTE)
        tl.store(grad_data + e * F + f, tl.sum(of_feature, 1)[:, None], mask=e < E)


@triton.jit
def _z(sender, x, x_weight, of_edges, graph, s, r, c, is_column, stride, N, C, K, COMPUTE: tl.constexpr):
    """``sender_s + We x_sr``, and what states of edges add to it, for some senders and columns, and receiver r."""
    pair, inside = (graph * N + s) * N + r, (s < N) & is_column
    total = tl.load(sender + (graph * N + s) * stride + c, mask=inside, other=0).to(COMPUTE)
    if of_edges is not None:
        total += tl.load(of_edges + pair * C + c, mask=inside, other=0).to(COMPUTE)
    for k in range(K):
        channel = tl.load(x + pair * K + k, mask=s < N, other=0).to(COMPUTE)
        total += channel * tl.load(x_weight + c * K + k, mask=is_column, other=0).to(COMPUTE)
    return total


@triton.jit
def _pair_logits(
    receiver,
    sender,
    weight,
    bias,
    x,
    x_weight,
    of_edges,
    logits,
    receiver_stride,
    sender_stride,
    B,
    N,
    P,
    H,
    Q,
    K,
    ROWS: tl.constexpr,
    WIDTH: tl.constexpr,
    OTHERS: tl.constexpr,
    COMPUTE: tl.constexpr,
):
    """Write the logits of the pairs of receiver r."""
    row = tl.program_id(0).to(tl.int64)
    graph, r = row // N, row % N
    h = tl.arange(0, WIDTH)[None, :]
    for p in range(P):
        c = p * H + h
        w = tl.load(weight + c, mask=h < H, other=0).to(COMPUTE)
        b = tl.load(bias + p).to(COMPUTE)
        first = tl.load(receiver + row * receiver_stride + c, mask=h < H, other=0).to(COMPUTE)
        for start in range(0, N, ROWS):
            s = start + tl.arange(0, ROWS)[:, None]
            z = _z(sender, x, x_weight, of_edges, graph, s, r, c, h < H, sender_stride, N, P * H + Q, K, COMPUTE)
            highest = tl.where((first > z) | (first != first), first, z)
            tl.store(logits + ((p * B + graph) * N + r) * N + s, tl.sum(w * highest, 1)[:, None] + b, mask=s < N)
    q = tl.arange(0, OTHERS)[None, :]
    c = P * H + q
    first = tl.load(receiver + row * receiver_stride + c, mask=q < Q, other=0).to(COMPUTE)
    for start in range(0, N, ROWS):
        s = start + tl.arange(0, ROWS)[:, None]
        z = _z(sender, x, x_weight, of_edges, graph, s, r, c, q < Q, sender_stride, N, P * H + Q, K, COMPUTE)
        tl.store(logits + (((P + q) * B + graph) * N + s) * N + r, first + z, mask=(s < N) & (q < Q))


@triton.jit
def _pair_logits_backward(
    gradient,
    receiver,
    sender,
    weight,
    x,
    x_weight,
    of_edges,
    grad_z,
    grad_receiver,
    grad_weight,
    grad_bias,
    receiver_stride,
    sender_stride,
    B,
    N,
    P,
    H,
    Q,
    K,
    ROWS: tl.constexpr,
    WIDTH: tl.constexpr,
    OTHERS: tl.constexpr,
    COMPUTE: tl.constexpr,
):
    """Write the gradients of z at receiver r, and r's parts in those of the receivers, w and b."""
    row = tl.program_id(0).to(tl.int64)
    graph, r = row // N, row % N
    h = tl.arange(0, WIDTH)[None, :]
    for p in range(P):
        c = p * H + h
        w = tl.load(weight + c, mask=h < H, other=0).to(COMPUTE)
        first = tl.load(receiver + row * receiver_stride + c, mask=h < H, other=0).to(COMPUTE)
        grad_first, grad_w, grad_b = tl.zeros((WIDTH,), COMPUTE), tl.zeros((WIDTH,), COMPUTE), tl.zeros((1,), COMPUTE)
        for start in range(0, N, ROWS):
            s = start + tl.arange(0, ROWS)[:, None]
            z = _z(sender, x, x_weight, of_edges, graph, s, r, c, h < H, sender_stride, N, P * H + Q, K, COMPUTE)
            g = tl.load(gradient + ((p * B + graph) * N + r) * N + s, mask=s < N, other=0).to(COMPUTE)
            passed = g * w
            of_first = tl.where(first > z, passed, tl.where(first < z, 0, 0.5 * passed))
            tl.store(grad_z + ((graph * N + s) * N + r) * (P * H + Q) + c, passed - of_first, mask=(s < N) & (h < H))
            grad_first += tl.sum(of_first, 0)
            grad_w += tl.sum(g * tl.where(first > z, first, z), 0)
            grad_b += tl.sum(g, 0)
        tl.store(grad_receiver + row * (P * H + Q) + c, grad_first[None, :], mask=h < H)
        tl.store(grad_weight + row * (P * H) + c, grad_w[None, :], mask=h < H)
        tl.store(grad_bias + row * P + p + tl.arange(0, 1), grad_b)
    q = tl.arange(0, OTHERS)[None, :]
    c = P * H + q
    total = tl.zeros((OTHERS,), COMPUTE)
    for start in range(0, N, ROWS):
        s = start + tl.arange(0, ROWS)[:, None]
        inside = (s < N) & (q < Q)
        g = tl.load(gradient + (((P + q) * B + graph) * N + s) * N + r, mask=inside, other=0).to(COMPUTE)
        tl.store(grad_z + ((graph * N + s) * N + r) * (P * H + Q) + c, g, mask=inside)
        total += tl.sum(g, 0)
    tl.store(grad_receiver + row * (P * H + Q) + c, total[None, :], mask=q < Q)
