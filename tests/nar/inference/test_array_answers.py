"""Answers on keys, intervals, strings, points and chains, of a model that knows the classical algorithm's."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from knowing import answer_of
from scipy.spatial import ConvexHull

SIZES = st.one_of(st.integers(2, 12), st.integers(13, 200))
SEEDS = st.integers(0, 10**6)
few_examples = settings(derandomize=True, deadline=None, max_examples=8)


def random_keys(size: int, seed: int) -> dict[str, float]:
    """Keys by name, of which some are equal and many outside of the range that models are trained on."""
    keys = np.random.RandomState(seed).randint(-size, size, size)
    return {f"key {number}": float(key) for number, key in enumerate(keys)}


@pytest.mark.parametrize("algorithm", ["insertion_sort", "bubble_sort", "heapsort", "quicksort"])
@few_examples
@given(size=SIZES, seed=SEEDS)
def test_keys_are_sorted_as_by_python(algorithm: str, size: int, seed: int) -> None:
    keys = random_keys(size, seed)
    answer = answer_of(algorithm, keys)
    assert answer.sorted == sorted(keys.values())
    assert sorted(answer.order) == sorted(keys)
    assert [keys[name] for name in answer.order] == answer.sorted
    assert answer.problem() == ""


@few_examples
@given(size=SIZES, seed=SEEDS)
def test_keys_are_found_as_by_numpy(size: int, seed: int) -> None:
    keys = random_keys(size, seed)
    ordered = sorted(keys.values())
    smallest, median = answer_of("minimum", keys), answer_of("quickselect", keys)
    assert smallest.value == keys[smallest.index] == ordered[0]
    assert median.value == keys[median.index] == ordered[size // 2]
    target = float(np.random.RandomState(seed).randint(-size, size))
    found = answer_of("binary_search", ordered, target=target)
    assert found.index == min(np.searchsorted(ordered, target), size - 1)
    for answer in (smallest, median, found):
        assert answer.problem() == ""


@few_examples
@given(size=SIZES, seed=SEEDS)
def test_a_maximum_subarray_has_the_largest_sum(size: int, seed: int) -> None:
    keys = np.random.RandomState(seed).randint(-9, 9, size)
    sums = np.concatenate([[0], keys.cumsum()])
    largest = max(sums[end] - sums[start] for start in range(size) for end in range(start + 1, size + 1))
    answer = answer_of("find_maximum_subarray_kadane", keys)
    assert answer.sum == largest == keys[answer.start : answer.end + 1].sum()
    assert answer.problem() == ""


@few_examples
@given(size=st.integers(2, 60), seed=SEEDS)
def test_selected_activities_and_tasks_can_be_done(size: int, seed: int) -> None:
    rng = np.random.RandomState(seed)
    start = rng.randint(0, 2 * size, size)
    times = np.stack([start, start + rng.randint(1, 9, size)], axis=1)
    activities = {f"activity {number}": tuple(pair) for number, pair in enumerate(times.tolist())}
    answer = answer_of("activity_selector", activities)
    last, number = -math.inf, 0
    for start, finish in sorted(activities.values(), key=lambda pair: (pair[1], pair[0])):
        if start >= last:
            last, number = finish, number + 1
    assert len(answer.selected) >= number
    assert answer.problem() == ""
    tasks = np.stack([rng.randint(1, 2 * size, size), rng.randint(1, 9, size)], axis=1)
    answer = answer_of("task_scheduling", tasks)
    assert answer.value == tasks[answer.selected, 1].sum()
    assert answer.problem() == ""


def cheapest_chain(dimensions: list[int]) -> int:
    """The number of multiplications of a chain of matrices, from the textbook's recursion."""
    n = len(dimensions) - 1
    cost = np.zeros((n, n), np.int64)
    for width in range(1, n):
        for i in range(n - width):
            j = i + width
            cost[i, j] = min(
                cost[i, k] + cost[k + 1, j] + dimensions[i] * dimensions[k + 1] * dimensions[j + 1] for k in range(i, j)
            )
    return int(cost[0, -1])


def multiplied(tree: Any, dimensions: dict[int, tuple[int, int]]) -> tuple[int, int, int]:
    """The rows and columns of a product of nested pairs, and what it costs."""
    if not isinstance(tree, tuple):
        return *dimensions[tree], 0
    (a, b, left), (c, d, right) = (multiplied(part, dimensions) for part in tree)
    assert b == c
    return a, d, left + right + a * b * d


@few_examples
@given(size=st.integers(3, 25), seed=SEEDS)
def test_a_chain_of_matrices_costs_the_least(size: int, seed: int) -> None:
    dimensions = np.random.RandomState(seed).randint(1, 50, size).tolist()
    answer = answer_of("matrix_chain_order", dimensions)
    shapes = {number + 1: (rows, dimensions[number + 1]) for number, rows in enumerate(dimensions[:-1])}
    assert answer.cost == cheapest_chain(dimensions) == multiplied(answer.order, shapes)[2]
    assert answer.problem() == ""


