"""Trajectories in batches: parts of them, several as one, and each array as another."""

from typing import Any

import numpy as np
import pytest
import torch

from nar.batch import Batch, Feedback, NumpyArray, join, num_steps_of, to_tensors
from nar.datasets import SPECS, sample


def drawn(num_nodes: int, seed: int) -> Feedback[NumpyArray]:
    """Trajectories of different lengths: an own number of hints each."""
    feedback = sample("bfs", num_nodes=num_nodes, num_samples=6, seed=seed, p=(0.2,))
    assert len(set(feedback.features.lengths.tolist())) > 1
    return feedback


FEEDBACK = drawn(8, 0)
LONGEST = int(FEEDBACK.features.lengths.argmax())


def assert_same(one: Feedback[Any], other: Feedback[Any]) -> None:
    """Fail if an array differs."""
    for ours, theirs in zip(one.arrays(), other.arrays(), strict=True):
        np.testing.assert_array_equal(np.asarray(ours), np.asarray(theirs), strict=True)


@pytest.mark.parametrize("rows", [slice(1, 4), [5, 0], slice(6, 9)], ids=["slice", "indices", "none"])
def test_some_trajectories_are_those_rows_of_every_array_without_padding_of_the_others(rows: Any) -> None:
    (inputs, hints, lengths), outputs = FEEDBACK.select(rows)
    np.testing.assert_array_equal(lengths, FEEDBACK.features.lengths[rows])
    for name, data in inputs.items():
        np.testing.assert_array_equal(data, FEEDBACK.features.inputs[name][rows])
    for name, data in outputs.items():
        np.testing.assert_array_equal(data, FEEDBACK.outputs[name][rows])
    for name, data in hints.items():
        assert len(data) == max(lengths, default=1)
        np.testing.assert_array_equal(data, FEEDBACK.features.hints[name][: len(data), rows])


def test_the_parts_of_a_batch_joined_are_the_batch_in_arrays_as_in_tensors() -> None:
    others = [row for row in range(6) if row != LONGEST]
    order = [*others, LONGEST]
    assert_same(join([FEEDBACK.select(others), FEEDBACK.select([LONGEST])]), FEEDBACK.select(order))
    tensors = to_tensors(FEEDBACK, SPECS["bfs"])
    assert_same(join([tensors.select(others), tensors.select([LONGEST])]), tensors.select(order))


def test_a_part_of_a_batch_has_its_marks_too() -> None:
    batch = Batch("bfs", 8, 3, to_tensors(FEEDBACK, SPECS["bfs"]), ended=torch.arange(6) % 2 == 0)
    part = batch.select(torch.tensor([1, 2]))
    assert part.key == ("bfs", 8)
    assert part.ended is not None
    assert part.ended.tolist() == [False, True]
    assert_same(part.feedback, batch.feedback.select([1, 2]))


def test_only_the_hints_are_cut_after_the_first() -> None:
    first = FEEDBACK.features.first_hints()
    assert {len(data) for data in first.hints.values()} == {1}
    assert first._replace(hints={}) == FEEDBACK.features._replace(hints={})


@pytest.mark.parametrize(("length", "expected"), [(1, 1), (2, 1), (3, 2), (9, 8)])
def test_a_model_takes_a_step_for_every_hint_after_the_first_and_one_at_least(length: int, expected: int) -> None:
    assert num_steps_of(length) == expected
    assert num_steps_of(torch.tensor([length, 5])).tolist() == [expected, 4]
