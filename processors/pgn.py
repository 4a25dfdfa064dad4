"""Pointer graph networks, and the message passing layers that are settings of them: MPNN, deep sets, Triplet-GMPNN.

Sources: Veličković et al., "Pointer Graph Networks", NeurIPS 2020; Gilmer et al., "Neural Message Passing for Quantum
Chemistry", ICML 2017; Zaheer et al., "Deep Sets", NeurIPS 2017; Ibarz et al., "A Generalist Neural Algorithmic
Learner", LoG 2022; ``PGN``, ``PGNMask``, ``MPNN``, ``DeepSets`` and ``get_processor_factory`` in
``clrs/_src/processors.py`` of dm-clrs 2.0.3.
"""
# Axes: B graphs, N nodes, H hidden; S sender, R receiver. What belongs to an edge is [B, S, R, ...].

from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from nar.ops.affine import affine, shared
from nar.ops.channels import Channels, NodeSum, Rectified, TripletChannels, concat, with_sums
from nar.ops.gated_update import gated_update
from nar.ops.linear import Linear, is_plain, two_layers
from nar.ops.max_message import max_message
from nar.processor import MessagePoint, Processor, aligned
from nar.processors.reductions import AnyReduction, ReductionByMode, takes_max
from nar.processors.triplet_variants import TripletVariant, VariedTriplets
from nar.processors.triplets import Triplets

TripletMessages = Literal["linear"] | TripletVariant
Senders = Literal["neighbours", "all", "self"]


