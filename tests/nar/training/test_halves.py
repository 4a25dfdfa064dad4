"""The halves of a training batch in two threads."""

# Axes: B graphs.
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from nar.batch import Batch
from nar.datasets.clrs30.recipe import recipe_spec
from nar.datasets.splits.splits import TrainStream
from nar.model import Reconstruction, decoders
from nar.noise import Uniform
from nar.ops import parallel
from nar.ops.parallel import in_parallel, side_by_side
from nar.processor import Processor
from nar.processors import DeepSets, GATv2, TripletGMPNN
from nar.specs import Probe, Stage, Type
from nar.training import execution
from nar.training.execution import Execution
from nar.training.reasoner import Reasoner


@pytest.fixture(autouse=True)
def _in_float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture(autouse=True)
def _two_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "num_threads", 2)


def draw(algorithm: str, chunk_length: int | None = None) -> Batch:
    return TrainStream([algorithm], [5], 9, seed=3, chunk_length=chunk_length)[0]


def losses_and_gradients(algorithm: str, batch: Batch, processor: Processor | None = None, **settings: Any) -> Any:
    """The loss, all losses by name, and gradients of a training step, one parameter being kept as it is."""
    torch.manual_seed(0)
    reasoner = Reasoner({algorithm: recipe_spec(algorithm)}, processor or TripletGMPNN(8), **settings)
    logged: dict[str, Tensor] = {}
    reasoner.log_dict = lambda named, **_: logged.update(named)  # type: ignore[method-assign, assignment]
    reasoner.log = lambda *args, **_: None  # type: ignore[method-assign]
    kept = next(reasoner.parameters()).requires_grad_(False)
    loss = reasoner.training_step(batch, 0)
    loss.backward()
    assert kept.grad is None
    return loss, logged, [parameter.grad for parameter in reasoner.parameters()]


