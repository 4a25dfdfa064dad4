"""Noise of several strengths, and instances that differ from others."""
# Axes: I instances, V variants, T steps, H hidden.

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from nar.analysis.studies import SCALES, _kinds_of_noise, displacement, score_with_noise, sensitivity
from nar.batch import Batch, to_tensors
from nar.datasets import sample
from nar.datasets.clrs30.recipe import apply_recipe, recipe_spec
from nar.model.metrics import counts, scores
from nar.model.unroll import EncodeProcessDecode
from nar.noise import Corrupt, Directional, Project, Uniform
from nar.processors import TripletGMPNN

H = 8
SPEC = recipe_spec("bfs")


@pytest.fixture
def batches() -> list[Batch]:
    """Two batches of one size."""
    raw = [apply_recipe("bfs", sample("bfs", num_nodes=6, num_samples=8, seed=seed)) for seed in (0, 1)]
    return [Batch("bfs", 6, 0, to_tensors(feedback, SPEC)) for feedback in raw]


@pytest.fixture
def model() -> EncodeProcessDecode:
    """In training mode, and with noise of its own."""
    return EncodeProcessDecode({"bfs": SPEC}, TripletGMPNN(H), latent_noise=Corrupt())


@pytest.fixture
def directions(tmp_path: Path) -> Path:
    """All H directions."""
    save_file({"directions": torch.eye(H)}, tmp_path / "directions.safetensors")
    return tmp_path / "directions.safetensors"


def test_every_kind_of_noise_is_tried_at_every_strength(
    model: EncodeProcessDecode, batches: list[Batch], directions: Path
) -> None:
    results = sensitivity(model, SPEC, batches, directions)
    tried = {(result.noise, result.strength) for result in results}
    scaled = {(name, scale) for name in ("Uniform", "Directional", "Corrupt") for scale in SCALES}
    assert tried == {("none", 0), *scaled, *((name, k) for name in ("Project", "Discard") for k in (1, 2, 4, 8))}
    assert len(results) == len(tried)
    assert all(0 <= result.score <= 1 for result in results)


def test_a_strength_of_projection_is_the_number_of_first_directions(directions: Path) -> None:
    (two,) = (noise for strength, noise in _kinds_of_noise(directions) if strength == 2 and isinstance(noise, Project))
    assert two(torch.ones(1, 1, H), torch.tensor([False])).tolist() == [[[1, 1, 0, 0, 0, 0, 0, 0]]]


def test_directional_noise_is_along_the_two_directions_of_pictures(directions: Path) -> None:
    for _, noise in _kinds_of_noise(directions):
        if isinstance(noise, Directional):
            changed = noise(torch.zeros(1, 1, H), torch.tensor([False]))[0, 0] != 0
            assert changed.tolist() == [True, True] + (H - 2) * [False]


def test_the_score_without_noise_is_pooled_over_the_batches(model: EncodeProcessDecode, batches: list[Batch]) -> None:
    found = score_with_noise(None, model, SPEC, batches)
    model.eval()
    model.latent_noise = None
    by_batch = [
        counts(SPEC, model("bfs", batch.feedback.features).outputs, batch.feedback.outputs)["pi"] for batch in batches
    ]
    assert found == pytest.approx(scores(SPEC, {"pi": by_batch[0] + by_batch[1]})["score"])


def test_noise_changes_the_score_and_is_drawn_the_same_every_time(
    model: EncodeProcessDecode, batches: list[Batch]
) -> None:
    plain, once, again = (score_with_noise(noise, model, SPEC, batches) for noise in (None, Uniform(50), Uniform(50)))
    assert once == again
    assert once != plain


def test_what_torch_draws_next_does_not_depend_on_scores_under_noise(
    model: EncodeProcessDecode, batches: list[Batch]
) -> None:
    state = torch.get_rng_state()
    score_with_noise(Uniform(1), model, SPEC, batches)
    assert torch.equal(torch.get_rng_state(), state)


def test_variants_are_measured_from_their_instance_in_units_of_the_distance_between_instances() -> None:
    zero, ones = torch.zeros(2, 4), torch.ones(2, 4)  # [T, H], at a distance of 2 at every step
    half = torch.stack([torch.zeros(4), torch.ones(4)])
    found = displacement(torch.stack([torch.stack([zero, ones, half]), torch.stack([3 * ones, 3 * ones, 2 * ones])]))
    torch.testing.assert_close(found.of_variants, torch.tensor([[0, 2, 2**0.5], [0, 0, 2]]))
    assert found.between == 6
    torch.testing.assert_close(found.relative, found.of_variants / 6)
