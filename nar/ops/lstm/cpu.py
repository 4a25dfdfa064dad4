"""The last state of an LSTM on a CPU: some sequences at a time on all cores, each by PyTorch's LSTM.

That is oneDNN's, whose time goes into products of matrices: no loop of our own would be faster. But of a whole batch it
writes all gates into memory and reads them again. Of a few sequences they stay in a core's cache, and to compute them
again in the backward pass takes no longer than that.
"""
# Axes: B graphs, S sender, R receiver, H hidden.

from typing import Any

import torch
from torch import Tensor

from nar.ops.border import differentiable_gradients, has_to_be_differentiable
from nar.ops.lstm.reference import plain_lstm
from nar.ops.lstm.sequences import last_states, lstm_states
from nar.ops.parallel import Part, in_parallel, parts_of
from nar.ops.precision import alike

SEQUENCES = 64
"""The receivers whose messages are read at a time: enough for fast products, so few that gates stay in the cache."""


def lstm(*arguments: Any) -> Tensor:
    """The last states, [B, R, H], from the arguments of :func:`nar.ops.lstm.lstm`."""
    *tensors, is_heard = arguments
    state: Tensor = _LSTM.apply(*alike(*tensors), is_heard)  # type: ignore[no-untyped-call]
    return state.to(tensors[0].dtype)


class _LSTM(torch.autograd.Function):
    """The last states, and the gradients of messages and weights."""

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Tensor:
        """The last states."""
        messages, *weights, is_heard = arguments
        state: Tensor = messages.new_empty(messages.shape[0], *messages.shape[2:])

        def compute(part: Part) -> None:
            graphs, receivers = part
            state[part] = _last_states(messages[graphs, :, receivers], weights, is_heard, part)

        in_parallel(compute, _parts(messages))
        ctx.save_for_backward(*arguments)
        return state

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients of messages and weights."""
        given = ctx.saved_tensors  # of a checkpoint they may be asked for once
        if has_to_be_differentiable(gradient):
            return differentiable_gradients(plain_lstm, given, gradient)
        messages, *weights, is_heard = given
        grad_messages = torch.empty_like(messages, memory_format=torch.contiguous_format)

        def compute(part: Part) -> list[Tensor]:
            graphs, receivers = part
            read, *own = (x.detach().requires_grad_() for x in (messages[graphs, :, receivers], *weights))
            with torch.enable_grad():
                last = _last_states(read, own, is_heard, part)
            of_messages, *of_weights = torch.autograd.grad(last, [read, *own], gradient[part])
            grad_messages[graphs, :, receivers] = of_messages
            return of_weights

        gradients = in_parallel(compute, _parts(messages))
        grad_weights = [torch.stack(of_parts).sum(dim=0) for of_parts in zip(*gradients, strict=True)]
        return grad_messages, *grad_weights, None


def _last_states(messages: Tensor, weights: list[Tensor], is_heard: Tensor | None, part: Part) -> Tensor:
    """The last states of a part from its messages and who is heard in the whole batch."""
    graphs, receivers = part
    heard = None if is_heard is None else is_heard[graphs, :, receivers]
    return last_states(lambda sequences: lstm_states(sequences, weights), messages, heard)


def _parts(messages: Tensor) -> list[Part]:
    """The parts of a batch, of as many sequences as are read at a time."""
    num_graphs, num_senders, num_receivers, _ = messages.shape
    return parts_of(num_graphs, num_receivers, num_senders, SEQUENCES * num_senders)
