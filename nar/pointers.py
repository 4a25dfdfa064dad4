"""Logits of pointers, ``w · max(x, y)``, without keeping more than one of x, y and the maximum."""
# Axes: B graphs, N nodes, S sender, R receiver, H hidden, M rows. What belongs to an edge is [B, S, R, ...].

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear

from nar import kernels
from nar.gpu import is_for_triton
from nar.linear import Parts, as_tensor
from nar.parallel import Part, arrays, in_parallel, parts_of, summed
from nar.precision import alike


def edge_logits(source: Tensor, target: Tensor, edge: Parts, weight: Tensor) -> Tensor:
    """``w · max(source_j, target_i + edge_ij)`` for every i and j, [B, S, R].

    Args:
        source: [B, R, H].
        target: [B, S, H].
        edge: The parts of [B, S, R, H].
        weight: w, [H].
    """
    if is_for_triton(source):
        from nar import pointers_triton

        return pointers_triton.edge_logits(source, target, edge, weight)
    target = target + edge.bias
    states, states_weight = edge.states, edge.states_weight
    if not source.is_cpu:
        sums = target[:, :, None] + linear(edge.x, edge.weight)
        if states is not None and states_weight is not None:
            sums = sums + linear(as_tensor(states), states_weight)
        return torch.maximum(source[:, None], sums) @ weight
    given = [source, target, weight, edge.x, edge.weight]
    if states is not None and states_weight is not None:
        given += [states.data, states.weight, states.bias, states_weight]
    else:
        given += [source.new_empty(0, 0), source.new_empty(0, 0), source.new_empty(0), source.new_empty(0, 0)]
    logits: Tensor = EdgeLogits.apply(*alike(*given))  # type: ignore[no-untyped-call]
    return logits.to(source.dtype)


def product_logits(source: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """``w · max(source_m, target_k)`` for every m and k, [B, M, N].

    Args:
        source: [B, M, H].
        target: [B, N, H].
        weight: w, [H].
    """
    if is_for_triton(source):
        from nar import pointers_triton

        return pointers_triton.product_logits(source, target, weight)
    if not source.is_cpu:
        # One target at a time: without gradients no [B, M, N, H] is ever held.
        targets = target.unbind(dim=1)
        return torch.stack([torch.maximum(source, one[:, None]) @ weight for one in targets], dim=-1)
    logits: Tensor = ProductLogits.apply(*alike(source, target, weight))  # type: ignore[no-untyped-call]
    return logits.to(source.dtype)


class EdgeLogits(torch.autograd.Function):
    """See :func:`edge_logits`; of what is as large as edges times H the gradient keeps the second argument alone."""

    @staticmethod
    def forward(ctx: Any, *arguments: Tensor) -> Tensor:
        """The logits."""
        source, target, weight, x, x_weight, data, *weights = (argument.contiguous() for argument in arguments)
        first_weight, first_bias, states_weight = weights
        x_weight, weights = (
            x_weight.T.contiguous(),
            [first_weight.T.contiguous(), first_bias, states_weight.T.contiguous()],
        )
        logits = x.new_empty(x.shape[:3])

        def compute(part: Part) -> Tensor:
            graphs, _ = part
            some = (source[graphs], target[part], weight, _rows(x, part), x_weight, _rows(data, part))
            second = x.new_empty(len(some[3]), source.shape[-1])
            kernels.edge_logits(*arrays(*some, *weights, second, logits[part]))
            return second

        parts = parts_of(*x.shape[:3])
        if any(ctx.needs_input_grad):
            kept = in_parallel(compute, parts)
            ctx.parts = parts
            ctx.save_for_backward(source, target, weight, x, x_weight, data, *weights, *kept)
        else:
            in_parallel(lambda part: (compute(part), None)[1], parts)
        return logits

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, ...]:
        """The gradients."""
        source, target, weight, x, x_weight, data, *weights = ctx.saved_tensors[:9]
        kept = ctx.saved_tensors[9:]
        gradient = gradient.contiguous()
        to_target, to_x, to_data = torch.zeros_like(target), torch.empty_like(x), torch.empty_like(data)

        def compute(index: int) -> tuple[Tensor, ...]:
            part = ctx.parts[index]
            graphs, _ = part
            given = (gradient[part], source[graphs], weight, _rows(x, part), x_weight, _rows(data, part), *weights)
            to_source, to_weight, to_x_weight, *to_weights = map(
                torch.zeros_like, (source[graphs], weight, x_weight, *weights)
            )
            written = (to_source, to_target[part], to_weight, _rows(to_x, part), to_x_weight, _rows(to_data, part))
            kernels.edge_logits_backward(*arrays(*given, kept[index], *written, *to_weights))
            return to_source, to_weight, to_x_weight, *to_weights

        gradients = in_parallel(compute, range(len(ctx.parts)))
        to_source, to_weight, *to_weights = summed(source, ctx.parts, gradients)
        return (
            to_source,
            to_target,
            to_weight,
            to_x,
            to_weights[0].T,
            to_data,
            to_weights[1].T,
            to_weights[2],
            to_weights[3].T,
        )


class ProductLogits(torch.autograd.Function):
    """See :func:`product_logits`; nothing of size M · N · H is held."""

    @staticmethod
    def forward(ctx: Any, *arguments: Tensor) -> Tensor:
        """The logits."""
        source, target, weight = (argument.contiguous() for argument in arguments)
        logits = source.new_empty(*source.shape[:2], target.shape[1])

        def compute(part: Part) -> None:
            graphs, _ = part
            kernels.max_dot(*arrays(source[part], target[graphs], weight, logits[part]))

        ctx.parts = parts_of(*logits.shape)
        in_parallel(compute, ctx.parts)
        ctx.save_for_backward(source, target, weight)
        return logits

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The gradients."""
        source, target, weight = ctx.saved_tensors
        gradient, to_source = gradient.contiguous(), torch.zeros_like(source)

        def compute(part: Part) -> tuple[Tensor, Tensor]:
            graphs, _ = part
            to_target, to_weight = torch.zeros_like(target[graphs]), torch.zeros_like(weight)
            given = (gradient[part], source[part], target[graphs], weight)
            kernels.max_dot_backward(*arrays(*given, to_source[part], to_target, to_weight))
            return to_target, to_weight

        to_target, to_weight = summed(target, ctx.parts, in_parallel(compute, ctx.parts))
        return to_source, to_target, to_weight


def _rows(pairs: Tensor, part: Part) -> Tensor:
    """The pairs of a part as rows, on the same memory; none if there are no pairs."""
    return pairs[part].flatten(0, 2) if pairs.dim() == 4 else pairs
