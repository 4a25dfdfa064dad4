"""The maximum of messages along edges on a CPU: parts of the receivers on all cores, each part by loops."""
# Axes: N nodes, E edges, H hidden, K edge features.

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from nar.ops.border import differentiable_gradients, has_to_be_differentiable
from nar.ops.edge_max_message import loops
from nar.ops.edge_max_message.reference import Edges, plain_edge_max_message
from nar.ops.loops import TILE
from nar.ops.parallel import arrays, in_parallel, num_threads
from nar.ops.precision import alike


def edge_max_message(*arguments: Any) -> Tensor:
    """The maxima, [N, H], from the arguments of :func:`nar.ops.edge_max_message.edge_max_message`."""
    *tensors, edges = arguments
    given = (tensor.contiguous() for tensor in alike(*tensors))
    received: Tensor = _EdgeMaxMessage.apply(*given, edges)  # type: ignore[no-untyped-call]
    return received.to(tensors[1].dtype)


class _EdgeMaxMessage(torch.autograd.Function):
    """The maxima, and the gradients of all arguments but the edges."""

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Tensor:
        """The maxima."""
        *given, edges = arguments
        where = (edges.senders.contiguous(), edges.order, edges.ptr)
        received = torch.empty_like(given[1])
        winner = torch.empty_like(received, dtype=torch.int32)

        def compute(part: tuple[int, int]) -> None:
            loops.edge_max_message(*arrays(*given, *where), *part, TILE, *arrays(received, winner))

        in_parallel(compute, parts_of(edges.ptr))
        ctx.save_for_backward(*given, *where, winner, edges.receivers)
        return received

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients of all arguments."""
        *given, senders, order, ptr, winner, receivers = ctx.saved_tensors
        if has_to_be_differentiable(gradient):
            edges = Edges(senders, receivers, order, ptr)
            return differentiable_gradients(plain_edge_max_message, (*given, edges), gradient)
        sent, heard, edge, *weights = given
        gradient = gradient.contiguous()
        grad_sent, grad_heard, grad_edge = torch.zeros_like(sent), torch.empty_like(heard), torch.empty_like(edge)

        def compute(part: tuple[int, int]) -> tuple[slice, Tensor, list[Tensor]]:
            # Senders are anywhere, so threads cannot share their gradients; each has those from its first to its last.
            of_part = senders[ptr[part[0]] : ptr[part[1]]]
            some = slice(int(of_part.min()), int(of_part.max()) + 1) if len(of_part) else slice(0, 0)
            grad_some, grad_weights = torch.empty_like(sent[some]), [torch.empty_like(weight) for weight in weights]
            loops.edge_max_message_backward(
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
    """For each core the first receiver of its part and the one behind the last, with about equally many edges."""
    num_nodes, num_edges = len(ptr) - 1, int(ptr[-1])
    shares = torch.arange(1, num_threads, device=ptr.device) * num_edges // num_threads
    bounds = [0, *torch.searchsorted(ptr, shares).clamp(max=num_nodes).tolist(), num_nodes]
    return list(pairwise(bounds))