class PGN(Processor):
    """Every node takes the elementwise maximum, or another reduction, of what it hears; with ``z_i = x_i ‖ h_i``::

        m_ij  = MLP(ReLU(W1 z_j + W2 z_i + We e_ij + Wg g))         i sends to j in `adj`
        h'_j  = LayerNorm(ReLU(U1 z_j + U2 max_i m_ij))
        h'_j  = γ_j h'_j + (1 - γ_j) h_j                            if gated
        γ_j   = σ(V3 ReLU(V1 z_j + V2 max_i m_ij))                  V3 starts with bias -3
        e'_jk = ReLU(W max_i (t1 z_i + t2 z_j + t3 z_k + u1 e_ij + u2 e_ik + u3 e_jk + v g))      with triplets
        h_i   is g_i ⊙ h_i in all of these, g_i = σ(G1 x_i + G2 h_i)                              with a forget gate

    What dm-clrs's ``get_processor_factory`` calls by other names are settings of this class:

    =======================================  =====================================================
    ``pgn``, ``mpnn``, ``deepsets``          ``senders="neighbours"``, ``"all"``, ``"self"``
    ``pgn_mask``                             ``mask_decoders=True``
    ``triplet_…``                            ``triplet_dim=8``
    ``g…`` (``gpgn``, ``triplet_gmpnn``, …)  ``gated=True``
    =======================================  =====================================================

    Args:
        hidden_dim: H, the width of every feature and state.
        senders: Whom a node hears: its ``"neighbours"`` in `adj`, ``"all"`` nodes, or it ``"self"`` alone.
        mask_decoders: Whether a model may decode pointers and masks of edges along `adj` alone.
        reduction: What a node makes of the messages it hears: their ``"max"``, as in the equations, or ``"mean"``,
            ``"sum"``, ``"softmax"``, ``"adaptive softmax"``, ``"recurrent"``, ``"lstm"``, or a
            :class:`nar.processors.reductions.Reduction`; ``"dm-clrs mean"`` is the reference's mean, in which the sum
            of what a node hears is divided by the number of nodes that hear *it* (issue 92 of its tracker). Of a list,
            such as ``["max", "recurrent"]``, U2 and V2 are given what each leaves, side by side, [2H]: so each has
            its own weights there, and those of the maximum what they have without the other. ``"recurrent"`` and
            ``"lstm"`` read senders in the order of the nodes, and then the layer does not commute with renaming them.
        reduction_in_evaluation: Another that takes its place in evaluation, where it need not be the one that the
            weights were trained with; None for the same.
        triplet_dim: Width of triplet messages, 8 in the reference; 0 for none, and then there are no edge states.
        triplet_messages: How messages over triplets are made: ``"linear"``, as in the equation, or as one of the
            variants in :mod:`nar.processors.triplet_variants`: ``"concatrep"``, ``"div2mean"`` or ``"tanhexpand"``.
        triplet_reduction: The same as `reduction` for triplets.
        triplet_reduction_in_evaluation: The same as `reduction_in_evaluation` for triplets.
        gated: Whether a gate lets a node keep its state.
        layer_norm: Whether states are normalised (before the gate).
        forget_gate: Whether a gate tells how much of its last state a node is given. Its size is a penalty that models
            may add to their loss, ``"forget_gate"``: the mean of ``‖g_i‖ / sqrt(H)``. The idea is that of G-ForgetNet
            (Bohde et al., "On the Markov Property of Neural Algorithmic Reasoning", ICLR 2024), the equations are this
            library's own; without `gated`, nothing else hands a state on.
    """

    takes_channels = True
    is_separable = True

    def __init__(
        self,
        hidden_dim: int = 128,
        *,
        senders: Senders = "neighbours",
        mask_decoders: bool = False,
        reduction: AnyReduction = "max",
        reduction_in_evaluation: AnyReduction | None = None,
        triplet_dim: int = 0,
        triplet_messages: TripletMessages = "linear",
        triplet_reduction: AnyReduction = "max",
        triplet_reduction_in_evaluation: AnyReduction | None = None,
        gated: bool = False,
        layer_norm: bool = True,
        forget_gate: bool = False,
    ) -> None:
        super().__init__()
        if hidden_dim < 1 or triplet_dim < 0:
            raise ValueError(f"expected hidden_dim ≥ 1 and triplet_dim ≥ 0, given {hidden_dim} and {triplet_dim}")
        if senders not in get_args(Senders):
            raise ValueError(f"expected senders {' or '.join(map(repr, get_args(Senders)))}, given {senders!r}")
        of_triplets = (triplet_reduction, triplet_reduction_in_evaluation)
        if triplet_dim == 0 and of_triplets != ("max", None):
            raise ValueError(f"expected triplet_dim ≥ 1 for a reduction of triplets, given 0 and {of_triplets}")
        variants = get_args(TripletVariant)
        if triplet_messages not in ("linear", *variants):
            raise ValueError(f"expected triplet_messages 'linear' or one of {variants}, given {triplet_messages!r}")
        if triplet_messages != "linear" and (triplet_dim == 0 or of_triplets != ("max", None)):
            expected = f"triplet_dim ≥ 1 and no other triplet_reduction for triplet_messages {triplet_messages!r}"
            raise ValueError(f"expected {expected}, given {triplet_dim} and {of_triplets}")
        self.hidden_dim = hidden_dim
        self.senders = senders
        self.masks_decoders = mask_decoders
        is_ours = type(self).__module__ == __name__  # a subclass of yours may look at adj, and at features of graphs
        self.looks_at_adj = senders == "neighbours" or not is_ours
        self.takes_graph_channels = is_ours
        self.has_edge_states = triplet_dim > 0
        self.triplet_dim = triplet_dim
        self.triplet_messages: str = triplet_messages
        self.penalty_names = ("forget_gate",) if forget_gate else ()
        self.message_receiver = Linear(2 * hidden_dim, hidden_dim)
        self.message_sender = Linear(2 * hidden_dim, hidden_dim)
        self.message_edge = Linear(hidden_dim, hidden_dim)
        self.message_graph = Linear(hidden_dim, hidden_dim)
        self.message_mlp = nn.Sequential(
            nn.ReLU(), Linear(hidden_dim, hidden_dim), nn.ReLU(), Linear(hidden_dim, hidden_dim)
        )
        self.reduction = ReductionByMode("reduction", reduction, reduction_in_evaluation, hidden_dim)
        self.message_point = MessagePoint()
        self.update_node = Linear(2 * hidden_dim, hidden_dim)
        self.update_message = Linear(self.reduction.width, hidden_dim)
        self.norm = nn.LayerNorm(hidden_dim) if layer_norm else nn.Identity()
        self.triplets: Triplets | VariedTriplets | None = None
        if triplet_messages != "linear":
            self.triplets = VariedTriplets(triplet_messages, 2 * hidden_dim, hidden_dim, triplet_dim)
            self.triplet_dim = self.triplets.width
        elif triplet_dim:
            self.triplets = Triplets(2 * hidden_dim, hidden_dim, triplet_dim, *of_triplets)
        self.gate = Gate(hidden_dim, self.reduction.width) if gated else None
        self.forget = ForgetGate(hidden_dim) if forget_gate else None

    def forward(
        self,
        node_fts: Tensor | Channels,
        edge_fts: Tensor | Channels,
        graph_fts: Tensor | Channels,
        adj: Tensor,
        hidden: Tensor,
        triplet_fts: TripletChannels | None = None,
    ) -> tuple[Tensor, Tensor | Rectified | None]:
        """See :meth:`nar.processor.Processor.forward`; features of triplets are added to messages over triplets."""
        node_fts, edge_fts, graph_fts, adj, hidden = aligned(self, node_fts, edge_fts, graph_fts, adj, hidden)
        hidden = self.remembered(node_fts, hidden)
        z = with_sums(concat(node_fts, hidden), graph_fts, self._sums_of_nodes(edge_fts, triplet_fts))
        received = self.message_point(self.received(z, edge_fts, graph_fts, adj))
        states = self._updated(z, graph_fts, received, hidden)
        return states, None if self.triplets is None else self.triplets(z, edge_fts, graph_fts, triplet_fts)

    def remembered(self, node_fts: Tensor | Channels, hidden: Tensor) -> Tensor:
        """What a node is given of its last state, [B, N, H]."""
        return hidden if self.forget is None else self.forget(node_fts, hidden) * hidden

    def penalties(
        self,
        node_fts: Tensor | Channels,
        edge_fts: Tensor | Channels,
        graph_fts: Tensor | Channels,
        adj: Tensor,
        hidden: Tensor,
    ) -> dict[str, Tensor]:
        """The size of the forget gate, if there is one."""
        if self.forget is None:
            return {}
        node_fts, *_, hidden = aligned(self, node_fts, edge_fts, graph_fts, adj, hidden)
        return {"forget_gate": self.forget(node_fts, hidden).square().mean(dim=-1).sqrt().mean()}

    def _sums_of_nodes(self, edge_fts: Tensor | Channels, triplet_fts: TripletChannels | None) -> list[NodeSum]:
        """What is made of z = x ‖ h for every node."""
        sums = [self._heard(edge_fts), NodeSum(self.message_sender), *self._updates()]
        return sums if self.triplets is None else [*sums, *self.triplets.sums_of_nodes(edge_fts, triplet_fts)]

    def _heard(self, edge_fts: Tensor | Channels) -> NodeSum:
        """A receiver's part in its messages, with the bias of the edges' part if that is not computed by itself."""
        biases = () if self._layers_of_maximum is None else self.message_edge.operands(edge_fts)[2:3]
        return NodeSum(self.message_receiver, self.message_graph, biases)

    def _updates(self) -> list[NodeSum]:
        """A node's parts in its update and its gate, with biases of messages' parts if one product makes these."""
        if self.gate is None:
            return [NodeSum(self.update_node)]
        pairs = (self.update_node, self.update_message), (self.gate.node, self.gate.message)
        if self._norm_of_gated is None or not all(is_plain(of_messages, Linear) for _, of_messages in pairs):
            return [NodeSum(of_nodes) for of_nodes, _ in pairs]
        return [NodeSum(of_nodes, None, (of_messages.bias_or_zeros(),)) for of_nodes, of_messages in pairs]

    @property
    def _norm_of_gated(self) -> nn.LayerNorm | None:
        """The normalisation of gated states, if it is as in the equations, so that one operation makes these."""
        if self.gate is None or type(self.norm) is not nn.LayerNorm or self.norm.bias is None:
            return None
        return self.norm if self.norm.bias.shape == (self.hidden_dim,) else None

    def _updated(self, z: Tensor | Channels, graph_fts: Tensor | Channels, received: Tensor, hidden: Tensor) -> Tensor:
        """The next states, [B, N, H]."""
        if isinstance(z, Channels) and self.gate is not None and (norm := self._norm_of_gated) is not None:
            update, gate = (x.of(z, graph_fts) for x in self._updates())
            messages = affine(received, z.map.stacked(self.update_message, self.gate.message))
            output = self.gate.output
            weights = norm.weight, norm.bias, output.weight, output.bias_or_zeros()
            return gated_update(update, gate, messages, shared(hidden), *weights, norm.eps)
        states: Tensor = self.norm((self.update_node(z) + self.update_message(received)).relu())
        if self.gate is None:
            return states
        opened: Tensor = self.gate(z, received)
        return opened * states + (1 - opened) * hidden

    @property
    def _layers_of_maximum(self) -> tuple[Tensor, Tensor, Tensor, Tensor] | None:
        """The weights and biases of messages' two layers, if one operation takes the maximum with them."""
        if self.senders == "self" or not takes_max(self.reduction) or not is_plain(self.message_edge, Linear):
            return None
        return two_layers(self.message_mlp)

    def received(
        self, z: Tensor | Channels, edge_fts: Tensor | Channels, graph_fts: Tensor | Channels, adj: Tensor
    ) -> Tensor:
        """What every node receives: the reduction of the messages sent to it, [B, R, H], or H of each of several."""
        sent, heard = self.message_sender(z), self._heard(edge_fts).of(z, graph_fts)
        is_heard = adj.bool() if self.senders == "neighbours" else None
        # W1 z_j, W2 z_i and Wg g are added node by node; only We e_ij is made for every pair.
        if (layers := self._layers_of_maximum) is not None:
            # One operation makes the messages and takes their maximum, and holds none of the N² in memory.
            edge, edge_weight, _ = self.message_edge.operands(edge_fts)
            return max_message(sent, heard, edge, edge_weight, *layers, is_heard)
        if self.senders == "self":
            own_edge = self.message_edge(edge_fts).diagonal(dim1=1, dim2=2).mT
            mixed = (sent + heard + own_edge)[:, None]
        else:
            mixed = sent[:, :, None] + heard[:, None] + self.message_edge(edge_fts)
        received: Tensor = self.reduction(self.message_mlp(mixed), is_heard)
        return received


