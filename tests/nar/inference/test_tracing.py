"""What is seen inside a model, and what comes of putting other states in the place of its own."""
# Axes: B graphs, T steps, N nodes, H hidden, D width of messages.

from collections.abc import Callable
from typing import Any

import networkx as nx
import pytest
import torch
from torch import Tensor, nn
from torch_geometric.nn import SAGEConv

import nar.inference.tracing
from nar.batch import Batch, to_tensors
from nar.datasets import sample
from nar.datasets.clrs30.recipe import apply_recipe, recipe_spec
from nar.errors import UserError
from nar.inference import Place, Trace
from nar.processor import Processor
from nar.processors import GAT, MPNN, PGN, Asynchronous, DeepSets, GATv2, MemNet, TripletGMPNN
from nar.processors.asynchronous.conv import AsynchronousConv
from nar.processors.sparse import ConvProcessor, GATConv, PGNConv
from nar.training.reasoner import Reasoner

B, N, H = 6, 5, 4
GRAPH = nx.relabel_nodes(nx.path_graph(N), dict(enumerate("abcde")))
PROCESSORS: dict[str, Callable[[], Processor]] = {
    "TripletGMPNN": lambda: TripletGMPNN(H),
    "PGN": lambda: PGN(H, mask_decoders=True),
    "PGN, softmax": lambda: PGN(H, reduction="softmax", triplet_dim=2, triplet_reduction="mean"),
    "MPNN": lambda: MPNN(H),
    "DeepSets": lambda: DeepSets(H),
    "GAT": lambda: GAT(H, num_heads=2),
    "GATv2": lambda: GATv2(H, num_heads=2),
    "Asynchronous": lambda: Asynchronous(H),
    "Asynchronous, networks": lambda: Asynchronous(H, message="mlp", update="network", arguments="network"),
    "PGNConv": lambda: ConvProcessor(PGNConv(2 * H, H, edge_dim=H, graph_dim=H, gated=True, triplet_dim=2), H),
    "GATConv": lambda: ConvProcessor(GATConv(2 * H, H, edge_dim=H), H),
    "AsynchronousConv": lambda: ConvProcessor(AsynchronousConv(2 * H, H), H),
    "SAGEConv": lambda: ConvProcessor(SAGEConv(2 * H, H), H, normalised=True),
    "MemNet": lambda: MemNet(H, memory_size=16),
}
every_processor = pytest.mark.parametrize("name", PROCESSORS)


def reasoner_of(processor: Processor, *algorithms: str, **settings: Any) -> Reasoner:
    torch.manual_seed(0)
    for parameter in processor.parameters():  # those of a MemNet are 0, and then so are its states
        nn.init.normal_(parameter, std=0.5)
    return Reasoner({name: recipe_spec(name) for name in algorithms or ("bfs",)}, processor, **settings).eval()


def make_batch(algorithm: str = "bfs", num_nodes: int = N, num_samples: int = B) -> Batch:
    """Trajectories of different lengths, the longest not the first."""
    raw = sample(algorithm, num_nodes=num_nodes, num_samples=num_samples, seed=0, p=(0.3,))
    return Batch(algorithm, num_nodes, 0, to_tensors(apply_recipe(algorithm, raw), recipe_spec(algorithm)))


def states_of(trace: Trace) -> dict[str, Tensor]:
    """All that is in a trace along time, by the names that places have."""
    names = ("node_features", "edge_features", "graph_features", "messages", "edge_states", "node_states", "lstm_cells")
    found = {name: getattr(trace, name) for name in names}
    hints = {f"hints.{name}": logits for name, logits in trace.hints.items()}
    return {name: states for name, states in found.items() if states is not None} | hints


def assert_same(one: Trace, other: Trace) -> None:
    """Fail unless two traces are equal to the bit."""
    both = (states_of(one) | dict(one.outputs), states_of(other) | dict(other.outputs))
    assert both[0].keys() == both[1].keys()
    assert all(torch.equal(states, both[1][name]) for name, states in both[0].items())


@every_processor
def test_a_trace_of_own_data_is_what_a_run_computes_to_the_bit(name: str) -> None:
    reasoner = reasoner_of(PROCESSORS[name]())
    graphs, sources = [GRAPH, nx.path_graph(3), nx.star_graph(4)], ["c", 0, 2]
    answers = reasoner.run(graphs, source=sources)
    for answer, trace in zip(answers, reasoner.trace(graphs, source=sources), strict=True):
        assert trace.answer.names == answer.names
        assert trace.num_steps == answer.num_steps == trace.answer.num_steps
        assert trace.answer.confidence == answer.confidence
        assert list(trace.answer.steps) == list(answer.steps)
        assert {len(states) for states in states_of(trace).values()} == {answer.num_steps}
        assert torch.equal(trace.outputs["pi"].argmax(-1), torch.tensor(answer.prediction.outputs["pi"]))


