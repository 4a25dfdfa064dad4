"""The table of the 30 algorithms, beside dm-clrs's."""

from typing import Any

import pytest

from nar.datasets import ALGORITHMS, SPECS
from nar.datasets.clrs30.samplers import CLRS_30
from nar.specs import Type

every_algorithm = pytest.mark.parametrize("algorithm", ALGORITHMS)


def test_the_algorithms_are_those_of_dm_clrs_in_its_order(clrs: Any) -> None:
    assert list(clrs.CLRS_30_ALGS_SETTINGS) == list(ALGORITHMS)


def test_there_are_thirty() -> None:
    assert len(ALGORITHMS) == 30


@every_algorithm
def test_the_probes_are_those_of_dm_clrs_in_its_order(clrs: Any, algorithm: str) -> None:
    ours = [(name, (probe.stage, probe.location, probe.type)) for name, probe in SPECS[algorithm].items()]
    assert ours == list(clrs.SPECS[algorithm].items())


@every_algorithm
def test_the_number_of_classes_is_that_of_the_data_of_dm_clrs(clrs: Any, algorithm: str) -> None:
    (inputs, hints, _), outputs = clrs.build_sampler(algorithm, 1, seed=0, length=4)[0].next()
    data = {point.name: point.data for points in (inputs, hints, outputs) for point in points}
    classes = {name: data[name].shape[-1] for name, probe in SPECS[algorithm].items() if probe.type is Type.CATEGORICAL}
    assert {name: probe.num_classes for name, probe in SPECS[algorithm].items() if probe.num_classes} == classes


@every_algorithm
def test_the_multiplier_of_samples_is_that_of_dm_clrs(clrs: Any, algorithm: str) -> None:
    assert CLRS_30[algorithm].samples_multiplier == clrs.CLRS_30_ALGS_SETTINGS[algorithm]["num_samples_multiplier"]


def test_the_tables_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        SPECS["bfs"]["pos"] = SPECS["bfs"]["adj"]  # type: ignore[index]
