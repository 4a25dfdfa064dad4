"""Answers on graphs, right ones and wrong ones, beside networkx's own."""

import itertools
import math
from typing import Any

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from knowing import answer_of

from nar.errors import UserError

SIZES = st.one_of(st.integers(2, 12), st.integers(13, 200))
SEEDS = st.integers(0, 10**6)
few_graphs = settings(derandomize=True, deadline=None, max_examples=12)


def name_of(number: int) -> Any:
    """A name of one of several types."""
    return (number, str(number), (number, "b"), float(number) + 0.5, frozenset({number}))[number % 5]


def random_graph(num_nodes: int, seed: int, *, directed: bool, low: float = 1, acyclic: bool = False) -> Any:
    """A sparse graph with nodes of all kinds of names, not in order, and weights of which many are equal."""
    rng = np.random.RandomState(seed)
    graph = nx.gnp_random_graph(num_nodes, min(1, rng.uniform(0.5, 4) / num_nodes), seed, directed=directed or acyclic)
    if acyclic:
        graph.remove_edges_from([(u, v) for u, v in graph.edges if u >= v])
    for u, v in graph.edges:
        graph.edges[u, v]["cost"] = int(rng.randint(low, 6)) or 1
    order = rng.permutation(num_nodes).tolist()
    named = type(graph)()
    named.add_nodes_from(name_of(number) for number in order)
    named.add_edges_from((name_of(u), name_of(v), data) for u, v, data in graph.edges(data=True))
    return named


def length(graph: Any, path: list[Any], weight: str | None) -> float:
    """The length of a path in networkx."""
    return sum(graph.edges[edge][weight] if weight else 1 for edge in itertools.pairwise(path))


@pytest.mark.slow
@pytest.mark.parametrize("directed", [False, True])
@pytest.mark.parametrize("algorithm", ["bfs", "dijkstra", "bellman_ford", "dag_shortest_paths"])
@few_graphs
@given(size=SIZES, seed=SEEDS)
def test_shortest_paths_are_networkxs(algorithm: str, directed: bool, size: int, seed: int) -> None:
    is_dag = algorithm == "dag_shortest_paths" or (algorithm == "bellman_ford" and directed)
    low = -3 if is_dag else 1
    graph = random_graph(size, seed, directed=directed, low=low, acyclic=is_dag)
    source = list(graph)[seed % size]
    answer = answer_of(algorithm, graph, source=source, weight="cost")
    weight = None if algorithm == "bfs" else "cost"
    theirs = nx.single_source_bellman_ford_path_length(graph, source, weight=weight or (lambda *_: 1))
    assert answer.source == source
    assert answer.tree.keys() == theirs.keys() - {source}
    for node in graph:
        assert answer.distances[node] == theirs.get(node, math.inf)
        if node in theirs:
            path = answer.path(node)
            assert (path[0], path[-1]) == (source, node)
            assert length(graph, path, weight) == theirs[node]
    assert answer.check().same


@pytest.mark.slow
@settings(few_graphs, max_examples=6)
@given(size=SIZES, seed=SEEDS)
def test_paths_between_all_pairs_are_networkxs(size: int, seed: int) -> None:
    graph = random_graph(size, seed, directed=bool(seed % 2))
    answer = answer_of("floyd_warshall", graph, weight="cost")
    theirs = dict(nx.all_pairs_dijkstra_path_length(graph, weight="cost"))
    for u in list(graph)[:20]:
        for v in graph:
            assert answer.distances[u][v] == theirs[u].get(v, math.inf)
            if v in theirs[u]:
                path = answer.path(u, v)
                assert (path[0], path[-1], length(graph, path, "cost")) == (u, v, theirs[u][v])
    assert answer.problem() == ""
    assert answer.check().same


