"""A model on a user's own instances: the same as on a split; one or several; of one algorithm or many."""

from collections.abc import Iterator
from typing import Any

import networkx as nx
import numpy as np
import pytest
import torch
from knowing import answer_of
from own_algorithm import EveryKind

import nar.inference.reasoning
import nar.inference.running
from nar.batch import Batch, to_tensors
from nar.datasets import ALGORITHMS
from nar.datasets.clrs30.recipe import apply_recipe, recipe_spec
from nar.datasets.clrs30.samplers import CLRS_30, run_on
from nar.errors import UserError
from nar.inference.answers import confidence_of
from nar.inference.drawn import own_form
from nar.processors import MPNN, PGN
from nar.training.reasoner import Reasoner
from nar.viewer import show

every_algorithm = pytest.mark.parametrize("algorithm", ALGORITHMS)
GRAPH = nx.relabel_nodes(nx.path_graph(5), dict(enumerate("abcde")))
NUM_NODES = 7


def reasoner_of(*algorithms: str, **settings: Any) -> Reasoner:
    """An untrained model."""
    return Reasoner({name: recipe_spec(name) for name in algorithms}, PGN(hidden_dim=4), **settings)


@pytest.fixture
def in_float64() -> Iterator[None]:
    """In which no two choices of an untrained model are so close that the order of sums decides."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@every_algorithm
@pytest.mark.usefixtures("in_float64")
def test_what_a_sampler_draws_is_answered_as_in_a_test(algorithm: str) -> None:
    reasoner, spec = reasoner_of(algorithm).eval(), recipe_spec(algorithm)
    rng = np.random.RandomState(1)
    drawn = [CLRS_30[algorithm].draw(rng, NUM_NODES) for _ in range(3)]
    feedback = to_tensors(apply_recipe(algorithm, run_on(algorithm, drawn, num_nodes=NUM_NODES)), spec)
    batch = Batch(algorithm, NUM_NODES, 0, feedback)
    with torch.no_grad():
        _, outputs = reasoner.predict_step(batch, 0)
        confidence = confidence_of(spec, reasoner(batch).outputs)
    data, options = zip(*(own_form(algorithm, values) for values in drawn), strict=True)
    answers = reasoner.run(list(data), steps="classical", **{name: [o[name] for o in options] for name in options[0]})
    assert len(answers) == 3
    for row, answer in enumerate(answers):
        assert answer.stopped_by == "classical"
        assert answer.num_steps == max(1, feedback.features.lengths[row] - 1)
        assert len(answer.steps) == answer.num_steps
        assert answer.prediction.outputs.keys() == outputs.keys() == answer.prediction.confidence.keys()
        for name, value in answer.prediction.outputs.items():
            np.testing.assert_array_equal(value, outputs[name][row].numpy())
            np.testing.assert_allclose(answer.prediction.confidence[name], confidence[name][row], atol=1e-9)


@every_algorithm
def test_the_classical_answer_is_right_beside_itself(algorithm: str) -> None:
    data, options = own_form(algorithm, CLRS_30[algorithm].draw(np.random.RandomState(1), NUM_NODES))
    answer = answer_of(algorithm, data, **options)
    check = answer.check()
    assert check
    assert check.same
    assert answer.problem() == "" == check.why
    assert check.classical.outputs == answer.outputs
    assert all(right == number > 0 for right, number in check.entries.values())
    sure = [list(x.values()) if isinstance(x, dict) else x for x in answer.confidence.values()]
    assert np.min(np.hstack(sure)) > 0.99
    assert str(check).startswith("right (")


def test_instances_of_different_sizes_are_answered_as_one_by_one() -> None:
    reasoner = reasoner_of("bfs")
    graphs = [nx.path_graph(size) for size in (5, 3, 8, 5, 3)]
    sources = [4, 0, 2, 1, 2]
    together = reasoner.run(graphs, source=sources)
    for graph, source, answer in zip(graphs, sources, together, strict=True):
        alone = reasoner.run(graph, source=source)
        assert answer.names == tuple(graph)
        assert (answer.outputs, answer.num_steps) == (alone.outputs, alone.num_steps)
        assert answer.confidence["pi"] == pytest.approx(alone.confidence["pi"], abs=1e-5)
        assert list(answer.steps) == list(alone.steps)


def test_of_several_instances_each_may_have_its_own_number_of_steps() -> None:
    graphs = [nx.path_graph(4), nx.path_graph(4), nx.path_graph(3)]
    answers = reasoner_of("bfs").run(graphs, source=0, steps=[3, 1, 2])
    assert [(answer.num_steps, answer.stopped_by, len(answer.steps)) for answer in answers] == [
        (3, "given", 3),
        (1, "given", 1),
        (2, "given", 2),
    ]


def test_a_model_of_several_algorithms_is_told_which() -> None:
    reasoner = reasoner_of("bfs", "minimum")
    assert reasoner.run("minimum", [3, 1, 2]).algorithm == "minimum"
    with pytest.raises(UserError, match="the model knows 2 algorithms: say which of bfs, minimum, before the data"):
        reasoner.run([3, 1, 2])
    with pytest.raises(UserError, match="unknown algorithm of the model dfs; known are bfs, minimum"):
        reasoner.run("dfs", GRAPH)
    with pytest.raises(UserError, match="expected an algorithm and data, or data alone, given 3 arguments"):
        reasoner.run("bfs", GRAPH, "a")


def test_an_algorithm_of_a_users_own_is_answered_by_its_probes() -> None:
    algorithm = EveryKind()
    reasoner = Reasoner({algorithm.name: recipe_spec(algorithm)}, MPNN(hidden_dim=4))
    answer = reasoner.run(algorithm, algorithm.draw(np.random.RandomState(0), 5))
    assert answer.check().entries.keys() == answer.outputs.keys()
    with pytest.raises(UserError, match=f"{algorithm.name} is none of CLRS-30: give the algorithm itself"):
        reasoner.run((1,))


def test_a_model_in_training_is_evaluated_and_goes_on_training() -> None:
    reasoner = reasoner_of("bfs", dropout=0.5, hint_teacher_forcing=0.5)
    first, second = (reasoner.run(GRAPH, source="a", steps=3) for _ in range(2))
    assert first.confidence == second.confidence
    assert reasoner.training
    assert reasoner.model.training


def test_a_model_without_hints_stops_when_its_outputs_stand_still() -> None:
    answer = reasoner_of("bfs", hint_mode="none").run(GRAPH, source="a")
    assert answer.stopped_by in ("still", "limit")
    assert len(answer.steps) == 0
    assert reasoner_of("dfs", hint_mode="none").run(GRAPH).stopped_by == "length"


def test_hints_that_had_no_loss_do_not_tell_when_to_stop() -> None:
    answer = reasoner_of("bfs", hint_loss="none").run(GRAPH, source="a")
    assert answer.stopped_by in ("still", "limit")
    assert len(answer.steps) == 0
    scored = reasoner_of("bfs")
    assert len(scored.run(GRAPH, source="a").steps) > 0


def test_what_was_predicted_is_told_in_the_users_names() -> None:
    answer = reasoner_of("dijkstra").run(GRAPH, source="c", weight=None)
    assert answer.outputs["pi"].keys() == answer.confidence["pi"].keys() == set("abcde")
    assert set(answer.outputs["pi"].values()) <= set("abcde")
    assert all(0 < value <= 1 for value in answer.confidence["pi"].values())
    last = answer.steps[-1]
    assert last["u"] in "abcde"
    assert isinstance(last["d"]["a"], float)
    assert isinstance(last["mark"]["a"], bool)
    assert last == answer.steps[len(answer.steps) - 1] == answer.steps[-1:][0]
    assert answer.steps.arrays["pi_h"].shape == (answer.num_steps, 5)
    with pytest.raises(IndexError, match="expected one of 5 steps, given 5"):
        answer.steps[5]
    assert repr(answer) == "<ShortestPaths of dijkstra on 5 nodes, 5 steps (length)>"


def test_an_answer_can_be_shown_step_by_step() -> None:
    reasoner = reasoner_of("bfs")
    answer = reasoner.run(GRAPH, source="a")
    settings: dict[str, Any] = {"names": answer.names, "num_steps": answer.num_steps}
    shown = show(reasoner, answer.algorithm, answer.trajectory, **settings).trajectory
    assert shown.nodes == list("abcde")
    assert shown.num_steps == answer.num_steps
    assert shown.num_true_steps == 4


def test_more_nodes_than_memory_are_refused_before_anything_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    reasoner = reasoner_of("bfs", "floyd_warshall")
    with pytest.raises(UserError, match="bfs takes at most 32767 nodes, given 40000"):
        reasoner.run("bfs", nx.empty_graph(40000), source=0)
    monkeypatch.setattr(nar.inference.reasoning, "num_free_bytes", lambda: 2**20)
    with pytest.raises(UserError, match=r"on 900 nodes would take about .* GiB are free: give a smaller instance"):
        reasoner.run("floyd_warshall", nx.empty_graph(900))
    assert reasoner.run("floyd_warshall", nx.complete_graph(4), weight=None).num_steps == 3


@pytest.mark.slow
def test_hints_that_take_too_much_memory_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    reasoner = reasoner_of("bfs").eval()
    monkeypatch.setattr(nar.inference.running, "num_free_bytes", lambda: 10**4)
    few, many = (reasoner.run(GRAPH, source="a", steps=steps) for steps in (100, 500))
    assert len(few.steps) == 100
    assert len(many.steps) == 0
    assert many.num_steps == 500


def test_what_does_not_fit_while_it_is_run_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    reasoner = reasoner_of("bfs")

    def refuse(*args: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(reasoner.model, "steps", refuse)
    with pytest.raises(UserError, match="bfs does not fit into memory: give smaller instances"):
        reasoner.run(GRAPH, source="a")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"source": ["a"]}, "expected one source for each of 2 instances, given 1"),
        ({"source": "a", "steps": [1, 2, 3]}, "expected one number of steps for each of 2 instances, given 3"),
        ({"source": ["a", "z"]}, "instance 1: expected source to be one of the 5 nodes, given 'z'"),
        ({"source": "a", "steps": 0}, "expected steps to be a whole number of at least 1, given 0"),
        ({"source": "a", "steps": 10**9}, "expected steps ≤ 1000000, given 1000000000"),
        ({"source": "a", "steps": "all"}, "expected steps to be 'auto', 'classical' or a number, given 'all'"),
        ({"source": "a", "limit": 1.5}, "expected limit to be a whole number of at least 1, given 1.5"),
    ],
)
def test_options_that_fit_no_instance_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        reasoner_of("bfs").run([GRAPH, GRAPH], **options)
    assert str(caught.value) == message
