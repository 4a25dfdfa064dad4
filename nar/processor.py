"""The interface between a model and the graph network at its heart."""
# Axes: B graphs, N nodes, H hidden; S sender, R receiver. What belongs to an edge is [B, S, R, ...].

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from inspect import Parameter, signature
from typing import Any, TypeVar

from torch import Tensor, nn

from nar.configuration import KeepsArguments
from nar.ops.channels import Channels, Rectified, as_tensor
from nar.ops.linear import may_be_given_channels

Nodes = TypeVar("Nodes", bound=Tensor | Channels)
Edges = TypeVar("Edges", bound=Tensor | Channels)
Graphs = TypeVar("Graphs", bound=Tensor | Channels)

_AXES = {"node_fts": "B N H", "edge_fts": "B N N H", "graph_fts": "B H", "adj": "B N N", "hidden": "B N H"}
"""The axes of each tensor that a processor is given."""


class MessagePoint(nn.Module):
    """The point of a layer that received messages go through, where they can be looked at and replaced.

    It is no hook of PyTorch's, at the sight of which layers would leave their faster forms: what nobody replaces stays
    the same to the bit.

    Attributes:
        watch: What makes of received messages, [..., D], those that the layer goes on with; None to leave them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.watch: Callable[[Tensor], Tensor] | None = None

    def forward(self, received: Tensor) -> Tensor:
        """The messages, or what takes their place."""
        return received if self.watch is None else self.watch(received)


class Processor(KeepsArguments, nn.Module, ABC):
    """One step of message passing over a batch of graphs of equal size.

    Attributes:
        hidden_dim: H, the width of every feature and state.
        has_edge_states: Whether `forward` returns states for the edges.
        masks_decoders: Whether pointers of nodes and masks of edges are to be decoded along `adj` alone.
        takes_channels: Whether `forward` may be given features of nodes and edges as
            :class:`nar.ops.channels.Channels`, on which :class:`nar.ops.linear.Linear` is much faster, and then return
            edge states as :class:`nar.ops.channels.Rectified`.
        takes_graph_channels: Whether `forward` may also be given features of graphs as channels.
        triplet_dim: F, the width of messages over triplets; 0 for a processor that has none. One that has some may be
            given features of triplets as one more argument of `forward`, ``triplet_fts``, which are to be added to its
            messages about i, j and k, those to edge (j, k) from i:
            :class:`nar.ops.channels.TripletChannels` [B, N, N, N, F].
        looks_at_adj: Whether `forward` or `penalties` look at `adj`; if not, a model does not add those of hints to it.
        is_separable: Whether what becomes of a graph depends on it alone, and not on the others of its batch or on
            random numbers, so that parts of a batch may be computed apart, by several threads.
        penalty_names: Of what `penalties` returns.
    """

    hidden_dim: int
    has_edge_states: bool = False
    masks_decoders: bool = False
    takes_channels: bool = False
    takes_graph_channels: bool = False
    triplet_dim: int = 0
    looks_at_adj: bool = True
    is_separable: bool = False
    penalty_names: tuple[str, ...] = ()

    @abstractmethod
    def forward(
        self, node_fts: Tensor, edge_fts: Tensor, graph_fts: Tensor, adj: Tensor, hidden: Tensor
    ) -> tuple[Tensor, Tensor | Rectified | None]:
        """The next node states, and the states of the edges if the processor has some.

        Args:
            node_fts: [B, N, H].
            edge_fts: [B, S, R, H].
            graph_fts: [B, H].
            adj: True where the sender is heard by the receiver, self-loops included, [B, S, R].
            hidden: The previous node states, [B, N, H].

        Returns:
            Node states [B, N, H], and edge states [B, S, R, H], or None if the processor has none.
        """

    def penalties(
        self, node_fts: Tensor, edge_fts: Tensor, graph_fts: Tensor, adj: Tensor, hidden: Tensor
    ) -> dict[str, Tensor]:
        """Losses of this step that training may add to those of the probes, by name; none unless a processor has some.

        Args:
            node_fts: As of `forward`; so are the others.
            edge_fts: [B, S, R, H].
            graph_fts: [B, H].
            adj: [B, S, R].
            hidden: [B, N, H].

        Returns:
            A scalar, the mean over the graphs, for each of `penalty_names`.
        """
        return {}

    @contextmanager
    def watching_messages(self, watch: Callable[[Tensor], Tensor]) -> Iterator[None]:
        """Where what nodes receive goes through `watch`; nothing does of a processor without a :class:`MessagePoint`.

        Args:
            watch: What makes of received messages, those of all nodes in their order, those that are gone on with.
        """
        points = [part for part in self.modules() if isinstance(part, MessagePoint)]
        before = [point.watch for point in points]
        try:
            for point in points:
                point.watch = watch
            yield
        finally:
            for point, earlier in zip(points, before, strict=True):
                point.watch = earlier


def takes_triplet_fts(processor: Processor) -> bool:
    """Whether a processor has messages over triplets and its `forward` may be given features to add to them."""
    parameters = signature(processor.forward).parameters.values()
    is_taken = any(x.name == "triplet_fts" or x.kind is Parameter.VAR_KEYWORD for x in parameters)
    return processor.triplet_dim > 0 and is_taken


class SparseProcessor(Processor):
    """A processor that can also do its step along the edges of sparse graphs, of different sizes."""

    @abstractmethod
    def along_edges(
        self,
        node_fts: Tensor,
        edge_fts: Tensor,
        graph_fts: Tensor,
        edge_index: Tensor,
        graph: Tensor,
        hidden: Tensor,
    ) -> tuple[Tensor, Tensor | None]:
        """The next node states, and those of the edges if the processor has some, by a step along edges.

        Args:
            node_fts: Of the nodes of all graphs, [N, H].
            edge_fts: Of the edges of all graphs, [E, H].
            graph_fts: [B, H].
            edge_index: The sender and the receiver of each edge, [2, E].
            graph: The graph of each node, [N].
            hidden: The previous node states, [N, H].

        Returns:
            Node states [N, H], and edge states [E, H], or None if the processor has none.
        """


def aligned(
    layer: nn.Module, node_fts: Nodes, edge_fts: Edges, graph_fts: Graphs, adj: Tensor, hidden: Tensor
) -> tuple[Nodes, Edges, Graphs, Tensor, Tensor]:
    """The five arguments of a processor, in the shapes of :meth:`Processor.forward`.

    Features stay channels if every part of the layer can do with them. Axes B, S and R that are of length 1 or missing
    are expanded, as PyTorch broadcasts: an `adj` [1, N, N] or [N, N] is that of all graphs.

    Args:
        layer: Whose `hidden_dim` is H; named in errors.
        node_fts: As of :meth:`Processor.forward`; so are the others.
        edge_fts: [B, N, N, H].
        graph_fts: [B, H].
        adj: [B, N, N].
        hidden: [B, N, H].

    Raises:
        ValueError: If shapes disagree.
    """
    hidden_dim: int = layer.hidden_dim  # type: ignore[assignment]
    given: Any = node_fts, edge_fts, graph_fts, adj, hidden
    if not all(isinstance(x, Tensor) for x in given) and not may_be_given_channels(layer):
        given = as_tensor(node_fts), as_tensor(edge_fts), as_tensor(graph_fts), adj, hidden
    num_graphs, num_nodes = hidden.shape[:2] if hidden.dim() == 3 else (1, 1)
    nodes, pairs = (num_graphs, num_nodes), (num_graphs, num_nodes, num_nodes)
    # Almost every call has these shapes, so they are compared before anything is looked at by its axes.
    usual = (*nodes, hidden_dim), (*pairs, hidden_dim), (num_graphs, hidden_dim), pairs, (*nodes, hidden_dim)
    if tuple(operand.shape for operand in given) == usual:
        return given  # type: ignore[no-any-return]
    sizes = {"H": hidden_dim}
    for operand, axes in zip(given, _AXES.values(), strict=True):
        for axis, size in zip(reversed(axes.split()), reversed(operand.shape), strict=False):
            if size != 1:
                sizes.setdefault(axis, size)
    expanded = []
    for operand, (name, axes) in zip(given, _AXES.items(), strict=True):
        names, shape = axes.split(), list(operand.shape)
        expected = [sizes.get(axis, 1) for axis in names]
        own = [1] * (len(names) - len(shape)) + shape
        is_whole = axes[-1] != "H" or own[-1] == hidden_dim
        if len(own) > len(names) or not is_whole or any(x not in (1, y) for x, y in zip(own, expected, strict=True)):
            text = ", ".join(f"{axis}={size}" for axis, size in zip(names, expected, strict=True))
            raise ValueError(f"{type(layer).__name__}: expected {name} [{text}], given {shape}")
        expanded.append(operand if own == expected == shape else as_tensor(operand).expand(expected))
    made: Any = tuple(expanded)
    return made  # type: ignore[no-any-return]
