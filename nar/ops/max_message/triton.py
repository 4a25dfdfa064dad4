"""The maximum of messages on a GPU; :mod:`nar.ops.max_message` has it on a CPU.

The two layers of width H are left to cuBLAS: a matrix product of 8192 rows (32 graphs of 16 nodes) and H = 128 takes it
a few microseconds, in whatever precision was asked for, and none of a program's own would be faster. What is fused is
bound by memory: the first layer, of which PyTorch would write the map of the channels and both sums, and the maximum,
of which it would keep all messages. The gradient keeps a bit for each of them: whether it is the maximum.
"""
# Axes: B graphs, S sender, R receiver, H hidden, K channels, L words of 32 bits. An edge's is [B, S, R, ...], in order.

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from nar.ops.affine import GradientBuffer, affine, gathered, rectified, weight_gradient
from nar.ops.border import has_to_be_differentiable
from nar.ops.device import in_rows
from nar.ops.precision import UNHEARD, at_least_float32, unheard

_PAIRS = 16  # that a program of the first layer's gradient reads at a time
_MAX_CHANNELS = 64  # whose gradient such a program computes; of more, a product of matrices is faster
_BITS = 32  # of a word


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
    lowest: float = UNHEARD,
) -> Tensor:
    """The maxima, [B, R, H], from the arguments of :func:`nar.ops.max_message.reference.plain_max_message`."""
    uses, weight = gathered(edge_weight)
    first = _FirstLayer.apply(uses, sent, heard, edge.contiguous(), weight.contiguous())
    messages = affine(rectified(first, weight_1, bias_1), weight_2, bias_2)
    received: Tensor = MaxOverSenders.apply(messages, is_heard, lowest)
    return received.to(heard.dtype)


