"""Families of graphs: what defines each of them, and the graph algorithms on them, beside networkx."""

import time
from collections.abc import Mapping
from inspect import signature
from typing import Any

import networkx as nx
import numpy as np
import pytest
from scipy.spatial import ConvexHull

from nar.batch import Feedback, NumpyArray
from nar.datasets.clrs30.families import GRAPH_FAMILIES, draw_edges, draw_family, on_family, sparse_density
from nar.datasets.clrs30.graphs import GRAPHS
from nar.datasets.clrs30.samplers import CLRS_30
from nar.datasets.clrs30.specs import SPECS
from nar.datasets.engine.algorithm import trajectories
from nar.errors import UserError
from nar.specs import Stage, at_stage

DIRECTED = ("dfs", "strongly_connected_components")
UNWEIGHTED = ("articulation_points", "bfs", "bridges", "dfs", "topological_sort")  # their matrices are of integers
ACYCLIC = ("dag_shortest_paths", "topological_sort")
WEIGHTED = ("bellman_ford", "dag_shortest_paths", "dijkstra", "floyd_warshall", "mst_kruskal", "mst_prim")
CONNECTED = ("barabasi_albert", "delaunay", "grid", "tree", "path")

every_family = pytest.mark.parametrize("family", GRAPH_FAMILIES)
every_algorithm = pytest.mark.parametrize("algorithm", GRAPHS)


def drawn(family: str, num_nodes: int, seed: int = 0, **parameters: Any) -> Any:
    """A graph of the family, for networkx."""
    return nx.from_numpy_array(draw_family(family, np.random.RandomState(seed), num_nodes, **parameters))


def degrees(graph: Any) -> list[int]:
    """How many edges the nodes have, from few to many."""
    return sorted(degree for _, degree in graph.degree)


def run(algorithm: str, family: str, num_nodes: int, num_samples: int = 1, **args: Any) -> Feedback[NumpyArray]:
    """Trajectories of the algorithm on graphs of the family."""
    return trajectories(
        on_family(CLRS_30[algorithm], family),
        num_nodes=num_nodes,
        num_samples=num_samples,
        rng=np.random.RandomState(0),
        hints="none",
        **args,
    )


def first(probes: Mapping[str, NumpyArray]) -> dict[str, Any]:
    """The first trajectory's probes."""
    return {name: values[0] for name, values in probes.items()}


