"""The graph algorithms, beside networkx and, on odd inputs, beside dm-clrs."""

from collections.abc import Mapping
from copy import deepcopy
from inspect import signature
from typing import Any

import networkx as nx
import numpy as np
import pytest
from engine import assert_equals_dm_clrs, by_hand

from nar.batch import NumpyArray
from nar.datasets.algorithm import truncated
from nar.datasets.clrs30 import SPECS
from nar.datasets.graphs import GRAPHS, draw_communities
from nar.errors import UserError
from nar.specs import Stage, at_stage

UNWEIGHTED = ("articulation_points", "bfs", "bridges", "dfs", "topological_sort")  # their matrices are of integers
DIRECTED = ("dfs", "strongly_connected_components")
ACYCLIC = ("dag_shortest_paths", "topological_sort")
FROM_A_SOURCE = tuple(name for name in GRAPHS if "s" in at_stage(SPECS[name], Stage.INPUT))

every_algorithm = pytest.mark.parametrize("name", GRAPHS)
every_size = pytest.mark.parametrize("num_nodes", [4, 5, 16, 100, 512])

# Matrices of edges; they are made undirected or acyclic for the algorithms that are given such graphs.
ODD_GRAPHS = {
    "no edges": np.zeros((4, 4)),
    "only loops": np.eye(4),
    "one edge": np.array([[0, 0, 0], [0, 0, 1], [0, 0, 0]]),
    "two nodes": np.array([[0, 1], [0, 0]]),
    "complete": 1 - np.eye(6),
    "complete, with loops": np.ones((6, 6)),
    "two triangles": np.kron(np.eye(2), 1 - np.eye(3)),
    "a path": np.eye(6, k=1),
    "a cycle": np.eye(6, k=1) + np.eye(6, k=-5),
    "a path with loops": np.eye(6) + np.eye(6, k=1),
    "a path and loose nodes": np.pad(np.eye(4, k=1), 2),
    "a star": np.outer([0, 1, 0, 0, 0], [1, 0, 1, 1, 1]),
}


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


def drawn(name: str, num_nodes: int, **args: Any) -> Any:
    """What the algorithm is given at random."""
    return GRAPHS[name].draw(np.random.RandomState(num_nodes), num_nodes, **args)


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


@every_size
@pytest.mark.parametrize("p", [0.5, 0.1])
def test_breadth_first_search_finds_shortest_paths(num_nodes: int, p: float) -> None:
    A, s = drawn("bfs", num_nodes, p=(p,))
    lengths = nx.single_source_shortest_path_length(undirected(A), s)
    assert_shortest(A, s, outputs_of("bfs", A, s)["pi"], lengths)


@every_size
@pytest.mark.parametrize("p", [0.5, 0.01])
def test_depth_first_search_finds_the_forest_of_networkx(num_nodes: int, p: float) -> None:
    (A,) = drawn("dfs", num_nodes, p=(p,))
    predecessors = nx.dfs_predecessors(directed(A))
    assert outputs_of("dfs", A)["pi"].tolist() == [predecessors.get(node, node) for node in range(num_nodes)]


@every_size
@pytest.mark.parametrize("p", [0.5, 0.01])
def test_no_edge_goes_back_in_topological_order(num_nodes: int, p: float) -> None:
    (A,) = drawn("topological_sort", num_nodes, p=(p,))
    order = chain(**outputs_of("topological_sort", A))
    assert sorted(order) == list(range(num_nodes))
    assert not np.tril(A[order][:, order]).any()


@every_size
@pytest.mark.parametrize("args", [{}, {"k": 1, "p": (0.1,)}, {"p": (0.02,), "eps": 0.02}])
def test_strongly_connected_components_are_those_of_networkx(num_nodes: int, args: dict[str, Any]) -> None:
    (A,) = drawn("strongly_connected_components", num_nodes, **args)
    scc_id = outputs_of("strongly_connected_components", A)["scc_id"]
    found = [set(np.flatnonzero(scc_id == representative)) for representative in np.unique(scc_id)]
    assert sorted(found, key=min) == sorted(nx.strongly_connected_components(directed(A)), key=min)
    assert np.array_equal(scc_id[scc_id], scc_id)


@every_size
@pytest.mark.parametrize("p", [0.2, 0.05])
def test_cut_nodes_are_those_of_networkx(num_nodes: int, p: float) -> None:
    (A,) = drawn("articulation_points", num_nodes, p=(p,))
    is_cut = outputs_of("articulation_points", A)["is_cut"]
    assert set(np.flatnonzero(is_cut)) == set(nx.articulation_points(undirected(A)))