@every_processor
def test_a_trace_of_a_batch_is_what_a_model_predicts_of_it_to_the_bit(name: str) -> None:
    reasoner, batch = reasoner_of(PROCESSORS[name](), "bellman_ford"), make_batch("bellman_ford")
    with torch.no_grad():
        predictions = reasoner(batch)
    traces = reasoner.trace(batch)
    num_steps = (batch.feedback.features.lengths - 1).clamp(min=1).tolist()
    assert [trace.num_steps for trace in traces] == num_steps != sorted(num_steps, reverse=True)
    for row, trace in enumerate(traces):
        assert trace.answer is None
        assert all(torch.equal(logits[row], trace.outputs[output]) for output, logits in predictions.outputs.items())
        for hint, logits in predictions.hints.items():
            own = logits[predictions.graph == row]  # none of a trajectory that ends before it has another
            assert torch.equal(own, trace.hints[hint][: len(own)])


@every_processor
def test_states_replaced_by_themselves_change_no_bit(name: str) -> None:
    reasoner, batch = reasoner_of(PROCESSORS[name](), use_lstm=True), make_batch()
    seen: set[Place] = set()

    def same(place: Place, state: Tensor) -> Tensor:
        seen.add(place)
        return state

    for plain, replaced in zip(reasoner.trace(batch), reasoner.trace(batch, replace=same), strict=True):
        assert_same(plain, replaced)
    traces = reasoner.trace(batch)
    assert seen == {
        Place(state, step, row)
        for row, trace in enumerate(traces)
        for state in states_of(trace)
        for step in range(trace.num_steps)
    }
    assert_same(reasoner.trace(GRAPH, source="a"), reasoner.trace(GRAPH, source="a", replace=same))


@pytest.mark.slow
@every_processor
def test_another_state_at_a_step_changes_that_step_and_none_before(name: str) -> None:
    reasoner = reasoner_of(PROCESSORS[name](), use_lstm=True)
    plain = reasoner.trace(GRAPH, source="a", steps=4)
    for state, values in states_of(plain).items():
        another = values[2] + torch.linspace(0, 1, values[2].numel()).view_as(values[2])

        def patch(place: Place, own: Tensor, state: str = state, another: Tensor = another) -> Tensor | None:
            return another if (place.name, place.step) == (state, 2) else None

        patched = reasoner.trace(GRAPH, source="a", steps=4, replace=patch)
        assert torch.equal(states_of(patched)[state][2], another)
        assert all(torch.equal(x[:2], states_of(patched)[one][:2]) for one, x in states_of(plain).items())
        others = {one: x for one, x in states_of(plain).items() if one != state}
        assert any(not torch.equal(x[2:], states_of(patched)[one][2:]) for one, x in others.items()), state


@pytest.mark.parametrize("settings", [{}, {"use_lstm": True}, {"num_processor_steps": {"bfs": 2}}])
@pytest.mark.parametrize("name", ["TripletGMPNN", "PGN, softmax", "GAT", "PGNConv"])
def test_the_states_of_another_instance_give_its_output(name: str, settings: dict[str, Any]) -> None:
    reasoner = reasoner_of(PROCESSORS[name](), **settings)
    donor, other = ({"source": source, "steps": 4} for source in "ad")
    states = reasoner.trace(GRAPH, **donor)

    def patch(place: Place, own: Tensor) -> Tensor | None:
        if place.step == 3 or (place.step == 2 and place.name == "node_states"):  # decoders read the last two of these
            return states_of(states)[place.name][place.step]
        return None

    plain, patched = reasoner.trace(GRAPH, **other), reasoner.trace(GRAPH, **other, replace=patch)
    assert not torch.allclose(plain.outputs["pi"], states.outputs["pi"], atol=1e-2)
    torch.testing.assert_close(patched.outputs["pi"], states.outputs["pi"])
    assert patched.answer.outputs == states.answer.outputs


def test_one_step_of_the_processor_makes_the_next_states_of_what_is_traced() -> None:
    processor = TripletGMPNN(H)
    trace = reasoner_of(processor).trace(GRAPH, source="b", steps=3)
    everywhere = torch.ones(1, N, N, dtype=torch.bool)
    for step in (1, 2):
        features = (trace.node_features[step], trace.edge_features[step], trace.graph_features[step])
        before = trace.node_states[step - 1]
        with torch.no_grad():
            states, edge_states = processor(*(x[None] for x in features), everywhere, before[None])
            sent = torch.cat([features[0], before], dim=-1)
            mixed = processor.message_sender(sent)[:, None] + processor.message_receiver(sent)[None]
            mixed = mixed + processor.message_edge(features[1]) + processor.message_graph(features[2])
            received = processor.message_mlp(mixed).amax(dim=0)
        torch.testing.assert_close(trace.node_states[step], states[0])
        assert trace.edge_states is not None
        assert edge_states is not None
        torch.testing.assert_close(trace.edge_states[step], edge_states[0])
        assert trace.messages is not None
        torch.testing.assert_close(trace.messages[step], received)