@few_graphs
@given(size=SIZES, seed=SEEDS)
def test_spanning_trees_weigh_what_networkxs_do(size: int, seed: int) -> None:
    graph = random_graph(size, seed, directed=False)
    forest = nx.minimum_spanning_tree(graph, weight="cost")
    kruskal = answer_of("mst_kruskal", graph, weight="cost")
    assert kruskal.weight == forest.size("cost")
    assert {frozenset(edge) for edge in kruskal.edges} <= {frozenset(edge) for edge in graph.edges}
    assert nx.is_forest(nx.Graph(kruskal.edges)) if kruskal.edges else forest.number_of_edges() == 0
    source = list(graph)[seed % size]
    prim = answer_of("mst_prim", graph, source=source, weight="cost")
    component = forest.subgraph(nx.node_connected_component(graph, source))
    assert prim.weight == component.size("cost")
    assert {source, *prim.tree} == set(component)
    assert kruskal.problem() == prim.problem() == ""


@pytest.mark.slow
@few_graphs
@given(size=SIZES, seed=SEEDS)
def test_orders_components_and_cuts_are_networkxs(size: int, seed: int) -> None:
    graph = random_graph(size, seed, directed=False)
    cut = answer_of("articulation_points", graph)
    assert cut.cut == set(nx.articulation_points(graph))
    bridges = answer_of("bridges", graph)
    assert {frozenset(edge) for edge in bridges.bridges} == {frozenset(edge) for edge in nx.bridges(graph)}
    assert len(bridges.outputs["is_bridge"]) == 2 * graph.number_of_edges() + size
    digraph = random_graph(size, seed, directed=True)
    components = answer_of("strongly_connected_components", digraph)
    assert {frozenset(c) for c in components.components} == {
        frozenset(c) for c in nx.strongly_connected_components(digraph)
    }
    dag = random_graph(size, seed, directed=True, acyclic=True)
    order = answer_of("topological_sort", dag)
    place = {node: number for number, node in enumerate(order.order)}
    assert place.keys() == set(dag)
    assert all(place[u] < place[v] for u, v in dag.edges)
    for answer in (cut, bridges, components, order):
        assert answer.problem() == ""


@pytest.mark.slow
@pytest.mark.parametrize("directed", [False, True])
@few_graphs
@given(size=SIZES, seed=SEEDS)
def test_any_depth_first_search_is_right_and_no_breadth_first_search(directed: bool, size: int, seed: int) -> None:
    graph = random_graph(size, seed, directed=directed)
    answer = answer_of("dfs", graph)
    assert answer.problem() == ""
    assert answer.tree.keys() | set(answer.roots) == set(graph)
    shuffled = list(graph)
    np.random.RandomState(seed).shuffle(place := np.arange(size))
    theirs = nx.Graph() if not directed else nx.DiGraph()
    theirs.add_nodes_from(shuffled[number] for number in place)
    theirs.add_edges_from(graph.edges)
    parents = {v: u for u, v in nx.dfs_edges(theirs)}  # of another order of nodes and neighbours
    index = {node: number for number, node in enumerate(graph)}
    other = [index[parents.get(node, node)] for node in graph]
    assert answer_of("dfs", graph, lambda outputs: outputs["pi"].__setitem__(slice(None), other)).check().right


def test_a_breadth_first_tree_is_no_depth_first_one() -> None:
    graph = nx.complete_graph(4)
    answer = answer_of("dfs", graph, lambda outputs: outputs["pi"].__setitem__(slice(None), 0))
    assert answer.check().why.startswith("the edge from ")
    directed = nx.DiGraph([(0, 1), (0, 2), (1, 2)])  # 1 and 2 are found from 0 if 2 comes first
    star = answer_of("dfs", directed, lambda outputs: outputs["pi"].__setitem__(slice(None), 0))
    assert star.check()
    assert not star.check().same


SQUARE = nx.relabel_nodes(nx.cycle_graph(4), dict(enumerate("abcd")))
nx.set_edge_attributes(SQUARE, 2.0, "weight")


def set_to(name: str, *values: Any) -> Any:
    """What changes an output: pairs of a place and a value."""

    def change(outputs: dict[str, Any]) -> None:
        for place, value in values:
            outputs[name][place] = value

    return change


