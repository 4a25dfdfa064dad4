# Axes: B graphs, N nodes, C classes.
import importlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from kinds import KINDS as ALL_KINDS
from torch import Tensor
from torch.nn import functional

from nar.datasets.clrs30.recipe import recipe_spec
from nar.model.encoders import dense
from nar.model.metrics import counts, definite, fuse_permutations, scores
from nar.specs import MASKED, Location, Probe, Spec, Stage, Type, at_stage

B, N, C = 12, 5, 3

# A permutation is scored as pointers; the others are no outputs of any spec.
NOT_SCORED = [(Location.NODE, Type.PERMUTATION_POINTER), (Location.GRAPH, Type.SCALAR), (Location.GRAPH, Type.POINTER)]
KINDS = [kind for kind in ALL_KINDS if kind not in NOT_SCORED]
EVERY_KIND = pytest.mark.parametrize(("location", "type_"), KINDS)
SEVERAL_OUTPUTS = pytest.mark.parametrize("algorithm", ["find_maximum_subarray_kadane", "topological_sort"])

Evaluate = Callable[[Spec, Mapping[str, Tensor], Mapping[str, Tensor]], dict[str, float]]


@pytest.fixture
def evaluate(clrs: Any) -> Evaluate:
    """The scores that dm-clrs gives to the logits of outputs."""
    jax = importlib.import_module("jax")
    decoders = importlib.import_module("clrs._src.decoders")

    def evaluate(spec: Spec, logits: Mapping[str, Tensor], truth: Mapping[str, Tensor]) -> dict[str, float]:
        names = {name: (str(p.stage), str(p.location), str(p.type)) for name, p in at_stage(spec, Stage.OUTPUT).items()}
        arrays = {name: jax.numpy.asarray(value.numpy().copy()) for name, value in logits.items()}
        predictions = decoders.postprocess(names, arrays, sinkhorn_temperature=0.1, sinkhorn_steps=50, hard=True)
        predictions = {
            name: clrs.DataPoint(name, point.location, point.type_, np.asarray(point.data))
            for name, point in predictions.items()
        }
        data = {name: in_dm_clrs(spec[name], truth[name]).numpy() for name in names}
        outputs = tuple(clrs.DataPoint(name, *names[name][1:], data[name]) for name in names)
        return {name: float(score) for name, score in clrs.evaluate(outputs, predictions).items()}

    return evaluate


def make_spec(location: Location, type_: Type) -> Spec:
    return {"y": Probe(Stage.OUTPUT, location, type_, C if type_ is Type.CATEGORICAL else 0)}


def data_shape(probe: Probe) -> list[int]:
    return {Location.NODE: [B, N], Location.EDGE: [B, N, N], Location.GRAPH: [B]}[probe.location]


def random_truth(probe: Probe) -> Tensor:
    """Data of a probe of which everything is scored."""
    shape = data_shape(probe)
    match probe.type:
        case Type.SCALAR:
            return torch.randn(shape)
        case Type.MASK:
            return torch.randint(2, shape, dtype=torch.int8)
        case Type.POINTER:
            return torch.randint(N, shape, dtype=torch.int16)
        case Type.PERMUTATION_POINTER:
            return torch.rand(shape).argsort(dim=-1).to(torch.int16)
        case Type.MASK_ONE:
            return torch.randint(N, shape[:-1], dtype=torch.int16)
        case _:
            return torch.randint(C, shape, dtype=torch.int8)


def in_dm_clrs(probe: Probe, truth: Tensor) -> Tensor:
    """Data in the form of dm-clrs: choices one-hot, but for pointers; what is not scored is -1, in all of its row."""
    if probe.type is Type.POINTER:
        return truth.long()
    unscored = torch.zeros_like(truth).bool() if probe.type is Type.SCALAR else truth == MASKED
    wide = dense(probe, truth.masked_fill(unscored, 0), N)
    wide[unscored] = MASKED
    return wide


def random_logits(probe: Probe, truth: Tensor) -> Tensor:
    """Logits that are right about every other time."""
    wide = dense(probe, truth, N)
    return wide + torch.randn_like(wide) - (0.5 if probe.type is Type.MASK else 0)


