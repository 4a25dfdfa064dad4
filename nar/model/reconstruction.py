"""Hints that a network encodes together, and that training decodes again from what it makes of them.

Source: "Richer Representations for Neural Algorithmic Reasoning via Auxiliary Reconstruction", AAAI 2026
(arXiv 2606.00559): ReNAR, and with masks M-ReNAR. The layers of the network are this library's own.
"""
# Axes: C graphs that take a step, N nodes, H hidden, F pair features, R rounds of masks, P (graph, step) pairs.

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from nar.configuration import KeepsArguments
from nar.model.decoders import States, decode, make_decoder
from nar.model.encoders import Encoder, Encoding
from nar.ops.channels import Channels, as_tensor, precompute
from nar.ops.linear import Linear, is_plain, may_be_given_channels
from nar.specs import Location, Spec

PAIR_DIM = 32
"""F, the width of what a network of hints makes of every pair of nodes."""


class Reconstruction(KeepsArguments, nn.Module):
    """Settings of a model whose hints go through a :class:`HintNetwork`, from which training decodes them again.

    With z the encodings of a step's hints, the processor is given z' in their place, at every node, pair and graph::

        z' = γ ⊙ GNN(z) + (1 - γ) ⊙ z
        loss = losses of outputs and hints + weight · losses of the hints of the same step, decoded from GNN(z)

    A step is given the hints that the last one predicted; they are compared with the true ones.

    With masks (M-ReNAR) the hints are decoded from ``GNN(z)`` of other encodings: in each of ``⌊1 / mask_ratio⌋``
    rounds, ``⌊mask_ratio · k N⌋`` of the values that the k hints have at N nodes (at least one) are drawn and set to 0,
    none of them in two rounds, and only those are compared, in the mean over rounds. A node's value of a hint on edges
    is all that it says of the edges that the node sends along; a hint on the graph has a single value; and a hint that
    is at one node is compared where the value of that node was set to 0.

    Args:
        weight: Of the losses of decoded hints.
        mask_ratio: Of the values that are set to 0 in a round, at least 0 and below 1; 0 for no masks.
    """

    def __init__(self, weight: float = 0.1, mask_ratio: float = 0.0) -> None:
        super().__init__()
        if not 0 <= weight < math.inf:
            raise ValueError(f"expected a weight of 0 or more, given {weight}")
        if not 0 <= mask_ratio < 1:
            raise ValueError(f"expected a mask_ratio of at least 0 and below 1, given {mask_ratio}")
        self.weight = weight
        self.mask_ratio = mask_ratio


class Reconstructed(NamedTuple):
    """Hints as they are decoded from what a network made of them.

    Attributes:
        logits: By probe name, [R, C, ...]; of all steps [R, P, ...]. A single round has no masks.
        masked: Whether a node's value was set to 0, by probe name, [R, C, N], or of the graph, [R, C]; empty if there
            are no masks.
    """

    logits: dict[str, Tensor]
    masked: dict[str, Tensor]

    def select(self, rows: Tensor) -> "Reconstructed":
        """Those of which `rows`, [P], is true."""
        return Reconstructed(*({name: x[:, rows] for name, x in part.items()} for part in self))

    @staticmethod
    def concatenated(parts: "Sequence[Reconstructed]") -> "Reconstructed":
        """Those of all steps, one after the other."""
        logits, masked = zip(*parts, strict=True)
        of_steps = ({name: torch.cat([x[name] for x in each], dim=1) for name in each[0]} for each in (logits, masked))
        return Reconstructed(*of_steps)


