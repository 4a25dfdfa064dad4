"""What is collected of node states, and what is made of it."""
# Axes: B trajectories, N nodes, H hidden, T steps.

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from nar.analysis.latents import Latents, collect, distances, first_of_each
from nar.batch import Batch, Features, to_tensors
from nar.datasets import sample
from nar.datasets.clrs30.recipe import apply_recipe, recipe_spec
from nar.model.evaluating import evaluating, with_noise
from nar.model.unroll import EncodeProcessDecode
from nar.noise import Uniform
from nar.ops.pca import pca
from nar.processors import TripletGMPNN

B, N, H = 6, 5, 8
ORDER = torch.tensor([3, 0, 4, 1, 2])


def make_batch(algorithm: str = "bellman_ford", *, num_nodes: int = N, num_samples: int = B, seed: int = 0) -> Batch:
    """Trajectories of different lengths, the longest not the first."""
    raw = sample(algorithm, num_nodes=num_nodes, num_samples=num_samples, seed=seed, p=(0.3,))
    return Batch(algorithm, num_nodes, 0, to_tensors(apply_recipe(algorithm, raw), recipe_spec(algorithm)))


def make_model(**settings: Any) -> EncodeProcessDecode:
    torch.manual_seed(1)
    return EncodeProcessDecode({"bellman_ford": recipe_spec("bellman_ford")}, TripletGMPNN(H), **settings).eval()


def renamed(features: Features[Tensor], order: Tensor) -> Features[Tensor]:
    """The same graphs of Bellman-Ford, in which node i is what was node ``order[i]``, with its position."""
    new_name = order.argsort()
    inputs, hints = features.inputs, features.hints
    return features._replace(
        inputs={
            "pos": inputs["pos"][:, order],
            "s": new_name[inputs["s"].long()],
            **{name: inputs[name][:, order][:, :, order] for name in ("A", "adj")},
        },
        hints={"pi_h": new_name[hints["pi_h"].long()][..., order], **{n: hints[n][..., order] for n in ("d", "msk")}},
    )


def test_states_are_what_a_hook_on_the_processor_sees_in_the_order_of_the_batch() -> None:
    model, batch = make_model(), make_batch()
    seen: list[Tensor] = []
    hook = model.processor.register_forward_hook(lambda module, given, result: seen.append(result[0]))
    with torch.no_grad():
        model(batch.algorithm, batch.feedback.features)
    hook.remove()
    num_steps = (batch.feedback.features.lengths - 1).clamp(min=1).tolist()
    assert num_steps != sorted(num_steps, reverse=True)
    longest_first = sorted(range(B), key=lambda graph: -num_steps[graph])
    expected = [
        torch.stack([states[longest_first.index(graph)] for states in seen[: num_steps[graph]]]) for graph in range(B)
    ]
    latents = collect(model, [batch])
    assert latents.num_steps.tolist() == num_steps
    torch.testing.assert_close(latents.hidden, torch.cat(expected))


def test_states_of_several_batches_follow_one_another() -> None:
    model, batches = make_model(), [make_batch(seed=0), make_batch(num_samples=3, seed=5)]
    both = collect(model, batches)
    of_each = [collect(model, [batch]) for batch in batches]
    torch.testing.assert_close(both.hidden, torch.cat([one.hidden for one in of_each]))
    torch.testing.assert_close(both.by_step(), torch.cat([one.by_step() for one in of_each]))


def test_the_state_of_a_graph_is_the_maximum_over_its_nodes() -> None:
    latents = collect(make_model(), [make_batch()], num_extra_steps=2)
    torch.testing.assert_close(latents.by_step(), latents.hidden.amax(dim=1))


def test_trajectories_go_on_until_all_have_had_the_steps_of_the_longest_and_more() -> None:
    model, batch = make_model(), make_batch()
    latents = collect(model, [batch], num_extra_steps=3)
    assert latents.graph_hidden.shape == (B, int(latents.num_steps.max()) + 3, H)
    features = batch.feedback.features
    num_hints = torch.full_like(features.lengths, latents.graph_hidden.shape[1] + 1)
    longer = features._replace(lengths=num_hints)
    all_own = collect(model, [batch._replace(feedback=batch.feedback._replace(features=longer))])
    torch.testing.assert_close(latents.graph_hidden, all_own.hidden.amax(dim=1).unflatten(0, (B, -1)))


def test_renaming_nodes_with_their_positions_leaves_the_states_of_graphs_as_they_are() -> None:
    model, batch = make_model().double(), make_batch()
    torch.set_default_dtype(torch.float64)
    try:
        features = renamed(batch.feedback.features, ORDER)
        other = batch._replace(feedback=batch.feedback._replace(features=features))
        one, two = (collect(model, [given], num_extra_steps=2) for given in (batch, other))
    finally:
        torch.set_default_dtype(torch.float32)
    torch.testing.assert_close(two.graph_hidden, one.graph_hidden, rtol=0, atol=1e-12)
    torch.testing.assert_close(two.hidden, one.hidden[:, ORDER], rtol=0, atol=1e-12)


