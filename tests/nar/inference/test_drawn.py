"""Answers on what samplers draw, the classical algorithm's and others."""

import numpy as np
import pytest
import torch

from nar.datasets import ALGORITHMS
from nar.datasets.clrs30.families import on_family
from nar.datasets.clrs30.recipe import apply_recipe, recipe_spec
from nar.datasets.clrs30.samplers import CLRS_30, run_on
from nar.inference.drawn import is_valid
from nar.model.metrics import fuse_permutations

every_algorithm = pytest.mark.parametrize("algorithm", ALGORITHMS)


def truths(algorithm: str, drawn: tuple[object, ...], num_nodes: int) -> dict[str, np.ndarray]:
    """The outputs of the classical algorithm, as a model would have to predict them."""
    feedback = apply_recipe(algorithm, run_on(algorithm, [drawn], num_nodes=num_nodes, hints="first"))
    outputs = {name: torch.as_tensor(value) for name, value in feedback.outputs.items()}
    return {name: value[0].numpy() for name, value in fuse_permutations(recipe_spec(algorithm), outputs).items()}


@every_algorithm
def test_the_classical_answer_is_valid(algorithm: str) -> None:
    spec, known = recipe_spec(algorithm), CLRS_30[algorithm]
    for seed in range(5):
        drawn = known.draw(np.random.RandomState(seed), 8)
        truth = truths(algorithm, drawn, 8)
        assert is_valid(known, spec, drawn, truth, truth)


@pytest.mark.parametrize("algorithm", [name for name in ALGORITHMS if CLRS_30[name].graph is not None])
def test_the_classical_answer_is_valid_on_another_family_of_graphs(algorithm: str) -> None:
    known = CLRS_30[algorithm]
    drawn = on_family(known, "barabasi_albert").draw(np.random.RandomState(0), 9)
    truth = truths(algorithm, drawn, 9)
    assert is_valid(known, recipe_spec(algorithm), drawn, truth, truth)


def test_a_tree_that_breaks_ties_otherwise_is_valid() -> None:
    square = np.array([[0, 1, 1, 0], [1, 0, 0, 1], [1, 0, 0, 1], [0, 1, 1, 0]])
    known, truth = CLRS_30["bfs"], {"pi": np.array([0, 0, 0, 1])}
    for last, expected in ((1, True), (2, True), (0, False), (3, False)):
        outputs = {"pi": np.array([0, 0, 0, last])}
        assert is_valid(known, recipe_spec("bfs"), (square, 0), outputs, truth) is expected
