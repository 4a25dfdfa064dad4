"""The product of matrices in the (max, +) semiring on a GPU; :mod:`nar.ops.max_plus` has it on a CPU.

PyTorch would take N maxima one after the other, each a launch that reads and writes all of the product. Here a program
computes one row of a product, of all features, with the row in registers, and reads each matrix from the cache.
"""
# Axes: B graphs, N nodes, F features. Every matrix is [B, N, N, F], in order in memory.

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from nar.ops.border import differentiable_gradients, has_to_be_differentiable
from nar.ops.max_plus.reference import plain_max_plus
from nar.ops.precision import alike


def max_plus(a: Tensor, b: Tensor) -> Tensor:
    """The product, [B, N, N, F], of two such tensors."""
    product: Tensor = _MaxPlus.apply(*(x.contiguous() for x in alike(a, b)))
    return product.to(a.dtype)


class _MaxPlus(torch.autograd.Function):
    """The product, for whose gradients it is held how many sums each maximum is equal to."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        """The product."""
        product, number = torch.empty_like(a), torch.empty_like(a, dtype=torch.int16)
        _max_plus[_rows(a)](a, b, product, number, *_sizes(a))
        ctx.save_for_backward(a, b, product, number)
        return product

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients: of the largest sum, or of equal ones evenly."""
        a, b, product, number = ctx.saved_tensors
        if has_to_be_differentiable(gradient):
            return differentiable_gradients(plain_max_plus, (a, b), gradient)
        grad_a, grad_b = torch.empty_like(a), torch.empty_like(b)
        _max_plus_backward[_rows(a)](gradient.contiguous(), a, b, product, number, grad_a, grad_b, *_sizes(a))
        return grad_a, grad_b


def _rows(a: Tensor) -> tuple[int]:
    """The grid of a kernel: one program for each row of each matrix."""
    return (a.shape[0] * a.shape[1],)


def _sizes(a: Tensor) -> tuple[int, ...]:
    """The sizes that kernels are given: N, F, and the powers of two that hold them."""
    num_nodes, num_features = a.shape[2:]
    return num_nodes, num_features, triton.next_power_of_2(num_nodes), triton.next_power_of_2(num_features)


@triton.jit
def _max_plus(a, b, product, number, N, F, NODES: tl.constexpr, FEATURES: tl.constexpr):
    """Write row j of a product, and how many sums each maximum is equal to."""
    row = tl.program_id(0).to(tl.int64)
    graph, j = row // N, row % N
    f = tl.arange(0, FEATURES)[None, :]
    k = tl.arange(0, NODES)[:, None]
    inside = (k < N) & (f < F)
    best = tl.full((NODES, FEATURES), float("-inf"), product.dtype.element_ty)
    count = tl.zeros((NODES, FEATURES), tl.int16)
    for i in range(N):
        first = tl.load(a + ((graph * N + i) * N + j) * F + f, mask=f < F, other=0)
        total = first + tl.load(b + ((graph * N + i) * N + k) * F + f, mask=inside, other=0)
        wins = (total > best) | (total != total)
        count = tl.where(wins, 1, count + (total == best).to(tl.int16)).to(tl.int16)
        best = tl.where(wins, total, best)
    tl.store(product + (row * N + k) * F + f, best, mask=inside)
    tl.store(number + (row * N + k) * F + f, count, mask=inside)


@triton.jit
def _max_plus_backward(
    gradient, a, b, product, number, grad_a, grad_b, N, F, NODES: tl.constexpr, FEATURES: tl.constexpr
):
    """Write the gradients of row i of both."""
    # Row i of a and of b has a part in the sums of this i alone, so no two programs add to one entry.
    row = tl.program_id(0).to(tl.int64)
    graph = row // N
    f = tl.arange(0, FEATURES)[None, :]
    k = tl.arange(0, NODES)[:, None]
    inside = (k < N) & (f < F)
    second = tl.load(b + (row * N + k) * F + f, mask=inside, other=0)
    grad_second = tl.zeros_like(second)
    for j in range(N):
        there = ((graph * N + j) * N + k) * F + f
        total = tl.load(a + (row * N + j) * F + f, mask=f < F, other=0) + second
        is_best = inside & ((total == tl.load(product + there, mask=inside, other=0)) | (total != total))
        share = tl.load(gradient + there, mask=inside, other=0) / tl.load(number + there, mask=inside, other=1)
        passed = tl.where(is_best, share, 0).to(second.dtype)
        grad_second += passed
        tl.store(grad_a + (row * N + j) * F + f, tl.sum(passed, 0)[None, :], mask=f < F)
    tl.store(grad_b + (row * N + k) * F + f, grad_second, mask=inside)