def test_a_model_is_left_as_it_was_and_its_noise_is_not_in_the_states() -> None:
    noise = Uniform()
    noisy, plain, batch = make_model(latent_noise=noise).train(), make_model(), make_batch()
    torch.testing.assert_close(collect(noisy, [batch]).hidden, collect(plain, [batch]).hidden)
    assert noisy.training
    assert noisy.latent_noise is noise


def test_a_model_is_left_as_it_was_after_an_error() -> None:
    model = make_model().train()
    model.processor.eval()
    modes = {name: module.training for name, module in model.named_modules()}
    seen = []

    def look() -> None:
        with with_noise(model, Uniform()), evaluating(model):
            seen.extend(module.training for module in model.modules())
            raise RuntimeError("on the way")

    with pytest.raises(RuntimeError, match="on the way"):
        look()
    assert seen
    assert not any(seen)
    assert {name: module.training for name, module in model.named_modules()} == modes
    assert set(modes.values()) == {False, True}
    assert model.latent_noise is None


@pytest.mark.parametrize(("batches", "extra"), [([], 0), ([make_batch()], -1)])
def test_what_cannot_be_collected_is_refused(batches: list[Batch], extra: int) -> None:
    with pytest.raises(ValueError, match=f"given {len(batches)} and {extra}"):
        collect(make_model(), batches, num_extra_steps=extra)


def test_components_are_those_of_numpys_singular_value_decomposition() -> None:
    points = torch.randn(20, 6) @ torch.randn(6, 6) + 5
    found, centred = pca(points), (points - points.mean(dim=0)).double().numpy()
    _, lengths, rows = np.linalg.svd(centred, full_matrices=False)
    np.testing.assert_allclose(found.variances, lengths**2 / 19, rtol=1e-6)
    np.testing.assert_allclose(np.abs((found.components.numpy() * rows).sum(axis=1)), 1, rtol=1e-6)
    np.testing.assert_allclose(found.coordinates(points).numpy(), centred @ found.components.numpy().T, atol=1e-5)
    np.testing.assert_allclose(found.shares.sum(), 1)


def test_the_sign_of_a_component_is_that_of_its_farthest_entry() -> None:
    points = torch.randn(20, 6)
    one, other = pca(points), pca(-points)
    largest = one.components.abs().argmax(dim=1)
    assert (one.components.gather(1, largest[:, None]) > 0).all()
    torch.testing.assert_close(other.components, one.components)


@pytest.mark.parametrize(
    ("points", "message"),
    [
        (torch.zeros(1, 4), "expected at least 2 points in 2 dimensions, given 1 in 4"),
        (torch.zeros(3, 1), "expected at least 2 points in 2 dimensions, given 3 in 1"),
        (torch.tensor([[0.0, 1.0], [torch.inf, 0.0]]), "expected states that are finite"),
    ],
)
def test_what_has_no_components_is_refused(points: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pca(points)


def test_points_that_are_all_the_same_have_no_variance() -> None:
    assert pca(torch.ones(4, 3)).shares.tolist() == [0, 0, 0]


def test_distances_are_to_the_own_end_to_the_last_state_and_to_the_state_before() -> None:
    states = torch.tensor([[[3.0, 4.0], [3.0, 0.0], [0.0, 0.0]]])
    found = distances(Latents(torch.empty(2, 1, 2), torch.tensor([2]), states))
    assert found.to_end.tolist() == [[4, 0, 3]]
    assert found.to_attractor.tolist() == [[5, 3, 0]]
    assert found.moved.tolist() == [[5, 4, 3]]


def test_a_trajectory_is_one_point_and_so_is_each_of_its_own_steps() -> None:
    states = torch.arange(12.0).view(2, 3, 2)
    latents = Latents(torch.empty(3, 1, 2), torch.tensor([1, 2]), states)
    assert latents.by_trajectory().tolist() == [[0, 1, 2, 3], [6, 7, 8, 9]]
    assert latents.by_step().tolist() == [[0, 1], [6, 7], [8, 9]]


def test_the_first_trajectories_of_each_size_are_taken_wherever_batches_end() -> None:
    loader = [make_batch(), make_batch(num_nodes=4), make_batch(seed=1), make_batch(seed=2)]
    taken = first_of_each(loader, B + 2)
    assert {key: [len(b.feedback.features.lengths) for b in batches] for key, batches in taken.items()} == {
        ("bellman_ford", N): [B, 2],
        ("bellman_ford", 4): [B],
    }
    cut, whole = taken["bellman_ford", N][1].feedback, loader[2].feedback
    torch.testing.assert_close(cut.outputs["pi"], whole.outputs["pi"][:2])
    longest = int(cut.features.lengths.max())
    torch.testing.assert_close(cut.features.hints["d"], whole.features.hints["d"][:longest, :2])
    torch.testing.assert_close(cut.features.inputs["A"], whole.features.inputs["A"][:2])