def test_who_aggregates_no_messages_has_none() -> None:
    widths = {
        name: None
        if (messages := reasoner_of(make()).trace(GRAPH, source="a", steps=1).messages) is None
        else messages.shape
        for name, make in PROCESSORS.items()
    }
    assert widths.pop("MemNet") is None
    assert widths.pop("Asynchronous, networks") == (1, N, H // 2)
    assert widths.pop("SAGEConv") == (1, N, 2 * H)
    assert set(widths.values()) == {(1, N, H)}


@pytest.mark.parametrize("name", ["TripletGMPNN", "Asynchronous", "SAGEConv"])
def test_messages_are_watched_while_a_model_is_traced_alone(name: str) -> None:
    processor = PROCESSORS[name]()
    reasoner = reasoner_of(processor)

    def fail(place: Place, state: Tensor) -> None:
        if place.name == "messages":
            raise KeyError(place)

    with pytest.raises(KeyError):
        reasoner.trace(GRAPH, source="a", replace=fail)
    assert reasoner.run(GRAPH, source="a").outputs


def test_predicted_hints_that_are_replaced_say_when_to_stop() -> None:
    reasoner = reasoner_of(PGN(H), "dijkstra", "binary_search")
    keys = [0.1, 0.2, 0.3, 0.4, 0.5]

    def narrowed(place: Place, logits: Tensor) -> Tensor | None:
        is_bound = place.name in ("hints.low", "hints.high") and place.step == 1
        return 50 * torch.eye(N)[2] if is_bound else None

    answer = reasoner.trace("binary_search", keys, target=0.3, limit=3, replace=narrowed).answer
    assert (answer.num_steps, answer.stopped_by) == (2, "end")
    assert answer.steps[1]["low"] == answer.steps[1]["high"] == 2


def test_places_have_the_number_of_the_instance_among_all() -> None:
    reasoner = reasoner_of(MPNN(H))
    graphs = [nx.path_graph(size) for size in (3, 5, 3, 4)]

    def ablate(place: Place, state: Tensor) -> Tensor | None:
        return torch.zeros_like(state) if place.instance == 2 and place.name == "node_states" else None

    plain = reasoner.trace(graphs, source=0, steps=3)
    ablated = reasoner.trace(graphs, source=0, steps=3, replace=ablate)
    assert [trace.node_states.shape[1] for trace in ablated] == [3, 5, 3, 4]
    assert not ablated[2].node_states.any()
    for number in (0, 1, 3):
        torch.testing.assert_close(ablated[number].node_states, plain[number].node_states)
        assert ablated[number].node_states.any()


def test_no_state_is_replaced_after_the_end_of_its_instance() -> None:
    graphs, steps = [nx.path_graph(4)] * 3, [3, 1, 2]
    seen: set[tuple[int, int]] = set()
    traces = reasoner_of(MPNN(H)).trace(
        graphs, source=0, steps=steps, replace=lambda place, state: seen.add((place.instance, place.step))
    )
    assert [trace.num_steps for trace in traces] == steps
    assert seen == {(row, step) for row, number in enumerate(steps) for step in range(number)}


def test_a_state_that_is_changed_in_place_counts_only_if_it_is_returned() -> None:
    reasoner = reasoner_of(MPNN(H))

    def clear(place: Place, state: Tensor) -> None:
        state.zero_()

    assert_same(reasoner.trace(GRAPH, source="a"), reasoner.trace(GRAPH, source="a", replace=clear))


def test_an_answer_of_replaced_states_has_no_page_of_the_model_without() -> None:
    reasoner = reasoner_of(MPNN(H))
    assert reasoner.trace(GRAPH, source="a").answer.show()
    traced = reasoner.trace(GRAPH, source="a", replace=lambda place, state: None)
    with pytest.raises(UserError, match="expected a model's answer to show"):
        traced.answer.show()


def test_what_cannot_be_traced_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    reasoner = reasoner_of(MPNN(H))
    with pytest.raises(UserError, match=r"expected node_features \[5, 4\] in place of the model's own.*given \[4\]"):
        reasoner.trace(GRAPH, source="a", replace=lambda place, state: state[0])
    with pytest.raises(UserError, match="in place of the model's own, or None, given a int"):
        reasoner.trace(GRAPH, source="a", replace=lambda place, state: 0)
    for options in ({"steps": 3}, {"source": "a"}, {"weight": None}):
        with pytest.raises(UserError, match="expected a batch alone"):
            reasoner.trace(make_batch(), **options)
    with pytest.raises(UserError, match="expected a batch alone"):
        reasoner.trace("bfs", make_batch())
    with pytest.raises(UserError, match="unknown algorithm of the model dfs"):
        reasoner.trace(make_batch("dfs"))
    monkeypatch.setattr(nar.inference.tracing, "num_free_bytes", lambda: 10**4)
    assert reasoner.trace(GRAPH, source="a", steps=2).num_steps == 2
    with pytest.raises(UserError, match="the states of all steps do not fit into memory"):
        reasoner.trace(GRAPH, source="a", steps=100)
