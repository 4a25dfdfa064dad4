# Axes: B graphs, N nodes, T time, C classes, P (graph, step) pairs.
import importlib
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from kinds import KINDS as ALL_KINDS
from torch import Tensor

from nar.batch import Features, Feedback
from nar.model.encoders import dense
from nar.model.losses import losses, probe_loss
from nar.model.unroll import Predictions
from nar.specs import MASKED, Location, Probe, Stage, Type

B, N, T, C = 4, 5, 6, 3
LENGTHS = [6, 2, 4, 1]

KINDS = [kind for kind in ALL_KINDS if kind != (Location.GRAPH, Type.POINTER)]  # which no spec has
EVERY_KIND = pytest.mark.parametrize(("location", "type_"), KINDS)
KINDS_WITH_MASKED_ENTRIES = pytest.mark.parametrize(
    ("location", "type_"), [kind for kind in KINDS if kind[1] in (Type.MASK, Type.CATEGORICAL)]
)


@pytest.fixture(autouse=True)
def _in_float64():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def reference(clrs: Any) -> Iterator[Any]:
    """dm-clrs and its losses, in float64."""
    jax = importlib.import_module("jax")
    with jax.enable_x64(True):
        losses_of_dm_clrs = importlib.import_module("clrs._src.losses")
        yield SimpleNamespace(array=jax.numpy.asarray, DataPoint=clrs.DataPoint, losses=losses_of_dm_clrs)


def make_probe(location: Location, type_: Type, stage: Stage = Stage.OUTPUT) -> Probe:
    return Probe(stage, location, type_, C if type_ is Type.CATEGORICAL else 0)


def data_shape(probe: Probe, *leading: int) -> list[int]:
    return [*leading, *{Location.NODE: [N], Location.EDGE: [N, N], Location.GRAPH: []}[probe.location]]


def random_logits(probe: Probe, *leading: int) -> Tensor:
    shape = data_shape(probe, *leading)
    if probe.type is Type.CATEGORICAL:
        return torch.randn(*shape, C)
    if probe.type in (Type.POINTER, Type.PERMUTATION_POINTER):
        return torch.randn(*shape, N)
    return torch.randn(shape)


def random_truth(probe: Probe, *leading: int) -> Tensor:
    """Data of a probe of which everything is scored."""
    shape = data_shape(probe, *leading)
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


def with_unscored_entries(truth: Tensor) -> Tensor:
    """The same data with a third of the masks, or of the classes, at -1."""
    return truth.masked_fill(torch.rand(truth.shape) < 1 / 3, MASKED)


def in_dm_clrs(probe: Probe, truth: Tensor) -> Tensor:
    """Data in the form of dm-clrs: choices one-hot, but for pointers; what is not scored is -1, in all of its row."""
    if probe.type is Type.POINTER:
        return truth.long()
    unscored = torch.zeros_like(truth).bool() if probe.type is Type.SCALAR else truth == MASKED
    wide = dense(probe, truth.masked_fill(unscored, 0), N)
    wide[unscored] = MASKED
    return wide


def output_loss_of_dm_clrs(reference: Any, probe: Probe, logits: Tensor, truth: Tensor) -> float:
    data = reference.array(in_dm_clrs(probe, truth))
    point = reference.DataPoint("probe", str(probe.location), str(probe.type), data)
    return float(reference.losses.output_loss(point, reference.array(logits), N))


@pytest.mark.slow
@EVERY_KIND
def test_output_loss_equals_that_of_dm_clrs(reference, location, type_):
    probe = make_probe(location, type_)
    logits, truth = random_logits(probe, B), random_truth(probe, B)
    expected = output_loss_of_dm_clrs(reference, probe, logits, truth)
    assert probe_loss(probe, logits, truth).item() == pytest.approx(expected)


@pytest.mark.slow
@KINDS_WITH_MASKED_ENTRIES
def test_output_loss_with_unscored_entries_equals_that_of_dm_clrs(reference, location, type_):
    probe = make_probe(location, type_)
    logits, truth = random_logits(probe, 8 * B), with_unscored_entries(random_truth(probe, 8 * B))
    assert (truth == MASKED).any()
    expected = output_loss_of_dm_clrs(reference, probe, logits, truth)
    assert probe_loss(probe, logits, truth).item() == pytest.approx(expected)


@KINDS_WITH_MASKED_ENTRIES
def test_unscored_entries_get_no_gradient(location, type_):
    probe = make_probe(location, type_)
    logits, truth = random_logits(probe, 8 * B).requires_grad_(), with_unscored_entries(random_truth(probe, 8 * B))
    probe_loss(probe, logits, truth).backward()
    unscored = truth == MASKED
    expected = unscored[..., None].expand_as(logits) if type_ is Type.CATEGORICAL else unscored
    assert torch.equal(logits.grad == 0, expected)


