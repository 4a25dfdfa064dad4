"""The maximum of messages over triplets on a GPU, each way in one kernel.

A program has one row of the result in registers, all k and features, and makes the messages of one i after the other
from the channels. It keeps of every message a bit, whether it is the largest so far, and of every maximum the first and
the number of those that count: the gradient computes no message again, and so need not round as they were rounded.
"""
# Axes: B graphs, N nodes, F triplet features, K channels, L words of 32 bits. An edge's is [B, N, N, ...], in order.

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from nar.ops.affine import GradientBuffer, gathered, weight_gradient
from nar.ops.border import differentiable_gradients, has_to_be_differentiable
from nar.ops.device import in_rows
from nar.ops.max_triplet_message.reference import plain_max_triplet_message

_BITS = 32  # of a word


def max_triplet_message(first: Tensor, second: Tensor, third: Tensor, edge: Tensor, weight: Tensor) -> Tensor:
    """The maxima, [B, N, N, F], from the arguments of :func:`nar.ops.max_triplet_message.max_triplet_message`."""
    uses, weight = gathered(weight)
    made: Tensor = _MaxTripletMessage.apply(uses, first, second, third, edge.contiguous(), weight.contiguous())
    return made


class _MaxTripletMessage(torch.autograd.Function):
    """The maxima, and the gradients of all arguments."""

    @staticmethod
    def forward(ctx: Any, uses: GradientBuffer | None, *given: Tensor) -> Tensor:
        """The maxima."""
        first, second, third, edge, weight = given
        num_graphs, num_nodes, width = first.shape
        made = first.new_empty(num_graphs, num_nodes, num_nodes, width)
        bits = made.new_empty(triton.cdiv(num_nodes, _BITS), *made.shape, dtype=torch.int32)
        since, number = (torch.empty_like(made, dtype=torch.int16) for _ in range(2))
        rows = [in_rows(x) for x in (first, second, third)]
        strides = [x.stride(0) for x in rows]
        _max_triplet_message[_rows(made)](
            *rows, *strides, edge, weight, made, bits, since, number, *_sizes(edge, made), **_blocks(made)
        )
        ctx.uses = uses
        ctx.save_for_backward(*given, bits, since, number)
        return made

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients of all arguments."""
        *given, bits, since, number = ctx.saved_tensors
        if has_to_be_differentiable(gradient):
            return None, *differentiable_gradients(plain_max_triplet_message, given, gradient)
        first, second, third, edge, weight = given
        grad_nodes = [x.new_empty(x.shape) for x in (first, second, third)]
        grad_edge, grad_products = torch.empty_like(edge), edge.new_empty(*edge.shape[:3], 3 * first.shape[-1])
        _max_triplet_message_backward[_rows(edge)](
            gradient.contiguous(),
            bits,
            since,
            number,
            weight,
            *grad_nodes,
            grad_edge,
            grad_products,
            *_sizes(edge, first),
            **_blocks(first),
        )
        return None, *grad_nodes, grad_edge, weight_gradient(ctx.uses, edge, grad_products)


def _rows(pairs: Tensor) -> tuple[int]:
    """The grid of a kernel: one program for each node of each graph."""
    return (pairs.shape[0] * pairs.shape[1],)


def _sizes(edge: Tensor, features: Tensor) -> tuple[int, ...]:
    """The sizes that kernels are given: N, F and K."""
    return edge.shape[1], features.shape[-1], edge.shape[-1]


def _blocks(features: Tensor) -> dict[str, Any]:
    """The constants of kernels: the powers of two that hold N and F, the type that they compute in, a word's bits."""
    compute = tl.float64 if features.dtype == torch.float64 else tl.float32
    nodes, width = (triton.next_power_of_2(size) for size in (features.shape[1], features.shape[-1]))
    return {"NODES": nodes, "WIDTH": width, "COMPUTE": compute, "BITS": _BITS}


@triton.jit
def _product(edge, weight, part, pair, k, N, F, K, f, ROWS: tl.constexpr, WIDTH: tl.constexpr, COMPUTE: tl.constexpr):
    """One of the three parts of the weight times the channels of some pairs, [ROWS, WIDTH]."""
    total = tl.zeros((ROWS, WIDTH), COMPUTE)
    for c in range(K):
        channel = tl.load(edge + pair * K + c, mask=k < N, other=0).to(COMPUTE)
        total += channel * tl.load(weight + (part * F + f) * K + c, mask=f < F, other=0).to(COMPUTE)
    return total


