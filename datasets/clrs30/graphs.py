"""Graph algorithms: what they are given, and all of them by name.

A graph is drawn in three steps, so that any of them can be exchanged: the matrix of its edges, their weights, a source.

Source: ``clrs/_src/samplers.py`` of dm-clrs 2.0.3, from which these draw the same graphs.
"""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib import import_module
from typing import Any, Literal

import numpy as np

from nar.batch import NumpyArray
from nar.datasets.clrs30.given import FAR, array_of, check_node, within
from nar.datasets.clrs30.graph_traversal import (
    adjacency,
    articulation_points,
    bfs,
    bridges,
    dfs,
    strongly_connected_components,
    topological_sort,
)
from nar.datasets.clrs30.known import HALF_DENSITIES, GraphInput, InText, KnownAlgorithm, table
from nar.datasets.clrs30.shortest_paths import bellman_ford, dag_shortest_paths, dijkstra, floyd_warshall
from nar.datasets.clrs30.spanning_trees import mst_kruskal, mst_prim
from nar.datasets.engine.algorithm import positions
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
    """The edges that are there both ways: of random ones p² of all, but p of the loops."""
    return edges * edges.T


def acyclic(rng: np.random.RandomState, edges: NumpyArray) -> NumpyArray:
    """The edges that go from a node to a later one, with the nodes then renamed."""
    return renamed(rng, np.triu(edges, k=1))


def renamed(rng: np.random.RandomState, edges: NumpyArray) -> NumpyArray:
    """A graph with its nodes in a random order."""
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


def _draw_digraph(rng: np.random.RandomState, num_nodes: int, *, p: Sequence[float] = (0.5,)) -> tuple[NumpyArray]:
    """A directed graph."""
    return (erdos_renyi(rng, num_nodes, one_of(rng, p)),)


def draw_communities(
    rng: np.random.RandomState, num_nodes: int, *, k: int = 4, p: Sequence[float] = (0.5,), eps: float = 0.01
) -> tuple[NumpyArray]:
    """A directed graph of k communities."""
    return (communities(rng, num_nodes, k, one_of(rng, p), eps),)


def _draw_dag(rng: np.random.RandomState, num_nodes: int, *, p: Sequence[float] = (0.5,)) -> tuple[NumpyArray]:
    """A directed acyclic graph."""
    return (acyclic(rng, erdos_renyi(rng, num_nodes, one_of(rng, p))),)


def _draw_weighted_dag_and_source(
    rng: np.random.RandomState, num_nodes: int, *, p: Sequence[float] = (0.5,), low: float = 0.0, high: float = 1.0
) -> tuple[NumpyArray, int]:
    """A directed acyclic graph with weights, and a source."""
    (edges,) = _draw_dag(rng, num_nodes, p=p)
    return weighted(rng, edges, low, high), source(rng, num_nodes)


def _draw_sparse_graph(rng: np.random.RandomState, num_nodes: int, *, p: Sequence[float] = (0.2,)) -> tuple[NumpyArray]:
    """An undirected graph with few edges."""
    return (undirected(erdos_renyi(rng, num_nodes, one_of(rng, p))),)


def _draw_graph_and_source(
    rng: np.random.RandomState, num_nodes: int, *, p: Sequence[float] = (0.5,)
) -> tuple[NumpyArray, int]:
    """An undirected graph and a source."""
    return undirected(erdos_renyi(rng, num_nodes, one_of(rng, p))), source(rng, num_nodes)


def _draw_weighted_graph(
    rng: np.random.RandomState, num_nodes: int, *, p: Sequence[float] = (0.5,), low: float = 0.0, high: float = 1.0
) -> tuple[NumpyArray]:
    """An undirected graph with weights."""
    edges = undirected(erdos_renyi(rng, num_nodes, one_of(rng, p)))
    return (weighted_both_ways(rng, edges, low, high),)


def _draw_sparse_weighted_graph(
    rng: np.random.RandomState, num_nodes: int, *, p: Sequence[float] = (0.2,), low: float = 0.0, high: float = 1.0
) -> tuple[NumpyArray]:
    """An undirected graph with weights and few edges."""
    return _draw_weighted_graph(rng, num_nodes, p=p, low=low, high=high)


def draw_weighted_graph_and_source(
    rng: np.random.RandomState, num_nodes: int, *, p: Sequence[float] = (0.5,), low: float = 0.0, high: float = 1.0
) -> tuple[NumpyArray, int]:
    """An undirected graph with weights, and a source."""
    (A,) = _draw_weighted_graph(rng, num_nodes, p=p, low=low, high=high)
    return A, source(rng, num_nodes)