@every_size
@pytest.mark.parametrize("p", [0.2, 0.05])
def test_bridges_are_those_of_networkx_and_only_edges_and_loops_are_scored(num_nodes: int, p: float) -> None:
    (A,) = drawn("bridges", num_nodes, p=(p,))
    is_bridge = outputs_of("bridges", A)["is_bridge"]
    expected = np.where((A != 0) | np.eye(num_nodes, dtype=bool), 0, -1)
    for u, v in nx.bridges(undirected(A)):
        expected[u, v] = expected[v, u] = 1
    assert np.array_equal(is_bridge, expected)


@every_size
@pytest.mark.parametrize("p", [0.5, 0.1])
@pytest.mark.parametrize("name", ["bellman_ford", "dijkstra"])
def test_shortest_paths_are_as_short_as_networkxs(name: str, num_nodes: int, p: float) -> None:
    A, s = drawn(name, num_nodes, p=(p,))
    lengths = nx.single_source_dijkstra_path_length(undirected(A), s)
    assert_shortest(A, s, outputs_of(name, A, s)["pi"], lengths)


@every_size
@pytest.mark.parametrize("args", [{}, {"p": (0.05,)}, {"low": -1.0}])
def test_shortest_paths_through_a_dag_are_as_short_as_networkxs(num_nodes: int, args: dict[str, Any]) -> None:
    A, s = drawn("dag_shortest_paths", num_nodes, **args)
    lengths = nx.single_source_bellman_ford_path_length(directed(A), s)
    assert_shortest(A, s, outputs_of("dag_shortest_paths", A, s)["pi"], lengths)


@pytest.mark.parametrize(("num_nodes", "p"), [(4, 0.5), (16, 0.5), (100, 0.5), (100, 0.1), (512, 0.08)])
def test_shortest_paths_between_all_pairs_are_as_short_as_networkxs(num_nodes: int, p: float) -> None:
    (A,) = drawn("floyd_warshall", num_nodes, p=(p,))
    Pi = outputs_of("floyd_warshall", A)["Pi"]
    for s, lengths in nx.all_pairs_dijkstra_path_length(undirected(A)):
        pi = np.where(Pi[s] == s, np.where(A[s] != 0, s, np.arange(num_nodes)), Pi[s])
        pi[s] = s  # through a loop, or there and back
        assert_shortest(A, s, pi, lengths)


@every_size
@pytest.mark.parametrize("p", [0.2, 0.05])
def test_kruskals_trees_span_the_graph_and_weigh_as_much_as_networkxs(num_nodes: int, p: float) -> None:
    (A,) = drawn("mst_kruskal", num_nodes, p=(p,))
    in_mst = outputs_of("mst_kruskal", A)["in_mst"]
    graph = undirected(A)
    assert np.array_equal(in_mst, in_mst.T)
    assert np.all(A[in_mst == 1] > 0)
    assert in_mst.sum() == 2 * (num_nodes - nx.number_connected_components(graph))
    assert (A * in_mst).sum() / 2 == pytest.approx(nx.minimum_spanning_tree(graph).size("weight"), rel=1e-12)


@every_size
@pytest.mark.parametrize("p", [0.5, 0.1])
def test_prims_tree_spans_the_component_and_weighs_as_much_as_networkxs(num_nodes: int, p: float) -> None:
    A, s = drawn("mst_prim", num_nodes, p=(p,))
    pi = outputs_of("mst_prim", A, s)["pi"]
    component = undirected(A).subgraph(nx.node_connected_component(undirected(A), s))
    joined = np.flatnonzero(pi != np.arange(num_nodes))
    assert {s, *joined} == set(component)
    assert np.all(A[pi[joined], joined] > 0)
    assert A[pi[joined], joined].sum() == pytest.approx(nx.minimum_spanning_tree(component).size("weight"), rel=1e-12)


@every_algorithm
@pytest.mark.parametrize("graph", ODD_GRAPHS)
def test_odd_graphs_equal_dm_clrs(clrs: Any, name: str, graph: str) -> None:
    A = ODD_GRAPHS[graph]
    for s in range(len(A)) if name in FROM_A_SOURCE else [0]:
        assert_equals_dm_clrs(clrs, name, *given(name, A, s))
        assert_equals_dm_clrs(clrs, name, *given(name, A[::-1, ::-1], s))


