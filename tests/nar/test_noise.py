"""Noise in the latent space."""
# Axes: B graphs, N nodes, H hidden, K directions.

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from nar.noise import Corrupt, Directional, Discard, Noise, Project, Uniform, read_directions

B, N, H, K = 4, 500, 8, 2
IS_LAST = torch.tensor([True, False, True, False])


@pytest.fixture
def directions(tmp_path: Path) -> str:
    """A file of rows that are neither of length 1 nor at right angles."""
    path = tmp_path / "directions.safetensors"
    save_file({"directions": torch.randn(K, H)}, path)
    return str(path)


@pytest.fixture
def span(directions: str) -> Tensor:
    """Orthonormal rows, [K, H]."""
    return read_directions(directions)


def states() -> Tensor:
    return 3 * torch.randn(B, N, H) + 1


MAKERS: dict[str, Callable[[str], Noise]] = {
    "Uniform": lambda _: Uniform(0.5),
    "Directional": lambda directions: Directional(directions, 0.5),
    "Project": Project,
    "Discard": Discard,
    "Corrupt": lambda _: Corrupt(0.5),
}
every_noise = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)


def test_uniform_noise_has_its_scale_for_its_expected_length_in_every_direction() -> None:
    hidden = states()
    noise = Uniform(0.5)(hidden, IS_LAST) - hidden
    covariance = noise.flatten(0, 1).T.cov()
    torch.testing.assert_close(covariance, 0.5**2 / H * torch.eye(H), rtol=0, atol=0.006)
    assert noise.mean().abs() < 0.01
    assert noise.square().sum(dim=-1).mean().item() == pytest.approx(0.5**2, rel=0.1)


def test_directional_noise_is_in_the_span_alone_and_alike_in_all_of_it(directions: str, span: Tensor) -> None:
    hidden = states()
    noise = Directional(directions, 0.5)(hidden, IS_LAST) - hidden
    torch.testing.assert_close(noise @ span.mT @ span, noise, rtol=0, atol=1e-5)
    covariance = (noise @ span.mT).flatten(0, 1).T.cov()
    torch.testing.assert_close(covariance, 0.5**2 * torch.eye(K), rtol=0, atol=0.03)


def test_what_is_projected_and_what_is_discarded_add_up_at_right_angles(directions: str, span: Tensor) -> None:
    hidden = states()
    kept, rest = Project(directions)(hidden, IS_LAST), Discard(directions)(hidden, IS_LAST)
    torch.testing.assert_close(kept + rest, hidden)
    torch.testing.assert_close(kept @ span.mT, hidden @ span.mT)
    torch.testing.assert_close(rest @ span.mT, torch.zeros(B, N, K), rtol=0, atol=1e-5)
    assert torch.linalg.matrix_rank(kept.flatten(0, 1)) == K
    torch.testing.assert_close(Project(directions)(kept, IS_LAST), kept)


def test_directions_are_made_orthonormal_and_span_the_same(tmp_path: Path) -> None:
    given = torch.randn(K, H)
    save_file({"directions": given}, tmp_path / "given")
    made = read_directions(str(tmp_path / "given"))
    torch.testing.assert_close(made @ made.mT, torch.eye(K))
    torch.testing.assert_close(given @ made.mT @ made, given)


def test_corruption_replaces_the_states_after_the_last_step_alone() -> None:
    hidden = 100 + states()
    changed = Corrupt(0.5)(hidden, IS_LAST)
    assert changed[~IS_LAST].equal(hidden[~IS_LAST])
    assert changed[IS_LAST].mean().item() == pytest.approx(0, abs=0.03)
    assert changed[IS_LAST].std().item() == pytest.approx(0.5, rel=0.05)


@every_noise
@pytest.mark.parametrize(
    ("when", "in_training", "in_evaluation"),
    [("always", True, True), ("training", True, False), ("evaluation", False, True)],
)
def test_noise_is_there_when_it_is_asked_for(
    make: Callable[[str], Noise], when: str, in_training: bool, in_evaluation: bool, directions: str
) -> None:
    noise, hidden = make(directions), states()
    noise.when = when  # type: ignore[assignment]
    for training, is_on in ((True, in_training), (False, in_evaluation)):
        assert noise.train(training)(hidden, IS_LAST).equal(hidden) != is_on


@every_noise
def test_equal_seeds_draw_equal_noise(make: Callable[[str], Noise], directions: str) -> None:
    noise, hidden = make(directions), states()
    drawn = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        drawn.append(noise(hidden, IS_LAST))
    assert drawn[0].equal(drawn[1])
    assert drawn[0].equal(drawn[2]) == isinstance(noise, Project | Discard)


@every_noise
def test_noise_is_in_the_precision_of_the_states(make: Callable[[str], Noise], directions: str) -> None:
    for dtype in (torch.float64, torch.bfloat16):
        assert make(directions)(states().to(dtype), IS_LAST).dtype == dtype


@every_noise
def test_noise_has_nothing_to_be_learnt_or_kept(make: Callable[[str], Noise], directions: str) -> None:
    assert make(directions).state_dict() == {}


def test_a_bad_setting_is_refused_by_name(directions: str) -> None:
    with pytest.raises(ValueError, match="expected when 'always', 'training' or 'evaluation', given 'test'"):
        Uniform(when="test")  # type: ignore[arg-type]
    for make in (Uniform, Corrupt, lambda scale: Directional(directions, scale)):
        with pytest.raises(ValueError, match="expected a scale of at least 0, given -1"):
            make(-1.0)


def test_directions_of_another_width_are_refused(directions: str) -> None:
    with pytest.raises(ValueError, match=f"expected directions of width 5, given {H}"):
        Project(directions)(torch.randn(B, N, 5), IS_LAST)


def test_what_holds_no_directions_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "given"
    with pytest.raises(ValueError, match=f"expected a safetensors file of directions, given {path}"):
        read_directions(str(path))
    path.write_text("not safetensors")
    with pytest.raises(ValueError, match=f"expected a safetensors file of directions, given {path}"):
        read_directions(str(path))
    wrong = {"other": (torch.eye(3), "None"), "directions": (torch.ones(2, 3), r"\[2, 3\]")}
    for name, (tensor, given) in wrong.items():
        save_file({name: tensor}, path)
        with pytest.raises(ValueError, match=rf"expected independent rows .* in {path}, given {given}"):
            read_directions(str(path))
