"""Answers on graphs: paths, trees, orders, components, cuts; what is right is told from the user's own weights."""
# N is the number of nodes; u and v are nodes, numbers within this file and names outside of it. weights are the user's,
# 0 where there is no edge.

import math
from collections.abc import Hashable, Mapping, Sequence
from functools import cached_property
from importlib import import_module
from itertools import pairwise
from typing import Any

import numpy as np

from nar.batch import NumpyArray
from nar.datasets.engine.arguments import shown
from nar.errors import UserError
from nar.inference.answers import Answer, close, in_a_circle, shown_walk, walk
from nar.inference.graphs import index_of


class GraphAnswer(Answer):
    """An answer on a graph."""

    @property
    def weights(self) -> NumpyArray:
        """The user's weights; 1 on every edge where the algorithm looks at no weights, [N, N]."""
        weights: NumpyArray = self._instance.own["weights"]
        return weights

    def _index(self, name: Any) -> int:
        """The number of a node."""
        return index_of("the node", name, self.names)


class PredecessorAnswer(GraphAnswer):
    """An answer that points from each node to its predecessor on the way from a source."""

    @property
    def source(self) -> Hashable:
        """The node that the algorithm started from."""
        return self.names[self._source]

    @cached_property
    def tree(self) -> dict[Hashable, Hashable]:
        """The predecessor of every node that has one; nodes that are not reached, and the source, have none."""
        return {self.names[v]: self.names[u] for v, u in enumerate(self._pointers) if u != v and v != self._source}

    @property
    def _source(self) -> int:
        return int(self._instance.own["source"])

    @property
    def _pointers(self) -> list[int]:
        return [int(u) for u in self.prediction.outputs["pi"]]

    @cached_property
    def _distances(self) -> NumpyArray:
        return _along_pointers(self._pointers, self.weights, self._source)

    def _broken(self) -> str:
        """What is wrong with the pointers themselves: no edge, a circle, or a source that has a predecessor."""
        if self._pointers[self._source] != self._source:
            return f"the source has a predecessor, {shown(self.names[self._pointers[self._source]])}"
        for v, u in enumerate(self._pointers):
            if math.isnan(self._distances[v]):
                return _broken_at(self.names, self._pointers, self.weights, v)
            if math.isinf(self._distances[v]) and u != v:
                return f"{shown(self.names[v])} has a predecessor, {shown(self.names[u])}, and is not reached"
        return ""


class ShortestPaths(PredecessorAnswer):
    """Shortest paths from a source: of `bfs`, those of the fewest edges."""

    def path(self, node: Hashable) -> list[Hashable]:
        """The nodes from the source to `node`, both included, as predicted pointers lead.

        Raises:
            UserError: If there is no such node, or predicted pointers lead from it to no source.
        """
        v = self._index(node)
        if math.isnan(self._distances[v]):
            raise UserError(_broken_at(self.names, self._pointers, self.weights, v))
        nodes = walk([u if w != self._source else w for w, u in enumerate(self._pointers)], v)
        if nodes[-1] != self._source:
            raise UserError(
                f"no path from {shown(self.source)} to {shown(node)}: {shown(self.names[nodes[-1]])} is not reached"
            )
        return [self.names[u] for u in reversed(nodes)]

    @cached_property
    def distances(self) -> dict[Hashable, float]:
        """The length of each node's predicted path by the user's weights; infinite if the model says that it is not
        reached, and NaN if pointers lead in a circle or where there is no edge.
        """
        return dict(zip(self.names, self._distances.tolist(), strict=True))

    def problem(self) -> str:
        """Why these are no shortest paths; of several that are equally short, any are right."""
        if broken := self._broken():
            return broken
        shortest = _distances_from(self.weights, self._source)
        for v in np.flatnonzero(~np.isclose(self._distances, shortest, rtol=1e-9, atol=1e-12)):
            name, length, least = shown(self.names[v]), self._distances[v], shortest[v]
            if math.isinf(length):
                return f"{name} is not reached, to which there is a path of length {least:g}"
            return f"the path to {name} has a length of {length:g}, and the shortest {least:g}"
        return ""