@KINDS_WITH_MASKED_ENTRIES
def test_loss_is_zero_if_nothing_is_scored(location, type_):
    probe = make_probe(location, type_)
    logits, truth = random_logits(probe, B), torch.full_like(random_truth(probe, B), MASKED)
    assert probe_loss(probe, logits, truth).item() == 0


@KINDS_WITH_MASKED_ENTRIES
def test_gradient_is_zero_if_nothing_is_scored(location, type_):
    probe = make_probe(location, type_)
    logits = random_logits(probe, B).requires_grad_()
    probe_loss(probe, logits, torch.full_like(random_truth(probe, B), MASKED)).backward()
    assert torch.equal(logits.grad, torch.zeros_like(logits))


@EVERY_KIND
def test_loss_is_zero_if_there_are_no_graphs(location, type_):
    probe = make_probe(location, type_)
    assert probe_loss(probe, random_logits(probe, 0), random_truth(probe, 0)).item() == 0


@pytest.mark.parametrize("logit", [-1e4, 1e4])
def test_loss_of_a_mask_is_finite_however_sure_the_logit(logit):
    probe = make_probe(Location.NODE, Type.MASK)
    truth = random_truth(probe, B)
    expected = (truth != (logit > 0)).double().mean() * 1e4
    torch.testing.assert_close(probe_loss(probe, torch.full((B, N), logit), truth), expected)


@EVERY_KIND
def test_gradient_of_the_loss_equals_finite_differences(location, type_):
    probe = make_probe(location, type_)
    truth = random_truth(probe, 2)
    assert torch.autograd.gradcheck(
        lambda logits: probe_loss(probe, logits, truth), random_logits(probe, 2).requires_grad_()
    )


def valid_pairs() -> tuple[Tensor, Tensor]:
    """Time and graph of every hint but the first ones, in random order."""
    pairs = [(time, graph) for graph, length in enumerate(LENGTHS) for time in range(1, length)]
    order = torch.randperm(len(pairs))
    time, graph = torch.tensor(pairs)[order].unbind(dim=1)
    return time, graph


def hint_loss(probe: Probe, logits: Tensor, truth: Tensor) -> float:
    """The loss of hints [T, B, ...] with logits [T - 1, B, ...], those at t for the hint at t + 1."""
    time, graph = valid_pairs()
    predictions = Predictions({}, {"probe": logits[time - 1, graph]}, time, graph)
    feedback = Feedback(Features({}, {"probe": truth}, torch.tensor(LENGTHS)), {})
    return losses({"probe": probe}, predictions, feedback)["probe"].item()


def hint_loss_of_dm_clrs(reference: Any, probe: Probe, logits: Tensor, truth: Tensor) -> float:
    data = reference.array(in_dm_clrs(probe, truth))
    point = reference.DataPoint("probe", str(probe.location), str(probe.type), data)
    steps = [reference.array(logit) for logit in logits]
    return float(reference.losses.hint_loss(point, steps, reference.array(LENGTHS), N))


@EVERY_KIND
def test_hint_loss_over_ragged_lengths_equals_that_of_dm_clrs(reference, location, type_):
    probe = make_probe(location, type_, Stage.HINT)
    logits, truth = random_logits(probe, T - 1, B), random_truth(probe, T, B)
    assert hint_loss(probe, logits, truth) == pytest.approx(hint_loss_of_dm_clrs(reference, probe, logits, truth))


@KINDS_WITH_MASKED_ENTRIES
def test_hint_loss_with_unscored_entries_equals_that_of_dm_clrs(reference, location, type_):
    probe = make_probe(location, type_, Stage.HINT)
    logits, truth = random_logits(probe, T - 1, B), with_unscored_entries(random_truth(probe, T, B))
    assert (truth == MASKED).any()
    assert hint_loss(probe, logits, truth) == pytest.approx(hint_loss_of_dm_clrs(reference, probe, logits, truth))


@EVERY_KIND
def test_hints_after_a_samples_end_have_no_effect(location, type_):
    probe = make_probe(location, type_, Stage.HINT)
    logits, truth = random_logits(probe, T - 1, B), random_truth(probe, T, B)
    other = random_truth(probe, T, B)
    for graph, length in enumerate(LENGTHS):
        other[:length, graph] = truth[:length, graph]
    assert not torch.equal(other, truth)
    assert hint_loss(probe, logits, other) == pytest.approx(hint_loss(probe, logits, truth))


