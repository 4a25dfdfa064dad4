"""The maximum of messages that a small network makes of every pair of nodes, without keeping the messages."""
# Axes: B graphs, S sender, R receiver, H hidden, K channels. What belongs to an edge is [B, S, R, ...].

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from nar import kernels
from nar.parallel import arrays, in_parallel
from nar.precision import alike

UNHEARD = -1e6  # stands for the message of a sender that is not heard
ROWS = 1024  # pairs whose messages are made at a time: they fit into a core's cache
ROWS_ELSEWHERE = 2**20  # on a GPU, where it is the memory that they have to fit into

Part = tuple[slice, slice]  # some graphs, some receivers


def max_message(
    sent: Tensor,
    heard: Tensor,
    edge: Tensor,
    edge_weight: Tensor,
    weight_1: Tensor,
    bias_1: Tensor,
    weight_2: Tensor,
    bias_2: Tensor,
    is_heard: Tensor | None = None,
) -> Tensor:
    """``max_i W2 ReLU(W1 ReLU(sent_i + heard_j + We edge_ij) + b1) + b2`` over all senders i that j hears, [B, R, H].

    It is computed for some pairs at a time, and of what these need the gradient keeps ``ReLU(W1 …)`` alone. Where a
    channel's maximum is one sender's, only this sender's gradient is computed; equal ones share it evenly.

    Args:
        sent: [B, S, H].
        heard: [B, R, H].
        edge: [B, S, R, K]; of few channels, if their linear map to H features is folded into `edge_weight`.
        edge_weight: We, [H, K].
        weight_1: W1, [H, H].
        bias_1: b1, [H].
        weight_2: W2, [H, H].
        bias_2: b2, [H].
        is_heard: True where j hears i, [B, S, R]; None if every node hears all. Who is not heard counts as -1e6 (or as
            the lowest number that there is, where that is more) and gets no gradient.
    """
    arguments = alike(sent, heard, edge, edge_weight, weight_1, bias_1, weight_2, bias_2)
    lowest = max(UNHEARD, torch.finfo(heard.dtype).min)  # half precision does not go as low
    with torch.autocast(sent.device.type, enabled=False):
        received: Tensor = MaxMessage.apply(*arguments, is_heard, lowest)  # type: ignore[no-untyped-call]
    return received.to(heard.dtype)


