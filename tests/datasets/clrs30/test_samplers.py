"""What nar.datasets.sample draws, beside what dm-clrs draws."""

import inspect
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pytest
from make_digests import SIZES, digest, drawn, read_digests

import nar.datasets
from nar.batch import Features, Feedback, NumpyArray
from nar.datasets import ALGORITHMS, SPECS, sample, to_dm_clrs
from nar.datasets.clrs30.dm_clrs import compact, sample_from_dm_clrs
from nar.datasets.clrs30.samplers import CLRS_30
from nar.errors import UserError
from nar.specs import Location, Probe, Stage, Type, at_stage

STRING_MATCHERS = ("naive_string_matcher", "kmp_matcher")

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


def all_bits(feedback: Feedback[NumpyArray]) -> list[Any]:
    """Those of our trajectories."""
    (inputs, hints, lengths), outputs = feedback
    return [our_bits(inputs), our_bits(hints), bits(lengths), our_bits(outputs)]


def assert_equals_dm_clrs(clrs: Any, algorithm: str, num_nodes: int, num_samples: int, seed: Any, **args: Any) -> None:
    """Fail if a single bit of what we draw is not dm-clrs's."""
    compact_ours = sample(algorithm, num_nodes=num_nodes, num_samples=num_samples, seed=seed, **args)
    ours = to_dm_clrs(SPECS[algorithm], compact_ours)
    sampler, _ = clrs.build_sampler(algorithm, num_samples, seed=seed, length=num_nodes, **args)
    theirs = sampler.next()
    assert our_bits(ours.features.inputs) == their_bits(theirs.features.inputs)
    assert our_bits(ours.features.hints) == their_bits(theirs.features.hints)
    assert bits(ours.features.lengths) == bits(theirs.features.lengths)
    assert our_bits(ours.outputs) == their_bits(theirs.outputs)


@pytest.mark.parametrize(
    ("num_nodes", "num_samples", "seed"),
    [(4, 6, 2**32 - 1), (5, 4, 0), (7, 4, 5), (16, 3, 1), pytest.param(33, 1, 2, marks=pytest.mark.slow)],
)
@every_algorithm
def test_equals_dm_clrs_bit_for_bit(clrs: Any, algorithm: str, num_nodes: int, num_samples: int, seed: int) -> None:
    assert_equals_dm_clrs(clrs, algorithm, num_nodes, num_samples, seed)


@every_algorithm
def test_equals_dm_clrs_at_the_smallest_size(clrs: Any, algorithm: str) -> None:
    assert_equals_dm_clrs(clrs, algorithm, CLRS_30[algorithm].min_num_nodes, 20, seed=3)


@pytest.mark.slow
@every_algorithm
def test_equals_dm_clrs_at_the_official_test_size(clrs: Any, algorithm: str) -> None:
    assert_equals_dm_clrs(clrs, algorithm, 64, 1, seed=3)


@pytest.mark.parametrize("algorithm", STRING_MATCHERS)
def test_equals_dm_clrs_with_needles_of_random_length(clrs: Any, algorithm: str) -> None:
    assert_equals_dm_clrs(clrs, algorithm, 20, 4, seed=0, length_needle=-8)


@pytest.mark.parametrize("algorithm", ["bfs", "mst_kruskal", "strongly_connected_components"])
def test_equals_dm_clrs_at_other_densities(clrs: Any, algorithm: str) -> None:
    assert_equals_dm_clrs(clrs, algorithm, 7, 4, seed=0, p=(0.3, 0.9))


# None of them a default of any sampler.
OTHER_ARGUMENTS: dict[str, Any] = {
    "p": (0.3, 0.6, 0.9),
    "low": 0.5,
    "high": 2.5,
    "length_needle": 3,
    "length_2": 3,
    "chars": 2,
    "max_deadline": 3,
    "k": 3,
    "eps": 0.3,
    "origin_x": 1.0,
    "origin_y": -2.0,
    "radius": 0.5,
    "collinearity_resampling_attempts": 500,
    "collineararity_eps": 1e-2,
    "truncate_decimals": 2,
}