class GrownTree(PredecessorAnswer):
    """A minimum spanning tree that grew from a source."""

    @cached_property
    def edges(self) -> list[tuple[Hashable, Hashable]]:
        """The edges of the tree, each from a node to that which it was joined to the tree by."""
        return [(u, v) for v, u in self.tree.items()]

    @property
    def weight(self) -> float:
        """The sum of the user's weights of the edges; NaN if one is no edge of the graph."""
        return _total_weight(
            self.weights, [(u, v) for v, u in enumerate(self._pointers) if u != v and v != self._source]
        )

    def problem(self) -> str:
        """Why this is no minimum spanning tree of what the source reaches; any of the least weight is right."""
        if broken := self._broken():
            return broken
        reached = np.isfinite(_distances_from((self.weights != 0).astype(np.float64), self._source))
        if (missing := np.flatnonzero(reached & ~np.isfinite(self._distances))).size:
            return f"{shown(self.names[missing[0]])} is not in the tree"
        least = _total_weight(self.weights, _spanning_edges(self.weights * reached))
        return "" if close(self.weight, least) else f"the tree weighs {self.weight:g}, and the least is {least:g}"


class SpanningForest(GraphAnswer):
    """The edges of a minimum spanning forest."""

    @cached_property
    def edges(self) -> list[tuple[Hashable, Hashable]]:
        """The edges that the model takes in both directions."""
        return [(self.names[u], self.names[v]) for u, v in self._edges]

    @property
    def weight(self) -> float:
        """The sum of the user's weights of the edges; NaN if one is no edge of the graph."""
        return _total_weight(self.weights, self._edges)

    @property
    def _edges(self) -> list[tuple[int, int]]:
        taken = self.prediction.outputs["in_mst"] > 0
        return edges_of(taken & taken.T & ~np.eye(len(taken), dtype=bool))

    def problem(self) -> str:
        """Why this is no minimum spanning forest; any of the least weight is right."""
        for u, v in self._edges:
            if self.weights[u, v] == 0:
                return f"there is no edge from {shown(self.names[u])} to {shown(self.names[v])}"
        networkx: Any = import_module("networkx")
        forest = networkx.Graph(self._edges)
        forest.add_nodes_from(range(len(self.names)))
        if not networkx.is_forest(forest):
            circle = [u for u, _ in networkx.find_cycle(forest)]
            return f"a circle of edges is taken, {shown_walk(self.names, [*circle, circle[0]])}"
        best = _spanning_edges(self.weights)
        if len(self._edges) < len(best):
            return f"{len(self._edges)} edges are taken, and a spanning forest has {len(best)}"
        least = _total_weight(self.weights, best)
        return "" if close(self.weight, least) else f"the forest weighs {self.weight:g}, and the least is {least:g}"


