"""Whether what an algorithm of a user's own says of its probes is what their types allow."""
# Axes: N nodes, T time, C classes.

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from typing import Any

import numpy as np
from torch import nn

from nar.batch import NumpyArray
from nar.datasets.engine.arguments import LONGEST_NAME_SHOWN, shown
from nar.datasets.engine.trace import DTYPES, HintError, Trace
from nar.errors import UserError
from nar.specs import MASKED, Location, Probe, Spec, Stage, Type, at_stage

_POSITIONS = "pos"
_MAX_CLASSES = int(np.iinfo(DTYPES[Type.CATEGORICAL]).max)
CHECKED_DTYPE = np.dtype(np.float64)
"""The type that hints are checked in: compiled code does not check what it writes, but floats hold all of it."""
_NAMES_IN_MODULES = frozenset(dir(nn.ModuleDict()))
_LONGEST_VALUE_SHOWN = 200
"""How many letters of a value a message shows at most."""
_NAMES_OF_SCORES = ("score", "loss")


def check_spec(spec: Any) -> None:
    """Raise a :class:`UserError` that names the first probe that no model can be made for."""
    if not isinstance(spec, Mapping):
        raise UserError(f"expected a spec, a dict of probes by name, given {shown(spec)}")
    for name, probe in spec.items():
        check_name("probe", name)
        _check_probe(name, probe)
        if f"{name}_mask" in spec and probe.type is Type.SHOULD_BE_PERMUTATION:
            raise UserError(f"expected another name for the probe {name}_mask: it is that of the first node of {name}")
    inputs = at_stage(spec, Stage.INPUT).values()
    if not any(shape_of(probe, 1) for probe in inputs):
        raise UserError("expected an input probe with a value for each node or edge, given none")
    if not at_stage(spec, Stage.OUTPUT):
        raise UserError("expected an output probe, given none")


def check_name(what: str, name: Any) -> None:
    """Raise a :class:`UserError` if a module of PyTorch cannot have a part of this name."""
    if not isinstance(name, str) or not name.isidentifier() or name in _NAMES_IN_MODULES:
        name = name if isinstance(name, str) and len(name) < LONGEST_NAME_SHOWN else shown(name)
        raise UserError(f"expected another name for the {what} {name}: letters, digits and _, and none of PyTorch's")


def _check_probe(name: str, probe: Any) -> None:
    kinds = (Stage, Location, Type, int)
    if not isinstance(probe, Probe) or not all(map(isinstance, probe, kinds)):
        raise UserError(f"expected {name} to be a Probe of a Stage, a Location and a Type, given {shown(probe)}")
    stage, location, type_, num_classes = probe
    if type_ is Type.CATEGORICAL and not 2 <= num_classes <= _MAX_CLASSES:
        raise UserError(f"expected from 2 to {_MAX_CLASSES} classes of the categorical {name}, given {num_classes}")
    if type_ is not Type.CATEGORICAL and num_classes != 0:
        raise UserError(f"expected no classes of the {type_} {name}, given {num_classes}")
    if type_ is Type.PERMUTATION_POINTER:
        raise UserError(f"expected the type should_be_permutation, of which the recipe makes {type_}, of {name}")
    if type_ is Type.SHOULD_BE_PERMUTATION and (stage, location) != (Stage.OUTPUT, Location.NODE):
        raise UserError(f"expected the {type_} {name} to be an output of nodes, given {stage} of {location}")
    if type_ is Type.MASK_ONE and location is not Location.NODE:
        raise UserError(f"expected the {type_} {name} to be of nodes, given {location}; the graph has pointers")
    if name == _POSITIONS and (stage, location, type_) != (Stage.INPUT, Location.NODE, Type.SCALAR):
        raise UserError(f"expected {name}, the positions, to be an input node scalar, given {stage} {location} {type_}")
    if name in _NAMES_OF_SCORES and stage is Stage.OUTPUT:
        raise UserError(f"expected another name for the output {name}: it is that of all outputs together")


