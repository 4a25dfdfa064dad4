"""What an algorithm is to this library, and how its trajectories are made."""
# Axes: B trajectories, N nodes, T time, C classes.

import inspect
import math
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, Literal, get_args

import numpy as np

from nar.batch import Features, Feedback, NumpyArray, size_of
from nar.datasets.engine.arguments import check_whole, shown
from nar.datasets.engine.checks import (
    CHECKED_DTYPE,
    check_name,
    check_rows,
    check_spec,
    check_tuple,
    run_checked,
    shape_of,
)
from nar.datasets.engine.fingerprint import code_of, digest, state_of
from nar.datasets.engine.memory import Memory
from nar.datasets.engine.trace import DTYPES, Trace
from nar.errors import UserError
from nar.specs import Spec, Stage, Type, at_stage

Hints = Literal["all", "first", "none"]


class Algorithm(ABC):
    """An algorithm to be learnt: its probes, its inputs, and how it runs. Subclass it for one of your own.

    What is drawn, recorded and returned is checked against the spec, and refused by name and value if it does not fit.

    Attributes:
        spec: Its probes by name. If there is an input ``pos``, positions of the nodes from 0 to 1 in ascending order,
            it is drawn at random for training, as the recipe has it.
        name: By which it is known in logs and files: that of its class if it does not say another.
        min_num_nodes: The smallest size that :meth:`draw` takes.
        is_checked: Whether what it says of its probes is checked.
    """

    spec: Spec
    name: str
    min_num_nodes: int = 2
    is_checked: bool = True
    _code: str | None = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.name = vars(cls).get("name", cls.__name__)
        cls._code = code_of(cls)  # now: files may change while a program runs, what they defined does not

    @abstractmethod
    def draw(self, rng: np.random.RandomState, num_nodes: int) -> tuple[Any, ...]:
        """What the algorithm is given: arrays and numbers, all drawn from `rng`."""

    @abstractmethod
    def inputs(self, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        """The values of the input probes, in the spec's order, for what was drawn."""

    @abstractmethod
    def run(self, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Run on what was drawn; the arguments are that and the trace.

        Call :func:`nar.datasets.record` with the trace and the values of all hints, in the spec's order, for the first
        time before the first step. A model takes as many steps as there are records after the first. May be compiled
        by numba.

        Returns:
            The values of the output probes, in the spec's order.
        """

    def fingerprint(self) -> str | None:
        """A digest of its code and its data, by which a cache tells it from others of its name.

        Data are its attributes, those of its class, and what methods use of the functions that they are defined in.
        None if it was defined where there is no file, as in an interactive session, or if an attribute is no number,
        text, list, dict or array: then nothing is kept of it.
        """
        return digest(self._code, state_of(self))


def check_algorithm(algorithm: Algorithm) -> None:
    """Raise a :class:`UserError` if no model can be made for its probes."""
    if algorithm.is_checked:
        with _naming(algorithm):
            check_name("algorithm", algorithm.name)
            check_spec(getattr(algorithm, "spec", None))
            check_whole("min_num_nodes", algorithm.min_num_nodes, at_least=1)


def check_hints(hints: Any) -> None:
    """Raise a :class:`UserError` if it does not say which hints to keep."""
    if not isinstance(hints, str) or hints not in get_args(Hints):
        raise UserError(f"expected hints to be one of {', '.join(get_args(Hints))}, given {shown(hints)}")


def trajectories(
    algorithm: Algorithm,
    *,
    num_nodes: int,
    num_samples: int,
    rng: np.random.RandomState,
    hints: Hints = "all",
    truncate_decimals: int | None = None,
    draw: Callable[..., tuple[Any, ...]] | None = None,
    **args: Any,
) -> Feedback[NumpyArray]:
    """Trajectories on random inputs, as compact as :class:`nar.specs.Type` says.

    Args:
        algorithm: What to run.
        num_nodes: The size asked of `algorithm.draw`.
        num_samples: B.
        rng: Draws the inputs, one trajectory's after another's.
        hints: Which hints to keep; the lengths are those of all hints in any case.
        truncate_decimals: To how many decimals to cut floating-point data; None or 0 for not at all.
        draw: What to draw with in place of `algorithm.draw`.
        **args: For what draws.

    Returns:
        Inputs and outputs [B, ...], hints [T, B, ...] padded with zeros, lengths [B].

    Raises:
        UserError: If the trajectories would not fit into memory, or a probe breaks its type.
    """
    with Memory(num_samples, f"of {algorithm.name} on {num_nodes} nodes") as memory:
        drawn, state, returned = (
            num_bytes(at_stage(algorithm.spec, stage), num_nodes) for stage in (Stage.INPUT, Stage.HINT, Stage.OUTPUT)
        )
        memory.take(  # inputs are there as they were drawn and as they are returned; to draw one takes as much again,
            2 * (num_samples + 1) * drawn + state + num_samples * returned,  # and to run takes what hints are made of
            f"on {num_nodes} nodes without hints",
            "smaller ones",
        )
        draw = draw or algorithm.draw
        if "truncate_decimals" in inspect.signature(draw).parameters:
            args["truncate_decimals"] = truncate_decimals  # for a draw that has to look at the data that are cut
        data = [draw(rng, num_nodes, **args) for _ in range(num_samples)]
        if algorithm.is_checked:
            with _naming(algorithm):
                for values in data:
                    check_tuple("what is drawn", values)
        if truncate_decimals:
            data = [tuple(truncated(value, truncate_decimals) for value in values) for values in data]
        inputs = _stacked(algorithm, Stage.INPUT, [algorithm.inputs(*values) for values in data])
        size = size_of(algorithm.spec, inputs)
        probes = at_stage(algorithm.spec, Stage.HINT)
        room = {"all": 0, "first": 1, "none": 0}[hints]
        instead = 'hints="first"' if hints == "all" else "smaller ones"
        buffers = _buffers(algorithm, size, room, num_samples, memory, instead)
        # A run is not gone on with for minutes if what it has recorded can never be kept.
        most = memory.most(num_samples * num_bytes(probes, size), size) if hints == "all" else sys.maxsize
        lengths, results = [], []
        for sample, values in enumerate(data):
            result, length = _run(algorithm, values, buffers, sample, size, most)
            if hints == "all" and length > room:
                # Trajectories are run once more only as long as they become longer.
                room = length if sample == 0 else length + length // 4
                grown = _buffers(algorithm, size, room, num_samples, memory, instead, besides=buffers)
                for buffer, larger in zip(buffers, grown, strict=True):
                    larger[:sample, : buffer.shape[1]] = buffer[:sample]
                buffers = grown
                result, length = _run(algorithm, values, buffers, sample, size, most)
            results.append(result)
            lengths.append(length)
        longest = min(room, max(lengths))
        by_name = {name: data[:, :longest].swapaxes(0, 1) for name, data in zip(probes, buffers, strict=True)}
        outputs = _stacked(algorithm, Stage.OUTPUT, results, size)
        return Feedback(Features(inputs, by_name if room else {}, np.array(lengths)), outputs)


def _run(
    algorithm: Algorithm, values: tuple[Any, ...], buffers: tuple[NumpyArray, ...], sample: int, size: int, most: int
) -> tuple[tuple[Any, ...], int]:
    """The outputs and the number of hints, of which those go into the buffers for which there is room."""
    own = tuple([buffer[sample] for buffer in buffers])
    if algorithm.is_checked:
        with _naming(algorithm):
            return run_checked(algorithm.run, values, at_stage(algorithm.spec, Stage.HINT), own, size, most)
    trace = Trace(np.zeros(1, np.int64), own, most)
    return algorithm.run(*values, trace), int(trace.length[0])


@contextmanager
def _naming(algorithm: Algorithm) -> Iterator[None]:
    """Put the algorithm's name before what is wrong with its probes."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{algorithm.name}: {error}") from error


@cache
def positions(num_nodes: int) -> NumpyArray:
    """Evenly spaced from 0 to 1, the latter excluded, [N]; always the same array."""
    array: NumpyArray = np.arange(num_nodes) / num_nodes
    array.flags.writeable = False
    return array


def truncated(value: Any, decimals: int) -> Any:
    """`value` without its further decimals, if it has any."""
    if isinstance(value, float) or (isinstance(value, np.ndarray) and value.dtype.kind == "f"):
        return np.trunc(value * 10**decimals) / 10**decimals
    return value


def _stacked(
    algorithm: Algorithm, stage: Stage, rows: list[tuple[Any, ...]], size: int | None = None
) -> dict[str, NumpyArray]:
    """The probes of one stage, from their values in each trajectory; `size` is N once it is known."""
    spec = at_stage(algorithm.spec, stage)
    if algorithm.is_checked:
        with _naming(algorithm):
            rows = check_rows(spec, stage, rows, size)
    columns = zip(*rows, strict=True)
    return {
        name: np.array(column, None if probe.type is Type.SCALAR else DTYPES[probe.type])
        for (name, probe), column in zip(spec.items(), columns, strict=True)
    }


def _buffers(
    algorithm: Algorithm,
    size: int,
    num_times: int,
    num_samples: int,
    memory: Memory,
    instead: str,
    besides: tuple[NumpyArray, ...] = (),
) -> tuple[NumpyArray, ...]:
    """Room for hints, [B, T, ...] each; while they are filled, the ones that they replace are there as well."""
    spec = at_stage(algorithm.spec, Stage.HINT)
    needed = num_samples * num_times * num_bytes(spec, size) + sum(buffer.nbytes for buffer in besides)
    if algorithm.is_checked:
        needed += num_times * sum(CHECKED_DTYPE.itemsize * math.prod(shape_of(probe, size)) for probe in spec.values())
    memory.take(needed, f"of {num_times} hints on {size} nodes", instead)
    return tuple(
        np.zeros((num_samples, num_times, *shape_of(probe, size)), DTYPES[probe.type]) for probe in spec.values()
    )


def num_bytes(spec: Spec, size: int) -> int:
    """The memory in bytes of one value of each probe, all together."""
    return sum(np.dtype(DTYPES[probe.type]).itemsize * math.prod(shape_of(probe, size)) for probe in spec.values())
