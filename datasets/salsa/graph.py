"""Graphs as lists of edges, in memory linear in nodes and edges."""
# Axes: N nodes, E edges, of which M are no loops.

from typing import Any, NamedTuple

import numpy as np
from numba import njit

from nar.batch import NumpyArray
from nar.datasets.engine.arguments import shown
from nar.errors import UserError


class Graph(NamedTuple):
    """An undirected graph as edges in both directions, in the order of their senders and, of one sender, receivers.

    After these M edges come loops, of node v the edge M + v. A node points at another by the edge that it sends there.

    Attributes:
        start: Where each node's edges begin, and M, [N + 1].
        receivers: The node that each edge leads to, [E].
        reverse: The edge in the other direction, [M].
    """

    start: NumpyArray
    receivers: NumpyArray
    reverse: NumpyArray

    @property
    def num_nodes(self) -> int:
        """The number of nodes, N."""
        return len(self.start) - 1

    @property
    def edge_index(self) -> NumpyArray:
        """The sender and the receiver of each edge, [2, E]."""
        nodes = np.arange(self.num_nodes)
        senders = np.concatenate([np.repeat(nodes, np.diff(self.start)), nodes])
        return np.stack([senders, self.receivers])


def graph_of(edges: NumpyArray, num_nodes: int) -> Graph:
    """The graph of undirected edges, each given once, [M / 2, 2].

    Raises:
        UserError: If an edge is a loop or given twice, or leads to what is no node.
    """
    edges = np.asarray(edges)
    if edges.ndim != 2 or edges.shape[1] != 2 or edges.dtype.kind not in "iu":
        raise UserError(f"expected edges as whole numbers in shape (number, 2), given {shown(edges)}")
    if edges.size and not 0 <= edges.min() <= edges.max() < num_nodes:
        raise UserError(f"expected nodes from 0 to {num_nodes - 1}, given {edges.min()} to {edges.max()} in edges")
    if len(np.unique(np.sort(edges, axis=1) @ [num_nodes, 1])) < len(edges) or (edges[:, 0] == edges[:, 1]).any():
        raise UserError("expected each edge once and no loops, given some twice or from a node to itself")
    senders, receivers = np.concatenate([edges, edges[:, ::-1]]).T
    order = np.lexsort((receivers, senders))
    senders, receivers = senders[order], receivers[order]
    start = np.searchsorted(senders, np.arange(num_nodes + 1))
    reverse = np.lexsort((senders, receivers))  # edges by receiver and sender are those that lead back
    return Graph(start, np.concatenate([receivers, np.arange(num_nodes)]), reverse)


@njit(cache=True)
def num_reached(graph: Graph, s: int) -> int:
    """How many nodes there are in the component of s."""
    seen, stack = np.zeros(len(graph.start) - 1, np.bool_), [s]
    seen[s] = True
    while stack:
        u = stack.pop()
        for e in range(graph.start[u], graph.start[u + 1]):
            v = graph.receivers[e]
            if not seen[v]:
                seen[v] = True
                stack.append(v)
    return int(np.sum(seen))


@njit(cache=True)
def loops(graph: Graph) -> NumpyArray:
    """The loop of each node, [N]."""
    return len(graph.reverse) + np.arange(len(graph.start) - 1)


def check_graph(graph: Any) -> None:
    """Raise a :class:`UserError` unless :func:`graph_of` can have made the graph."""
    try:
        senders, receivers = graph.edge_index[:, : len(graph.reverse)]
        same = graph_of(np.stack([senders, receivers], axis=1)[senders < receivers], graph.num_nodes)
        is_right = all(np.array_equal(*arrays) for arrays in zip(graph, same, strict=True))
    except (AttributeError, IndexError, TypeError, ValueError):
        is_right = False
    if not is_right:
        raise UserError(f"expected a graph as graph_of makes it, given {shown(graph)}")
