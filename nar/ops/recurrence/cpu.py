"""The last state of a linear recurrence on a CPU: parts of a batch on all cores, each part by loops.

The gradient computes the states between again, of a part that a core's cache holds.
"""
# Axes: B graphs, S sender, R receiver, H hidden.

from typing import Any

import torch
from torch import Tensor

from nar.ops.border import differentiable_gradients, has_to_be_differentiable
from nar.ops.parallel import Part, arrays, in_parallel, parts_of
from nar.ops.precision import alike
from nar.ops.recurrence import loops
from nar.ops.recurrence.reference import plain_recurrence


def recurrence(gate: Tensor, candidate: Tensor, is_heard: Tensor | None) -> Tensor:
    """The last states, [B, R, H], from the arguments of :func:`nar.ops.recurrence.recurrence`."""
    state: Tensor = _Recurrence.apply(*alike(gate, candidate), is_heard)  # type: ignore[no-untyped-call]
    return state.to(candidate.dtype)


class _Recurrence(torch.autograd.Function):
    """The last states, and the gradients of gates and candidates."""

    @staticmethod
    def forward(ctx: Any, gate: Tensor, candidate: Tensor, is_heard: Tensor | None) -> Tensor:
        """The last states."""
        num_graphs, num_senders, num_receivers, width = gate.shape
        state = gate.new_zeros(num_graphs, num_receivers, width)

        def compute(part: Part) -> None:
            loops.recurrence(*arrays(*_operands(gate, candidate, is_heard, part), state[part]))

        in_parallel(compute, parts_of(num_graphs, num_receivers, num_senders))
        ctx.save_for_backward(gate, candidate, is_heard)
        return state

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients of gates and candidates."""
        gate, candidate, is_heard = ctx.saved_tensors
        if has_to_be_differentiable(gradient):
            return differentiable_gradients(plain_recurrence, (gate, candidate, is_heard), gradient)
        num_graphs, num_senders, num_receivers, _ = gate.shape
        grad_gate, grad_candidate = gate.new_empty(gate.shape), gate.new_empty(gate.shape)

        def compute(part: Part) -> None:
            graphs, receivers = part
            opened, *others = _operands(gate, candidate, is_heard, part)
            before, of_gate, of_candidate = (torch.empty_like(opened) for _ in range(3))
            passed = gradient[part].clone(memory_format=torch.contiguous_format)
            loops.recurrence_backward(*arrays(passed, opened, *others, before, of_gate, of_candidate))
            grad_gate[graphs, :, receivers] = of_gate
            grad_candidate[graphs, :, receivers] = of_candidate

        in_parallel(compute, parts_of(num_graphs, num_receivers, num_senders))
        return grad_gate, grad_candidate, None


def _operands(gate: Tensor, candidate: Tensor, is_heard: Tensor | None, part: Part) -> tuple[Tensor, ...]:
    """Open gates ``σ(gate)`` and candidates of a part, contiguous, and who is heard: nothing if all are."""
    graphs, receivers = part
    opened = gate[graphs, :, receivers].contiguous().sigmoid()
    hears = gate.new_empty(0, 0, 0, dtype=torch.bool) if is_heard is None else is_heard[graphs, :, receivers]
    return opened, candidate[graphs, :, receivers].contiguous(), hears.contiguous()
