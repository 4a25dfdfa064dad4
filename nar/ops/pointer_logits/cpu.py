"""Logits of pointers on a CPU: parts of a batch on all cores, each part by loops."""
# Axes: B graphs, N nodes, S sender, R receiver, H hidden, M rows. What belongs to an edge is [B, S, R, ...].

from typing import Any

import torch
from torch import Tensor

from nar.ops.border import differentiable_gradients, has_to_be_differentiable
from nar.ops.parallel import Part, arrays, in_parallel, parts_of, summed
from nar.ops.pointer_logits import loops
from nar.ops.pointer_logits.reference import plain_edge_logits, plain_product_logits
from nar.ops.precision import alike


def edge_logits(*arguments: Tensor) -> Tensor:
    """The logits [B, S, R] from the arguments of :func:`nar.ops.pointer_logits.reference.plain_edge_logits`."""
    given = (argument.contiguous() for argument in alike(*arguments))
    logits: Tensor = _EdgeLogits.apply(*given)  # type: ignore[no-untyped-call]
    return logits.to(arguments[0].dtype)


def product_logits(source: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """The logits [B, M, N] from source [B, M, H], target [B, N, H] and weight [H]."""
    given = (argument.contiguous() for argument in alike(source, target, weight))
    logits: Tensor = _ProductLogits.apply(*given)  # type: ignore[no-untyped-call]
    return logits.to(source.dtype)


class _EdgeLogits(torch.autograd.Function):
    """The logits and the gradients of all arguments; of what is as large as edges times H the second one is held."""

    @staticmethod
    def forward(ctx: Any, *arguments: Tensor) -> Tensor:
        """The logits."""
        source, target, weight, x, x_weight, *of_states = arguments
        if not of_states:
            of_states = [x.new_empty(shape) for shape in ((0, 0), (0, 0), (0,), (0, 0))]
        data, first_weight, first_bias, states_weight = of_states
        x_weight = x_weight.T.contiguous()
        weights = (first_weight.T.contiguous(), first_bias, states_weight.T.contiguous())
        logits = x.new_empty(x.shape[:3])
        keeps = any(ctx.needs_input_grad)

        def compute(part: Part) -> Tensor | None:
            graphs, _ = part
            pairs = _rows(x, part)
            given = (source[graphs], target[part], weight, pairs, x_weight, _rows(data, part), *weights)
            second = pairs.new_empty(len(pairs), source.shape[-1])
            loops.edge_logits(*arrays(*given, second, logits[part]))
            return second if keeps else None

        parts = parts_of(*x.shape[:3])
        kept = in_parallel(compute, parts)
        if keeps:
            ctx.parts = parts
            ctx.num_arguments = len(arguments)
            ctx.save_for_backward(*arguments, data, x_weight, *weights, *kept)
        return logits

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients of all arguments."""
        arguments, saved = ctx.saved_tensors[: ctx.num_arguments], ctx.saved_tensors[ctx.num_arguments :]
        if has_to_be_differentiable(gradient):
            return differentiable_gradients(plain_edge_logits, arguments, gradient)
        source, target, weight, x = arguments[:4]
        (data, x_weight, *weights), kept = saved[:5], saved[5:]
        gradient = gradient.contiguous()
        grad_target, grad_x, grad_data = torch.zeros_like(target), torch.empty_like(x), torch.empty_like(data)

        def compute(index: int) -> tuple[Tensor, ...]:
            graphs, _ = part = ctx.parts[index]
            given = (gradient[part], source[graphs], weight, _rows(x, part), x_weight, _rows(data, part), *weights)
            grad_source, grad_weight, grad_x_weight, *grad_weights = map(
                torch.zeros_like, (source[graphs], weight, x_weight, *weights)
            )
            written = (
                grad_source,
                grad_target[part],
                grad_weight,
                _rows(grad_x, part),
                grad_x_weight,
                _rows(grad_data, part),
            )
            loops.edge_logits_backward(*arrays(*given, kept[index], *written, *grad_weights))
            return grad_source, grad_weight, grad_x_weight, *grad_weights

        gradients = in_parallel(compute, range(len(ctx.parts)))
        grad_source, grad_weight, *grad_weights = summed(source, ctx.parts, gradients)
        of_states = (grad_data, grad_weights[1].T, grad_weights[2], grad_weights[3].T)
        return grad_source, grad_target, grad_weight, grad_x, grad_weights[0].T, *of_states[: len(arguments) - 5]


class _ProductLogits(torch.autograd.Function):
    """The logits and the gradients of all arguments; nothing of size M · N · H is held."""

    @staticmethod
    def forward(ctx: Any, *arguments: Tensor) -> Tensor:
        """The logits."""
        source, target, weight = arguments
        logits = source.new_empty(*source.shape[:2], target.shape[1])

        def compute(part: Part) -> None:
            graphs, _ = part
            loops.product_logits(*arrays(source[part], target[graphs], weight, logits[part]))

        ctx.parts = parts_of(*logits.shape)
        in_parallel(compute, ctx.parts)
        ctx.save_for_backward(source, target, weight)
        return logits

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients of all arguments."""
        if has_to_be_differentiable(gradient):
            return differentiable_gradients(plain_product_logits, ctx.saved_tensors, gradient)
        source, target, weight = ctx.saved_tensors
        gradient, grad_source = gradient.contiguous(), torch.zeros_like(source)

        def compute(part: Part) -> tuple[Tensor, Tensor]:
            graphs, _ = part
            grad_target, grad_weight = torch.zeros_like(target[graphs]), torch.zeros_like(weight)
            given = (gradient[part], source[part], target[graphs], weight)
            loops.product_logits_backward(*arrays(*given, grad_source[part], grad_target, grad_weight))
            return grad_target, grad_weight

        grad_target, grad_weight = summed(target, ctx.parts, in_parallel(compute, ctx.parts))
        return grad_source, grad_target, grad_weight


def _rows(pairs: Tensor, part: Part) -> Tensor:
    """The pairs of a part as rows, on the same memory; none if there are no pairs."""
    return pairs[part].flatten(0, 2) if pairs.dim() == 4 else pairs