def other_arguments(algorithm: str) -> dict[str, Any]:
    """All arguments that its sampler has."""
    known = [*[*inspect.signature(CLRS_30[algorithm].draw).parameters][2:], "truncate_decimals"]
    return {name: OTHER_ARGUMENTS[name] for name in known}


@every_algorithm
def test_the_sampler_has_the_arguments_of_dm_clrs(clrs: Any, algorithm: str) -> None:
    theirs = inspect.signature(clrs._src.samplers.SAMPLERS[algorithm]._sample_data).parameters
    assert set(other_arguments(algorithm)) == set(theirs) - {"self", "length"} | {"truncate_decimals"}
    ours = inspect.signature(CLRS_30[algorithm].draw).parameters
    of_both = ours.keys() & theirs.keys()
    assert {name: ours[name].default for name in of_both} == {name: theirs[name].default for name in of_both}


@every_algorithm
def test_equals_dm_clrs_with_each_argument_of_the_sampler(clrs: Any, algorithm: str) -> None:
    for name, value in other_arguments(algorithm).items():
        assert_equals_dm_clrs(clrs, algorithm, 8, 4, seed=0, **{name: value})


@every_algorithm
def test_equals_dm_clrs_with_all_arguments_of_the_sampler(clrs: Any, algorithm: str) -> None:
    assert_equals_dm_clrs(clrs, algorithm, 8, 6, seed=1, **other_arguments(algorithm))


@pytest.mark.parametrize("algorithm", [name for name in ALGORITHMS if "low" in other_arguments(name)])
def test_equals_dm_clrs_where_weights_are_equal_zero_or_negative(clrs: Any, algorithm: str) -> None:
    # The square root of a negative product would be no number: only directed graphs have negative weights.
    low = 0.0 if "A" in SPECS[algorithm] and algorithm != "dag_shortest_paths" else -0.5
    assert_equals_dm_clrs(clrs, algorithm, 12, 6, seed=1, low=low, high=0.5, truncate_decimals=1)


@every_algorithm
def test_what_dm_clrs_draws_is_the_same_once_it_is_compact(clrs: Any, algorithm: str) -> None:
    asked = {"num_nodes": 6, "num_samples": 5, "seed": [1, 2]}
    assert all_bits(sample_from_dm_clrs(algorithm, **asked)) == all_bits(sample(algorithm, **asked))


@every_algorithm
def test_compact_data_comes_back_from_the_dense_form(algorithm: str) -> None:
    ours = sample(algorithm, num_nodes=9, num_samples=5, seed=0)
    assert all_bits(compact(SPECS[algorithm], to_dm_clrs(SPECS[algorithm], ours))) == all_bits(ours)


@pytest.mark.parametrize("row", [[-1, -1, -1], [0, 0, -1]])
def test_a_category_that_is_not_scored_is_minus_one(row: list[int]) -> None:
    spec = {"x": Probe(Stage.INPUT, Location.NODE, Type.CATEGORICAL, 3)}
    data = np.array([[[0.0, 1, 0], row, [0, 0, 1]]])
    found = compact(spec, Feedback(Features({"x": data}, {}, np.ones(1)), {}))
    assert found.features.inputs["x"].tolist() == [[1, -1, 2]]


@pytest.mark.parametrize(("algorithm", "num_nodes"), SIZES)
def test_trajectories_are_those_of_the_committed_digests(algorithm: str, num_nodes: int) -> None:
    ours = drawn(algorithm, num_nodes, by_dm_clrs=False)
    assert digest(algorithm, ours) == read_digests()[algorithm][num_nodes]


def test_a_digest_tells_a_single_entry() -> None:
    ours = drawn("bfs", 4, by_dm_clrs=False)
    before = digest("bfs", ours)
    ours.features.hints["pi_h"][0, 0, 0] += 1
    assert digest("bfs", ours) != before


@every_algorithm
def test_without_hints_all_else_is_the_same(algorithm: str) -> None:
    asked = {"num_nodes": 8, "num_samples": 12, "seed": 4}
    every, first, none = (sample(algorithm, **asked, hints=hints) for hints in ("all", "first", "none"))
    for some in (first, none):
        assert our_bits(some.features.inputs) == our_bits(every.features.inputs)
        assert bits(some.features.lengths) == bits(every.features.lengths)
        assert our_bits(some.outputs) == our_bits(every.outputs)
    assert our_bits(first.features.hints) == our_bits({name: x[:1] for name, x in every.features.hints.items()})
    assert none.features.hints == {}


