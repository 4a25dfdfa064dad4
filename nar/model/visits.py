"""Looks at the states of a model while it runs, and other states in their place."""
# Axes: C graphs that take a step, N nodes, H hidden, D width of messages.

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar

from torch import Tensor

from nar.ops.channels import Channels, Rectified, as_tensor
from nar.processor import Processor

State = TypeVar("State", Tensor, Tensor | Channels, Tensor | Rectified)

Visit = Callable[[int, Tensor, str, Tensor], Tensor]
"""A function that a model calls with each state at each step, and that returns it or what is to take its place.

It is given the step, from 0; the places in the batch of the C graphs that take it, [C]; the name of the state; and the
state itself:

- ``node_features`` [C, N, H], ``edge_features`` [C, N, N, H] and ``graph_features`` [C, H]: what the step encodes;
- ``messages`` [C, N, D]: what the nodes receive, each time that a :class:`nar.processor.MessagePoint` has some;
- ``edge_states`` [C, N, N, H], if the processor has any;
- ``lstm_cells`` [C, N, H], if there is an LSTM;
- ``node_states`` [C, N, H], as decoders and the next step are given them;
- ``hints.<probe>`` [C, ...]: the logits of each predicted hint.
"""

VisitStep = Callable[[str, Tensor], Tensor]
"""A :data:`Visit` at one step."""


def visited(visit: VisitStep | None, name: str, state: State) -> State:
    """The state as it is, in whatever form, unless `visit` returns another than it was given: then that."""
    if visit is None:
        return state
    given = as_tensor(state)
    taken = visit(name, given)
    return state if taken is given else taken


def visited_messages(visit: VisitStep | None, processor: Processor, hidden: Tensor) -> AbstractContextManager[None]:
    """A context in which `visit` is called with the messages that the nodes of `hidden` [C, N, H] receive."""
    if visit is None:
        return nullcontext()

    def watch(received: Tensor) -> Tensor:
        of_nodes = hidden.shape[:-1]
        if received.shape[:-1] not in (of_nodes, of_nodes[:1].numel() * of_nodes[1:]):
            return received
        return visit("messages", received.reshape(*of_nodes, -1)).view_as(received)

    return processor.watching_messages(watch)