@triton.jit
def _max_triplet_message(
    first,
    second,
    third,
    first_stride,
    second_stride,
    third_stride,
    edge,
    weight,
    made,
    bits,
    since,
    number,
    N,
    F,
    K,
    NODES: tl.constexpr,
    WIDTH: tl.constexpr,
    COMPUTE: tl.constexpr,
    BITS: tl.constexpr,
):
    """Write row j of the maxima; which messages were the largest so far; the last that exceeded all, and its equals."""
    row = tl.program_id(0).to(tl.int64)
    graph, j = row // N, row % N
    f = tl.arange(0, WIDTH)[None, :]
    k, one = tl.arange(0, NODES)[:, None], tl.arange(0, 1)[:, None]
    inside = (k < N) & (f < F)
    best = tl.full((NODES, WIDTH), float("-inf"), COMPUTE)
    start, count = tl.zeros((NODES, WIDTH), tl.int32), tl.zeros((NODES, WIDTH), tl.int32)
    for begin in range(0, N, BITS):
        word = tl.zeros((NODES, WIDTH), tl.int32)
        for i in range(begin, min(N, begin + BITS)):
            node = graph * N + i
            of_ij = tl.load(first + node * first_stride + f, mask=f < F, other=0).to(COMPUTE)
            of_ij += _product(edge, weight, 0, node * N + j + one, one, N, F, K, f, 1, WIDTH, COMPUTE)
            message = of_ij + _product(edge, weight, 1, node * N + k, k, N, F, K, f, NODES, WIDTH, COMPUTE)
            wins = (message > best) | (message != message)
            ties = message == best
            best = tl.where(wins, message, best)
            start = tl.where(wins, i, start)
            count = tl.where(wins, 1, count + ties.to(tl.int32))
            word |= (wins | ties).to(tl.int32) << (i - begin)
        tl.store(bits + ((begin // BITS * tl.num_programs(0) + row) * N + k) * F + f, word, mask=inside)
    there = (row * N + k) * F + f
    best += tl.load(second + row * second_stride + f, mask=f < F, other=0).to(COMPUTE)
    best += tl.load(third + (graph * N + k) * third_stride + f, mask=inside, other=0).to(COMPUTE)
    best += _product(edge, weight, 2, row * N + k, k, N, F, K, f, NODES, WIDTH, COMPUTE)
    tl.store(made + there, best, mask=inside)
    tl.store(since + there, start, mask=inside)
    tl.store(number + there, count, mask=inside)


@triton.jit
def _max_triplet_message_backward(
    gradient,
    bits,
    since,
    number,
    weight,
    grad_first,
    grad_second,
    grad_third,
    grad_edge,
    grad_products,
    N,
    F,
    K,
    NODES: tl.constexpr,
    WIDTH: tl.constexpr,
    COMPUTE: tl.constexpr,
    BITS: tl.constexpr,
):
    """Write the gradients of node i and of the edges that it sends along."""
    # The messages of this i are those of no other program, so no two add to one entry.
    row = tl.program_id(0).to(tl.int64)
    graph, i = row // N, row % N
    f = tl.arange(0, WIDTH)[None, :]
    k = tl.arange(0, NODES)[:, None]
    inside = (k < N) & (f < F)
    of_ij, of_ik = tl.zeros((NODES, WIDTH), COMPUTE), tl.zeros((NODES, WIDTH), COMPUTE)
    for j in range(N):
        there = ((graph * N + j) * N + k) * F + f
        word = tl.load(bits + i // BITS * tl.num_programs(0) * N * F + there, mask=inside, other=0)
        counts = ((word >> (i % BITS)) & 1 != 0) & (i >= tl.load(since + there, mask=inside, other=0))
        share = tl.load(gradient + there, mask=inside, other=0).to(COMPUTE)
        share /= tl.load(number + there, mask=inside, other=1).to(COMPUTE)
        passed = tl.where(counts, share, 0)
        of_ik += passed
        of_ij = tl.where(k == j, tl.sum(passed, 0)[None, :], of_ij)
    of_jk = tl.load(gradient + (row * N + k) * F + f, mask=inside, other=0).to(COMPUTE)
    as_third = tl.load(gradient + ((graph * N + k) * N + i) * F + f, mask=inside, other=0).to(COMPUTE)
    tl.store(grad_first + row * F + f, tl.sum(of_ij, 0)[None, :], mask=f < F)
    tl.store(grad_second + row * F + f, tl.sum(of_jk, 0)[None, :], mask=f < F)
    tl.store(grad_third + row * F + f, tl.sum(as_third, 0)[None, :], mask=f < F)
    there = (row * N + k) * 3 * F + f
    tl.store(grad_products + there, of_ij, mask=inside)
    tl.store(grad_products + there + F, of_ik, mask=inside)
    tl.store(grad_products + there + 2 * F, of_jk, mask=inside)
    for c in range(K):
        column = weight + f * K + c
        passed = of_ij * tl.load(column, mask=f < F, other=0).to(COMPUTE)
        passed += of_ik * tl.load(column + F * K, mask=f < F, other=0).to(COMPUTE)
        passed += of_jk * tl.load(column + 2 * F * K, mask=f < F, other=0).to(COMPUTE)
        tl.store(grad_edge + (row * N + k) * K + c, tl.sum(passed, 1)[:, None], mask=k < N)
