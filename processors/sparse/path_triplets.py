"""Messages over the paths of a graph, which give every edge a state: triplets of nodes on sparse graphs.

Source: Dudzik and Veličković, "Graph Neural Networks are Dynamic Programmers", NeurIPS 2022; ``get_triplet_msgs`` in
``clrs/_src/processors.py`` of dm-clrs 2.0.3, of which this keeps the triplets that lie on paths.
"""
# Axes: N nodes and E edges of all graphs together, P paths, H hidden, F triplet features.

from typing import NamedTuple

import torch
from torch import Tensor, nn

from nar.ops.border import check_index
from nar.ops.edge_max_message import by_receiver
from nar.ops.linear import Linear
from nar.ops.scatter import scatter
from nar.processors.sparse.conv import linear


class PathTriplets(nn.Module):
    """Edge states ``e'_jk = ReLU(W max_i (t1 x_i + u1 e_ij + u2 e_ik) + W (t2 x_j + t3 x_k + u3 e_jk + v g))``.

    Of the triplets of :class:`nar.processors.triplets.Triplets`, which has the same weights, those are left whose
    ``i → j`` and ``j → k`` are edges: the paths that end with the edge whose state is made, i = j among them if j has a
    self-loop. ``e_ik`` is 0 if ``i → k`` is no edge, and the maximum is 0 where no path ends. On all pairs of nodes,
    self-loops included, the two are the same function.

    Args:
        node_dim: Width of x.
        hidden_dim: H.
        edge_dim: Width of e; None if edges have no features.
        graph_dim: Width of g; None if graphs have no features.
        triplet_dim: F.
    """

    def __init__(
        self, node_dim: int, hidden_dim: int, edge_dim: int | None, graph_dim: int | None, triplet_dim: int = 8
    ) -> None:
        super().__init__()
        self.node_1 = linear(node_dim, triplet_dim)
        self.node_2 = linear(node_dim, triplet_dim)
        self.node_3 = linear(node_dim, triplet_dim)
        if edge_dim is not None:
            self.edge_1 = linear(edge_dim, triplet_dim)
            self.edge_2 = linear(edge_dim, triplet_dim)
            self.edge_3 = linear(edge_dim, triplet_dim)
        self.graph = None if graph_dim is None else linear(graph_dim, triplet_dim)
        self.has_edges = edge_dim is not None
        self.output = Linear(triplet_dim, hidden_dim)

    def forward(
        self, x: Tensor, edge_index: Tensor, edge_attr: Tensor | None = None, node_graph_attr: Tensor | None = None
    ) -> Tensor:
        """Edge states [E, H].

        Args:
            x: [N, node_dim].
            edge_index: [2, E].
            edge_attr: [E, edge_dim].
            node_graph_attr: The features of each node's graph, [N, graph_dim].

        Raises:
            IndexError: If an edge ends at none of the nodes.
            ValueError: If there are features without a width, or the other way round, or not as many as expected.
        """
        edge_index = check_index("PathTriplets", "edge_index", edge_index, x.shape[0])
        for name, features, is_expected, number in (
            ("edge_attr", edge_attr, self.has_edges, edge_index.shape[1]),
            ("node_graph_attr", node_graph_attr, self.graph is not None, x.shape[0]),
        ):
            if (features is not None) != is_expected or (features is not None and features.shape[0] != number):
                expected = f"{number} rows" if is_expected else "none"
                given = "none" if features is None else features.shape[0]
                raise ValueError(f"PathTriplets: expected {name} of {expected}, given {given}")
        senders, receivers = edge_index
        found = paths(edge_index, x.shape[0])
        ij = self.node_1(x).index_select(0, senders)
        jk = self.node_2(x).index_select(0, senders) + self.node_3(x).index_select(0, receivers)
        if self.has_edges:
            ij, jk = ij + self.edge_1(edge_attr), jk + self.edge_3(edge_attr)
        if self.graph is not None:
            jk = jk + self.graph(node_graph_attr).index_select(0, senders)
        messages = ij.index_select(0, found.before)
        if self.has_edges:
            ik = self.edge_2(edge_attr).index_select(0, found.beside.clamp(min=0))
            messages = messages + torch.where(found.beside[:, None] < 0, 0, ik)
        states: Tensor = self.output(scatter(messages, found.after, senders.shape[0], "max") + jk)
        return states.relu()


class Paths(NamedTuple):
    """The paths i → j → k of two edges.

    Attributes:
        before: The edge i → j, [P].
        after: The edge j → k, in ascending order, [P].
        beside: The edge i → k, or -1 if there is none, [P].
    """

    before: Tensor
    after: Tensor
    beside: Tensor


def paths(edge_index: Tensor, num_nodes: int) -> Paths:
    """All paths of two edges of a graph, which are as many as edges times their senders' senders."""
    senders, receivers = edge_index
    edges = by_receiver(edge_index, num_nodes)
    # An edge j → k ends as many paths as edges enter j, which lie side by side in the order of receivers: of its paths
    # the r-th begins with the r-th of them.
    number = edges.ptr.diff().index_select(0, senders)  # of paths that end with each edge
    after = torch.arange(senders.shape[0], device=senders.device).repeat_interleave(number)
    rank = torch.arange(after.shape[0], device=senders.device) - (number.cumsum(0) - number).index_select(0, after)
    before = edges.order.index_select(0, edges.ptr.index_select(0, senders.index_select(0, after)) + rank)
    # The edge i → k, if there is one, is looked up among all by the number that stands for its two nodes.
    keys, where = (senders * num_nodes + receivers).sort()
    wanted = senders.index_select(0, before) * num_nodes + receivers.index_select(0, after)
    place = torch.searchsorted(keys, wanted).clamp(max=keys.shape[0] - 1)
    beside = torch.where(keys.index_select(0, place) == wanted, where.index_select(0, place), -1)
    return Paths(before, after, beside)
