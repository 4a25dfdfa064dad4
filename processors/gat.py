"""Graph attention networks of versions 1 and 2, and a form of the second for features seen under D2's symmetries.

Sources: Veličković et al., "Graph Attention Networks", ICLR 2018; Brody et al., "How Attentive are Graph Attention
Networks?", ICLR 2022; ``GAT``, ``GATFull``, ``GATv2``, ``GATv2Full`` and ``GATv2FullD2`` in
``clrs/_src/processors.py`` of dm-clrs 2.0.3.
"""
# Axes: B graphs, N nodes, H hidden, A attention heads. What belongs to an edge is [B, sender, receiver, ...].

from collections.abc import Iterable
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from nar.ops.channels import Channels, concat
from nar.ops.linear import Linear
from nar.processor import MessagePoint, Processor, aligned

Senders = Literal["neighbours", "all"]

_D2_ORDER = 4  # elements of D2, the symmetries of a rectangle


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
        senders: Senders = "neighbours",
        layer_norm: bool = True,
    ) -> None:
        super().__init__()
        check_heads("hidden_dim", hidden_dim, num_heads)
        _check_senders(senders)
        self.hidden_dim = hidden_dim
        self.senders = senders
        self.value = Linear(2 * hidden_dim, hidden_dim)
        self.skip = Linear(2 * hidden_dim, hidden_dim)
        self.query = Linear(2 * hidden_dim, num_heads)
        self.key = Linear(2 * hidden_dim, num_heads)
        self.edge = Linear(hidden_dim, num_heads)
        self.graph = Linear(hidden_dim, num_heads)
        self.message_point = MessagePoint()
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
        heard = torch.ones_like(adj) if self.senders == "all" else adj
        received = self.message_point(attend(_pairs(self, z, edge_fts, graph_fts), self.value(z), heard))
        return self.norm((received + self.skip(z)).relu()), None


