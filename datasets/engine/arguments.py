"""What a sampler can be asked for; all else is refused in one line before anything is drawn."""

import math
import reprlib
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from difflib import get_close_matches
from inspect import Parameter
from typing import Any

import numpy as np

from nar.errors import UserError

_SMALLEST_WEIGHT_PRODUCT = -1e-3
"""The smallest product of two weights of which :func:`nar.datasets.clrs30.graphs.weighted_both_ways` makes a number."""

_LARGEST_SEED = 2**32 - 1
LONGEST_NAME_SHOWN = 100
"""How many letters a name has at most that a message shows whole."""

_SHORT_REPR = reprlib.Repr()
_SHORT_REPR.maxstring = _SHORT_REPR.maxother = 60

MAX_NODES = 2**15 - 1
"""The largest number of nodes: pointers to nodes are kept in 16 bits."""

_LARGEST_BOUND = 1e100
"""The largest bound of numbers to draw, of which products and sums still are numbers."""

MAX_BATCH_SIZE, MAX_WORKERS = 10**6, 1024
"""The largest batch and the most workers: more would take all the memory there is before anything is refused."""

_LIMITS: Mapping[str, tuple[float, float]] = {
    "eps": (0, 1),
    "k": (1, math.inf),
    "max_deadline": (1, 2**53),  # a float holds it
    "chars": (1, 4),
    "collinearity_resampling_attempts": (1, 10**5),
    "length_needle": (-MAX_NODES, MAX_NODES),
    "length_2": (1, MAX_NODES),
    "truncate_decimals": (-100, 100),
    **dict.fromkeys(("origin_x", "origin_y", "radius"), (-_LARGEST_BOUND, _LARGEST_BOUND)),
}
"""The least and the most that some arguments of samplers can be."""


def check_arguments(known: Mapping[str, Parameter], args: Mapping[str, Any]) -> None:
    """Raise a :class:`UserError` unless each argument is what its parameter's annotation and :data:`_LIMITS` say."""
    for name, value in args.items():
        annotation, default = known[name].annotation, known[name].default
        if value is None and default is None:
            continue
        kind, (expected, fits) = next(item for item in _KINDS.items() if annotation in (item[0], item[0] | None))
        if not fits(value):
            raise UserError(f"expected {name} to be {expected}, given {shown(value)}")
        least, most = _LIMITS.get(name, (-math.inf, math.inf))
        if kind in (int, float) and not least <= value <= most:
            limits = f"in [{least}, {most}]" if most <= MAX_NODES else f"≥ {least}" if value < least else f"≤ {most}"
            raise UserError(f"expected {name} {limits}, given {shown(value)}")


def check_range(low: float, high: float, *, makes_segments: bool, makes_means: bool) -> None:
    """Raise a :class:`UserError` if nothing can be drawn from [low, high).

    Args:
        low: The least.
        high: The most.
        makes_segments: Whether points of segments are drawn, which cannot cross if all are the same.
        makes_means: Whether :func:`nar.datasets.clrs30.graphs.weighted_both_ways` takes geometric means of two.
    """
    if not math.isfinite(high - low):
        raise UserError(f"expected low and high at a finite distance, given {low} and {high}")
    if max(abs(low), abs(high)) > _LARGEST_BOUND:
        raise UserError(f"expected low and high from {-_LARGEST_BOUND:g} to {_LARGEST_BOUND:g}, given {low} and {high}")
    if makes_segments and low == high:
        raise UserError(f"expected low and high to differ, both are {low}")
    if makes_means and low * high < _SMALLEST_WEIGHT_PRODUCT:
        raise UserError(f"expected low and high not on both sides of 0 (no weight is negative), given {low} and {high}")


def is_whole(value: Any) -> bool:
    """Whether it is an integer, of Python or of NumPy, no larger than a float can be, and no truth value."""
    return isinstance(value, int | np.integer) and is_finite(value)


