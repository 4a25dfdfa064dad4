"""Pointer graph network: message passing by maximum, with optional triplets and gate.

Source: Veličković et al., "Pointer Graph Networks", NeurIPS 2020; ``PGN`` in ``clrs/_src/processors.py`` of dm-clrs
2.0.3.
"""
# Axes: B graphs, N nodes, H hidden; S sender, R receiver. What belongs to an edge is [B, S, R, ...].

from typing import Literal

import torch
from torch import Tensor, nn

from nar.linear import Linear
from nar.processor import Processor
from nar.processors.triplets import Triplets

UNHEARD = -1e6  # stands for the message of a sender that is not heard


class PGN(Processor):
    """Every node takes the elementwise maximum of the messages it hears; with ``z_i = x_i ‖ h_i``::

        m_ij = MLP(ReLU(W1 z_j + W2 z_i + We e_ij + Wg g))          i sends, j receives
        h'_j = LayerNorm(ReLU(U1 z_j + U2 max_i m_ij))
        h'_j = γ_j h'_j + (1 - γ_j) h_j                             if gated
        γ_j  = σ(V3 ReLU(V1 z_j + V2 max_i m_ij))                   V3 starts with bias -3

    Args:
        hidden_dim: H, the width of every feature and state.
        senders: Whom a node hears: its ``"neighbours"`` in `adj`, or ``"all"`` nodes.
        triplet_dim: Width of triplet messages, 8 in the reference; 0 for none, and then there are no edge states.
        gated: Whether a gate lets a node keep its state.
        layer_norm: Whether states are normalised (before the gate).
    """

    def __init__(
        self,
        hidden_dim: int = 128,
        *,
        senders: Literal["neighbours", "all"] = "neighbours",
        triplet_dim: int = 0,
        gated: bool = False,
        layer_norm: bool = True,
    ) -> None:
        super().__init__()
        if hidden_dim < 1 or triplet_dim < 0:
            raise ValueError(f"expected hidden_dim ≥ 1 and triplet_dim ≥ 0, given {hidden_dim} and {triplet_dim}")
        if senders not in ("neighbours", "all"):
            raise ValueError(f"expected senders 'neighbours' or 'all', given {senders!r}")
        self.hidden_dim = hidden_dim
        self.senders = senders
        self.has_edge_states = triplet_dim > 0
        self.message_receiver = Linear(2 * hidden_dim, hidden_dim)
        self.message_sender = Linear(2 * hidden_dim, hidden_dim)
        self.message_edge = Linear(hidden_dim, hidden_dim)
        self.message_graph = Linear(hidden_dim, hidden_dim)
        self.message_mlp = nn.Sequential(
            nn.ReLU(), Linear(hidden_dim, hidden_dim), nn.ReLU(), Linear(hidden_dim, hidden_dim)
        )
        self.update_node = Linear(2 * hidden_dim, hidden_dim)
        self.update_message = Linear(hidden_dim, hidden_dim)
        self.norm = nn.LayerNorm(hidden_dim) if layer_norm else nn.Identity()
        self.triplets = Triplets(2 * hidden_dim, hidden_dim, triplet_dim) if triplet_dim else None
        self.gate = Gate(hidden_dim) if gated else None

    def forward(
        self, node_fts: Tensor, edge_fts: Tensor, graph_fts: Tensor, adj: Tensor, hidden: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """See :meth:`nar.processor.Processor.forward`."""
        z = torch.cat([node_fts, hidden], dim=-1)
        received = self.received(z, edge_fts, graph_fts, adj)
        states = self.norm((self.update_node(z) + self.update_message(received)).relu())
        if self.gate is not None:
            gate = self.gate(z, received)
            states = gate * states + (1 - gate) * hidden
        return states, None if self.triplets is None else self.triplets(z, edge_fts, graph_fts)

    def received(self, z: Tensor, edge_fts: Tensor, graph_fts: Tensor, adj: Tensor) -> Tensor:
        """What every node receives: the maximum of the messages sent to it, [B, R, H]."""
        sent = self.message_sender(z)[:, :, None] + self.message_receiver(z)[:, None]
        messages: Tensor = self.message_mlp(
            sent + self.message_edge(edge_fts) + self.message_graph(graph_fts)[:, None, None]
        )
        if self.senders == "neighbours":
            lowest = max(UNHEARD, torch.finfo(messages.dtype).min)  # half precision does not go as low
            messages = messages.masked_fill(~adj.bool()[..., None], lowest)
        return messages.amax(dim=1)


class Gate(nn.Module):
    """``σ(V3 ReLU(V1 z + V2 m))``: how far a node takes its new state, [B, N, H] in (0, 1); near 0 at the start.

    Source: Ibarz et al., "A Generalist Neural Algorithmic Learner", LoG 2022.
    """

    def __init__(self, hidden_dim: int) -> None:
        super().__init__()
        self.node = Linear(2 * hidden_dim, hidden_dim)
        self.message = Linear(hidden_dim, hidden_dim)
        self.output = Linear(hidden_dim, hidden_dim, bias=-3.0)

    def forward(self, z: Tensor, received: Tensor) -> Tensor:
        """The gate from z [B, N, 2H] and received messages [B, N, H]."""
        return torch.sigmoid(self.output((self.node(z) + self.message(received)).relu()))