@every_algorithm
def test_hints_are_zero_after_a_samples_end(algorithm: str) -> None:
    _, hints, lengths = sample(algorithm, num_nodes=8, num_samples=12, seed=4).features
    for name, hint in hints.items():
        assert len(hint) == lengths.max(), name
        assert not any(hint[length:, row].any() for row, length in enumerate(lengths)), name


def test_sampler_arguments_reach_the_sampler() -> None:
    few, many = (
        sample("bfs", num_nodes=7, num_samples=20, seed=0, p=(p,)).features.inputs["adj"].mean() for p in (0.2, 0.9)
    )
    assert few < 0.3 < 0.7 < many


@every_algorithm
def test_the_smallest_size_has_all_its_axes(algorithm: str) -> None:
    size = CLRS_30[algorithm].min_num_nodes
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
            name: (*leading, *(() if probe.type is Type.MASK_ONE else dimensions[probe.location]))
            for name, probe in at_stage(SPECS[algorithm], stage).items()
        }


@every_algorithm
def test_a_smaller_size_is_refused_by_name(algorithm: str) -> None:
    size = CLRS_30[algorithm].min_num_nodes
    with pytest.raises(UserError, match=f"{algorithm} needs at least {size} nodes, given {size - 1}"):
        sample(algorithm, num_nodes=size - 1, num_samples=1, seed=0)


def test_an_unknown_algorithm_is_answered_with_the_known_ones() -> None:
    with pytest.raises(UserError, match=f"unknown algorithm bsf; known are {', '.join(ALGORITHMS)}"):
        sample("bsf", num_nodes=4, num_samples=1, seed=0)


@pytest.mark.parametrize("draw", [sample, sample_from_dm_clrs])
@pytest.mark.parametrize(
    ("algorithm", "given", "message"),
    [
        ("bfs", {"num_samples": 0}, "expected num_samples to be a whole number of at least 1, given 0"),
        ("bfs", {"num_samples": 2.5}, "expected num_samples to be a whole number of at least 1, given 2.5"),
        ("bfs", {"num_nodes": 8.0}, "expected the number of nodes to be a whole number, given 8.0"),
        ("bfs", {"num_nodes": 1}, "bfs needs at least 2 nodes, given 1"),
        ("bfs", {"seed": -1}, "expected a seed from 0 to 4294967295, or several, given -1"),
        ("bfs", {"seed": 2**40}, f"expected a seed from 0 to 4294967295, or several, given {2**40}"),
        ("bfs", {"seed": [1, -1]}, "expected a seed from 0 to 4294967295, or several, given [1, -1]"),
        ("bfs", {"seed": []}, "expected a seed from 0 to 4294967295, or several, given []"),
        ("bfs", {"seed": None}, "expected a seed from 0 to 4294967295, or several, given None"),
        ("bfs", {"density": 0.9}, "the sampler of bfs has no density; it has p, truncate_decimals"),
        ("bfs", {"p": 0.5}, "expected p to be one or more densities from 0 to 1, such as (0.5,), given 0.5"),
        ("bfs", {"p": ()}, "expected p to be one or more densities from 0 to 1, such as (0.5,), given ()"),
        ("bfs", {"p": (1.5,)}, "expected p to be one or more densities from 0 to 1, such as (0.5,), given (1.5,)"),
        ("bfs", {"p": "0.5"}, "expected p to be one or more densities from 0 to 1, such as (0.5,), given '0.5'"),
        ("bfs", {"truncate_decimals": 0.5}, "expected truncate_decimals to be a whole number, given 0.5"),
        ("minimum", {"low": np.nan}, "expected low to be a finite number, given nan"),
        ("minimum", {"high": "1"}, "expected high to be a finite number, given '1'"),
        (
            "minimum",
            {"low": -1e308, "high": 1e308},
            "expected low and high at a finite distance, given -1e+308 and 1e+308",
        ),
        ("segments_intersect", {"low": 0.5, "high": 0.5}, "expected low and high to differ, both are 0.5"),
        (
            "dijkstra",
            {"low": -0.5},
            "expected low and high not on both sides of 0 (no weight is negative), given -0.5 and 1.0",
        ),
        ("task_scheduling", {"max_deadline": 0}, "expected max_deadline ≥ 1, given 0"),
        ("kmp_matcher", {"chars": 5}, "expected chars in [1, 4], given 5"),
        ("lcs_length", {"chars": 0}, "expected chars in [1, 4], given 0"),
        ("strongly_connected_components", {"k": 0}, "expected k ≥ 1, given 0"),
        ("strongly_connected_components", {"eps": 1.5}, "expected eps in [0, 1], given 1.5"),
        ("graham_scan", {"radius": np.inf}, "expected radius to be a finite number, given inf"),
    ],
)
def test_what_cannot_be_drawn_is_refused_in_one_line(
    draw: Any, algorithm: str, given: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError) as error:
        draw(algorithm, **{"num_nodes": 8, "num_samples": 2, "seed": 0, **given})
    assert str(error.value) == message


