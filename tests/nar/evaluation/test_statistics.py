"""Scores from counts, and what is said of their uncertainty."""

import numpy as np
import pytest
import torch

from nar.datasets.clrs30.recipe import recipe_spec
from nar.evaluation.statistics import (
    estimates,
    holm,
    is_exact,
    paired_p_value,
    resampling_weights,
    share_of,
)
from nar.model.metrics import counts, counts_by_graph, pooled_score, scores
from nar.specs import Location, Probe, Stage, Type

ALGORITHMS = ["bfs", "articulation_points", "activity_selector", "insertion_sort", "minimum", "lcs_length", "bridges"]


def random_counts(algorithm: str, num_graphs: int) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """Counts of each graph for random logits, and the scores that are computed of them all together."""
    from nar.datasets import sample
    from nar.datasets.clrs30.recipe import apply_recipe

    spec = recipe_spec(algorithm)
    feedback = apply_recipe(algorithm, sample(algorithm, num_nodes=6, num_samples=num_graphs, seed=1))
    torch.manual_seed(0)
    truth = {name: torch.as_tensor(value) for name, value in feedback.outputs.items()}
    logits = {}
    for name, value in truth.items():
        shape = list(value.shape)
        match spec[name].type:
            case Type.CATEGORICAL:
                shape += [spec[name].num_classes]
            case Type.POINTER | Type.PERMUTATION_POINTER:
                shape += [6]
            case Type.MASK_ONE:
                shape = [num_graphs, 6]
        logits[name] = torch.randn(shape)
    by_graph = {name: value.numpy() for name, value in counts_by_graph(spec, logits, truth).items()}
    return by_graph, scores(spec, counts(spec, logits, truth))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_pooled_scores_of_graphs_are_those_of_the_whole_split(algorithm: str) -> None:
    by_graph, expected = random_counts(algorithm, 20)
    found = estimates(recipe_spec(algorithm), by_graph, resampling_weights(20, num_resamples=50))
    assert {name: estimate.score for name, estimate in found.items()} == pytest.approx(expected)
    assert all(estimate.low <= estimate.score + 0.2 and estimate.low <= estimate.high for estimate in found.values())


def test_the_pooled_score_of_a_mask_is_one_where_nothing_was_to_be_found_and_nothing_was() -> None:
    assert pooled_score(Type.MASK, np.asarray([0, 0, 0])) == 1.0
    assert pooled_score(Type.MASK, np.asarray([0, 1, 0])) == 0.0
    assert pooled_score(Type.MASK, np.asarray([2, 1, 1])) == pytest.approx(2 / 3)
    assert np.isnan(pooled_score(Type.POINTER, np.asarray([0, 0, 0])))


def test_an_instance_is_exact_if_every_probe_of_it_is() -> None:
    spec = {
        "mask": Probe(Stage.OUTPUT, Location.NODE, Type.MASK),
        "pi": Probe(Stage.OUTPUT, Location.NODE, Type.POINTER),
    }
    found = {"mask": np.asarray([[3, 0, 0], [3, 1, 0], [3, 0, 0]]), "pi": np.asarray([[4, 4, 0], [4, 4, 0], [3, 4, 0]])}
    assert is_exact(spec, found).tolist() == [True, False, False]


def test_intervals_cover_the_true_share_about_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    weights = resampling_weights(100, num_resamples=400)
    covered = 0
    for _ in range(200):
        estimate = share_of(rng.random(100) < 0.7, weights)
        covered += estimate.low <= 0.7 <= estimate.high
    assert 0.9 <= covered / 200 <= 0.98


def test_intervals_of_equal_data_are_equal() -> None:
    values = np.arange(30) % 3 == 0
    assert share_of(values, resampling_weights(30)) == share_of(values, resampling_weights(30))


def test_a_paired_test_finds_a_difference_that_is_there_and_seldom_one_that_is_not() -> None:
    rng = np.random.default_rng(0)
    weights = resampling_weights(100, num_resamples=400)

    def p_value(shift: float) -> float:
        differences = rng.normal(shift, 1, 100)
        return paired_p_value(differences.mean(), weights @ differences / 100)

    assert np.mean([p_value(0.0) < 0.05 for _ in range(200)]) < 0.1
    assert np.mean([p_value(0.5) < 0.05 for _ in range(50)]) > 0.9


def test_two_equal_models_do_not_differ() -> None:
    assert paired_p_value(0.0, np.zeros(100)) == 1.0


def test_p_values_of_several_tests_are_those_of_holm() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.6, 0.7]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []
