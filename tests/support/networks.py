"""What must hold of the outputs of graph algorithms, by networkx."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import networkx as nx
import numpy as np
import pytest
from engine import by_hand

from nar.batch import NumpyArray
from nar.datasets.clrs30.graphs import GRAPHS
from nar.datasets.clrs30.specs import SPECS
from nar.specs import Stage, at_stage

UNWEIGHTED = ("articulation_points", "bfs", "bridges", "dfs", "topological_sort")  # their matrices are of integers
DIRECTED = ("dfs", "strongly_connected_components")
ACYCLIC = ("dag_shortest_paths", "topological_sort")
FROM_A_SOURCE = tuple(name for name in GRAPHS if "s" in at_stage(SPECS[name], Stage.INPUT))


def given(name: str, A: NumpyArray, s: int = 0) -> tuple[Any, ...]:
    """What the algorithm is given: a graph of its kind with these edges, and a source if it has one."""
    if name in ACYCLIC:
        A = np.triu(A, 1)
    elif name not in DIRECTED:
        A = np.maximum(A, A.T)
    A = A.astype(np.int64 if name in UNWEIGHTED else np.float64)
    return (A, s) if name in FROM_A_SOURCE else (A,)


def outputs_of(name: str, *data: Any) -> Mapping[str, NumpyArray]:
    """The outputs on the given data."""
    return {output: values[0] for output, values in by_hand(name, *data, hints="none").outputs.items()}


def undirected(A: NumpyArray) -> Any:
    """The graph without its loops, which neither networkx's bridges nor its cut nodes are meant for."""
    return nx.from_numpy_array(A * (1 - np.eye(len(A))))


def directed(A: NumpyArray) -> Any:
    """The graph with its directions."""
    return nx.from_numpy_array(A, create_using=nx.DiGraph)


def assert_shortest(A: NumpyArray, s: int, pi: NumpyArray, lengths: Mapping[int, float]) -> None:
    """Fail unless each node's predecessor is on a path of its length; those of no length point at themselves."""
    nodes = np.arange(len(A))
    d = np.array([lengths.get(node, np.inf) for node in nodes])
    reached = np.isfinite(d) & (nodes != s)
    assert np.array_equal(pi[~reached], nodes[~reached])
    edges = A[pi[reached], nodes[reached]]
    assert np.all(edges != 0)
    np.testing.assert_allclose(d[pi[reached]] + edges, d[reached], rtol=1e-12, atol=1e-12)


def chain(topo: NumpyArray, topo_head: int) -> list[int]:
    """The nodes from the head to the one that points at itself."""
    nodes = [int(topo_head)]
    while topo[nodes[-1]] != nodes[-1]:
        nodes.append(int(topo[nodes[-1]]))
    return nodes


def check_bfs(A: NumpyArray, s: int) -> None:
    """Fail unless each node hangs on the node before it on a shortest path."""
    lengths = nx.single_source_shortest_path_length(undirected(A), s)
    assert_shortest(A, s, outputs_of("bfs", A, s)["pi"], lengths)


def check_dfs(A: NumpyArray) -> None:
    """Fail unless the forest is that of networkx."""
    predecessors = nx.dfs_predecessors(directed(A))
    assert outputs_of("dfs", A)["pi"].tolist() == [predecessors.get(node, node) for node in range(len(A))]


def check_topological_sort(A: NumpyArray) -> None:
    """Fail unless the order has all nodes and no edge that goes back."""
    order = chain(**outputs_of("topological_sort", A))
    assert sorted(order) == list(range(len(A)))
    assert not np.tril(A[order][:, order]).any()


def check_strongly_connected_components(A: NumpyArray) -> None:
    """Fail unless the components are those of networkx, each with a node for its name."""
    scc_id = outputs_of("strongly_connected_components", A)["scc_id"]
    found = [set(np.flatnonzero(scc_id == representative)) for representative in np.unique(scc_id)]
    assert sorted(found, key=min) == sorted(nx.strongly_connected_components(directed(A)), key=min)
    assert np.array_equal(scc_id[scc_id], scc_id)


