"""Families of graphs: other ones than dm-clrs draws, for tests out of distribution.

Each family is drawn as a list of undirected edges without loops (dm-clrs's random graphs have some); what an algorithm
is given is made of it by :func:`on_family`. Nodes are renamed at random, so that positions tell nothing of the graph.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from inspect import Parameter, Signature, signature
from typing import Any

import numpy as np

from nar.batch import NumpyArray
from nar.datasets.clrs30.graphs import GRAPHS, source
from nar.datasets.clrs30.known import GraphInput, KnownAlgorithm
from nar.datasets.engine.algorithm import Algorithm
from nar.datasets.engine.arguments import check_probability, check_whole, is_finite, shown
from nar.errors import UserError

_SMALLEST_OF_SALSA = 16  # the size that gives its smaller graphs their densities


def erdos_renyi(rng: np.random.RandomState, num_nodes: int, *, p: float | None = None) -> NumpyArray:
    """Each two nodes are joined with probability p; if it is not given, that of :func:`sparse_density`."""
    density = sparse_density(rng, num_nodes) if p is None else p
    check_probability("p", density)
    return pairs(num_nodes, lambda u: rng.random_sample(num_nodes - 1 - u) < density)


def watts_strogatz(rng: np.random.RandomState, num_nodes: int, *, k: int = 4, rewiring: float = 0.1) -> NumpyArray:
    """A ring on which each node is joined to the k nearest, with one end of each edge moved with probability rewiring.

    There are n k / 2 edges, for an even k.
    """
    check_whole("k", k, at_least=2)
    if k % 2:
        raise UserError(f"expected an even k, given {k}")
    check_probability("rewiring", rewiring)
    _check_num_nodes(f"watts_strogatz with k = {k}", num_nodes, at_least=k + 1)
    return edges_of(networkx().watts_strogatz_graph(num_nodes, k, rewiring, seed=rng))


def barabasi_albert(rng: np.random.RandomState, num_nodes: int, *, m: int = 2) -> NumpyArray:
    """A star of m + 1 nodes, then node after node is joined to m others, those of many edges being likelier.

    It is connected and has (n - m) m edges.
    """
    check_whole("m", m, at_least=1)
    _check_num_nodes(f"barabasi_albert with m = {m}", num_nodes, at_least=m + 1)
    return edges_of(networkx().barabasi_albert_graph(num_nodes, m, seed=rng))


def random_geometric(rng: np.random.RandomState, num_nodes: int, *, radius: float | None = None) -> NumpyArray:
    """Points of the unit square, joined if no farther from each other than the radius.

    If it is not given, it is √(2 ln n / (π n)): far from the border a node has 2 ln n neighbours.
    """
    if radius is None:
        radius = math.sqrt(2 * math.log(num_nodes) / (math.pi * num_nodes))
    elif not is_finite(radius) or radius <= 0:
        raise UserError(f"expected a radius above 0, given {shown(radius)}")
    points, square = rng.random_sample((num_nodes, 2)), min(radius, 2) ** 2  # beyond the square all is reached
    return pairs(num_nodes, lambda u: ((points[u + 1 :] - points[u]) ** 2).sum(axis=1) <= square)


def delaunay(rng: np.random.RandomState, num_nodes: int) -> NumpyArray:
    """The Delaunay triangulation of points of the unit square: connected and planar, with 2 n - 3 to 3 n - 6 edges."""
    _check_num_nodes("delaunay", num_nodes, at_least=3)
    from scipy.spatial import Delaunay  # here, as few draw by it

    triangles = Delaunay(rng.random_sample((num_nodes, 2))).simplices
    sides = np.sort(triangles[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1)
    edges: NumpyArray = np.unique(sides, axis=0)
    return edges


def grid(rng: np.random.RandomState, num_nodes: int) -> NumpyArray:
    """The first n nodes, row by row, of a grid that is as nearly square as can be: only its last row may be short."""
    columns = math.isqrt(num_nodes - 1) + 1
    u = np.arange(num_nodes)
    right = u[(u % columns < columns - 1) & (u + 1 < num_nodes)]
    below = u[u + columns < num_nodes]
    return np.concatenate([np.stack([right, right + 1], axis=1), np.stack([below, below + columns], axis=1)])


def tree(rng: np.random.RandomState, num_nodes: int) -> NumpyArray:
    """Any labelled tree, all equally likely."""
    return edges_of(networkx().random_labeled_tree(num_nodes, seed=rng))


def path(rng: np.random.RandomState, num_nodes: int) -> NumpyArray:
    """All nodes in a row."""
    u = np.arange(num_nodes - 1)
    return np.stack([u, u + 1], axis=1)


def community(
    rng: np.random.RandomState, num_nodes: int, *, communities: int = 4, inside: float = 0.5, between: float = 0.01
) -> NumpyArray:
    """Communities whose sizes differ by 1 at most; nodes are joined with one probability inside and another between."""
    check_whole("communities", communities, at_least=1)
    check_probability("inside", inside)
    check_probability("between", between)
    _check_num_nodes(f"community with {communities} communities", num_nodes, at_least=communities)
    of_node = np.arange(num_nodes) * communities // num_nodes

    def joined(u: int) -> NumpyArray:
        p = np.where(of_node[u + 1 :] == of_node[u], inside, between)
        return rng.random_sample(len(p)) < p

    return pairs(num_nodes, joined)


GRAPH_FAMILIES: Mapping[str, Callable[..., NumpyArray]] = {
    family.__name__: family
    for family in (
        erdos_renyi,
        watts_strogatz,
        barabasi_albert,
        random_geometric,
        delaunay,
        grid,
        tree,
        path,
        community,
    )
}
"""``family(rng, num_nodes, **parameters)`` are the edges of a graph before its nodes are renamed, [E, 2]."""


def sparse_density(rng: np.random.RandomState, num_nodes: int) -> float:
    """A density from 1 to 3 times ln n / n, above which nearly all Erdős–Rényi graphs are connected.

    Below 16 nodes it is that of 16.

    Source:
        Minder et al., "SALSA-CLRS: A Sparse and Scalable Benchmark for Algorithmic Reasoning", LoG 2023.
    """
    n = max(num_nodes, _SMALLEST_OF_SALSA)
    return rng.uniform(1, 3) * math.log(n) / n


def draw_edges(family: str, rng: np.random.RandomState, num_nodes: int, **parameters: Any) -> NumpyArray:
    """The edges of a graph of the family, each once, in memory linear in nodes and edges.

    Args:
        family: One of :data:`GRAPH_FAMILIES`.
        rng: Alone determines the graph.
        num_nodes: N, at least 1.
        **parameters: Of the family.

    Returns:
        The two nodes of each edge, [E, 2].

    Raises:
        UserError: If the family or a parameter is not known, out of its range or too large for so few nodes.
    """
    known = [*signature(known_family(family)).parameters][2:]
    unknown = parameters.keys() - set(known)
    if unknown:
        expected = f"its parameters are {', '.join(known)}" if known else "it has no parameters"
        raise UserError(f"graphs of {family} have no {', '.join(sorted(unknown))}; {expected}")
    _check_num_nodes(family, num_nodes, at_least=1)
    edges = GRAPH_FAMILIES[family](rng, num_nodes, **parameters)
    order = rng.permutation(num_nodes)
    return order[edges]


def draw_family(family: str, rng: np.random.RandomState, num_nodes: int, **parameters: Any) -> NumpyArray:
    """The symmetric matrix of the graph of :func:`draw_edges`: 1 where there is an edge and 0 elsewhere, [N, N]."""
    u, v = draw_edges(family, rng, num_nodes, **parameters).T
    A = np.zeros((num_nodes, num_nodes), np.int64)
    A[u, v] = A[v, u] = 1
    return A


def known_family(family: str) -> Callable[..., NumpyArray]:
    """What draws the family; a :class:`UserError` that lists the known ones if it is not one of them."""
    if not isinstance(family, str) or family not in GRAPH_FAMILIES:
        raise UserError(f"unknown family of graphs {shown(family)}; known are {', '.join(GRAPH_FAMILIES)}")
    return GRAPH_FAMILIES[family]


@dataclass(frozen=True)
class FamilyDraw:
    """Draws what an algorithm is given from a family (see :meth:`nar.datasets.engine.algorithm.Algorithm.draw`).

    Its signature has the family's parameters and, where edges have weights, the range that these are drawn from.
    """

    graph: GraphInput
    family: str

    @property
    def bounds(self) -> dict[str, float]:
        """The range of the weights if nothing else is asked for."""
        return {"low": 0.0, "high": 1.0} if self.graph.weights else {}

    @property
    def __signature__(self) -> Signature:
        parameters = signature(GRAPH_FAMILIES[self.family]).parameters.values()
        bounds = [
            Parameter(name, Parameter.KEYWORD_ONLY, default=value, annotation=float)
            for name, value in self.bounds.items()
        ]
        return Signature([*parameters, *bounds])

    def __call__(self, rng: np.random.RandomState, num_nodes: int, **args: Any) -> tuple[Any, ...]:
        directions, weights, from_a_source, _ = self.graph
        bounds = [args.pop(name, value) for name, value in self.bounds.items()]
        A = directions(rng, draw_family(self.family, rng, num_nodes, **args))
        if weights:
            A = weights(rng, A, *bounds)
        return (A, source(rng, num_nodes)) if from_a_source else (A,)


def on_family(algorithm: Algorithm, family: str) -> Algorithm:
    """A graph algorithm of CLRS-30 on graphs of another family.

    Args:
        algorithm: What to run.
        family: One of :data:`GRAPH_FAMILIES`.

    Returns:
        The algorithm, whose ``draw`` takes the family's parameters, and ``low`` and ``high`` if edges have weights.

    Raises:
        UserError: If the family is not known or the algorithm not one on graphs.
    """
    known_family(family)
    if not isinstance(algorithm, KnownAlgorithm) or algorithm.graph is None:
        raise UserError(f"{algorithm.name} is not given a graph; those that are: {', '.join(GRAPHS)}")
    draw = FamilyDraw(algorithm.graph, family)
    return replace(algorithm, draw=draw, min_num_nodes=2)  # dm-clrs's communities may need more


def pairs(num_nodes: int, joined: Callable[[int], NumpyArray]) -> NumpyArray:
    """The edges of a graph in which ``joined(u)`` tells for each node after u whether it is joined to it, [E, 2]."""
    later = [np.flatnonzero(joined(u)) + u + 1 for u in range(num_nodes)]
    u = np.repeat(np.arange(num_nodes), [len(nodes) for nodes in later])
    return np.stack([u, np.concatenate(later)], axis=1)


def networkx() -> Any:
    """networkx, which takes long to be imported, and of which few families are drawn."""
    return import_module("networkx")


def edges_of(graph: Any) -> NumpyArray:
    """The edges of a graph of networkx, [E, 2]."""
    return np.array(graph.edges, np.int64).reshape(-1, 2)


def _check_num_nodes(what: str, num_nodes: int, *, at_least: int) -> None:
    """Raise a :class:`UserError` if there are too few nodes."""
    if num_nodes < at_least:
        raise UserError(f"{what} needs at least {at_least} nodes, given {num_nodes}")
