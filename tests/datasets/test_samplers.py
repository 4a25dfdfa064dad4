"""What nar.datasets.sample draws, beside what dm-clrs draws."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pytest

from nar.datasets import ALGORITHMS, SPECS, sample
from nar.datasets.clrs30 import STRING_MATCHERS, min_num_nodes
from nar.errors import UserError
from nar.specs import Location, Stage, at_stage

every_algorithm = pytest.mark.parametrize("algorithm", ALGORITHMS)


def bits(array: Any) -> tuple[str, tuple[int, ...], bytes]:
    """All that tells one array from another."""
    array = np.asarray(array)
    return str(array.dtype), array.shape, array.tobytes()


def our_bits(probes: Mapping[str, Any]) -> list[Any]:
    """Our probes in order."""
    return [(name, bits(data)) for name, data in probes.items()]


def their_bits(probes: Iterable[Any]) -> list[Any]:
    """dm-clrs's data points in order."""
    return [(point.name, bits(point.data)) for point in probes]


def assert_equals_dm_clrs(clrs: Any, algorithm: str, num_nodes: int, num_samples: int, seed: Any, **args: Any) -> None:
    """Fail if a single bit of what we draw is not dm-clrs's."""
    ours = sample(algorithm, num_nodes=num_nodes, num_samples=num_samples, seed=seed, **args)
    sampler, _ = clrs.build_sampler(algorithm, num_samples, seed=seed, length=num_nodes, **args)
    theirs = sampler.next()
    assert our_bits(ours.features.inputs) == their_bits(theirs.features.inputs)
    assert our_bits(ours.features.hints) == their_bits(theirs.features.hints)
    assert bits(ours.features.lengths) == bits(theirs.features.lengths)
    assert our_bits(ours.outputs) == their_bits(theirs.outputs)


@every_algorithm
def test_equals_dm_clrs_bit_for_bit(clrs: Any, algorithm: str) -> None:
    assert_equals_dm_clrs(clrs, algorithm, 7, 4, seed=5)


@every_algorithm
def test_equals_dm_clrs_at_the_smallest_training_size(clrs: Any, algorithm: str) -> None:
    assert_equals_dm_clrs(clrs, algorithm, 4, 6, seed=2**32 - 1)


@pytest.mark.parametrize("algorithm", STRING_MATCHERS)
def test_equals_dm_clrs_with_needles_of_random_length(clrs: Any, algorithm: str) -> None:
    assert_equals_dm_clrs(clrs, algorithm, 20, 4, seed=0, length_needle=-8)


@pytest.mark.parametrize("algorithm", ["bfs", "mst_kruskal", "strongly_connected_components"])
def test_equals_dm_clrs_at_other_densities(clrs: Any, algorithm: str) -> None:
    assert_equals_dm_clrs(clrs, algorithm, 7, 4, seed=0, p=(0.3, 0.9))


def test_sampler_arguments_reach_the_sampler() -> None:
    sparse = sample("bfs", num_nodes=7, num_samples=20, seed=0, p=(0.2,)).features.inputs["adj"].mean()
    dense = sample("bfs", num_nodes=7, num_samples=20, seed=0, p=(0.9,)).features.inputs["adj"].mean()
    assert sparse < 0.3 < 0.7 < dense


@every_algorithm
def test_the_smallest_size_has_all_its_axes(algorithm: str) -> None:
    size = min_num_nodes(algorithm)
    (inputs, hints, lengths), outputs = sample(algorithm, num_nodes=size, num_samples=3, seed=0)
    num_nodes = {"segments_intersect": 4, "optimal_bst": size + 1}.get(algorithm, size)
    dimensions = {Location.NODE: (num_nodes,), Location.EDGE: (num_nodes, num_nodes), Location.GRAPH: ()}
    longest = int(lengths.max())
    for data, stage, leading in (
        (inputs, Stage.INPUT, (3,)),
        (hints, Stage.HINT, (longest, 3)),
        (outputs, Stage.OUTPUT, (3,)),
    ):
        shapes = {name: array.shape for name, array in data.items()}
        assert shapes == {
            name: (*leading, *dimensions[probe.location], *([probe.num_classes] if probe.num_classes else []))
            for name, probe in at_stage(SPECS[algorithm], stage).items()
        }


@every_algorithm
def test_a_smaller_size_is_refused_by_name(algorithm: str) -> None:
    size = min_num_nodes(algorithm)
    with pytest.raises(UserError, match=f"{algorithm} needs at least {size} nodes, given {size - 1}"):
        sample(algorithm, num_nodes=size - 1, num_samples=1, seed=0)


def test_an_unknown_algorithm_is_answered_with_the_known_ones() -> None:
    with pytest.raises(UserError, match=f"unknown algorithm bsf; known are {', '.join(ALGORITHMS)}"):
        sample("bsf", num_nodes=4, num_samples=1, seed=0)


def test_no_samples_at_all_are_refused_by_number() -> None:
    with pytest.raises(UserError, match="expected at least 1 sample of bfs, given 0"):
        sample("bfs", num_nodes=4, num_samples=0, seed=0)


@pytest.mark.parametrize("seed", [7, [7], (1, 2, 2**32 - 1)])
def test_draws_from_a_random_state_of_the_seed(seed: Any) -> None:
    keys = sample("insertion_sort", num_nodes=5, num_samples=3, seed=seed).features.inputs["key"]
    rng = np.random.RandomState(seed)
    assert np.array_equal(keys, np.stack([rng.uniform(size=5) for _ in range(3)]))


def test_equals_dm_clrs_with_a_seed_of_several_words(clrs: Any) -> None:
    assert_equals_dm_clrs(clrs, "dijkstra", 5, 3, seed=[1, 2, 3])


def test_an_argument_that_the_sampler_lacks_is_refused(clrs: Any) -> None:
    with pytest.raises(UserError, match="the sampler of bfs has no density; it has length, p"):
        sample("bfs", num_nodes=5, num_samples=2, seed=0, density=(0.9,))


def test_a_numpy_seed_is_the_same_number() -> None:
    one = sample("minimum", num_nodes=5, num_samples=2, seed=3).features.inputs["key"]
    other = sample("minimum", num_nodes=5, num_samples=2, seed=np.int64(3)).features.inputs["key"]
    np.testing.assert_array_equal(one, other)