def check_articulation_points(A: NumpyArray) -> None:
    """Fail unless the cut nodes are those of networkx."""
    is_cut = outputs_of("articulation_points", A)["is_cut"]
    assert set(np.flatnonzero(is_cut)) == set(nx.articulation_points(undirected(A)))


def check_bridges(A: NumpyArray) -> None:
    """Fail unless the bridges are those of networkx, and what is no edge and no loop is not scored."""
    is_bridge = outputs_of("bridges", A)["is_bridge"]
    expected = np.where((A != 0) | np.eye(len(A), dtype=bool), 0, -1)
    for u, v in nx.bridges(undirected(A)):
        expected[u, v] = expected[v, u] = 1
    assert np.array_equal(is_bridge, expected)


def check_shortest_paths_from_a_source(name: str, A: NumpyArray, s: int) -> None:
    """Fail unless the paths from the source are as short as those of networkx."""
    lengths = nx.single_source_dijkstra_path_length(undirected(A), s)
    assert_shortest(A, s, outputs_of(name, A, s)["pi"], lengths)


def check_dag_shortest_paths(A: NumpyArray, s: int) -> None:
    """Fail unless the paths from the source are as short as those of networkx."""
    lengths = nx.single_source_bellman_ford_path_length(directed(A), s)
    assert_shortest(A, s, outputs_of("dag_shortest_paths", A, s)["pi"], lengths)


def check_floyd_warshall(A: NumpyArray) -> None:
    """Fail unless the paths between all pairs are as short as those of networkx."""
    Pi = outputs_of("floyd_warshall", A)["Pi"]
    for s, lengths in nx.all_pairs_dijkstra_path_length(undirected(A)):
        pi = np.where(Pi[s] == s, np.where(A[s] != 0, s, np.arange(len(A))), Pi[s])
        pi[s] = s  # through a loop, or there and back
        assert_shortest(A, s, pi, lengths)


def check_mst_kruskal(A: NumpyArray) -> None:
    """Fail unless the trees span the graph and weigh as much as those of networkx."""
    in_mst = outputs_of("mst_kruskal", A)["in_mst"]
    graph = undirected(A)
    assert np.array_equal(in_mst, in_mst.T)
    assert np.all(A[in_mst == 1] > 0)
    assert in_mst.sum() == 2 * (len(A) - nx.number_connected_components(graph))
    assert (A * in_mst).sum() / 2 == pytest.approx(nx.minimum_spanning_tree(graph).size("weight"), rel=1e-12)


def check_mst_prim(A: NumpyArray, s: int) -> None:
    """Fail unless the tree spans the component of the source and weighs as much as that of networkx."""
    pi = outputs_of("mst_prim", A, s)["pi"]
    component = undirected(A).subgraph(nx.node_connected_component(undirected(A), s))
    joined = np.flatnonzero(pi != np.arange(len(A)))
    assert {s, *joined} == set(component)
    assert np.all(A[pi[joined], joined] > 0)
    assert A[pi[joined], joined].sum() == pytest.approx(nx.minimum_spanning_tree(component).size("weight"), rel=1e-12)


CHECKS: Mapping[str, Callable[..., None]] = {
    "articulation_points": check_articulation_points,
    "bellman_ford": partial(check_shortest_paths_from_a_source, "bellman_ford"),
    "bfs": check_bfs,
    "bridges": check_bridges,
    "dag_shortest_paths": check_dag_shortest_paths,
    "dfs": check_dfs,
    "dijkstra": partial(check_shortest_paths_from_a_source, "dijkstra"),
    "floyd_warshall": check_floyd_warshall,
    "mst_kruskal": check_mst_kruskal,
    "mst_prim": check_mst_prim,
    "strongly_connected_components": check_strongly_connected_components,
    "topological_sort": check_topological_sort,
}