def _graph_inputs(A: NumpyArray) -> tuple[NumpyArray, NumpyArray, NumpyArray]:
    """``pos``, ``A`` and ``adj``."""
    return positions(len(A)), A, adjacency(A)


def _graph_and_source_inputs(A: NumpyArray, s: int) -> tuple[NumpyArray, int, NumpyArray, NumpyArray]:
    """``pos``, ``s``, ``A`` and ``adj``."""
    pos, A, adj = _graph_inputs(A)
    return pos, s, A, adj


def _graph_and_source(inputs: Mapping[str, Any]) -> tuple[Any, Any]:
    """A graph and a source, by the inputs that are made of them."""
    return inputs["A"], inputs["s"]


def _both_ways(rng: np.random.RandomState, A: NumpyArray) -> NumpyArray:
    """An undirected graph as it is."""
    return A


def _either_way_or_both(rng: np.random.RandomState, A: NumpyArray) -> NumpyArray:
    """A digraph with each edge in one direction, the other or both, all equally likely (as in dm-clrs's at p = 0.5)."""
    way = rng.randint(3, size=A.shape)
    upper = np.triu(A, k=1)
    directed: NumpyArray = upper * (way != 0) + (upper * (way != 1)).T
    return directed


def _either_way_or_both_as_floats(rng: np.random.RandomState, A: NumpyArray) -> NumpyArray:
    """Edges directed by :func:`_either_way_or_both`, in floats as dm-clrs's graphs of communities are: the algorithm
    need not be compiled for integers as well.
    """
    return _either_way_or_both(rng, A).astype(np.float64)


def _take_graph(
    num_nodes: int,
    A: Any,
    *,
    weights: Literal["none", "positive", "any"] = "none",
    is_symmetric: bool = False,
    is_acyclic: bool = False,
    longest_path: Callable[[int], int] = lambda num_nodes: 0,
) -> tuple[NumpyArray]:
    """A graph.

    Args:
        num_nodes: N.
        A: Its edges, [N, N].
        weights: Which weights it may have.
        is_symmetric: Whether each edge has to be there both ways.
        is_acyclic: Whether it may have no cycles.
        longest_path: Of how many edges it is that the algorithm adds up weights that have to be below :data:`FAR`.
    """
    shape = num_nodes, num_nodes
    if weights == "none":
        A = within("A", A, shape, 0, 1, is_whole=True)
    elif weights == "any":
        A = array_of("A", A, shape)
    else:
        A = within("A", A, shape, 0)
    if is_symmetric and (one_way := np.argwhere(A != A.T)).size:
        u, v = one_way[0]
        raise UserError(f"expected A to be symmetric, given {A[u, v]} from {u} to {v} and {A[v, u]} back")
    if is_acyclic and (_csgraph().connected_components(A, connection="strong")[0] < num_nodes or A.diagonal().any()):
        raise UserError("expected A to have no cycles, given one that has")
    if (A.diagonal() < 0).any():
        raise UserError("expected no loop of negative weight in A, given one")
    if longest_path(num_nodes) * A.max() >= FAR:
        raise UserError(f"expected paths shorter than {FAR:g}, given weights up to {A.max():g} on {num_nodes} nodes")
    return (A,)


def _take_graph_as_floats(num_nodes: int, A: Any) -> tuple[NumpyArray]:
    """A directed graph, in floats as :func:`draw_communities` gives it."""
    (A,) = _take_graph(num_nodes, A)
    return (A.astype(np.float64),)


def _take_graph_without_negative_cycles(num_nodes: int, A: Any) -> tuple[NumpyArray]:
    """A graph with weights, on whose cycles their sum is nowhere negative."""
    (A,) = _take_graph(num_nodes, A, weights="any")
    _check_cycles(A, _csgraph().floyd_warshall)
    return (A,)


def _take_graph_and_source(num_nodes: int, A: Any, s: Any, **kind: Any) -> tuple[NumpyArray, int]:
    """A graph as :func:`_take_graph` takes it, and a node of it."""
    (A,) = _take_graph(num_nodes, A, **kind)
    return A, check_node("s", s, num_nodes)


def _take_graph_and_source_without_negative_cycles(num_nodes: int, A: Any, s: Any) -> tuple[NumpyArray, int]:
    """A graph with weights and a source, from which no cycle is reached on which their sum is negative."""
    A, s = _take_graph_and_source(num_nodes, A, s, weights="any")
    _check_cycles(A, partial(_csgraph().bellman_ford, indices=s))
    return A, s


