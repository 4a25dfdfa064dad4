"""The way back from the numbers that a model is given to a user's own, in which pages show them."""

from collections.abc import Mapping

from nar.datasets.clrs30.graphs import GRAPHS
from nar.inference.instances import Instance

_KEYS = ("insertion_sort", "bubble_sort", "heapsort", "quicksort", "minimum", "quickselect")

POWERS: Mapping[str, Mapping[str, int]] = {
    **{name: {"A": 1, "d": 1, "D": 1, "key": 1} for name in GRAPHS},
    **{name: {"key": 1} for name in _KEYS},
    "binary_search": {"key": 1, "target": 1},
    "find_maximum_subarray_kadane": {"key": 1, "best_sum": 1, "sum": 1},
    "activity_selector": {"s": 1, "f": 1},
    "task_scheduling": {"w": 1},
    "matrix_chain_order": {"p": 1, "m": 3},  # a cost is a sum of products of three dimensions
    "optimal_bst": {"p": 1, "q": 1, "e": 1, "w": 1},
    "segments_intersect": {"x": 1, "y": 1, "dir": 2},  # a direction is a product of two differences
    "graham_scan": {"x": 1, "y": 1},
    "jarvis_march": {"x": 1, "y": 1},
}
"""By what power of an instance's scale each of an algorithm's scalars was divided; of others nothing was changed."""


def units_of(instance: Instance) -> dict[str, tuple[float, float]]:
    """By probe name, the factor and what is then added that make a user's numbers of those that a model is given.

    Nothing of scalars that are the same, such as positions and ranks.
    """
    xy = instance.shift if isinstance(instance.shift, tuple) else (instance.shift, instance.shift)
    units = {
        name: (float(instance.scale**power), xy[name == "y"] if power == 1 else 0.0)
        for name, power in POWERS.get(instance.algorithm.name, {}).items()
    }
    return {name: unit for name, unit in units.items() if unit != (1.0, 0.0)}
