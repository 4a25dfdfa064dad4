"""Edge states made of products of features of the two nodes.

Source: Liu et al., "Structured Progressive Knowledge Activation for LLM-Driven Neural Architecture Search", ICML 2026
(arXiv 2605.04057): ``_compute_tri_msgs`` in ``best_program.py`` of its code.
"""
# Axes: B graphs, N nodes, H hidden. What belongs to an edge is [B, sender, receiver, ...].

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from nar.ops.channels import Channels, Rectified, as_tensor, concat, precompute
from nar.ops.linear import Linear
from nar.processor import aligned
from nar.processors.pgn import MPNN


class PairGMPNN(MPNN):
    """A gated :class:`MPNN` whose edges have states made of their two nodes alone; ``z_i = x_i ‖ h_i``::

        m_ij  = MLP(ReLU(W1 z_j + W2 z_i + We e_ij + Wg g))         all i, j among them, send to j
        γ_j   = σ(V3 ReLU(V1 z_j + V2 max_i m_ij))                  V3 starts with bias -3
        h'_j  = γ_j LayerNorm(ReLU(U1 z_j + U2 max_i m_ij)) + (1 - γ_j) h_j
        e'_ij = ReLU(W (x_ij ⊙ σ_ij))
        x_ij  = A z_i ⊙ B z_i + A z_j ⊙ C z_j + E e_ij + G g
        σ_ij  = sigmoid(M2 ReLU(M1 x_ij))                           of each head by itself, with 4 features in M1

    Args:
        hidden_dim: H, the width of every feature and state.
        num_heads: The parts of x that have the same gate; 4 in the source.
        head_dim: Width of each, 8 in the source.
        gated: Whether a gate lets a node keep its state.
        **settings: Of :class:`PGN`: another reduction, or a forget gate.
    """

    def __init__(
        self, hidden_dim: int = 128, *, num_heads: int = 4, head_dim: int = 8, gated: bool = True, **settings: Any
    ) -> None:
        if num_heads < 1 or head_dim < 1:
            raise ValueError(f"expected num_heads ≥ 1 and head_dim ≥ 1, given {num_heads} and {head_dim}")
        if settings.get("triplet_dim", 0):
            raise ValueError(f"expected triplet_dim 0, given {settings['triplet_dim']}: edges have states of pairs")
        super().__init__(hidden_dim, gated=gated, **settings)
        self.looks_at_adj, self.takes_graph_channels, self.has_edge_states = False, True, True
        self.pairs = Pairs(2 * hidden_dim, hidden_dim, num_heads, head_dim)

    def forward(  # type: ignore[override]
        self,
        node_fts: Tensor | Channels,
        edge_fts: Tensor | Channels,
        graph_fts: Tensor | Channels,
        adj: Tensor,
        hidden: Tensor,
    ) -> tuple[Tensor, Tensor | Rectified | None]:
        """See :meth:`nar.processor.Processor.forward`."""
        given = aligned(self, node_fts, edge_fts, graph_fts, adj, hidden)
        node_fts, edge_fts, graph_fts, _, hidden = given
        states, _ = super().forward(*given)
        z = concat(node_fts, self.remembered(node_fts, hidden))
        return states, self.pairs(z, edge_fts, graph_fts)


class Pairs(nn.Module):
    """The last three equations of :class:`PairGMPNN`.

    Args:
        node_dim: Width of z.
        hidden_dim: H, width of e, g and the result.
        num_heads: As there.
        head_dim: As there.
    """

    def __init__(self, node_dim: int, hidden_dim: int, num_heads: int, head_dim: int) -> None:
        super().__init__()
        width = num_heads * head_dim
        self.num_heads = num_heads
        self.node = Linear(node_dim, width)
        self.sender = Linear(node_dim, width)
        self.receiver = Linear(node_dim, width)
        self.edge = Linear(hidden_dim, width)
        self.graph = Linear(hidden_dim, width)
        self.gate = nn.Sequential(Linear(head_dim, 4), nn.ReLU(), Linear(4, head_dim), nn.Sigmoid())
        self.output = Linear(width, hidden_dim)

    def forward(
        self, z: Tensor | Channels, edge_fts: Tensor | Channels, graph_fts: Tensor | Channels
    ) -> Tensor | Rectified:
        """Edge states [B, N, N, H], which are a tensor if `edge_fts` are; else made where a decoder first reads them.

        Args:
            z: [B, N, node_dim].
            edge_fts: [B, N, N, H].
            graph_fts: [B, H].
        """
        device, given = graph_fts.data.device.type, (z, edge_fts, graph_fts)
        if torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device) == torch.float16:
            with torch.autocast(device, enabled=False):  # products of features may leave the range of float16
                return self.states(*(as_tensor(x).to(self.output.weight.dtype) for x in given))
        return self.states(*given)

    def states(
        self, z: Tensor | Channels, edge_fts: Tensor | Channels, graph_fts: Tensor | Channels
    ) -> Tensor | Rectified:
        """What `forward` returns, in the precision of what is given."""
        z = precompute(z, [self.node, self.sender, self.receiver])
        node = self.node(z)
        sent, received = node * self.sender(z), node * self.receiver(z) + self.graph(graph_fts)[:, None]
        gated = partial(self.gated, sent, received, edge_fts)
        if isinstance(edge_fts, Tensor):
            edge_states: Tensor = self.output(gated()).relu()
            return edge_states
        return Rectified(gated, self.output.weight, self.output.bias_or_zeros())

    def gated(self, sent: Tensor, received: Tensor, edge_fts: Tensor | Channels) -> Tensor:
        """``x ⊙ σ``, [B, N, N, heads · head_dim], from the terms of i, of j and the graph, and of edges."""
        x = sent[:, :, None] + received[:, None] + self.edge(edge_fts)
        heads = torch.stack(x.chunk(self.num_heads, dim=-1), dim=-2)
        gated: Tensor = (heads * self.gate(heads)).flatten(-2)
        return gated