class AllPaths(GraphAnswer):
    """Shortest paths between all pairs of nodes."""

    def path(self, start: Hashable, end: Hashable) -> list[Hashable]:
        """The nodes from `start` to `end`, both included, as predicted pointers lead.

        Raises:
            UserError: If there is no such node, or predicted pointers lead from `end` to no `start`.
        """
        u, v = self._index(start), self._index(end)
        distance = self._lengths[u, v]
        if math.isinf(distance):
            raise UserError(f"no path from {shown(start)} to {shown(end)}")
        if math.isnan(distance):
            raise UserError(_broken_at(self.names, self._row(u), self.weights, v))
        return [self.names[w] for w in reversed(walk(self._row(u), v))]

    @cached_property
    def distances(self) -> dict[Hashable, dict[Hashable, float]]:
        """The length of each predicted path by the user's weights, ``distances[start][end]``: infinite where the model
        says that there is none, NaN where pointers lead in a circle or along no edge.
        """
        rows = zip(self.names, self._lengths.tolist(), strict=True)
        return {name: dict(zip(self.names, row, strict=True)) for name, row in rows}

    def _row(self, u: int) -> list[int]:
        """Predecessors on the paths from u; where there is no path, the algorithm says u, to which there is no edge."""
        row = [int(w) for w in self.prediction.outputs["Pi"][u]]
        row[u] = u
        return row

    @cached_property
    def _lengths(self) -> NumpyArray:
        """The lengths of all predicted paths, [N, N]."""
        return np.stack([_along_pointers(self._ways(u), self.weights, u) for u in range(len(self.names))])

    def _ways(self, u: int) -> list[int]:
        """Predecessors on the paths from u, and where there is no path, nodes themselves."""
        row, has_edge = self._row(u), self.weights[u] != 0
        return [v if w == u and v != u and not has_edge[v] else w for v, w in enumerate(row)]

    def problem(self) -> str:
        """Why these are no shortest paths; of several that are equally short, any are right."""
        shortest = _graph_algorithms().floyd_warshall(self.weights)
        for u, start in enumerate(self.names):
            lengths = self._lengths[u]
            for v in np.flatnonzero(~np.isclose(lengths, shortest[u], rtol=1e-9, atol=1e-12)):
                if v == u:  # no way is the shortest, whatever loops there are
                    continue
                if math.isnan(lengths[v]):
                    return f"from {shown(start)}: {_broken_at(self.names, self._row(u), self.weights, int(v))}"
                pair = f"from {shown(start)} to {shown(self.names[v])}"
                return f"the path {pair} has a length of {lengths[v]:g}, and the shortest {shortest[u, v]:g}"
            for v in np.flatnonzero(np.isinf(lengths)):
                if self._row(u)[v] != u:
                    return f"from {shown(start)}: {shown(self.names[v])} has a predecessor and is not reached"
        return ""


class DepthFirstForest(GraphAnswer):
    """The trees of a depth-first search of the whole graph."""

    @cached_property
    def tree(self) -> dict[Hashable, Hashable]:
        """The node from which each was discovered; roots have none."""
        return {self.names[v]: self.names[u] for v, u in enumerate(self._pointers) if u != v}

    @cached_property
    def roots(self) -> list[Hashable]:
        """The nodes from which the search began anew."""
        return [self.names[v] for v, u in enumerate(self._pointers) if u == v]

    @property
    def _pointers(self) -> list[int]:
        return [int(u) for u in self.prediction.outputs["pi"]]

    def problem(self) -> str:
        """Why no depth-first search has these trees; one that takes nodes in another order is right too."""
        pointers = self._pointers
        ways = [walk(pointers, v) for v in range(len(pointers))]
        for v, way in enumerate(ways):
            if in_a_circle(way) or (len(way) > 1 and self.weights[way[1], v] == 0):
                return _broken_at(self.names, pointers, self.weights, v)
        return _not_depth_first(self.names, ways, self.weights)


class TopologicalOrder(GraphAnswer):
    """An order of the nodes in which all edges go forwards."""

    @cached_property
    def order(self) -> list[Hashable]:
        """The nodes from the predicted first one along predicted pointers, as far as these lead to new ones."""
        nodes = self._walk
        return [self.names[v] for v in (nodes[:-1] if in_a_circle(nodes) else nodes)]

    @property
    def _walk(self) -> list[int]:
        return walk(self.prediction.outputs["topo"], int(self.prediction.outputs["topo_head"]))

    def problem(self) -> str:
        """Why the nodes are in no topological order, in words; any such order is right."""
        nodes = self._walk
        if in_a_circle(nodes):
            return f"the order leads in a circle, {shown_walk(self.names, nodes)}"
        if len(nodes) < len(self.names):
            missing = next(v for v in range(len(self.names)) if v not in nodes)
            return f"{shown(self.names[missing])} is not in the order"
        place = np.argsort(nodes)
        u, v = np.nonzero(self.weights)
        if (wrong := np.flatnonzero(place[u] > place[v])).size:
            first, second = (shown(self.names[x[wrong[0]]]) for x in (u, v))
            return f"{second} comes before {first}, from which there is an edge to it"
        return ""