@pytest.mark.parametrize(
    ("algorithm", "name", "place", "value"),
    [
        ("dijkstra", "pi", 2, 3),  # c may be reached by b and by d
        ("bellman_ford", "pi", 2, 3),
        ("bfs", "pi", 2, 3),
        ("floyd_warshall", "Pi", (0, 2), 3),
    ],
)
def test_a_right_tree_that_breaks_ties_differently_is_right(algorithm: str, name: str, place: Any, value: int) -> None:
    options = {} if algorithm == "floyd_warshall" else {"source": "a"}
    check = answer_of(algorithm, SQUARE, set_to(name, (place, value)), **options).check()
    assert check.right
    assert not check.same
    right, number = check.entries[name]
    assert right == number - 1
    assert check.classical.check().same


def test_any_minimum_spanning_tree_is_right() -> None:
    def other(outputs: dict[str, Any]) -> None:
        edges = outputs["in_mst"]
        edges[:] = [[0, 0, 0, 1], [0, 0, 1, 0], [0, 1, 0, 1], [1, 0, 1, 0]]

    check = answer_of("mst_kruskal", SQUARE, other).check()
    assert check.right
    assert check.classical.weight == 6
    chain = answer_of("mst_prim", SQUARE, lambda o: o["pi"].__setitem__(slice(None), [0, 2, 3, 0]), source="a")
    assert chain.check().right
    assert chain.tree == {"b": "c", "c": "d", "d": "a"}


WRONG: list[tuple[str, Any, dict[str, Any], Any, str]] = [
    (
        "dijkstra",
        SQUARE,
        {"source": "a"},
        set_to("pi", (2, 0)),
        "'a' is the predecessor of 'c', to which it has no edge",
    ),
    ("dijkstra", SQUARE, {"source": "a"}, set_to("pi", (0, 1)), "the source has a predecessor, 'b'"),
    (
        "dijkstra",
        SQUARE,
        {"source": "a"},
        set_to("pi", (2, 2)),
        "'c' is not reached, to which there is a path of length 4",
    ),
    (
        "dijkstra",
        SQUARE,
        {"source": "a"},
        set_to("pi", (1, 2), (2, 1)),
        "the predecessors of 'b' lead in a circle, 'b' → 'c' → 'b'",
    ),
    (
        "bfs",
        SQUARE,
        {"source": "a"},
        set_to("pi", (1, 2), (2, 3)),
        "the path to 'b' has a length of 3, and the shortest 1",
    ),
    (
        "bfs",
        nx.empty_graph(3),
        {"source": 0},
        set_to("pi", (1, 2)),
        "2 is the predecessor of 1, to which it has no edge",
    ),
    (
        "bfs",
        nx.Graph([(0, 1), (2, 3)]),
        {"source": 0},
        set_to("pi", (2, 3)),
        "2 has a predecessor, 3, and is not reached",
    ),
    ("mst_prim", SQUARE, {"source": "a"}, set_to("pi", (3, 3)), "'d' is not in the tree"),
    (
        "mst_kruskal",
        SQUARE,
        {},
        set_to("in_mst", (slice(None), SQUARE_ := nx.to_numpy_array(SQUARE) > 0)),
        "a circle of edges is taken, 'a' → 'b' → 'c' → 'd' → 'a'",
    ),
    ("mst_kruskal", SQUARE, {}, set_to("in_mst", (slice(None), 0)), "0 edges are taken, and a spanning forest has 3"),
    ("mst_kruskal", SQUARE, {}, set_to("in_mst", ((0, 2), 1), ((2, 0), 1)), "there is no edge from 'a' to 'c'"),
    (
        "floyd_warshall",
        SQUARE,
        {},
        set_to("Pi", ((0, 1), 2), ((0, 2), 3)),
        "the path from 'a' to 'b' has a length of 6, and the shortest 2",
    ),
    (
        "floyd_warshall",
        nx.Graph([(0, 1), (2, 3)]),
        {"weight": None},
        set_to("Pi", ((0, 2), 3)),
        "from 0: 2 has a predecessor and is not reached",
    ),
    (
        "topological_sort",
        nx.DiGraph([(0, 1), (1, 2)]),
        {},
        lambda o: (o["topo"].__setitem__(slice(None), [1, 1, 0]), o["topo_head"].__setitem__((), 2)),
        "2 comes before 1, from which there is an edge to it",
    ),
    (
        "topological_sort",
        nx.DiGraph([(0, 1), (1, 2)]),
        {},
        set_to("topo", (2, 0)),
        "the order leads in a circle, 0 → 1 → 2 → 0",
    ),
    ("topological_sort", nx.DiGraph([(0, 1), (1, 2)]), {}, set_to("topo", (0, 0)), "1 is not in the order"),
    (
        "strongly_connected_components",
        nx.DiGraph([(0, 1), (1, 0), (1, 2), (2, 3)]),
        {},
        set_to("scc_id", (2, 3)),
        "3 and 2 are in different components",
    ),
    (
        "strongly_connected_components",
        nx.DiGraph([(0, 1), (1, 0), (1, 2), (2, 3)]),
        {},
        set_to("scc_id", (0, 0), (1, 1)),
        "1 and 0 are in the same component",
    ),
    ("articulation_points", nx.path_graph(3), {}, set_to("is_cut", (0, 1)), "0 is no articulation point"),
    ("articulation_points", nx.path_graph(3), {}, set_to("is_cut", (1, 0)), "1 is an articulation point"),
    ("bridges", nx.path_graph(3), {}, set_to("is_bridge", ((0, 1), 0)), "the edge between 0 and 1 is a bridge"),
    ("bridges", SQUARE, {}, set_to("is_bridge", ((0, 1), 1), ((1, 0), 1)), "the edge between 'a' and 'b' is no bridge"),
    ("dfs", SQUARE, {}, set_to("pi", (2, 0)), "'a' is the predecessor of 'c', to which it has no edge"),
]