@every_algorithm
def test_equal_weights_equal_dm_clrs(clrs: Any, name: str) -> None:
    """Which of equally near nodes or equally heavy edges comes first is up to NumPy's sort, which is not stable."""
    rng = np.random.RandomState(0)
    for num_nodes in (2, 3, 5, 9, 16, 25, 40):
        A = rng.binomial(1, 0.4, (num_nodes, num_nodes))
        if name not in UNWEIGHTED:
            A = A * rng.randint(1, 4, A.shape)
        assert_equals_dm_clrs(clrs, name, *given(name, A, rng.randint(num_nodes)))


@every_algorithm
def test_one_node_is_alone(name: str) -> None:
    for loop in (0, 1):
        for output, values in outputs_of(name, *given(name, np.array([[loop]]))).items():
            assert SPECS[name][output].stage == Stage.OUTPUT
            assert values.ravel().tolist() == [0]


@pytest.mark.parametrize("name", [name for name in GRAPHS if "low" in signature(GRAPHS[name].draw).parameters])
def test_weights_with_few_decimals_equal_dm_clrs(clrs: Any, name: str) -> None:
    for num_nodes in (4, 8, 16, 30):
        A, *source = drawn(name, num_nodes)
        assert_equals_dm_clrs(clrs, name, truncated(A, 1), *source)


@pytest.mark.parametrize("weight", [-2.0, np.nan])
def test_bellman_ford_refuses_weights_for_which_it_would_never_end(weight: float) -> None:
    A = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, weight], [0.5, 0.0, 0.0]])
    with pytest.raises(UserError, match="cycle of negative weight or a weight that is no number"):
        by_hand("bellman_ford", A, 0)


@every_algorithm
def test_the_data_stay_as_they_are(name: str) -> None:
    data = drawn(name, 20)
    before = deepcopy(data)
    by_hand(name, *data)
    assert all(map(np.array_equal, data, before))


@pytest.mark.parametrize("name", GRAPHS)
def test_graphs_are_of_the_kind_that_the_algorithm_is_for(name: str) -> None:
    A, *_ = drawn(name, 40)
    if name in ACYCLIC:
        assert nx.is_directed_acyclic_graph(directed(A))
        assert np.tril(A).any()
        assert np.triu(A).any()
    else:
        assert np.array_equal(A, A.T) == (name not in DIRECTED)
        assert A.diagonal().any()


@every_algorithm
def test_each_graph_has_one_of_the_densities(name: str) -> None:
    args = {"k": 1, "eps": 0.0} if name == "strongly_connected_components" else {}
    rng = np.random.RandomState(0)
    counts = [np.count_nonzero(GRAPHS[name].draw(rng, 8, p=(0.0, 1.0), **args)[0]) for _ in range(20)]
    assert set(counts) == {0, 28 if name in ACYCLIC else 64}


def test_undirected_edges_have_the_square_of_the_density_and_loops_the_density_itself() -> None:
    A, _ = drawn("bfs", 512, p=(0.4,))
    assert A[~np.eye(512, dtype=bool)].mean() == pytest.approx(0.16, abs=0.01)
    assert A.diagonal().mean() == pytest.approx(0.4, abs=0.1)


def test_weights_are_from_the_range() -> None:
    (A,) = drawn("floyd_warshall", 64, p=(1.0,), low=2.0, high=3.0)
    assert (A.min(), A.max()) == (pytest.approx(2, abs=0.02), pytest.approx(3, abs=0.02))
    A, _ = drawn("dag_shortest_paths", 64, p=(1.0,), low=-1.0, high=3.0)
    assert (A.min(), A.max()) == (pytest.approx(-1, abs=0.02), pytest.approx(3, abs=0.02))


@pytest.mark.parametrize("name", FROM_A_SOURCE)
def test_every_node_can_be_the_source(name: str) -> None:
    rng = np.random.RandomState(0)
    assert {GRAPHS[name].draw(rng, 4)[1] for _ in range(50)} == set(range(4))


def test_no_cycle_leaves_its_community() -> None:
    (A,) = draw_communities(np.random.RandomState(0), 42, k=4, p=(1.0,), eps=0.1)
    graph = directed(A)
    assert sorted(map(len, nx.strongly_connected_components(graph))) == [10, 10, 10, 12]
    assert nx.is_weakly_connected(graph)


def test_more_communities_than_nodes_are_refused() -> None:
    with pytest.raises(UserError, match="no more communities than the 3 nodes, given 4"):
        draw_communities(np.random.RandomState(0), 3)