class GATv2(Processor):
    """A :class:`nar.processors.GAT` whose features meet before they are scored; with ``z_i = x_i ‖ h_i``::

        h'_i = LayerNorm(ReLU(Σ_j a_ij V z_j + S z_i))
        a_ij = softmax_j (w LeakyReLU(Q z_i + K z_j + E e_ij + G g) + c)      over those j that i sends to

    Each head has w, c and weights a of its own, and an equal share of the width of all else. As in
    :class:`nar.processors.GAT`, a node attends along its outgoing edges, which is a peculiarity of the reference.

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
        senders: Senders = "neighbours",
        layer_norm: bool = True,
    ) -> None:
        super().__init__()
        _check_senders(senders)
        self.hidden_dim = hidden_dim
        self.senders = senders
        self.attention = GATv2Attention(
            2 * hidden_dim, hidden_dim, hidden_dim, num_heads=num_heads, layer_norm=layer_norm
        )

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
        heard = torch.ones_like(adj) if self.senders == "all" else adj
        return self.attention(z, edge_fts, graph_fts, heard), None


class GATv2Attention(nn.Module):
    """The equations of :class:`GATv2`, for z, e and g of any width.

    Args:
        node_dim: Width of z.
        feature_dim: Width of e and g.
        hidden_dim: H, width of the states.
        num_heads: A, a divisor of `hidden_dim`.
        layer_norm: Whether states are normalised.
    """

    def __init__(
        self, node_dim: int, feature_dim: int, hidden_dim: int, *, num_heads: int = 1, layer_norm: bool = True
    ) -> None:
        super().__init__()
        check_heads("hidden_dim", hidden_dim, num_heads)
        self.num_heads = num_heads
        self.value = Linear(node_dim, hidden_dim)
        self.skip = Linear(node_dim, hidden_dim)
        self.key = Linear(node_dim, hidden_dim)
        self.query = Linear(node_dim, hidden_dim)
        self.edge = Linear(feature_dim, hidden_dim)
        self.graph = Linear(feature_dim, hidden_dim)
        self.scores = nn.ModuleList(Linear(hidden_dim // num_heads, 1) for _ in range(num_heads))
        self.message_point = MessagePoint()
        self.norm = nn.LayerNorm(hidden_dim) if layer_norm else nn.Identity()

    def forward(self, z: Tensor | Channels, edge_fts: Tensor | Channels, graph_fts: Tensor, heard: Tensor) -> Tensor:
        """Node states [B, N, H]; `heard` [B, N, N] is True where the node of the row hears that of the column."""
        received = self.message_point(attend(self.logits(z, edge_fts, graph_fts), self.value(z), heard))
        states: Tensor = self.norm((received + self.skip(z)).relu())
        return states

    def logits(self, z: Tensor | Channels, edge_fts: Tensor | Channels, graph_fts: Tensor) -> Tensor:
        """The logits with which the node of the row hears that of the column, [B, N, N, A]."""
        return score_heads(self.scores, _pairs(self, z, edge_fts, graph_fts))


class GATv2D2(nn.Module):
    """A :class:`GATv2` for four views of a graph, one per element of D2; with ``z_gki = x_gi ‖ x_ki ‖ h_i``::

        h'_g = 1/4 Σ_k attention(z_gk, e_g ‖ e_k, g_g ‖ g_k)

    All 16 pairs of views share the weights of one attention, in which every node hears every node. The reference
    takes the pairs of g and ``g⁻¹ k``; that reorders the sum and no more, so the group's product is not needed.

    Args:
        hidden_dim: H, the width of every feature and state.
        num_heads: A, a divisor of `hidden_dim`.
        layer_norm: Whether states are normalised, before the mean over pairs.
    """

    def __init__(self, hidden_dim: int = 128, *, num_heads: int = 1, layer_norm: bool = True) -> None:
        super().__init__()
        self.hidden_dim = hidden_dim
        self.attention = GATv2Attention(
            3 * hidden_dim, 2 * hidden_dim, hidden_dim, num_heads=num_heads, layer_norm=layer_norm
        )

    def forward(self, node_fts: Tensor, edge_fts: Tensor, graph_fts: Tensor, adj: Tensor, hidden: Tensor) -> Tensor:
        """The next node states of every view.

        Args:
            node_fts: [4, B, N, H].
            edge_fts: [4, B, N, N, H].
            graph_fts: [4, B, H].
            adj: Not looked at, [B, N, N].
            hidden: The previous node states, which the views have in common, [B, N, H].

        Returns:
            [4, B, N, H].

        Raises:
            ValueError: If there are not four views.
        """
        number = (len(node_fts), len(edge_fts), len(graph_fts))
        if number != (_D2_ORDER,) * 3:
            raise ValueError(f"expected {_D2_ORDER} views in node_fts, edge_fts and graph_fts, given {number}")
        of_views = zip(node_fts, edge_fts, graph_fts, strict=True)
        views = [aligned(self, *of_view, adj, hidden) for of_view in of_views]

        def pair(g: int, k: int) -> Tensor:
            (nodes, edges, graphs, heard, own), (other_nodes, other_edges, other_graphs, *_) = views[g], views[k]
            z = torch.cat([nodes, other_nodes, own], dim=-1)
            pair_edges, pair_graphs = torch.cat([edges, other_edges], dim=-1), torch.cat([graphs, other_graphs], dim=-1)
            states: Tensor = self.attention(z, pair_edges, pair_graphs, torch.ones_like(heard))
            return states

        group = range(_D2_ORDER)
        return torch.stack([torch.stack([pair(g, k) for k in group]).mean(dim=0) for g in group])


def check_heads(name: str, width: int, num_heads: int) -> None:
    """Raise a ValueError unless the heads are one or more equal parts of the width that the argument `name` gives."""
    if width < 1 or num_heads < 1 or width % num_heads:
        raise ValueError(f"expected {name} ≥ 1 and num_heads ≥ 1 that divides it, given {width} and {num_heads}")


def _check_senders(senders: Senders) -> None:
    """Raise a ValueError unless `senders` is one of its type."""
    if senders not in get_args(Senders):
        raise ValueError(f"expected senders 'neighbours' or 'all', given {senders!r}")


def _pairs(layer: Any, z: Tensor | Channels, edge_fts: Tensor | Channels, graph_fts: Tensor) -> Tensor:
    """``LeakyReLU(Q z_i + K z_j + E e_ij + G g)`` by a layer's `query`, `key`, `edge` and `graph`, [B, N, N, ...]."""
    pairs = layer.query(z)[:, :, None] + layer.key(z)[:, None]
    return leaky_relu(pairs + layer.edge(edge_fts) + layer.graph(graph_fts)[:, None, None])


def leaky_relu(x: Tensor) -> Tensor:
    """``x`` where it is not negative, else ``x / 100``; the slope at 0 is 1 as in JAX, and not 1 / 100 as in PyTorch.

    Arguments of exactly 0 are common at the start of training, when every bias is 0.
    """
    return torch.where(x >= 0, x, 0.01 * x)


def score_heads(scores: Iterable[nn.Module], mixed: Tensor) -> Tensor:
    """The logits that each head's own layer makes of its part of the last axis, [..., A] from [..., H]."""
    scores = list(scores)
    parts = mixed.chunk(len(scores), dim=-1)
    return torch.cat([score(part) for score, part in zip(scores, parts, strict=True)], dim=-1)


def attend(logits: Tensor, value: Tensor, heard: Tensor) -> Tensor:
    """The weighted means of values over the nodes that each node hears; of all nodes alike if it hears none.

    Args:
        logits: With which the node of the row hears that of the column, [B, N, N, A].
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