class MaxMessage(torch.autograd.Function):
    """See :func:`max_message`."""

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Tensor:
        """The maxima."""
        *given, is_heard, lowest = arguments
        sent, heard, edge, edge_weight, weight_1, bias_1, weight_2, bias_2 = given
        received = torch.empty_like(heard)
        sender = torch.empty_like(heard, dtype=torch.int16)

        def compute(part: Part) -> tuple[Tensor, bool]:
            graphs, receivers = part
            first = _first(sent, heard, edge, edge_weight, part)
            rows = torch.addmm(bias_1, first.flatten(0, 2), weight_1.T).relu_()
            hears = None if is_heard is None else is_heard[graphs, :, receivers, None]
            messages = _messages(rows, bias_2, weight_2, hears, lowest, first)
            return rows, _highest(messages, received[graphs, receivers], sender[graphs, receivers])

        parts = _parts(edge)
        if any(ctx.needs_input_grad):
            seconds, ctx.shared = zip(*in_parallel(compute, parts), strict=True)
            ctx.parts, ctx.lowest = parts, lowest
            ctx.save_for_backward(*given, is_heard, received, sender, *seconds)
        else:
            in_parallel(lambda part: compute(part)[1], parts)
        return received

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients."""
        sent, heard, edge, edge_weight, weight_1, _, weight_2, bias_2, is_heard, *made = ctx.saved_tensors
        received, sender, *seconds = made
        to_heard, to_edge = torch.empty_like(heard), torch.empty_like(edge)

        def compute(of_part: tuple[Part, Tensor, bool]) -> tuple[Tensor, ...]:
            part, rows, shared = of_part
            graphs, receivers = part
            first = _first(sent, heard, edge, edge_weight, part)
            at = gradient[graphs, receivers].contiguous()
            hears = None if is_heard is None else is_heard[graphs, :, receivers, None]
            if shared:
                messages = _messages(rows, bias_2, weight_2, hears, ctx.lowest, torch.empty_like(first))
                wins = messages == received[graphs, None, receivers]
                to_messages = wins * (at / wins.sum(dim=1))[:, None]
                if hears is not None:
                    to_messages *= hears
                to_messages = to_messages.flatten(0, 2)
                to_rows = to_messages @ weight_2
                to_weight_2, to_bias_2 = to_messages.T @ rows, to_messages.sum(dim=0)
            else:
                whose = sender[graphs, receivers]
                if hears is not None:
                    at *= hears.squeeze(-1).mT.gather(2, whose.long())
                to_rows, to_weight_2 = torch.zeros_like(first), torch.zeros_like(weight_2)
                given = (at, whose, rows.view_as(first), weight_2, to_rows, to_weight_2)
                kernels.highest_backward(*arrays(*given))
                to_rows, to_bias_2 = to_rows.flatten(0, 2), at.sum(dim=(0, 1))
            to_rows = torch.ops.aten.threshold_backward(to_rows, rows, 0)
            to_weight_1, to_bias_1 = to_rows.T @ first.flatten(0, 2), to_rows.sum(dim=0)
            to_first = torch.ops.aten.threshold_backward(to_rows @ weight_1, first.flatten(0, 2), 0)
            pairs = edge[graphs, :, receivers]
            to_edge_weight = to_first.T @ pairs.flatten(0, 2)
            to_edge[graphs, :, receivers] = (to_first @ edge_weight).view_as(pairs)
            to_first = to_first.view_as(first)
            to_heard[graphs, receivers] = to_first.sum(dim=1)
            return to_first.sum(dim=2), to_edge_weight, to_weight_1, to_bias_1, to_weight_2, to_bias_2

        gradients = in_parallel(compute, list(zip(ctx.parts, seconds, ctx.shared, strict=True)))
        to_sent = torch.zeros_like(sent)
        for (graphs, _), (to_senders, *_) in zip(ctx.parts, gradients, strict=True):
            to_sent[graphs] += to_senders
        to_weights = (torch.stack(of_parts).sum(dim=0) for of_parts in list(zip(*gradients, strict=True))[1:])
        return to_sent, to_heard, to_edge, *to_weights, None, None


def _parts(edge: Tensor) -> list[Part]:
    """Graphs and receivers with so many pairs as are computed at a time."""
    num_graphs, num_senders, num_receivers = edge.shape[:3]
    rows = ROWS if edge.is_cpu else ROWS_ELSEWHERE
    at_once, step = max(1, rows // (num_senders * num_receivers)), max(1, rows // num_senders)
    return [
        (slice(graph, graph + at_once), slice(receiver, receiver + step))
        for graph in range(0, num_graphs, at_once)
        for receiver in range(0, num_receivers, step)
    ]


def _first(sent: Tensor, heard: Tensor, edge: Tensor, edge_weight: Tensor, part: Part) -> Tensor:
    """``ReLU(sent_i + heard_j + We edge_ij)`` of some graphs and receivers, [b, S, r, H]."""
    graphs, receivers = part
    pairs = edge[graphs, :, receivers]
    first = (pairs.flatten(0, 2) @ edge_weight.T).view(*pairs.shape[:3], -1)
    first += sent[graphs, :, None]
    first += heard[graphs, None, receivers]
    return first.relu_()


def _messages(rows: Tensor, bias: Tensor, weight: Tensor, hears: Tensor | None, lowest: float, out: Tensor) -> Tensor:
    """``W2 rows + b2`` where a sender is heard, else `lowest`, written to `out`, [b, S, r, H]."""
    torch.addmm(bias, rows, weight.T, out=out.view_as(rows))
    return out if hears is None else out.masked_fill_(~hears, lowest)


def _highest(messages: Tensor, received: Tensor, sender: Tensor) -> bool:
    """Write the maxima [b, r, H] over senders and whose they are; whether that cannot be told of some."""
    if not messages.is_cpu:
        torch.amax(messages, dim=1, out=received)
        return True
    shared: bool = kernels.highest(*arrays(messages, received, sender))
    return shared