class _FirstLayer(torch.autograd.Function):
    """``ReLU(sent_i + heard_j + We edge_ij)``, [B, S, R, H], and the gradients of all arguments."""

    @staticmethod
    def forward(ctx: Any, uses: GradientBuffer | None, *arguments: Tensor) -> Tensor:
        """The first layer."""
        sent, heard, edge, weight = arguments
        first = sent.new_empty(*edge.shape[:3], sent.shape[-1])
        rows = [in_rows(x) for x in (sent, heard)]
        strides = [x.stride(0) for x in rows]
        _first_layer[_rows(first)](
            *rows, *strides, edge, weight, first, *_sizes(first), edge.shape[-1], **_blocks(first)
        )
        ctx.save_for_backward(edge, weight, first)
        ctx.uses, ctx.dtype = uses, heard.dtype
        return first

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients of all arguments."""
        edge, weight, first = ctx.saved_tensors
        grad_edge = None
        if has_to_be_differentiable(gradient):
            grad_sum = gradient * (first > 0)
            grad_sent, grad_heard = grad_sum.sum(dim=2), grad_sum.sum(dim=1).to(ctx.dtype)
        else:
            grad_sum, grad_sent = torch.empty_like(first), torch.empty_like(first[:, :, 0])
            grad_heard = first.new_empty(*_received(first), dtype=ctx.dtype)
            grad_edge = torch.empty_like(edge) if edge.shape[-1] <= _MAX_CHANNELS else None
            programs = (first.shape[0] * (first.shape[1] + first.shape[2]),)
            written = (grad_sum, grad_sent, grad_heard, grad_edge)
            sizes = (*_sizes(first), edge.shape[-1], len(first))
            _first_layer_backward[programs](
                gradient.contiguous(), first, weight, *written, *sizes, **_blocks(first), BLOCK=_PAIRS
            )
        if grad_edge is None:
            grad_edge = (grad_sum @ weight.to(grad_sum.dtype)).to(edge.dtype)
        return None, grad_sent, grad_heard, grad_edge, weight_gradient(ctx.uses, edge, grad_sum)


class MaxOverSenders(torch.autograd.Function):
    """The maximum of messages [B, S, R, H] over those senders that are heard, [B, R, H]."""

    @staticmethod
    def forward(ctx: Any, messages: Tensor, is_heard: Tensor | None, lowest: float) -> Tensor:
        """The maxima."""
        messages = messages.contiguous()
        is_heard = None if is_heard is None else is_heard.contiguous()
        num_words = triton.cdiv(messages.shape[1], _BITS)
        received = messages.new_empty(_received(messages))
        bits = received.new_empty(num_words, *received.shape, dtype=torch.int32)
        lowest = max(lowest, unheard(messages.dtype))
        _max_over_senders[_rows(messages)](
            messages, is_heard, lowest, received, bits, *_sizes(messages), **_blocks(messages), BITS=_BITS
        )
        ctx.save_for_backward(bits)
        ctx.num_senders = messages.shape[1]
        return received

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        """The gradient: of the largest message, or of equal ones evenly."""
        (bits,) = ctx.saved_tensors
        if has_to_be_differentiable(gradient):
            sender = torch.arange(ctx.num_senders, device=bits.device)
            is_best = (bits[sender // _BITS] >> (sender % _BITS)[:, None, None, None]) & 1  # [S, B, R, H]
            shares = is_best * (gradient / is_best.sum(dim=0).clamp(min=1))
            return shares.transpose(0, 1), None, None
        num_graphs, num_receivers, width = gradient.shape
        grad_messages = gradient.new_empty(num_graphs, ctx.num_senders, num_receivers, width)
        _max_over_senders_backward[_rows(grad_messages)](
            gradient.contiguous(), bits, grad_messages, *_sizes(grad_messages), **_blocks(grad_messages), BITS=_BITS
        )
        return grad_messages, None, None


def _received(pairs: Tensor) -> tuple[int, int, int]:
    """The shape of what receivers get, [B, R, H], from pairs [B, S, R, H]."""
    num_graphs, _, num_receivers, width = pairs.shape
    return num_graphs, num_receivers, width


def _rows(pairs: Tensor) -> tuple[int]:
    """The grid of a kernel: one program for each receiver of each graph."""
    return (pairs.shape[0] * pairs.shape[2],)


def _sizes(pairs: Tensor) -> tuple[int, ...]:
    """The sizes that kernels are given: S, R and H."""
    return tuple(pairs.shape[1:])


def _blocks(pairs: Tensor) -> dict[str, Any]:
    """The constants of kernels: the power of two that holds H, and the type that they compute in."""
    compute = tl.float64 if at_least_float32(pairs[:0]).dtype == torch.float64 else tl.float32
    return {"WIDTH": triton.next_power_of_2(pairs.shape[-1]), "COMPUTE": compute}


@triton.jit
def _first_layer(
    sent,
    heard,
    sent_stride,
    heard_stride,
    edge,
    weight,
    first,
    S,
    R,
    H,
    K,
    WIDTH: tl.constexpr,
    COMPUTE: tl.constexpr,
):
    """Write the first layer of the messages to receiver r."""
    row = tl.program_id(0).to(tl.int64)
    graph, r = row // R, row % R
    h = tl.arange(0, WIDTH)
    inside = h < H
    of_receiver = tl.load(heard + row * heard_stride + h, mask=inside, other=0).to(COMPUTE)
    for s in range(S):
        pair = (graph * S + s) * R + r
        total = of_receiver + tl.load(sent + (graph * S + s) * sent_stride + h, mask=inside, other=0).to(COMPUTE)
        for k in range(K):
            channel = tl.load(edge + pair * K + k).to(COMPUTE)
            total += channel * tl.load(weight + h * K + k, mask=inside, other=0).to(COMPUTE)
        tl.store(first + pair * H + h, tl.where(total < 0, 0, total), mask=inside)


@triton.jit
def _grad_sum(gradient, first, there, inside, COMPUTE: tl.constexpr):
    """The gradient of sums that are rectified."""
    is_positive = tl.load(first + there, mask=inside, other=0) > 0
    return tl.where(is_positive, tl.load(gradient + there, mask=inside, other=0).to(COMPUTE), 0)


@triton.jit
def _first_layer_backward(
    gradient,
    first,
    weight,
    grad_sum,
    grad_sent,
    grad_heard,
    grad_edge,
    S,
    R,
    H,
    K,
    B,
    WIDTH: tl.constexpr,
    COMPUTE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Write the gradients of the sums to receiver r that are rectified, and of its term and channels; or of a sender.

    The programs after those of receivers have a sender each, whose term's gradient is a sum over all receivers.
    """
    row = tl.program_id(0).to(tl.int64)
    h = tl.arange(0, WIDTH)[None, :]
    total = tl.zeros((WIDTH,), COMPUTE)
    if row < B * R:
        graph, r = row // R, row % R
        for start in range(0, S, BLOCK):
            s = start + tl.arange(0, BLOCK)[:, None]
            inside, pair = (s < S) & (h < H), (graph * S + s) * R + r
            passed = _grad_sum(gradient, first, pair * H + h, inside, COMPUTE)
            tl.store(grad_sum + pair * H + h, passed, mask=inside)
            total += tl.sum(passed, 0)
            if grad_edge is not None:
                for k in range(K):
                    column = tl.load(weight + h * K + k, mask=h < H, other=0).to(COMPUTE)
                    tl.store(grad_edge + pair * K + k, tl.sum(passed * column, 1)[:, None], mask=s < S)
        tl.store(grad_heard + row * H + h, total[None, :], mask=h < H)
    else:
        sender = row - B * R
        for start in range(0, R, BLOCK):
            r = start + tl.arange(0, BLOCK)[:, None]
            inside = (r < R) & (h < H)
            total += tl.sum(_grad_sum(gradient, first, (sender * R + r) * H + h, inside, COMPUTE), 0)
        tl.store(grad_sent + sender * H + h, total[None, :], mask=h < H)


