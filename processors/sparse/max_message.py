"""The maximum of messages that a small network makes of every edge, without keeping the messages."""
# Axes: N nodes, E edges, H hidden, K edge features.

from importlib.util import find_spec
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear

from nar.kernels import TILE
from nar.parallel import arrays, in_parallel, num_threads
from nar.precision import alike
from nar.processors.sparse import kernels
from nar.scatter import scatter, starts

HAS_TRITON = find_spec("triton") is not None


class Edges(NamedTuple):
    """Edges in the order of their receivers.

    Attributes:
        senders: [E].
        receivers: In ascending order, [E].
        order: Where each edge is among those that were given, [E].
        ptr: Where each receiver's edges begin, and E, [N + 1].
    """

    senders: Tensor
    receivers: Tensor
    order: Tensor
    ptr: Tensor


def by_receiver(edge_index: Tensor, num_nodes: int) -> Edges:
    """The edges [2, E] in the order of their receivers and, of one receiver, in that in which they are given."""
    senders, receivers = edge_index
    ptr = starts(receivers, num_nodes)
    if torch.compiler.is_compiling() or (receivers[1:] < receivers[:-1]).any():
        receivers, order = receivers.sort(stable=True)
        return Edges(senders[order], receivers, order, ptr)
    return Edges(senders, receivers, torch.arange(len(senders), device=senders.device), ptr)


def max_message(
    sent: Tensor,
    heard: Tensor,
    edge: Tensor,
    edge_weight: Tensor,
    weight_1: Tensor,
    bias_1: Tensor,
    weight_2: Tensor,
    bias_2: Tensor,
    edges: Edges,
) -> Tensor:
    """``max_i W2 ReLU(W1 ReLU(sent_i + heard_j + We edge_ij) + b1) + b2`` over the senders i of j, [N, H]; 0 without.

    It is computed for some edges at a time, and the gradient computes them again: nothing that is as large as edges
    times H is kept, or ever there (but in what torch compiles, and on a GPU without Triton or with too little memory).
    On a CPU only the gradient of the edge that has the maximum is computed. Equal messages share it evenly.

    Args:
        sent: [N, H].
        heard: [N, H].
        edge: In the order in which edges are given, [E, K].
        edge_weight: We, [H, K].
        weight_1: W1, [H, H].
        bias_1: b1, [H].
        weight_2: W2, [H, H].
        bias_2: b2, [H].
        edges: Who hears whom.
    """
    arguments = alike(sent, heard, edge, edge_weight, weight_1, bias_1, weight_2, bias_2)
    if sent.is_cuda and HAS_TRITON and not torch.compiler.is_compiling():
        from nar.processors.sparse.max_message_triton import FusedMaxMessage, fits

        if fits(arguments[1], arguments[2]):
            fused: Tensor = FusedMaxMessage.apply(*arguments, edges)  # type: ignore[no-untyped-call]
            return fused.to(heard.dtype)
    if not sent.is_cpu or torch.compiler.is_compiling():
        first = (sent[edges.senders] + heard[edges.receivers] + linear(edge[edges.order], edge_weight)).relu()
        messages = linear(linear(first, weight_1, bias_1).relu(), weight_2, bias_2)
        return scatter(messages, edges.receivers, len(heard), "max", ptr=edges.ptr)
    received: Tensor = MaxMessage.apply(*arguments, edges)  # type: ignore[no-untyped-call]
    return received.to(heard.dtype)


class MaxMessage(torch.autograd.Function):
    """See :func:`max_message`."""

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Tensor:
        """The maxima."""
        *given, edges = arguments
        given = [argument.contiguous() for argument in given]
        where = (edges.senders.contiguous(), edges.order, edges.ptr)
        received = torch.empty_like(given[1])
        winner = torch.empty_like(received, dtype=torch.int32)

        def compute(part: tuple[int, int]) -> None:
            kernels.max_message(*arrays(*given, *where), *part, TILE, *arrays(received, winner))

        in_parallel(compute, parts_of(edges.ptr))
        ctx.save_for_backward(*given, *where, winner)
        return received

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients."""
        *given, senders, order, ptr, winner = ctx.saved_tensors
        sent, heard, edge, *weights = given
        gradient = gradient.contiguous()
        to_sent, to_heard, to_edge = torch.zeros_like(sent), torch.empty_like(heard), torch.empty_like(edge)

        def compute(part: tuple[int, int]) -> tuple[slice, Tensor, list[Tensor]]:
            of_part = senders[ptr[part[0]] : ptr[part[1]]]
            some = slice(int(of_part.min()), int(of_part.max()) + 1) if len(of_part) else slice(0, 0)
            to_some, to_weights = torch.empty_like(sent[some]), [torch.empty_like(weight) for weight in weights]
            kernels.max_message_backward(
                *arrays(gradient, *given, senders, order, ptr),
                *(*part, TILE, winner.numpy(), some.start),
                *arrays(to_some, to_heard, to_edge, *to_weights),
            )
            return some, to_some, to_weights

        to_weights = [torch.zeros_like(weight) for weight in weights]
        for some, to_some, of_part in in_parallel(compute, parts_of(ptr)):
            to_sent[some] += to_some
            for total, part in zip(to_weights, of_part, strict=True):
                total += part
        return to_sent, to_heard, to_edge, *to_weights, None


def parts_of(ptr: Tensor) -> list[tuple[int, int]]:
    """Receivers from one to another for each core, with about equally many edges."""
    num_nodes, num_edges = len(ptr) - 1, int(ptr[-1])
    shares = torch.arange(1, num_threads, device=ptr.device) * num_edges // num_threads
    bounds = [0, *torch.searchsorted(ptr, shares).clamp(max=num_nodes).tolist(), num_nodes]
    return list(pairwise(bounds))
