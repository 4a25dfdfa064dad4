"""The maximum of messages that a small network makes of every edge, without keeping the messages."""
# Axes: N nodes, E edges, H hidden, K edge features.

from importlib.util import find_spec
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from nar.ops.border import check_index, check_shapes, differentiable_gradients, has_to_be_differentiable, is_watched
from nar.ops.edge_max_message import loops as kernels
from nar.ops.edge_max_message.reference import Edges, plain_max_message
from nar.ops.kernels import TILE
from nar.ops.parallel import arrays, in_parallel, num_threads
from nar.ops.precision import alike
from nar.ops.scatter import starts

HAS_TRITON = find_spec("triton") is not None


def by_receiver(edge_index: Tensor, num_nodes: int, num_senders: int | None = None) -> Edges:
    """The edges in the order of their receivers and, of one receiver, in that in which they are given.

    Args:
        edge_index: Senders and receivers, [2, E].
        num_nodes: N, of the receivers.
        num_senders: Where the senders are other nodes, how many; else None.

    Raises:
        ValueError: If it is no edge_index [2, E].
        TypeError: If it is not of whole numbers.
        IndexError: If there is no such sender or receiver.
    """
    if edge_index.dim() != 2 or len(edge_index) != 2:
        raise ValueError(f"expected edge_index [2, E], given {list(edge_index.shape)}")
    if num_senders is None or num_senders == num_nodes:
        senders, receivers = check_index("max_message", "edge_index", edge_index, num_nodes)
    else:
        senders = check_index("max_message", "senders", edge_index[0], num_senders)
        receivers = check_index("max_message", "receivers", edge_index[1], num_nodes)
    ptr = starts(receivers, num_nodes)
    if is_watched(edge_index) or (receivers[1:] < receivers[:-1]).any():
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
        sent: [M, H]; M is N, unless the senders are other nodes.
        heard: [N, H].
        edge: In the order in which edges are given, [E, K].
        edge_weight: We, [H, K].
        weight_1: W1, [H, H].
        bias_1: b1, [H].
        weight_2: W2, [H, H].
        bias_2: b2, [H].
        edges: Who hears whom.
    """
    senders, receivers, order, ptr = edges
    sizes = check_shapes(
        "max_message",
        sent=(sent, "M H"),
        heard=(heard, "N H"),
        edge=(edge, "E K"),
        edge_weight=(edge_weight, "H K"),
        weight_1=(weight_1, "H H"),
        bias_1=(bias_1, "H"),
        weight_2=(weight_2, "H H"),
        bias_2=(bias_2, "H"),
        senders=(senders, "E", torch.int64),
        receivers=(receivers, "E", torch.int64),
        order=(order, "E", torch.int64),
    )
    if ptr.shape != (sizes["N"] + 1,):
        raise ValueError(f"max_message: expected edges of {sizes['N']} receivers, given those of {len(ptr) - 1}")
    check_index("max_message", "senders", senders, sizes["M"])
    arguments = alike(sent, heard, edge, edge_weight, weight_1, bias_1, weight_2, bias_2)
    is_plain = is_watched(*arguments, *edges) or 0 in (len(order), sizes["H"])
    if sent.is_cuda and HAS_TRITON and not is_plain:
        from nar.ops.edge_max_message.triton import FusedMaxMessage, fits

        if fits(arguments[1], arguments[2]):
            given = (argument.contiguous() for argument in arguments)
            fused: Tensor = FusedMaxMessage.apply(*given, edges)  # type: ignore[no-untyped-call]
            return fused.to(heard.dtype)
    if is_plain or not sent.is_cpu:
        return plain_max_message(sent, heard, edge, edge_weight, weight_1, bias_1, weight_2, bias_2, edges)
    given = (argument.contiguous() for argument in arguments)
    received: Tensor = MaxMessage.apply(*given, edges)  # type: ignore[no-untyped-call]
    return received.to(heard.dtype)


class MaxMessage(torch.autograd.Function):
    """See :func:`max_message`."""

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Tensor:
        """The maxima."""
        *given, edges = arguments
        where = (edges.senders.contiguous(), edges.order, edges.ptr)
        received = torch.empty_like(given[1])
        winner = torch.empty_like(received, dtype=torch.int32)

        def compute(part: tuple[int, int]) -> None:
            kernels.max_message(*arrays(*given, *where), *part, TILE, *arrays(received, winner))

        in_parallel(compute, parts_of(edges.ptr))
        ctx.save_for_backward(*given, *where, winner, edges.receivers)
        return received

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients."""
        *given, senders, order, ptr, winner, receivers = ctx.saved_tensors
        if has_to_be_differentiable(gradient):
            edges = Edges(senders, receivers, order, ptr)
            return differentiable_gradients(plain_max_message, (*given, edges), gradient)
        sent, heard, edge, *weights = given
        gradient = gradient.contiguous()
        grad_sent, grad_heard, grad_edge = torch.zeros_like(sent), torch.empty_like(heard), torch.empty_like(edge)

        def compute(part: tuple[int, int]) -> tuple[slice, Tensor, list[Tensor]]:
            of_part = senders[ptr[part[0]] : ptr[part[1]]]
            some = slice(int(of_part.min()), int(of_part.max()) + 1) if len(of_part) else slice(0, 0)
            grad_some, grad_weights = torch.empty_like(sent[some]), [torch.empty_like(weight) for weight in weights]
            kernels.max_message_backward(
                *arrays(gradient, *given, senders, order, ptr),
                *(*part, TILE, winner.numpy(), some.start),
                *arrays(grad_some, grad_heard, grad_edge, *grad_weights),
            )
            return some, grad_some, grad_weights

        grad_weights = [torch.zeros_like(weight) for weight in weights]
        for some, grad_some, of_part in in_parallel(compute, parts_of(ptr)):
            grad_sent[some] += grad_some
            for total, part in zip(grad_weights, of_part, strict=True):
                total += part
        return grad_sent, grad_heard, grad_edge, *grad_weights, None


def parts_of(ptr: Tensor) -> list[tuple[int, int]]:
    """Receivers from one to another for each core, with about equally many edges."""
    num_nodes, num_edges = len(ptr) - 1, int(ptr[-1])
    shares = torch.arange(1, num_threads, device=ptr.device) * num_edges // num_threads
    bounds = [0, *torch.searchsorted(ptr, shares).clamp(max=num_nodes).tolist(), num_nodes]
    return list(pairwise(bounds))
