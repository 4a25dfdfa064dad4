"""What is made of every three nodes, on a CPU: some rows at a time on all cores, each by loops.

Nothing as large as N³ times F is held: the backward passes compute sums again, of what was given and of the maxima.
"""
# Axes: B graphs, N nodes, K channels, F features.

from typing import Any

import torch
from torch import Tensor

from nar.ops.border import differentiable_gradients, has_to_be_differentiable
from nar.ops.parallel import Part, arrays, in_parallel, parts_of, summed
from nar.ops.precision import alike
from nar.ops.triplets import loops
from nar.ops.triplets.reference import plain_triplet_logits, plain_triplet_max


def triplet_max(*arguments: Tensor) -> Tensor:
    """The maxima [B, N, N, F] from the arguments of :func:`nar.ops.triplets.triplet_max`."""
    given = (argument.contiguous() for argument in alike(*arguments))
    maxima: Tensor = _TripletMax.apply(*given)  # type: ignore[no-untyped-call]
    return maxima.to(arguments[0].dtype)


def triplet_logits(*arguments: Tensor) -> Tensor:
    """The logits [B, N, N, N] from the arguments of :func:`nar.ops.triplets.triplet_logits`."""
    given = (argument.contiguous() for argument in alike(*arguments))
    logits: Tensor = _TripletLogits.apply(*given)  # type: ignore[no-untyped-call]
    return logits.to(arguments[0].dtype)


class _TripletMax(torch.autograd.Function):
    """The maxima, and the gradients of all arguments."""

    @staticmethod
    def forward(ctx: Any, *given: Tensor) -> Tensor:
        """The maxima."""
        ij, ik, x, x_weight = given
        x_weight, maxima = x_weight.T.contiguous(), torch.empty_like(ij)

        def compute(part: Part) -> None:
            graphs, _ = part
            operands = arrays(ij[graphs], ik[graphs], x[graphs], x_weight, maxima[graphs])
            loops.triplet_max(*operands, *_rows(part, ij))

        in_parallel(compute, parts_of(*ij.shape[:3]))
        ctx.save_for_backward(*given, maxima)
        return maxima

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients: of the largest sum, or of equal ones evenly."""
        *given, maxima = ctx.saved_tensors
        if has_to_be_differentiable(gradient):
            return differentiable_gradients(plain_triplet_max, given, gradient)
        ij, ik, x, x_weight = given
        x_weight, gradient = x_weight.T.contiguous(), gradient.contiguous()
        grad_ij, grad_x = torch.zeros_like(ij), torch.zeros_like(x)

        def compute(part: Part) -> tuple[Tensor, Tensor]:
            graphs, _ = part
            grad_ik, grad_x_weight = torch.zeros_like(ik[graphs]), torch.zeros_like(x_weight)
            operands = arrays(gradient[graphs], ij[graphs], ik[graphs], x[graphs], x_weight, maxima[graphs])
            written = arrays(grad_ij[graphs], grad_ik, grad_x[graphs], grad_x_weight)
            loops.triplet_max_backward(*operands, *_rows(part, ij), *written)
            return grad_ik, grad_x_weight

        parts = parts_of(*ij.shape[:3])
        grad_ik, grad_x_weight = summed(ik, parts, in_parallel(compute, parts))
        return grad_ij, grad_ik, grad_x, grad_x_weight.T


class _TripletLogits(torch.autograd.Function):
    """The logits, and the gradients of all arguments."""

    @staticmethod
    def forward(ctx: Any, *given: Tensor) -> Tensor:
        """The logits."""
        ij, ik, jk, x, x_weight, weight = given
        x_weight, logits = x_weight.T.contiguous(), x.new_empty(x.shape[:4])

        def compute(part: Part) -> None:
            graphs, _ = part
            loops.triplet_logits(*arrays(ij[part], ik[part], jk[graphs], x[part], x_weight, weight, logits[part]))

        in_parallel(compute, parts_of(*ij.shape[:3]))
        ctx.save_for_backward(*given)
        return logits

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients of all arguments."""
        if has_to_be_differentiable(gradient):
            return differentiable_gradients(plain_triplet_logits, ctx.saved_tensors, gradient)
        ij, ik, jk, x, x_weight, weight = ctx.saved_tensors
        x_weight, gradient = x_weight.T.contiguous(), gradient.contiguous()
        grad_ij, grad_ik, grad_x = torch.zeros_like(ij), torch.zeros_like(ik), torch.empty_like(x)

        def compute(part: Part) -> tuple[Tensor, Tensor, Tensor]:
            graphs, _ = part
            operands = (gradient[part], ij[part], ik[part], jk[graphs], x[part], x_weight, weight)
            grad_jk, grad_x_weight, grad_weight = map(torch.zeros_like, (jk[graphs], x_weight, weight))
            written = (grad_ij[part], grad_ik[part], grad_jk, grad_x[part], grad_x_weight, grad_weight)
            loops.triplet_logits_backward(*arrays(*operands, *written))
            return grad_jk, grad_x_weight, grad_weight

        parts = parts_of(*ij.shape[:3])
        grad_jk, grad_x_weight, grad_weight = summed(jk, parts, in_parallel(compute, parts))
        return grad_ij, grad_ik, grad_jk, grad_x, grad_x_weight.T, grad_weight


def _rows(part: Part, ij: Tensor) -> tuple[int, int]:
    """The first row of a part, and that after its last: those of one graph do not lie in order in memory."""
    _, rows = part
    return rows.start, min(rows.stop, ij.shape[2])