def test_matrices_have_the_names_that_they_are_given() -> None:
    answer = answer_of("matrix_chain_order", [10, 100, 5, 50], names=["A", "B", "C"])
    assert answer.order == (("A", "B"), "C")
    assert answer.cost == 7500


@few_examples
@given(size=st.integers(2, 25), seed=SEEDS)
def test_a_search_tree_costs_what_its_depths_say(size: int, seed: int) -> None:
    rng = np.random.RandomState(seed)
    p, q = rng.randint(0, 9, size).tolist(), rng.randint(1, 9, size + 1).tolist()
    answer = answer_of("optimal_bst", (p, q))
    visited: list[int] = []

    def cost(tree: Any, depth: int) -> int:
        if tree is None:
            return depth * q[len(visited)]
        left = cost(tree[0], depth + 1)
        visited.append(tree[1])
        return left + depth * p[tree[1]] + cost(tree[2], depth + 1)

    assert answer.cost == pytest.approx(cost(answer.tree, 1))
    assert visited == list(range(size))
    assert answer.root == answer.tree[1]
    assert answer.scale == sum(p) + sum(q)
    assert answer.problem() == ""


def longest_common(x: str, y: str) -> int:
    """The length of the longest common subsequence, from the textbook's recursion."""
    lengths = np.zeros((len(x) + 1, len(y) + 1), np.int64)
    for i, a in enumerate(x):
        for j, b in enumerate(y):
            lengths[i + 1, j + 1] = lengths[i, j] + 1 if a == b else max(lengths[i, j + 1], lengths[i + 1, j])
    return int(lengths[-1, -1])


@few_examples
@given(x=st.text("ACGT", min_size=1, max_size=40), y=st.text("ACGT", min_size=1, max_size=40))
def test_a_common_subsequence_is_in_both_and_longest(x: str, y: str) -> None:
    answer = answer_of("lcs_length", (x, y))
    assert isinstance(answer.subsequence, str)
    assert len(answer.subsequence) == longest_common(x, y)
    assert answer.subsequence == "".join(x[i] for i, _ in answer.pairs) == "".join(y[j] for _, j in answer.pairs)
    assert answer.pairs == sorted(answer.pairs)
    assert answer.problem() == ""


@pytest.mark.parametrize("algorithm", ["naive_string_matcher", "kmp_matcher"])
@few_examples
@given(haystack=st.text("ab", min_size=3, max_size=60), needle=st.text("ab", min_size=1, max_size=3))
def test_a_needle_is_found_as_by_python(algorithm: str, haystack: str, needle: str) -> None:
    found = haystack.find(needle)
    for answer in (answer_of(algorithm, (haystack, needle)), answer_of(algorithm, haystack, needle=needle)):
        assert answer.match == (None if found < 0 else found)
        assert answer.problem() == ""


@pytest.mark.parametrize("algorithm", ["graham_scan", "jarvis_march"])
@few_examples
@given(size=st.integers(3, 60), seed=SEEDS)
def test_hulls_are_scipys(algorithm: str, size: int, seed: int) -> None:
    points = np.random.RandomState(seed).uniform(-50, 80, (size, 2))
    answer = answer_of(algorithm, {f"p{number}": tuple(point) for number, point in enumerate(points)})
    theirs = [f"p{corner}" for corner in ConvexHull(points).vertices]  # counter-clockwise
    start = theirs.index(answer.hull[0])
    assert answer.hull == theirs[start:] + theirs[:start]
    assert points[int(answer.hull[0][1:]), 1] == points[:, 1].min()
    assert answer.problem() == ""


def test_segments_intersect_or_do_not() -> None:
    assert answer_of("segments_intersect", (((0, 0), (9, 9)), ((0, 9), (9, 0)))).intersect
    assert not answer_of("segments_intersect", [(0, 0), (9, 9), (0, 9), (1, 8)]).intersect


def set_to(name: str, *values: Any) -> Callable[[dict[str, Any]], None]:
    """What changes an output: pairs of a place and a value."""

    def change(outputs: dict[str, Any]) -> None:
        for place, value in values:
            outputs[name][place] = value

    return change


def both(first: str, second: str, value: int) -> Callable[[dict[str, Any]], None]:
    """What changes two outputs to the same value."""
    return lambda outputs: [outputs[name].fill(value) for name in (first, second)] and None


ALL = slice(None)
CROSS = (((0, 0), (9, 9)), ((0, 9), (9, 0)))
CORNERS = [(0, 0), (4, 0), (5, 4), (0, 5), (2, 1.9)]