def random_outputs(spec: Spec) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Logits and data of an algorithm's outputs."""
    truth = {name: random_truth(probe) for name, probe in at_stage(spec, Stage.OUTPUT).items()}
    return {name: random_logits(spec[name], data) for name, data in truth.items()}, truth


def rows(values: Mapping[str, Tensor], some: slice) -> dict[str, Tensor]:
    return {name: value[some] for name, value in values.items()}


def scores_of(spec: Spec, logits: Mapping[str, Tensor], truth: Mapping[str, Tensor]) -> dict[str, float]:
    return scores(spec, counts(spec, logits, truth))


@pytest.mark.slow
@EVERY_KIND
def test_score_equals_that_of_dm_clrs(evaluate, location, type_):
    spec = make_spec(location, type_)
    logits, truth = random_outputs(spec)
    given = scores_of(spec, logits, truth)
    assert 0 < given["y"] != 1  # what is all right or all wrong would hide mistakes
    assert given == pytest.approx(evaluate(spec, logits, truth))


@pytest.mark.parametrize(
    ("location", "type_"), [kind for kind in KINDS if kind[1] in (Type.MASK, Type.CATEGORICAL, Type.MASK_ONE)]
)
def test_score_with_unscored_entries_equals_that_of_dm_clrs(evaluate, location, type_):
    spec = make_spec(location, type_)
    logits, truth = random_outputs(spec)
    unscored = torch.rand(truth["y"].shape) < 0.4
    truth["y"][unscored] = MASKED
    given = scores_of(spec, logits, truth)
    assert given == pytest.approx(evaluate(spec, logits, truth))


@pytest.mark.parametrize(
    ("location", "type_"), [kind for kind in KINDS if kind[1] in (Type.MASK, Type.CATEGORICAL, Type.MASK_ONE)]
)
def test_unscored_entries_have_no_effect(location, type_):
    spec = make_spec(location, type_)
    logits, truth = random_outputs(spec)
    unscored = torch.rand(truth["y"].shape) < 0.4
    truth["y"][unscored] = MASKED
    other = {"y": logits["y"].clone()}
    other["y"][unscored] = torch.randn_like(other["y"][unscored]) * 5
    assert scores_of(spec, other, truth) == scores_of(spec, logits, truth)


@pytest.mark.slow
def test_score_of_a_sorted_sequence_equals_that_of_dm_clrs(evaluate):
    spec = recipe_spec("quicksort")
    logits, truth = random_outputs(spec)
    assert scores_of(spec, logits, truth) == pytest.approx(evaluate(spec, logits, truth))


def test_a_permutation_and_its_mask_are_scored_as_one_output():
    spec = recipe_spec("quicksort")
    assert set(scores_of(spec, *random_outputs(spec))) == {"pred", "score"}


@SEVERAL_OUTPUTS
def test_scores_of_several_outputs_equal_those_of_dm_clrs(evaluate, algorithm):
    spec = recipe_spec(algorithm)
    logits, truth = random_outputs(spec)
    assert scores_of(spec, logits, truth) == pytest.approx(evaluate(spec, logits, truth))


@SEVERAL_OUTPUTS
def test_score_is_the_mean_over_the_outputs(algorithm):
    spec = recipe_spec(algorithm)
    given = scores_of(spec, *random_outputs(spec))
    first, second = at_stage(spec, Stage.OUTPUT)
    assert given[first] != given[second]
    assert given["score"] == pytest.approx((given[first] + given[second]) / 2)


@EVERY_KIND
def test_counts_added_over_batches_give_the_score_of_the_whole(location, type_):
    spec = make_spec(location, type_)
    logits, truth = random_outputs(spec)
    parts = [slice(0, 1), slice(1, 5), slice(5, B)]
    total = sum(counts(spec, rows(logits, part), rows(truth, part))["y"] for part in parts)
    assert scores(spec, {"y": total}) == pytest.approx(scores_of(spec, logits, truth))


