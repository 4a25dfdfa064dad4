"""A look inside a model: its states step by step, and others in their place."""
# Axes: B graphs of a batch, C of them that take a step, T steps, N nodes, H hidden, D width of messages.

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from nar.datasets.engine.memory import num_free_bytes
from nar.errors import UserError
from nar.inference.answers import Answer

_OF_HINTS = "hints."


class Place(NamedTuple):
    """Where a state is in the runs of a model.

    Attributes:
        name: Of the state: an attribute of :class:`Trace`, or ``hints.`` and the name of a probe.
        step: From 0, as a trace's tensors are indexed.
        instance: Its number, from 0, among those that are traced.
    """

    name: str
    step: int
    instance: int


Replace = Callable[[Place, Tensor], Tensor | None]
"""A function of a place and a copy of the state there: what the model is to go on with, or None for that state."""


@dataclass(frozen=True)
class Trace:
    """What is inside a model while it runs on one instance, on the CPU: the states that it went on with.

    Attributes:
        node_features: What is encoded of the nodes at each step, inputs and the last hints, [T, N, H].
        edge_features: The same of ordered pairs of nodes, [T, N, N, H].
        graph_features: The same of the graph, [T, H].
        node_states: After each step, as decoders and the next step are given them, [T, N, H].
        hints: The logits of each predicted hint by probe name, [T, ...].
        outputs: The logits of each output by probe name.
        messages: What each node received, which its new state is made of, [T, N, D]: by PGN, MPNN, DeepSets and
            TripletGMPNN the reduction of messages, by GAT and GATv2 the mean of values, by Asynchronous ⊕, by layers of
            PyTorch Geometric what they aggregate. None of MemNet, and of a processor of a user's own that has no
            :class:`nar.processor.MessagePoint`. If messages are aggregated several times in a step, the last.
        edge_states: After each step, [T, N, N, H]; None if the processor has none.
        lstm_cells: After each step, [T, N, H]; None if there is no LSTM.
        answer: The answer on data of a user's own; None on a batch.
    """

    node_features: Tensor
    edge_features: Tensor
    graph_features: Tensor
    node_states: Tensor
    hints: Mapping[str, Tensor]
    outputs: Mapping[str, Tensor]
    messages: Tensor | None = None
    edge_states: Tensor | None = None
    lstm_cells: Tensor | None = None
    answer: Answer | None = None

    @property
    def num_steps(self) -> int:
        """T, for how many steps the model was run."""
        return len(self.node_states)


class Tracer:
    """What keeps the states of a model while it runs, and puts those of a user's in their place.

    Args:
        replace: Called with every state, in the order in which they are computed; None to leave all.
    """

    def __init__(self, replace: Replace | None) -> None:
        self.replace = replace
        self.instances: Sequence[int] = ()
        """The number of the instance that is at each place of the present batch."""
        self.kept: dict[int, dict[str, dict[int, Tensor]]] = defaultdict(lambda: defaultdict(dict))
        """By instance, name and step."""
        self.outputs: dict[int, dict[str, Tensor]] = {}
        """The logits by name of the instances that have ended."""
        self.room = num_free_bytes() // 2
        """How many bytes can still be kept."""

    def visit(self, step: int, graphs: Tensor, name: str, state: Tensor) -> Tensor:
        """What a model is to go on with in place of a state of a batch (see :data:`nar.model.visits.Visit`).

        It is the very same tensor where nothing is replaced by something else.
        """
        taken = state
        for place, row in enumerate(graphs.tolist()):
            instance = self.instances[row]
            if instance in self.outputs:
                continue
            own = state[place]
            other = None if self.replace is None else self.replace(Place(name, step, instance), own.clone())
            if other is not None and not torch.equal(other := fitting(name, own, other), own):
                taken = state.clone() if taken is state else taken
                taken[place] = other
            self.keep(instance, name, step, taken[place].cpu())
        return taken

    def keep(self, instance: int, name: str, step: int, state: Tensor) -> None:
        """Keep a state.

        Raises:
            UserError: If it is too much for the memory.
        """
        self.room -= state.nbytes
        if self.room < 0:
            raise UserError("the states of all steps do not fit into memory: give fewer or smaller instances, or steps")
        self.kept[instance][name][step] = state

    def end(self, row: int, outputs: Mapping[str, Tensor]) -> None:
        """Keep the logits of the outputs at a place of the present batch, where nothing more is to be traced."""
        self.outputs[self.instances[row]] = {name: logits.cpu() for name, logits in outputs.items()}

    def trace(self, instance: int, num_steps: int, answer: Answer | None = None) -> Trace:
        """The trace of an instance that has ended after so many steps."""
        along = {
            name: torch.stack([by_step[step] for step in range(num_steps)])
            for name, by_step in self.kept[instance].items()
        }
        hints = {name.removeprefix(_OF_HINTS): x for name, x in along.items() if name.startswith(_OF_HINTS)}
        states = {name: x for name, x in along.items() if not name.startswith(_OF_HINTS)}
        return Trace(**states, hints=hints, outputs=self.outputs[instance], answer=answer)


def fitting(name: str, own: Tensor, other: Tensor) -> Tensor:
    """Another state of the shape, the type and the device of a model's own.

    Raises:
        UserError: If it is no tensor of that shape.
    """
    if not isinstance(other, Tensor) or other.shape != own.shape:
        given = list(other.shape) if isinstance(other, Tensor) else f"a {type(other).__name__}"
        raise UserError(f"expected {name} {list(own.shape)} in place of the model's own, or None, given {given}")
    return other.to(own)
