"""Matrix chains, common subsequences and search trees, beside other computations and, on odd inputs, beside dm-clrs."""

from copy import deepcopy
from typing import Any

import numpy as np
import pytest
from engine import assert_equals_dm_clrs, by_hand

from nar.batch import Feedback, NumpyArray
from nar.datasets.clrs30.dynamic_programming import DIAGONAL, DYNAMIC_PROGRAMMING, LEFT
from nar.datasets.clrs30.samplers import CLRS_30
from nar.datasets.engine.algorithm import trajectories
from nar.errors import UserError
from nar.specs import MASKED

every_algorithm = pytest.mark.parametrize("name", DYNAMIC_PROGRAMMING)


def outcomes(name: str, num_nodes: int, num_samples: int = 4, **args: Any) -> Feedback[NumpyArray]:
    """Inputs and outputs of some random trajectories."""
    rng = np.random.RandomState(num_nodes)
    return trajectories(CLRS_30[name], num_nodes=num_nodes, num_samples=num_samples, rng=rng, hints="none", **args)


def least_chain_cost(p: NumpyArray) -> float:
    """Of multiplying all matrices of a chain, from shorter chains to longer ones."""
    n = len(p)
    cost = np.zeros((n, n))
    for length in range(1, n - 1):
        for i in range(1, n - length):
            j = i + length
            cost[i, j] = (cost[i, i:j] + cost[i + 1 : j + 1, j] + p[i - 1] * p[i:j] * p[j]).min()
    return float(cost[1, -1])


def chain_cost(p: NumpyArray, s: NumpyArray) -> float:
    """Of multiplying all matrices of a chain, split as `s` says."""
    chains, cost = [(1, len(p) - 1)], 0.0
    while chains:
        i, j = chains.pop()
        if i < j:
            k = int(s[i, j])
            assert i <= k < j
            cost += p[i - 1] * p[k] * p[j]
            chains += [(i, k), (k + 1, j)]
    return cost


@pytest.mark.slow
@pytest.mark.parametrize(("num_nodes", "num_samples"), [(2, 4), (3, 4), (16, 4), (64, 4), (200, 1)])
def test_chains_are_split_at_the_least_cost(num_nodes: int, num_samples: int) -> None:
    (inputs, _, _), outputs = outcomes("matrix_chain_order", num_nodes, num_samples)
    for p, s in zip(inputs["p"], outputs["s"], strict=True):
        assert chain_cost(p, s) == pytest.approx(least_chain_cost(p))


def test_the_chain_of_the_textbook_is_split_as_in_the_textbook() -> None:
    s = by_hand("matrix_chain_order", np.array([30.0, 35.0, 15.0, 5.0, 10.0, 20.0, 25.0])).outputs["s"][0]
    assert s[1, 2:].tolist() == [1, 1, 3, 3, 3]
    assert s[2, 3:].tolist() == [2, 3, 3, 3]


def common_length(x: NumpyArray, y: NumpyArray) -> int:
    """The length of the longest common subsequence, one row of the table after another."""
    row = np.zeros(len(y) + 1, int)
    for character in x:
        extended = np.where(y == character, row[:-1] + 1, row[1:])
        row[1:] = np.maximum.accumulate(np.maximum(extended, row[1:]))
    return int(row[-1])


def matches(b: NumpyArray) -> list[tuple[int, int]]:
    """Which characters of two strings match, found by walking back from their ends."""
    (i, j), pairs = (np.array(b.shape) - 1).tolist(), []
    while i >= 0 and j >= 0:
        if b[i, j] == DIAGONAL:
            pairs.append((i, j))
        i, j = i - (b[i, j] != LEFT), j - (b[i, j] in (DIAGONAL, LEFT))
    return pairs


@pytest.mark.parametrize(
    ("num_nodes", "args"),
    [(2, {}), (3, {}), (16, {}), (100, {}), (512, {}), (7, {"length_2": 1}), (1, {"length_2": 9}), (40, {"chars": 2})],
)
def test_the_common_subsequence_is_one_and_the_longest(num_nodes: int, args: dict[str, int]) -> None:
    (inputs, _, _), outputs = outcomes("lcs_length", num_nodes, **args)
    for string, key, b in zip(inputs["string"], inputs["key"], outputs["b"], strict=True):
        x, y = key[string == 0], key[string == 1]
        pairs = matches(b[: len(x), len(x) :])
        assert all(x[i] == y[j] for i, j in pairs)
        assert len(pairs) == common_length(x, y)


def test_only_pairs_of_one_character_from_each_string_are_scored() -> None:
    b = outcomes("lcs_length", 7).outputs["b"]
    assert (b[:, :4, 4:] != MASKED).all()
    assert (b[:, 4:] == MASKED).all()
    assert (b[:, :, :4] == MASKED).all()


@pytest.mark.parametrize(("num_nodes", "length_2"), [(1, None), (0, 3), (3, 0)])
def test_an_empty_string_is_refused(num_nodes: int, length_2: int | None) -> None:
    with pytest.raises(UserError, match="at least one character"):
        outcomes("lcs_length", num_nodes, length_2=length_2)


