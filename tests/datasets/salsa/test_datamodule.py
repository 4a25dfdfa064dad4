"""The data module of SALSA-CLRS."""
# Axes: B graphs; N nodes, E edges of all graphs together.

import warnings
from itertools import islice
from typing import Any

import pytest
import torch

from nar.errors import UserError
from nar.sparse.batch import SparseBatch
from nar.specs import Location, Stage, Type, at_stage

with warnings.catch_warnings():  # PyTorch Geometric 2.8 compiles with what torch 2.13 calls deprecated
    warnings.simplefilter("ignore")
    from nar.datasets.salsa.datamodule import SALSA, Splits, Stream, batch_of
    from nar.datasets.salsa.tasks import SPARSE_TASKS, SparseTask

every_task = pytest.mark.parametrize("task", SPARSE_TASKS)


def as_lists(batch: SparseBatch) -> Any:
    """A batch as what can be compared."""
    return [{n: x.tolist() for n, x in part.items()} if isinstance(part, dict) else str(part) for part in batch]


@every_task
def test_edges_are_in_the_order_of_their_receivers_and_pointers_lead_along_them(task: str) -> None:
    samples = SparseTask(task, num_nodes=[4, 9], num_samples=3)
    batch, data = batch_of(samples, range(3)), samples.__getitems__(range(3))
    assert (batch.edge_index[1].diff() >= 0).all()
    first = 0
    for graph, sample in enumerate(data):
        nodes = slice(first, first + sample.num_nodes)
        first += sample.num_nodes
        ours = batch.edge_index[:, batch.graph[batch.edge_index[0]] == graph] - nodes.start
        assert {*zip(*ours.tolist(), strict=True)} == {*zip(*sample.edge_index.tolist(), strict=True)}
        for name, probe in at_stage(samples.spec, Stage.OUTPUT).items():
            if probe.type is Type.POINTER:
                pointers = batch.outputs[name][nodes]
                assert batch.edge_index[0, pointers].equal(torch.arange(nodes.start, nodes.stop))
                assert (batch.edge_index[1, pointers] - nodes.start).equal(sample.edge_index[1, sample[name].long()])


def test_what_describes_an_edge_stays_with_it() -> None:
    samples = SparseTask("dijkstra", num_nodes=6, num_samples=1)
    batch, data = batch_of(samples, [0]), samples[0]
    ours, theirs = (
        {edge: weight for *edge_, weight in zip(*index.tolist(), A.tolist(), strict=True) for edge in [tuple(edge_)]}
        for index, A in ((batch.edge_index, batch.inputs["A"]), (data.edge_index, data.A))
    )
    assert ours == theirs


@every_task
def test_every_probe_is_there_with_one_entry_for_each_of_what_it_describes(task: str) -> None:
    batch = batch_of(SparseTask(task, num_nodes=5, num_samples=2), range(2))
    numbers = {Location.NODE: 10, Location.EDGE: batch.edge_index.shape[1], Location.GRAPH: 2}
    for values, stage in ((batch.inputs, Stage.INPUT), (batch.hints, Stage.HINT), (batch.outputs, Stage.OUTPUT)):
        probes = at_stage(SPARSE_TASKS[task].spec, stage)
        assert values.keys() == probes.keys()
        for name, probe in probes.items():
            assert len(values[name]) == (2 if probe.type is Type.MASK_ONE else numbers[probe.location])
            assert len(batch.graph_of(probe)) == len(values[name])


def test_training_goes_on_where_it_was_and_takes_turns_among_tasks() -> None:
    tasks = [SparseTask(name, num_nodes=4, num_samples=1000) for name in ("bfs", "dfs")]
    whole = [as_lists(batch) for batch in islice(Stream(tasks, 2, 0, 1), 6)]
    assert [as_lists(batch) for batch in islice(Stream(tasks, 2, 3, 1), 3)] == whole[3:]
    assert [batch[0] for batch in whole] == ["bfs", "dfs"] * 3
    assert len({str(batch) for batch in whole}) == 6
    of_ranks = [islice(Stream(tasks, 2, rank, 2), 3) for rank in (0, 1)]
    assert [[as_lists(batch) for batch in stream] for stream in of_ranks] == [whole[::2], whole[1::2]]


def test_every_sample_of_a_split_is_in_one_batch_of_one_process() -> None:
    task = SparseTask("bfs", num_nodes=5, num_samples=7)
    found = [batch for rank in (0, 1) for batch in Splits([task], 2, rank, 2)]
    assert sum(len(batch.lengths) for batch in found) == 7
    assert sorted(x for batch in found for x in batch.inputs["s"] % 5) == sorted(task[i].s for i in range(7))


def test_training_validation_and_test_are_different_samples_of_the_sizes_asked_for() -> None:
    data = SALSA(train_sizes=[4, 6], test_sizes=[6, 9], num_val=4, num_test=3, eval_batch_size=4)
    train, val = next(iter(data.train_dataloader())), next(iter(data.val_dataloader()))
    tests = list(data.test_dataloader())
    assert {*train.graph.bincount().tolist()} <= {4, 6}
    assert [(batch.num_nodes, len(batch.graph)) for batch in (val, *tests)] == [(6, 24), (6, 18), (9, 27)]
    assert val.edge_index[:, :20].tolist() != tests[0].edge_index[:, :20].tolist()


def test_tests_are_on_the_family_that_is_asked_for() -> None:
    data = SALSA(test_graphs="grid", test_sizes=[9], num_test=1)
    assert next(iter(data.test_dataloader())).edge_index.shape == (2, 2 * 12 + 9)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"algorithms": "sort"}, "unknown task sort; known are bfs, dfs"),
        ({"algorithms": []}, "expected one or more different algorithms, given []"),
        ({"batch_size": 0}, "expected batch_size to be a whole number of at least 1, given 0"),
        ({"test_graphs": "lattice"}, "lattice"),
        ({"num_test": 0}, "expected num_samples to be a whole number of at least 1, given 0"),
    ],
)
def test_what_cannot_be_drawn_is_refused_at_once(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as refusal:
        SALSA(**settings)
    assert message in str(refusal.value)