class Components(GraphAnswer):
    """The strongly connected components of a graph."""

    @cached_property
    def components(self) -> list[set[Hashable]]:
        """The nodes that are said to be of the same component, in the order of their first nodes."""
        groups: dict[int, set[Hashable]] = {}
        for name, label in zip(self.names, self._labels, strict=True):
            groups.setdefault(label, set()).add(name)
        return list(groups.values())

    @property
    def _labels(self) -> list[int]:
        """The number of the node that stands for each one's component."""
        return [int(label) for label in self.prediction.outputs["scc_id"]]

    def problem(self) -> str:
        """Why these are not the components; which node of each stands for it does not matter."""
        _, true = _graph_algorithms().connected_components(self.weights, connection="strong")
        representative: dict[int, int] = {}
        label_of: dict[int, int] = {}
        for v, (label, component) in enumerate(zip(self._labels, true.tolist(), strict=True)):
            other = representative.setdefault(label, v)
            if true[other] != component:
                return f"{shown(self.names[v])} and {shown(self.names[other])} are in different components"
            other = label_of.setdefault(component, v)
            if self._labels[other] != label:
                return f"{shown(self.names[v])} and {shown(self.names[other])} are in the same component"
        return ""


class CutNodes(GraphAnswer):
    """The articulation points of a graph."""

    @cached_property
    def cut(self) -> set[Hashable]:
        """The nodes without which the graph would have more components."""
        return {name for name, is_cut in zip(self.names, self.prediction.outputs["is_cut"], strict=True) if is_cut > 0}

    def problem(self) -> str:
        """The first node that is wrongly an articulation point, or wrongly none; nothing if all are right."""
        for name in self.names:
            if (name in self.cut) != (name in self.classical.cut):
                return f"{shown(name)} is {'no' if name in self.cut else 'an'} articulation point"
        return ""


class Bridges(GraphAnswer):
    """The bridges of a graph."""

    @cached_property
    def bridges(self) -> list[tuple[Hashable, Hashable]]:
        """The edges, each once, without which the graph would have more components, as the model says of both ways."""
        taken = (self.prediction.outputs["is_bridge"] > 0) & (self.weights != 0)
        return [(self.names[u], self.names[v]) for u, v in edges_of(taken & taken.T)]

    def problem(self) -> str:
        """The first edge that is wrongly a bridge, or wrongly none; nothing if all are right."""
        ours, true = set(self.bridges), set(self.classical.bridges)
        for u, v in [*self.bridges, *self.classical.bridges]:
            if ((u, v) in ours) != ((u, v) in true):
                return f"the edge between {shown(u)} and {shown(v)} is {'no' if (u, v) in ours else 'a'} bridge"
        return ""


def _along_pointers(pointers: Sequence[int], weights: NumpyArray, source: int) -> NumpyArray:
    """The length of each node's way along pointers to predecessors, [N].

    It is infinite where the way ends at another node than the source, and NaN where it leads in a circle or where there
    is no edge.
    """
    lengths = np.full(len(pointers), np.nan)
    is_known = np.zeros(len(pointers), bool)
    lengths[source], is_known[source] = 0, True
    for start in range(len(pointers)):
        way, seen, v = [], set(), start
        while not is_known[v] and v not in seen:
            seen.add(v)
            way.append(v)
            if pointers[v] == v:
                lengths[v], is_known[v] = np.inf, True
                way.pop()
            v = pointers[v]
        for u in reversed(way):  # what led into a circle stays NaN
            weight = weights[pointers[u], u]
            lengths[u] = lengths[pointers[u]] + weight if weight else np.nan
            is_known[u] = True
    return lengths