class MPNN(PGN):
    """Message passing between all pairs of nodes: a :class:`PGN` that does not look at `adj`; ``z_i = x_i ‖ h_i``::

        m_ij = MLP(ReLU(W1 z_j + W2 z_i + We e_ij + Wg g))          all i, j among them, send to j
        h'_j = LayerNorm(ReLU(U1 z_j + U2 max_i m_ij))

    Args:
        hidden_dim: H, the width of every feature and state.
        **settings: Of :class:`PGN`: another reduction, triplets and a gate.
    """

    def __init__(self, hidden_dim: int = 128, **settings: Any) -> None:
        super().__init__(hidden_dim, senders="all", mask_decoders=False, **settings)


class DeepSets(PGN):
    """Every node by itself: a :class:`PGN` in which it hears itself alone, whatever `adj` says; ``z_i = x_i ‖ h_i``::

        m_i  = MLP(ReLU((W1 + W2) z_i + We e_ii + Wg g))
        h'_i = LayerNorm(ReLU(U1 z_i + U2 m_i))

    Args:
        hidden_dim: H, the width of every feature and state.
        layer_norm: Whether states are normalised.
    """

    def __init__(self, hidden_dim: int = 128, *, layer_norm: bool = True) -> None:
        super().__init__(hidden_dim, senders="self", layer_norm=layer_norm)


