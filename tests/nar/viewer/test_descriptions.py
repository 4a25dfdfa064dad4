"""What the probes mean."""

from collections import defaultdict

import pytest

from nar.datasets import ALGORITHMS, SPECS
from nar.datasets.clrs30.recipe import recipe_spec
from nar.specs import Location, Probe, Stage, Type
from nar.viewer.descriptions import EVERY, entries, meaning, meanings_of


def probes_of(algorithm: str) -> dict[str, Probe]:
    """The probes of an algorithm, as they are drawn and as the recipe has them."""
    return {**SPECS[algorithm], **recipe_spec(algorithm)}


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_probe_has_one_meaning(algorithm: str) -> None:
    own = [name for heading, name, _ in entries() if algorithm in heading or EVERY in heading]
    missing = [name for name in probes_of(algorithm) if own.count(name) != 1]
    assert missing == []


def test_no_meaning_is_of_a_probe_that_is_not_there() -> None:
    for heading, name, _ in entries():
        algorithms = [one for one in ALGORITHMS if name in probes_of(one)] if EVERY in heading else heading
        assert algorithms
        for algorithm in algorithms:
            assert name in probes_of(algorithm), f"{algorithm} has no {name}"


def test_a_sentence_is_used_for_one_name_alone() -> None:
    names: dict[str, list[str]] = defaultdict(list)
    for _, name, found in entries():
        names[found.sentence].append(name)
    assert {sentence: of_it for sentence, of_it in names.items() if len(of_it) > 1 and len(set(of_it)) > 1} == {}


def test_meanings_are_sentences() -> None:
    for _, name, found in entries():
        first = found.sentence[0]
        assert first.isupper() or first.isdigit(), name
        assert found.sentence.endswith("."), name
        assert 20 <= len(found.sentence) <= 260, name


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_class_has_a_name(algorithm: str) -> None:
    for name, probe in probes_of(algorithm).items():
        classes = meanings_of(algorithm)[name].classes
        assert len(classes) == probe.num_classes, name
        assert len(set(classes)) == len(classes), name


def test_a_probe_of_nobody_knows_is_described_by_its_type() -> None:
    assert meaning("own", "pos", Probe(Stage.INPUT, Location.NODE, Type.SCALAR)).sentence == (
        "A number for every node, given."
    )
    found = meaning("own", "state", Probe(Stage.HINT, Location.GRAPH, Type.CATEGORICAL, 2))
    assert found == ("One of several classes, observed at every step.", ("0", "1"))
