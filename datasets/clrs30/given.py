"""Whether inputs of a user's own are what an algorithm of CLRS-30 takes: compiled code reads and writes without a look.

Every algorithm has a function, ``take`` in its record, that is made of the checks here.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from inspect import Parameter, signature
from typing import Any

import numpy as np

from nar.batch import NumpyArray
from nar.datasets.clrs30.known import KnownAlgorithm
from nar.datasets.engine.arguments import is_finite, is_whole, shown
from nar.errors import UserError

SMALLEST, _LARGEST = 1e-100, 1e100
"""The bounds of the size of a number that is not 0: products and sums of such numbers neither overflow nor vanish."""

LARGEST_EXACT = 2**53 - 1
"""The largest whole number up to which floats tell every whole number from the next."""

FAR = 1e9
"""What the algorithms that keep a queue add to the key of a node that is not in it: all keys have to be below."""

NUM_LETTERS = 4


def check_given(algorithm: KnownAlgorithm, given: Sequence[Any], num_nodes: int) -> list[tuple[Any, ...]]:
    """What an algorithm of CLRS-30 is given, in the form that its ``draw`` gives it.

    Args:
        algorithm: What is to run.
        given: Its arguments for each trajectory.
        num_nodes: The size of all of them, as the sampler would be asked for it.

    Raises:
        UserError: If one is not what the algorithm takes; the message names it.
    """
    parameters = signature(algorithm.take).parameters.items()
    names = [name for name, parameter in parameters if parameter.kind is Parameter.POSITIONAL_OR_KEYWORD][1:]
    taken = []
    for number, values in enumerate(given):
        try:
            if not isinstance(values, tuple | list) or len(values) != len(names):
                raise UserError(f"expected a tuple of {' and '.join(names)}, given {shown(values)}")
            taken.append(algorithm.take(num_nodes, *values))
        except UserError as error:
            raise UserError(f"{algorithm.name}, input {number}: {error}") from error
    return taken


def array_of(name: str, value: Any, shape: tuple[int, ...]) -> NumpyArray:
    """The value as an array of floats of its own, all of them finite."""
    try:
        array = np.asarray(value)
    except Exception:  # of lists of different lengths, and whatever an object says that is asked for its numbers
        array = np.asarray(None)
    if array.dtype.kind not in "biuf":
        raise UserError(f"expected numbers in {name}, given {shown(value)}")
    if array.shape != shape:
        raise UserError(f"expected {name} in shape {shape}, given {array.shape}")
    with np.errstate(all="ignore"):  # what is lost of longer types is looked at
        floats = np.array(array, np.float64, order="C")
        size = np.abs(floats)
    fits = (floats == 0) | (size >= SMALLEST) & (size <= _LARGEST)
    if array.dtype.kind in "iu":
        fits &= size <= LARGEST_EXACT
    if not fits.all():
        most = f"{_LARGEST:g}" if array.dtype.kind == "f" else LARGEST_EXACT
        raise UserError(f"expected 0 or a size from {SMALLEST:g} to {most} in {name}, given {array[~fits].flat[0]}")
    return floats


def within(
    name: str, value: Any, shape: tuple[int, ...], least: float, most: float = _LARGEST, *, is_whole: bool = False
) -> NumpyArray:
    """The value as an array of numbers in [least, most]; of int64 if they are to be whole."""
    array = array_of(name, value, shape)
    fits = (array >= least) & (array <= most)
    if is_whole:
        fits &= array == np.floor(array)
    if not fits.all():
        limits = f"from {least:g} to {most:g}" if most < _LARGEST else f"of at least {least:g}"
        raise UserError(f"expected {'whole ' * is_whole}numbers {limits} in {name}, given {array[~fits].flat[0]}")
    return array.astype(np.int64) if is_whole else array


def one_number(name: str, value: Any) -> float:
    """The value as a float."""
    if not is_finite(value) and getattr(value, "shape", None) != ():
        raise UserError(f"expected {name} to be a finite number, given {shown(value)}")
    return float(array_of(name, value, ()))


def _length_of(name: str, value: Any) -> int:
    """How many entries there are of what has to be a list or an array."""
    try:
        return len(value)
    except TypeError as error:
        raise UserError(f"expected {name} to be a list or an array, given {shown(value)}") from error


def take_two_strings(
    num_nodes: int, x: Any, y: Any, *, names: tuple[str, str] = ("x", "y")
) -> tuple[NumpyArray, NumpyArray]:
    """Two strings of one letter or more, of `num_nodes` letters together."""
    n, m = _length_of(names[0], x), _length_of(names[1], y)
    if min(n, m) < 1 or n + m != num_nodes:
        both = " and ".join(names)
        raise UserError(f"expected {num_nodes} letters in {both} together, one or more in each, given {n} and {m}")
    letters = partial(within, least=0, most=NUM_LETTERS - 1, is_whole=True)
    return letters(names[0], x, (n,)), letters(names[1], y, (m,))


def two_strings(inputs: Mapping[str, Any]) -> tuple[NumpyArray, NumpyArray]:
    """Two strings, by the inputs that are made of them: the letters of both, and which of them are of the second."""
    letters, is_second = inputs["key"], inputs["string"]
    return letters[is_second == 0], letters[is_second == 1]


def check_node(name: str, value: Any, num_nodes: int) -> int:
    """The value as a node."""
    if not is_whole(value) or not 0 <= value < num_nodes:
        raise UserError(f"expected {name} to be a node from 0 to {num_nodes - 1}, given {shown(value)}")
    return int(value)