@triton.jit
def _message(messages, is_heard, lowest, pair, H, h, inside, COMPUTE: tl.constexpr):
    """The message of a pair, or what stands for it, and whether it is heard."""
    message = tl.load(messages + pair * H + h, mask=inside, other=0).to(COMPUTE)
    hears = h >= 0
    if is_heard is not None:
        hears = hears & (tl.load(is_heard + pair) != 0)
    return tl.where(hears, message, lowest), hears


@triton.jit
def _max_over_senders(
    messages,
    is_heard,
    lowest,
    received,
    bits,
    S,
    R,
    H,
    WIDTH: tl.constexpr,
    COMPUTE: tl.constexpr,
    BITS: tl.constexpr,
):
    """Write the maximum of the messages to receiver r, and which of those that are heard it is equal to."""
    # Which messages are equal to the maximum is known when all have been read, so they are read twice.
    row = tl.program_id(0).to(tl.int64)
    graph, r = row // R, row % R
    h = tl.arange(0, WIDTH)
    inside = h < H
    best = tl.full((WIDTH,), float("-inf"), COMPUTE)
    for s in range(S):
        message, _ = _message(messages, is_heard, lowest, (graph * S + s) * R + r, H, h, inside, COMPUTE)
        best = tl.where((message > best) | (message != message), message, best)
    tl.store(received + row * H + h, best, mask=inside)
    for start in range(0, S, BITS):
        word = tl.zeros((WIDTH,), tl.int32)
        for s in range(start, min(S, start + BITS)):
            message, hears = _message(messages, is_heard, lowest, (graph * S + s) * R + r, H, h, inside, COMPUTE)
            is_best = hears & ((message == best) | (message != message))
            word |= is_best.to(tl.int32) << (s - start)
        tl.store(bits + ((start // BITS) * tl.num_programs(0) + row) * H + h, word, mask=inside)


@triton.jit
def _max_over_senders_backward(
    gradient, bits, grad_messages, S, R, H, WIDTH: tl.constexpr, COMPUTE: tl.constexpr, BITS: tl.constexpr
):
    """Write the gradient of the messages to receiver r."""
    row = tl.program_id(0).to(tl.int64)
    graph, r = row // R, row % R
    h = tl.arange(0, WIDTH)
    inside = h < H
    number = tl.zeros((WIDTH,), tl.int32)
    for s in range(S):
        word = tl.load(bits + ((s // BITS) * tl.num_programs(0) + row) * H + h, mask=inside, other=0)
        number += (word >> (s % BITS)) & 1
    share = tl.load(gradient + row * H + h, mask=inside, other=0).to(COMPUTE) / tl.maximum(number, 1)
    for s in range(S):
        word = tl.load(bits + ((s // BITS) * tl.num_programs(0) + row) * H + h, mask=inside, other=0)
        passed = tl.where((word >> (s % BITS)) & 1 != 0, share, 0)
        tl.store(grad_messages + ((graph * S + s) * R + r) * H + h, passed, mask=inside)
