# Axes: B texts, N nodes, H hidden.
import math
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from hybrids import graph, reasoner
from lightning.fabric.utilities import move_data_to_device
from torch import Tensor

from nar.batch import Features, Graphs, grouped, num_steps_of
from nar.datasets.clrs30.recipe import recipe_spec
from nar.errors import UserError
from nar.hybrid.states import ByBlock, GraphStates, exchanged, graph_states, states_by_block
from nar.model.unroll import EncodeProcessDecode
from nar.ops.channels import as_tensor
from nar.processors import TripletGMPNN
from nar.processors.triplets import Triplets

GRAPHS = [
    graph("dijkstra", 5, 1),
    graph("bfs", 4, 2),
    graph("bfs", 6, 3),
    graph("bfs", 4, 4),
    graph("dijkstra", 5, 5),
    graph("insertion_sort", 7, 6),
]
NUM_BLOCKS = 4


def of_model(
    model: EncodeProcessDecode,
    num_blocks: int = NUM_BLOCKS,
    steps_per_block: int | None = 1,
    num_steps: int | None = None,
) -> Callable[[Graphs], ByBlock]:
    """The states of a group."""
    return lambda group: states_by_block(model, group, num_blocks, steps_per_block, num_steps)


def states(graphs: list[tuple[str, Features[Tensor]]], **settings: Any) -> list[GraphStates]:
    """Those of a batch."""
    model = reasoner().model
    with torch.no_grad():
        return graph_states(model, grouped(graphs), len(graphs), of_model(model, **settings))


def steps_alone(algorithm: str, features: Features[Tensor]) -> list[tuple[Tensor, Tensor]]:
    """The states of one graph's nodes and edges at every step."""
    with torch.no_grad():
        steps = list(reasoner().model.steps(algorithm, features))
    return [(step.node_states[0], as_tensor(step.states.edge)[0, ..., 8:]) for step in steps]


@pytest.mark.slow
@pytest.mark.parametrize("num_steps", [None, 12])
@pytest.mark.parametrize("steps_per_block", [1, 2, None])
def test_each_text_has_the_states_of_its_own_graph_after_so_many_steps(
    steps_per_block: int | None, num_steps: int | None
) -> None:
    blocks = states(GRAPHS, steps_per_block=steps_per_block, num_steps=num_steps)
    numbers = set()
    for text, (algorithm, features) in enumerate(GRAPHS):
        steps, num_nodes = steps_alone(algorithm, features), features.inputs["pos"].shape[1]
        numbers.add(len(steps))
        for index, (node, edge, mask) in enumerate(blocks):
            by_share = math.ceil(len(steps) * (index + 1) / NUM_BLOCKS)
            number = by_share if steps_per_block is None else (index + 1) * steps_per_block
            expected = steps[min(number, len(steps)) - 1]
            torch.testing.assert_close(node[text, :num_nodes], expected[0])
            assert edge is not None
            torch.testing.assert_close(edge[text, :num_nodes, :num_nodes], expected[1])
            assert mask[text].tolist() == [n < num_nodes for n in range(7)]
    assert len(blocks) == NUM_BLOCKS
    assert min(numbers) < NUM_BLOCKS < max(numbers) <= 12  # some graphs run out of steps, some do not


