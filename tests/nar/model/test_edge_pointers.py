"""Models whose edge pointers are encoded and decoded on triplets."""

# Axes: B graphs, N nodes, F triplet features, K channels. What belongs to an edge is [B, sender, receiver, ...].
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from layers import random_inputs
from torch import Tensor

from nar.batch import Batch, Features, Feedback
from nar.datasets.clrs30.recipe import recipe_spec
from nar.datasets.splits.splits import TrainStream
from nar.errors import UserError
from nar.model.encoders import dense
from nar.model.losses import losses
from nar.model.unroll import EncodeProcessDecode
from nar.ops.channels import TripletChannels
from nar.processor import Processor
from nar.processors import MPNN, PGN, TripletGMPNN
from nar.specs import Location, Probe, Stage, Type
from nar.training.haiku import haiku_names
from nar.training.reasoner import Reasoner

WITH_EDGE_POINTERS = ["floyd_warshall", "matrix_chain_order", "optimal_bst"]
EVERY_ONE = pytest.mark.parametrize("algorithm", WITH_EDGE_POINTERS)


@pytest.fixture(autouse=True)
def _in_float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def make_model(algorithm: str, processor: Processor | None = None, **settings: Any) -> EncodeProcessDecode:
    torch.manual_seed(1)
    settings = {"edge_pointers": "triplets", **settings}
    spec = {algorithm: recipe_spec(algorithm)}
    return EncodeProcessDecode(spec, processor or TripletGMPNN(8, triplet_dim=4), **settings).eval()


def draw(algorithm: str, num_nodes: int = 4, number: int = 3, chunk_length: int | None = None) -> Batch:
    return TrainStream([algorithm], [num_nodes], number, seed=3, chunk_length=chunk_length)[0]


def ragged(algorithm: str) -> Feedback[Tensor]:
    """Trajectories of which the first ends after two hints."""
    feedback = draw(algorithm).feedback
    lengths = feedback.features.lengths.clone()
    lengths[0] = 2
    return feedback._replace(features=feedback.features._replace(lengths=lengths))


def loss_of(model: EncodeProcessDecode, algorithm: str, feedback: Feedback[Tensor]) -> Tensor:
    by_probe = losses(recipe_spec(algorithm), model(algorithm, feedback.features), feedback)
    return torch.stack(list(by_probe.values())).sum()


def test_algorithms_without_edge_pointers_are_learnt_by_the_same_function() -> None:
    features = draw("bfs").feedback.features
    models = [make_model("bfs", edge_pointers=kind) for kind in ("pairs", "triplets")]
    assert models[0].state_dict().keys() == models[1].state_dict().keys()
    made = [model("bfs", features) for model in models]
    torch.testing.assert_close(made[0]._asdict(), made[1]._asdict(), rtol=0, atol=0)


@EVERY_ONE
@pytest.mark.parametrize("settings", [{}, {"hint_mode": "decoded_only"}, {"hint_mode": "none"}, {"use_lstm": True}])
def test_all_parameters_are_trained(algorithm: str, settings: dict[str, Any]) -> None:
    model = make_model(algorithm, **settings).train()
    loss_of(model, algorithm, draw(algorithm).feedback).backward()
    assert [name for name, x in model.named_parameters() if x.grad is None] == []
    assert all(x.grad is not None and x.grad.isfinite().all() for x in model.parameters())


@EVERY_ONE
def test_a_graph_alone_gets_the_predictions_that_it_gets_in_a_batch(algorithm: str) -> None:
    features, model = ragged(algorithm).features, make_model(algorithm)
    whole = model(algorithm, features)
    for graph in range(3):
        alone = model(algorithm, features.select(slice(graph, graph + 1)))
        for name, logits in alone.outputs.items():
            torch.testing.assert_close(logits, whole.outputs[name][graph : graph + 1])
        for name, logits in alone.hints.items():
            torch.testing.assert_close(logits, whole.hints[name][whole.graph == graph])


@pytest.mark.slow
def test_the_gradient_of_the_whole_loss_equals_finite_differences() -> None:
    feedback, model = ragged("floyd_warshall"), make_model("floyd_warshall").train()
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for x in parameters.values():  # away from the kinks at 0, where biases start
            x += 0.1 * torch.randn_like(x)
    gradients = torch.autograd.grad(loss_of(model, "floyd_warshall", feedback), list(parameters.values()))
    for (name, x), gradient in zip(parameters.items(), gradients, strict=True):
        if "Pi" not in name and "triplets" not in name:
            continue
        direction, around = torch.randn_like(x), []
        with torch.no_grad():
            for step in (1e-6, -2e-6):
                x += step * direction
                around.append(loss_of(model, "floyd_warshall", feedback))
            x += 1e-6 * direction
        slope = float(around[0] - around[1]) / 2e-6
        assert float((gradient * direction).sum()) == pytest.approx(slope, rel=1e-4, abs=1e-6), name


