"""Outputs written as answers of CLRS-Text."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from nar.batch import to_tensors
from nar.datasets import ALGORITHMS, sample
from nar.datasets.clrs30.recipe import apply_recipe, recipe_spec
from nar.datasets.text.format import Scores, answer_of, in_order, outputs_of, render
from nar.datasets.text.stream import text_samples
from nar.model.metrics import definite
from nar.specs import Probe, Type

every_algorithm = pytest.mark.parametrize("algorithm", ALGORITHMS)
with_and_without_trace = pytest.mark.parametrize("hints", [False, True])


def certain(probe: Probe, data: Tensor, num_nodes: int) -> Tensor:
    """Logits of a model that is sure of the data."""
    if probe.type is Type.MASK:
        return data.float() - 0.5
    one_hot = functional.one_hot(data.long().clamp(min=0), probe.num_classes or num_nodes).float()
    return 100 * one_hot if probe.type is Type.PERMUTATION_POINTER else one_hot


@pytest.mark.slow
@pytest.mark.parametrize(("num_nodes", "seed"), [(4, 0), (7, 1), (12, 2)])
@with_and_without_trace
@every_algorithm
def test_true_outputs_are_the_true_answer(algorithm: str, hints: bool, num_nodes: int, seed: int) -> None:
    args = {"num_nodes": num_nodes, "num_samples": 4, "seed": seed, "truncate_decimals": 3}
    feedback = sample(algorithm, **args)
    spec = recipe_spec(algorithm)
    tensors = to_tensors(apply_recipe(algorithm, feedback), spec).outputs
    size = num_nodes + 1 if algorithm == "optimal_bst" else num_nodes
    predicted = definite(spec, {name: certain(spec[name], data, size) for name, data in tensors.items()})
    drawn = text_samples(algorithm, num_nodes=num_nodes, num_samples=4, seed=seed, hints=hints)
    for row, text in enumerate(drawn):
        answer = text.answer_with({name: data[row].numpy() for name, data in predicted.items()})
        assert outputs_of(answer) == outputs_of(text.answer)
        assert text.scores(answer) == Scores(1, 1, 1, 1)
        if not hints:
            assert answer == text.answer


@with_and_without_trace
@every_algorithm
def test_any_outputs_are_an_answer_of_the_right_shape(algorithm: str, hints: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    spec = recipe_spec(algorithm)
    feedback = sample(algorithm, num_nodes=6, num_samples=4, seed=5)
    tensors = to_tensors(apply_recipe(algorithm, feedback), spec).outputs
    size = 7 if algorithm == "optimal_bst" else 6
    logits = {name: certain(spec[name], data, size) for name, data in tensors.items()}
    noise = {name: torch.randn(value.shape, generator=generator) for name, value in logits.items()}
    predicted = definite(spec, noise)
    for row, text in enumerate(text_samples(algorithm, num_nodes=6, num_samples=4, seed=5, hints=hints)):
        answer = text.answer_with({name: data[row].numpy() for name, data in predicted.items()})
        assert text.scores(answer)[:2] == (1, 1)


def test_a_wrong_pointer_costs_its_part() -> None:
    ((_, truth),) = render("bfs", sample("bfs", num_nodes=4, num_samples=1, seed=0), hints=False)
    pi = np.array(truth.strip("[]\n").split(" "), int)
    (text,) = text_samples("bfs", num_nodes=4, num_samples=1, seed=0)
    assert text.scores(text.answer_with({"pi": (pi + np.eye(4, dtype=int)[2]) % 4})) == Scores(1, 1, 0.75, 0)


def test_what_is_not_scored_is_as_in_the_truth() -> None:
    for algorithm, name in (("bridges", "is_bridge"), ("lcs_length", "b")):
        (text,) = text_samples(algorithm, num_nodes=5, num_samples=1, seed=0)
        all_alike = text.answer_with({name: np.ones(text.features.inputs["adj" if name != "b" else "pos"].shape[1:])})
        assert (np.array(list(all_alike)) == "-").sum() == (np.array(list(text.answer)) == "-").sum() > 0


def test_pointers_that_are_no_chain_give_keys_nevertheless() -> None:
    keys = np.array([0.3, 0.1, 0.2])
    assert in_order(keys, np.array([0, 0, 1])).tolist() == [0.3, 0.1, 0.2]
    assert len(in_order(keys, np.array([1, 2, 0]))) == 3
    assert len(in_order(keys, np.array([0, 0, 0]))) == 3


def test_an_answer_with_a_trace_says_what_the_last_hints_are() -> None:
    inputs = {"key": np.zeros(4), "target": np.zeros(())}
    assert answer_of("binary_search", inputs, {"return": np.array(2)}, hints=True) == " | (2, 2)\n\n"
    assert answer_of("binary_search", inputs, {"return": np.array(2)}) == "2\n\n"
    assert answer_of("segments_intersect", {}, {"intersect": np.array(1)}, hints=True) == "1\n\n"
