"""Gated cross-attention from tokens to the states of a graph, usable in any transformer.

Source: Bounsi et al., "Transformers meet Neural Algorithmic Reasoners", 2024 (arXiv 2406.09308), with the gate of
Alayrac et al., "Flamingo: a Visual Language Model for Few-Shot Learning", NeurIPS 2022.
"""
# Axes: B texts and their graphs, L tokens, N nodes, M states (N of nodes or N² of edges), D width of tokens.

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from nar.ops.adaptive_temperature import adaptive_temperature, masked_softmax


class Keys(NamedTuple):
    """States as tokens attend to them.

    Attributes:
        key: [B, heads, M, D / heads].
        value: The same.
        mask: True where there is a state, [B, 1, 1, M].
    """

    key: Tensor
    value: Tensor
    mask: Tensor

    def repeated(self, number: int) -> "Keys":
        """The keys with those of each text `number` times, one after the other."""
        return Keys(*(part.repeat_interleave(number, dim=0) for part in self))


class GraphKeys(NamedTuple):
    """The keys of a graph's nodes and, unless None, of its edges."""

    node: Keys
    edge: Keys | None

    def repeated(self, number: int) -> "GraphKeys":
        """The keys with those of each text's graph `number` times, one after the other."""
        return GraphKeys(self.node.repeated(number), None if self.edge is None else self.edge.repeated(number))


class CrossAttention(nn.Module):
    """``softmax(x Q (s K)ᵀ / √d) s V`` by heads, for tokens x and states s.

    Args:
        hidden_dim: D.
        num_heads: Into how many heads of width d it is divided.
        state_dim: Width of s.
        adaptive_temperature: Whether the logits are multiplied, in evaluation mode, by
            :func:`nar.ops.adaptive_temperature.adaptive_temperature`, so that attention stays sharp among more
            states than in training.
    """

    def __init__(self, hidden_dim: int, num_heads: int, state_dim: int, *, adaptive_temperature: bool = False) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.adaptive_temperature = adaptive_temperature
        self.query = nn.Linear(hidden_dim, hidden_dim, bias=False)
        self.key = nn.Linear(state_dim, hidden_dim, bias=False)
        self.value = nn.Linear(state_dim, hidden_dim, bias=False)

    def keys(self, states: Tensor, mask: Tensor) -> Keys:
        """States [B, M, state_dim] made ready, and where there are any, [B, M]."""
        states = states.to(self.key.weight.dtype)
        key, value = self._by_head(self.key(states)), self._by_head(self.value(states))
        return Keys(key, value, mask[:, None, None].to(key.device))  # where a model is on several

    def forward(self, tokens: Tensor, keys: Keys) -> Tensor:
        """What every token reads, [B, L, D]; of a graph without states, 0."""
        query, (key, value, mask) = self._by_head(self.query(tokens)), keys
        sharpens = self.adaptive_temperature and not self.training
        # PyTorch's own operation takes several times as long as this on a CPU, in half precision and backwards.
        if sharpens or (query.device.type == "cpu" and query.itemsize < 4):
            logits = query @ key.mT / query.shape[-1] ** 0.5
            logits = logits * adaptive_temperature(logits, mask) if sharpens else logits
            read = masked_softmax(logits, mask, dim=-1).to(value) @ value
        else:
            read = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return read.transpose(1, 2).flatten(start_dim=2)

    def _by_head(self, x: Tensor) -> Tensor:
        """A tensor [B, M, D] divided into heads, [B, heads, M, D / heads]."""
        return x.reshape(*x.shape[:2], self.num_heads, -1).transpose(1, 2)


