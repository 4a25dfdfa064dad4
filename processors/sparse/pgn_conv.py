"""Pointer graph network along the edges of sparse graphs: the equation of :class:`nar.processors.PGN`.

Source: Veličković et al., "Pointer Graph Networks", NeurIPS 2020; Ibarz et al., "A Generalist Neural Algorithmic
Learner", LoG 2022, for the gate and the triplets.
"""
# Axes: N nodes and E edges of all graphs together, B graphs, H channels out.

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch_geometric.nn.aggr import Aggregation, QuantileAggregation

from nar.ops.border import is_watched
from nar.ops.edge_max_message import by_receiver, edge_max_message
from nar.ops.linear import Linear, is_plain, two_layers
from nar.processor import MessagePoint
from nar.processors.sparse.aggregations import MaxAggregation, aggregation_of_width
from nar.processors.sparse.conv import Flow, Given, Nodes, Size, SparseConv, Width, linear
from nar.processors.sparse.path_triplets import PathTriplets


class PGNConv(SparseConv):
    """Every node takes the elementwise maximum of the messages that edges bring it::

        m_ij = MLP(ReLU(W1 x_j + W2 x_i + We e_ij + Wg g))          i sends, j receives
        x'_j = LayerNorm(ReLU(U1 x_j + U2 max_i m_ij))
        x'_j = γ_j x'_j + (1 - γ_j) h_j                             if gated
        γ_j  = σ(V3 ReLU(V1 x_j + V2 max_i m_ij))                   V3 starts with bias -3

    h_j, the state that a gate lets a node keep, is the last H entries of x_j: all of it if there are H channels in.
    With ``x = z`` and the same weights, ``conv.load_state_dict(pgn.state_dict())``, it is a
    :class:`nar.processors.PGN` whose `adj` are the edges; over all pairs of nodes, self-loops included, an
    :class:`~nar.processors.MPNN`, and with triplets and a gate a :class:`~nar.processors.TripletGMPNN`. The maximum is
    taken without keeping any message (:mod:`nar.ops.edge_max_message`), unless someone is to see them: a hook,
    an explainer, a compiler, a transform of ``torch.func``, or a part of this layer that was changed.

    Args:
        in_channels: Width of x, or those of x_src and x_dst; -1 for what the first call is given.
        out_channels: H.
        edge_dim: Width of the edges' features, -1 as above; None for none.
        graph_dim: Width of the graphs' features, -1 as above; None for none.
        aggr: What to take in place of the ``"max"``: ``"mean"``, ``"sum"``, ``"softmax"``, ``"adaptive softmax"``,
            any other name that PyG knows, or an aggregation; ``"recurrent"`` and ``"lstm"`` read senders in the order
            of the nodes.
        aggr_kwargs: Of a named aggregation, such as ``{"learn": True}`` of a softmax.
        aggr_in_evaluation: Another that takes its place in evaluation, as the same; None for none. The published
            softmax is trained with and the maximum then tested.
        senders: Whom a node hears: its ``"neighbours"``, or it ``"self"`` alone as in deep sets. Then edges matter
            only in that the features of self-loops are heard.
        triplet_dim: Width of triplet messages; 0 for none, and then there are no edge states.
        gated: Whether a gate lets a node keep its state.
        layer_norm: Whether states are normalised (before the gate).
        flow: ``"target_to_source"`` lets a node hear those that it sends to.

    Raises:
        ValueError: If a width is not positive, a gate has no state to keep, or an aggregation does not give H channels.
    """

    def __init__(
        self,
        in_channels: Width,
        out_channels: int,
        edge_dim: int | None = None,
        graph_dim: int | None = None,
        aggr: str | Sequence[str] | Aggregation = "max",
        aggr_kwargs: dict[str, Any] | None = None,
        aggr_in_evaluation: str | Sequence[str] | Aggregation | None = None,
        senders: Literal["neighbours", "self"] = "neighbours",
        triplet_dim: int = 0,
        gated: bool = False,
        layer_norm: bool = True,
        flow: Flow = "source_to_target",
    ) -> None:
        if triplet_dim < 0:
            raise ValueError(f"expected triplet_dim ≥ 0, given {triplet_dim}")
        if senders not in ("neighbours", "self"):
            raise ValueError(f"expected senders 'neighbours' or 'self', given {senders!r}")
        if isinstance(in_channels, Sequence) and (triplet_dim or senders == "self"):
            setting = "senders 'self'" if senders == "self" else f"triplet_dim {triplet_dim}"
            raise ValueError(f"expected one in_channels with {setting}, given {in_channels}: its nodes send and hear")
        super().__init__(
            *(in_channels, out_channels, edge_dim, graph_dim),
            aggr=aggregation_of_width(out_channels, aggr, aggr_kwargs),
            flow=flow,
        )
        self.aggr_in_evaluation = (
            None if aggr_in_evaluation is None else aggregation_of_width(out_channels, aggr_in_evaluation)
        )
        self.senders = senders
        self.has_edge_states = triplet_dim > 0
        sender_dim, receiver_dim = self.widths
        self.message_receiver = linear(receiver_dim, out_channels)
        self.message_sender = linear(sender_dim, out_channels)
        self.message_edge = None if edge_dim is None else linear(edge_dim, out_channels)
        self.message_graph = None if graph_dim is None else linear(graph_dim, out_channels)
        self.message_mlp = nn.Sequential(
            nn.ReLU(), Linear(out_channels, out_channels), nn.ReLU(), Linear(out_channels, out_channels)
        )
        self.message_point = MessagePoint()
        self.update_node = linear(receiver_dim, out_channels)
        self.update_message = Linear(out_channels, out_channels)
        self.norm = nn.LayerNorm(out_channels) if layer_norm else nn.Identity()
        self.triplets = (
            PathTriplets(sender_dim, out_channels, edge_dim, graph_dim, triplet_dim) if triplet_dim else None
        )
        self.gate = Gate(receiver_dim, out_channels) if gated else None
        self.expect_a_state(receiver_dim)

    def expect_a_state(self, receiver_dim: int) -> None:
        """See to it that a gate has a state to keep in x of this width."""
        if self.gate is not None and receiver_dim != -1 and receiver_dim < self.out_channels:
            raise ValueError(
                f"expected in_channels ≥ out_channels of a gate, which keeps the last of them, given {receiver_dim} "
                f"and {self.out_channels}"
            )

    def forward(
        self,
        x: Nodes,
        edge_index: Tensor,
        edge_attr: Tensor | None = None,
        graph_attr: Tensor | None = None,
        batch: Tensor | None = None,
        size: Size | None = None,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """The new node states, and the edge states if there are triplets.

        Args:
            x: [N, in_channels]; or of a bipartite graph x_src and x_dst, or x_src and None, where nodes that have no
                features hear what they are sent and no more.
            edge_index: Senders and receivers, [2, E]; fastest in the order of receivers. Or adj_t, a sparse matrix,
                whose values are the `edge_attr` if there is an `edge_dim` and none are given.
            edge_attr: [E, edge_dim].
            graph_attr: [B, graph_dim].
            batch: The graph of each node (that hears), [N]; None if there is one graph.
            size: The numbers of nodes on both sides of a bipartite graph; None for what x says.

        Returns:
            [N, H], and [E, H] if there are triplets.

        Raises:
            IndexError, TypeError, ValueError: If they do not fit.
            NotImplementedError: If one is not there for what this layer's settings ask for.
        """
        given = self.given(x, edge_index, edge_attr, graph_attr, batch, size)
        self.expect_a_state(self.widths[1])
        if self.senders == "self" and self.is_watched:
            raise NotImplementedError(
                "PGNConv: expected no hooks on messages and no explainer with senders 'self', along whose edges no "
                "message goes (an explainer leaves out a layer whose `explain` is False)"
            )
        if given.is_bipartite and (self.senders == "self" or self.triplets is not None):
            setting = "senders 'self'" if self.senders == "self" else "triplets"
            raise NotImplementedError(f"PGNConv: expected one x with {setting}, given those of a bipartite graph")
        if given.hearing is None and self.gate is not None:
            raise NotImplementedError("PGNConv: expected x_dst with a gate, which lets it be kept, given None")
        received = self.message_point(self.received(given))
        updated = self.update_message(received)
        if given.hearing is not None:
            updated = self.update_node(given.hearing) + updated
        states: Tensor = self.norm(updated.relu())
        if self.gate is not None:
            gate = self.gate(given.hearing, received)
            states = gate * states + (1 - gate) * given.hearing[:, -self.out_channels :]  # type: ignore[index]
        if self.triplets is None:
            return states
        edges = torch.stack([given.senders, given.receivers])
        return states, self.triplets(given.sending, edges, given.edge_attr, given.graph_attr)

    def received(self, given: Given) -> Tensor:
        """The reduction of the messages sent to every node, [N, H]."""
        sent = self.message_sender(given.sending)
        heard = sent.new_zeros(given.num_receivers, self.out_channels)
        if given.hearing is not None:
            heard = self.message_receiver(given.hearing)
        if self.message_graph is not None:
            heard = heard + self.message_graph(given.graph_attr)
        if self.senders == "self":
            return self.heard_of_itself(sent + heard, given)
        mlp = self.fused_mlp()
        if mlp is not None and not is_watched(sent, heard, given.edge_index):
            return self.highest(sent, heard, given, *mlp)
        edge = sent.new_zeros(()) if self.message_edge is None else self.message_edge(given.edge_attr)
        received: Tensor = self.pass_on(given, sent=sent, heard=heard, edge=edge)
        return received

    def message(self, sent_j: Tensor, heard_i: Tensor, edge: Tensor) -> Tensor:
        """The message of every edge; in PyG's names j sends and i receives."""
        messages: Tensor = self.message_mlp(sent_j + heard_i + edge)
        return messages

    def aggregate(self, inputs: Tensor, index: Tensor, dim_size: int, edge_index_j: Tensor) -> Tensor:
        """The reduction of the messages of every receiver, [N, H]; 0, or what the aggregation gives, of none.

        Some read them in order: `edge_index_j` is the sender of each.
        """
        current = self.current_aggr
        if isinstance(current, MaxAggregation):
            highest: Tensor = current(inputs, index, dim_size=dim_size)
            return highest
        if is_watched(index) or not _are_in_order(index, edge_index_j):
            order = edge_index_j.sort(stable=True).indices
            order = order[index[order].sort(stable=True).indices]
            index, inputs = index[order], inputs.index_select(0, order)
        if inputs.shape[0] > 0 and not isinstance(current, QuantileAggregation):
            received: Tensor = current(inputs, index, dim_size=dim_size)
            return received
        # Some cannot take no messages, and quantiles a first node without one: two, to a node that is not there.
        inputs = torch.cat([inputs.new_zeros(2, inputs.shape[1]), inputs])
        index = torch.cat([index.new_zeros(2), index + 1])
        with_nobody: Tensor = current(inputs, index, dim_size=dim_size + 1)
        return with_nobody[1:]

    @property
    def current_aggr(self) -> Aggregation:
        """The aggregation of the present mode, training or evaluation."""
        in_evaluation = None if self.training else self.aggr_in_evaluation
        return self.aggr_module if in_evaluation is None else in_evaluation

    def fused_mlp(self) -> tuple[Tensor, Tensor, Tensor, Tensor] | None:
        """Weights and biases of the messages' MLP; None if a module that :meth:`highest` replaces has to be called."""
        is_called = not is_plain(self.current_aggr, MaxAggregation) or not (
            self.message_edge is None or is_plain(self.message_edge, Linear)
        )
        return None if self.is_watched or is_called else two_layers(self.message_mlp)

    def highest(
        self,
        sent: Tensor,
        heard: Tensor,
        given: Given,
        weight_1: Tensor,
        bias_1: Tensor,
        weight_2: Tensor,
        bias_2: Tensor,
    ) -> Tensor:
        """The maximum of the messages sent to every node, [N, H], by an MLP with these weights."""
        edge, edge_weight = sent.new_empty(given.senders.shape[0], 0), sent.new_empty(self.out_channels, 0)
        if self.message_edge is not None and given.edge_attr is not None:
            edge, edge_weight = given.edge_attr, self.message_edge.weight
            heard = heard + self.message_edge.bias_or_zeros()
        edges = by_receiver(torch.stack([given.senders, given.receivers]), given.num_receivers, sent.shape[0])
        return edge_max_message(sent, heard, edge, edge_weight, weight_1, bias_1, weight_2, bias_2, edges)

    def heard_of_itself(self, total: Tensor, given: Given) -> Tensor:
        """The message of every node to itself, [N, H]."""
        if self.message_edge is not None and given.edge_attr is not None:
            # Of other edges they go to a node that is not there.
            where = torch.where(given.senders == given.receivers, given.senders, total.shape[0])
            own = given.edge_attr.new_zeros(total.shape[0] + 1, given.edge_attr.shape[1])
            own = own.index_add(0, where, given.edge_attr)[: total.shape[0]]
            total = total + self.message_edge(own)
        received: Tensor = self.message_mlp(total)
        return received

    @property
    def is_watched(self) -> bool:
        """Whether a hook, an explainer or a class made of this one is to see the messages."""
        hooks = (
            *(self._propagate_forward_pre_hooks, self._propagate_forward_hooks),
            *(self._message_forward_pre_hooks, self._message_forward_hooks),
            *(self._aggregate_forward_pre_hooks, self._aggregate_forward_hooks),
        )
        is_changed = any(
            name in vars(self) or getattr(type(self), name) is not getattr(PGNConv, name)
            for name in ("message", "aggregate", "update")
        )
        return bool(self.explain) or any(hooks) or is_changed

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.in_channels}, {self.out_channels}, aggr={self.aggr_module})"


def _are_in_order(receivers: Tensor, senders: Tensor) -> bool:
    """Whether edges are in the order of their receivers, and those of a receiver in that of their senders."""
    rises, stays = receivers[1:] > receivers[:-1], receivers[1:] == receivers[:-1]
    return bool((rises | (stays & (senders[1:] >= senders[:-1]))).all())


class Gate(nn.Module):
    """``σ(V3 ReLU(V1 x + V2 m))``: how far a node takes its new state, as in :class:`nar.processors.pgn.Gate`."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.node = linear(in_channels, out_channels)
        self.message = Linear(out_channels, out_channels)
        self.output = Linear(out_channels, out_channels, bias=-3.0)

    def forward(self, x: Tensor, received: Tensor) -> Tensor:
        """The gate from x [N, in_channels] and received messages [N, H], [N, H] in (0, 1)."""
        return torch.sigmoid(self.output((self.node(x) + self.message(received)).relu()))
