"""What the probes of CLRS-30's algorithms mean, in words."""

import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files
from typing import NamedTuple

from nar.specs import Location, Probe, Stage, Type

EVERY = "*"

_KINDS = {
    Type.SCALAR: "a number",
    Type.MASK: "yes or no",
    Type.MASK_ONE: "one node",
    Type.CATEGORICAL: "one of several classes",
    Type.POINTER: "a pointer to a node",
    Type.PERMUTATION_POINTER: "a pointer to the node before it in an order",
    Type.SHOULD_BE_PERMUTATION: "a pointer to the node before it in an order",
}
_PLACES = {Location.NODE: " for every node", Location.EDGE: " for every pair of nodes", Location.GRAPH: ""}
_TIMES = {Stage.INPUT: "given", Stage.HINT: "observed at every step", Stage.OUTPUT: "the answer"}


class Meaning(NamedTuple):
    """The meaning of a probe in words.

    Attributes:
        sentence: In one sentence or two.
        classes: The names of a categorical probe's values.
    """

    sentence: str
    classes: tuple[str, ...] = ()


def meaning(algorithm: str, name: str, probe: Probe) -> Meaning:
    """What a probe of CLRS-30 means; of any other algorithm's, what its type says."""
    known = meanings_of(algorithm).get(name)
    if known is not None:
        return known
    of_class = tuple(map(str, range(probe.num_classes)))
    place = "" if probe.type is Type.MASK_ONE else _PLACES[probe.location]
    return Meaning(f"{_KINDS[probe.type].capitalize()}{place}, {_TIMES[probe.stage]}.", of_class)


def meanings_of(algorithm: str) -> Mapping[str, Meaning]:
    """The meanings of an algorithm's probes by name, of some that it may not have too; nothing if it is not known."""
    known = {name: found for heading, name, found in entries() if algorithm in heading}
    return {**{name: found for heading, name, found in entries() if EVERY in heading}, **known} if known else {}


@cache
def _table() -> dict[str, dict[str, str | dict[str, object]]]:
    return tomllib.loads((files("nar.viewer") / "descriptions.toml").read_text(encoding="utf-8"))


def entries() -> Iterator[tuple[tuple[str, ...], str, Meaning]]:
    """Every entry of the table: the algorithms that its heading names, the probe's name and its meaning."""
    for heading, probes in _table().items():
        for name, entry in probes.items():
            match entry:
                case str(sentence):
                    yield tuple(heading.split()), name, Meaning(sentence)
                case {"means": str(sentence), "classes": list(classes)}:
                    yield tuple(heading.split()), name, Meaning(sentence, tuple(classes))
