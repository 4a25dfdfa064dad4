"""Pointer graph network along the edges of sparse graphs: the equation of :class:`nar.processors.PGN`.

Source: Veličković et al., "Pointer Graph Networks", NeurIPS 2020; Ibarz et al., "A Generalist Neural Algorithmic
Learner", LoG 2022, for the gate and the triplets.
"""
# Axes: N nodes and E edges of all graphs together, B graphs, H channels out.

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch_geometric.nn import MessagePassing
from torch_geometric.nn.aggr import Aggregation

from nar.linear import Linear
from nar.processors.sparse.aggregations import MaxAggregation, aggregation
from nar.processors.sparse.max_message import Edges, by_receiver, max_message
from nar.processors.sparse.path_triplets import PathTriplets


class PGNConv(MessagePassing):  # type: ignore[misc]
    """Every node takes the elementwise maximum of the messages that edges bring it::

        m_ij = MLP(ReLU(W1 x_j + W2 x_i + We e_ij + Wg g))          i sends, j receives
        x'_j = LayerNorm(ReLU(U1 x_j + U2 max_i m_ij))
        x'_j = γ_j x'_j + (1 - γ_j) h_j                             if gated
        γ_j  = σ(V3 ReLU(V1 x_j + V2 max_i m_ij))                   V3 starts with bias -3

    h_j, the state that a gate lets a node keep, is the last H entries of x_j: all of it if there are H channels in.
    With ``x = z`` and the same weights, ``conv.load_state_dict(pgn.state_dict())``, it is a
    :class:`nar.processors.PGN` whose `adj` are the edges; over all pairs of nodes, self-loops included, an
    :class:`~nar.processors.MPNN`, and with triplets and a gate a :class:`~nar.processors.TripletGMPNN`. The maximum is
    taken without keeping any message (:mod:`nar.processors.sparse.max_message`), unless a hook or an explainer is to
    see them.

    Args:
        in_channels: Width of x.
        out_channels: H.
        edge_dim: Width of the edges' features; None for none.
        graph_dim: Width of the graphs' features; None for none.
        aggr: What to take in place of the ``"max"``: ``"mean"``, ``"sum"``, ``"softmax"``, ``"adaptive softmax"``,
            ``"lstm"``, any other name that PyG knows, or an aggregation.
        aggr_kwargs: Of a named aggregation, such as ``{"learn": True}`` of a softmax.
        aggr_in_evaluation: Another that takes its place in evaluation, as the same; None for none. The published
            softmax is trained with and the maximum then tested.
        senders: Whom a node hears: its ``"neighbours"``, or it ``"self"`` alone as in deep sets. Then edges matter
            only in that the features of self-loops are heard.
        triplet_dim: Width of triplet messages; 0 for none, and then there are no edge states.
        gated: Whether a gate lets a node keep its state.
        layer_norm: Whether states are normalised (before the gate).

    Raises:
        ValueError: If a width is not positive, or a gate has no state to keep.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        edge_dim: int | None = None,
        graph_dim: int | None = None,
        aggr: str | Sequence[str] | Aggregation = "max",
        aggr_kwargs: dict[str, Any] | None = None,
        aggr_in_evaluation: str | Aggregation | None = None,
        senders: Literal["neighbours", "self"] = "neighbours",
        triplet_dim: int = 0,
        gated: bool = False,
        layer_norm: bool = True,
    ) -> None:
        widths = [width for width in (in_channels, out_channels, edge_dim, graph_dim) if width is not None]
        if min(widths) < 1 or triplet_dim < 0:
            raise ValueError(f"expected widths ≥ 1 and triplet_dim ≥ 0, given {widths} and {triplet_dim}")
        if gated and in_channels < out_channels:
            raise ValueError(
                f"expected in_channels ≥ out_channels of a gate, which keeps the last of them, given {in_channels} and "
                f"{out_channels}"
            )
        if senders not in ("neighbours", "self"):
            raise ValueError(f"expected senders 'neighbours' or 'self', given {senders!r}")
        kwargs = dict(aggr_kwargs or {})
        if aggr == "lstm":
            kwargs = {"in_channels": out_channels, "out_channels": out_channels, **kwargs}
        super().__init__(aggr=aggregation(aggr, **kwargs))
        self.aggr_in_evaluation = None if aggr_in_evaluation is None else aggregation(aggr_in_evaluation)
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.edge_dim = edge_dim
        self.graph_dim = graph_dim
        self.senders = senders
        self.has_edge_states = triplet_dim > 0
        self.message_receiver = Linear(in_channels, out_channels)
        self.message_sender = Linear(in_channels, out_channels)
        self.message_edge = None if edge_dim is None else Linear(edge_dim, out_channels)
        self.message_graph = None if graph_dim is None else Linear(graph_dim, out_channels)
        self.message_mlp = nn.Sequential(
            nn.ReLU(), Linear(out_channels, out_channels), nn.ReLU(), Linear(out_channels, out_channels)
        )
        self.update_node = Linear(in_channels, out_channels)
        self.update_message = Linear(out_channels, out_channels)
        self.norm = nn.LayerNorm(out_channels) if layer_norm else nn.Identity()
        self.triplets = (
            PathTriplets(in_channels, out_channels, edge_dim, graph_dim, triplet_dim) if triplet_dim else None
        )
        self.gate = Gate(in_channels, out_channels) if gated else None

    def reset_parameters(self) -> None:
        """Draw all weights anew."""
        for module in self.modules():
            if module is not self and hasattr(module, "reset_parameters"):
                module.reset_parameters()

    def forward(
        self,
        x: Tensor,
        edge_index: Tensor,
        edge_attr: Tensor | None = None,
        graph_attr: Tensor | None = None,
        batch: Tensor | None = None,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """New node states, and edge states if there are triplets.

        Args:
            x: [N, in_channels].
            edge_index: Senders and receivers, [2, E]; fastest in the order of receivers.
            edge_attr: [E, edge_dim].
            graph_attr: [B, graph_dim].
            batch: The graph of each node, [N]; None if there is one graph.

        Returns:
            [N, H], and [E, H] if there are triplets.

        Raises:
            ValueError: If there are features without a width, or the other way round.
        """
        for name, given, width in (("edge", edge_attr, self.edge_dim), ("graph", graph_attr, self.graph_dim)):
            if (given is None) != (width is None):
                found = "none" if given is None else f"some of width {given.shape[-1]}"
                raise ValueError(f"expected {name}_attr of {name}_dim {width}, given {found}")
        if graph_attr is not None:
            graph_attr = graph_attr.expand(len(x), -1) if batch is None else graph_attr.index_select(0, batch)
        received = self.received(x, edge_index, edge_attr, graph_attr)
        states: Tensor = self.norm((self.update_node(x) + self.update_message(received)).relu())
        if self.gate is not None:
            gate = self.gate(x, received)
            states = gate * states + (1 - gate) * x[:, -self.out_channels :]
        return states if self.triplets is None else (states, self.triplets(x, edge_index, edge_attr, graph_attr))

    def received(
        self, x: Tensor, edge_index: Tensor, edge_attr: Tensor | None, node_graph_attr: Tensor | None
    ) -> Tensor:
        """What every node receives, [N, H]; features of graphs are given for each node."""
        sent, heard = self.message_sender(x), self.message_receiver(x)
        if self.message_graph is not None:
            heard = heard + self.message_graph(node_graph_attr)
        if self.senders == "self":
            return self.heard_of_itself(sent + heard, edge_index, edge_attr)
        edges = by_receiver(edge_index, len(x))
        if isinstance(self.current_aggr, MaxAggregation) and not self.is_watched:
            return self.highest(sent, heard, edge_attr, edges)
        edge = sent.new_zeros(())
        if self.message_edge is not None:
            edge = self.message_edge(edge_attr).index_select(0, edges.order)
        sorted_index = torch.stack([edges.senders, edges.receivers])
        received: Tensor = self.propagate(sorted_index, sent=sent, heard=heard, edge=edge, size=(len(x), len(x)))
        return received

    def message(self, sent_j: Tensor, heard_i: Tensor, edge: Tensor) -> Tensor:
        """The message of every edge; in PyG's names j sends and i receives."""
        messages: Tensor = self.message_mlp(sent_j + heard_i + edge)
        return messages

    def aggregate(self, inputs: Tensor, index: Tensor, dim_size: int) -> Tensor:
        """What of the messages every node receives."""
        received: Tensor = self.current_aggr(inputs, index, dim_size=dim_size)
        return received

    @property
    def current_aggr(self) -> Aggregation:
        """That of the present mode."""
        in_evaluation = None if self.training else self.aggr_in_evaluation
        return self.aggr_module if in_evaluation is None else in_evaluation

    def highest(self, sent: Tensor, heard: Tensor, edge_attr: Tensor | None, edges: Edges) -> Tensor:
        """The maximum of the messages sent to every node, [N, H]."""
        if self.message_edge is None or edge_attr is None:
            edge, edge_weight = sent.new_empty(len(edges.order), 0), sent.new_empty(self.out_channels, 0)
        else:
            edge, edge_weight, heard = edge_attr, self.message_edge.weight, heard + self.message_edge.bias
        weight_1, bias_1, weight_2, bias_2 = self.message_mlp.parameters()
        return max_message(sent, heard, edge, edge_weight, weight_1, bias_1, weight_2, bias_2, edges)

    def heard_of_itself(self, total: Tensor, edge_index: Tensor, edge_attr: Tensor | None) -> Tensor:
        """The message of every node to itself, [N, H]."""
        if self.message_edge is not None:
            loops = (edge_index[0] == edge_index[1]).nonzero().squeeze(1)
            own = total.new_zeros(len(total), edge_attr.shape[-1])  # type: ignore[union-attr]
            total = total + self.message_edge(own.index_copy(0, edge_index[0, loops], edge_attr[loops]))  # type: ignore[index]
        received: Tensor = self.message_mlp(total)
        return received

    @property
    def is_watched(self) -> bool:
        """Whether a hook or an explainer is to see the messages."""
        hooks = (
            *(self._propagate_forward_pre_hooks, self._propagate_forward_hooks),
            *(self._message_forward_pre_hooks, self._message_forward_hooks),
            *(self._aggregate_forward_pre_hooks, self._aggregate_forward_hooks),
        )
        return bool(self.explain) or any(hooks)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.in_channels}, {self.out_channels}, aggr={self.aggr_module})"


class Gate(nn.Module):
    """``σ(V3 ReLU(V1 x + V2 m))``: how far a node takes its new state; see :class:`nar.processors.pgn.Gate`."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.node = Linear(in_channels, out_channels)
        self.message = Linear(out_channels, out_channels)
        self.output = Linear(out_channels, out_channels, bias=-3.0)

    def forward(self, x: Tensor, received: Tensor) -> Tensor:
        """The gate from x [N, in_channels] and received messages [N, H], [N, H] in (0, 1)."""
        return torch.sigmoid(self.output((self.node(x) + self.message(received)).relu()))
