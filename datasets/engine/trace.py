"""What an algorithm writes down while it runs, in compiled code as in plain Python."""
# Axes: T time.

import sys
from typing import Any, NamedTuple

import numpy as np
from numba import njit, types
from numba.core.extending import overload

from nar.batch import NumpyArray
from nar.specs import Type

DTYPES: dict[Type, Any] = {
    Type.SCALAR: np.float64,
    Type.MASK: np.int8,
    Type.MASK_ONE: np.int16,
    Type.CATEGORICAL: np.int8,
    Type.POINTER: np.int16,
    Type.PERMUTATION_POINTER: np.int16,
    Type.SHOULD_BE_PERMUTATION: np.int16,
}
"""The dtype of a probe's data, by the probe's type (see :class:`nar.specs.Type`)."""


class HintError(ValueError):
    """Values are no record of the hints: ``args`` are how many were given; or what one of them is, and which.

    What the hints are is not known here: the caller of the algorithm turns it into a message.
    """


class NoRoomError(MemoryError):
    """There are more hints than there can be room for."""


class Trace(NamedTuple):
    """The hints of one trajectory.

    Attributes:
        length: How many times hints were recorded, [1].
        buffers: What was recorded, as far as there is room, one array [T, ...] for each hint.
        most: How many times hints can be recorded: no room could be made for more.
    """

    length: NumpyArray
    buffers: tuple[NumpyArray, ...]
    most: int = sys.maxsize


def record(trace: Trace, *values: Any) -> None:
    """Write down the next value of every hint.

    Args:
        trace: What to write to.
        *values: One for each hint of the algorithm's spec, in its order; none if there are no hints, of which then only
            the number of steps is left to record. In compiled code choices are indices.

    Raises:
        HintError: If there are more or fewer values than hints, or compiled code gives one in another shape.
        NoRoomError: If hints were recorded as often as they can be.
    """
    time = trace.length[0]
    if time == trace.most:
        raise NoRoomError
    if len(values) != len(trace.buffers):
        raise HintError(len(values))
    for buffer, value in zip(trace.buffers, values, strict=True):
        if time < len(buffer):
            buffer[time] = value
    trace.length[0] += 1


@njit(cache=True)
def copy(source: NumpyArray, target: NumpyArray, which: int) -> None:
    """Copy a hint into an array of the same shape; many times faster than by assigning to all of a slice."""
    if source.shape != target.shape:
        raise HintError(source.shape, which)
    flat_source, flat_target = source.ravel(), target.ravel()
    for i in range(flat_source.size):
        flat_target[i] = flat_source[i]


@overload(record, strict=False)  # annotations are no part of what it compares
def _compiled_record(trace: Any, *values: Any) -> Any:
    """The function that numba compiles in place of :func:`record`, with a line for each hint.

    Numba calls this with the types of the arguments, once for each combination of them.
    """
    # Numba may give all values as one tuple.
    if len(values) == 1 and isinstance(values[0], types.BaseTuple):
        (values,) = values
    buffers = tuple(trace.types[1])
    if len(values) != len(buffers):
        raise HintError(len(values))
    # Buffers differ in type and number of axes, so that numba can compile no loop over them: the source of a function
    # without one is made for this very combination.
    lines = ["def record(trace, *values):", "    time = trace.length[0]"]
    lines += ["    if time == trace.most:", "        raise NoRoomError"]
    if buffers:
        lines += ["    if time < len(trace.buffers[0]):"]  # else hints are only counted
    for i, (value, buffer) in enumerate(zip(values, buffers, strict=True)):
        if (num_axes := getattr(value, "ndim", 0)) != buffer.ndim - 1:
            raise HintError(f"an array of {num_axes} axes" if num_axes else "a number", i)
        source, target = f"values[{i}]", f"trace.buffers[{i}][time]"
        lines.append(f"        copy({source}, {target}, {i})" if buffer.ndim > 1 else f"        {target} = {source}")
    lines.append("    trace.length[0] += 1")
    scope: dict[str, Any] = {"copy": copy, "NoRoomError": NoRoomError}
    exec("\n".join(lines), scope)
    return scope["record"]
