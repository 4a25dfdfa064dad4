"""Algorithms of a user's own, found by their import paths."""

from types import MappingProxyType
from typing import Any

import kinds
import numpy as np
from numba import njit

from nar.batch import NumpyArray
from nar.datasets import Algorithm, Trace, record
from nar.specs import Location, Probe, Spec, Stage, Type

COMPONENTS = MappingProxyType(
    {
        "pos": Probe(Stage.INPUT, Location.NODE, Type.SCALAR),
        "adj": Probe(Stage.INPUT, Location.EDGE, Type.MASK),
        "label_h": Probe(Stage.HINT, Location.NODE, Type.POINTER),
        "label": Probe(Stage.OUTPUT, Location.NODE, Type.POINTER),
    }
)


def propagate(adj: NumpyArray, trace: Trace) -> tuple[NumpyArray]:
    """Every node takes the least label among its neighbours, until none changes."""
    n = len(adj)
    label = np.arange(n)
    while True:
        record(trace, label)
        least = label.copy()
        for i in range(n):
            for j in range(n):
                if adj[i, j]:
                    least[i] = min(least[i], label[j])
        if np.all(least == label):
            return (label,)
        label = least


compiled_propagate: Any = njit(propagate)


class Components(Algorithm):
    """Connected components.

    Args:
        degree: How many neighbours a node has on average.
    """

    spec = COMPONENTS
    min_num_nodes = 1

    def __init__(self, degree: float = 1.5) -> None:
        self.degree = degree

    def draw(self, rng: np.random.RandomState, num_nodes: int) -> tuple[NumpyArray]:
        edges = np.triu(rng.uniform(size=(num_nodes, num_nodes)) < self.degree / num_nodes, k=1)
        return (edges | edges.T,)

    def inputs(self, adj: NumpyArray) -> tuple[NumpyArray, NumpyArray]:
        return np.arange(len(adj)) / len(adj), adj

    def run(self, adj: NumpyArray, trace: Trace) -> tuple[NumpyArray]:
        return propagate(adj, trace)


class CompiledComponents(Components):
    """The same, compiled by numba."""

    run: Any = staticmethod(compiled_propagate)


class ComponentsByFunction(Components):
    """The same by a method that calls a compiled function."""

    def run(self, adj: NumpyArray, trace: Trace) -> tuple[NumpyArray]:
        label: tuple[NumpyArray] = compiled_propagate(adj, trace)
        return label


KINDS = [kind for kind in kinds.KINDS if kind[1] is not Type.PERMUTATION_POINTER]
"""What a probe at any stage may be."""


def probe_of(stage: Stage, location: Location, type_: Type) -> Probe:
    """A probe of this kind, of 3 classes if it is categorical."""
    return Probe(stage, location, type_, 3 if type_ is Type.CATEGORICAL else 0)


class EveryKind(Algorithm):
    """Shuffles numbers about, with a probe of every kind at every stage, a permutation as an output, and no ``pos``.

    Args:
        stages: Those that have probes besides the first input.
    """

    min_num_nodes = 1

    def __init__(self, stages: tuple[str, ...] = ("input", "hint", "output")) -> None:
        spec = {"first": Probe(Stage.INPUT, Location.NODE, Type.SCALAR)}
        for stage in map(Stage, stages):
            spec |= {f"{stage}_{where}_{what}": probe_of(stage, where, what) for where, what in KINDS}
        self.spec = {**spec, "order": Probe(Stage.OUTPUT, Location.NODE, Type.SHOULD_BE_PERMUTATION)}

    def draw(self, rng: np.random.RandomState, num_nodes: int) -> tuple[int, NumpyArray]:
        return num_nodes, rng.uniform(size=num_nodes)

    def values(self, stage: Stage, n: int, at: int) -> tuple[Any, ...]:
        """Of the probes of a stage but for the first input and the permutation."""
        numbers: dict[Location, Any] = {
            Location.NODE: np.arange(n) + at,
            Location.EDGE: np.arange(n * n).reshape(n, n) + at,
            Location.GRAPH: at,
        }
        kept = {name: probe for name, probe in self.spec.items() if name.startswith(stage)}
        moduli = {Type.SCALAR: 7, Type.MASK: 2, Type.CATEGORICAL: 3, Type.MASK_ONE: n, Type.POINTER: n}
        return tuple(
            (at if type_ is Type.MASK_ONE else numbers[where]) % moduli[type_] for _, where, type_, _ in kept.values()
        )

    def inputs(self, n: int, first: NumpyArray) -> tuple[Any, ...]:
        return (first, *self.values(Stage.INPUT, n, 0))

    def run(self, n: int, first: NumpyArray, trace: Trace) -> tuple[Any, ...]:
        for at in range(3):
            record(trace, *self.values(Stage.HINT, n, at))
        return (*self.values(Stage.OUTPUT, n, 3), np.maximum(np.arange(n) - 1, 0))


class Told(Algorithm):
    """Says what it is told to say, on 4 nodes.

    Args:
        spec: Its probes besides an input ``x`` and an output ``y``, masks of nodes.
        inputs: The values of the inputs after ``x``.
        hints: What is recorded, time by time.
        outputs: The values of the outputs after ``y``.
    """

    def __init__(self, spec: Spec, inputs: Any = (), hints: Any = (), outputs: Any = ()) -> None:
        x, y = (Probe(stage, Location.NODE, Type.MASK) for stage in (Stage.INPUT, Stage.OUTPUT))
        self.spec = {"x": x, **spec, "y": y}
        if any(probe.stage is Stage.OUTPUT for probe in spec.values()):
            self.spec = {"x": x, "y": y, **spec}
        self.said = inputs, hints, outputs

    def draw(self, rng: np.random.RandomState, num_nodes: int) -> tuple[()]:
        return ()

    def inputs(self) -> tuple[Any, ...]:
        return (np.zeros(4), *self.said[0])

    def run(self, trace: Trace) -> tuple[Any, ...]:
        for values in self.said[1]:
            record(trace, *values)
        return (np.zeros(4), *self.said[2])
