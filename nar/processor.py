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
    """

    hidden_dim: int
    has_edge_states: bool = False
    masks_decoders: bool = False
    takes_channels: bool = False

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
