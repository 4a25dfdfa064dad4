"""Graph attention network.

Source: Veličković et al., "Graph Attention Networks", ICLR 2018; ``GAT`` and ``GATFull`` in
``clrs/_src/processors.py`` of dm-clrs 2.0.3.
"""
# Axes: B graphs, N nodes, H hidden, A attention heads. What belongs to an edge is [B, sender, receiver, ...].

from typing import Literal

import torch
from torch import Tensor, nn

from nar.ops.channels import Channels, concat
from nar.ops.linear import Linear
from nar.processor import Processor, aligned


class GAT(Processor):
    """Every node takes a weighted mean of values, once per head; with ``z_i = x_i ‖ h_i``::

        h'_i = LayerNorm(ReLU(Σ_j a_ij V z_j + S z_i))
        a_ij = softmax_j LeakyReLU(q z_i + k z_j + e e_ij + g g)      over those j that i sends to

    Each head has weights a of its own and an equal share of the width of V z.

    A peculiarity of the reference: a node attends along its outgoing edges. Node i looks at row i of `adj` and of
    `edge_fts`, so it hears the nodes that it sends to, where in :class:`nar.processors.PGN` it hears its senders.

    Args:
        hidden_dim: H, the width of every feature and state.
        num_heads: A, a divisor of `hidden_dim`.
        senders: Whom a node hears: its ``"neighbours"``, which are those that it sends to, or ``"all"`` nodes.
        layer_norm: Whether states are normalised.
    """

    takes_channels = True
    is_separable = True

    def __init__(
        self,
        hidden_dim: int = 128,
        *,
        num_heads: int = 1,
        senders: Literal["neighbours", "all"] = "neighbours",
        layer_norm: bool = True,
    ) -> None:
        super().__init__()
        if hidden_dim < 1 or num_heads < 1 or hidden_dim % num_heads:
            raise ValueError(
                f"expected hidden_dim ≥ 1 and num_heads ≥ 1 that divides it, given {hidden_dim} and {num_heads}"
            )
        if senders not in ("neighbours", "all"):
            raise ValueError(f"expected senders 'neighbours' or 'all', given {senders!r}")
        self.hidden_dim = hidden_dim
        self.senders = senders
        self.value = Linear(2 * hidden_dim, hidden_dim)
        self.skip = Linear(2 * hidden_dim, hidden_dim)
        self.query = Linear(2 * hidden_dim, num_heads)
        self.key = Linear(2 * hidden_dim, num_heads)
        self.edge = Linear(hidden_dim, num_heads)
        self.graph = Linear(hidden_dim, num_heads)
        self.norm = nn.LayerNorm(hidden_dim) if layer_norm else nn.Identity()

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
        z = concat(node_fts, hidden)
        pairs = self.query(z)[:, :, None] + self.key(z)[:, None]
        logits = leaky_relu(pairs + self.edge(edge_fts) + self.graph(graph_fts)[:, None, None])
        heard = torch.ones_like(adj) if self.senders == "all" else adj
        return self.norm((attend(logits, self.value(z), heard) + self.skip(z)).relu()), None


def leaky_relu(x: Tensor) -> Tensor:
    """``x`` where it is not negative, else ``x / 100``; the slope at 0 is 1 as in JAX, and not 1 / 100 as in PyTorch.

    Arguments of exactly 0 are common at the start of training, when every bias is 0.
    """
    return torch.where(x >= 0, x, 0.01 * x)


def attend(logits: Tensor, value: Tensor, heard: Tensor) -> Tensor:
    """Means of values over the nodes that a node hears; of all nodes alike if it hears none.

    Args:
        logits: Of the weights with which the node of the row hears that of the column, [B, N, N, A].
        value: A head's values are one of A equal parts of the last axis, [B, N, H].
        heard: True where the node of the row hears that of the column, [B, N, N].

    Returns:
        The heads' means side by side, [B, N, H].
    """
    lowest = torch.finfo(logits.dtype).min
    weights = logits.masked_fill(~heard.bool()[..., None], lowest).softmax(dim=2)
    num_heads = logits.shape[-1]
    parts = value.reshape(*value.shape[:-1], num_heads, value.shape[-1] // num_heads)
    return torch.einsum("bija,bjaf->biaf", weights, parts).flatten(2)