class TripletGMPNN(MPNN):
    """A gated :class:`MPNN` with messages over triplets of nodes; ``z_i = x_i ‖ h_i``::

        m_ij  = MLP(ReLU(W1 z_j + W2 z_i + We e_ij + Wg g))         all i, j among them, send to j
        γ_j   = σ(V3 ReLU(V1 z_j + V2 max_i m_ij))                  V3 starts with bias -3
        h'_j  = γ_j LayerNorm(ReLU(U1 z_j + U2 max_i m_ij)) + (1 - γ_j) h_j
        e'_jk = ReLU(W max_i (t1 z_i + t2 z_j + t3 z_k + u1 e_ij + u2 e_ik + u3 e_jk + v g))

    Args:
        hidden_dim: H, the width of every feature and state.
        triplet_dim: Width of triplet messages, that of t1 to v; 0 for none, and then there are no edge states.
        gated: Whether a gate lets a node keep its state; the published multi-task model is not gated.
        **settings: Of :class:`PGN`: other reductions of messages and of triplets.
    """

    def __init__(self, hidden_dim: int = 128, *, triplet_dim: int = 8, gated: bool = True, **settings: Any) -> None:
        super().__init__(hidden_dim, triplet_dim=triplet_dim, gated=gated, **settings)


class Gate(nn.Module):
    """``σ(V3 ReLU(V1 z + V2 m))``: how far a node takes its new state, [B, N, H] in (0, 1); near 0 at the start.

    Args:
        hidden_dim: H.
        message_dim: Width of m.
    """

    def __init__(self, hidden_dim: int, message_dim: int) -> None:
        super().__init__()
        self.node = Linear(2 * hidden_dim, hidden_dim)
        self.message = Linear(message_dim, hidden_dim)
        self.output = Linear(hidden_dim, hidden_dim, bias=-3.0)

    def forward(self, z: Tensor | Channels, received: Tensor) -> Tensor:
        """The gate from z [B, N, 2H] and received messages [B, N, message_dim]."""
        return torch.sigmoid(self.output((self.node(z) + self.message(received)).relu()))


class ForgetGate(nn.Module):
    """``σ(G1 x + G2 h)``: how much of its last state a node is given, [B, N, H] in (0, 1); about .5 at the start."""

    def __init__(self, hidden_dim: int) -> None:
        super().__init__()
        self.node = Linear(hidden_dim, hidden_dim)
        self.state = Linear(hidden_dim, hidden_dim)

    def forward(self, node_fts: Tensor | Channels, hidden: Tensor) -> Tensor:
        """The gate from x and h, [B, N, H] each."""
        return torch.sigmoid(self.node(node_fts) + self.state(hidden))
