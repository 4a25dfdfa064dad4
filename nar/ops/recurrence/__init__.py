"""The last state of a linear recurrence over senders, without keeping the states between.

On a CPU it is computed by :mod:`nar.ops.recurrence.cpu`, on a GPU by :mod:`nar.ops.recurrence.triton`, elsewhere and
for compilers and transforms by :mod:`nar.ops.recurrence.reference`.
"""
# Axes: B graphs, S sender, R receiver, H hidden.

import torch
from torch import Tensor

from nar.ops.border import check_shapes, is_watched
from nar.ops.device import is_for_triton
from nar.ops.recurrence import cpu
from nar.ops.recurrence.reference import plain_recurrence


def recurrence(gate: Tensor, candidate: Tensor, is_heard: Tensor | None = None) -> Tensor:
    """The state of each receiver after the senders that it hears, in the order of the senders, [B, R, H].

    It starts at 0 and takes ``h ← (1 - u_i) h + u_i c_i`` with ``u_i = σ(gate_i)``, in each entry by itself.

    Args:
        gate: What u is the sigmoid of, [B, S, R, H].
        candidate: c, [B, S, R, H].
        is_heard: True where the receiver hears the sender, [B, S, R]; None if all hear all. Who is not heard is passed
            over.
    """
    check_shapes(
        "recurrence",
        gate=(gate, "B S R H"),
        candidate=(candidate, "B S R H"),
        is_heard=(is_heard, "B S R", torch.bool),
    )
    is_plain = is_watched(gate, candidate, is_heard) or gate.numel() == 0
    if is_for_triton(gate) and not is_plain:
        from nar.ops.recurrence import triton

        return triton.recurrence(gate, candidate, is_heard)
    if is_plain or not gate.is_cpu:
        return plain_recurrence(gate, candidate, is_heard)
    return cpu.recurrence(gate, candidate, is_heard)
