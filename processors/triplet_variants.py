"""Variants of messages over triplets of nodes.

Source: CONCATREP, DIV2MEAN and TANHEXPAND of Chen et al., "EvoPrompting: Language Models for Code-Level Neural
Architecture Search", NeurIPS 2023 (arXiv 2302.14838).
"""
# Axes: B graphs, N nodes, H hidden, F triplet features. What belongs to an edge is [B, sender, receiver, ...].

from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from nar.ops.channels import Channels, NodeSum, Rectified, TripletChannels, precompute
from nar.ops.linear import Linear
from nar.processors.reductions import ReductionByMode, over_triplets
from nar.processors.triplets import edge_states_of

TripletVariant = Literal["concatrep", "div2mean", "tanhexpand"]


class VariedTriplets(nn.Module):
    """Other edge states in the place of those of :class:`nar.processors.triplets.Triplets`.

    In the equation of that class, ``e'_jk = ReLU(W max_i (t1 z_i + … + v g))``::

        concatrep    each of the seven linear maps, such as t1 z, is A z ‖ B ReLU(C z), of widths F ‖ F, with 4F in C
        div2mean     e'_jk = ReLU(W mean_i ((t1 z_i + t2 z_j + t3 z_k) / 2 + u1 e_ij + u2 e_ik + u3 e_jk))
        tanhexpand   e'_jk = ReLU(W tanh(max_i (t1 z_i + t2 z_j + t3 z_k + u1 e_ij + u2 e_ik + u3 e_jk + 3 v g)))

    Features of triplets, if a model has some, are added to what a maximum or mean is taken of.

    Args:
        variant: Which.
        node_dim: Width of z.
        hidden_dim: H, width of e, g and the result.
        triplet_dim: F.

    Attributes:
        width: That of triplet messages: 2F of concatrep, F of the others.
    """

    def __init__(self, variant: TripletVariant, node_dim: int, hidden_dim: int, triplet_dim: int) -> None:
        super().__init__()

        def map_of(width: int) -> Linear | ConcatRep:
            return ConcatRep(width, triplet_dim) if variant == "concatrep" else Linear(width, triplet_dim)

        self.variant = variant
        self.width = 2 * triplet_dim if variant == "concatrep" else triplet_dim
        self.nodes = nn.ModuleList(map_of(node_dim) for _ in range(3))
        self.edges = nn.ModuleList(map_of(hidden_dim) for _ in range(3))
        self.graph = None if variant == "div2mean" else map_of(hidden_dim)
        self.reduction = ReductionByMode(
            "triplet_reduction", "mean" if variant == "div2mean" else "max", None, self.width
        )
        self.output = Linear(self.width, hidden_dim)

    def sums_of_nodes(self, edge_fts: Tensor | Channels, triplet_fts: TripletChannels | None = None) -> list[NodeSum]:
        """The linear layers that are applied to z."""
        return [NodeSum(linear) for linear in _first_linears(self.nodes)]

    def forward(
        self,
        z: Tensor | Channels,
        edge_fts: Tensor | Channels,
        graph_fts: Tensor | Channels,
        triplet_fts: TripletChannels | None = None,
    ) -> Tensor | Rectified:
        """Edge states [B, N, N, H], as of :meth:`nar.processors.triplets.Triplets.forward`."""
        first, second, third = (layer(z) / (2 if self.variant == "div2mean" else 1) for layer in self.nodes)
        if self.graph is not None:
            third = third + (3 if self.variant == "tanhexpand" else 1) * self.graph(graph_fts)[:, None]
        messages = partial(self.messages, first, second, third, edge_fts, triplet_fts)
        return edge_states_of(messages, self.output, edge_fts)

    def messages(
        self,
        first: Tensor,
        second: Tensor,
        third: Tensor,
        edge_fts: Tensor | Channels,
        triplet_fts: TripletChannels | None,
    ) -> Tensor:
        """What is left of messages over all i, [B, N, N, F or 2F], from the terms of nodes i, j and k, and features."""
        edge_fts = precompute(edge_fts, _first_linears(self.edges))
        ij, ik, jk = (layer(edge_fts) for layer in self.edges)
        jk = second[:, :, None] + third[:, None] + jk
        left = over_triplets(self.reduction, first[:, :, None] + ij, ik, jk, triplet_fts)
        return left.tanh() if self.variant == "tanhexpand" else left


class ConcatRep(nn.Module):
    """``A x ‖ B ReLU(C x)``, [..., 2F]."""

    def __init__(self, width: int, triplet_dim: int) -> None:
        super().__init__()
        self.linear = Linear(width, triplet_dim)
        self.hidden = Linear(width, 4 * triplet_dim)
        self.output = Linear(4 * triplet_dim, triplet_dim)

    def forward(self, x: Tensor | Channels) -> Tensor:
        """The features of x, [..., width]."""
        return torch.cat([self.linear(x), self.output(self.hidden(x).relu())], dim=-1)


def _first_linears(layers: nn.ModuleList) -> list[Any]:
    """Those of some linear layers and ConcatReps that are applied to what these are given."""
    each = ([layer.linear, layer.hidden] if isinstance(layer, ConcatRep) else [layer] for layer in layers)
    return [linear for linears in each for linear in linears]