def test_the_first_hint_has_no_effect():
    probe = make_probe(Location.NODE, Type.SCALAR, Stage.HINT)
    logits, truth = random_logits(probe, T - 1, B), random_truth(probe, T, B)
    other = truth.clone()
    other[0] += 1
    assert hint_loss(probe, logits, other) == pytest.approx(hint_loss(probe, logits, truth))


def test_losses_are_of_every_predicted_probe_and_of_no_other():
    hint, output = make_probe(Location.NODE, Type.SCALAR, Stage.HINT), make_probe(Location.NODE, Type.POINTER)
    spec = {"x": make_probe(Location.NODE, Type.SCALAR, Stage.INPUT), "h": hint, "unpredicted": hint, "y": output}
    time, graph = valid_pairs()
    predictions = Predictions({"y": random_logits(output, B)}, {"h": random_logits(hint, len(time))}, time, graph)
    hints = {name: random_truth(hint, T, B) for name in ("h", "unpredicted")}
    features = Features({"x": torch.randn(B, N)}, hints, torch.tensor(LENGTHS))
    assert set(losses(spec, predictions, Feedback(features, {"y": random_truth(output, B)}))) == {"h", "y"}


def output_loss(probe: Probe, logits: Tensor, truth: Tensor, ended: Tensor | None) -> Tensor:
    """The loss of an output of which some graphs are scored."""
    nothing = torch.zeros(0, dtype=torch.int64)
    feedback = Feedback(Features({}, {}, torch.tensor(LENGTHS)), {"y": truth})
    return losses({"y": probe}, Predictions({"y": logits}, {}, nothing, nothing), feedback, ended)["y"]


ENDED = torch.tensor([True, False, False, True, True, False, True, False])


@pytest.mark.slow
@EVERY_KIND
@pytest.mark.parametrize("some_unscored", [False, True])
def test_output_loss_of_those_that_ended_equals_that_of_dm_clrs_for_chunks(reference, location, type_, some_unscored):
    probe = make_probe(location, type_)
    logits, truth = random_logits(probe, len(ENDED)), random_truth(probe, len(ENDED))
    if some_unscored and type_ in (Type.MASK, Type.CATEGORICAL):
        truth = with_unscored_entries(truth)
    data = reference.array(in_dm_clrs(probe, truth)[None])
    point = reference.DataPoint("y", str(location), str(type_), data)
    is_last = reference.array(ENDED[None].to(torch.int64))
    expected = float(reference.losses.output_loss_chunked(point, reference.array(logits[None]), is_last, N))
    assert output_loss(probe, logits, truth, ENDED).item() == pytest.approx(expected)


@EVERY_KIND
def test_output_loss_is_the_full_sample_loss_if_all_ended(location, type_):
    probe = make_probe(location, type_)
    logits, truth = random_logits(probe, B), random_truth(probe, B)
    all_ended = torch.ones(B, dtype=torch.bool)
    assert output_loss(probe, logits, truth, all_ended).equal(output_loss(probe, logits, truth, None))


@EVERY_KIND
def test_outputs_of_those_that_did_not_end_get_no_gradient(location, type_):
    probe = make_probe(location, type_)
    logits, truth = random_logits(probe, len(ENDED)).requires_grad_(), random_truth(probe, len(ENDED))
    output_loss(probe, logits, truth, ENDED).backward()
    assert logits.grad.view(len(ENDED), -1).any(dim=1).equal(ENDED)


@EVERY_KIND
def test_output_loss_and_its_gradient_are_zero_if_none_ended(location, type_):
    probe = make_probe(location, type_)
    logits, truth = random_logits(probe, B).requires_grad_(), random_truth(probe, B)
    loss = output_loss(probe, logits, truth, torch.zeros(B, dtype=torch.bool))
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_hints_are_scored_whether_or_not_their_sample_ended():
    probe = make_probe(Location.NODE, Type.SCALAR, Stage.HINT)
    time, graph = valid_pairs()
    predictions = Predictions({}, {"h": random_logits(probe, len(time))}, time, graph)
    feedback = Feedback(Features({}, {"h": random_truth(probe, T, B)}, torch.tensor(LENGTHS)), {})
    some, all_ = (losses({"h": probe}, predictions, feedback, ended)["h"] for ended in (ENDED[:B], None))
    assert some.equal(all_)


def test_loss_of_an_output_is_that_of_its_probe():
    probe = make_probe(Location.NODE, Type.POINTER)
    logits, truth = random_logits(probe, B), random_truth(probe, B)
    nothing = torch.zeros(0, dtype=torch.int64)
    feedback = Feedback(Features({}, {}, torch.tensor(LENGTHS)), {"y": truth})
    given = losses({"y": probe}, Predictions({"y": logits}, {}, nothing, nothing), feedback)["y"]
    torch.testing.assert_close(given, probe_loss(probe, logits, truth))