def _broken_at(names: Sequence[Hashable], pointers: Sequence[int], weights: NumpyArray, v: int) -> str:
    """Why the pointers of v lead to no source: they go where there is no edge, or in a circle."""
    way = walk(np.asarray(pointers), v)
    for node, predecessor in pairwise(way):
        if weights[predecessor, node] == 0:
            first, second = shown(names[predecessor]), shown(names[node])
            return f"{first} is the predecessor of {second}, to which it has no edge"
    return f"the predecessors of {shown(names[v])} lead in a circle, {shown_walk(names, way)}"


def _distances_from(weights: NumpyArray, source: int) -> NumpyArray:
    """The lengths of the shortest paths from the source, infinite where there is none, by SciPy, [N]."""
    csgraph = _graph_algorithms()
    algorithm = csgraph.bellman_ford if (weights < 0).any() else csgraph.dijkstra
    distances: NumpyArray = algorithm(weights, indices=source)
    return distances


def _graph_algorithms() -> Any:
    """SciPy's, which take long to be imported."""
    return import_module("scipy.sparse.csgraph")


def edges_of(matrix: NumpyArray) -> list[tuple[int, int]]:
    """The pairs u < v of a symmetric matrix of edges."""
    return [(int(u), int(v)) for u, v in zip(*np.nonzero(np.triu(matrix, k=1)), strict=True)]


def _total_weight(weights: NumpyArray, edges: Sequence[tuple[int, int]]) -> float:
    """The sum of the weights of edges; NaN if there is none of them."""
    return math.fsum(float(weights[u, v]) or math.nan for u, v in edges)


def _spanning_edges(weights: NumpyArray) -> list[tuple[int, int]]:
    """The edges of a minimum spanning forest, by SciPy."""
    tree = _graph_algorithms().minimum_spanning_tree(weights).tocoo()
    return [(int(u), int(v)) for u, v in zip(tree.row, tree.col, strict=True)]


def _not_depth_first(names: Sequence[Hashable], ways: Sequence[Sequence[int]], weights: NumpyArray) -> str:
    """Why no depth-first search has these trees; nothing if one has.

    An edge from u to v either joins a node and one of its ancestors, or v was finished before u was discovered. Then,
    of the children of the last node above both, that above v comes before that above u: there is such a search if and
    only if the children of every node can be put in an order in which all that holds.

    Args:
        names: Of the nodes.
        ways: From each node over its ancestors to its root.
        weights: Not 0 where there is an edge.
    """
    earlier: dict[int, dict[int, set[int]]] = {}
    example: dict[tuple[int, int], tuple[int, int]] = {}
    for u, v in zip(*np.nonzero(weights), strict=True):
        down, other = ways[u][::-1], ways[v][::-1]
        shared = next((i for i, (a, b) in enumerate(zip(down, other, strict=False)) if a != b), None)
        if shared is None:
            continue  # one is an ancestor of the other
        above = down[shared - 1] if shared else -1  # the roots are the children of none
        earlier.setdefault(above, {}).setdefault(down[shared], set()).add(other[shared])
        example[down[shared], other[shared]] = int(u), int(v)
    graphlib: Any = import_module("graphlib")
    for before in earlier.values():
        try:
            graphlib.TopologicalSorter(before).prepare()
        except graphlib.CycleError as error:
            other, down = error.args[1][:2]  # the one is to come before the other
            u, v = example[down, other]
            edge = f"the edge from {shown(names[u])} to {shown(names[v])}"
            return f"{edge} leads to a node that a search would have found along it"
    return ""


GRAPH_ANSWERS: Mapping[str, type[Answer]] = {
    **dict.fromkeys(("bfs", "bellman_ford", "dag_shortest_paths", "dijkstra"), ShortestPaths),
    "floyd_warshall": AllPaths,
    "mst_prim": GrownTree,
    "mst_kruskal": SpanningForest,
    "dfs": DepthFirstForest,
    "topological_sort": TopologicalOrder,
    "strongly_connected_components": Components,
    "articulation_points": CutNodes,
    "bridges": Bridges,
}
"""The form of the answer of each graph algorithm."""
