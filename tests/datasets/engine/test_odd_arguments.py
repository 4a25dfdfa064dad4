"""Whatever a function of the data is given, it gives a result or says in one line what it expected."""

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import own_algorithm
import pytest
from engine import by_hand

from nar.batch import NumpyArray
from nar.datasets import ALGORITHMS, CLRS30, SPECS, sample, to_dm_clrs
from nar.datasets.clrs30.dm_clrs import sample_from_dm_clrs
from nar.datasets.clrs30.families import GRAPH_FAMILIES
from nar.datasets.clrs30.recipe import apply_recipe, recipe_spec, train_sampler_args
from nar.datasets.clrs30.samplers import CLRS_30, run_on
from nar.datasets.clrs30.symmetries import study
from nar.datasets.salsa.datamodule import SALSA
from nar.datasets.salsa.tasks import SPARSE_TASKS, SparseTask, graph_of, trajectory
from nar.datasets.splits.cache import Cache
from nar.datasets.text.datamodule import CLRSText
from nar.datasets.text.format import answer_of, parse, render, scores, texts
from nar.datasets.text.stream import TextStream, text_samples
from nar.errors import UserError
from nar.specs import Location, Probe, Stage, Type

LONGEST = 900
"""Letters of a message, which may list all 30 algorithms."""

NUMBERS = [-1, 0, 1.5, 10**30, 10**5000, np.nan, np.inf, 1j, 2**31, 40_000, 1e308, -1e308, 1e-308, 5e-324, 1e16]
NUMBERS += [np.float16(3), np.int8(100), np.array(0.5), np.uint64(2**63)]
TEXTS = ["", "a", "bfs\n", "all", "ü" * 10_000, b"x", "\0", np.array("bfs")]
COLLECTIONS = [[], (), {}, set(), [[]], [None], ["bfs"], [2, "a"], {"bfs": 1}, range(3), np.zeros(0), np.zeros((2, 2))]
OTHERS = [None, True, ..., lambda: 0, sample, CLRS30, np.random.RandomState]
ODD: list[Any] = [*NUMBERS, *TEXTS, *COLLECTIONS, *OTHERS]

BFS = sample("bfs", num_nodes=4, num_samples=1, seed=0)
GRAPH = graph_of(np.array([[0, 1], [1, 2]]), 3)
WITHOUT_EDGES = (np.zeros((3, 3)), 1)


def sampled(**settings: Any) -> Any:
    """A trajectory of breadth-first search."""
    return sample(**{"algorithm": "bfs", "num_nodes": 4, "num_samples": 1, "seed": 0, **settings})


def small_tests(**settings: Any) -> Any:
    """Data of SALSA-CLRS with small tests."""
    return SALSA(**{"test_sizes": [9], **settings})