def given_and_found(algorithm: str, family: str, num_nodes: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """The inputs and the outputs of a trajectory."""
    feedback = run(algorithm, family, num_nodes)
    return first(feedback.features.inputs), first(feedback.outputs)


@every_family
@pytest.mark.parametrize("num_nodes", [5, 16, 100])
def test_matrices_are_symmetric_zeros_and_ones_without_loops(family: str, num_nodes: int) -> None:
    for seed in range(5):
        A = draw_family(family, np.random.RandomState(seed), num_nodes)
        assert (A.shape, A.dtype) == ((num_nodes, num_nodes), np.int64)
        assert {*np.unique(A)} <= {0, 1}
        assert np.array_equal(A, A.T)
        assert not A.diagonal().any()


@every_family
def test_every_edge_is_listed_once(family: str) -> None:
    edges = draw_edges(family, np.random.RandomState(0), 60)
    assert len({frozenset(edge) for edge in edges.tolist()}) == len(edges) == drawn(family, 60).size()


@every_family
def test_the_seed_determines_the_graph(family: str) -> None:
    first, again, other = (draw_family(family, np.random.RandomState(seed), 40) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@every_family
def test_one_graph_after_another_is_drawn_from_the_same_stream(family: str) -> None:
    rng = np.random.RandomState(0)
    assert not np.array_equal(draw_family(family, rng, 40), draw_family(family, rng, 40))


@pytest.mark.parametrize("family", CONNECTED)
@pytest.mark.parametrize("num_nodes", [3, 4, 7, 60])
def test_some_families_are_always_connected(family: str, num_nodes: int) -> None:
    assert all(nx.is_connected(drawn(family, num_nodes, seed)) for seed in range(10))


@every_family
def test_positions_tell_nothing_of_the_graph(family: str) -> None:
    """An edge is as likely between two positions as between any other two."""
    num_nodes, num_graphs = 8, 400
    rng = np.random.RandomState(0)
    A = sum(draw_family(family, rng, num_nodes) for _ in range(num_graphs))
    frequencies = A[np.triu_indices(num_nodes, 1)] / num_graphs
    expected = frequencies.mean()
    deviation = np.sqrt(expected * (1 - expected) / num_graphs)
    assert abs(frequencies - expected).max() < 4.5 * deviation


@every_family
def test_a_large_graph_is_drawn_in_well_under_a_second(family: str) -> None:
    start = time.perf_counter()
    draw_family(family, np.random.RandomState(0), 1024)
    assert time.perf_counter() - start < 0.5


def test_erdos_renyi_graphs_have_the_density() -> None:
    graph = drawn("erdos_renyi", 200, p=0.3)
    assert nx.density(graph) == pytest.approx(0.3, abs=0.02)
    assert nx.transitivity(graph) == pytest.approx(0.3, abs=0.02)
    assert drawn("erdos_renyi", 20, p=0.0).size() == 0
    assert drawn("erdos_renyi", 20, p=1.0).size() == 190


def test_erdos_renyi_graphs_are_just_above_the_threshold_of_connectedness_by_default() -> None:
    degree = [drawn("erdos_renyi", 300, seed).size() * 2 / 299 / np.log(300) for seed in range(20)]
    assert 0.9 < min(degree) < 1.4
    assert 2.6 < max(degree) < 3.1


@pytest.mark.parametrize(("num_nodes", "size"), [(2, 16), (16, 16), (1600, 1600)])
def test_sparse_densities_go_from_one_to_three_times_the_threshold(num_nodes: int, size: int) -> None:
    rng = np.random.RandomState(0)
    multiples = [sparse_density(rng, num_nodes) * size / np.log(size) for _ in range(500)]
    assert min(multiples) == pytest.approx(1, abs=0.05)
    assert max(multiples) == pytest.approx(3, abs=0.05)


@pytest.mark.parametrize("k", [2, 4, 10])
def test_watts_strogatz_graphs_are_rings_of_which_some_edges_were_moved(k: int) -> None:
    ring = drawn("watts_strogatz", 100, k=k, rewiring=0.0)
    assert nx.is_isomorphic(ring, nx.circulant_graph(100, range(1, k // 2 + 1)))
    for rewiring in (0.1, 1.0):
        graph = drawn("watts_strogatz", 100, k=k, rewiring=rewiring)
        assert graph.size() == 50 * k
        assert degrees(graph)[0] >= k // 2
        assert degrees(graph)[-1] > k


def test_more_rewiring_makes_watts_strogatz_graphs_less_clustered() -> None:
    clustering = [nx.average_clustering(drawn("watts_strogatz", 300, k=6, rewiring=p)) for p in (0.0, 0.1, 1.0)]
    assert clustering[0] == pytest.approx(0.6)
    assert 0.3 < clustering[1] < 0.55
    assert clustering[2] < 0.1


@pytest.mark.parametrize("m", [1, 2, 5])
def test_barabasi_albert_graphs_have_m_edges_per_node_and_a_few_hubs(m: int) -> None:
    graph = drawn("barabasi_albert", 500, m=m)
    assert graph.size() == (500 - m) * m
    assert degrees(graph)[0] >= 1
    assert degrees(graph)[250] <= 2 * m
    assert degrees(graph)[-1] > 10 * m


def test_random_geometric_graphs_join_near_points() -> None:
    graph = drawn("random_geometric", 500)
    assert 0.5 < nx.transitivity(graph) < 0.75  # 0.59 in the plane, against 0.02 of independent edges
    assert graph.size() * 2 / 500 == pytest.approx(2 * np.log(500), rel=0.2)


def test_the_radius_bounds_the_distance_of_joined_points() -> None:
    assert drawn("random_geometric", 30, radius=1.42).size() == 30 * 29 / 2
    assert drawn("random_geometric", 30, radius=1e-6).size() == 0
    r = 0.1
    expected = np.pi * r**2 - 8 / 3 * r**3 + r**4 / 2  # the probability that two points of the square are so near
    assert nx.density(drawn("random_geometric", 1000, radius=r)) == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("num_nodes", [3, 4, 5, 16, 300])
def test_delaunay_graphs_are_planar_and_bounded_by_the_hull_of_their_points(num_nodes: int) -> None:
    graph = drawn("delaunay", num_nodes)
    hull = ConvexHull(np.random.RandomState(0).random_sample((num_nodes, 2))).vertices
    assert graph.size() == 3 * num_nodes - 3 - len(hull)
    assert nx.check_planarity(graph)[0]
    assert degrees(graph)[0] >= 2


@pytest.mark.parametrize(("num_nodes", "rows", "columns"), [(1, 1, 1), (2, 1, 2), (9, 3, 3), (12, 3, 4), (400, 20, 20)])
def test_grids_of_full_rows_are_those_of_networkx(num_nodes: int, rows: int, columns: int) -> None:
    assert nx.is_isomorphic(drawn("grid", num_nodes), nx.grid_2d_graph(rows, columns))


@pytest.mark.parametrize(("num_nodes", "rows", "columns"), [(3, 2, 2), (5, 2, 3), (7, 3, 3), (13, 4, 4), (90, 9, 10)])
def test_a_grid_lacks_the_last_nodes_of_its_last_row(num_nodes: int, rows: int, columns: int) -> None:
    expected = nx.grid_2d_graph(rows, columns)
    expected.remove_nodes_from([*expected][num_nodes:])
    assert nx.is_isomorphic(drawn("grid", num_nodes), expected)


def test_trees_are_trees_of_all_shapes() -> None:
    assert all(nx.is_tree(drawn("tree", num_nodes, seed)) for num_nodes in (1, 2, 3, 50) for seed in range(10))
    stars = sum(degrees(drawn("tree", 4, seed))[-1] == 3 for seed in range(400))
    assert stars / 400 == pytest.approx(4 / 16, abs=0.08)


def test_paths_are_paths() -> None:
    assert all(nx.is_isomorphic(drawn("path", num_nodes), nx.path_graph(num_nodes)) for num_nodes in (1, 2, 3, 50))


def test_communities_are_groups_of_nodes_with_more_edges_inside_than_between() -> None:
    apart = drawn("community", 42, communities=4, inside=1.0, between=0.0)
    cliques = sorted(nx.connected_components(apart), key=len)
    assert [len(nodes) for nodes in cliques] == [10, 10, 11, 11]
    assert apart.size() == 2 * 45 + 2 * 55
    assert drawn("community", 42, communities=4, inside=0.0, between=1.0).size() == 42 * 41 / 2 - apart.size()
    dense = drawn("community", 400, communities=2, inside=0.4, between=0.1)
    assert nx.density(dense) == pytest.approx((0.4 * 199 + 0.1 * 200) / 399, abs=0.01)


@pytest.mark.slow
@every_algorithm
@every_family
def test_every_graph_algorithm_runs_on_every_family(algorithm: str, family: str) -> None:
    feedback = run(algorithm, family, 16, num_samples=2)
    inputs, outputs = feedback.features.inputs, feedback.outputs
    assert [*inputs] == [*at_stage(SPECS[algorithm], Stage.INPUT)]
    assert [*outputs] == [*at_stage(SPECS[algorithm], Stage.OUTPUT)]
    assert inputs["A"].shape == (2, 16, 16)
    for A in inputs["A"]:
        graph = nx.from_numpy_array(A, create_using=nx.DiGraph)
        assert not A.diagonal().any()
        assert A.dtype == (np.int64 if algorithm in UNWEIGHTED else np.float64)
        assert np.array_equal(A, A.T) == (algorithm not in DIRECTED + ACYCLIC)
        assert algorithm not in ACYCLIC or nx.is_directed_acyclic_graph(graph)


@pytest.mark.parametrize("algorithm", ["dfs", "strongly_connected_components"])
def test_edges_of_digraphs_go_one_way_the_other_or_both(algorithm: str) -> None:
    inputs, _ = given_and_found(algorithm, "grid", 900)
    A = inputs["A"] != 0
    edges = np.triu(A | A.T).sum()
    assert edges == nx.grid_2d_graph(30, 30).size()
    for part in (np.triu(A & ~A.T), np.tril(A & ~A.T), np.triu(A & A.T)):
        assert part.sum() / edges == pytest.approx(1 / 3, abs=0.05)


def test_edges_of_acyclic_graphs_go_along_a_random_order() -> None:
    inputs, _ = given_and_found("topological_sort", "grid", 900)
    A = inputs["A"]
    assert (A | A.T).sum() / 2 == A.sum() == nx.grid_2d_graph(30, 30).size()
    assert np.triu(A).sum() / A.sum() == pytest.approx(0.5, abs=0.06)
    length = nx.dag_longest_path_length(nx.from_numpy_array(A, create_using=nx.DiGraph))
    assert 4 < length < 20  # along the grid it would be 58


@pytest.mark.parametrize("algorithm", WEIGHTED)
def test_weights_are_from_the_range(algorithm: str) -> None:
    feedback = run(algorithm, "barabasi_albert", 100, m=20, low=2.0, high=3.0)
    A = feedback.features.inputs["A"]
    assert (A[A != 0].min(), A.max()) == (pytest.approx(2, abs=0.1), pytest.approx(3, abs=0.1))
    A = run(algorithm, "barabasi_albert", 100, m=20).features.inputs["A"]
    assert (A[A != 0].min(), A.max()) == (pytest.approx(0, abs=0.1), pytest.approx(1, abs=0.1))


@pytest.mark.parametrize("family", ["watts_strogatz", "delaunay", "tree", "community"])
def test_outputs_are_those_of_networkx(family: str) -> None:
    inputs, outputs = given_and_found("bfs", family, 200)
    graph = nx.from_numpy_array(inputs["A"])
    depth = nx.single_source_shortest_path_length(graph, inputs["s"])
    joined = [(node, pi) for node, pi in enumerate(outputs["pi"].tolist()) if node != pi]
    assert {node for node, _ in joined} == depth.keys() - {inputs["s"]}
    assert all(graph.has_edge(node, pi) and depth[node] == depth[pi] + 1 for node, pi in joined)

    inputs, outputs = given_and_found("articulation_points", family, 200)
    assert set(np.flatnonzero(outputs["is_cut"])) == set(nx.articulation_points(nx.from_numpy_array(inputs["A"])))

    inputs, outputs = given_and_found("mst_kruskal", family, 200)
    expected = nx.minimum_spanning_tree(nx.from_numpy_array(inputs["A"])).size("weight")
    assert (inputs["A"] * outputs["in_mst"]).sum() / 2 == pytest.approx(expected)

    inputs, outputs = given_and_found("strongly_connected_components", family, 200)
    graph = nx.from_numpy_array(inputs["A"], create_using=nx.DiGraph)
    found = {frozenset(np.flatnonzero(outputs["scc_id"] == node)) for node in outputs["scc_id"]}
    assert found == set(map(frozenset, nx.strongly_connected_components(graph)))


@every_family
@pytest.mark.parametrize("algorithm", ["bfs", "dijkstra"])
def test_the_signature_of_a_draw_has_the_familys_parameters(algorithm: str, family: str) -> None:
    names = [*signature(on_family(CLRS_30[algorithm], family).draw).parameters]
    parameters = [*signature(GRAPH_FAMILIES[family]).parameters][2:]
    assert names == ["rng", "num_nodes", *parameters, *(["low", "high"] if algorithm == "dijkstra" else [])]


def test_parameters_reach_the_graph() -> None:
    A = run("bfs", "watts_strogatz", 30, k=8, rewiring=0.0).features.inputs["A"]
    assert np.array_equal(A.sum(axis=-1), np.full((1, 30), 8))


@pytest.mark.parametrize("algorithm", ["bfs", "dijkstra", "dag_shortest_paths"])
def test_every_node_can_be_the_source(algorithm: str) -> None:
    rng = np.random.RandomState(0)
    draw = on_family(CLRS_30[algorithm], "path").draw
    assert {draw(rng, 4)[1] for _ in range(50)} == set(range(4))


@pytest.mark.parametrize(
    ("family", "num_nodes", "parameters", "message"),
    [
        ("small_world", 9, {}, "unknown family of graphs 'small_world'; known are erdos_renyi, watts_strogatz, "),
        ("path", 0, {}, "path needs at least 1 nodes, given 0"),
        ("path", 9, {"k": 4}, "graphs of path have no k; it has no parameters"),
        (
            "watts_strogatz",
            9,
            {"m": 4, "p": 1},
            "graphs of watts_strogatz have no m, p; its parameters are k, rewiring",
        ),
        ("watts_strogatz", 4, {}, "watts_strogatz with k = 4 needs at least 5 nodes, given 4"),
        ("watts_strogatz", 9, {"k": 3}, "expected an even k, given 3"),
        ("watts_strogatz", 9, {"k": 0}, "expected k to be a whole number of at least 2, given 0"),
        ("watts_strogatz", 9, {"k": 2.0}, r"expected k to be a whole number of at least 2, given 2\.0"),
        ("watts_strogatz", 9, {"rewiring": 1.1}, r"expected rewiring in \[0, 1\], given 1\.1"),
        ("erdos_renyi", 9, {"p": -0.1}, r"expected p in \[0, 1\], given -0\.1"),
        ("erdos_renyi", 9, {"p": np.nan}, r"expected p in \[0, 1\], given nan"),
        ("barabasi_albert", 2, {}, "barabasi_albert with m = 2 needs at least 3 nodes, given 2"),
        ("barabasi_albert", 9, {"m": 0}, "expected m to be a whole number of at least 1, given 0"),
        ("random_geometric", 9, {"radius": 0.0}, r"expected a radius above 0, given 0\.0"),
        ("random_geometric", 9, {"radius": "a"}, "expected a radius above 0, given 'a'"),
        ("random_geometric", 9, {"radius": np.inf}, "expected a radius above 0, given inf"),
        ("delaunay", 2, {}, "delaunay needs at least 3 nodes, given 2"),
        ("community", 3, {}, "community with 4 communities needs at least 4 nodes, given 3"),
        ("community", 9, {"communities": 0}, "expected communities to be a whole number of at least 1, given 0"),
        ("community", 9, {"inside": 2}, r"expected inside in \[0, 1\], given 2"),
        ("community", 9, {"between": 2}, r"expected between in \[0, 1\], given 2"),
    ],
)
def test_what_cannot_be_drawn_is_refused_in_one_line(
    family: str, num_nodes: int, parameters: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=f"^{message}") as error:
        draw_family(family, np.random.RandomState(0), num_nodes, **parameters)
    assert "\n" not in str(error.value)


@every_family
def test_the_smallest_sizes_are_drawn(family: str) -> None:
    parameters = {"watts_strogatz": {"k": 2}, "barabasi_albert": {"m": 1}, "community": {"communities": 1}}
    smallest = {"watts_strogatz": 3, "delaunay": 3, "barabasi_albert": 2}.get(family, 1)
    assert len(drawn(family, smallest, **parameters.get(family, {}))) == smallest


def test_an_unknown_family_and_other_algorithms_are_refused_before_anything_is_drawn() -> None:
    with pytest.raises(UserError, match="unknown family of graphs 'small_world'"):
        on_family(CLRS_30["bfs"], "small_world")
    with pytest.raises(UserError, match="minimum is not given a graph; those that are: articulation_points, "):
        on_family(CLRS_30["minimum"], "path")


def test_the_algorithm_itself_still_draws_what_it_drew() -> None:
    before = CLRS_30["bfs"].draw(np.random.RandomState(0), 9)
    on_family(CLRS_30["bfs"], "path")
    after = CLRS_30["bfs"].draw(np.random.RandomState(0), 9)
    assert np.array_equal(before[0], after[0])


def test_weights_are_refused_where_there_are_none() -> None:
    with pytest.raises(UserError, match="graphs of path have no low"):
        run("bfs", "path", 4, low=0.5)
