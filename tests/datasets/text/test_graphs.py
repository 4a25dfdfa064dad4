"""The graph that a prompt of CLRS-Text is about, beside the one that its text was drawn with."""

import numpy as np
import pytest
import torch

from nar.batch import NumpyArray, grouped
from nar.datasets import ALGORITHMS
from nar.datasets.text import graph_of, stream, text_sample, text_samples
from nar.errors import UserError

every_algorithm = pytest.mark.parametrize("algorithm", ALGORITHMS)
BFS = "bfs:\ns: 0, A: [[0 1], [1 0]]\npi:\n"


def assert_same(given: NumpyArray, expected: NumpyArray) -> None:
    assert (given.dtype, given.shape) == (expected.dtype, expected.shape)
    assert given.tobytes() == expected.tobytes()  # -0.0 too


@pytest.mark.slow
@pytest.mark.parametrize("decimals", [3, 1, None])  # with one decimal, much is 0 and much is equal
@pytest.mark.parametrize("hints", [False, True])
@every_algorithm
def test_the_graph_of_a_prompt_is_that_of_the_sample(algorithm: str, hints: bool, decimals: int | None) -> None:
    for num_nodes in (4, 5, 8, 11):
        if decimals == 1 and num_nodes > 5 and algorithm in ("graham_scan", "jarvis_march"):
            continue  # so many points have three on one line
        args = {"num_nodes": num_nodes, "seed": num_nodes, "truncate_decimals": decimals}
        for sample in text_samples(algorithm, num_samples=3, hints=hints, **args):
            read = text_sample(sample.prompt, sample.answer)
            (inputs, first_hints, lengths), expected = read.features, sample.features
            assert inputs.keys() == expected.inputs.keys()
            assert first_hints.keys() == expected.hints.keys()
            for name, value in inputs.items():
                assert_same(value, expected.inputs[name])
            for name, value in first_hints.items():
                assert_same(value, expected.hints[name])
            assert_same(lengths, expected.lengths)
            assert read.num_nodes == num_nodes or algorithm == "segments_intersect"
            assert (read.prompt, read.answer) == (sample.prompt, sample.answer)


@pytest.mark.parametrize("hints", [False, True])
@every_algorithm
def test_the_answer_of_a_prompt_is_that_of_the_classical_algorithm(algorithm: str, hints: bool) -> None:
    for sample in text_samples(algorithm, num_nodes=5, num_samples=2, seed=5, hints=hints):
        assert text_sample(sample.prompt).answer == sample.answer


def test_graphs_of_prompts_are_grouped_as_those_of_samples() -> None:
    samples = text_samples("bfs", num_nodes=5, num_samples=2, seed=0)
    samples += text_samples("insertion_sort", num_nodes=5, num_samples=1, seed=0)
    given, expected = grouped([graph_of(sample.prompt) for sample in samples]), stream.grouped(samples)
    for one, other in zip(given, expected, strict=True):
        assert one[:2] == other[:2]
        for name, value in one.features.inputs.items():
            assert value.dtype == other.features.inputs[name].dtype
            torch.testing.assert_close(value, other.features.inputs[name], rtol=0, atol=0)


def test_whole_numbers_stand_for_keys() -> None:
    _, features = graph_of("insertion_sort:\nkey: [3 1 2]\npred:\n")
    np.testing.assert_array_equal(features.inputs["key"], [[3.0, 1.0, 2.0]])


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        (None, "expected a text, given None"),
        ("", "unknown algorithm ''; known are"),
        ("Please sort 3, 1 and 2.", "unknown algorithm 'Please sort 3, 1 and 2.'; known are"),
        ("bfs:\n", "expected a prompt of bfs, without its answer, given 'bfs:"),
        (BFS[:-1], "expected a prompt of bfs, without its answer, given"),
        (BFS + "[0 0]\n\n", "expected a prompt of bfs, without its answer, given"),
        (BFS.replace("pi", "topo"), "expected a prompt of bfs, without its answer, given"),
        (BFS.replace("s: 0, ", ""), "expected a prompt of bfs, without its answer, given"),
        (BFS.replace("[1 0]]", "[1]]"), "expected a prompt of bfs, without its answer, given"),
        (BFS.replace("s: 0", "s: 2"), "bfs: expected s to be a node from 0 to 1, given 2"),
        (BFS.replace("s: 0", "s: [0]"), r"bfs: expected s in shape \(\), given \(1,\)"),
        (BFS.replace("[1 0]]", "[1 0], [1 1]]"), r"bfs: expected A in shape \(3, 3\), given \(3, 2\)"),
        (BFS.replace("[1 0]", "[2 0]"), "bfs: expected whole numbers from 0 to 1 in A, given 2"),
        ("insertion_sort:\nkey: []\npred:\n", "expected a prompt of insertion_sort, without"),
        ("insertion_sort:\nkey: [0.2]\npred:\n", "insertion_sort needs at least 2 nodes, given 1"),
        ("insertion_sort:\nkey: [1e999 2]\npred:\n", "expected a prompt of insertion_sort, without"),
        ("binary_search:\nkey: [0.5 0.1], target: 0.3\nreturn:\n", "keys in ascending order, given 0.1 after 0.5"),
        ("naive_string_matcher:\nstring: [0 0 1], key: [1 2]\nmatch:\n", r"expected key in shape \(3,\), given \(2,\)"),
        ("kmp_matcher:\nstring: [0 1 0], key: [1 2 1]\nmatch:\n", r"string \[0, 0, 1\], given \[0, 1, 0\]"),
        ("lcs_length:\nstring: [0 2], key: [1 2]\nb:\n", "expected 2 letters in x and y together, one or more in each"),
        ("optimal_bst:\np: [0.2 0.1 0.5], q: [0.1 0.1 0.1]\nroot:\n", r"expected p \[0.2, 0.1, 0.0\], given"),
        ("activity_selector:\ns: [0.1 0.2], f: [0.3]\nselected:\n", r"expected f in shape \(2,\), given \(1,\)"),
        ("mst_prim:\ns: 0, A: [[0.0 1.0], [0.5 0.0]]\npi:\n", "mst_prim: expected A to be symmetric"),
        ("quicksort:\nkey: [0.2 0.1], initial_trace: [0.1 0.2]\ntrace | pred:\n", r"expected pred \[0.2, 0.1\], given"),
        ("quicksort:\nkey: [0.2 0.1], initial_trace: [0.2]\ntrace | pred:\n", r"expected pred \[0.2, 0.1\], given"),
    ],
)
def test_what_is_no_prompt_is_refused_in_one_line(prompt: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        graph_of(prompt)
    assert "\n" not in str(error.value)