CALLS: dict[str, Callable[[Any], Any]] = {
    "sample, algorithm": lambda odd: sampled(algorithm=odd),
    "sample, num_nodes": lambda odd: sampled(num_nodes=odd),
    "sample, num_samples": lambda odd: sampled(num_samples=odd),
    "sample, seed": lambda odd: sampled(seed=odd),
    "sample, hints": lambda odd: sampled(hints=odd),
    "sample, graphs": lambda odd: sampled(graphs=odd),
    "sample_from_dm_clrs, algorithm": lambda odd: sample_from_dm_clrs(odd, num_nodes=odd, num_samples=1, seed=0),
    "run_on, algorithm": lambda odd: run_on(odd, [WITHOUT_EDGES], num_nodes=3),
    "run_on, given": lambda odd: run_on("bfs", odd, num_nodes=3),
    "run_on, one": lambda odd: run_on("bfs", [odd], num_nodes=3),
    "run_on, own": lambda odd: run_on(own_algorithm.Components(), [odd], num_nodes=3),
    "run_on, num_nodes": lambda odd: run_on("bfs", [WITHOUT_EDGES], num_nodes=odd),
    "run_on, hints": lambda odd: run_on("bfs", [WITHOUT_EDGES], num_nodes=3, hints=odd),
    "to_dm_clrs, spec": lambda odd: to_dm_clrs(odd, BFS),
    "to_dm_clrs, feedback": lambda odd: to_dm_clrs(SPECS["bfs"], odd),
    "recipe_spec": recipe_spec,
    "apply_recipe": lambda odd: apply_recipe(odd, BFS),
    "train_sampler_args": lambda odd: train_sampler_args(odd, 16),
    "parse": parse,
    "scores, answer": lambda odd: scores(odd, "1"),
    "scores, truth": lambda odd: scores("1", odd),
    "render": lambda odd: render(odd, BFS, hints=False),
    "texts": lambda odd: texts(odd, BFS, hints=True),
    "answer_of": lambda odd: answer_of(odd, {}, {}),
    "text_samples": lambda odd: text_samples(odd, num_nodes=5, num_samples=1, seed=0),
    "TextStream, mapping": lambda odd: TextStream(odd, seed=0),
    "TextStream, sizes": lambda odd: TextStream({"bfs": odd}, seed=0),
    "TextStream, seed": lambda odd: TextStream({"bfs": [4]}, seed=odd),
    "TextStream, batch_size": lambda odd: TextStream({"bfs": [4]}, odd, seed=0),
    "CLRSText, algorithms": lambda odd: CLRSText([odd]),
    "CLRSText, train_sizes": lambda odd: CLRSText("bfs", train_sizes=odd),
    "CLRSText, test_sizes": lambda odd: CLRSText("bfs", test_sizes=odd),
    "study, symmetry": lambda odd: study(odd, num_nodes=4),
    "study, num_nodes": lambda odd: study("scaling", num_nodes=odd, num_instances=1, num_variants=1),
    "study, seed": lambda odd: study("scaling", num_nodes=4, seed=odd),
    "SparseTask, task": SparseTask,
    "SparseTask, num_nodes": lambda odd: SparseTask("bfs", num_nodes=odd)[0],
    "SparseTask, num_samples": lambda odd: len(SparseTask("bfs", num_samples=odd)),
    "SparseTask, graphs": lambda odd: SparseTask("bfs", graphs=odd),
    "SparseTask, seed": lambda odd: SparseTask("bfs", seed=odd)[0],
    "SparseTask, hints": lambda odd: SparseTask("bfs", hints=odd)[0],
    "trajectory, graph": lambda odd: trajectory("dfs", odd, ()),
    "trajectory, s": lambda odd: trajectory("bfs", GRAPH, (odd,)),
    "trajectory, A": lambda odd: trajectory("dijkstra", GRAPH, (0, odd)),
    "trajectory, randomness": lambda odd: trajectory("fast_mis", GRAPH, (odd,)),
    "graph_of": lambda odd: graph_of(odd, 3),
    "SALSA, algorithms": lambda odd: small_tests(algorithms=odd),
    "SALSA, train_sizes": lambda odd: small_tests(train_sizes=odd),
    "SALSA, test_sizes": lambda odd: small_tests(test_sizes=odd),
    "SALSA, seed": lambda odd: small_tests(seed=odd),
    "SALSA, num_test": lambda odd: small_tests(num_test=odd),
    "SALSA, test_graphs": lambda odd: small_tests(test_graphs=odd),
    "SALSA, test_graph_args": lambda odd: small_tests(test_graph_args=odd),
    "CLRS30, algorithms": CLRS30,
    "CLRS30, algorithm": lambda odd: CLRS30([odd]),
    "CLRS30, train_sizes": lambda odd: CLRS30("kmp_matcher", train_sizes=odd),
    "CLRS30, test_sizes": lambda odd: CLRS30("kmp_matcher", test_sizes=odd),
    "CLRS30, test_size": lambda odd: CLRS30("kmp_matcher", test_sizes=[odd]),
    "CLRS30, batch_size": lambda odd: CLRS30("bfs", batch_size=odd),
    "CLRS30, num_workers": lambda odd: CLRS30("bfs", num_workers=odd),
    "CLRS30, seed": lambda odd: CLRS30("bfs", seed=odd),
    "CLRS30, chunk_length": lambda odd: CLRS30("bfs", chunk_length=odd),
    "CLRS30, source": lambda odd: CLRS30("bfs", source=odd),
    "CLRS30, test_graphs": lambda odd: CLRS30("bfs", test_graphs=odd, test_sizes=[9]),
    "CLRS30, test_graph_args": lambda odd: CLRS30(
        "bfs", test_graphs="watts_strogatz", test_graph_args=odd, test_sizes=[9]
    ),
    "CLRS30, cache_dir": lambda odd: CLRS30("bfs", cache_dir=odd),
    "Cache": Cache,
}


