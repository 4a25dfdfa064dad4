"""What a page is made of."""

import json
import math

import numpy as np
import pytest
import torch

from nar.analysis.latents import collect
from nar.batch import Batch, to_tensors
from nar.datasets import ALGORITHMS, sample
from nar.datasets.clrs30.recipe import apply_recipe, recipe_spec
from nar.errors import UserError
from nar.model.decoders import predicted_value
from nar.model.metrics import counts, scores
from nar.ops.pca import pca
from nar.processors import PGN
from nar.specs import Location, Probe, Stage, Type
from nar.training.reasoner import Reasoner
from nar.viewer.trajectory import Track, Trajectory, trajectory_of
from nar.viewer.view import show

SIZE = 5


@pytest.fixture(scope="module")
def reasoner() -> Reasoner:
    """A model of all algorithms that has learnt nothing."""
    torch.manual_seed(0)
    return Reasoner({name: recipe_spec(name) for name in ALGORITHMS}, PGN(hidden_dim=4)).eval()


def tracks(trajectory: Trajectory) -> dict[str, Track]:
    """The probes by name."""
    return {track.name: track for track in trajectory.tracks}


@pytest.mark.parametrize("algorithm", ["bfs", "insertion_sort", "kmp_matcher", "lcs_length", "mst_kruskal"])
def test_true_values_are_those_of_the_algorithm(algorithm: str, reasoner: Reasoner) -> None:
    drawn = sample(algorithm, num_nodes=SIZE, num_samples=2, seed=1)
    found = tracks(show(reasoner, algorithm, drawn, graph=1).trajectory)
    (inputs, hints, lengths), outputs = drawn
    for name, data in outputs.items():
        assert found[name].true == [masked(data[1])], name
    for name in inputs.keys() & found.keys():
        np.testing.assert_allclose(found[name].true[0], inputs[name][1].reshape(-1), atol=1e-4)
    for name in hints.keys() & found.keys():
        assert len(found[name].true) == lengths[1]
        if found[name].probe.type is not Type.SCALAR:
            assert found[name].true == [masked(data) for data in hints[name][: lengths[1], 1]], name


def masked(data: np.ndarray) -> object:  # type: ignore[type-arg]
    """A value of a probe as a page has it."""
    flat = [None if x == -1 else x for x in data.reshape(-1).astype(int).tolist()]
    return flat if data.ndim else flat[0]


def test_predicted_values_are_those_of_the_model(reasoner: Reasoner) -> None:
    drawn = apply_recipe("dijkstra", sample("dijkstra", num_nodes=SIZE, num_samples=1, seed=2))
    feedback = to_tensors(drawn, reasoner.specs["dijkstra"])
    trajectory = show(reasoner, "dijkstra", drawn).trajectory
    found, spec = tracks(trajectory), reasoner.specs["dijkstra"]
    with torch.no_grad():
        predictions = reasoner.model("dijkstra", feedback.features)
    assert found["pi"].predicted == [predicted_value(spec["pi"], predictions.outputs["pi"])[0].tolist()]
    for name, logits in predictions.hints.items():
        assert found[name].predicted[0] is None
        expected = predicted_value(spec[name], logits)
        assert len(found[name].predicted) == 1 + len(expected)
        np.testing.assert_allclose(np.array(found[name].predicted[1:]), expected.numpy(), atol=1e-4)
    expected_score = scores(spec, counts(spec, predictions.outputs, feedback.outputs))
    assert trajectory.score == expected_score


def test_states_are_the_model_s_along_their_components(reasoner: Reasoner) -> None:
    feedback = to_tensors(sample("bfs", num_nodes=SIZE, num_samples=1, seed=3), reasoner.specs["bfs"])
    trajectory = show(reasoner, "bfs", feedback).trajectory
    hidden = collect(reasoner.model, [Batch("bfs", SIZE, 0, feedback)]).hidden
    components = pca(hidden.flatten(0, 1))
    assert trajectory.states is not None
    assert trajectory.num_steps == len(hidden) == len(trajectory.states)
    np.testing.assert_allclose(trajectory.states, components.coordinates(hidden)[..., :2], atol=1e-3)
    np.testing.assert_allclose(trajectory.shares, components.shares[:2], atol=1e-3)


def test_states_without_components_are_left_out() -> None:
    reasoner = Reasoner({"bfs": recipe_spec("bfs")}, PGN(hidden_dim=1))
    assert show(reasoner, "bfs", num_nodes=4).trajectory.states is None


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_algorithm_has_a_page(algorithm: str, reasoner: Reasoner) -> None:
    trajectory = show(reasoner, algorithm, num_nodes=SIZE).trajectory
    size, last = len(trajectory.nodes), trajectory.num_steps
    assert len(set(trajectory.nodes)) == size
    assert sorted(node for own in trajectory.sequences for node in own) == list(range(size))
    for layout in trajectory.layouts:
        assert len(layout.positions) == len(layout.outward) == size
        assert all(0 < x < layout.width and 0 < y < layout.height for x, y in layout.positions)
    for track in trajectory.tracks:
        values = [x for x in track.true + track.predicted if x is not None]
        is_one = track.probe.location is Location.GRAPH or track.probe.type is Type.MASK_ONE
        shape = size * size if track.probe.location is Location.EDGE else size
        assert all(isinstance(x, int | float) if is_one else len(x) == shape for x in values), track.name
        if track.probe.stage is Stage.HINT:
            assert len(track.predicted) == len(track.true) == last + 1, track.name
        assert track.meaning.sentence
    as_text = json.dumps(trajectory.as_json(), allow_nan=False)
    assert json.loads(as_text)["algorithm"] == algorithm