def test_of_spread_steps_the_last_block_reads_the_last_one_and_the_first_an_early_one() -> None:
    (long,) = grouped([graph("insertion_sort", 8)])
    last = int(num_steps_of(long.features.lengths))
    steps = steps_alone("insertion_sort", long.features)
    for num_blocks in (1, 3, 2 * last):
        with torch.no_grad():
            blocks = of_model(reasoner().model, num_blocks, steps_per_block=None)(long)
        assert len(blocks) == num_blocks
        torch.testing.assert_close(blocks[-1][0][0], steps[-1][0])
        torch.testing.assert_close(blocks[0][0][0], steps[-(-last // num_blocks) - 1][0])


def test_edge_states_are_computed_at_no_steps_but_those_that_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    model, calls = reasoner(hint_mode="none").model, []  # whose decoders of hints would read them too
    plain = Triplets.messages
    monkeypatch.setattr(Triplets, "messages", lambda *args: calls.append(None) or plain(*args))
    (group,) = grouped([graph("insertion_sort", 8)])
    with torch.no_grad():
        of_model(model, num_blocks=3, steps_per_block=None)(group)
    assert len(calls) == 3 < int(num_steps_of(group.features.lengths))


def test_padding_is_zero() -> None:
    for node, edge, _ in states(GRAPHS):
        assert node.shape == (6, 7, 8)
        assert not node[1, 4:].any()
        assert edge is not None
        assert not edge[1, 4:].any()
        assert not edge[1, :, 4:].any()


def test_a_processor_without_edge_states_has_none() -> None:
    model = reasoner("MPNN").model
    with torch.no_grad():
        blocks = graph_states(model, grouped(GRAPHS), len(GRAPHS), of_model(model))
    assert all(edge is None for _, edge, _ in blocks)


def test_graphs_of_one_algorithm_and_size_are_one_group() -> None:
    groups = grouped(GRAPHS)
    assert [(group.algorithm, list(group.rows)) for group in groups] == [
        ("dijkstra", [0, 4]),
        ("bfs", [1, 3]),
        ("bfs", [2]),
        ("insertion_sort", [5]),
    ]
    assert torch.equal(groups[1].features.inputs["A"][1], GRAPHS[3][1].inputs["A"][0])
    assert torch.equal(groups[1].features.hints["reach_h"][0, 1], GRAPHS[3][1].hints["reach_h"][0, 0])
    assert groups[0].features.lengths.tolist() == [GRAPHS[0][1].lengths.item(), GRAPHS[4][1].lengths.item()]


def test_no_more_steps_are_taken_than_blocks_need(monkeypatch: pytest.MonkeyPatch) -> None:
    model, calls = reasoner().model, []
    model.processor.register_forward_hook(lambda *_: calls.append(None))
    graph_states(model, grouped([graph("dijkstra", 6)]), 1, of_model(model, num_blocks=2))
    assert len(calls) == 2


@pytest.mark.parametrize("algorithm", ["bfs", "insertion_sort"])
def test_steps_of_all_graphs_need_no_data_on_the_cpu(algorithm: str) -> None:
    with torch.device("meta"):  # whose tensors have shapes and no data
        model = EncodeProcessDecode({algorithm: recipe_spec(algorithm)}, TripletGMPNN(8))
    (group,) = move_data_to_device(grouped([graph(algorithm, 5, seed) for seed in range(3)]), "meta")
    assert len(of_model(model, num_steps=NUM_BLOCKS)(group)) == NUM_BLOCKS
    with pytest.raises(NotImplementedError):
        of_model(model)(group)


def changed(group: Graphs, **inputs: Tensor) -> Graphs:
    """The group with other inputs."""
    features: Mapping[str, Tensor] = {**group.features.inputs, **inputs}
    return group._replace(features=group.features._replace(inputs=features))


@pytest.mark.parametrize(
    ("graphs", "message"),
    [
        (lambda groups: groups[:2], r"expected one graph for each of 6 texts, given 0 for text 2"),
        (lambda groups: [*groups, groups[2]], r"expected one graph for each of 6 texts, given 2 for text 2"),
        (lambda groups: [groups[0]._replace(rows=(0, 9))], r"texts 0 to 5, given one of text 9"),
        (
            lambda groups: [groups[0]._replace(rows=(0,)), groups[0]._replace(rows=(4,)), *groups[1:]],
            r"'pos' of 1 graphs .* \[1, 5\], given \[2, 5\]",
        ),
        (
            lambda groups: [changed(groups[0], A=torch.zeros(2, 4, 4)), *groups[1:]],
            r"'A' of 2 graphs of dijkstra with 5 nodes as \[2, 5, 5\], given \[2, 4, 4\]",
        ),
        (
            lambda groups: [groups[0]._replace(algorithm="heapsort"), *groups[1:]],
            r"of the reasoner \(bfs, .*\), given heapsort",
        ),
        (
            lambda groups: [groups[0]._replace(algorithm="insertion_sort"), *groups[1:]],
            r"graphs of insertion_sort with 'key', given",
        ),
    ],
)
def test_graphs_that_do_not_fit_are_refused_in_one_line(graphs: Any, message: str) -> None:
    model = reasoner().model
    with pytest.raises(ValueError, match=message) as caught:
        graph_states(model, graphs(grouped(GRAPHS)), len(GRAPHS), of_model(model))
    assert "\n" not in str(caught.value)


def test_every_text_is_given_the_graph_of_another_of_its_algorithm_and_size() -> None:
    graphs = [graph(name, size, seed) for seed, (name, size) in enumerate(3 * [("bfs", 4), ("dijkstra", 5)])]
    own, others = (graph_states(reasoner().model, one, 6, of_model(reasoner().model)) for one in both(graphs))
    for text, other in enumerate([4, 5, 0, 1, 2, 3]):
        for (node, edge, mask), (node_of_others, edge_of_others, mask_of_others) in zip(own, others, strict=True):
            assert torch.equal(node_of_others[text], node[other])
            assert edge is not None
            assert edge_of_others is not None
            assert torch.equal(edge_of_others[text], edge[other])
            assert torch.equal(mask_of_others[text], mask[text])


def both(graphs: list[tuple[str, Features[Tensor]]]) -> list[list[Graphs]]:
    """The graphs of texts, and those exchanged."""
    groups = grouped(graphs)
    return [groups, exchanged(groups)]


def test_a_text_without_another_of_its_algorithm_and_size_is_refused() -> None:
    with pytest.raises(
        UserError, match=r"^expected two or more texts of each algorithm and size .*, given one of bfs$"
    ):
        exchanged(grouped(GRAPHS))
