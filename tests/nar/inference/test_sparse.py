"""A model of sparse graphs on a user's own: the same as on its data, in the user's names."""

import warnings
from typing import Any

import networkx as nx
import numpy as np
import pytest
import torch

with warnings.catch_warnings():  # PyTorch Geometric 2.8 compiles with what torch 2.13 calls deprecated
    warnings.simplefilter("ignore")
    from torch_geometric.utils import to_networkx

    from nar.datasets.salsa import SPARSE_TASKS, SparseData, SparseTask
    from nar.datasets.salsa.tasks import joined
    from nar.processors.sparse import ConvProcessor, PGNConv

from nar.errors import UserError
from nar.inference.answers import Prediction
from nar.inference.sparse import IndependentSet, in_nodes, run
from nar.sparse.scores import predicted_value
from nar.specs import Stage, at_stage
from nar.training.sparse_reasoner import SparseReasoner

every_task = pytest.mark.parametrize("task", SPARSE_TASKS)
FROM_A_SOURCE = ("bfs", "dijkstra", "mst_prim", "eccentricity")
GRAPH = nx.relabel_nodes(nx.lollipop_graph(4, 3), dict(enumerate("abcdefg")))


def reasoner_of(*tasks: str, **settings: Any) -> SparseReasoner:
    """An untrained model."""
    torch.manual_seed(0)
    processor = ConvProcessor(PGNConv(16, 8, edge_dim=8, graph_dim=8, gated=True), 8)
    return SparseReasoner({task: SPARSE_TASKS[task].spec for task in tasks}, processor, **settings).eval()


def own_graph(data: SparseData) -> tuple[Any, dict[str, Any]]:
    """A trajectory's graph and source as a user has them: without loops, and with letters for names."""
    graph = to_networkx(data, edge_attrs=["A"] if "A" in data else None, to_undirected=True, remove_self_loops=True)
    for *_, edge in graph.edges(data=True):
        edge["weight"] = edge.pop("A", 1.0)
    graph = nx.relabel_nodes(graph, dict(enumerate("abcdefghijkl")))
    return graph, {"source": "abcdefghijkl"[int(data.s)]} if "s" in SPARSE_TASKS[
        data.task
    ].spec and data.task != "dfs" else {}


@every_task
def test_what_is_drawn_is_answered_as_in_a_test(task: str) -> None:
    reasoner, data = reasoner_of(task), SparseTask(task, num_nodes=9, num_samples=1, seed=3)[0]
    graph, options = own_graph(data)
    answer = run(reasoner, graph, steps="classical", **options)
    assert answer.names == tuple(graph)
    assert answer.stopped_by == "classical"
    assert len(answer.steps) == answer.num_steps
    assert answer.classical.problem() == ""
    assert answer.check().entries.keys() == answer.outputs.keys() == set(at_stage(reasoner.specs[task], Stage.OUTPUT))
    if task == "fast_mis":  # of which other numbers are drawn
        return
    batch = joined([data], 9)
    with torch.no_grad():
        predictions = reasoner(batch)
    for name, logits in predictions.outputs.items():
        probe = reasoner.specs[task][name]
        expected = in_nodes(probe, predicted_value(probe, logits, batch), batch)
        np.testing.assert_array_equal(answer.prediction.outputs[name], np.round(expected))
        np.testing.assert_allclose(
            answer.classical.prediction.outputs[name], in_nodes(probe, batch.outputs[name], batch)
        )
    for name in predictions.hints[0]:
        probe = reasoner.specs[task][name]
        for step, logits in enumerate(predictions.hints[: answer.num_steps]):
            expected = in_nodes(probe, predicted_value(probe, logits[name], batch), batch)
            np.testing.assert_allclose(answer.prediction.hints[name][step], expected, atol=1e-5)


@pytest.mark.slow
@every_task
def test_how_long_to_run_is_known_by_the_size_or_by_predicted_hints(task: str) -> None:
    options: dict[str, Any] = {"weight": None, **({"source": "a"} if task in FROM_A_SOURCE else {})}
    auto, classical = (run(reasoner_of(task), GRAPH, steps=steps, **options) for steps in ("auto", "classical"))
    if task in ("bfs", "eccentricity"):
        assert auto.stopped_by in ("still", "limit")
    else:
        assert (auto.stopped_by, auto.num_steps) == ("length", classical.num_steps)
    assert run(reasoner_of(task), GRAPH, steps=2, **options).num_steps == 2
    limited = run(reasoner_of("bfs"), GRAPH, source="a", limit=1)
    assert (limited.num_steps, limited.stopped_by) == (1, "limit")


