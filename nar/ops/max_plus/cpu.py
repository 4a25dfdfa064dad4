"""The product of matrices in the (max, +) semiring on a CPU: some matrices at a time on all cores, each by loops."""
# Axes: B graphs, N nodes, F features.

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from nar.ops.border import differentiable_gradients, has_to_be_differentiable
from nar.ops.max_plus import loops
from nar.ops.max_plus.reference import plain_max_plus
from nar.ops.parallel import arrays, in_parallel
from nar.ops.precision import alike

_LANES = 32  # columns that are computed at a time, where there are as many
ENTRIES = 2**14  # of each matrix that are computed at a time: they fit into a core's cache


def max_plus(a: Tensor, b: Tensor) -> Tensor:
    """The product [B, N, N, F] of two such tensors."""
    product: Tensor = _MaxPlus.apply(*alike(a, b))  # type: ignore[no-untyped-call]
    return product.to(a.dtype)


class _MaxPlus(torch.autograd.Function):
    """The product, and the gradients of both."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        """The product."""
        given = (a, b)
        a, b = a.permute(0, 3, 1, 2).contiguous(), b.permute(0, 3, 1, 2)
        b = pad(b, (0, -b.shape[-1] % _LANES), value=-torch.inf).contiguous()
        product = torch.empty_like(b)
        in_parallel(lambda part: loops.max_plus(*arrays(*part)), _parts(a, b, product))
        ctx.save_for_backward(*given, a, b, product)
        return product[..., : a.shape[-1]].permute(0, 2, 3, 1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients: of the largest sum, or of equal ones evenly."""
        *given, a, b, product = ctx.saved_tensors
        if has_to_be_differentiable(gradient):
            return differentiable_gradients(plain_max_plus, given, gradient)
        gradient = gradient.permute(0, 3, 1, 2).contiguous()
        grad_a, grad_b = torch.zeros_like(a), torch.zeros_like(b)
        parts = _parts(gradient, a, b, product, grad_a, grad_b)
        in_parallel(lambda part: loops.max_plus_backward(*arrays(*part)), parts)
        return grad_a.permute(0, 2, 3, 1), grad_b[..., : a.shape[-1]].permute(0, 2, 3, 1)


def _parts(*tensors: Tensor) -> list[tuple[Tensor, ...]]:
    """The parts of some tensors [B, F, N, N]: as many matrices [M, N, N] of each as a core's cache holds."""
    num_nodes = tensors[0].shape[-2]
    parts = (torch.split(tensor.flatten(0, 1), max(1, ENTRIES // num_nodes**2)) for tensor in tensors)
    return list(zip(*parts, strict=True))
