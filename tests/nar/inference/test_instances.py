"""What a user gives, in whatever form, and what is refused by name."""

from contextlib import suppress
from typing import Any

import networkx as nx
import numpy as np
import pytest
import scipy.sparse
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from knowing import answer_of, instances_of
from torch_geometric.data import Data
from torch_geometric.utils import from_networkx

from nar.datasets import ALGORITHMS
from nar.datasets.clrs30.recipe import recipe_spec
from nar.datasets.clrs30.samplers import CLRS_30
from nar.errors import UserError
from nar.inference.drawn import own_form
from nar.inference.instances import Options, are_several, power_of_two_from
from nar.processors import MPNN
from nar.training.reasoner import Reasoner

every_algorithm = pytest.mark.parametrize("algorithm", ALGORITHMS)
INFINITE, NAN = float("inf"), float("nan")


def weighted_graph() -> Any:
    """A graph of four nodes with weights that are called length."""
    graph = nx.Graph()
    graph.add_weighted_edges_from([("a", "b", 2.0), ("b", "c", 0.5), ("a", "c", 4.0)], weight="length")
    graph.add_node("d")
    return graph


@every_algorithm
def test_what_a_sampler_draws_stays_as_it_is(algorithm: str) -> None:
    drawn = CLRS_30[algorithm].draw(np.random.RandomState(0), 9)
    data, options = own_form(algorithm, drawn)
    (instance,) = instances_of(algorithm, data, **options)
    assert instance.scale == 1
    assert instance.notes == ()
    assert instance.num_nodes == (4 if algorithm == "segments_intersect" else 9)
    for ours, theirs in zip(instance.given, drawn, strict=True):
        np.testing.assert_array_equal(ours, theirs)


FORMS: dict[str, Any] = {
    "networkx": weighted_graph(),
    "digraph": nx.DiGraph(weighted_graph()),
    "multigraph": nx.MultiGraph(weighted_graph()),
    "matrix": nx.to_numpy_array(weighted_graph(), weight="length"),
    "lists": nx.to_numpy_array(weighted_graph(), weight="length").tolist(),
    "tensor": torch.tensor(nx.to_numpy_array(weighted_graph(), weight="length"), requires_grad=True),
    "coordinates": scipy.sparse.coo_array(nx.to_numpy_array(weighted_graph(), weight="length")),
    "rows": scipy.sparse.csr_matrix(nx.to_numpy_array(weighted_graph(), weight="length")),
    "data": from_networkx(weighted_graph()),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_graph_is_the_same_in_every_form(form: str) -> None:
    has_names = form in ("networkx", "digraph", "multigraph")
    names = None if has_names else list("abcd")
    answer = answer_of("dijkstra", FORMS[form], source="a", weight="length", names=names)
    assert answer.names == tuple("abcd")
    assert answer.distances == {"a": 0, "b": 2, "c": 2.5, "d": INFINITE}
    assert answer.path("c") == ["a", "b", "c"]
    assert answer.scale == 4
    unnamed = answer_of("bfs", FORMS[form], source="a" if has_names else 0)
    assert list(unnamed.distances.values()) == [0, 1, 1, INFINITE]


def test_the_weights_of_pyg_are_found_where_they_usually_are() -> None:
    edges = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])
    for name, value in {"edge_weight": torch.ones(4), "edge_attr": torch.ones(4, 1), "weight": torch.ones(4)}.items():
        answer = answer_of("mst_prim", Data(edge_index=edges, num_nodes=3, **{name: value}), source=0)
        assert answer.weight == 2
    with pytest.raises(UserError, match="the edges have no weight or edge_weight or edge_attr: name the attribute"):
        answer_of("mst_prim", Data(edge_index=edges, num_nodes=3), source=0)


def test_a_data_frame_has_the_names_of_its_columns() -> None:
    class Frame:
        columns = ("u", "v")

        def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
            return np.array([[0, 1], [1, 0]])

    assert answer_of("bfs", Frame(), source="v").distances == {"u": 1, "v": 0}


def test_all_edges_weigh_one_if_no_weight_is_named() -> None:
    assert answer_of("dijkstra", weighted_graph(), source="a", weight=None).distances["c"] == 1


