"""Laws that hold of an algorithm on whatever it is given, beside NumPy, networkx and dm-clrs, on small odd inputs."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from engine import assert_equals_dm_clrs, by_hand, order
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import ACYCLIC, CHECKS, DIRECTED, FROM_A_SOURCE, UNWEIGHTED

from nar.batch import NumpyArray
from nar.datasets.clrs30.divide_and_conquer import DIVIDE_AND_CONQUER
from nar.datasets.clrs30.dynamic_programming import DYNAMIC_PROGRAMMING
from nar.datasets.clrs30.graphs import GRAPHS
from nar.datasets.clrs30.greedy import GREEDY
from nar.datasets.clrs30.searching import SEARCHING
from nar.datasets.clrs30.sorting import SORTING
from nar.datasets.clrs30.strings import STRINGS

few = settings(derandomize=True, deadline=None, max_examples=60, database=None)

# Few values, so that there are ties; zeros of both signs; and others far apart.
numbers = st.sampled_from([0.0, -0.0, 0.5, 1.0, -1.0, 3.0, 1e-300, 1e300])
weights = st.sampled_from([0.0, 0.0, 0.25, 0.5, 1.0, 1.0])


def arrays(least: int = 1) -> st.SearchStrategy[NumpyArray]:
    """Of numbers."""
    return st.lists(numbers, min_size=least, max_size=9).map(np.array)


@st.composite
def graphs_for(draw: Callable[..., Any], name: str, least: int = 1) -> tuple[Any, ...]:
    """What a graph algorithm is given: a graph of its kind, with loops and equal weights, and any source."""
    n = draw(st.integers(least, 6))
    A = np.array(draw(st.lists(weights, min_size=n * n, max_size=n * n))).reshape(n, n)
    if name in ACYCLIC:
        order = np.array(draw(st.permutations(range(n))))
        A = np.triu(A, 1)[order][:, order]
    elif name not in DIRECTED:
        A = np.maximum(A, A.T)
    A = (A > 0).astype(np.int64) if name in UNWEIGHTED else A
    return (A, draw(st.integers(0, n - 1))) if name in FROM_A_SOURCE else (A,)


@st.composite
def data_for(draw: Callable[..., Any], name: str) -> tuple[Any, ...]:
    """What any algorithm but those of geometry is given, on two nodes or more: dm-clrs has no axis of a single one."""
    if name in GRAPHS:
        return draw(graphs_for(name, least=2))  # type: ignore[no-any-return]
    keys = draw(arrays(least=2))
    n = len(keys)

    def letters(least: int, most: int) -> NumpyArray:
        return np.array(draw(st.lists(st.integers(0, 3), min_size=least, max_size=most)))

    match name:
        case "binary_search":
            return draw(numbers), np.sort(keys)
        case "activity_selector":
            others = np.array(draw(st.lists(numbers, min_size=n, max_size=n)))
            return np.minimum(keys, others), np.maximum(keys, others)
        case "task_scheduling":
            return np.array(draw(st.lists(st.integers(1, 9), min_size=n, max_size=n))), keys
        case "matrix_chain_order":
            return (np.array(draw(st.lists(weights, min_size=2, max_size=6))),)
        case "optimal_bst":
            n = draw(st.integers(1, 5))
            return tuple(np.array(draw(st.lists(weights, min_size=m, max_size=m))) for m in (n, n + 1))
        case "lcs_length":
            return letters(1, 5), letters(1, 5)
        case "naive_string_matcher" | "kmp_matcher":
            P = letters(1, 4)
            return np.concatenate([letters(1, 4), P]), P
        case _:
            return (keys[:20],)


FAMILIES = (SORTING, SEARCHING, DIVIDE_AND_CONQUER, GREEDY, DYNAMIC_PROGRAMMING, GRAPHS, STRINGS)
NAMES = [name for family in FAMILIES for name in family]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_whatever_is_given_every_probe_equals_dm_clrs(clrs: Any, name: str) -> None:
    @few
    @given(data_for(name))
    def check(data: tuple[Any, ...]) -> None:
        assert_equals_dm_clrs(clrs, name, *data)

    check()


@pytest.mark.parametrize("name", SORTING)
def test_all_keys_are_put_in_order(name: str) -> None:
    @few
    @given(arrays())
    def check(keys: NumpyArray) -> None:
        assert keys[order(by_hand(name, keys).outputs["pred"][0])].tolist() == np.sort(keys).tolist()

    check()


@pytest.mark.parametrize("name", ["insertion_sort", "bubble_sort"])
def test_equal_keys_stay_in_their_order(name: str) -> None:
    @few
    @given(arrays())
    def check(keys: NumpyArray) -> None:
        assert order(by_hand(name, keys).outputs["pred"][0]) == keys.argsort(kind="stable").tolist()

    check()


@few
@given(arrays())
def test_the_first_of_the_least_keys_is_found(keys: NumpyArray) -> None:
    assert by_hand("minimum", keys).outputs["min"] == [keys.argmin()]


@few
@given(numbers, arrays())
def test_the_first_key_not_below_the_target_is_found_or_the_last(target: float, keys: NumpyArray) -> None:
    keys.sort()
    found = min(np.searchsorted(keys, target), len(keys) - 1)
    assert by_hand("binary_search", target, keys).outputs["return"] == [found]


@few
@given(arrays())
def test_a_median_is_found(keys: NumpyArray) -> None:
    assert keys[by_hand("quickselect", keys).outputs["median"]] == np.sort(keys)[len(keys) // 2]


@pytest.mark.slow
@pytest.mark.parametrize("name", CHECKS)
def test_what_is_found_of_a_graph_is_right(name: str) -> None:
    few(given(graphs_for(name))(lambda data: CHECKS[name](*data)))()