class HintNetwork(nn.Module):
    """Message passing over the encodings z of a step's hints; i, j are all nodes, i = j among them::

        r_ij = ReLU(A1 z_i + A2 z_j + A3 z_ij + A4 z_g)
        GNN(z)_j = ReLU(B1 z_j + B2 max_i r_ij + B3 z_g)
        GNN(z)_ij = C r_ij
        GNN(z)_g = ReLU(D1 z_g + D2 max_j GNN(z)_j)
        γ = σ(G z + G' GNN(z))

    Each of nodes, pairs and the graph has its own G and G'. That of a pair is a single number, and r of few features,
    so that z' stays linear in a few channels and N² H numbers are never made.

    Args:
        hints: The probes that are encoded.
        hidden_dim: H.
    """

    def __init__(self, hints: Spec, hidden_dim: int) -> None:
        super().__init__()
        self.hints = dict(hints)
        self.sender = Linear(hidden_dim, PAIR_DIM)
        self.receiver = Linear(hidden_dim, PAIR_DIM)
        self.edge = Linear(hidden_dim, PAIR_DIM)
        self.pair_graph = Linear(hidden_dim, PAIR_DIM)
        self.node = Linear(hidden_dim, hidden_dim)
        self.received = Linear(PAIR_DIM, hidden_dim)
        self.node_graph = Linear(hidden_dim, hidden_dim)
        self.pair = Linear(PAIR_DIM, hidden_dim, bias=None)
        self.graph = Linear(hidden_dim, hidden_dim)
        self.read_out = Linear(hidden_dim, hidden_dim)
        self.node_gate = nn.ModuleList(Linear(hidden_dim, hidden_dim) for _ in range(2))
        self.pair_gate = nn.ModuleList([Linear(hidden_dim, 1), Linear(PAIR_DIM, 1)])
        self.graph_gate = nn.ModuleList(Linear(hidden_dim, hidden_dim) for _ in range(2))
        self.decoders = nn.ModuleDict(
            {name: make_decoder(probe, hidden_dim, PAIR_DIM, node_dim=hidden_dim) for name, probe in hints.items()}
        )

    def forward(self, z: Encoding) -> States:
        """GNN(z) of nodes, [C, N, H], and of the graph, [C, H]; of pairs r, [C, N, N, F]."""
        nodes, edges, graph = self._features(z)
        nodes = precompute(nodes, [self.sender, self.receiver, self.node])
        of_receiver = self.receiver(nodes) + self.pair_graph(graph)[:, None]
        pairs = (self.sender(nodes)[:, :, None] + of_receiver[:, None] + self.edge(edges)).relu()
        received = self.received(pairs.amax(dim=1))
        made = (self.node(nodes) + received + self.node_graph(graph)[:, None]).relu()
        of_graph = (self.graph(graph) + self.read_out(made.amax(dim=1))).relu()
        return States(made, pairs, of_graph, z.adj)

    def blended(self, encoding: Encoding, z: Encoding, made: States, empty: Encoding) -> Encoding:
        """An encoding of inputs and hints, x + z, with z' in the place of z.

        Args:
            encoding: x + z.
            z: Of the hints alone.
            made: GNN(z).
            empty: Of nothing; that of all steps has the same maps.
        """
        nodes, edges, graph = self._features(z)
        state, pairs, of_graph = map(as_tensor, (made.node, made.edge, made.graph))
        node_gate, pair_gate, graph_gate = (
            (of_z(one) + of_made(other)).sigmoid()
            for (of_z, of_made), one, other in (
                (self.node_gate, nodes, state),
                (self.pair_gate, edges, pairs),
                (self.graph_gate, graph, of_graph),
            )
        )
        made_pairs = (
            empty.edge_fts.extended([pairs], [self.pair])
            if is_plain(self.pair, Linear)
            else Channels.of(self.pair(pairs))
        )
        # z' = z + γ (GNN(z) - z): a pair's γ multiplies all of its channels; nodes have one for each feature, and what
        # is added to these is linear in its own features alone.
        return replace(
            encoding,
            node_fts=_added(encoding.node_fts, node_gate * (state - as_tensor(nodes))),
            edge_fts=encoding.edge_fts.plus(made_pairs, pair_gate).plus(z.edge_fts, -pair_gate),
            graph_fts=_added(encoding.graph_fts, graph_gate * (of_graph - as_tensor(graph))),
        )

    def _features(self, z: Encoding) -> "tuple[Tensor | Channels, ...]":
        """Those of nodes, edges and graphs, as channels if every part of this network can do with them."""
        features = z.node_fts, z.edge_fts, z.graph_fts
        return features if may_be_given_channels(self) else tuple(map(as_tensor, features))

    def reconstructed(
        self, made: States, encoder: Encoder, hints: Mapping[str, Tensor], mask_ratio: float
    ) -> Reconstructed:
        """The hints of a step as they are decoded from what the network makes of them, or of some of them.

        Args:
            made: Of all hints.
            encoder: Of the hints.
            hints: Their values, as the encoder is given them.
            mask_ratio: As of :class:`Reconstruction`.
        """
        if mask_ratio == 0:
            return Reconstructed({name: x[None] for name, x in decode(self.decoders, made).items()}, {})
        state = as_tensor(made.node)
        num_graphs, num_nodes, hidden_dim = state.shape
        masked = draw_masks(self.hints, num_graphs, num_nodes, mask_ratio, state.device)
        num_rounds = len(next(iter(masked.values())))
        left = {}
        for name, mask in masked.items():
            of_values = mask.view(*mask.shape, *[1] * (1 + hints[name].dim() - mask.dim()))
            left[name] = torch.where(of_values, 0, hints[name]).flatten(0, 1)
        empty = Encoding.empty(num_rounds * num_graphs, num_nodes, state, hidden_dim)
        logits = decode(self.decoders, self(encoder(left, empty, with_adj=False)))
        return Reconstructed({name: x.view(num_rounds, num_graphs, *x.shape[1:]) for name, x in logits.items()}, masked)


def _added(features: Channels, change: Tensor) -> Channels:
    """Features plus a change of them, [..., W]."""
    return features.plus(Channels(change, features.map.identity), torch.ones_like(change[..., :1]))


def draw_masks(
    hints: Spec, num_graphs: int, num_nodes: int, mask_ratio: float, device: torch.device
) -> dict[str, Tensor]:
    """Which values of hints are set to 0 in each round (see :class:`Reconstruction`), by probe name.

    They are drawn from torch's generator, of each graph by itself.

    Returns:
        Of nodes, [R, C, N], for hints on nodes and edges; [R, C] for hints on the graph.
    """
    widths = [1 if probe.location is Location.GRAPH else num_nodes for probe in hints.values()]
    number = sum(widths)
    size = max(1, _floor(mask_ratio * number))
    num_rounds = min(_floor(1 / mask_ratio), number // size)
    # The values in a random order, of which every round takes the next ones: rounds share none.
    places = torch.rand(num_graphs, number, device=device).argsort(dim=1).argsort(dim=1)
    masked = places // size == torch.arange(num_rounds, device=device)[:, None, None]
    parts = zip(hints.items(), torch.split(masked, widths, dim=-1), strict=True)
    return {name: part.squeeze(-1) if probe.location is Location.GRAPH else part for (name, probe), part in parts}


def _floor(number: float) -> int:
    """The whole part of a number that rounding may have left a little too low, such as .29 · 100."""
    return math.floor(number + 1e-9)