def test_loops_and_nodes_of_no_edge_change_nothing() -> None:
    graph = weighted_graph()
    graph.add_edge("a", "a", length=9.0)
    answer = answer_of("dijkstra", graph, source="d", weight="length")
    assert answer.tree == {}
    assert answer_of("mst_kruskal", graph, weight="length").weight == 2.5


def test_what_is_unlike_training_is_noted() -> None:
    graph = nx.DiGraph()
    graph.add_weighted_edges_from([("a", "b", -2.0)])
    answer = answer_of("bellman_ford", graph, source="a")
    assert answer.notes == (
        "The graph is directed; models of bellman_ford are trained on undirected ones.",
        "Some weights are negative; models of bellman_ford are trained on weights from 0 to 1.",
    )
    assert answer.scale == 2
    assert answer_of("bfs", weighted_graph(), source="a").notes == ()


@pytest.mark.slow
@settings(derandomize=True, deadline=None)
@given(st.floats(1e-300, 1e300))
def test_what_divides_is_the_next_power_of_two(number: float) -> None:
    scale = power_of_two_from(number)
    assert scale / 2 < number <= scale
    assert np.log2(scale) == round(np.log2(scale))


@pytest.mark.parametrize(
    ("algorithm", "data", "options", "scale", "shift"),
    [
        ("insertion_sort", [3, 7, 5], {}, 4, 3),
        ("insertion_sort", [5, 5, 5], {}, 1, 5),
        ("find_maximum_subarray_kadane", [3, -7, 5], {}, 8, 0),
        ("binary_search", [3, 5, 7], {"target": -1}, 8, -1),
        ("activity_selector", [(10, 12), (11, 18)], {}, 8, 10),
        ("task_scheduling", [(1, 10), (3, 18)], {}, 8, 10),
        ("matrix_chain_order", [3, 5, 7], {}, 8, 0),
        ("optimal_bst", ([3, 2], [1, 1, 1]), {}, 8, 0),
        ("graham_scan", [(0, 0), (10, 0), (1, 10)], {}, 4, (5, 5)),
        ("segments_intersect", [(0, 0), (10, 10), (0, 10), (10, 0)], {}, 16, (0, 0)),
    ],
)
def test_numbers_come_into_the_range_that_models_are_trained_on(
    algorithm: str, data: Any, options: dict[str, Any], scale: float, shift: Any
) -> None:
    (instance,) = instances_of(algorithm, data, **options)
    assert (instance.scale, instance.shift) == (scale, shift)
    values = instance.given[-1] if algorithm == "task_scheduling" else np.hstack([np.ravel(x) for x in instance.given])
    lowest, highest = {"graham_scan": (-2, 2), "find_maximum_subarray_kadane": (-1, 1)}.get(algorithm, (0, 1))
    assert values.min() >= lowest
    assert values.max() <= highest
    assert answer_of(algorithm, data, **options).check()


def test_deadlines_later_than_all_tasks_take_are_those() -> None:
    (instance,) = instances_of("task_scheduling", [(90, 0.5), (2, 0.25)])
    assert instance.given[0].tolist() == [2, 2]
    assert instance.own["deadlines"].tolist() == [90, 2]


def test_letters_of_any_kind_are_told_apart() -> None:
    assert answer_of("kmp_matcher", ("über", "er")).match == 2
    assert answer_of("kmp_matcher", (["to", "be", "or"], ["be"])).match == 1
    assert answer_of("lcs_length", ([3, 0], [0, 3])).subsequence in ([3], [0])
    (instance,) = instances_of("lcs_length", ([3, 0], np.array([3, 3])))
    assert [string.tolist() for string in instance.given] == [[3, 0], [3, 3]]
    (words,) = instances_of("lcs_length", ("TT", "GT"))
    assert [string.tolist() for string in words.given] == [[0, 0], [1, 0]]