def of_sampler(algorithm: str, name: str, **settings: Any) -> Callable[[Any], Any]:
    """A call with an argument of a sampler."""
    return lambda odd: sampled(**{"algorithm": algorithm, "num_nodes": 6, **settings, name: odd})


for _algorithm in ALGORITHMS:
    for _name in [*[*inspect.signature(CLRS_30[_algorithm].draw).parameters][2:], "truncate_decimals"]:
        CALLS[f"{_algorithm}, {_name}"] = of_sampler(_algorithm, _name)
for _family, _draw in GRAPH_FAMILIES.items():
    for _name in [*[*inspect.signature(_draw).parameters][2:], "low", "high"]:
        CALLS[f"dijkstra on {_family}, {_name}"] = of_sampler("dijkstra", _name, graphs=_family)


def complaint(call: Callable[[Any], Any], given: Any) -> str:
    """What it says of what it is given; nothing if it takes it."""
    try:
        call(given)
    except UserError as error:
        return str(error) or "nothing"
    return ""


@pytest.mark.parametrize("name", CALLS)
def test_an_odd_argument_is_taken_or_refused_in_one_line(name: str) -> None:
    refused = 0
    for odd in ODD:
        said = complaint(CALLS[name], odd)
        assert "\n" not in said
        assert len(said) < LONGEST
        refused += said != ""
    assert refused


def test_a_misspelt_algorithm_is_told_from_the_one_that_is_meant() -> None:
    assert complaint(lambda name: sampled(algorithm=name), "dijsktra").endswith("; did you mean dijkstra?")
    assert "did you mean" not in complaint(lambda name: sampled(algorithm=name), "bogo")


def test_dimensions_whose_products_are_no_numbers_do_not_settle() -> None:
    with pytest.raises(UserError, match="expected costs that settle"):
        by_hand("matrix_chain_order", np.array([1e200, -1, -1e200, 1e200, -1]))


def test_segments_too_small_to_cross_are_not_drawn_without_end() -> None:
    said = [complaint(of_sampler("segments_intersect", "high", seed=seed), 1e-200) for seed in range(4)]
    assert any("expected low and high between which segments can cross" in one for one in said)


def test_a_number_of_thousands_of_digits_is_a_wrong_answer() -> None:
    assert scores("9" * 5000, "1") == (1, 1, 0, 0)


# Mutated texts

WORDS = [*"0123456789.-+e[]() ,:|\n", "bfs", "dijkstra", "trace | ", ", initial_trace: ", "key", "nan", "inf", "1e999"]
WORDS += ["9" * 30, "9" * 5000, "ü", "\0", "\r\n", "٣", "[[", "]]", "\n\n", "-0.0", "1_0"]
NUMBER = 60
"""Of mutants of each algorithm's text."""


def mutated(rng: np.random.RandomState, text: str) -> str:
    """A text with a piece left out, doubled, moved or exchanged for a word."""
    for _ in range(rng.randint(1, 4)):
        start, stop, place = np.sort(rng.randint(0, len(text) + 1, 3))
        stop = min(stop, start + rng.randint(1, 9))
        way = rng.randint(4)
        piece = [WORDS[rng.randint(len(WORDS))], "", text[start:stop] * 2, ""][way]
        rest = text[stop:place] + text[start:stop] + text[place:] if way == 3 else text[stop:]
        text = text[:start] + piece + rest
    return text


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_mutated_text_is_refused_or_read_as_it_stands(algorithm: str) -> None:
    rng = np.random.RandomState(ALGORITHMS.index(algorithm))
    refused = 0
    for hints in (False, True):
        (one,) = text_samples(algorithm, num_nodes=5, num_samples=1, seed=1, hints=hints)
        right = one.prompt + one.answer
        assert parse(right).prompt == one.prompt
        for _ in range(NUMBER):
            text = mutated(rng, right)
            if said := complaint(parse, text):
                assert "\n" not in said
                refused += 1
            else:
                assert parse(text).prompt + parse(text).answer == text
            found = scores(mutated(rng, one.answer), one.answer)
            assert all(0 <= score <= 1 for score in found)
            assert found.exact <= found.clrs <= found.shape <= found.parse
    assert refused > NUMBER


