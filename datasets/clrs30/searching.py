"""Searching: minimum, binary search and quickselect.

Source: Cormen et al., "Introduction to Algorithms"; Hoare, "Algorithm 65: find", 1961;
``clrs/_src/algorithms/searching.py`` of dm-clrs 2.0.3, whose probes these are.
"""
# A holds the keys as they move, A_pos the node of each.

from collections.abc import Mapping
from typing import Any

import numpy as np
from numba import njit

from nar.batch import NumpyArray
from nar.datasets.clrs30.given import array_of, one_number
from nar.datasets.clrs30.known import InText, KnownAlgorithm, table
from nar.datasets.clrs30.sorting import draw_keys, key_inputs, sequence, swap, take_keys
from nar.datasets.engine.trace import Trace, record
from nar.errors import UserError


@njit(cache=True)
def minimum(keys: NumpyArray, trace: Trace) -> tuple[int]:
    """Look at one key after another and remember the smallest so far."""
    pred = sequence(np.arange(len(keys)))
    smallest = 0
    for i in range(len(keys)):
        if keys[smallest] > keys[i]:
            smallest = i
        record(trace, pred, smallest, i)
    return (smallest,)


def _draw_target_and_sorted_keys(
    rng: np.random.RandomState, num_nodes: int, *, low: float = 0.0, high: float = 1.0
) -> tuple[float, NumpyArray]:
    """A target and keys in order, all drawn uniformly from [low, high)."""
    numbers = rng.uniform(low, high, num_nodes + 1)
    return float(numbers[-1]), np.sort(numbers[:-1])


def _take_target_and_sorted_keys(num_nodes: int, target: Any, keys: Any) -> tuple[float, NumpyArray]:
    """A target and ascending keys."""
    keys = array_of("keys", keys, (num_nodes,))
    if (descents := np.flatnonzero(np.diff(keys) < 0)).size:
        i = descents[0]
        raise UserError(f"expected keys in ascending order, given {keys[i + 1]} after {keys[i]}")
    return one_number("target", target), keys


def _target_inputs(target: float, keys: NumpyArray) -> tuple[NumpyArray, NumpyArray, float]:
    """``pos``, ``key`` and ``target``."""
    return *key_inputs(keys), target


def _target_and_keys(inputs: Mapping[str, Any]) -> tuple[Any, Any]:
    """A target and keys, by the inputs that are made of them."""
    return inputs["target"], inputs["key"]


@njit(cache=True)
def binary_search(target: float, keys: NumpyArray, trace: Trace) -> tuple[int]:
    """Halve the range of sorted keys that may be the first not below the target; the last key if all are below it."""
    pred = sequence(np.arange(len(keys)))
    low, high = 0, len(keys) - 1
    mid = (low + high) // 2
    record(trace, pred, low, high, mid)
    while low < high:
        if target <= keys[mid]:
            high = mid
        else:
            low = mid + 1
        mid = (low + high) // 2
        record(trace, pred, low, high, mid)
    return (high,)


@njit(cache=True)
def quickselect(keys: NumpyArray, trace: Trace) -> tuple[int]:
    """Find the median: partition as quicksort does, but go on only on the side where the median is.

    Its last hint, the pivot, was added to dm-clrs in 2024 and is not in the published data.
    """
    n = len(keys)
    A, A_pos = keys.copy(), np.arange(n)
    p, r = 0, n - 1
    target = n // 2
    while True:
        q = partition(A, A_pos, p, r, target, trace)
        rank = q - p
        if target == rank:
            return (A_pos[q],)
        if target < rank:
            r = q - 1
        else:
            p = q + 1
            target -= rank + 1


@njit(cache=True)
def partition(A: NumpyArray, A_pos: NumpyArray, p: int, r: int, target: int, trace: Trace) -> int:
    """Put A[r] where it belongs in A[p:r + 1], and say where that is."""
    n = len(A)
    pivot = A[r]
    i = p - 1
    for j in range(p, r):
        if A[j] <= pivot:
            i += 1
            swap(A, A_pos, i, j)
        record(
            trace,
            sequence(A_pos),
            A_pos[p],
            A_pos[r],
            A_pos[i + 1],
            A_pos[j],
            (i + 1) / n,
            target / n,
            A_pos[r],
        )
    swap(A, A_pos, i + 1, r)
    record(
        trace,
        sequence(A_pos),
        A_pos[p],
        A_pos[r],
        A_pos[i + 1],
        A_pos[r],
        (i + 1 - p) / n,  # from here on, like the target, counted from p
        target / n,
        A_pos[i + 1],
    )
    return i + 1


SEARCHING = table(
    KnownAlgorithm("minimum", draw_keys, key_inputs, minimum, take_keys, InText(31, 64), samples_multiplier=64),
    KnownAlgorithm(
        "binary_search",
        _draw_target_and_sorted_keys,
        _target_inputs,
        binary_search,
        _take_target_and_sorted_keys,
        InText(*(31, 64), traced=("low", "high"), ends_with_hints=True, in_parentheses=True, given=_target_and_keys),
        samples_multiplier=64,
    ),
    KnownAlgorithm(
        "quickselect",
        draw_keys,
        key_inputs,
        quickselect,
        take_keys,
        InText(31, 64, traced=("pivot",), ends_with_hints=True),
        samples_multiplier=64,
        moves_nodes=True,
    ),
)
