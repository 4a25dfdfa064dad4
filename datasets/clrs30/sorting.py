"""Sorting: insertion sort, bubble sort, heapsort and quicksort.

Source: Cormen et al., "Introduction to Algorithms"; ``clrs/_src/algorithms/sorting.py`` of dm-clrs 2.0.3, whose probes
these are.
"""
# A holds the keys as they move, A_pos the node of each.

from typing import Any

import numpy as np
from numba import njit

from nar.batch import NumpyArray
from nar.datasets.clrs30.given import array_of
from nar.datasets.clrs30.known import InText, KnownAlgorithm, table
from nar.datasets.engine.algorithm import positions
from nar.datasets.engine.trace import Trace, record


def draw_keys(rng: np.random.RandomState, num_nodes: int, *, low: float = 0.0, high: float = 1.0) -> tuple[NumpyArray]:
    """Keys drawn uniformly from [low, high)."""
    return (rng.uniform(low, high, num_nodes),)


def take_keys(num_nodes: int, keys: Any) -> tuple[NumpyArray]:
    """Any keys."""
    return (array_of("keys", keys, (num_nodes,)),)


def key_inputs(keys: NumpyArray) -> tuple[NumpyArray, NumpyArray]:
    """``pos`` and ``key``."""
    return positions(len(keys)), keys


@njit(cache=True)
def sequence(order: NumpyArray) -> NumpyArray:
    """Each node's predecessor when nodes are in the given order; the first points at itself."""
    predecessors = np.arange(len(order))
    for i in range(1, len(order)):
        predecessors[order[i]] = order[i - 1]
    return predecessors


@njit(cache=True)
def insertion_sort(keys: NumpyArray, trace: Trace) -> tuple[NumpyArray]:
    """Insert one key after another into the sorted ones before it."""
    n = len(keys)
    A, A_pos = keys.copy(), np.arange(n)
    record(trace, sequence(A_pos), 0, 0)
    for j in range(1, n):
        key = A[j]
        i = j - 1
        while i >= 0 and A[i] > key:
            A[i + 1] = A[i]
            A_pos[i + 1] = A_pos[i]
            i -= 1
        A[i + 1] = key
        replaced = A_pos[i + 1]
        A_pos[i + 1] = j
        record(trace, sequence(A_pos), replaced, j)
    return (sequence(A_pos),)


@njit(cache=True)
def bubble_sort(keys: NumpyArray, trace: Trace) -> tuple[NumpyArray]:
    """Let the smallest of the keys left rise to the front, again and again."""
    n = len(keys)
    A, A_pos = keys.copy(), np.arange(n)
    record(trace, sequence(A_pos), 0, 0)
    for i in range(n - 1):
        for j in range(n - 1, i, -1):
            if A[j] < A[j - 1]:
                swap(A, A_pos, j, j - 1)
            record(trace, sequence(A_pos), A_pos[i], A_pos[j])
    return (sequence(A_pos),)


@njit(cache=True)
def swap(A: NumpyArray, A_pos: NumpyArray, i: int, j: int) -> None:
    """Exchange two keys and their nodes."""
    A[i], A[j] = A[j], A[i]
    A_pos[i], A_pos[j] = A_pos[j], A_pos[i]


@njit(cache=True)
def heapsort(keys: NumpyArray, trace: Trace) -> tuple[NumpyArray]:
    """Build a heap whose root is the largest key; then move the root to the end and mend the heap, again and again."""
    n = len(keys)
    A, A_pos = keys.copy(), np.arange(n)
    record(trace, sequence(A_pos), heap(A_pos, n), n - 1, n - 1, n - 1, n - 1, 0)
    for i in range(n - 1, -1, -1):
        _max_heapify(A, A_pos, i, n, i, 0, trace)
    for i in range(n - 1, 0, -1):
        swap(A, A_pos, 0, i)
        record(trace, sequence(A_pos), heap(A_pos, i), A_pos[0], A_pos[i], 0, A_pos[i - 1], 1)
        _max_heapify(A, A_pos, 0, i, i, 2, trace)
    return (sequence(A_pos),)


@njit(cache=True)
def heap(A_pos: NumpyArray, heap_size: int) -> NumpyArray:
    """Each node's parent in a heap; the root, and what is not in the heap, points at itself."""
    parents = np.arange(len(A_pos))
    for i in range(1, heap_size):
        parents[A_pos[i]] = A_pos[(i - 1) // 2]
    return parents


@njit(cache=True)
def _max_heapify(
    A: NumpyArray, A_pos: NumpyArray, i: int, heap_size: int, start: int, phase: int, trace: Trace
) -> None:
    """Let the key at i sink until none of its children is larger."""
    while True:
        left, right = 2 * i + 1, 2 * i + 2
        largest = left if left < heap_size and A[left] > A[i] else i
        if right < heap_size and A[right] > A[largest]:
            largest = right
        if largest != i:
            swap(A, A_pos, i, largest)
        record(
            trace,
            sequence(A_pos),
            heap(A_pos, heap_size),
            A_pos[start],
            A_pos[i],
            A_pos[largest],
            A_pos[heap_size - 1],
            phase,
        )
        if largest == i:
            return
        i = largest


@njit(cache=True)
def quicksort(keys: NumpyArray, trace: Trace) -> tuple[NumpyArray]:
    """Put smaller keys before a pivot and larger ones after it, then do the same on either side."""
    n = len(keys)
    A, A_pos = keys.copy(), np.arange(n)
    ranges = [(0, n - 1)]
    while ranges:
        p, r = ranges.pop()
        if p < r:
            q = partition(A, A_pos, p, r, trace)
            ranges.append((q + 1, r))
            ranges.append((p, q - 1))
    return (sequence(A_pos),)


@njit(cache=True)
def partition(A: NumpyArray, A_pos: NumpyArray, p: int, r: int, trace: Trace) -> int:
    """Put A[r] where it belongs in A[p:r + 1], and say where that is."""
    pivot = A[r]
    i = p - 1
    for j in range(p, r):
        if A[j] <= pivot:
            i += 1
            swap(A, A_pos, i, j)
        record(trace, sequence(A_pos), A_pos[p], A_pos[r], A_pos[i + 1], A_pos[j])
    swap(A, A_pos, i + 1, r)
    record(trace, sequence(A_pos), A_pos[p], A_pos[r], A_pos[i + 1], A_pos[r])
    return i + 1


SORTING = table(
    KnownAlgorithm(
        "insertion_sort", draw_keys, key_inputs, insertion_sort, take_keys, InText(31, 25), moves_nodes=True
    ),
    KnownAlgorithm("bubble_sort", draw_keys, key_inputs, bubble_sort, take_keys, InText(10, 11), moves_nodes=True),
    KnownAlgorithm("heapsort", draw_keys, key_inputs, heapsort, take_keys, InText(10, 11), moves_nodes=True),
    KnownAlgorithm("quicksort", draw_keys, key_inputs, quicksort, take_keys, InText(10, 12), moves_nodes=True),
)
