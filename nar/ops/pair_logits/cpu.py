"""Logits on pairs of nodes on a CPU: parts of a batch on all cores, each part by loops."""
# Axes: B graphs, N nodes, C columns. What belongs to an edge is [B, sender, receiver, ...].

from typing import Any

import torch
from torch import Tensor

from nar.ops.border import differentiable_gradients, has_to_be_differentiable
from nar.ops.pair_logits import loops
from nar.ops.pair_logits.reference import plain_pair_logits
from nar.ops.parallel import Part, arrays, in_parallel, parts_of, summed
from nar.ops.precision import alike


def pair_logits(*arguments: Tensor) -> Tensor:
    """The logits from the arguments of :func:`nar.ops.pair_logits.pair_logits`."""
    given = (argument.contiguous() for argument in alike(*arguments))
    logits: Tensor = _PairLogits.apply(*given)  # type: ignore[no-untyped-call]
    return logits.to(arguments[0].dtype)


class _PairLogits(torch.autograd.Function):
    """The logits and the gradients of all arguments; of what is as large as pairs times H a byte is held for each."""

    @staticmethod
    def forward(ctx: Any, *arguments: Tensor) -> Tensor:
        """The logits."""
        receiver, sender, weight, bias, x, *_ = arguments
        num_graphs, num_nodes, num_columns = receiver.shape
        logits = x.new_empty(len(bias) + num_columns - len(weight), num_graphs, num_nodes, num_nodes)
        winner = torch.empty(*x.shape[:3], len(weight), dtype=torch.uint8)
        given = (receiver, sender, weight, bias, *_operands(arguments))
        parts = parts_of(*x.shape[:3])
        in_parallel(lambda part: loops.pair_logits(*_lines(part, x), *arrays(*given, winner, logits)), parts)
        ctx.save_for_backward(*arguments, *([winner] if any(ctx.needs_input_grad) else []))
        return logits

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients of all arguments."""
        *arguments, winner = ctx.saved_tensors
        if has_to_be_differentiable(gradient):
            return differentiable_gradients(plain_pair_logits, arguments, gradient)
        receiver, sender, weight, bias, x, _, *of_states = arguments
        operands = _, joined, data, *first = _operands(arguments)
        gradient = gradient.contiguous()
        given = (gradient, receiver, sender, weight, bias, *operands, winner)
        grad_sender, grad_x, grad_data = (torch.zeros_like(y) for y in (sender, x, data))

        def compute(part: Part) -> tuple[Tensor, ...]:
            grad_receiver = torch.zeros_like(receiver[part[0]])
            own = [torch.zeros_like(y) for y in (weight, joined, *first)]
            loops.pair_logits_backward(
                *_lines(part, x), *arrays(*given, grad_receiver, grad_sender, grad_x, grad_data, *own)
            )
            return grad_receiver, *own

        parts = parts_of(*x.shape[:3])
        grad_receiver, grad_weight, grad_joined, *grad_first = summed(receiver, parts, in_parallel(compute, parts))
        grad_bias = gradient[: len(bias)].sum(dim=(1, 2, 3))
        grad_states, grad_x_weight = torch.split(grad_joined.T, [len(joined) - x.shape[-1], x.shape[-1]], dim=1)
        made = (grad_receiver, grad_sender, grad_weight, grad_bias, grad_x, grad_x_weight)
        return (*made, grad_data, grad_first[0].T, grad_first[1], grad_states) if of_states else made


def _operands(arguments: tuple[Tensor, ...] | list[Tensor]) -> tuple[Tensor, ...]:
    """What loops are given of edges: channels, the joined weights of states and channels, data, Wf transposed, bf."""
    x, x_weight, *of_states = arguments[4:]
    if not of_states:
        return x, x_weight.T.contiguous(), *(x.new_empty(shape) for shape in ((0, 0, 0, 0), (0, 0), (0,)))
    data, first_weight, first_bias, states_weight = of_states
    joined = torch.cat([states_weight, x_weight], dim=1).T.contiguous()
    return x, joined, data, first_weight.T.contiguous(), first_bias


def _lines(part: Part, x: Tensor) -> tuple[int, int]:
    """The first sender of a part, counted over all graphs, and the one after its last."""
    (graphs, rows), (num_graphs, num_nodes) = part, x.shape[:2]
    last_graph = min(graphs.stop, num_graphs) - 1
    return graphs.start * num_nodes + rows.start, last_graph * num_nodes + min(rows.stop, num_nodes)
