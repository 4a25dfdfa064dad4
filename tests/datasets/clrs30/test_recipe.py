"""The published recipe, beside dm-clrs's code for it."""

import ast
from collections.abc import Iterable, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nar.batch import Feedback, NumpyArray
from nar.datasets import ALGORITHMS, SPECS, sample, to_dm_clrs
from nar.datasets.clrs30.dm_clrs import compact
from nar.datasets.clrs30.recipe import (
    apply_recipe,
    cyclic_permutation,
    num_nodes_at,
    randomise_positions,
    recipe_spec,
    train_sampler_args,
    train_sizes,
)
from nar.datasets.engine.trace import DTYPES
from nar.specs import Type

STRING_MATCHERS = ("naive_string_matcher", "kmp_matcher")

every_algorithm = pytest.mark.parametrize("algorithm", ALGORITHMS)
SIZES = [4, 7, 11, 13, 16]


@pytest.fixture(scope="module")
def pred_as_input(clrs: Any) -> list[str]:
    """The algorithms whose static hints ``run.py`` makes inputs, read from it since to import it defines flags."""
    tree = ast.parse((Path(clrs.__file__).parent / "examples" / "run.py").read_text())
    for node in tree.body:
        match node:
            case ast.Assign([ast.Name("PRED_AS_INPUT_ALGOS")], value):
                names: list[str] = ast.literal_eval(value)
    return names


def draw(algorithm: str) -> Feedback[NumpyArray]:
    """Some trajectories of different lengths."""
    return sample(algorithm, num_nodes=7, num_samples=5, seed=1)


def draw_theirs(clrs: Any, algorithm: str) -> Any:
    """The same as dm-clrs's data points."""
    return clrs.build_sampler(algorithm, 5, seed=1, length=7)[0].next()


def after_their_recipe(clrs: Any, algorithm: str, pred_as_input: list[str]) -> tuple[Any, Any]:
    """The spec and the trajectories as ``make_sampler`` of ``run.py`` returns them, but for positions."""
    spec, stream = clrs.SPECS[algorithm], iter([draw_theirs(clrs, algorithm)])
    if algorithm in pred_as_input:
        spec, stream = clrs.process_pred_as_input(spec, stream)
    spec, stream = clrs.process_permutations(spec, stream, enforce_permutations=True)
    return spec, next(stream)


def assert_same(ours: Mapping[str, NumpyArray], theirs: Iterable[Any]) -> None:
    """Fail unless names, their order and all values are equal, and types but for two that dm-clrs's recipe changes."""
    points = {point.name: np.asarray(point.data) for point in theirs}
    assert list(ours) == list(points)
    for name, array in ours.items():
        np.testing.assert_array_equal(array, points[name], err_msg=name)
        assert array.shape == points[name].shape, name
        if name not in ("pred", "pred_mask"):
            assert array.dtype == points[name].dtype, name


@pytest.mark.slow
@every_algorithm
def test_trajectories_equal_dm_clrs(clrs: Any, pred_as_input: list[str], algorithm: str) -> None:
    _, theirs = after_their_recipe(clrs, algorithm, pred_as_input)
    ours = to_dm_clrs(recipe_spec(algorithm), apply_recipe(algorithm, draw(algorithm)))
    assert_same(ours.features.inputs, theirs.features.inputs)
    assert_same(ours.features.hints, theirs.features.hints)
    assert_same(ours.outputs, theirs.outputs)
    np.testing.assert_array_equal(ours.features.lengths, theirs.features.lengths)


@every_algorithm
def test_the_spec_equals_dm_clrs(clrs: Any, pred_as_input: list[str], algorithm: str) -> None:
    theirs, _ = after_their_recipe(clrs, algorithm, pred_as_input)
    ours = [(name, (probe.stage, probe.location, probe.type)) for name, probe in recipe_spec(algorithm).items()]
    assert ours == list(theirs.items())


@every_algorithm
def test_the_spec_tells_the_data_by_name(algorithm: str) -> None:
    (inputs, hints, _), outputs = apply_recipe(algorithm, draw(algorithm))
    stages = {"input": set(inputs), "hint": set(hints), "output": set(outputs)}
    spec = recipe_spec(algorithm)
    assert stages == {stage: {name for name, probe in spec.items() if probe.stage == stage} for stage in stages}


def bits(feedback: Feedback[NumpyArray]) -> list[Any]:
    """All that tells one feedback from another, in order."""
    (inputs, hints, lengths), outputs = feedback
    stages = [inputs, hints, {"lengths": lengths}, outputs]
    return [[(name, x.dtype, x.shape, x.tobytes()) for name, x in stage.items()] for stage in stages]