def _csgraph() -> Any:
    """SciPy's graph algorithms, which take long to be imported and are needed for inputs of a user's own alone."""
    return import_module("scipy.sparse.csgraph")


def _check_cycles(A: NumpyArray, distances: Callable[[NumpyArray], NumpyArray]) -> None:
    """Raise a :class:`UserError` if a function of SciPy finds a cycle of negative weight on its way."""
    try:
        if (A < 0).any():
            distances(A)
    except _csgraph().NegativeCycleError as error:
        raise UserError("expected A to have no cycles of negative weight, given one that has") from error


def _scored_edges(inputs: Mapping[str, NumpyArray]) -> NumpyArray:
    """Which pairs of nodes have an edge, which alone have a score."""
    edges: NumpyArray = inputs["adj"] != 0
    return edges


GRAPHS = table(
    KnownAlgorithm(
        "articulation_points",
        _draw_sparse_graph,
        _graph_inputs,
        articulation_points,
        partial(_take_graph, is_symmetric=True),
        InText(19, 19),
        GraphInput(_both_ways, densities=HALF_DENSITIES),
    ),
    KnownAlgorithm(
        "bellman_ford",
        draw_weighted_graph_and_source,
        _graph_and_source_inputs,
        bellman_ford,
        _take_graph_and_source_without_negative_cycles,
        InText(31, 32, given=_graph_and_source),
        GraphInput(_both_ways, weighted_both_ways, from_a_source=True),
    ),
    KnownAlgorithm(
        "bfs",
        _draw_graph_and_source,
        _graph_and_source_inputs,
        bfs,
        _take_graph_and_source,
        InText(31, 41, given=_graph_and_source),
        GraphInput(_both_ways, from_a_source=True),
    ),
    KnownAlgorithm(
        "bridges",
        _draw_sparse_graph,
        _graph_inputs,
        bridges,
        partial(_take_graph, is_symmetric=True),
        InText(5, 7, scored=_scored_edges),
        GraphInput(_both_ways, densities=HALF_DENSITIES),
    ),
    KnownAlgorithm(
        "dag_shortest_paths",
        _draw_weighted_dag_and_source,
        _graph_and_source_inputs,
        dag_shortest_paths,
        partial(_take_graph_and_source, weights="any", is_acyclic=True),
        InText(19, 19, given=_graph_and_source),
        GraphInput(acyclic, weighted, from_a_source=True),
    ),
    KnownAlgorithm(
        "dfs", _draw_digraph, _graph_inputs, dfs, _take_graph, InText(23, 20), GraphInput(_either_way_or_both)
    ),
    KnownAlgorithm(
        "dijkstra",
        draw_weighted_graph_and_source,
        _graph_and_source_inputs,
        dijkstra,
        partial(_take_graph_and_source, weights="positive", longest_path=lambda num_nodes: num_nodes - 1),
        InText(28, 25, given=_graph_and_source),
        GraphInput(_both_ways, weighted_both_ways, from_a_source=True),
    ),
    KnownAlgorithm(
        "floyd_warshall",
        _draw_weighted_graph,
        _graph_inputs,
        floyd_warshall,
        _take_graph_without_negative_cycles,
        InText(10, 11),
        GraphInput(_both_ways, weighted_both_ways),
    ),
    KnownAlgorithm(
        "mst_kruskal",
        _draw_sparse_weighted_graph,
        _graph_inputs,
        mst_kruskal,
        partial(_take_graph, weights="positive", is_symmetric=True),
        InText(10, 10),
        GraphInput(_both_ways, weighted_both_ways, densities=HALF_DENSITIES),
    ),
    KnownAlgorithm(
        "mst_prim",
        draw_weighted_graph_and_source,
        _graph_and_source_inputs,
        mst_prim,
        partial(_take_graph_and_source, weights="positive", is_symmetric=True, longest_path=lambda num_nodes: 1),
        InText(28, 26, given=_graph_and_source),
        GraphInput(_both_ways, weighted_both_ways, from_a_source=True),
    ),
    KnownAlgorithm(
        "strongly_connected_components",
        draw_communities,
        _graph_inputs,
        strongly_connected_components,
        _take_graph_as_floats,
        InText(15, 16),
        GraphInput(_either_way_or_both_as_floats),
        min_num_nodes=4,
        min_num_nodes_with={"k": 2},
    ),
    KnownAlgorithm(
        "topological_sort",
        _draw_dag,
        _graph_inputs,
        topological_sort,
        partial(_take_graph, is_acyclic=True),
        InText(23, 21),
        GraphInput(acyclic),
    ),
)
