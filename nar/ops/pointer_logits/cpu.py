"""Logits of pointers of edges on a CPU: parts of a batch on all cores, each part by loops."""
# Axes: B graphs, N nodes, H hidden, M rows.

from typing import Any

import torch
from torch import Tensor

from nar.ops.border import differentiable_gradients, has_to_be_differentiable
from nar.ops.parallel import Part, arrays, in_parallel, parts_of, summed
from nar.ops.pointer_logits import loops
from nar.ops.pointer_logits.reference import plain_product_logits
from nar.ops.precision import alike


def product_logits(source: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """The logits [B, M, N] from source [B, M, H], target [B, N, H] and weight [H]."""
    given = (argument.contiguous() for argument in alike(source, target, weight))
    logits: Tensor = _ProductLogits.apply(*given)  # type: ignore[no-untyped-call]
    return logits.to(source.dtype)


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
