"""Layers whose result does not depend on when messages arrive.

Source: Dudzik et al., "Asynchronous Algorithmic Alignment with Cocycles", LoG 2023; the published layers and penalties:
Monteagudo-Lago et al., PMLR 251:65-77, 2024.
"""
# Axes: B graphs, N nodes, S sender, R receiver, H hidden, D width of states. What belongs to an edge is [B, S, R, ...].

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from nar.ops.channels import Channels, concat
from nar.ops.linear import Linear
from nar.ops.precision import alike, at_least_float32, unheard
from nar.processor import MessagePoint, Processor, aligned
from nar.processors.asynchronous import laws

Reduction = Literal["max", "logsumexp", "sum"]
Update = Literal["action", "network"]
Arguments = Literal["state", "received", "network"]
Message = Literal["tropical linear", "tropical bilinear", "linear", "mlp"]
Senders = Literal["neighbours", "all"]


class Asynchronous(Processor):
    """Message passing in four pieces with a law for each; ``s_j`` is a node's state and ``a_j`` what it last sent on::

        m_j  = ⊕_i ψ(a_i, a_j)        i sends, j receives
        s'_j = φ(s_j, m_j)
        a'_j = δ(s_j, m_j)

    =====  ==================================================  ===================================================
    level  law: the result is the same                         holds
    =====  ==================================================  ===================================================
    1      in whatever order and groups messages arrive:       always
           ⊕ is associative and commutative
    2      if nodes update whenever messages arrive:           if ``update="action"``
           ``φ(s, m ⊕ n) = φ(φ(s, m), n)``
    3      if they also send on at once:                       if ``arguments="received"``; or ``"state"`` after an
           ``δ(s, m ⊕ n) = δ(s, m) ⊕ δ(φ(s, m), n)``           action with ``reduction="max"``
    3      if arguments arrive in parts:                       if the message is tropical, and smoothed as ⊕ is
           ``ψ(a ⊕ a', b) = ψ(a, b) ⊕ ψ(a', b)``, and for b
    =====  ==================================================  ===================================================

    With the maximum they hold bit for bit, otherwise to rounding. Where of ``"max"`` and ``"logsumexp"`` one stands and
    the law asks for the other, it fails by ``T log 2`` at most for two messages. The published layers are settings:

    ==========================  =======================================================================
    level 1                     ``update="network", message="mlp"``
    level 2                     ``message="linear"`` or ``"mlp"``
    level 3                     the defaults; as published ``message="tropical bilinear", temperature=1``
    levels 1 and 3, 2 and 3     ``arguments="network"``, with ``update="network"`` or without
    ==========================  =======================================================================

    An action is followed by no gate and no layer norm, since either breaks its law; so states grow with the number of
    steps, and with ``"tropical bilinear"`` messages they can double at each.

    Args:
        hidden_dim: H, the width of every feature and state.
        reduction: ⊕; ``"logsumexp"`` is ``T log Σ exp(m / T)``, the maximum smoothed.
        update: φ; an ``"action"`` is ``s ⊕ m``, a ``"network"`` ``LayerNorm(ReLU(U1 (x ‖ s) + U2 m))``.
        arguments: δ; what is sent on is the new ``"state"``, the ``"received"`` message, or made by another
            ``"network"``. Unless it is the state, s and a take half of H each, ``h = s ‖ a``.
        message: ψ; with ``c_ij = X x_i + Y x_j + E e_ij + G g``, a ``"linear"`` one is ``A a_i + B a_j + c_ij`` and an
            ``"mlp"`` ``MLP(ReLU(A a_i + B a_j + c_ij))``; with :class:`TropicalLinear` A and B it is ``"tropical
            bilinear"``, and without B ``"tropical linear"``.
        temperature: T, of ``"logsumexp"`` and of tropical A and B; at 0 they take the maximum.
        senders: Whom a node hears: its ``"neighbours"`` in `adj`, or ``"all"`` nodes.
        layer_norm: Whether what networks make is normalised.
    """

    takes_channels = True
    is_separable = True
    penalty_names = ("action", "cocycle", "multimorphism")

    def __init__(
        self,
        hidden_dim: int = 128,
        *,
        reduction: Reduction = "max",
        update: Update = "action",
        arguments: Arguments = "state",
        message: Message = "tropical linear",
        temperature: float = 0.0,
        senders: Senders = "neighbours",
        layer_norm: bool = True,
    ) -> None:
        super().__init__()
        for name, value, known in (
            ("reduction", reduction, get_args(Reduction)),
            ("update", update, get_args(Update)),
            ("arguments", arguments, get_args(Arguments)),
            ("message", message, get_args(Message)),
            ("senders", senders, get_args(Senders)),
        ):
            if value not in known:
                raise ValueError(f"expected {name} {' or '.join(map(repr, known))}, given {value!r}")
        number = 1 if arguments == "state" else 2
        if hidden_dim < 1 or hidden_dim % number:
            raise ValueError(f"expected hidden_dim ≥ 1, even with arguments {arguments!r}, given {hidden_dim}")
        is_tropical, is_smooth = message.startswith("tropical"), reduction == "logsumexp"
        if temperature < 0 or (is_smooth and temperature == 0) or (temperature > 0 and not (is_smooth or is_tropical)):
            raise ValueError(
                "expected a temperature above 0 with reduction 'logsumexp', 0 or above with tropical messages, and 0 "
                f"otherwise, given {temperature} with reduction {reduction!r} and message {message!r}"
            )
        self.hidden_dim = hidden_dim
        self.width = hidden_dim // number
        self.reduction = reduction
        self.temperature = temperature
        self.senders = senders
        self.hears_receiver = message != "tropical linear"

        def argument_map() -> nn.Module:
            return TropicalLinear(self.width, self.width, temperature) if is_tropical else linear(bias=None)

        def linear(bias: float | None = 0.0, in_features: int = self.width) -> Linear:
            return Linear(in_features, self.width, bias=bias)

        self.sender_argument = argument_map()
        self.receiver_argument = argument_map() if self.hears_receiver else None
        self.sender_node, self.receiver_node, self.edge, self.graph = (linear(in_features=hidden_dim) for _ in range(4))
        self.message_mlp = (
            nn.Sequential(nn.ReLU(), linear(), nn.ReLU(), linear()) if message == "mlp" else nn.Identity()
        )
        self.message_point = MessagePoint()
        self.update_network = Network(hidden_dim, self.width, layer_norm) if update == "network" else None
        self.argument_network = Network(hidden_dim, self.width, layer_norm) if arguments == "network" else None
        self.sends_state = arguments == "state"

    def forward(
        self,
        node_fts: Tensor | Channels,
        edge_fts: Tensor | Channels,
        graph_fts: Tensor,
        adj: Tensor,
        hidden: Tensor,
    ) -> tuple[Tensor, None]:
        """See :meth:`nar.processor.Processor.forward`."""
        node_fts, edge_fts, graph_fts, adj, hidden = aligned(self, node_fts, edge_fts, graph_fts, adj, hidden)
        state, argument = self.states(hidden)
        inputs = self.inputs(node_fts, edge_fts, graph_fts)
        messages = self.message(argument[:, :, None], argument[:, None], inputs)
        received = self.message_point(self.reduce(messages, self.heard(adj)))
        new_state = self.update(state, received, node_fts)
        if self.sends_state:
            return new_state, None
        return torch.cat([new_state, self.arguments(state, received, node_fts)], dim=-1), None

    def penalties(
        self,
        node_fts: Tensor | Channels,
        edge_fts: Tensor | Channels,
        graph_fts: Tensor,
        adj: Tensor,
        hidden: Tensor,
    ) -> dict[str, Tensor]:
        """See :func:`nar.processors.asynchronous.laws.penalties`."""
        node_fts, edge_fts, graph_fts, adj, hidden = aligned(self, node_fts, edge_fts, graph_fts, adj, hidden)
        return laws.penalties(self, node_fts, edge_fts, graph_fts, adj, hidden)

    def states(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """The states s and the arguments a that were sent on, [B, N, D] each; the same if the state is what is sent."""
        if self.sends_state:
            return hidden, hidden
        state, argument = hidden.chunk(2, dim=-1)
        return state, argument

    def heard(self, adj: Tensor) -> Tensor:
        """True where the receiver hears the sender, [B, S, R]."""
        return torch.ones_like(adj, dtype=torch.bool) if self.senders == "all" else adj.bool()

    def inputs(self, node_fts: Tensor | Channels, edge_fts: Tensor | Channels, graph_fts: Tensor) -> Tensor:
        """c, what the messages take from the features, [B, S, R, D]."""
        nodes = self.sender_node(node_fts)[:, :, None] + self.receiver_node(node_fts)[:, None]
        inputs: Tensor = nodes + self.edge(edge_fts) + self.graph(graph_fts)[:, None, None]
        return inputs

    def message(self, sender: Tensor, receiver: Tensor, inputs: Tensor) -> Tensor:
        """ψ, the message, from two arguments and c, [..., D] each."""
        terms = self.sender_argument(sender)
        if self.receiver_argument is not None:
            terms = terms + self.receiver_argument(receiver)
        message: Tensor = self.message_mlp(terms + inputs)
        return message

    def unit(self, dtype: torch.dtype) -> float:
        """The unit of ⊕: 0 for sums, for the others -1e6, or the lowest number that there is, where that is more."""
        return 0.0 if self.reduction == "sum" else unheard(dtype)

    def combine(self, one: Tensor, other: Tensor) -> Tensor:
        """⊕ of two tensors, elementwise."""
        match self.reduction:
            case "max":
                return torch.maximum(one, other)
            case "sum":
                return one + other
        unit, dtype = self.unit(one.dtype), one.dtype
        one, other = alike(one, other)
        smooth = self.temperature * torch.logaddexp(one / self.temperature, other / self.temperature)
        # The sum of two units would be more than one.
        return torch.where(one <= unit, other, torch.where(other <= unit, one, smooth)).to(dtype)

    def reduce(self, messages: Tensor, heard: Tensor) -> Tensor:
        """⊕ over the senders that are heard, [B, R, D], from messages [B, S, R, D] and `heard` [B, S, R].

        For a node that hears nobody it is the unit of ⊕.
        """
        unit = self.unit(messages.dtype)
        if messages.shape[1] == 0:
            return messages.sum(dim=1)
        match self.reduction:
            case "max":
                return messages.masked_fill(~heard[..., None], unit).amax(dim=1)
            case "sum":
                return messages.masked_fill(~heard[..., None], unit).sum(dim=1)
        terms = at_least_float32(messages) / self.temperature
        smooth = self.temperature * terms.masked_fill(~heard[..., None], -torch.inf).logsumexp(dim=1)
        return torch.where(heard.any(dim=1)[..., None], smooth, unit).to(messages.dtype)

    def update(self, state: Tensor, received: Tensor, node_fts: Tensor | Channels) -> Tensor:
        """φ, the next state, [..., D], from s and m [..., D] and x [..., H]."""
        if self.update_network is None:
            return self.combine(state, received)
        new_state: Tensor = self.update_network(state, received, node_fts)
        return new_state

    def arguments(self, state: Tensor, received: Tensor, node_fts: Tensor | Channels) -> Tensor:
        """δ, the argument that is sent on, [..., D], from s and m [..., D] and x [..., H]."""
        if self.sends_state:
            return self.update(state, received, node_fts)
        argument: Tensor = received
        if self.argument_network is not None:
            argument = self.argument_network(state, received, node_fts)
        return argument


class Network(nn.Module):
    """A layer that makes ``LayerNorm(ReLU(U1 (x ‖ s) + U2 m))`` of features, states and received messages."""

    def __init__(self, hidden_dim: int, width: int, layer_norm: bool) -> None:
        super().__init__()
        self.node = Linear(hidden_dim + width, width)
        self.received = Linear(width, width)
        self.norm = nn.LayerNorm(width) if layer_norm else nn.Identity()

    def forward(self, state: Tensor, received: Tensor, node_fts: Tensor | Channels) -> Tensor:
        """[..., D], from a state and a received message [..., D] and features [..., H]."""
        made: Tensor = self.norm((self.node(concat(node_fts, state)) + self.received(received)).relu())
        return made


class TropicalLinear(nn.Module):
    """``y_o = max_i (x_i + W_oi)`` or ``T log Σ_i exp((x_i + W_oi) / T)``: linear in the (max, +) or log semiring.

    Args:
        in_features: Width of x.
        out_features: Width of y.
        temperature: T; 0 for the maximum.
    """

    def __init__(self, in_features: int, out_features: int, temperature: float = 0.0) -> None:
        super().__init__()
        self.temperature = temperature
        self.weight = nn.Parameter(torch.empty(out_features, in_features))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw W anew."""
        nn.init.normal_(self.weight)

    def forward(self, input: Tensor) -> Tensor:
        """y of the equation, [..., out_features], from x, [..., in_features]."""
        terms = input[..., None, :] + self.weight
        if self.temperature == 0:
            return terms.max(dim=-1).values  # of which the gradient needs no more than where it is
        return self.temperature * (terms / self.temperature).logsumexp(dim=-1)
