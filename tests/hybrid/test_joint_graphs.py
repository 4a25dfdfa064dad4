"""Graphs of several batches of texts, whose states a frozen reasoner computes at once."""

from itertools import islice
from typing import Any

import pytest
import torch
from hybrids import hybrid, language_model, opened, reasoner

from nar.batch import Graphs, PartOfJointGraphs, TextBatch, with_joint_graphs
from nar.datasets.text.datamodule import CLRSText
from nar.hybrid import TransNAR

AHEAD = 3


def drawn(number: int, batches_ahead: int = AHEAD, seen: int = 0, **settings: Any) -> list[TextBatch]:
    """Training batches of eight texts, four kinds of which take turns."""
    data = CLRSText(
        ["bfs", "insertion_sort"],
        train_sizes=[4, 6],
        test_sizes=[4],
        batch_size=16,
        num_workers=0,
        seed=0,
        batches_ahead=batches_ahead,
        **settings,
    )
    data.load_state_dict({"num_batches_seen": seen})
    return list(islice(data.train_dataloader(), number))


def logits(model: TransNAR, batch: TextBatch) -> torch.Tensor:
    """What a model says of the first tokens of texts."""
    made: torch.Tensor = model((batch.input_ids % 32)[:, :20], batch.graphs).logits
    return made


def test_joint_graphs_are_those_of_all_batches_of_one_algorithm_and_size() -> None:
    batches = drawn(2 * AHEAD)
    for some in (batches[:AHEAD], batches[AHEAD:]):
        groups = [group for batch in some for group in batch.graphs]
        assert len({id(group.joint) for group in groups}) == 4 < len(groups)
        for group in groups:
            assert isinstance(group, PartOfJointGraphs)
            own = group.joint.features.select(slice(group.start, group.start + len(group.rows)))
            for name, data in group.features.inputs.items():
                assert torch.equal(own.inputs[name], data)
            for name, data in group.features.hints.items():
                assert torch.equal(own.hints[name], data)
            assert torch.equal(own.lengths, group.features.lengths)
    of_chunks = [{id(group.joint) for batch in some for group in batch.graphs} for some in (batches[:3], batches[3:])]
    assert of_chunks[0].isdisjoint(of_chunks[1])


def test_without_batches_ahead_no_graphs_are_joined() -> None:
    assert all(isinstance(group, Graphs) for batch in drawn(3, batches_ahead=1) for group in batch.graphs)


@pytest.mark.parametrize("steps_per_block", [1, None])
def test_a_model_reads_the_same_states_and_its_reasoner_runs_fewer_times(steps_per_block: int | None) -> None:
    model, calls = hybrid(steps_per_block=steps_per_block), []
    assert model.reasoner is not None
    model.reasoner.processor.register_forward_hook(lambda *_: calls.append(None))
    with torch.no_grad():
        expected = [logits(model, batch) for batch in drawn(2 * AHEAD, batches_ahead=1)]
        alone = len(calls)
        found = [logits(model, batch) for batch in drawn(2 * AHEAD)]
    torch.testing.assert_close(found, expected)
    assert len(calls) - alone < 0.75 * alone


def test_two_models_read_the_states_of_their_own_reasoners() -> None:
    one, other = hybrid(), opened(TransNAR(language_model(), reasoner(hint_feedback="hard")))
    assert other.reasoner is not None
    with torch.no_grad():
        for weights in other.reasoner.parameters():
            weights.mul_(1.5)
        (plain,) = drawn(1, batches_ahead=1)
        (batch,) = with_joint_graphs([plain])
        for model in (one, other, one):
            torch.testing.assert_close(logits(model, batch), logits(model, plain))


def test_a_reasoner_that_is_trained_has_no_states_kept() -> None:
    model = hybrid(freeze_reasoner=False).train()
    (batch,) = drawn(1)
    logits(model, batch).sum().backward()
    assert all(isinstance(group, PartOfJointGraphs) and group.joint.kept is None for group in batch.graphs)
    assert model.reasoner is not None
    assert any(weights.grad is not None for weights in model.reasoner.parameters())


def test_a_run_that_goes_on_joins_the_same_graphs() -> None:
    whole = drawn(5)
    for seen in (1, 2, 3, 4):
        for batch, before in zip(drawn(5 - seen, seen=seen), whole[seen:], strict=True):
            assert torch.equal(batch.input_ids, before.input_ids)
            assert batch.seed == before.seed
            for group, of_whole in zip(batch.graphs, before.graphs, strict=True):
                assert isinstance(group, PartOfJointGraphs)
                assert isinstance(of_whole, PartOfJointGraphs)
                assert group.start == of_whole.start
                for name, data in of_whole.joint.features.inputs.items():
                    assert torch.equal(group.joint.features.inputs[name], data)
