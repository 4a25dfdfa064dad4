"""The vocabulary of CLRS: what a probe is, and how an algorithm lists its probes.

Source: Veličković et al., "The CLRS Algorithmic Reasoning Benchmark", ICML 2022; ``clrs/_src/specs.py`` of dm-clrs
2.0.3.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple, TypeVar

_Value = TypeVar("_Value")


class Stage(StrEnum):
    """When a probe is observed: before, during or after the run of the algorithm."""

    INPUT = "input"
    HINT = "hint"
    OUTPUT = "output"


class Location(StrEnum):
    """What a probe describes: every node, every ordered pair of nodes, or the whole graph."""

    NODE = "node"
    EDGE = "edge"
    GRAPH = "graph"


class Type(StrEnum):
    """What values a probe takes; with D the dimensions of its location (N, N·N or none).

    Data is [B, D] and compact: choices are kept as indices (of a mask_one there is one for the whole graph, [B]).
    Logits and soft values are [B, D] for scalar, mask and mask_one, [B, D, C] for categorical and [B, D, N] for the
    pointers.
    """

    SCALAR = "scalar"
    MASK = "mask"  # 0 or 1; -1 where it is not scored
    MASK_ONE = "mask_one"  # the index of a node
    CATEGORICAL = "categorical"  # the index of a class; -1 where it is not scored
    POINTER = "pointer"  # the index of a node
    PERMUTATION_POINTER = "permutation_pointer"  # pointers that form one cycle
    SHOULD_BE_PERMUTATION = "should_be_permutation"  # pointers that form one chain; the raw outputs of sorting


MASKED = -1  # the value of a mask or categorical entry that is not scored


class Probe(NamedTuple):
    """One named observation of an algorithm's state.

    Attributes:
        num_classes: C of a categorical probe, 0 for any other.
    """

    stage: Stage
    location: Location
    type: Type
    num_classes: int = 0


Spec = Mapping[str, Probe]
"""An algorithm's probes by name, in dm-clrs's order."""


def at_stage(spec: Spec, stage: Stage) -> dict[str, Probe]:
    """The probes of `spec` observed at `stage`, in order."""
    return {name: probe for name, probe in spec.items() if probe.stage is stage}


def of_algorithm(setting: _Value | Mapping[str, _Value], algorithm: str, otherwise: _Value) -> _Value:
    """What a setting says of an algorithm: a value for all, or one of some by name, and `otherwise` of the others."""
    return setting.get(algorithm, otherwise) if isinstance(setting, Mapping) else setting