ALSO_RIGHT: list[tuple[str, Any, dict[str, Any], Any]] = [
    ("insertion_sort", [2, 1, 1], {}, set_to("pred", (ALL, [1, 2, 2]))),
    ("minimum", [2, 1, 1], {}, set_to("min", ((), 2))),
    ("binary_search", [1, 1, 2], {"target": 1}, set_to("return", ((), 1))),
    ("find_maximum_subarray_kadane", [1, -1, 1], {}, both("start", "end", 2)),
    ("activity_selector", [(0, 2), (1, 2), (3, 4)], {}, set_to("selected", (0, 0), (1, 1))),
    ("task_scheduling", [(1, 5), (1, 5)], {}, set_to("selected", (ALL, [0, 1]))),
    ("matrix_chain_order", [2, 2, 2, 2], {}, set_to("s", ((1, 3), 2))),
    ("matrix_chain_order", [1, 2, 3, 4], {}, set_to("s", ((3, 1), 2))),  # which says nothing of the chain
    ("lcs_length", ("ab", "ba"), {}, set_to("b", ((1, 3), 2))),
]
"""Answers that are not the classical algorithm's and as good."""


@pytest.mark.parametrize(("algorithm", "data", "options", "change"), ALSO_RIGHT)
def test_an_answer_that_is_as_good_is_right(algorithm: str, data: Any, options: Any, change: Any) -> None:
    check = answer_of(algorithm, data, change, **options).check()
    assert check
    assert not check.same


WRONG: list[tuple[str, Any, dict[str, Any], Any, str]] = [
    ("heapsort", [2, 1, 3], {}, set_to("pred", (ALL, [2, 0, 2])), "3 comes before 2"),
    ("bubble_sort", [2, 1, 3, 4], {}, set_to("pred", (ALL, [1, 1, 3, 2])), "2 is not in the order"),
    ("quickselect", [2, 1, 3], {}, set_to("median", ((), 1)), "1 was found, and not 2"),
    ("find_maximum_subarray_kadane", [1, -5, 2], {}, set_to("start", ((), 0)), "its sum is -2, and the largest 2"),
    (
        "find_maximum_subarray_kadane",
        [1, -5, 2],
        {},
        set_to("end", ((), 0)),
        "it ends, at 0, before it begins, at 2",
    ),
    ("activity_selector", {"a": (0, 2), "b": (1, 3)}, {}, set_to("selected", (ALL, 1)), "'a' and 'b' overlap"),
    ("activity_selector", [(0, 2), (3, 4)], {}, set_to("selected", (0, 0)), "1 are selected, and 2 can be"),
    (
        "task_scheduling",
        [(1, 5), (1, 5)],
        {},
        set_to("selected", (ALL, 1)),
        "2 are selected that have to be done by 1, such as 1",
    ),
    ("task_scheduling", [(1, 7), (1, 5)], {}, set_to("selected", (ALL, [0, 1])), "they are worth 5, and others 7"),
    (
        "matrix_chain_order",
        [1, 2, 3, 4],
        {},
        set_to("s", ((1, 3), 1)),
        "it costs 32 multiplications, and the cheapest 18",
    ),
    ("matrix_chain_order", [1, 2, 3, 4], {}, set_to("s", ((1, 3), 3)), "a chain is split where it has no matrix"),
    ("optimal_bst", ([9, 1], [1, 1, 1]), {}, set_to("root", ((0, 2), 1)), "it costs 27, and the cheapest 19"),
    ("optimal_bst", ([9, 1], [1, 1, 1]), {}, set_to("root", ((0, 2), 2)), "the root of some keys is none of them"),
    ("lcs_length", ("ab", "ab"), {}, set_to("b", ((1, 3), 1)), "it has 1 letters, and the longest 2"),
    ("lcs_length", ("ab", "aa"), {}, set_to("b", ((1, 3), 0)), "'b' at 1 and 'a' at 1 are taken for the same letter"),
    ("kmp_matcher", ("abab", "ab"), {}, set_to("match", ((), 2)), "the needle is first found at 0, and not at 2"),
    ("kmp_matcher", ("aaa", "ab"), {}, set_to("match", ((), 1)), "the needle is first found nowhere, and not at 1"),
    ("segments_intersect", CROSS, {}, set_to("intersect", ((), 0)), "they do intersect"),
    ("graham_scan", CORNERS, {}, set_to("in_hull", (4, 1)), "4 is no corner of the hull"),
    ("jarvis_march", CORNERS, {}, set_to("in_hull", (0, 0)), "0 is a corner of the hull"),
]


@pytest.mark.parametrize(("algorithm", "data", "options", "change", "why"), WRONG)
def test_a_wrong_answer_is_wrong_for_a_reason(algorithm: str, data: Any, options: Any, change: Any, why: str) -> None:
    check = answer_of(algorithm, data, change, **options).check()
    assert not check
    assert check.why == why


def test_an_order_that_is_none_is_told_as_far_as_it_goes() -> None:
    answer = answer_of("insertion_sort", [2, 1, 3, 4], set_to("pred", (ALL, [1, 1, 3, 2])))
    assert answer.order == [1, 0]
    assert answer.sorted == [1, 2]
    chain = answer_of("matrix_chain_order", [1, 2, 3, 4], set_to("s", ((1, 3), 0)))
    assert chain.order is None
    assert math.isnan(chain.cost)
    assert answer_of("graham_scan", CORNERS, set_to("in_hull", (ALL, 0))).hull == []
