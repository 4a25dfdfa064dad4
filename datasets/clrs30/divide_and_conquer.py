"""Divide and conquer: the maximum subarray, by Kadane's algorithm.

Source: Bentley, "Programming pearls: algorithm design techniques", 1984;
``clrs/_src/algorithms/divide_and_conquer.py`` of dm-clrs 2.0.3, whose probes these are.
"""

from functools import partial

import numpy as np
from numba import njit

from nar.batch import NumpyArray
from nar.datasets.clrs30.known import InText, KnownAlgorithm, table
from nar.datasets.clrs30.sorting import draw_keys, key_inputs, sequence, take_keys
from nar.datasets.engine.trace import Trace, record


@njit(cache=True)
def find_maximum_subarray_kadane(keys: NumpyArray, trace: Trace) -> tuple[int, int]:
    """Keep the best subarray that ends at j, from i on: that of j - 1 continued, or key j alone if that is more."""
    pred = sequence(np.arange(len(keys)))
    i = best_low = best_high = 0
    total = best_sum = keys[0]
    record(trace, pred, best_low, best_high, best_sum, i, 0, total)
    for j in range(1, len(keys)):
        if total + keys[j] >= keys[j]:
            total += keys[j]
        else:
            i = j
            total = keys[j]
        if total > best_sum:
            best_low, best_high, best_sum = i, j, total
        record(trace, pred, best_low, best_high, best_sum, i, j, total)
    return best_low, best_high


DIVIDE_AND_CONQUER = table(
    KnownAlgorithm(
        "find_maximum_subarray_kadane",
        partial(draw_keys, low=-1.0),
        key_inputs,
        find_maximum_subarray_kadane,
        take_keys,
        InText(31, 64, traced=("best_low", "best_high"), ends_with_hints=True, in_parentheses=True),
        samples_multiplier=32,
    )
)
