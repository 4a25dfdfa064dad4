"""The graph algorithms, beside networkx and, on odd inputs, beside dm-clrs."""

from copy import deepcopy
from inspect import signature
from typing import Any

import networkx as nx
import numpy as np
import pytest
from engine import assert_equals_dm_clrs, by_hand
from networks import (
    ACYCLIC,
    DIRECTED,
    FROM_A_SOURCE,
    UNWEIGHTED,
    check_articulation_points,
    check_bfs,
    check_bridges,
    check_dag_shortest_paths,
    check_dfs,
    check_floyd_warshall,
    check_mst_kruskal,
    check_mst_prim,
    check_shortest_paths_from_a_source,
    check_strongly_connected_components,
    check_topological_sort,
    directed,
    given,
)

from nar.datasets.clrs30.graphs import GRAPHS, draw_communities
from nar.datasets.engine.algorithm import truncated
from nar.errors import UserError

every_algorithm = pytest.mark.parametrize("name", GRAPHS)
every_size = pytest.mark.parametrize("num_nodes", [4, 5, 16, 100, 512])


def drawn(name: str, num_nodes: int, **args: Any) -> Any:
    """What the algorithm is given at random."""
    return GRAPHS[name].draw(np.random.RandomState(num_nodes), num_nodes, **args)


@every_size
@pytest.mark.parametrize("p", [0.5, 0.1])
def test_breadth_first_search_finds_shortest_paths(num_nodes: int, p: float) -> None:
    check_bfs(*drawn("bfs", num_nodes, p=(p,)))


@every_size
@pytest.mark.parametrize("p", [0.5, 0.01])
def test_depth_first_search_finds_the_forest_of_networkx(num_nodes: int, p: float) -> None:
    check_dfs(*drawn("dfs", num_nodes, p=(p,)))


@every_size
@pytest.mark.parametrize("p", [0.5, 0.01])
def test_no_edge_goes_back_in_topological_order(num_nodes: int, p: float) -> None:
    check_topological_sort(*drawn("topological_sort", num_nodes, p=(p,)))


@every_size
@pytest.mark.parametrize("args", [{}, {"k": 1, "p": (0.1,)}, {"p": (0.02,), "eps": 0.02}])
def test_strongly_connected_components_are_those_of_networkx(num_nodes: int, args: dict[str, Any]) -> None:
    check_strongly_connected_components(*drawn("strongly_connected_components", num_nodes, **args))


@every_size
@pytest.mark.parametrize("p", [0.2, 0.05])
def test_cut_nodes_are_those_of_networkx(num_nodes: int, p: float) -> None:
    check_articulation_points(*drawn("articulation_points", num_nodes, p=(p,)))


@every_size
@pytest.mark.parametrize("p", [0.2, 0.05])
def test_bridges_are_those_of_networkx_and_only_edges_and_loops_are_scored(num_nodes: int, p: float) -> None:
    check_bridges(*drawn("bridges", num_nodes, p=(p,)))


@every_size
@pytest.mark.parametrize("p", [0.5, 0.1])
@pytest.mark.parametrize("name", ["bellman_ford", "dijkstra"])
def test_shortest_paths_are_as_short_as_networkxs(name: str, num_nodes: int, p: float) -> None:
    check_shortest_paths_from_a_source(name, *drawn(name, num_nodes, p=(p,)))


@every_size
@pytest.mark.parametrize("args", [{}, {"p": (0.05,)}, {"low": -1.0}])
def test_shortest_paths_through_a_dag_are_as_short_as_networkxs(num_nodes: int, args: dict[str, Any]) -> None:
    check_dag_shortest_paths(*drawn("dag_shortest_paths", num_nodes, **args))


@pytest.mark.slow
@pytest.mark.parametrize(("num_nodes", "p"), [(4, 0.5), (16, 0.5), (100, 0.5), (100, 0.1), (512, 0.08)])
def test_shortest_paths_between_all_pairs_are_as_short_as_networkxs(num_nodes: int, p: float) -> None:
    check_floyd_warshall(*drawn("floyd_warshall", num_nodes, p=(p,)))


@every_size
@pytest.mark.parametrize("p", [0.2, 0.05])
def test_kruskals_trees_span_the_graph_and_weigh_as_much_as_networkxs(num_nodes: int, p: float) -> None:
    check_mst_kruskal(*drawn("mst_kruskal", num_nodes, p=(p,)))


@every_size
@pytest.mark.parametrize("p", [0.5, 0.1])
def test_prims_tree_spans_the_component_and_weighs_as_much_as_networkxs(num_nodes: int, p: float) -> None:
    check_mst_prim(*drawn("mst_prim", num_nodes, p=(p,)))


@pytest.mark.slow
@every_algorithm
def test_equal_weights_equal_dm_clrs(clrs: Any, name: str) -> None:
    """Which of equally near nodes or equally heavy edges comes first is up to NumPy's sort, which is not stable."""
    rng = np.random.RandomState(0)
    for num_nodes in (2, 3, 5, 9, 16, 25, 40):
        A = rng.binomial(1, 0.4, (num_nodes, num_nodes))
        if name not in UNWEIGHTED:
            A = A * rng.randint(1, 4, A.shape)
        assert_equals_dm_clrs(clrs, name, *given(name, A, rng.randint(num_nodes)))


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
