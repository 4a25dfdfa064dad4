"""The last state of a linear recurrence on a GPU; :mod:`nar.ops.recurrence` has it on a CPU.

Two steps ``h ← a h + b`` are one, ``a' (a h + b) + b' = (a' a) h + (a' b + b')``, so a program makes the states of one
receiver by an associative scan over all senders, of O(log S) depth. The gradient makes them again: of what is as large
as pairs times H nothing is kept but the arguments.
"""
# Axes: B graphs, S sender, R receiver, H hidden.

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from nar.ops.border import differentiable_gradients, has_to_be_differentiable
from nar.ops.precision import alike
from nar.ops.recurrence.reference import plain_recurrence

_ENTRIES = 2**12  # senders times entries of a state, which a program holds in registers


def recurrence(gate: Tensor, candidate: Tensor, is_heard: Tensor | None = None) -> Tensor:
    """The last states, [B, R, H], from the arguments of :func:`nar.ops.recurrence.recurrence`."""
    mask = None if is_heard is None else is_heard.contiguous()
    state: Tensor = _Recurrence.apply(gate.contiguous(), candidate.contiguous(), mask)
    return state


class _Recurrence(torch.autograd.Function):
    """The last states, and the gradients of gates and candidates."""

    @staticmethod
    def forward(ctx: Any, gate: Tensor, candidate: Tensor, is_heard: Tensor | None) -> Tensor:
        """The last states."""
        num_graphs, _, num_receivers, width = gate.shape
        state = candidate.new_empty(num_graphs, num_receivers, width)
        blocks = _blocks(gate, candidate)
        _recurrence[_grid(gate, blocks)](gate, candidate, is_heard, state, *gate.shape[1:], **blocks)
        ctx.save_for_backward(gate, candidate, is_heard)
        return state

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients of gates and candidates."""
        gate, candidate, is_heard = ctx.saved_tensors
        if has_to_be_differentiable(gradient):
            return differentiable_gradients(plain_recurrence, (gate, candidate, is_heard), gradient)
        grad_gate, grad_candidate = torch.empty_like(gate), torch.empty_like(candidate)
        blocks = _blocks(gate, candidate)
        _recurrence_backward[_grid(gate, blocks)](
            gradient.contiguous(), gate, candidate, is_heard, grad_gate, grad_candidate, *gate.shape[1:], **blocks
        )
        return grad_gate, grad_candidate, None


def _blocks(gate: Tensor, candidate: Tensor) -> dict[str, Any]:
    """The constants of kernels: powers of two of senders and of entries of a state, and the type to compute in."""
    senders = triton.next_power_of_2(gate.shape[1])
    width = min(triton.next_power_of_2(gate.shape[-1]), max(16, _ENTRIES // senders))
    compute = tl.float64 if alike(gate[:0], candidate[:0])[0].dtype == torch.float64 else tl.float32
    return {"SENDERS": senders, "WIDTH": width, "COMPUTE": compute}


def _grid(gate: Tensor, blocks: dict[str, Any]) -> tuple[int, int]:
    """The grid of a kernel: one program for each receiver of each graph, and as many entries as it holds."""
    return gate.shape[0] * gate.shape[2], triton.cdiv(gate.shape[-1], blocks["WIDTH"])


@triton.jit
def _compose(keep, add, next_keep, next_add):
    """One step after another as one."""
    return keep * next_keep, next_keep * add + next_add


@triton.jit
def _step(gate, candidate, is_heard, s, h, S, R, H, COMPUTE: tl.constexpr):
    """u and c of senders, and where they lie; u is 0, for no step, of who is not heard and beyond the senders."""
    row = tl.program_id(0).to(tl.int64)
    pair = (row // R * S + s) * R + row % R
    hears = (s >= 0) & (s < S)
    if is_heard is not None:
        hears = hears & (tl.load(is_heard + pair, mask=hears, other=0) != 0)
    inside = hears & (h < H)
    u = tl.sigmoid(tl.load(gate + pair * H + h, mask=inside, other=0).to(COMPUTE))
    c = tl.load(candidate + pair * H + h, mask=inside, other=0).to(COMPUTE)
    return tl.where(inside, u, 0), c, pair * H + h


@triton.jit
def _recurrence(
    gate, candidate, is_heard, state, S, R, H, SENDERS: tl.constexpr, WIDTH: tl.constexpr, COMPUTE: tl.constexpr
):
    """Write the last state of a receiver."""
    s = tl.arange(0, SENDERS)[:, None]
    h = tl.program_id(1) * WIDTH + tl.arange(0, WIDTH)[None, :]
    u, c, _ = _step(gate, candidate, is_heard, s, h, S, R, H, COMPUTE)
    _, states = tl.associative_scan((1 - u, u * c), 0, _compose)
    last = tl.sum(tl.where(s == SENDERS - 1, states, 0), 0)[None, :]
    tl.store(state + tl.program_id(0).to(tl.int64) * H + h, last, mask=h < H)


@triton.jit
def _recurrence_backward(
    gradient,
    gate,
    candidate,
    is_heard,
    grad_gate,
    grad_candidate,
    S,
    R,
    H,
    SENDERS: tl.constexpr,
    WIDTH: tl.constexpr,
    COMPUTE: tl.constexpr,
):
    """Write the gradients of the gates and candidates of a receiver."""
    s = tl.arange(0, SENDERS)[:, None]
    h = tl.program_id(1) * WIDTH + tl.arange(0, WIDTH)[None, :]
    u, c, there = _step(gate, candidate, is_heard, s, h, S, R, H, COMPUTE)
    u_before, c_before, _ = _step(gate, candidate, is_heard, s - 1, h, S, R, H, COMPUTE)
    u_after, _, _ = _step(gate, candidate, is_heard, s + 1, h, S, R, H, COMPUTE)
    _, before = tl.associative_scan((1 - u_before, u_before * c_before), 0, _compose)
    g = tl.load(gradient + tl.program_id(0).to(tl.int64) * H + h, mask=h < H, other=0).to(COMPUTE)
    passed = g * tl.cumprod(1 - u_after, 0, reverse=True)
    inside = (s < S) & (h < H)
    tl.store(grad_candidate + there, passed * u, mask=inside)
    tl.store(grad_gate + there, passed * (c - before) * (u * (1 - u)), mask=inside)
