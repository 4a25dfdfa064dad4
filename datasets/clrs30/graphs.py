"""Graph algorithms: what they are given, and all of them by name.

A graph is drawn in three steps, so that any of them can be exchanged: the matrix of its edges, their weights, a source.

Source: ``clrs/_src/samplers.py`` of dm-clrs 2.0.3, from which these draw the same graphs.
"""

import itertools
import math
from collections.abc import Mapping, Sequence

import numpy as np

from nar.batch import NumpyArray
from nar.datasets.clrs30.graph_traversal import (
    adjacency,
    articulation_points,
    bfs,
    bridges,
    dfs,
    strongly_connected_components,
    topological_sort,
)
from nar.datasets.clrs30.shortest_paths import bellman_ford, dag_shortest_paths, dijkstra, floyd_warshall
from nar.datasets.clrs30.spanning_trees import mst_kruskal, mst_prim
from nar.datasets.engine.algorithm import Functions, positions
from nar.errors import UserError


def one_of(rng: np.random.RandomState, p: Sequence[float]) -> float:
    """One of several densities; ``rng.choice(p)`` draws the same, but slowly."""
    return p[rng.randint(0, len(p))]


def erdos_renyi(rng: np.random.RandomState, num_nodes: int, p: float) -> NumpyArray:
    """A matrix of directed edges, loops among them, each of which is there with probability p.

    It is ``rng.binomial(1, p, (N, N))``, which inverts the distribution: one uniform number for each entry is compared
    with the probability of 0, or with that of 1 if p > 1/2.
    """
    uniform = rng.random_sample((num_nodes, num_nodes))
    if p <= 0.5:
        return (uniform > math.exp(math.log(1 - p))).astype(np.int64)
    return (uniform <= math.exp(math.log(1 - (1 - p)))).astype(np.int64)


def undirected(edges: NumpyArray) -> NumpyArray:
    """Those edges that are there both ways: of random ones p² of all, but p of the loops."""
    return edges * edges.T


def acyclic(rng: np.random.RandomState, edges: NumpyArray) -> NumpyArray:
    """Those edges that go from a node to a later one, with the nodes then renamed."""
    return renamed(rng, np.triu(edges, k=1))


def renamed(rng: np.random.RandomState, edges: NumpyArray) -> NumpyArray:
    """The same graph with its nodes in a random order."""
    order = rng.permutation(len(edges))
    return edges.take(order, axis=0).take(order, axis=1)