def test_answers_are_in_the_users_names() -> None:
    answer = run(reasoner_of("dijkstra"), GRAPH, source="c", weight=None)
    assert answer.outputs["pi"].keys() == answer.confidence["pi"].keys() == set("abcdefg")
    assert set(answer.outputs["pi"].values()) <= set("abcdefg")
    assert all(0 < x <= 1 for x in answer.confidence["pi"].values())
    assert answer.steps[-1]["u"] in "abcdefg"
    assert answer.classical.path("g") == ["c", "d", "e", "f", "g"]
    assert run(reasoner_of("eccentricity"), GRAPH, source="a").classical.eccentricity == 4
    assert run(reasoner_of("fast_mis"), GRAPH).steps[0]["Ain_h"].keys() == {
        (u, v) for u in "abcdefg" for v in "abcdefg"
    }


def test_a_list_of_graphs_and_a_model_of_several_tasks() -> None:
    reasoner = reasoner_of("bfs", "fast_mis")
    graphs = [nx.path_graph(3), nx.star_graph(4)]
    answers = reasoner.run("bfs", graphs, source=[0, 2])
    assert [len(answer.names) for answer in answers] == [3, 5]
    assert [answer.source for answer in answers] == [0, 2]
    with pytest.raises(UserError, match="the model knows 2 algorithms: say which of bfs, fast_mis"):
        reasoner.run(GRAPH)
    with pytest.raises(UserError, match="unknown algorithm of the model dfs"):
        reasoner.run("dfs", GRAPH)
    with pytest.raises(UserError, match="instance 1: bfs takes connected graphs"):
        reasoner.run("bfs", [GRAPH, nx.empty_graph(3)], source=["a", 0])


def test_a_model_without_hints_stops_when_its_outputs_stand_still() -> None:
    answer = run(reasoner_of("bfs", hint_mode="none"), GRAPH, source="a")
    assert answer.stopped_by in ("still", "limit")
    assert len(answer.steps) == 0


def test_numbers_of_fast_mis_are_drawn_by_the_seed() -> None:
    reasoner, graph = reasoner_of("fast_mis"), nx.cycle_graph(9)
    first, again, other = (reasoner.run(graph, seed=seed).classical.nodes for seed in (0, 0, 2))
    assert first == again != other


@pytest.mark.parametrize(
    ("taken", "problem"),
    [
        ("aeg", ""),
        ("beg", ""),
        ("ab", "'a' and 'b' are neighbours"),
        ("a", "'e' could be added"),
        ("", "'a' could be added"),
    ],
)
def test_any_maximal_independent_set_is_right(taken: str, problem: str) -> None:
    made = run(reasoner_of("fast_mis"), GRAPH)
    outputs = {"inmis": np.array([int(name in taken) for name in "abcdefg"])}
    answer = IndependentSet(made._instance, made._spec, Prediction(outputs, {}, {}, 1, "given"), made._truth)
    assert answer.problem() == problem
    assert answer.nodes == set(taken)


@pytest.mark.parametrize(
    ("task", "graph", "options", "message"),
    [
        (
            "bfs",
            nx.DiGraph([(0, 1)]),
            {"source": 0},
            "takes undirected ones, given another edge from 0 to 1",
        ),
        ("fast_mis", nx.Graph([(0, 1), (2, 3)]), {}, "fast_mis takes connected graphs .* without a path to 2"),
        ("fast_mis", nx.empty_graph(1), {}, "connected graphs of at least 2 nodes"),
        ("fast_mis", GRAPH, {"source": "a"}, "fast_mis takes no source, given 'a'"),
        ("eccentricity", GRAPH, {}, r"eccentricity starts from a node: say which \(source=...\)"),
        ("eccentricity", GRAPH, {"source": "z"}, "source"),
        ("dijkstra", nx.Graph([(0, 1, {"weight": -1})]), {"source": 0}, "dijkstra takes no negative weights"),
        ("bfs", nx.empty_graph(40000), {"source": 0}, "bfs takes at most .* nodes here, given 40000"),
    ],
)
def test_what_a_task_does_not_take_is_refused(task: str, graph: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        reasoner_of(task).run(graph, **options)


def test_a_page_is_for_dense_graphs_alone() -> None:
    with pytest.raises(UserError, match="expected a reasoner of dense graphs to show"):
        run(reasoner_of("bfs"), GRAPH, source="a").show()