# Sparse graphs and algorithms of a user's own


@pytest.mark.parametrize("task", SPARSE_TASKS)
def test_what_a_task_draws_gives_its_trajectory_when_it_is_given(task: str) -> None:
    data = SparseTask(task, num_nodes=9)
    rng = np.random.RandomState([0, 0])
    graph = data.draw_graph(rng, data.sizes[rng.randint(1)])
    ours, drawn = trajectory(task, graph, SPARSE_TASKS[task].draw(rng, graph)).to_dict(), data[0].to_dict()
    assert ours.keys() == drawn.keys()
    for name, value in drawn.items():
        assert np.array_equal(ours[name], value), name


A_RIGHT = np.array([0.5, 0.5, 1.5, 1.5, 1, 1, 1])
WRONG: list[tuple[str, Any, Any, str]] = [
    ("bfs", GRAPH, (3,), "expected s to be a node from 0 to 2, given 3"),
    ("bfs", GRAPH, (), "expected a tuple of s, given"),
    ("dfs", GRAPH, (1,), "expected a tuple of no inputs, given"),
    ("dijkstra", GRAPH, (0, A_RIGHT[:4]), "expected A in shape (7,), given (4,)"),
    ("dijkstra", GRAPH, (0, -A_RIGHT), "expected numbers of at least 0 in A, given -0.5"),
    ("mst_prim", GRAPH, (0, np.arange(7.0)), "expected A to have the same weight both ways"),
    ("fast_mis", GRAPH, (np.zeros((3, 0)),), "expected randomness of twice as many times as there are rounds, given 0"),
    ("bfs", GRAPH._replace(receivers=GRAPH.receivers + 9), (0,), "expected a graph as graph_of makes it"),
    ("bfs", GRAPH._replace(reverse=GRAPH.reverse[::-1]), (0,), "expected a graph as graph_of makes it"),
    ("bfs", GRAPH._replace(start=GRAPH.start * 50), (0,), "expected a graph as graph_of makes it"),
    ("bfs", graph_of(np.array([[0, 1]]), 3), (0,), "all connected; of the 3 given node 0 reaches 2"),
]


@pytest.mark.parametrize(("task", "graph", "inputs", "message"), WRONG)
def test_a_graph_or_an_input_that_a_task_does_not_take_is_refused(
    task: str, graph: Any, inputs: Any, message: str
) -> None:
    with pytest.raises(UserError) as error:
        trajectory(task, graph, inputs)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("edges", "message"),
    [
        ([[0, 3]], "expected nodes from 0 to 2, given 0 to 3 in edges"),
        ([[-1, 1]], "expected nodes from 0 to 2, given -1 to 1 in edges"),
        ([[0, 1], [1, 0]], "expected each edge once and no loops"),
        ([[1, 1]], "expected each edge once and no loops"),
        ([[0.0, 1.0]], "expected edges as whole numbers"),
        ([0, 1], "expected edges as whole numbers"),
    ],
)
def test_edges_that_make_no_graph_are_refused(edges: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        graph_of(np.array(edges), 3)


@pytest.mark.parametrize("odd", ODD, ids=map(str, range(len(ODD))))
def test_an_algorithm_of_ones_own_with_odd_attributes_is_refused_in_one_line(odd: Any) -> None:
    pos = Probe(Stage.INPUT, Location.NODE, Type.SCALAR)

    class Odd(own_algorithm.Components):
        def inputs(self, adj: NumpyArray) -> Any:
            return odd

    for name, value in (("spec", odd), ("spec", {"pos": odd}), ("spec", {"pos": pos._replace(type=odd)})):
        own: Any = own_algorithm.Components()
        setattr(own, name, value)
        assert complaint(lambda one: sampled(algorithm=one), own)
    own = own_algorithm.Components()
    own.min_num_nodes = odd
    assert "\n" not in complaint(lambda one: sampled(algorithm=one), own)
    assert complaint(lambda one: sampled(algorithm=one), Odd())