MATRIX = np.zeros((3, 3))
SEVERAL: list[tuple[str, Any, dict[str, Any], bool]] = [
    ("bfs", nx.path_graph(3), {}, False),
    ("bfs", [nx.path_graph(3)], {}, True),
    ("bfs", MATRIX, {}, False),
    ("bfs", MATRIX.tolist(), {}, False),
    ("bfs", [MATRIX], {}, True),
    ("bfs", np.zeros((2, 3, 3)), {}, True),
    ("bfs", scipy.sparse.csr_array(MATRIX), {}, False),
    ("bfs", [scipy.sparse.csr_array(MATRIX)], {}, True),
    ("minimum", [1, 2], {}, False),
    ("minimum", {"a": 1}, {}, False),
    ("minimum", [[1, 2], [3]], {}, True),
    ("minimum", [{"a": 1}], {}, True),
    ("minimum", np.zeros((2, 3)), {}, True),
    ("graham_scan", [(0, 0), (1, 1)], {}, False),
    ("graham_scan", {"a": (0, 0)}, {}, False),
    ("graham_scan", [{"a": (0, 0)}], {}, True),
    ("segments_intersect", CROSS := [[(0, 0), (1, 1)], [(0, 1), (1, 0)]], {}, False),
    ("segments_intersect", [CROSS, CROSS], {}, True),
    ("segments_intersect", [(0, 0), (1, 1), (0, 1), (1, 0)], {}, False),
    ("segments_intersect", np.zeros((2, 4, 2)), {}, True),
    ("optimal_bst", ([1], [1, 1]), {}, False),
    ("optimal_bst", [([1], [1, 1])], {}, True),
    ("lcs_length", ("ab", "b"), {}, False),
    ("lcs_length", ["ab", "b"], {}, False),
    ("lcs_length", [("ab", "b")], {}, True),
    ("kmp_matcher", "ab", {"needle": "b"}, False),
    ("kmp_matcher", ["ab", "aab"], {"needle": "b"}, True),
    ("kmp_matcher", [("ab", "b"), ("aab", "b")], {}, True),
]


@pytest.mark.parametrize(("algorithm", "data", "options", "several"), SEVERAL)
def test_several_instances_are_told_from_one(algorithm: str, data: Any, options: Any, several: bool) -> None:
    assert are_several(CLRS_30[algorithm], data, Options(**options)) == several


def edges(*triples: tuple[Any, Any, Any], kind: Any = nx.Graph, weight: str = "weight") -> Any:
    """A graph of networkx with weights."""
    graph = kind()
    graph.add_weighted_edges_from(triples, weight=weight)
    return graph


