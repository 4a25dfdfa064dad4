"""The maximum of messages along edges, in one kernel for GPUs; see :mod:`nar.ops.edge_max_message`.

A program gathers what one receiver hears, some edges at a time, takes them through both layers and keeps the maximum:
nothing that is as large as edges times H is ever written. The gradient leaves its products of matrices to cuBLAS, for
some receivers at a time, and computes their messages again.
"""
# Axes: N nodes, E edges in the order of their receivers, H hidden, K edge features.

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from nar.ops.border import differentiable_gradients, has_to_be_differentiable
from nar.ops.edge_max_message.reference import Edges, plain_edge_max_message
from nar.ops.max_message.reference import plain_messages
from nar.ops.precision import alike
from nar.ops.scatter import scatter

_EDGES = 16  # that a program takes at a time: the least that a product of matrices has
EDGES_BACKWARD = 2**15  # whose messages are there at a time, unless one receiver has more


def fits(*arguments: Tensor) -> bool:
    """Whether weights fit beside one another into the memory that a program's threads share; in float32 alone."""
    _, heard, edge, *_ = alike(*arguments)
    width, num_features = _padded(heard.shape[1]), _padded(edge.shape[1])
    needed = 4 * width * (2 * width + num_features + _EDGES)
    properties: Any = torch.cuda.get_device_properties(heard.device)
    return bool(heard.dtype == torch.float32 and needed <= properties.shared_memory_per_block_optin)


def edge_max_message(*arguments: Any) -> Tensor:
    """The maxima, [N, H], from the arguments of :func:`nar.ops.edge_max_message.edge_max_message`."""
    *tensors, edges = arguments
    given = (tensor.contiguous() for tensor in alike(*tensors))
    received: Tensor = _EdgeMaxMessage.apply(*given, edges)
    return received.to(tensors[1].dtype)


class _EdgeMaxMessage(torch.autograd.Function):
    """The maxima, and the gradients of all arguments but the edges, of whose messages some are computed at a time."""

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Tensor:
        """The maxima."""
        *given, edges = arguments
        sent, heard, edge, edge_weight, *layers = given
        received = torch.empty_like(heard)
        (num_nodes, width), num_features = heard.shape, edge.shape[1]
        precision = "tf32" if torch.backends.cuda.matmul.allow_tf32 else "ieee"
        _edge_max_message[(num_nodes,)](
            *(sent, heard, edge, edge_weight, *layers, edges.senders, edges.order, edges.ptr, received),
            *(width, num_features),
            WIDTH=_padded(width),
            FEATURES=_padded(num_features),
            EDGES=_EDGES,
            PRECISION=precision,
            num_stages=1,
        )
        ctx.save_for_backward(*given, *edges)
        return received

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients of all arguments."""
        if has_to_be_differentiable(gradient):
            given, edges = ctx.saved_tensors[:8], Edges(*ctx.saved_tensors[8:])
            return differentiable_gradients(plain_edge_max_message, (*given, edges), gradient)
        sent, heard, edge, *weights = ctx.saved_tensors[:8]
        senders, receivers, order, ptr = ctx.saved_tensors[8:]
        totals = [torch.zeros_like(x) for x in (sent, heard, edge, *weights)]
        for begin, end in _parts(ptr.tolist()):
            some = slice(int(ptr[begin]), int(ptr[end]))
            with torch.enable_grad():
                nodes = [x.detach().requires_grad_() for x in (sent[senders[some]], heard[begin:end])]
                rows, *layers = (x.detach().requires_grad_() for x in (edge[order[some]], *weights))
                among = receivers[some] - begin
                messages = plain_messages(nodes[0], nodes[1].index_select(0, among), rows, *layers)
                received = scatter(messages, among, end - begin, "max")
            found = torch.autograd.grad(received, [*nodes, rows, *layers], gradient[begin:end])
            totals[0].index_add_(0, senders[some], found[0])
            totals[1][begin:end] = found[1]
            totals[2][order[some]] = found[2]
            for total, of_part in zip(totals[3:], found[3:], strict=True):
                total += of_part
        return *totals, None


def _padded(width: int) -> int:
    """A power of two that holds a width and that the kernel can multiply matrices of; 0 for none."""
    return max(16, triton.next_power_of_2(width)) if width else 0


def _parts(ptr: list[int]) -> list[tuple[int, int]]:
    """The first receiver of each part and the one behind its last; a part's messages are computed again at a time."""
    bounds = [0]
    for receiver in range(1, len(ptr) - 1):
        if ptr[receiver + 1] - ptr[bounds[-1]] > EDGES_BACKWARD:
            bounds.append(receiver)
    return list(zip(bounds, [*bounds[1:], len(ptr) - 1], strict=True))


@triton.jit
def _edge_max_message(
    sent,
    heard,
    edge,
    edge_weight,
    weight_1,
    bias_1,
    weight_2,
    bias_2,
    senders,
    order,
    ptr,
    received,
    H,
    K,
    WIDTH: tl.constexpr,
    FEATURES: tl.constexpr,
    EDGES: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Write the maximum of the messages to receiver r; 0 if there are none."""
    # Products take both weights whole, from the memory that a program's threads share: hence `fits`.
    r = tl.program_id(0).to(tl.int64)
    h, other = tl.arange(0, WIDTH), tl.arange(0, WIDTH)[:, None]
    inside = h < H
    transposed, square = h[None, :] * H + other, (h[None, :] < H) & (other < H)
    of_receiver = tl.load(heard + r * H + h, mask=inside, other=0)
    begin, end = tl.load(ptr + r), tl.load(ptr + r + 1)
    best = tl.full((WIDTH,), float("-inf"), of_receiver.dtype)
    for start in range(begin, end, EDGES):
        e = start + tl.arange(0, EDGES)
        there = e < end
        s = tl.load(senders + e, mask=there, other=0)
        shown = there[:, None] & inside[None, :]
        first = tl.load(sent + s[:, None] * H + h[None, :], mask=shown, other=0) + of_receiver[None, :]
        if FEATURES > 0:
            k = tl.arange(0, FEATURES)
            row = tl.load(order + e, mask=there, other=0)
            features = tl.load(edge + row[:, None] * K + k[None, :], mask=there[:, None] & (k < K)[None, :], other=0)
            weight = tl.load(
                edge_weight + h[None, :] * K + k[:, None], mask=inside[None, :] & (k < K)[:, None], other=0
            )
            first += tl.dot(features, weight, input_precision=PRECISION).to(first.dtype)
        first = tl.where(first < 0, 0, first)
        second = tl.dot(first, tl.load(weight_1 + transposed, mask=square, other=0), input_precision=PRECISION)
        second += tl.load(bias_1 + h, mask=inside, other=0)[None, :]
        second = tl.where(second < 0, 0, second).to(first.dtype)
        messages = tl.dot(second, tl.load(weight_2 + transposed, mask=square, other=0), input_precision=PRECISION)
        messages += tl.load(bias_2 + h, mask=inside, other=0)[None, :]
        top = tl.max(tl.where(there[:, None], messages, float("-inf")), 0).to(best.dtype)
        best = tl.where((top > best) | (top != top), top, best)
    tl.store(received + r * H + h, tl.where(begin == end, 0, best), mask=inside)