class GatedCrossAttention(nn.Module):
    """``y = x + tanh(α) W [nodes(x̂) ‖ edges(x̂)]``: tokens read a graph's nodes and edges, behind a gate.

    With x̂ = LayerNorm(x), and one cross-attention for the states of nodes and one for those of edges; then, if there is
    a feed-forward layer as in equation 3 of the paper, ``y + tanh(β) FFN(ŷ)``. α and β are numbers and start at 0,
    where the result is exactly x.

    Args:
        hidden_dim: D, width of x.
        num_heads: Of each attention.
        node_dim: Width of node states.
        edge_dim: Width of edge states; None if there are none.
        adaptive_temperature: As in :class:`CrossAttention`.
        feed_forward: Whether a feed-forward layer, four times as wide as D, follows.
    """

    def __init__(
        self,
        hidden_dim: int,
        num_heads: int,
        node_dim: int,
        edge_dim: int | None = None,
        *,
        adaptive_temperature: bool = False,
        feed_forward: bool = False,
    ) -> None:
        super().__init__()
        if num_heads < 1 or hidden_dim % num_heads:
            raise ValueError(f"expected a num_heads that divides hidden_dim {hidden_dim}, given {num_heads}")

        def attention(state_dim: int) -> CrossAttention:
            return CrossAttention(hidden_dim, num_heads, state_dim, adaptive_temperature=adaptive_temperature)

        self.norm = nn.LayerNorm(hidden_dim)
        self.nodes = attention(node_dim)
        self.edges = None if edge_dim is None else attention(edge_dim)
        self.output = nn.Linear((1 if edge_dim is None else 2) * hidden_dim, hidden_dim)
        self.alpha = nn.Parameter(torch.zeros(()))
        self.feed_forward: nn.Sequential | None = None
        if feed_forward:
            width = 4 * hidden_dim
            layers = nn.Linear(hidden_dim, width), nn.GELU(), nn.Linear(width, hidden_dim)
            self.feed_forward = nn.Sequential(nn.LayerNorm(hidden_dim), *layers)
            self.beta = nn.Parameter(torch.zeros(()))

    def forward(
        self, tokens: Tensor, node_states: Tensor, edge_states: Tensor | None = None, node_mask: Tensor | None = None
    ) -> Tensor:
        """Tokens that have read their graphs, [B, L, D].

        Args:
            tokens: [B, L, D].
            node_states: [B, N, node_dim].
            edge_states: [B, N, N, edge_dim], or None if the layer was made without `edge_dim`.
            node_mask: True at a graph's own nodes, False at padding, [B, N]; None if there is no padding.

        Raises:
            ValueError: If there are edge states and no `edge_dim`, or the other way round, or sizes disagree.
        """
        if len(tokens) != len(node_states):
            raise ValueError(
                f"expected node states of {len(tokens)} graphs, one of each text, given {len(node_states)}"
            )
        return self.read(tokens, self.keys(node_states, edge_states, node_mask))

    def keys(
        self, node_states: Tensor, edge_states: Tensor | None = None, node_mask: Tensor | None = None
    ) -> GraphKeys:
        """The keys of graphs that :meth:`read` is given, again and again if need be; arguments as of `forward`."""
        if (edge_states is None) != (self.edges is None):
            given = "none" if edge_states is None else f"{list(edge_states.shape)}"
            raise ValueError(f"expected {'no ' if self.edges is None else ''}edge states, given {given}")
        num_graphs, num_nodes = node_states.shape[:2]
        if edge_states is not None and edge_states.shape[:3] != (num_graphs, num_nodes, num_nodes):
            raise ValueError(
                f"expected edge states [{num_graphs}, {num_nodes}, {num_nodes}, ...] beside node states "
                f"{list(node_states.shape)}, given {list(edge_states.shape)}"
            )
        for name, states, attention in (("node", node_states, self.nodes), ("edge", edge_states, self.edges)):
            if states is not None and attention is not None and states.shape[-1] != attention.key.in_features:
                expected = f"{name} states that are {attention.key.in_features} wide"
                raise ValueError(f"expected {expected}, given {list(states.shape)}")
        if node_mask is not None and node_mask.shape != (num_graphs, num_nodes):
            expected = f"a node_mask [{num_graphs}, {num_nodes}]"
            raise ValueError(f"expected {expected}, given {list(node_mask.shape)}")
        if node_mask is None:
            node_mask = torch.ones(num_graphs, num_nodes, dtype=torch.bool, device=node_states.device)
        node = self.nodes.keys(node_states, node_mask)
        if self.edges is None or edge_states is None:
            return GraphKeys(node, None)
        edge_mask = node_mask[:, :, None] & node_mask[:, None]
        return GraphKeys(node, self.edges.keys(edge_states.flatten(1, 2), edge_mask.flatten(1)))

    def read(self, tokens: Tensor, keys: GraphKeys) -> Tensor:
        """Tokens [B, L, D] that have read the graphs that `keys` is of, [B, L, D], in their own precision."""
        x = self.norm(tokens.to(self.norm.weight.dtype))
        read = self.nodes(x, keys.node)
        if self.edges is not None and keys.edge is not None:
            read = torch.cat([read, self.edges(x, keys.edge)], dim=-1)
        result: Tensor = tokens + (self.alpha.tanh() * self.output(read)).to(tokens)
        if self.feed_forward is None:
            return result
        fed: Tensor = self.feed_forward(result.to(self.norm.weight.dtype))
        return result + (self.beta.tanh() * fed).to(tokens)
