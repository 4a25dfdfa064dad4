"""The maximum of messages that a small network makes of every pair of nodes, without keeping the messages."""
# Axes: B graphs, S sender, R receiver, H hidden, K channels. What belongs to an edge is [B, S, R, ...].

from typing import Any

import torch
from torch import Tensor

from nar.ops import kernels
from nar.ops.border import check_shapes, differentiable_gradients, has_to_be_differentiable, is_watched
from nar.ops.device import is_for_triton
from nar.ops.max_message.reference import UNHEARD, plain_max_message
from nar.ops.parallel import Part, arrays, in_parallel, parts_of, summed
from nar.ops.precision import alike


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

    On a CPU it is computed for some pairs at a time, and of what is as large as pairs times H the gradient keeps
    ``ReLU(W1 …)`` alone. Of a maximum that is one sender's only this sender's gradient is computed; equal ones share it
    evenly.

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
    check_shapes(
        "max_message",
        sent=(sent, "B S H"),
        heard=(heard, "B R H"),
        edge=(edge, "B S R K"),
        edge_weight=(edge_weight, "H K"),
        weight_1=(weight_1, "H H"),
        bias_1=(bias_1, "H"),
        weight_2=(weight_2, "H H"),
        bias_2=(bias_2, "H"),
        is_heard=(is_heard, "B S R", torch.bool),
    )
    lowest = max(UNHEARD, torch.finfo(heard.dtype).min)  # half precision does not go as low
    given = (sent, heard, edge, edge_weight, weight_1, bias_1, weight_2, bias_2)
    is_plain = is_watched(*given, is_heard) or 0 in (sent.numel(), heard.numel())
    if is_for_triton(sent) and not is_plain:
        from nar.ops.max_message import triton

        return triton.max_message(*given, is_heard, lowest)
    if is_plain or not sent.is_cpu:
        return plain_max_message(*given, is_heard, lowest)
    arguments = (argument.contiguous() for argument in alike(*given))
    received: Tensor = MaxMessage.apply(*arguments, is_heard, lowest)  # type: ignore[no-untyped-call]
    return received.to(heard.dtype)


class MaxMessage(torch.autograd.Function):
    """See :func:`max_message`."""

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Tensor:
        """The maxima."""
        *given, is_heard, lowest = arguments
        sent, heard, edge, edge_weight, weight_1, *weights = given
        weights = [edge_weight.T.contiguous(), weight_1.T.contiguous(), *weights]

        def compute(part: Part) -> tuple[Tensor, ...]:
            some = _part(sent, heard, edge, is_heard, part)
            second = sent.new_empty(len(some[2]), heard.shape[-1])
            received = torch.empty_like(some[1])
            sender = torch.empty_like(received, dtype=torch.int32)
            kernels.max_message(*arrays(*some[:3], *weights, some[3]), lowest, *arrays(second, received, sender))
            return second, received, sender

        num_graphs, num_senders, num_receivers = edge.shape[:3]
        parts = parts_of(num_graphs, num_receivers, num_senders)
        keeps = any(ctx.needs_input_grad)
        made = in_parallel(lambda part: compute(part) if keeps else compute(part)[1:2], parts)
        received = torch.empty_like(heard)
        for part, of_part in zip(parts, made, strict=True):
            received[part] = of_part[1 if keeps else 0]
        if keeps:
            ctx.parts, ctx.lowest = parts, lowest
            kept = [tensor for of_part in made for tensor in of_part]
            ctx.save_for_backward(*given, is_heard, *weights[:2], *kept)
        return received

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients."""
        given, (is_heard, edge_weight, weight_1, *kept) = ctx.saved_tensors[:8], ctx.saved_tensors[8:]
        if has_to_be_differentiable(gradient):
            return differentiable_gradients(plain_max_message, (*given, is_heard, ctx.lowest), gradient)
        sent, heard, edge, _, _, bias_1, weight_2, bias_2 = given
        weights = [edge_weight, weight_1, bias_1, weight_2, bias_2]
        grad_heard, grad_edge = torch.empty_like(heard), torch.empty_like(edge)

        def compute(index: int) -> tuple[Tensor, ...]:
            part = ctx.parts[index]
            *some, is_some_heard = _part(sent, heard, edge, is_heard, part)
            given = (gradient[part].contiguous(), *some, edge_weight, weight_1, weight_2, bias_2, is_some_heard)
            grad_some = [torch.zeros_like(tensor) for tensor in some]
            grad_weights = [torch.zeros_like(weight) for weight in weights]
            kernels.max_message_backward(*arrays(*given, *kept[3 * index : 3 * index + 3], *grad_some, *grad_weights))
            graphs, receivers = part
            grad_heard[part] = grad_some[1]
            grad_edge[graphs, :, receivers] = grad_some[2].view_as(grad_edge[graphs, :, receivers])
            return grad_some[0], *grad_weights

        gradients = in_parallel(compute, range(len(ctx.parts)))
        grad_sent, grad_edge_weight, grad_weight_1, *grad_weights = summed(sent, ctx.parts, gradients)
        return grad_sent, grad_heard, grad_edge, grad_edge_weight.T, grad_weight_1.T, *grad_weights, None, None


def _part(sent: Tensor, heard: Tensor, edge: Tensor, is_heard: Tensor | None, part: Part) -> tuple[Tensor, ...]:
    """What a part needs of these, each contiguous; edges as rows."""
    graphs, receivers = part
    pairs = edge[graphs, :, receivers].flatten(0, 2).contiguous()
    hears = edge.new_empty(0, dtype=torch.bool) if is_heard is None else is_heard[graphs, :, receivers].flatten()
    return sent[graphs], heard[graphs, receivers].contiguous(), pairs, hears