def test_nothing_is_predicted_of_hints_that_the_model_does_not_use() -> None:
    reasoner = Reasoner({"bfs": recipe_spec("bfs")}, PGN(hidden_dim=4), hint_mode="none")
    found = tracks(show(reasoner, "bfs", num_nodes=4).trajectory)
    assert found["pi_h"].predicted == found["reach_h"].predicted == []
    assert len(found["pi"].predicted) == 1


def test_a_trajectory_of_one_hint_has_a_step_whose_hint_is_compared_with_none(reasoner: Reasoner) -> None:
    drawn = sample("bfs", num_nodes=4, num_samples=1, seed=0, p=[0.0])
    short = drawn._replace(
        features=drawn.features._replace(
            hints={name: data[:1] for name, data in drawn.features.hints.items()}, lengths=np.array([1])
        )
    )
    trajectory = show(reasoner, "bfs", short).trajectory
    assert trajectory.num_steps == 1
    assert all(len(track.true) == 1 for track in trajectory.tracks)
    assert len(tracks(trajectory)["pi_h"].predicted) == 2


def test_numbers_that_are_none_are_left_out(reasoner: Reasoner) -> None:
    with torch.no_grad():
        broken = Reasoner({"bellman_ford": recipe_spec("bellman_ford")}, PGN(hidden_dim=4))
        for x in broken.parameters():
            x.fill_(math.inf)
    page = show(broken, "bellman_ford", num_nodes=4)
    assert set(tracks(page.trajectory)["d"].predicted[1]) == {None}
    assert page.trajectory.states is None
    assert page.html


def test_the_model_is_left_as_it_was(reasoner: Reasoner) -> None:
    reasoner.train()
    before = {name: x.clone() for name, x in reasoner.state_dict().items()}
    random = torch.get_rng_state()
    show(reasoner, "heapsort", num_nodes=4)
    assert reasoner.model.training
    assert all(torch.equal(x, before[name]) for name, x in reasoner.state_dict().items())
    assert torch.equal(random, torch.get_rng_state())
    reasoner.eval()


def test_probes_that_the_model_does_not_know_are_left_out() -> None:
    spec = {name: probe for name, probe in recipe_spec("quickselect").items() if name != "pivot"}
    reasoner = Reasoner({"quickselect": spec}, PGN(hidden_dim=4))
    assert "pivot" not in tracks(show(reasoner, "quickselect", num_nodes=4).trajectory)


def test_missing_probes_are_refused(reasoner: Reasoner) -> None:
    drawn = to_tensors(sample("bfs", num_nodes=4, num_samples=1, seed=0), reasoner.specs["bfs"])
    spec = {**reasoner.specs["bfs"], "more": Probe(Stage.HINT, Location.NODE, Type.MASK)}
    with pytest.raises(UserError, match="expected the hint more of bfs, given reach_h, pi_h"):
        trajectory_of(reasoner.model, spec, "bfs", drawn)
    with pytest.raises(UserError, match="expected one of 1 trajectories, from 0, given 1"):
        trajectory_of(reasoner.model, reasoner.specs["bfs"], "bfs", drawn, graph=1)


def test_a_model_can_take_more_or_fewer_steps_than_the_algorithm(reasoner: Reasoner) -> None:
    drawn = sample("bfs", num_nodes=SIZE, num_samples=1, seed=4)
    classical = show(reasoner, "bfs", drawn).trajectory
    longer = show(reasoner, "bfs", drawn, num_steps=classical.num_steps + 2).trajectory
    shorter = show(reasoner, "bfs", drawn, num_steps=1).trajectory
    assert (longer.num_steps, shorter.num_steps) == (classical.num_steps + 2, 1)
    assert longer.num_true_steps == shorter.num_true_steps == classical.num_steps
    for trajectory in (longer, shorter):
        pi, reference = tracks(trajectory)["pi_h"], tracks(classical)["pi_h"]
        assert pi.true == reference.true
        assert len(pi.predicted) == trajectory.num_steps + 1
        common = min(len(pi.predicted), len(reference.predicted))
        assert pi.predicted[:common] == reference.predicted[:common]
    with pytest.raises(UserError, match="expected at least one step, given 0"):
        show(reasoner, "bfs", drawn, num_steps=0)


def test_nodes_have_the_names_that_a_user_gives(reasoner: Reasoner) -> None:
    assert show(reasoner, "bfs", num_nodes=3, names=["a", ("b", 1), 7]).trajectory.nodes == ["a", "('b', 1)", "7"]
    with pytest.raises(UserError, match="expected one name for each of 3 nodes, given 2"):
        show(reasoner, "bfs", num_nodes=3, names=["a", "b"])
