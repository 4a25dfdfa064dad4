"""What a sampler can be asked for; all else is refused in one line before anything is drawn."""

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from inspect import Parameter
from typing import Any

import numpy as np

from nar.errors import UserError

LEAST_PRODUCT = -1e-3
"""Of two weights, whose geometric mean is a number then (see :func:`nar.datasets.graphs.weighted_both_ways`)."""

MOST_OF_A_SEED = 2**32 - 1

LIMITS: Mapping[str, tuple[float, float]] = {
    "eps": (0, 1),
    "k": (1, math.inf),
    "max_deadline": (1, math.inf),
    "chars": (1, 4),
    "collinearity_resampling_attempts": (1, math.inf),
}
"""The least and the most that some arguments of samplers can be."""


def check_arguments(known: Mapping[str, Parameter], args: Mapping[str, Any]) -> None:
    """Raise a :class:`UserError` unless each argument is what its parameter's annotation and :data:`LIMITS` say."""
    for name, value in args.items():
        annotation, default = known[name].annotation, known[name].default
        if value is None and default is None:
            continue
        kind, (expected, fits) = next(item for item in KINDS.items() if annotation in (item[0], item[0] | None))
        if not fits(value):
            raise UserError(f"expected {name} to be {expected}, given {value!r}")
        least, most = LIMITS.get(name, (-math.inf, math.inf))
        if kind in (int, float) and not least <= value <= most:
            limits = f"in [{least}, {most}]" if most < math.inf else f"≥ {least}"
            raise UserError(f"expected {name} {limits}, given {value}")


def check_range(low: float, high: float, *, makes_segments: bool, makes_means: bool) -> None:
    """Raise a :class:`UserError` if nothing can be drawn from [low, high).

    Args:
        low: The least.
        high: The most.
        makes_segments: Whether points of segments are drawn, which cannot cross if all are the same.
        makes_means: Whether :func:`nar.datasets.graphs.weighted_both_ways` takes geometric means of two.
    """
    if not math.isfinite(high - low):
        raise UserError(f"expected low and high at a finite distance, given {low} and {high}")
    if makes_segments and low == high:
        raise UserError(f"expected low and high to differ, both are {low}")
    if makes_means and low * high < LEAST_PRODUCT:
        raise UserError(f"expected low and high not on both sides of 0 (no weight is negative), given {low} and {high}")


def is_whole(value: Any) -> bool:
    """Whether it is an integer, of Python or of NumPy, and no truth value."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def is_finite(value: Any) -> bool:
    """Whether it is a number that a float can be, of Python or of NumPy, not infinite and no truth value."""
    is_number = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    return is_number and abs(value) <= sys.float_info.max


def is_probability(value: Any) -> bool:
    """Whether it is a number from 0 to 1."""
    return is_finite(value) and 0 <= value <= 1


def are_densities(value: Any) -> bool:
    """Whether it is a list, a tuple or an array of one or more probabilities."""
    return isinstance(value, Sequence | np.ndarray) and len(value) > 0 and all(map(is_probability, value))


KINDS: Mapping[Any, tuple[str, Callable[[Any], bool]]] = {
    int: ("a whole number", is_whole),
    float: ("a finite number", is_finite),
    Sequence[float]: ("one or more densities from 0 to 1, such as (0.5,)", are_densities),
}
"""The annotations in the signatures of samplers: what is expected, and whether a value is that."""


def check_seed(seed: Any) -> None:
    """Raise a :class:`UserError` if no random state can be made of it."""
    words = seed if isinstance(seed, Sequence) else [seed]
    if len(words) == 0 or not all(is_whole(word) and 0 <= word <= MOST_OF_A_SEED for word in words):
        raise UserError(f"expected a seed from 0 to {MOST_OF_A_SEED}, or several, given {seed!r}")


def check_whole(name: str, value: Any, *, at_least: int) -> None:
    """Raise a :class:`UserError` if it is no whole number of that size."""
    if not is_whole(value) or value < at_least:
        raise UserError(f"expected {name} to be a whole number of at least {at_least}, given {value!r}")


def check_probability(name: str, value: Any) -> None:
    """Raise a :class:`UserError` if it is none."""
    if not is_probability(value):
        raise UserError(f"expected {name} in [0, 1], given {value!r}")