@pytest.mark.parametrize("feedback", ["soft", "hard"])
@pytest.mark.parametrize("forced", [False, True])
def test_decoders_see_the_pointers_that_the_processor_was_given(feedback: str, forced: bool) -> None:
    model = make_model("optimal_bst", hint_feedback=feedback, hint_teacher_forcing=float(forced)).train(forced)
    features = draw("optimal_bst").feedback.features
    given: list[Tensor] = []
    model.processor.register_forward_pre_hook(
        lambda _, args, kwargs: given.append(kwargs["triplet_fts"].data), with_kwargs=True
    )
    last: Tensor | None = None
    for number, step in enumerate(model.steps("optimal_bst", features)):
        true = dense(recipe_spec("optimal_bst")["root_h"], features.hints["root_h"][number], 5)
        expected = true if last is None or forced else last
        assert step.states.pointers is not None
        assert torch.equal(step.states.pointers, expected[..., None].to(step.states.pointers.dtype))
        assert torch.equal(given[number], step.states.pointers)
        last = step.hints["root_h"].softmax(dim=-1)
        if feedback == "hard":
            last = torch.nn.functional.one_hot(last.argmax(dim=-1), 5).to(last.dtype)


def test_several_edge_pointers_and_those_that_are_inputs_take_a_channel_each() -> None:
    pointer = Probe(Stage.HINT, Location.EDGE, Type.POINTER)
    spec = {
        "pos": Probe(Stage.INPUT, Location.NODE, Type.SCALAR),
        "given": pointer._replace(stage=Stage.INPUT),
        "one": pointer,
        "other": pointer,
        "found": pointer._replace(stage=Stage.OUTPUT),
    }
    model = EncodeProcessDecode({"own": spec}, TripletGMPNN(8, triplet_dim=4), edge_pointers="triplets")
    pointers = {name: torch.randint(5, (3, 2, 5, 5)) for name in ("one", "other")}
    inputs = {"pos": torch.rand(2, 5), "given": torch.randint(5, (2, 5, 5))}
    features = Features(inputs, pointers, torch.tensor([3, 2]))
    first = next(iter(model.steps("own", features))).states.pointers
    assert first is not None
    expected = [dense(pointer, x, 5) for x in (inputs["given"], pointers["one"][0], pointers["other"][0])]
    assert torch.equal(first, torch.stack(expected, dim=-1))
    predictions = model("own", features)
    assert predictions.outputs["found"].shape == (2, 5, 5, 5)
    weight = model.heads["own"].hint_encoder.triplet_linears["other"].weight
    assert torch.autograd.grad(predictions.outputs["found"].square().sum(), weight)[0].any()


@pytest.mark.parametrize("kind", [PGN, MPNN])
def test_a_processor_without_triplets_is_refused_in_one_line(kind: type[PGN]) -> None:
    with pytest.raises(UserError, match=f"^expected a processor with triplet_dim ≥ 1 .*, given {kind.__name__}$"):
        make_model("floyd_warshall", kind(8))
    make_model("floyd_warshall", kind(8, triplet_dim=2))


class Narrow(TripletGMPNN):
    """A processor of a user's own whose `forward` is that of every processor, and no more."""

    def forward(self, node_fts: Any, edge_fts: Any, graph_fts: Tensor, adj: Tensor, hidden: Tensor) -> Any:
        """Those of the class above."""
        return super().forward(node_fts, edge_fts, graph_fts, adj, hidden)


def test_a_processor_that_takes_no_features_of_triplets_is_refused_in_one_line() -> None:
    with pytest.raises(UserError, match=r"^expected a processor .* whose forward takes triplet_fts .*, given Narrow$"):
        make_model("floyd_warshall", Narrow(8))
    make_model("floyd_warshall", Narrow(8), edge_pointers="pairs")


