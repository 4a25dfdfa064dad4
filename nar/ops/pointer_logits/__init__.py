"""Logits of pointers, ``w · max(x, y)``, without keeping more than one of x, y and the maximum."""
# Axes: B graphs, N nodes, S sender, R receiver, H hidden, M rows. What belongs to an edge is [B, S, R, ...].

from typing import Any

import torch
from torch import Tensor

from nar.ops import kernels
from nar.ops.border import check_shapes, differentiable_gradients, has_to_be_differentiable, is_watched
from nar.ops.device import is_for_triton
from nar.ops.parallel import Part, arrays, in_parallel, parts_of, summed
from nar.ops.pointer_logits.reference import plain_edge_logits, plain_product_logits
from nar.ops.precision import alike


def edge_logits(
    source: Tensor,
    target: Tensor,
    weight: Tensor,
    x: Tensor,
    x_weight: Tensor,
    x_bias: Tensor,
    data: Tensor | None = None,
    first_weight: Tensor | None = None,
    first_bias: Tensor | None = None,
    states_weight: Tensor | None = None,
) -> Tensor:
    """``w · max(source_j, target_i + We x_ij + be + Ws ReLU(Wf data_ij + bf))`` for every i and j, [B, S, R].

    Args:
        source: [B, R, H].
        target: [B, S, H].
        weight: w, [H].
        x: [B, S, R, K].
        x_weight: We, [H, K].
        x_bias: be, [H].
        data: [B, S, R, F]; None for no states, and so are the others.
        first_weight: Wf, [W, F].
        first_bias: bf, [W].
        states_weight: Ws, [H, W].
    """
    check_shapes(
        "edge_logits",
        source=(source, "B R H"),
        target=(target, "B S H"),
        weight=(weight, "H"),
        edge=(x, "B S R K"),
        edge_weight=(x_weight, "H K"),
        edge_bias=(x_bias, "H"),
        states=(data, "B S R F"),
        first_weight=(first_weight, "W F"),
        first_bias=(first_bias, "W"),
        states_weight=(states_weight, "H W"),
    )
    of_states = () if data is None else (data, first_weight, first_bias, states_weight)
    operands = (source, target, weight, x, x_weight, x_bias, *of_states)
    is_plain = is_watched(*operands) or 0 in (y.numel() for y in (source, target, *of_states) if y is not None)
    if is_for_triton(source) and not is_plain:
        from nar.ops.pointer_logits import triton as pointers_triton

        return pointers_triton.edge_logits(*operands)
    given = (source, target + x_bias, weight, x, x_weight, *of_states)
    if is_plain or not source.is_cpu:
        return plain_edge_logits(*given)
    logits: Tensor = EdgeLogits.apply(*(x.contiguous() for x in alike(*given)))  # type: ignore[no-untyped-call]
    return logits.to(source.dtype)


def product_logits(source: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """``w · max(source_m, target_k)`` for every m and k, [B, M, N].

    Args:
        source: [B, M, H].
        target: [B, N, H].
        weight: w, [H].
    """
    check_shapes("product_logits", source=(source, "B M H"), target=(target, "B N H"), weight=(weight, "H"))
    is_plain = is_watched(source, target, weight) or 0 in (source.numel(), target.numel())
    if is_for_triton(source) and not is_plain:
        from nar.ops.pointer_logits import triton as pointers_triton

        return pointers_triton.product_logits(source, target, weight)
    if is_plain:
        return plain_product_logits(source, target, weight)
    if not source.is_cpu:  # one target at a time: without gradients no [B, M, N, H] is ever held
        parts = torch.split(target, 1, dim=1)
        return torch.cat([plain_product_logits(source, one, weight) for one in parts], dim=-1)
    given = (x.contiguous() for x in alike(source, target, weight))
    logits: Tensor = ProductLogits.apply(*given)  # type: ignore[no-untyped-call]
    return logits.to(source.dtype)


class EdgeLogits(torch.autograd.Function):
    """See :func:`edge_logits`; of what is as large as edges times H the gradient keeps the second argument alone."""

    @staticmethod
    def forward(ctx: Any, *arguments: Tensor) -> Tensor:
        """The logits."""
        source, target, weight, x, x_weight, *of_states = arguments
        if not of_states:
            of_states = [x.new_empty(shape) for shape in ((0, 0), (0, 0), (0,), (0, 0))]
        data, *weights = of_states
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
            ctx.num_arguments = len(arguments)
            ctx.save_for_backward(*arguments, data, x_weight, *weights, *kept)
        else:
            in_parallel(lambda part: (compute(part), None)[1], parts)
        return logits

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients."""
        arguments, saved = ctx.saved_tensors[: ctx.num_arguments], ctx.saved_tensors[ctx.num_arguments :]
        if has_to_be_differentiable(gradient):
            return differentiable_gradients(plain_edge_logits, arguments, gradient)
        source, target, weight, x = arguments[:4]
        data, x_weight, *weights = saved[:5]
        kept = saved[5:]
        gradient = gradient.contiguous()
        grad_target, grad_x, grad_data = torch.zeros_like(target), torch.empty_like(x), torch.empty_like(data)

        def compute(index: int) -> tuple[Tensor, ...]:
            part = ctx.parts[index]
            graphs, _ = part
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
            kernels.edge_logits_backward(*arrays(*given, kept[index], *written, *grad_weights))
            return grad_source, grad_weight, grad_x_weight, *grad_weights

        gradients = in_parallel(compute, range(len(ctx.parts)))
        grad_source, grad_weight, *grad_weights = summed(source, ctx.parts, gradients)
        of_states = (grad_data, grad_weights[1].T, grad_weights[2], grad_weights[3].T)
        return grad_source, grad_target, grad_weight, grad_x, grad_weights[0].T, *of_states[: len(arguments) - 5]


class ProductLogits(torch.autograd.Function):
    """See :func:`product_logits`; nothing of size M · N · H is held."""

    @staticmethod
    def forward(ctx: Any, *arguments: Tensor) -> Tensor:
        """The logits."""
        source, target, weight = arguments
        logits = source.new_empty(*source.shape[:2], target.shape[1])

        def compute(part: Part) -> None:
            graphs, _ = part
            kernels.max_dot(*arrays(source[part], target[graphs], weight, logits[part]))

        ctx.parts = parts_of(*logits.shape)
        in_parallel(compute, ctx.parts)
        ctx.save_for_backward(source, target, weight)
        return logits

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients."""
        if has_to_be_differentiable(gradient):
            return differentiable_gradients(plain_product_logits, ctx.saved_tensors, gradient)
        source, target, weight = ctx.saved_tensors
        gradient, grad_source = gradient.contiguous(), torch.zeros_like(source)

        def compute(part: Part) -> tuple[Tensor, Tensor]:
            graphs, _ = part
            grad_target, grad_weight = torch.zeros_like(target[graphs]), torch.zeros_like(weight)
            given = (gradient[part], source[part], target[graphs], weight)
            kernels.max_dot_backward(*arrays(*given, grad_source[part], grad_target, grad_weight))
            return grad_target, grad_weight

        grad_target, grad_weight = summed(target, ctx.parts, in_parallel(compute, ctx.parts))
        return grad_source, grad_target, grad_weight


def _rows(pairs: Tensor, part: Part) -> Tensor:
    """The pairs of a part as rows, on the same memory; none if there are no pairs."""
    return pairs[part].flatten(0, 2) if pairs.dim() == 4 else pairs