def least_tree_cost(p: NumpyArray, q: NumpyArray) -> float:
    """The least expected number of comparisons of a search tree, from smaller trees to larger ones."""
    n = len(p)
    total = np.concatenate([[0.0], np.cumsum(p)])
    total_misses = np.concatenate([[0.0], np.cumsum(q)])
    cost = np.diag(q)
    for num_keys in range(1, n + 1):
        for i in range(n - num_keys + 1):
            j = i + num_keys
            weight = total[j] - total[i] + total_misses[j + 1] - total_misses[i]
            cost[i, j] = (cost[i, i:j] + cost[i + 1 : j + 1, j]).min() + weight
    return float(cost[0, n])


def tree_cost(p: NumpyArray, q: NumpyArray, root: NumpyArray) -> float:
    """The expected number of comparisons of the search tree with the given roots, from the depths of its nodes."""
    trees, cost = [(0, len(p), 1)], 0.0
    while trees:
        i, j, depth = trees.pop()
        if i == j:
            cost += depth * q[i]
        else:
            r = int(root[i, j])
            assert i <= r < j
            cost += depth * p[r]
            trees += [(i, r, depth + 1), (r + 1, j, depth + 1)]
    return cost


@pytest.mark.parametrize(("num_nodes", "num_samples"), [(2, 4), (3, 4), (16, 4), (100, 4), (512, 1)])
def test_the_search_tree_costs_the_least(num_nodes: int, num_samples: int) -> None:
    (inputs, _, _), outputs = outcomes("optimal_bst", num_nodes, num_samples)
    for p, q, root in zip(inputs["p"][:, :-1], inputs["q"], outputs["root"], strict=True):
        assert tree_cost(p, q, root) == pytest.approx(least_tree_cost(p, q))


def test_the_tree_of_the_textbook_has_the_roots_of_the_textbook() -> None:
    p, q = np.array([0.15, 0.10, 0.05, 0.10, 0.20]), np.array([0.05, 0.10, 0.05, 0.05, 0.05, 0.10])
    root = by_hand("optimal_bst", p, q).outputs["root"][0] + 1
    assert root[0, 1:].tolist() == [1, 1, 2, 2, 2]
    assert root[1, 2:].tolist() == [2, 2, 2, 4]


@pytest.mark.parametrize(
    "p",
    [
        *([0.0, 0.0], [1.0, 1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0, 0.0], [1.0, 0.0, 1.0, 0.0, 1.0, 1.0]),
        *([1e-200] * 5, [-1.0, 1.0, -1.0, 2.0, -2.0], [5.0, 4.0, 3.0, 2.0, 1.0]),
    ],
)
def test_odd_chains_equal_dm_clrs(clrs: Any, p: list[float]) -> None:
    assert_equals_dm_clrs(clrs, "matrix_chain_order", np.array(p))


@pytest.mark.parametrize(
    ("x", "y"),
    [
        *(([0], [0]), ([0], [1]), ([0], [1, 2, 0, 3]), ([1, 2, 0, 3], [0]), ([0, 0, 0], [0, 0, 0, 0])),
        *(([0, 1, 0, 1], [2, 3, 2, 3]), ([0, 1, 2, 3], [3, 2, 1, 0]), ([1, 2, 1, 3, 0, 1], [2, 3, 1, 0, 1, 0])),
    ],
)
def test_odd_strings_equal_dm_clrs(clrs: Any, x: list[int], y: list[int]) -> None:
    assert_equals_dm_clrs(clrs, "lcs_length", np.array(x), np.array(y))


@pytest.mark.parametrize(
    ("p", "q"),
    [
        *(([1.0], [0.0, 0.0]), ([0.0, 0.0], [0.0, 0.0, 0.0]), ([0.0, 0.0, 0.0], [1.0, 0.0, 0.0, 1.0])),
        *(([0.1] * 4, [0.1] * 5), ([0.25] * 4, [0.0] * 5), ([1e9, 1e10], [0.0, 0.0, 0.0])),
    ],
)
def test_odd_probabilities_equal_dm_clrs(clrs: Any, p: list[float], q: list[float]) -> None:
    assert_equals_dm_clrs(clrs, "optimal_bst", np.array(p), np.array(q))


@every_algorithm
def test_ties_equal_dm_clrs(clrs: Any, name: str) -> None:
    rng = np.random.RandomState(0)
    for size in [2, 3, 5, 7, 9]:
        numbers = rng.randint(0, 3, 2 * size + 1)
        first, second = numbers[:size], numbers[size:]
        data = {
            "matrix_chain_order": (first / 2,),
            "lcs_length": (first, second),
            "optimal_bst": (first / 9, second / 9),
        }
        assert_equals_dm_clrs(clrs, name, *data[name])


@every_algorithm
def test_the_data_stay_as_they_are(name: str) -> None:
    data = DYNAMIC_PROGRAMMING[name].draw(np.random.RandomState(0), 9)
    before = deepcopy(data)
    by_hand(name, *data)
    assert all(map(np.array_equal, data, before))