def test_an_argument_that_a_family_of_graphs_does_not_have_is_refused_by_the_name_of_the_family() -> None:
    message = "the sampler of bfs on graphs of tree has no p; it has truncate_decimals"
    with pytest.raises(UserError, match=f"^{message}$"):
        sample("bfs", num_nodes=8, num_samples=2, seed=0, graphs="tree", p=(0.3,))


def test_hints_of_another_name_are_refused() -> None:
    with pytest.raises(UserError, match="expected hints to be one of all, first, none, given 'last'"):
        sample("bfs", num_nodes=4, num_samples=1, seed=0, hints="last")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("algorithm", "given"),
    [
        ("dijkstra", {"low": -2.0, "high": -1.0}),
        ("dijkstra", {"p": [0.0, 1.0]}),
        ("dag_shortest_paths", {"low": -1}),
        ("bubble_sort", {"low": 1.0, "high": 0.0}),
        ("minimum", {"low": 0.5, "high": 0.5}),
        ("minimum", {"high": 100.0, "truncate_decimals": -1}),
        ("bfs", {"p": np.array([0.3])}),
        ("task_scheduling", {"max_deadline": None}),
        ("strongly_connected_components", {"num_nodes": 2, "k": 2}),
        ("strongly_connected_components", {"num_nodes": 3, "k": np.int64(1)}),
        ("lcs_length", {"num_nodes": 1, "length_2": 1}),
    ],
)
def test_equals_dm_clrs_with_unusual_arguments(clrs: Any, algorithm: str, given: dict[str, Any]) -> None:
    assert_equals_dm_clrs(clrs, algorithm, **{"num_nodes": 8, "num_samples": 6, "seed": 1, **given})


@pytest.mark.parametrize("seed", [7, [7], (1, 2, 2**32 - 1)])
def test_draws_from_a_random_state_of_the_seed(seed: Any) -> None:
    keys = sample("insertion_sort", num_nodes=5, num_samples=3, seed=seed).features.inputs["key"]
    rng = np.random.RandomState(seed)
    assert np.array_equal(keys, np.stack([rng.uniform(size=5) for _ in range(3)]))


def test_equals_dm_clrs_with_a_seed_of_several_words(clrs: Any) -> None:
    assert_equals_dm_clrs(clrs, "dijkstra", 5, 3, seed=[1, 2, 3])


def test_a_numpy_seed_is_the_same_number() -> None:
    one = sample("minimum", num_nodes=5, num_samples=2, seed=3).features.inputs["key"]
    other = sample("minimum", num_nodes=5, num_samples=2, seed=np.int64(3)).features.inputs["key"]
    np.testing.assert_array_equal(one, other)


def test_the_former_name_of_dm_clrss_form_is_taken_with_a_warning() -> None:
    with pytest.warns(DeprecationWarning, match="nar.datasets.dense is now nar.datasets.to_dm_clrs"):
        assert nar.datasets.dense is to_dm_clrs
