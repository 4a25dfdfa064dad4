"""The texts of CLRS-Text beside dm-clrs's, read back, and scored."""

import importlib
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from nar.datasets import ALGORITHMS, sample
from nar.datasets.clrs30.samplers import CLRS_30
from nar.datasets.text.format import Scores, is_sort, parse, render, scores, texts
from nar.errors import UserError

every_algorithm = pytest.mark.parametrize("algorithm", ALGORITHMS)
with_and_without_trace = pytest.mark.parametrize("hints", [False, True])


@pytest.fixture(scope="module")
def format_clrs_example(clrs: Any) -> Callable[..., tuple[str, str]]:
    """dm-clrs's function from a trajectory to its text."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        function: Callable[..., tuple[str, str]]
        function = importlib.import_module("clrs._src.clrs_text.clrs_utils").format_clrs_example
    return function


@pytest.mark.slow
@pytest.mark.parametrize(("num_nodes", "seed", "decimals"), [(4, 94, 3), (11, 0, 3), (7, 1, None)])
@every_algorithm
def test_equals_dm_clrs_letter_by_letter(
    clrs: Any, format_clrs_example: Callable[..., Any], algorithm: str, num_nodes: int, seed: int, decimals: int | None
) -> None:
    args = {"seed": seed, "truncate_decimals": decimals}
    sampler, _ = clrs.build_sampler(algorithm, -1, length=num_nodes, track_max_steps=False, **args)
    theirs = [sampler.next(batch_size=1) for _ in range(2)]
    ours = sample(algorithm, num_nodes=num_nodes, num_samples=2, **args)
    for hints in (False, True):
        expected = [format_clrs_example(algorithm, feedback, use_hints=hints) for feedback in theirs]
        assert render(algorithm, ours, hints=hints) == expected


@with_and_without_trace
@every_algorithm
def test_a_text_that_is_read_and_written_again_is_the_same(algorithm: str, hints: bool) -> None:
    feedback = sample(algorithm, num_nodes=6, num_samples=3, seed=3)
    for prompt, answer in render(algorithm, feedback, hints=hints):
        parsed = parse(prompt + answer)
        assert (parsed.prompt, parsed.answer) == (prompt, answer)


@with_and_without_trace
@every_algorithm
def test_what_is_read_is_what_was_written(algorithm: str, hints: bool) -> None:
    feedback = sample(algorithm, num_nodes=6, num_samples=3, seed=3, truncate_decimals=3)
    for row, text in enumerate(texts(algorithm, feedback, hints=hints)):
        parsed = parse(text.prompt + text.answer)
        for name, value in parsed.inputs.items():
            np.testing.assert_array_equal(value, feedback.features.inputs[name][row])
        assert parsed.names == text.names
        states = [*text.trace, text.outputs]
        for state, expected in zip([*parsed.trace, parsed.outputs], states, strict=True):
            for value, other in zip(state, expected, strict=True):
                np.testing.assert_array_equal(value, other)


@pytest.mark.parametrize("algorithm", [name for name in ALGORITHMS if not is_sort(CLRS_30[name])])
def test_the_outputs_that_are_read_are_those_of_the_trajectory(algorithm: str) -> None:
    feedback = sample(algorithm, num_nodes=6, num_samples=3, seed=3)
    for row, (prompt, answer) in enumerate(render(algorithm, feedback, hints=False)):
        for name, value in zip(feedback.outputs, parse(prompt + answer).outputs, strict=True):
            np.testing.assert_array_equal(value, feedback.outputs[name][row])


def test_numbers_with_exponents_are_read() -> None:
    feedback = sample("minimum", num_nodes=4, num_samples=1, seed=0, low=-1e-5, high=1e-5)
    ((prompt, answer),) = render("minimum", feedback, hints=False)
    assert "e-0" in prompt
    np.testing.assert_array_equal(parse(prompt + answer).inputs["key"], feedback.features.inputs["key"][0])


BFS = "bfs:\ns: 0, A: [[0 1], [1 0]]\npi:\n[0 0]\n\n"
TOPO = "topological_sort:\nA: [[0]], initial_trace: [0], 0\ntrace | topo, topo_head:\n[0], 0 | [0], 0\n\n"
TRACED = "binary_search:\nkey: [0.1 0.2], target: 0.3, initial_trace: (0, 1)\ntrace | (low, high):\n | (1, 1)\n\n"


@pytest.mark.parametrize("text", [BFS, TRACED, TOPO])
def test_texts_by_hand_are_read(text: str) -> None:
    parsed = parse(text)
    assert parsed.prompt + parsed.answer == text


@pytest.mark.parametrize(
    ("text", "old", "new"),
    [
        (BFS, "\n\n", "\n"),
        (BFS, "\n\n", "\n\n\n"),
        (BFS, "[1 0]]", "[1]]"),
        (BFS, "[1 0]]", "[1 0]"),
        (BFS, "[1 0]", "[1  0]"),
        (BFS, "[1 0]", "[01 0]"),
        (BFS, "[0 0]\n", "[0 x]\n"),
        (BFS, "[0 0]\n", "\n"),
        (BFS, "pi:", "i:"),
        (BFS, "s: 0, ", ""),
        (BFS, "s: 0", "t: 0"),
        (BFS, "pi:\n", ""),
        (TOPO, ", 0 |", " |"),
        (TOPO, ", 0\n\n", "\n\n"),
        (TRACED, "(0, 1)", "(0, 1, 1)"),
        (TRACED, "(0, 1)", "0, 1"),
        (TRACED, "(low, high)", "(high, low)"),
        (TRACED, "trace | ", ""),
        (TRACED, "(low, high)", "(return)"),
    ],
)
def test_what_is_no_text_is_refused_in_one_line(text: str, old: str, new: str) -> None:
    assert old in text
    with pytest.raises(UserError, match=r"^expected a prompt of \w+ and its answer, given '.*'$"):
        parse(text.replace(old, new, 1))


def test_an_unknown_algorithm_is_refused_by_name() -> None:
    with pytest.raises(UserError, match=r"^unknown algorithm bogosort; known are"):
        parse(BFS.replace("bfs", "bogosort"))


@pytest.mark.parametrize("kept", ["first", "none"])
def test_a_trace_without_all_hints_is_refused(kept: Any) -> None:
    feedback = sample("bfs", num_nodes=5, num_samples=2, seed=0, hints=kept)
    with pytest.raises(UserError, match=r'expected all \d hints of bfs for its trace: draw with hints="all"'):
        render("bfs", feedback, hints=True)
    assert len(render("bfs", feedback, hints=False)) == 2


@pytest.mark.parametrize(
    ("answer", "truth", "expected"),
    [
        ("[1 2 3]\n\n", "[1 2 3]\n\n", (1, 1, 1, 1)),
        ("[1 2 4]\n\n", "[1 2 3]\n\n", (1, 1, 2 / 3, 0)),
        ("[1 2]\n\n", "[1 2 3]\n\n", (1, 0, 0, 0)),
        ("3\n\n", "[3]\n\n", (1, 0, 0, 0)),
        ("[1 2 3\n\n", "[1 2 3]\n\n", (0, 0, 0, 0)),
        ("[1 b 3]\n\n", "[1 2 3]\n\n", (0, 0, 0, 0)),
        ("[1, 2, 3]\n\n", "[1 2 3]\n\n", (0, 0, 0, 0)),
        ("", "3\n\n", (0, 0, 0, 0)),
        ("3", "3\n\n", (1, 1, 1, 1)),
        (" 3\n\n[what follows", "3\n\n", (1, 1, 1, 1)),
        ("[0.50 1.0]\n\n", "[0.5 1.0]\n\n", (1, 1, 1, 0)),
        ("[[1 2], [3 4]]\n\n", "[[1 0], [3 0]]\n\n", (1, 1, 0.5, 0)),
        ("[[1 2], [3]]\n\n", "[[1 2], [3 4]]\n\n", (1, 0, 0, 0)),
        ("[[1 2]]\n\n", "[1 2]\n\n", (1, 0, 0, 0)),
        ("[2 3 2 0], 0\n\n", "[2 3 2 0], 1\n\n", (1, 1, 0.8, 0)),
        ("[2 3 2 0]\n\n", "[2 3 2 0], 1\n\n", (1, 0, 0, 0)),
        ("0, 1, 2 | 2\n\n", "0, 2, 2 | 2\n\n", (1, 1, 1, 1)),
        (" | 2\n\n", "0 | 2\n\n", (1, 1, 1, 1)),
        ("2, 2\n\n", "2 | 2\n\n", (1, 0, 0, 0)),
        ("(0, 3) | (1, 2)\n\n", "(0, 1) | (1, 1)\n\n", (1, 1, 0.5, 0)),
        ("1, 1\n\n", "(0, 1) | (1, 1)\n\n", (1, 1, 1, 0)),
        ("(1, 1\n\n", "(0, 1) | (1, 1)\n\n", (0, 0, 0, 0)),
    ],
)
def test_scores_are_as_defined(answer: str, truth: str, expected: tuple[float, ...]) -> None:
    assert scores(answer, truth) == Scores(*expected)


@with_and_without_trace
@every_algorithm
def test_the_true_answer_has_full_scores(algorithm: str, hints: bool) -> None:
    feedback = sample(algorithm, num_nodes=5, num_samples=2, seed=0)
    for _, answer in render(algorithm, feedback, hints=hints):
        assert scores(answer, answer) == Scores(1, 1, 1, 1)


def test_a_truth_that_is_no_answer_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^expected the answer of a text as truth, given 'pi:'$"):
        scores("[1]", "pi:")