@pytest.mark.parametrize(
    ("algorithm", "chunk_length", "settings"),
    [
        *(("bfs", None, {}), ("insertion_sort", None, {}), ("heapsort", None, {}), ("lcs_length", None, {})),
        *(("heapsort", 3, {}), ("bfs", 4, {})),
        *(("floyd_warshall", length, {"edge_pointers": "triplets"}) for length in (None, 3)),
        ("dijkstra", None, {"difference_scales": 2, "num_frequencies": 2, "num_processor_steps": {"dijkstra": 2}}),
    ],
)
def test_a_step_in_halves_is_the_step(
    algorithm: str, chunk_length: int | None, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = draw(algorithm, chunk_length)
    if chunk_length is None:
        batch.feedback.features.lengths[0] = 1  # of which no hint is scored
    reasoner = Reasoner({algorithm: recipe_spec(algorithm)}, TripletGMPNN(8))
    assert reasoner.execution.is_halved(batch)
    halved = losses_and_gradients(algorithm, batch, **settings)
    monkeypatch.setattr(Execution, "is_halved", lambda self, batch: False)
    expected = losses_and_gradients(algorithm, batch, **settings)
    torch.testing.assert_close(halved, expected)


def test_halves_in_which_nothing_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = draw("heapsort", 3)
    assert batch.ended is not None
    batch.ended[:] = False
    batch.ended[batch.feedback.features.lengths.argmax()] = True  # in one of both
    halved = losses_and_gradients("heapsort", batch)
    monkeypatch.setattr(Execution, "is_halved", lambda self, batch: False)
    torch.testing.assert_close(halved, losses_and_gradients("heapsort", batch))


def test_noise_is_that_of_the_whole_batch() -> None:
    like, rows = torch.empty(6, 3, 3).mT, torch.tensor([4, 0, 5])
    torch.manual_seed(7)
    expected = decoders.gumbel_noise(like)[rows]
    with decoders.noise_of_rows(rows, 6, 7):
        torch.testing.assert_close(decoders.gumbel_noise(like[rows]), expected, rtol=0, atol=0)
    assert not torch.equal(decoders.gumbel_noise(like)[rows], expected)


class Together(TripletGMPNN):
    """Graphs look at one another."""

    is_separable = False


@pytest.mark.parametrize(
    ("settings", "processor"),
    [
        ({"hint_teacher_forcing": 0.5}, TripletGMPNN(8)),
        ({"dropout": 0.1}, TripletGMPNN(8)),
        ({"latent_noise": Uniform(0.1)}, TripletGMPNN(8)),
        ({"reconstruction": Reconstruction()}, TripletGMPNN(8)),
        ({"reconstruction": Reconstruction(mask_ratio=0.5)}, TripletGMPNN(8)),
        ({}, Together(8)),
    ],
)
def test_what_draws_or_looks_at_other_graphs_is_computed_whole(settings: dict[str, Any], processor: Processor) -> None:
    batch = draw("bfs")
    spec = {"bfs": recipe_spec("bfs")}
    assert Reasoner(spec, TripletGMPNN(8)).execution.is_halved(batch)
    assert not Reasoner(spec, processor, **settings).execution.is_halved(batch)


def test_what_hooks_do_to_gradients_is_done_once() -> None:
    batch, reasoner = draw("bfs"), Reasoner({"bfs": recipe_spec("bfs")}, TripletGMPNN(8))
    hook = next(reasoner.parameters()).register_hook(lambda gradient: gradient / 2)
    assert not reasoner.execution.is_halved(batch)
    hook.remove()
    assert reasoner.execution.is_halved(batch)


def test_hints_that_draw_noise_are_computed_whole() -> None:
    batch, spec = draw("bfs"), recipe_spec("bfs")
    location = spec["pi_h"].location
    drawing = {**spec, "pi_h": Probe(Stage.HINT, location, Type.PERMUTATION_POINTER)}
    assert not Reasoner({"bfs": drawing}, TripletGMPNN(8)).execution.is_halved(batch)


def test_small_batches_and_single_cores_are_computed_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = draw("bfs")
    reasoner = Reasoner({"bfs": recipe_spec("bfs")}, TripletGMPNN(8))
    with torch.autocast("cpu", torch.bfloat16):
        assert not reasoner.execution.is_halved(batch)
    monkeypatch.setattr(execution, "MIN_HALVED", 10)
    assert not reasoner.execution.is_halved(batch)
    monkeypatch.setattr(execution, "MIN_HALVED", 9)
    assert reasoner.execution.is_halved(batch)
    monkeypatch.setattr(parallel, "num_threads", 1)
    assert not reasoner.execution.is_halved(batch)


@pytest.mark.parametrize("kind", [DeepSets, GATv2])
def test_other_processors_in_halves(kind: type[Processor], monkeypatch: pytest.MonkeyPatch) -> None:
    batch, processor = draw("bfs"), kind(8)
    halved = losses_and_gradients("bfs", batch, processor)
    monkeypatch.setattr(Execution, "is_halved", lambda self, batch: False)
    processor.zero_grad()
    torch.testing.assert_close(losses_and_gradients("bfs", batch, processor), halved)


@pytest.mark.parametrize(("num_threads", "share"), [(1, 1), (2, 1), (3, 1), (4, 2), (5, 2)])
def test_functions_side_by_side_have_a_share_of_the_threads(
    num_threads: int, share: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parallel, "num_threads", num_threads)
    meet = threading.Barrier(2 * share if num_threads > 1 else 1, timeout=20)

    def inside(part: int) -> int:
        meet.wait()  # which all do at a time, or the test fails
        return part

    def outside(part: int) -> tuple[list[int], bool]:
        return in_parallel(inside, [10 * part + index for index in range(share)]), torch.is_grad_enabled()

    assert side_by_side(outside, [1, 2]) == [([10 * p + index for index in range(share)], True) for p in (1, 2)]
    assert not hasattr(parallel._here, "num_threads")
