"""Graph attention along the edges of sparse graphs: the equations of :class:`nar.processors.GAT` and of its version 2.

They are not those of PyG's layers of these names: a node attends along its outgoing edges, features of edges and of
graphs have a part in the logits and not in what is heard, the leak is 0.01, and there is a skip of its own.

Sources: Veličković et al., "Graph Attention Networks", ICLR 2018; Brody et al., "How Attentive are Graph Attention
Networks?", ICLR 2022; ``GAT`` and ``GATv2`` in ``clrs/_src/processors.py`` of dm-clrs 2.0.3.
"""
# Axes: N nodes and E edges of all graphs together, B graphs, H channels out, A attention heads.

from abc import ABC, abstractmethod
from typing import Literal

import torch
from torch import Tensor, nn
from torch_geometric.nn import MessagePassing

from nar.linear import Linear
from nar.processors.gat import leaky_relu
from nar.scatter import scatter_softmax

Flow = Literal["target_to_source", "source_to_target"]


class AttentionConv(MessagePassing, ABC):  # type: ignore[misc]
    """What the two versions have in common; ``width`` is that of what logits are made of."""

    def __init__(
        self,
        width: int,
        in_channels: int,
        out_channels: int,
        num_heads: int,
        edge_dim: int | None,
        graph_dim: int | None,
        layer_norm: bool,
        flow: Flow,
    ) -> None:
        if out_channels < 1 or num_heads < 1 or out_channels % num_heads:
            raise ValueError(
                f"expected out_channels ≥ 1 and num_heads ≥ 1 that divides it, given {out_channels} and {num_heads}"
            )
        super().__init__(aggr="sum", flow=flow)
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.num_heads = num_heads
        self.edge_dim = edge_dim
        self.graph_dim = graph_dim
        self.value = Linear(in_channels, out_channels)
        self.skip = Linear(in_channels, out_channels)
        self.query = Linear(in_channels, width)
        self.key = Linear(in_channels, width)
        self.edge = None if edge_dim is None else Linear(edge_dim, width)
        self.graph = None if graph_dim is None else Linear(graph_dim, width)
        self.norm = nn.LayerNorm(out_channels) if layer_norm else nn.Identity()

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
    ) -> Tensor:
        """New node states, [N, H].

        Args:
            x: [N, in_channels].
            edge_index: [2, E].
            edge_attr: [E, edge_dim].
            graph_attr: [B, graph_dim].
            batch: The graph of each node, [N]; None if there is one graph.
        """
        hears, heard = edge_index if self.flow == "target_to_source" else edge_index.flip(0)
        query = self.query(x)
        if self.graph is not None and graph_attr is not None:
            query = query + self.graph(graph_attr.expand(len(x), -1) if batch is None else graph_attr[batch])
        pairs = query.index_select(0, hears) + self.key(x).index_select(0, heard)
        if self.edge is not None and edge_attr is not None:
            pairs = pairs + self.edge(edge_attr)
        weights = scatter_softmax(self.logits(pairs), hears, len(x))
        attended = self.propagate(edge_index, value=self.value(x), weights=weights, size=(len(x), len(x)))
        states: Tensor = self.norm((attended + self.skip(x)).relu())
        return states

    @abstractmethod
    def logits(self, pairs: Tensor) -> Tensor:
        """Of the weight of every edge, [E, A], from the sum of what both its nodes, it and its graph give."""

    def message(self, value_j: Tensor, weights: Tensor) -> Tensor:
        """What is heard along every edge; in PyG's names i hears j."""
        parts = value_j.view(len(value_j), self.num_heads, -1) * weights[..., None]
        return parts.flatten(1)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.in_channels}, {self.out_channels}, num_heads={self.num_heads})"


class GATConv(AttentionConv):
    """Every node takes a weighted mean of values, once per head::

        x'_i = LayerNorm(ReLU(Σ_j a_ij V x_j + S x_i))
        a_ij = softmax_j LeakyReLU(q x_i + k x_j + e e_ij + g g)      over those j that i sends to

    Its weights are those of :class:`nar.processors.GAT`: ``conv.load_state_dict(gat.state_dict())``. A node that hears
    no one takes its skip alone, where that one takes the mean of all nodes.

    Args:
        in_channels: Width of x.
        out_channels: H.
        num_heads: A, a divisor of H.
        edge_dim: Width of the edges' features; None for none.
        graph_dim: Width of the graphs' features; None for none.
        layer_norm: Whether states are normalised.
        flow: ``"source_to_target"`` lets a node hear those that send to it.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        num_heads: int = 1,
        edge_dim: int | None = None,
        graph_dim: int | None = None,
        layer_norm: bool = True,
        flow: Flow = "target_to_source",
    ) -> None:
        super().__init__(num_heads, in_channels, out_channels, num_heads, edge_dim, graph_dim, layer_norm, flow)

    def logits(self, pairs: Tensor) -> Tensor:
        """The sums themselves, one for each head."""
        return leaky_relu(pairs)


class GATv2Conv(AttentionConv):
    """A :class:`GATConv` whose features meet before they are scored::

        a_ij = softmax_j (w LeakyReLU(Q x_i + K x_j + E e_ij + G g) + c)      over those j that i sends to

    Its weights are those of the one layer in :class:`nar.processors.GATv2`:
    ``conv.load_state_dict(gatv2.attention.state_dict())``.

    Args:
        in_channels: As in :class:`GATConv`, and so are the others.
        out_channels: H.
        num_heads: A, a divisor of H.
        edge_dim: Width of the edges' features; None for none.
        graph_dim: Width of the graphs' features; None for none.
        layer_norm: Whether states are normalised.
        flow: ``"source_to_target"`` lets a node hear those that send to it.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        num_heads: int = 1,
        edge_dim: int | None = None,
        graph_dim: int | None = None,
        layer_norm: bool = True,
        flow: Flow = "target_to_source",
    ) -> None:
        super().__init__(out_channels, in_channels, out_channels, num_heads, edge_dim, graph_dim, layer_norm, flow)
        self.scores = nn.ModuleList(Linear(out_channels // num_heads, 1) for _ in range(num_heads))

    def logits(self, pairs: Tensor) -> Tensor:
        """One of each part of the sums."""
        parts = leaky_relu(pairs).chunk(self.num_heads, dim=-1)
        return torch.cat([score(part) for score, part in zip(self.scores, parts, strict=True)], dim=-1)