def is_finite(value: Any) -> bool:
    """Whether it is a number that a float can be, of Python or of NumPy, not infinite and no truth value."""
    if isinstance(value, int | np.integer):
        return not isinstance(value, bool) and abs(int(value)) <= sys.float_info.max
    return isinstance(value, float | np.floating) and math.isfinite(value)


def _is_probability(value: Any) -> bool:
    """Whether a value is a number from 0 to 1."""
    return is_finite(value) and 0 <= value <= 1


def _are_densities(value: Any) -> bool:
    """Whether it is a list, a tuple or an array of one or more probabilities."""
    return (
        isinstance(value, Sequence | np.ndarray)
        and np.ndim(value) == 1
        and len(value) > 0
        and all(map(_is_probability, value))
    )


_KINDS: Mapping[Any, tuple[str, Callable[[Any], bool]]] = {
    int: ("a whole number", is_whole),
    float: ("a finite number", is_finite),
    Sequence[float]: ("one or more densities from 0 to 1, such as (0.5,)", _are_densities),
}
"""The annotations in the signatures of samplers: what is expected, and whether a value is that."""


def check_seed(seed: Any) -> None:
    """Raise a :class:`UserError` if no random state can be made of it."""
    words = seed if isinstance(seed, Sequence) and not isinstance(seed, bytes | bytearray) else [seed]
    if len(words) == 0 or not all(is_whole(word) and 0 <= word <= _LARGEST_SEED for word in words):
        raise UserError(f"expected a seed from 0 to {_LARGEST_SEED}, or several, given {shown(seed)}")


def random_state(seed: int | Sequence[int]) -> np.random.RandomState:
    """NumPy's of a seed that was checked."""
    return np.random.RandomState(list(seed) if isinstance(seed, Sequence) else int(seed))


def check_named(name: str, args: Any) -> None:
    """Raise a :class:`UserError` unless they are arguments by name."""
    if not isinstance(args, Mapping) or not all(isinstance(key, str) for key in args):
        raise UserError(f"expected {name} by name, given {shown(args)}")


def check_whole(name: str, value: Any, *, at_least: int) -> None:
    """Raise a :class:`UserError` if it is no whole number of that size."""
    if not is_whole(value) or value < at_least:
        raise UserError(f"expected {name} to be a whole number of at least {at_least}, given {shown(value)}")


def check_between(name: str, value: float, least: float, most: float) -> None:
    """Raise a :class:`UserError` if it is less or more."""
    if not least <= value <= most:
        raise UserError(f"expected {name} {f'≥ {least}' if value < least else f'≤ {most}'}, given {value}")


def check_probability(name: str, value: Any) -> None:
    """Raise a :class:`UserError` if it is none."""
    if not _is_probability(value):
        raise UserError(f"expected {name} in [0, 1], given {shown(value)}")


def check_known(what: str, name: Any, known: Collection[str]) -> None:
    """Raise a :class:`UserError` that lists the known names, and says which is meant, if it is none of them."""
    if isinstance(name, str) and name in known:
        return
    is_word = isinstance(name, str) and name.isidentifier() and len(name) < LONGEST_NAME_SHOWN
    near = get_close_matches(name, known, n=1) if is_word else []
    meant = f"; did you mean {near[0]}?" if near else ""
    raise UserError(f"unknown {what} {name if is_word else shown(name)}; known are {', '.join(known)}{meant}")


def check_sizes(name: str, sizes: Any) -> list[int]:
    """One or more whole numbers as a list."""
    if not isinstance(sizes, Sequence | range) or not sizes or not all(map(is_whole, sizes)):
        raise UserError(f"expected at least one size in {name}, all whole numbers, given {shown(sizes)}")
    return [int(size) for size in sizes]


def plain(value: Any) -> Any:
    """A number or numbers of NumPy as Python's: narrow ones would overflow."""
    return value.tolist() if isinstance(value, np.generic | np.ndarray) else value


def shown(value: Any) -> str:
    """What a value is, in a few words of one line."""
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape} and type {value.dtype}"
    try:
        return " ".join(_SHORT_REPR.repr(value).split())
    except ValueError:  # of a number with thousands of digits
        return f"a very long {type(value).__name__}"
