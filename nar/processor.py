"""The interface between a model and the graph network at its heart."""
# Axes: B graphs, N nodes, H hidden; S sender, R receiver. What belongs to an edge is [B, S, R, ...].

from abc import ABC, abstractmethod

from torch import Tensor, nn

from nar.linear import Rectified


class Processor(nn.Module, ABC):
    """One step of message passing over a batch of graphs of equal size.

    Attributes:
        hidden_dim: H, the width of every feature and state.
        has_edge_states: Whether `forward` returns states for the edges.
        masks_decoders: Whether pointers of nodes and masks of edges are to be decoded along `adj` alone.
        takes_channels: Whether `forward` may be given features of nodes and edges as :class:`nar.linear.Channels`, on
            which :class:`nar.linear.Linear` is much faster, and then return edge states as
            :class:`nar.linear.Rectified`.
        is_separable: Whether what becomes of a graph depends on it alone, and not on the others of its batch or on
            random numbers, so that parts of a batch may be computed apart, by several threads.
        penalty_names: Of what `penalties` returns.
    """

    hidden_dim: int
    has_edge_states: bool = False
    masks_decoders: bool = False
    takes_channels: bool = False
    is_separable: bool = False
    penalty_names: tuple[str, ...] = ()

    @abstractmethod
    def forward(
        self, node_fts: Tensor, edge_fts: Tensor, graph_fts: Tensor, adj: Tensor, hidden: Tensor
    ) -> tuple[Tensor, Tensor | Rectified | None]:
        """The next node states and the edge states.

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
        """The next node states and the edge states.

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