class _CheckedBuffer(np.ndarray[Any, np.dtype[Any]]):
    """A buffer of a trace that takes from plain Python only what its probe allows.

    Compiled code sees an ordinary array: what it wrote is checked afterwards (:func:`_check_data`).
    """

    name: str
    probe: Probe
    num_nodes: int

    @classmethod
    def of(cls, buffer: NumpyArray, name: str, probe: Probe, num_nodes: int) -> "_CheckedBuffer":
        """The buffer itself, which checks from now on."""
        checked = buffer.view(cls)
        checked.name, checked.probe, checked.num_nodes = name, probe, num_nodes
        return checked

    def __setitem__(self, time: Any, value: Any) -> None:
        self.view(np.ndarray)[time] = _compact_value(self.name, self.probe, value, self.num_nodes)


def shape_of(probe: Probe, num_nodes: int) -> tuple[int, ...]:
    """The shape of a probe's data in one graph."""
    if probe.type is Type.MASK_ONE:
        return ()
    return {Location.NODE: (num_nodes,), Location.EDGE: (num_nodes, num_nodes), Location.GRAPH: ()}[probe.location]


def run_checked(
    run: Callable[..., Any],
    data: tuple[Any, ...],
    spec: Spec,
    buffers: tuple[NumpyArray, ...],
    num_nodes: int,
    most: int,
) -> tuple[Any, int]:
    """Run an algorithm on a copy of its data.

    Args:
        run: The algorithm's method.
        data: What it is given besides the trace.
        spec: Its hints.
        buffers: What to write them to, [T, ...] each.
        num_nodes: N.
        most: How many times they can be recorded.

    Returns:
        What `run` returns, and how many times it recorded hints; at least 1 if there are none to record.

    Raises:
        UserError: If a hint breaks its type.
    """
    written = [np.zeros(buffer.shape, CHECKED_DTYPE) for buffer in buffers]
    checked = [
        _CheckedBuffer.of(buffer, name, probe, num_nodes)
        for buffer, (name, probe) in zip(written, spec.items(), strict=True)
    ]
    trace = Trace(np.zeros(1, np.int64), tuple(checked), most)
    try:
        result = run(*deepcopy(data), trace)
    except HintError as error:
        given, *which = error.args
        if which:
            name = list(spec)[which[0]]
            raise _wrong_shape(name, spec[name], num_nodes, given) from error
        raise UserError(f"expected the hints {_list(spec)} to be recorded, given {given} values") from error
    length = int(trace.length[0])
    if spec and length == 0:
        raise UserError(f"expected the hints {_list(spec)} to be recorded at least once, given none")
    for (name, probe), source, target in zip(spec.items(), written, buffers, strict=True):
        _check_data(name, probe, source[:length], num_nodes)
        target[:] = source
    return result, max(length, 1)


def check_rows(
    spec: Spec, stage: Stage, rows: Sequence[Any], num_nodes: int | None = None
) -> list[tuple[NumpyArray, ...]]:
    """The values of the input or output probes of several trajectories, in the form of the data.

    Args:
        spec: The probes.
        stage: The stage of the probes.
        rows: Their values in each trajectory, in order.
        num_nodes: N; if not given, as many as the first trajectory has.

    Raises:
        UserError: If a value is missing or too many, or breaks its probe's type.
    """
    checked = []
    for row in rows:
        check_tuple(f"the {stage} probes {_list(spec)}", row)
        if len(row) != len(spec):
            raise UserError(f"expected the {stage} probes {_list(spec)}, given {len(row)} values")
        values = {name: _array(name, value) for name, value in zip(spec, row, strict=True)}
        if num_nodes is None:
            name = next(name for name, probe in spec.items() if shape_of(probe, 1))
            first = values[name]
            if first.size == 0 or first.ndim == 0:
                raise UserError(f"expected a value for every {spec[name].location} in {name}, given {first.tolist()}")
            num_nodes = len(first)
        compact = {name: _compact_value(name, spec[name], value, num_nodes) for name, value in values.items()}
        if stage is Stage.INPUT and _POSITIONS in compact:
            _check_positions(compact[_POSITIONS])
        checked.append(tuple(compact.values()))
    return checked


def check_tuple(what: str, value: Any) -> None:
    """Raise a :class:`UserError` if it is something else."""
    if not isinstance(value, tuple):
        raise UserError(f"expected a tuple of {what}, given {type(value).__name__}")


def _list(spec: Spec) -> str:
    return ", ".join(spec) or "(none)"


