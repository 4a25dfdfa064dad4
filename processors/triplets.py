"""Messages over triplets of nodes, which give every edge a state.

Source: Dudzik and Veličković, "Graph Neural Networks are Dynamic Programmers", NeurIPS 2022; ``get_triplet_msgs`` in
``clrs/_src/processors.py`` of dm-clrs 2.0.3.
"""
# Axes: B graphs, N nodes, H hidden, F triplet features. What belongs to an edge is [B, sender, receiver, ...].

from collections.abc import Callable
from functools import partial

from torch import Tensor, nn

from nar.ops.channels import Channels, Folded, NodeSum, Rectified, TripletChannels, precompute
from nar.ops.linear import Linear
from nar.ops.max_triplet_message import max_triplet_message
from nar.processors.reductions import AnyReduction, ReductionByMode, over_triplets, takes_max


class Triplets(nn.Module):
    """``e'_jk = ReLU(W max_i (t1 z_i + t2 z_j + t3 z_k + u1 e_ij + u2 e_ik + u3 e_jk + v g + x_ijk))``.

    Features of triplets, x, are left out unless a model has some.

    Args:
        node_dim: Width of z.
        hidden_dim: H, width of e, g and the result.
        triplet_dim: F, width of the triplet messages.
        reduction: In place of the maximum, as `triplet_reduction` of :class:`nar.processors.PGN`.
        reduction_in_evaluation: As `triplet_reduction_in_evaluation` of :class:`nar.processors.PGN`.
    """

    def __init__(
        self,
        node_dim: int,
        hidden_dim: int,
        triplet_dim: int = 8,
        reduction: AnyReduction = "max",
        reduction_in_evaluation: AnyReduction | None = None,
    ) -> None:
        super().__init__()
        self.node_1 = Linear(node_dim, triplet_dim)
        self.node_2 = Linear(node_dim, triplet_dim)
        self.node_3 = Linear(node_dim, triplet_dim)
        self.edge_1 = Linear(hidden_dim, triplet_dim)
        self.edge_2 = Linear(hidden_dim, triplet_dim)
        self.edge_3 = Linear(hidden_dim, triplet_dim)
        self.graph = Linear(hidden_dim, triplet_dim)
        self.reduction = ReductionByMode("triplet_reduction", reduction, reduction_in_evaluation, triplet_dim)
        self.output = Linear(self.reduction.width, hidden_dim)

    def sums_of_nodes(
        self, edge_fts: Tensor | Channels, triplet_fts: TripletChannels | None = None
    ) -> tuple[NodeSum, NodeSum, NodeSum]:
        """What is made of z for every node, t1 z, t2 z and t3 z + v g, with biases of edges that nothing else adds."""
        folded = self._folded(edge_fts, triplet_fts)
        biases = () if folded is None else folded.biases(*[self.graph.out_features] * 3)
        return NodeSum(self.node_1), NodeSum(self.node_2), NodeSum(self.node_3, self.graph, biases)

    def _folded(self, edge_fts: Tensor | Channels, triplet_fts: TripletChannels | None) -> Folded | None:
        """The map from channels of edges to all that is made of them, if one operation takes the maximum with it."""
        if isinstance(edge_fts, Tensor) or triplet_fts is not None or not takes_max(self.reduction):
            return None
        return edge_fts.fold(self.edge_1, self.edge_2, self.edge_3)

    def forward(
        self,
        z: Tensor | Channels,
        edge_fts: Tensor | Channels,
        graph_fts: Tensor | Channels,
        triplet_fts: TripletChannels | None = None,
    ) -> Tensor | Rectified:
        """Edge states [B, N, N, H], which are a tensor if `edge_fts` are.

        They are computed where a decoder first reads them, unless `edge_fts` are a tensor.

        Args:
            z: [B, N, node_dim].
            edge_fts: [B, N, N, H].
            graph_fts: [B, H].
            triplet_fts: x, [B, N, N, N, F].
        """
        first, second, third = (x.of(z, graph_fts) for x in self.sums_of_nodes(edge_fts, triplet_fts))
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
        """What a reduction leaves of messages over all i, [B, N, N, …], from t1 z, t2 z, t3 z + v g and features."""
        if isinstance(edge_fts, Channels) and (folded := self._folded(edge_fts, triplet_fts)) is not None:
            return max_triplet_message(first, second, third, edge_fts.joined, folded.joined)
        edge_fts = precompute(edge_fts, [self.edge_1, self.edge_2, self.edge_3])
        # Only two terms hold both i and one of j, k; what holds no i moves out of a maximum.
        ij = first[:, :, None] + self.edge_1(edge_fts)
        ik = self.edge_2(edge_fts)
        jk = second[:, :, None] + third[:, None] + self.edge_3(edge_fts)
        return over_triplets(self.reduction, ij, ik, jk, triplet_fts)


def edge_states_of(messages: Callable[[], Tensor], output: Linear, edge_fts: Tensor | Channels) -> Tensor | Rectified:
    """Edge states ``ReLU(output messages)``, [B, N, N, H].

    They are a tensor if `edge_fts` are, and else computed where a decoder first reads them.
    """
    if isinstance(edge_fts, Tensor):
        edge_states: Tensor = output(messages()).relu()
        return edge_states
    return Rectified(messages, output.weight, output.bias_or_zeros())