LOOP = nx.DiGraph([("a", "b"), ("b", "c"), ("c", "a")])
REFUSED: list[tuple[str, Any, dict[str, Any], str]] = [
    (
        "dijkstra",
        edges(("a", "b", -1)),
        {"source": "a"},
        "dijkstra takes no negative weights, given -1.0 from 'a' to 'b' (be",
    ),
    (
        "mst_prim",
        edges(("a", "b", -1)),
        {"source": "a"},
        "mst_prim takes no negative weights, given -1.0 from 'a' to 'b' (be",
    ),
    (
        "dijkstra",
        edges(("a", "b", NAN)),
        {"source": "a"},
        "the edge from 'a' to 'b': expected a finite number as its weight, given",
    ),
    (
        "dijkstra",
        edges(("a", "b", None)),
        {"source": "a"},
        "the edge from 'a' to 'b': expected a finite number as its weight, given",
    ),
    (
        "dijkstra",
        edges(("a", "b", 0)),
        {"source": "a"},
        "the edge from 'a' to 'b': expected a weight other than 0, which would m",
    ),
    (
        "dijkstra",
        nx.path_graph(3),
        {"source": 0},
        "the edge from 0 to 1 has no 'weight': name the attribute that is its weight (w",
    ),
    (
        "dijkstra",
        edges(("a", "b", 1), weight="km"),
        {"source": "a", "weight": "miles"},
        "the edge from 'a' to 'b' has no 'miles'",
    ),
    ("dijkstra", edges(("a", "b", 1)), {}, "dijkstra starts from a node: say which (source=...)"),
    (
        "dijkstra",
        edges(("Anna", "b", 1)),
        {"source": "Ana"},
        "expected source to be one of the 2 nodes, given 'Ana' (did you mean Anna?)",
    ),
    (
        "dijkstra",
        edges(("a", "b", 1), ("a", "b", 2), kind=nx.MultiGraph),
        {"source": "a"},
        "the edge from 'a' to 'b': it is there more than once",
    ),
    ("floyd_warshall", edges(("a", "b", 1)), {"source": "a"}, "floyd_warshall takes no source, given 'a'"),
    ("bfs", nx.path_graph(3), {"source": 0, "needle": "a"}, "bfs takes no needle, given 'a'"),
    ("minimum", [1, 2], {"target": 1}, "minimum takes no target, given 1"),
    ("topological_sort", LOOP, {}, "topological_sort takes graphs without cycles, given 'a' → 'b' → 'c' → 'a'"),
    ("topological_sort", nx.path_graph(2), {}, "topological_sort takes graphs without cycles, given 0 → 1 → 0"),
    (
        "topological_sort",
        nx.cycle_graph(30, create_using=nx.DiGraph),
        {},
        "topological_sort takes graphs without cycles, given 0 → 1 → 2 → ... →",
    ),
    (
        "dag_shortest_paths",
        LOOP,
        {"source": "a", "weight": None},
        "dag_shortest_paths takes graphs without cycles, given 'a' → 'b'",
    ),
    (
        "bridges",
        nx.DiGraph([("a", "b")]),
        {},
        "bridges takes undirected graphs, given an edge of 1.0 from 'a' to 'b' and none back",
    ),
    (
        "mst_kruskal",
        np.array([[0, 1], [2, 0]]),
        {},
        "mst_kruskal takes undirected graphs, given an edge of 1.0 from 0 to 1 and one of 2.0 back",
    ),
    (
        "bellman_ford",
        edges(("a", "b", -1)),
        {"source": "a"},
        "bellman_ford: expected A to have no cycles of negative weight",
    ),
    (
        "bfs",
        np.zeros((2, 3)),
        {"source": 0},
        "expected a graph or a square matrix of edges, given an array of shape (2, 3)",
    ),
    (
        "bfs",
        scipy.sparse.coo_array((2, 3)),
        {"source": 0},
        "expected a square matrix of edges, given one of shape (2, 3)",
    ),
    ("bfs", "a graph", {"source": 0}, "expected numbers in the graph, given 'a graph'"),
    (
        "bfs",
        np.array([[0, NAN], [1, 0]]),
        {"source": 0},
        "expected finite numbers, and 0 where there is no edge, given nan from 0 to 1",
    ),
    (
        "bfs",
        np.array([[0, INFINITE], [1, 0]]),
        {"source": 0, "names": "ab"},
        "expected finite numbers, and 0 where there is no edge, given inf from 'a' to 'b'",
    ),
    ("bfs", np.eye(2), {"source": 0, "names": ["a", "a"]}, "expected names that differ, given 'a' more than once"),
    ("bfs", np.eye(2), {"source": 0, "names": ["a"]}, "expected 2 names, one for each, given 1"),
    (
        "bfs",
        np.eye(2),
        {"source": 0, "names": [["a"], ["b"]]},
        "expected names that can be keys of a dict, given [['a'], ['b']]",
    ),
    ("bfs", np.eye(2), {"source": 2}, "expected source to be one of the 2 nodes, given 2"),
    ("bfs", np.zeros((1, 1)), {"source": 0}, "bfs needs at least 2 nodes, given 1"),
    (
        "bfs",
        Data(edge_index=torch.tensor([[0], [5]]), num_nodes=3),
        {"source": 0},
        "expected nodes from 0 to num_nodes - 1 in edge_index",
    ),
    (
        "bfs",
        Data(edge_index=torch.tensor([0, 1]), num_nodes=3),
        {"source": 0},
        "expected edge_index in shape (2, E), given (2,)",
    ),
    (
        "dijkstra",
        Data(edge_index=torch.tensor([[0], [1]]), num_nodes=3, weight=torch.ones(2)),
        {"source": 0},
        "expected one weight for each of the 1 edges, given (2,)",
    ),
    ("insertion_sort", {"a": 1, "b": NAN}, {}, "expected finite numbers in keys, given nan for 'b'"),
    (
        "insertion_sort",
        [1, 2**53 + 1],
        {},
        "expected numbers of a size up to 9007199254740991 in keys, given 9007199254740993 for 1",
    ),
    ("insertion_sort", [1, "b"], {}, "expected numbers in keys, given [1, 'b']"),
    ("insertion_sort", [1, 2], {"names": ["x", "x"]}, "expected names that differ, given 'x' more than once"),
    ("insertion_sort", [1], {}, "insertion_sort needs at least 2 nodes, given 1"),
    ("insertion_sort", [], {}, "insertion_sort needs at least 2 nodes, given 0"),
    ("binary_search", [1, 2], {}, "binary_search looks for a number: say which (target=...), given None"),
    ("binary_search", [2, 1], {"target": 1}, "binary_search: expected keys in ascending order"),
    (
        "activity_selector",
        {"a": (2, 1), "b": (0, 1)},
        {},
        "expected activities that finish after they start, given 2.0 to 1.0 for 'a'",
    ),
    ("activity_selector", [1, 2], {}, "expected activities (start, finish): 2 numbers for each, given [1, 2]"),
    (
        "task_scheduling",
        {"a": (0, 1), "b": (1, 1)},
        {},
        "expected deadlines that are whole numbers of at least 1, given 0.0 for 'a'",
    ),
    ("matrix_chain_order", [2, 0], {}, "expected dimensions above 0, given 0.0"),
    ("optimal_bst", [1, 2], {}, "expected frequencies of the keys: a number for each, given 1"),
    (
        "optimal_bst",
        ([1], [1, 2, 3]),
        {},
        "expected 2 frequencies of what lies before, between and after 1 keys, given 3",
    ),
    ("optimal_bst", ([-1], [1, 2]), {}, "expected frequencies of at least 0, not all of them 0, given -1.0"),
    ("lcs_length", ("abc", "cde"), {}, "lcs_length knows 4 different letters, given 5: 'a', 'b', 'c', 'd', 'e', ..."),
    ("lcs_length", "abc", {}, "expected a pair of strings, x and y, given 'abc'"),
    ("kmp_matcher", ("ab", 3), {}, "expected needle to be a string or a list of letters, given 3"),
    (
        "kmp_matcher",
        ("ab", "aba"),
        {},
        "kmp_matcher: expected a needle P no longer than the haystack T, given 3 and 2 letters",
    ),
    (
        "kmp_matcher",
        ("ab", ""),
        {},
        "kmp_matcher: expected 2 letters in T and P together, one or more in each, given 2 and 0",
    ),
    ("segments_intersect", [(0, 0), (1, 1)], {}, "expected the 4 ends of two segments, given 2"),
    (
        "graham_scan",
        {"a": (0, 0), "b": (1, INFINITE)},
        {},
        "expected finite numbers in points (x, y), given inf for 'b'",
    ),
    ("graham_scan", [(0, 0), (1, 1), (2, 2)], {}, "graham_scan: expected no three points on one line"),
]