def _array(name: str, value: Any) -> NumpyArray:
    """The value as an array of numbers."""
    try:
        array = np.asarray(value)
    except ValueError:  # of lists of different lengths
        array = np.asarray(None)
    if array.dtype.kind not in "biuf":
        raise UserError(f"expected numbers in {name}, given {_whole(value)}")
    return array


def _whole(value: Any) -> str:
    """A value as it is, in one line, unless that would be long."""
    try:
        text = " ".join(repr(value).split())
    except ValueError:  # of a number with thousands of digits
        return shown(value)
    return text if len(text) < _LONGEST_VALUE_SHOWN else f"{text[:_LONGEST_VALUE_SHOWN]}…"


def _check_positions(pos: NumpyArray) -> None:
    """Raise a :class:`UserError` unless positions ascend from 0, once or in each of several sequences, to 1 at most."""
    after_descents = pos[1:][np.diff(pos) < 0]
    if pos[0] != 0 or after_descents.any() or pos.max() > 1:
        raise UserError(f"expected the positions {_POSITIONS} to ascend from 0 to 1, given {pos.tolist()}")


def _compact_value(name: str, probe: Probe, value: Any, num_nodes: int) -> NumpyArray:
    """A value in the form of the data (see :class:`nar.specs.Type`); a choice may be given as a row with a single 1.

    Raises:
        UserError: If the value breaks the probe's type.
    """
    array = _array(name, value)
    shape = shape_of(probe, num_nodes)
    num_choices = _num_choices(probe, num_nodes)
    if num_choices and array.shape == (*shape, num_choices):
        is_one_hot = ((array == 0) | (array == 1)).all(axis=-1) & (array.sum(axis=-1) == 1)
        if not is_one_hot.all():
            row = array[~is_one_hot][0] if shape else array
            raise UserError(f"expected a single 1 in every row of the {probe.type} {name}, given {row.tolist()}")
        array = array.argmax(axis=-1)
    if array.shape != shape:
        raise _wrong_shape(name, probe, num_nodes, array.shape)
    _check_data(name, probe, array, num_nodes)
    if probe.type is Type.SHOULD_BE_PERMUTATION and not _is_chain(array.tolist()):
        raise UserError(f"expected a chain whose first node points at itself in {name}, given {array.tolist()}")
    return array.astype(DTYPES[probe.type])


def _is_chain(pointers: list[int]) -> bool:
    """Whether the nodes follow one another in some order, each pointing at the one before and the first at itself."""
    after = {before: node for node, before in enumerate(pointers) if before != node}
    first = [node for node, before in enumerate(pointers) if before == node]
    number = 1
    node = first[0] if first else None
    while node in after and number < len(pointers):
        node, number = after[node], number + 1
    return len(first) == 1 and number == len(pointers)


def _wrong_shape(name: str, probe: Probe, num_nodes: int, given: Any) -> UserError:
    shape = shape_of(probe, num_nodes)
    return UserError(f"expected {name} ({probe.location} {probe.type}) in shape {shape}, given {given}")


def _check_data(name: str, probe: Probe, data: NumpyArray, num_nodes: int) -> None:
    """Raise a :class:`UserError` that names the probe and the first value that breaks its type."""
    num_choices = _num_choices(probe, num_nodes)
    if probe.type is Type.SCALAR:
        allowed, expected = np.isfinite(data), "a finite number"
    elif probe.type is Type.MASK:
        allowed, expected = np.isin(data, (0, 1, MASKED)), "0, 1 or -1"
    else:
        least = MASKED if probe.type is Type.CATEGORICAL else 0
        allowed = (data >= least) & (data < num_choices) & (data == np.floor(data))
        expected = f"an index from {least} to {num_choices - 1}"
    if not np.all(allowed):
        raise UserError(f"expected {expected} in the {probe.type} {name}, given {np.asarray(data)[~allowed].flat[0]}")


def _num_choices(probe: Probe, num_nodes: int) -> int:
    """How many indices there are to choose from; 0 for a scalar or a mask."""
    if probe.type in (Type.SCALAR, Type.MASK):
        return 0
    return probe.num_classes if probe.type is Type.CATEGORICAL else num_nodes