@every_algorithm
def test_trajectories_are_as_compact_as_before(algorithm: str) -> None:
    spec, feedback = recipe_spec(algorithm), apply_recipe(algorithm, draw(algorithm))
    (inputs, hints, _), outputs = feedback
    dtypes = {name: data.dtype for name, data in {**inputs, **hints, **outputs}.items()}
    choices = {name: probe.type for name, probe in spec.items() if probe.type is not Type.SCALAR}
    assert {name: dtypes[name] for name in choices} == {name: DTYPES[type_] for name, type_ in choices.items()}
    assert bits(compact(spec, to_dm_clrs(spec, feedback))) == bits(feedback)


def test_a_cyclic_permutation_is_the_sequence_whose_first_node_follows_its_last() -> None:
    sequences = np.array([[2, 1, 1], [0, 0, 1], [1, 2, 2]], np.int16)  # 1 2 0, 0 1 2 and 2 1 0
    cycles, first = cyclic_permutation(sequences)
    assert cycles.tolist() == [[2, 0, 1], [2, 0, 1], [1, 2, 0]]
    assert first.tolist() == [1, 0, 2]
    assert cycles.dtype == first.dtype == np.int16


@every_algorithm
def test_random_positions_equal_dm_clrs(clrs: Any, algorithm: str) -> None:
    theirs = next(clrs.process_random_pos(iter([draw_theirs(clrs, algorithm)]), np.random.RandomState(3)))
    ours = to_dm_clrs(SPECS[algorithm], randomise_positions(draw(algorithm), np.random.RandomState(3)))
    assert_same(ours.features.inputs, theirs.features.inputs)


@pytest.mark.parametrize("algorithm", ["bfs", "lcs_length", "insertion_sort", "binary_search"])
def test_what_it_is_given_stays_as_it_was(algorithm: str) -> None:
    given = draw(algorithm)
    before = deepcopy(given)
    randomise_positions(apply_recipe(algorithm, given), np.random.RandomState(0))
    (inputs, hints, _), outputs = before
    for now, then in ((given.features.inputs, inputs), (given.features.hints, hints), (given.outputs, outputs)):
        assert list(now) == list(then)
        assert all(np.array_equal(now[name], then[name]) for name in now)


def test_string_matchers_train_at_five_quarters_of_the_largest_size_alone() -> None:
    assert [train_sizes(algorithm, SIZES) for algorithm in STRING_MATCHERS] == [[20], [20]]


def test_all_other_algorithms_train_at_every_size() -> None:
    assert all(train_sizes(name, SIZES) == SIZES for name in set(ALGORITHMS) - set(STRING_MATCHERS))


@every_algorithm
def test_the_official_test_has_64_nodes_and_80_of_string_matchers(algorithm: str) -> None:
    assert num_nodes_at(algorithm, 64) == (80 if algorithm in STRING_MATCHERS else 64)


@pytest.mark.parametrize("algorithm", STRING_MATCHERS)
@pytest.mark.parametrize("size", [4, 16, 64, 256])
def test_the_haystack_of_a_string_matcher_is_as_long_as_the_size(algorithm: str, size: int) -> None:
    inputs = sample(algorithm, num_nodes=num_nodes_at(algorithm, size), num_samples=2, seed=3).features.inputs
    assert (inputs["string"] == 0).sum(axis=1).tolist() == [size, size]


@every_algorithm
def test_the_sizes_of_one_algorithm_do_not_change_those_of_the_next(algorithm: str) -> None:
    sizes = list(SIZES)
    train_sizes(algorithm, sizes).append(99)
    assert sizes == SIZES


@every_algorithm
def test_densities_are_halved_where_trajectories_would_grow_too_long(clrs: Any, algorithm: str) -> None:
    densities = tuple(0.1 + 0.1 * i for i in range(9))
    if algorithm in ("articulation_points", "bridges", "mst_kruskal"):
        densities = tuple(np.array(densities) / 2)
    expected = densities if "adj" in clrs.SPECS[algorithm] else None
    assert train_sampler_args(algorithm, 16).get("p") == expected


@every_algorithm
def test_the_sampler_takes_all_arguments_of_training(clrs: Any, algorithm: str) -> None:
    sampler, _ = clrs.build_sampler(algorithm, 1, seed=0, length=16)
    code = type(sampler)._sample_data.__code__
    assert set(train_sampler_args(algorithm, 16)) <= set(code.co_varnames[: code.co_argcount])


@pytest.mark.parametrize("algorithm", STRING_MATCHERS)
@pytest.mark.parametrize(("num_nodes", "longest"), [(20, 8), (17, 8), (16, 7), (5, 2), (3, 1)])
def test_needles_have_every_length_that_the_string_holds_up_to_eight(
    algorithm: str, num_nodes: int, longest: int
) -> None:
    args = train_sampler_args(algorithm, num_nodes)
    inputs = sample(algorithm, num_nodes=num_nodes, num_samples=100, seed=0, **args).features.inputs
    assert set(inputs["string"].sum(axis=1)) == set(range(1, longest + 1))