JUNK: list[Any] = [
    *(
        None,
        3,
        True,
        b"ab",
        object(),
        {},
        [],
        (),
        [[]],
        [[1], [1, 2]],
        [None, None],
        {"a": None},
        {"a": {}},
        {1: [1, 2]},
    ),
    *(np.zeros(0), np.zeros((2, 3)), np.zeros((2, 2, 3)), np.array(3), np.array([1j]), np.full((3, 3), NAN)),
    *(torch.zeros(2, 2, 2, 2), nx.Graph(), [nx.path_graph(3), 3], range(0), {1, 2}, iter("ab"), ("ab",), ("ab", None)),
    *(([], [1, 2, 3, 4]), ([1e300, 2], [1, 2]), [10**400, 1], [(1, 2), 3], [[(0, 0)], [(1, 1), (2, 2)]], Exception),
]


@pytest.mark.slow
@every_algorithm
def test_what_is_no_instance_at_all_is_refused_in_one_line(algorithm: str) -> None:
    reasoner = Reasoner({algorithm: recipe_spec(algorithm)}, MPNN(hidden_dim=4)).eval()
    for junk in JUNK:
        for options in ({}, {"source": 0, "weight": None}, {"needle": torch.zeros(2, 2)}, {"target": "x", "names": 3}):
            with suppress(UserError):  # but for the few that are an instance of some algorithm
                reasoner.run(junk, **options, steps=1)


@pytest.mark.parametrize(("algorithm", "data", "options", "message"), REFUSED)
def test_what_an_algorithm_cannot_take_is_refused_by_name(
    algorithm: str, data: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError) as caught:
        answer_of(algorithm, data, **options)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)
