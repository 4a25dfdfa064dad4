"""The maximum of messages between all pairs of nodes on a CPU: parts of a batch on all cores, each part by loops."""
# Axes: B graphs, S sender, R receiver, H hidden, K channels. What belongs to an edge is [B, S, R, ...].

import itertools
from typing import Any

import torch
from torch import Tensor

from nar.ops.border import differentiable_gradients, has_to_be_differentiable
from nar.ops.max_message import loops
from nar.ops.max_message.reference import plain_max_message
from nar.ops.parallel import Part, arrays, in_parallel, parts_of, summed
from nar.ops.precision import alike


def max_message(*arguments: Any) -> Tensor:
    """The maxima, [B, R, H], from the arguments of :func:`nar.ops.max_message.reference.plain_max_message`."""
    *tensors, is_heard, lowest = arguments
    given = (tensor.contiguous() for tensor in alike(*tensors))
    received: Tensor = _MaxMessage.apply(*given, is_heard, lowest)  # type: ignore[no-untyped-call]
    return received.to(tensors[1].dtype)


class _MaxMessage(torch.autograd.Function):
    """The maxima, and the gradients of all arguments."""

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Tensor:
        """The maxima."""
        *given, is_heard, lowest = arguments
        sent, heard, edge, edge_weight, weight_1, *others = given
        weights = [edge_weight.T.contiguous(), weight_1.T.contiguous(), *others]
        keeps = any(ctx.needs_input_grad)

        def compute(part: Part) -> tuple[Tensor, ...]:
            *features, hears = _operands(sent, heard, edge, is_heard, part)
            _, of_receivers, pairs = features
            second = pairs.new_empty(len(pairs), heard.shape[-1])
            received = torch.empty_like(of_receivers)
            winner = torch.empty_like(received, dtype=torch.int32)
            loops.max_message(*arrays(*features, *weights, hears), lowest, *arrays(second, received, winner))
            return (received, second, winner) if keeps else (received,)

        num_graphs, num_senders, num_receivers = edge.shape[:3]
        parts = parts_of(num_graphs, num_receivers, num_senders)
        results = in_parallel(compute, parts)
        received = torch.empty_like(heard)
        for part, (of_part, *_) in zip(parts, results, strict=True):
            received[part] = of_part
        if keeps:
            ctx.parts, ctx.lowest = parts, lowest
            ctx.save_for_backward(*given, is_heard, *weights[:2], *itertools.chain(*results))
        return received

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients of all arguments."""
        given, (is_heard, edge_weight, weight_1, *kept) = ctx.saved_tensors[:8], ctx.saved_tensors[8:]
        if has_to_be_differentiable(gradient):
            return differentiable_gradients(plain_max_message, (*given, is_heard, ctx.lowest), gradient)
        sent, heard, edge, _, _, bias_1, weight_2, bias_2 = given
        weights = [edge_weight, weight_1, bias_1, weight_2, bias_2]
        grad_heard, grad_edge = torch.empty_like(heard), torch.empty_like(edge)

        def compute(index: int) -> tuple[Tensor, ...]:
            graphs, receivers = part = ctx.parts[index]
            received, second, winner = kept[3 * index : 3 * index + 3]
            *features, hears = _operands(sent, heard, edge, is_heard, part)
            given = (gradient[part].contiguous(), *features, edge_weight, weight_1, weight_2, bias_2, hears)
            grad_features = [torch.zeros_like(feature) for feature in features]
            grad_weights = [torch.zeros_like(weight) for weight in weights]
            written = (*grad_features, *grad_weights)
            loops.max_message_backward(*arrays(*given, second, received, winner, *written))
            of_senders, grad_heard[part], of_pairs = grad_features
            grad_edge[graphs, :, receivers] = of_pairs.view_as(grad_edge[graphs, :, receivers])
            return of_senders, *grad_weights  # to which other parts add theirs

        gradients = in_parallel(compute, range(len(ctx.parts)))
        grad_sent, grad_edge_weight, grad_weight_1, *grad_weights = summed(sent, ctx.parts, gradients)
        return grad_sent, grad_heard, grad_edge, grad_edge_weight.T, grad_weight_1.T, *grad_weights, None, None


def _operands(sent: Tensor, heard: Tensor, edge: Tensor, is_heard: Tensor | None, part: Part) -> tuple[Tensor, ...]:
    """A part of each argument, contiguous; of `edge` and `is_heard` with one row for each pair."""
    graphs, receivers = part
    pairs = edge[graphs, :, receivers].flatten(0, 2).contiguous()
    hears = edge.new_empty(0, dtype=torch.bool) if is_heard is None else is_heard[graphs, :, receivers].flatten()
    return sent[graphs], heard[graphs, receivers].contiguous(), pairs, hears