class Own(Processor):
    """A processor of a user's own that makes states of edges of nothing but features of triplets."""

    has_edge_states = True
    triplet_dim = 3

    def __init__(self) -> None:
        super().__init__()
        self.hidden_dim = 8
        self.edge = torch.nn.Linear(3, 8)

    def forward(
        self,
        node_fts: Tensor,
        edge_fts: Tensor,
        graph_fts: Tensor,
        adj: Tensor,
        hidden: Tensor,
        triplet_fts: TripletChannels | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The features as node states, and the mean over the first node of those of triplets as edge states."""
        assert triplet_fts is not None
        return node_fts, self.edge(torch.nn.functional.linear(triplet_fts.data, triplet_fts.weight).mean(dim=1))


def test_a_processor_of_ones_own_may_take_features_of_triplets() -> None:
    model = make_model("floyd_warshall", Own())
    loss_of(model, "floyd_warshall", draw("floyd_warshall").feedback).backward()
    encoder = model.heads["floyd_warshall"].hint_encoder.triplet_linears["Pi_h"]
    assert encoder.weight.shape == (3, 1)
    assert encoder.weight.grad.any()


@pytest.mark.parametrize("reduction", ["max", "softmax", "mean", "lstm"])
def test_messages_to_an_edge_hold_the_features_of_its_triplets(reduction: Any) -> None:
    processor, inputs = TripletGMPNN(8, triplet_dim=4, triplet_reduction=reduction), random_inputs(8)
    triplet_fts = TripletChannels(torch.rand(2, 5, 5, 5, 2, requires_grad=True), torch.randn(4, 2, requires_grad=True))
    _, found = processor(*inputs, triplet_fts=triplet_fts)
    t, z = processor.triplets, torch.cat([inputs.node_fts, inputs.hidden], dim=-1)
    assert t is not None
    messages = t.node_1(z)[:, :, None, None] + t.node_2(z)[:, None, :, None] + t.node_3(z)[:, None, None]
    of_edges = t.edge_1(inputs.edge_fts)[:, :, :, None] + t.edge_2(inputs.edge_fts)[:, :, None]
    messages = messages + of_edges + t.edge_3(inputs.edge_fts)[:, None] + t.graph(inputs.graph_fts)[:, None, None, None]
    messages = messages + torch.nn.functional.linear(triplet_fts.data, triplet_fts.weight)
    reduced = t.reduction.usual(messages.flatten(2, 3)).unflatten(1, (5, 5))
    expected = t.output(reduced).relu()
    torch.testing.assert_close(found, expected)
    variables, weights = (triplet_fts.data, triplet_fts.weight), torch.randn_like(found)
    gradients = [torch.autograd.grad((x * weights).sum(), variables, retain_graph=True) for x in (found, expected)]
    torch.testing.assert_close(*gradients)


@EVERY_ONE
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_near_single(algorithm: str, dtype: torch.dtype) -> None:
    model, feedback = make_model(algorithm).float(), draw(algorithm).feedback
    torch.set_default_dtype(torch.float32)
    features = feedback.features.map(lambda x: x.float() if x.is_floating_point() else x)
    feedback = feedback._replace(features=features)
    expected = loss_of(model, algorithm, feedback)
    with torch.autocast("cpu", dtype=dtype):
        mixed = loss_of(model, algorithm, feedback)
    torch.testing.assert_close(mixed.float(), expected, rtol=0.05, atol=0.05)


def test_windows_of_trajectories_are_trained_on() -> None:
    batch = draw("floyd_warshall", 5, 4, chunk_length=3)
    assert batch.ended is not None
    reasoner = Reasoner({"floyd_warshall": recipe_spec("floyd_warshall")}, TripletGMPNN(8), edge_pointers="triplets")
    by_name, loss = reasoner.losses(batch)
    loss.backward()
    assert set(by_name) == {"loss/Pi_h", "loss/D", "loss/k", "loss/msk", "loss/Pi"}
    assert all(x.grad is not None and x.grad.isfinite().all() for x in reasoner.parameters())


def test_a_saved_model_keeps_how_it_reads_edge_pointers(tmp_path: Path) -> None:
    reasoner = Reasoner({"floyd_warshall": recipe_spec("floyd_warshall")}, TripletGMPNN(8), edge_pointers="triplets")
    reasoner.save_pretrained(tmp_path)
    batch = draw("floyd_warshall")
    found = Reasoner.from_pretrained(tmp_path)(batch).outputs["Pi"]
    assert torch.equal(found, reasoner.eval()(batch).outputs["Pi"])


@EVERY_ONE
@pytest.mark.parametrize("hint_mode", ["encoded_decoded", "none"])
def test_weights_that_dm_clrs_has_no_place_for_are_not_converted(algorithm: str, hint_mode: str) -> None:
    with pytest.raises(UserError, match="dm-clrs has no edge_pointers 'triplets'"):
        haiku_names(make_model(algorithm, hint_mode=hint_mode))
    haiku_names(make_model(algorithm, hint_mode=hint_mode, edge_pointers="pairs"))
    haiku_names(make_model("bfs", hint_mode=hint_mode))