@pytest.mark.parametrize(("algorithm", "graph", "options", "change", "why"), WRONG)
def test_a_wrong_answer_is_wrong_for_a_reason(algorithm: str, graph: Any, options: Any, change: Any, why: str) -> None:
    check = answer_of(algorithm, graph, change, **options).check()
    assert not check
    assert not check.same
    assert check.why == why
    assert str(check).startswith(f"wrong: {why} (")


def test_labels_of_components_do_not_matter() -> None:
    graph = nx.DiGraph([(0, 1), (1, 0), (1, 2)])
    check = answer_of("strongly_connected_components", graph, set_to("scc_id", (0, 1), (1, 1))).check()
    assert check.right


def test_there_is_no_path_where_pointers_lead_to_none() -> None:
    graph = nx.Graph([("a", "b"), ("c", "d")])
    answer = answer_of("dijkstra", graph, source="a", weight=None)
    assert answer.path("a") == ["a"]
    assert answer.distances == {"a": 0, "b": 1, "c": math.inf, "d": math.inf}
    with pytest.raises(UserError, match="no path from 'a' to 'c': 'c' is not reached"):
        answer.path("c")
    with pytest.raises(UserError, match="expected the node to be one of the 4 nodes, given 'e'"):
        answer.path("e")
    circle = answer_of("dijkstra", SQUARE, set_to("pi", (1, 2), (2, 1)), source="a")
    assert math.isnan(circle.distances["b"])
    with pytest.raises(UserError, match="the predecessors of 'b' lead in a circle"):
        circle.path("b")
    pairs = answer_of("floyd_warshall", graph, weight=None)
    with pytest.raises(UserError, match="no path from 'a' to 'c'"):
        pairs.path("a", "c")
    assert pairs.path("a", "a") == ["a"]
    broken = answer_of("floyd_warshall", SQUARE, set_to("Pi", ((0, 1), 2), ((0, 2), 1)))
    with pytest.raises(UserError, match="the predecessors of 'b' lead in a circle"):
        broken.path("a", "b")
    assert broken.check().why.startswith("from 'a': the predecessors of 'b' lead in a circle")


def test_les_miserables_are_reached_as_networkx_says() -> None:
    graph = nx.les_miserables_graph()
    answer = answer_of("dijkstra", graph, source="Valjean")
    assert answer.path("Myriel") == nx.dijkstra_path(graph, "Valjean", "Myriel")
    assert answer.distances == nx.single_source_dijkstra_path_length(graph, "Valjean")
    assert answer.scale == 32
    assert answer.check()