def test_f1_of_the_whole_is_not_the_mean_over_its_batches():
    spec = make_spec(Location.NODE, Type.MASK)
    truth = {"y": torch.tensor([[1, 1, 1, 1, 1, 1], [1, 0, 0, 0, 0, 0]], dtype=torch.int8)}
    logits = {"y": torch.tensor([[1.0, 1, 1, 1, 1, 1], [-1, 1, 1, 1, 1, 1]])}
    batches = [scores_of(spec, rows(logits, part), rows(truth, part))["y"] for part in (slice(0, 1), slice(1, 2))]
    assert batches == [1, 0]
    assert scores_of(spec, logits, truth)["y"] == pytest.approx(2 * 6 / (2 * 6 + 5 + 1))


F1_CASES = pytest.mark.parametrize(
    ("truth", "logits", "expected"),
    [
        pytest.param([0, 0, 0], [-1, -1, -1], 1, id="nothing to find and nothing found"),
        pytest.param([0, 0, 0], [-1, 1, -1], 0, id="nothing to find but something found"),
        pytest.param([0, 1, 0], [-1, -1, -1], 0, id="something to find but nothing found"),
        pytest.param([0, 1, 0], [-1, -1, 1], 0, id="another found"),
        pytest.param([-1, -1, -1], [1, -1, 1], 1, id="nothing scored"),
        pytest.param([1, 1, 0], [1, -1, -1], 2 / 3, id="half found"),
    ],
)


def f1_logits_and_truth(logits: list[float], truth: list[int]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    return {"y": torch.tensor([logits]).float()}, {"y": torch.tensor([truth], dtype=torch.int8)}


@F1_CASES
def test_f1_has_the_expected_value(truth, logits, expected):
    spec = make_spec(Location.NODE, Type.MASK)
    assert scores_of(spec, *f1_logits_and_truth(logits, truth))["y"] == pytest.approx(expected)


@F1_CASES
def test_f1_equals_that_of_dm_clrs(evaluate, truth, logits, expected):
    spec = make_spec(Location.NODE, Type.MASK)
    both = f1_logits_and_truth(logits, truth)
    assert scores_of(spec, *both) == pytest.approx(evaluate(spec, *both))


def test_the_first_node_of_a_fused_permutation_points_at_itself():
    spec = recipe_spec("quicksort")
    permutations, first = torch.tensor([[2, 0, 1], [1, 2, 0]], dtype=torch.int16), torch.tensor([1, 0])
    fused = fuse_permutations(spec, {"pred": permutations, "pred_mask": first.to(torch.int16)})
    assert fused["pred"].tolist() == [[2, 1, 1], [0, 2, 0]]


def test_fusing_leaves_other_outputs_as_they_are():
    spec = recipe_spec("topological_sort")
    _, truth = random_outputs(spec)
    fused = fuse_permutations(spec, truth)
    assert set(fused) == set(truth)
    assert all(torch.equal(fused[name], truth[name]) for name in truth)


def test_predicted_outputs_of_a_sorting_algorithm_are_a_chain():
    spec = recipe_spec("quicksort")
    chain = torch.tensor([[3, 1, 1, 2, 0]])  # 1, 2, 3, 0, 4
    cycle = torch.tensor([[3, 4, 1, 2, 0]])
    logits = {
        "pred": 5 * functional.one_hot(cycle, N).float(),
        "pred_mask": functional.one_hot(torch.tensor([1]), N).float(),
    }
    assert definite(spec, logits)["pred"].tolist() == chain.tolist()


@pytest.mark.parametrize(
    "algorithm", ["quicksort", "kmp_matcher", "lcs_length", "segments_intersect", "floyd_warshall"]
)
def test_definite_predictions_have_the_form_of_the_data(algorithm):
    spec = recipe_spec(algorithm)
    logits, truth = random_outputs(spec)
    predicted, expected = definite(spec, logits), fuse_permutations(spec, truth)
    assert {name: x.shape for name, x in predicted.items()} == {name: x.shape for name, x in expected.items()}
    assert {name: x.dtype for name, x in predicted.items()} == {
        name: torch.int8 if spec[name].type is Type.MASK else torch.int64 for name in expected
    }