def communities(rng: np.random.RandomState, num_nodes: int, k: int, p: float, eps: float) -> NumpyArray:
    """A matrix of directed edges between k groups of nodes, within which edges are there with probability p.

    With probability eps, what is there within a group changes to not there or back, and there is an edge to a node of a
    later group. There is none to an earlier group: no cycle leaves its group. In the end the nodes are renamed.

    Raises:
        UserError: If there are more groups than nodes.
    """
    if k > num_nodes:
        raise UserError(f"expected no more communities than the {num_nodes} nodes, given {k}")
    bounds = [i * (num_nodes // k) for i in range(k)] + [num_nodes]
    groups = list(itertools.pairwise(bounds))
    edges = np.zeros((num_nodes, num_nodes))
    for start, stop in groups:
        edges[start:stop, start:stop] = erdos_renyi(rng, stop - start, p)
    changes = erdos_renyi(rng, num_nodes, eps)
    for start, stop in groups:
        changes[start:stop, :start] = 0
    return renamed(rng, np.where(changes, 1 - edges, edges))


def weighted(rng: np.random.RandomState, edges: NumpyArray, low: float, high: float) -> NumpyArray:
    """Edges with weights drawn uniformly from [low, high)."""
    return edges * rng.uniform(low, high, size=(len(edges), len(edges)))


def weighted_both_ways(rng: np.random.RandomState, edges: NumpyArray, low: float, high: float) -> NumpyArray:
    """Undirected edges with weights that are, but for 0.001, geometric means of two from [low, high)."""
    weights = rng.uniform(low, high, size=(len(edges), len(edges)))
    return edges * np.sqrt(weights * weights.T + 1e-3)


def source(rng: np.random.RandomState, num_nodes: int) -> int:
    """Any node."""
    return rng.randint(0, num_nodes)


def draw_digraph(rng: np.random.RandomState, num_nodes: int, *, p: Sequence[float] = (0.5,)) -> tuple[NumpyArray]:
    """A directed graph."""
    return (erdos_renyi(rng, num_nodes, one_of(rng, p)),)


def draw_communities(
    rng: np.random.RandomState, num_nodes: int, *, k: int = 4, p: Sequence[float] = (0.5,), eps: float = 0.01
) -> tuple[NumpyArray]:
    """A directed graph of k communities."""
    return (communities(rng, num_nodes, k, one_of(rng, p), eps),)


def draw_dag(rng: np.random.RandomState, num_nodes: int, *, p: Sequence[float] = (0.5,)) -> tuple[NumpyArray]:
    """A directed acyclic graph."""
    return (acyclic(rng, erdos_renyi(rng, num_nodes, one_of(rng, p))),)


def draw_weighted_dag_and_source(
    rng: np.random.RandomState, num_nodes: int, *, p: Sequence[float] = (0.5,), low: float = 0.0, high: float = 1.0
) -> tuple[NumpyArray, int]:
    """A directed acyclic graph with weights, and a source."""
    (edges,) = draw_dag(rng, num_nodes, p=p)
    return weighted(rng, edges, low, high), source(rng, num_nodes)


def draw_sparse_graph(rng: np.random.RandomState, num_nodes: int, *, p: Sequence[float] = (0.2,)) -> tuple[NumpyArray]:
    """An undirected graph with few edges."""
    return (undirected(erdos_renyi(rng, num_nodes, one_of(rng, p))),)


def draw_graph_and_source(
    rng: np.random.RandomState, num_nodes: int, *, p: Sequence[float] = (0.5,)
) -> tuple[NumpyArray, int]:
    """An undirected graph and a source."""
    return undirected(erdos_renyi(rng, num_nodes, one_of(rng, p))), source(rng, num_nodes)


def draw_weighted_graph(
    rng: np.random.RandomState, num_nodes: int, *, p: Sequence[float] = (0.5,), low: float = 0.0, high: float = 1.0
) -> tuple[NumpyArray]:
    """An undirected graph with weights."""
    edges = undirected(erdos_renyi(rng, num_nodes, one_of(rng, p)))
    return (weighted_both_ways(rng, edges, low, high),)


def draw_sparse_weighted_graph(
    rng: np.random.RandomState, num_nodes: int, *, p: Sequence[float] = (0.2,), low: float = 0.0, high: float = 1.0
) -> tuple[NumpyArray]:
    """An undirected graph with weights and few edges."""
    return draw_weighted_graph(rng, num_nodes, p=p, low=low, high=high)


def draw_weighted_graph_and_source(
    rng: np.random.RandomState, num_nodes: int, *, p: Sequence[float] = (0.5,), low: float = 0.0, high: float = 1.0
) -> tuple[NumpyArray, int]:
    """An undirected graph with weights, and a source."""
    (A,) = draw_weighted_graph(rng, num_nodes, p=p, low=low, high=high)
    return A, source(rng, num_nodes)


def graph_inputs(A: NumpyArray) -> tuple[NumpyArray, NumpyArray, NumpyArray]:
    """``pos``, ``A`` and ``adj``."""
    return positions(len(A)), A, adjacency(A)


def graph_and_source_inputs(A: NumpyArray, s: int) -> tuple[NumpyArray, int, NumpyArray, NumpyArray]:
    """``pos``, ``s``, ``A`` and ``adj``."""
    pos, A, adj = graph_inputs(A)
    return pos, s, A, adj


GRAPHS: Mapping[str, Functions] = {
    "articulation_points": Functions(draw_sparse_graph, graph_inputs, articulation_points),
    "bellman_ford": Functions(draw_weighted_graph_and_source, graph_and_source_inputs, bellman_ford),
    "bfs": Functions(draw_graph_and_source, graph_and_source_inputs, bfs),
    "bridges": Functions(draw_sparse_graph, graph_inputs, bridges),
    "dag_shortest_paths": Functions(draw_weighted_dag_and_source, graph_and_source_inputs, dag_shortest_paths),
    "dfs": Functions(draw_digraph, graph_inputs, dfs),
    "dijkstra": Functions(draw_weighted_graph_and_source, graph_and_source_inputs, dijkstra),
    "floyd_warshall": Functions(draw_weighted_graph, graph_inputs, floyd_warshall),
    "mst_kruskal": Functions(draw_sparse_weighted_graph, graph_inputs, mst_kruskal),
    "mst_prim": Functions(draw_weighted_graph_and_source, graph_and_source_inputs, mst_prim),
    "strongly_connected_components": Functions(draw_communities, graph_inputs, strongly_connected_components),
    "topological_sort": Functions(draw_dag, graph_inputs, topological_sort),
}
