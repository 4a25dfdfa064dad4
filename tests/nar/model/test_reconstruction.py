"""Hints that a network encodes together, and that are decoded again from what it makes of them."""

# Axes: B graphs, N nodes, H hidden, F pair features, R rounds, P (graph, step) pairs.
from collections.abc import Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from kinds import KINDS
from knowing import logits_of
from layers import randomised
from torch import Tensor

from nar.batch import Batch, Features, Feedback
from nar.datasets.clrs30.recipe import recipe_spec
from nar.datasets.splits.splits import TrainStream
from nar.errors import UserError
from nar.model import Reconstruction
from nar.model.encoders import Encoder, Encoding
from nar.model.losses import probe_loss, reconstruction_losses
from nar.model.reconstruction import PAIR_DIM, HintNetwork, Reconstructed, draw_masks
from nar.model.unroll import EncodeProcessDecode, Predictions
from nar.ops.channels import as_tensor
from nar.processors import MPNN, TripletGMPNN
from nar.specs import Location, Probe, Spec, Stage, Type
from nar.training.cuda_graphs import most_steps_of
from nar.training.haiku import haiku_names
from nar.training.reasoner import Reasoner

B, N, H = 2, 4, 6
SPEC: Spec = {
    f"{location}_{type_}": Probe(Stage.HINT, location, type_, 3 if type_ is Type.CATEGORICAL else 0)
    for location, type_ in KINDS
}
MASKED = Reconstruction(1.0, 0.3)


@pytest.fixture(autouse=True)
def _in_float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def random_values(spec: Spec = SPEC) -> dict[str, Tensor]:
    values = {}
    for name, probe in spec.items():
        shape = {Location.NODE: [B, N], Location.EDGE: [B, N, N], Location.GRAPH: [B]}[probe.location]
        shape += {Type.CATEGORICAL: [3], Type.POINTER: [N], Type.PERMUTATION_POINTER: [N]}.get(probe.type, [])
        values[name] = torch.rand(shape)
    return values


def make(algorithm: str, reconstruction: Reconstruction | None, **settings: Any) -> Reasoner:
    """A reasoner, always with the same weights."""
    torch.manual_seed(1)
    return Reasoner({algorithm: recipe_spec(algorithm)}, TripletGMPNN(8), reconstruction=reconstruction, **settings)


def draw(algorithm: str, chunk_length: int | None = None, number: int = 9) -> Batch:
    return TrainStream([algorithm], [5], number, seed=3, chunk_length=chunk_length)[0]


def loss_of(reasoner: Reasoner, batch: Batch, num_steps: int | None = None) -> tuple[dict[str, Tensor], Tensor]:
    torch.manual_seed(batch.seed)  # as a training step does
    return reasoner.execution.losses(batch, num_steps)


def test_a_network_and_its_gates_equal_the_equations_written_as_loops() -> None:
    network, encoder = randomised(HintNetwork(SPEC, H)), randomised(Encoder(SPEC, H))
    values, empty = random_values(), Encoding.empty(B, N, torch.zeros(()), H)
    z, inputs = encoder(values, empty), randomised(Encoder(SPEC, H))(random_values(), empty)
    made = network(z)
    found = network.blended(encoder(values, inputs), z, made, empty)
    nodes, edges = as_tensor(z.node_fts), as_tensor(z.edge_fts)
    for b in range(B):
        z_g, r = as_tensor(z.graph_fts)[b], torch.empty(N, N, PAIR_DIM)
        for i, j in product(range(N), range(N)):
            total = network.sender(nodes[b, i]) + network.receiver(nodes[b, j]) + network.edge(edges[b, i, j])
            r[i, j] = (total + network.pair_graph(z_g)).relu()
        n = torch.stack(
            [
                network.node(nodes[b, j]) + network.received(r[:, j].max(dim=0).values) + network.node_graph(z_g)
                for j in range(N)
            ]
        ).relu()
        g = (network.graph(z_g) + network.read_out(n.max(dim=0).values)).relu()
        for part, expected in ((made.node, n), (made.edge, r), (made.graph, g)):
            torch.testing.assert_close(part[b], expected)

        def blend(gate: Any, one: Tensor, state: Tensor, other: Tensor) -> Tensor:
            share = torch.sigmoid(gate[0](one) + gate[1](state))
            return share * other + (1 - share) * one

        x, y, w = as_tensor(inputs.node_fts)[b], as_tensor(inputs.edge_fts)[b], as_tensor(inputs.graph_fts)[b]
        torch.testing.assert_close(as_tensor(found.graph_fts)[b], w + blend(network.graph_gate, z_g, g, g))
        for i in range(N):
            expected = x[i] + blend(network.node_gate, nodes[b, i], n[i], n[i])
            torch.testing.assert_close(as_tensor(found.node_fts)[b, i], expected)
        for i, j in product(range(N), range(N)):
            expected = y[i, j] + blend(network.pair_gate, edges[b, i, j], r[i, j], network.pair(r[i, j]))
            torch.testing.assert_close(as_tensor(found.edge_fts)[b, i, j], expected)


@pytest.mark.parametrize("algorithm", ["bfs", "floyd_warshall", "insertion_sort"])
def test_the_loss_of_reconstructed_hints_is_added_by_its_weight(algorithm: str) -> None:
    batch = draw(algorithm)
    by_name, loss = loss_of(make(algorithm, Reconstruction(0.25)), batch)
    again = [value for name, value in by_name.items() if name.startswith("reconstruction/")]
    others = [value for name, value in by_name.items() if name.startswith("loss/")]
    hints = batch.feedback.features.hints
    assert {name for name in by_name if name.startswith("reconstruction/")} == {f"reconstruction/{x}" for x in hints}
    torch.testing.assert_close(loss, torch.stack(others).sum() + 0.25 * torch.stack(again).sum())
    unweighted, unweighted_loss = loss_of(make(algorithm, Reconstruction(0.0)), batch)
    torch.testing.assert_close(unweighted, by_name)
    torch.testing.assert_close(unweighted_loss, torch.stack(others).sum())


@pytest.mark.parametrize("chunk_length", [None, 3])
def test_hints_are_compared_with_those_of_the_same_step(chunk_length: int | None) -> None:
    batch = draw("dijkstra", chunk_length)
    spec, feedback = recipe_spec("dijkstra"), batch.feedback
    predictions = make("dijkstra", Reconstruction()).model("dijkstra", feedback.features, with_reconstruction=True)
    time, graph = predictions.time, predictions.graph

    def loss_of_hints(shift: int) -> dict[str, Tensor]:
        """Of a model that reads the hints so many steps after those that it was given."""
        logits = {}
        for name, hint in feedback.features.hints.items():
            read = hint[(time - 1 + shift).clamp(max=len(hint) - 1), graph]
            logits[name] = logits_of(spec[name], read, 5)[None]
        return reconstruction_losses(spec, predictions, feedback, Reconstructed(logits, {}))

    assert all(value < 1e-9 for value in loss_of_hints(0).values())
    assert all(value > 1e-3 for value in loss_of_hints(1).values())


def test_a_graph_alone_gets_the_predictions_that_it_gets_in_a_batch() -> None:
    features, model = draw("dijkstra").feedback.features, make("dijkstra", Reconstruction()).model
    lengths = features.lengths.clone()
    lengths[0] = 2
    features = features._replace(lengths=lengths)
    whole = model("dijkstra", features, with_reconstruction=True)
    for row in (0, 3):
        alone = model("dijkstra", features.select(slice(row, row + 1)), with_reconstruction=True)
        rows = whole.graph == row
        torch.testing.assert_close(alone.outputs, {name: x[row : row + 1] for name, x in whole.outputs.items()})
        torch.testing.assert_close(alone.hints, {name: x[rows] for name, x in whole.hints.items()})
        torch.testing.assert_close(alone.reconstructed, whole.reconstructed.select(rows))


def test_trajectories_of_one_hint_have_none_to_reconstruct() -> None:
    batch, reasoner = draw("bfs"), make("bfs", MASKED)
    features = batch.feedback.features
    features = features._replace(lengths=torch.ones_like(features.lengths))
    by_name, loss = loss_of(reasoner, batch._replace(feedback=batch.feedback._replace(features=features)))
    assert loss.isfinite()
    assert all(value == 0 for name, value in by_name.items() if name.startswith("reconstruction/"))


@pytest.mark.parametrize("algorithm", ["bfs", "graham_scan", "dfs", "optimal_bst", "lcs_length", "quicksort"])
@pytest.mark.parametrize("reconstruction", [Reconstruction(), MASKED])
def test_all_parameters_are_trained(algorithm: str, reconstruction: Reconstruction) -> None:
    reasoner = make(algorithm, reconstruction)
    loss_of(reasoner, draw(algorithm, number=2))[1].backward()
    assert [name for name, x in reasoner.named_parameters() if x.grad is None] == []
    assert all(x.grad is not None and x.grad.isfinite().all() for x in reasoner.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("reconstruction", [Reconstruction(), MASKED])
def test_the_gradient_of_the_whole_loss_equals_finite_differences(reconstruction: Reconstruction) -> None:
    batch, reasoner = draw("dijkstra", number=3), make("dijkstra", reconstruction)
    parameters = {name: x for name, x in reasoner.named_parameters() if "hint_" in name}
    with torch.no_grad():
        for x in reasoner.parameters():  # away from the kinks at 0, where biases start
            x += 0.1 * torch.randn_like(x)
    gradients = torch.autograd.grad(loss_of(reasoner, batch)[1], list(parameters.values()))
    for (name, x), gradient in zip(parameters.items(), gradients, strict=True):
        direction, around = torch.randn_like(x), []
        with torch.no_grad():
            for step in (1e-6, -2e-6):
                x += step * direction
                around.append(float(loss_of(reasoner, batch)[1]))
            x += 1e-6 * direction
        slope = (around[0] - around[1]) / 2e-6
        assert float((gradient * direction).sum()) == pytest.approx(slope, rel=1e-4, abs=1e-6), name


def masks(ratio: float, spec: Spec = SPEC, num_graphs: int = 200, seed: int = 0) -> Mapping[str, Tensor]:
    torch.manual_seed(seed)
    return draw_masks(spec, num_graphs, N, ratio, torch.device("cpu"))


@pytest.mark.parametrize(
    ("ratio", "num_rounds", "size"), [(0.3, 3, 13), (0.5, 2, 22), (0.7, 1, 30), (0.29, 3, 12), (0.1, 10, 4)]
)
def test_every_round_masks_its_share_of_the_values_and_no_value_twice(ratio: float, num_rounds: int, size: int) -> None:
    number = 4 + 10 * N  # four hints are on the graph, and ten on nodes and edges
    assert number == 44
    found = masks(ratio)
    flat = torch.cat([x if x.dim() == 3 else x[..., None] for x in found.values()], dim=-1)
    assert flat.shape == (num_rounds, 200, number)
    assert (flat.sum(dim=-1) == size).all()
    assert (flat.sum(dim=0) <= 1).all()
    assert (flat[0, 0] != flat[0, 1]).any()  # each graph by itself
    assert flat.any(dim=1).all()  # any value in any round


def test_at_least_one_value_is_masked_in_each_round() -> None:
    spec = {"x": Probe(Stage.HINT, Location.NODE, Type.SCALAR)}
    found = masks(0.1, spec)["x"]
    assert found.shape == (4, 200, N)  # and in no more rounds than there are values
    assert (found.sum(dim=-1) == 1).all()


def test_masks_depend_on_the_seed_alone() -> None:
    one, same, other = (masks(0.5, seed=seed) for seed in (1, 1, 2))
    assert all(torch.equal(x, same[name]) for name, x in one.items())
    assert any(not torch.equal(x, other[name]) for name, x in one.items())


def is_masked(mask: Tensor, value: Tensor) -> Tensor:
    """Whether each number of a hint's value is masked in a round, in the shape of the value."""
    return mask.view(*mask.shape, *[1] * (value.dim() - mask.dim())).expand_as(value)


@pytest.mark.parametrize("name", SPEC)
def test_what_is_masked_is_not_seen_and_all_else_is(name: str) -> None:
    network, encoder = randomised(HintNetwork(SPEC, H)).eval(), randomised(Encoder(SPEC, H))
    values, empty = random_values(), Encoding.empty(B, N, torch.zeros(()), H)
    masked = masks(0.3, num_graphs=B)[name]

    def logits(values: dict[str, Tensor]) -> dict[str, Tensor]:
        torch.manual_seed(0)
        made = network(encoder(values, empty))
        return network.reconstructed(made, encoder, values, 0.3).logits

    usual = logits(values)
    for index in range(3):
        mask = is_masked(masked[index], values[name])
        hidden, seen = ({**values, name: torch.where(x, 5.0, values[name])} for x in (mask, ~mask))
        for key, x in logits(hidden).items():
            torch.testing.assert_close(x[index], usual[key][index])
        if not mask.all():
            assert any(not torch.allclose(x[index], usual[key][index]) for key, x in logits(seen).items())


def test_a_round_without_a_value_is_the_encoding_of_zero() -> None:
    network, encoder, values = randomised(HintNetwork(SPEC, H)).eval(), randomised(Encoder(SPEC, H)), random_values()
    empty = Encoding.empty(B, N, torch.zeros(()), H)
    nothing = {name: torch.zeros_like(x) for name, x in values.items()}
    expected = network.reconstructed(network(encoder(nothing, empty)), encoder, nothing, 0).logits
    found = network.reconstructed(network(encoder(values, empty)), encoder, values, 1 - 1e-12)  # of all values
    assert all(mask.all() for mask in found.masked.values())
    torch.testing.assert_close(found.logits, expected)


def test_only_what_was_masked_is_compared_in_the_mean_over_rounds() -> None:
    num_pairs, lengths = 7, torch.tensor([4, 3, 5])
    time, graph = torch.tensor([1, 1, 1, 2, 2, 3, 3]), torch.tensor([2, 0, 1, 2, 0, 2, 1])  # the last is beyond its end
    is_there = time < lengths[graph]
    assert is_there.tolist() == [True] * 6 + [False]
    hints, logits, masked = {}, {}, masks(0.3, num_graphs=num_pairs)
    for name, probe in SPEC.items():
        shape = [N] if probe.location is Location.NODE and probe.type is not Type.MASK_ONE else []
        shape = [N, N] if probe.location is Location.EDGE else shape
        high = {Type.CATEGORICAL: 3, Type.MASK: 2}.get(probe.type, N)
        hints[name] = torch.randint(high, (5, 3, *shape))
        hints[name] = hints[name].double() if probe.type is Type.SCALAR else hints[name]
        width = {Type.SCALAR: [], Type.MASK: [], Type.CATEGORICAL: [3]}.get(probe.type, [N])
        logits[name] = torch.randn(3, num_pairs, *shape, *width)
    feedback = Feedback(Features({}, hints, lengths), {})
    predictions = Predictions({}, {}, time, graph)
    found = reconstruction_losses(SPEC, predictions, feedback, Reconstructed(logits, dict(masked)))
    assert found.keys() == SPEC.keys()
    for name, probe in SPEC.items():
        of_rounds = []
        for index in range(3):
            each = []
            for pair in range(num_pairs):
                truth = hints[name][time[pair] - 1, graph[pair]]
                for node in range(N):
                    mask = masked[name][index, pair]
                    if not is_there[pair] or not (mask if mask.dim() == 0 else mask[node]):
                        continue
                    one = logits[name][index, pair]
                    if probe.type is Type.MASK_ONE:
                        each += [probe_loss(probe, one[None], truth[None])] * int(truth == node)
                    elif probe.location is Location.GRAPH:
                        each += [probe_loss(probe, one[None], truth[None])] * int(node == 0)
                    else:
                        each += [probe_loss(probe, x[None], y[None]) for x, y in zip_rows(one[node], truth[node])]
            of_rounds.append(torch.stack(each).mean() if each else torch.zeros(()))
        torch.testing.assert_close(found[name], torch.stack(of_rounds).mean(), msg=lambda text, name=name: name + text)


def zip_rows(logits: Tensor, truth: Tensor) -> list[tuple[Tensor, Tensor]]:
    """The logits and the data of each entry of a node's value."""
    return list(zip(logits, truth, strict=True)) if truth.dim() else [(logits, truth)]


def test_evaluation_decodes_nothing_again() -> None:
    batch, reasoner = draw("bfs"), make("bfs", MASKED).eval()
    network = reasoner.model.heads["bfs"].hint_network
    called: list[str] = []
    network.decoders.register_module("pi_h", Told(called))
    network.decoders.register_module("reach_h", Told(called))
    outputs, by_probe = reasoner.execution.validate(batch)
    assert set(by_probe) == {"pi", "pi_h", "reach_h"}
    torch.manual_seed(5)
    torch.testing.assert_close(reasoner(batch).outputs, outputs)
    assert list(reasoner.model.steps("bfs", batch.feedback.features))[-1].reconstructed is None
    assert called == []
    torch.manual_seed(5)
    before = torch.rand(1)
    torch.manual_seed(5)
    reasoner(batch)
    assert torch.rand(1) == before  # nothing was drawn


class Told(torch.nn.Module):
    """A decoder that says when it is called."""

    def __init__(self, called: list[str]) -> None:
        super().__init__()
        self.called = called

    def forward(self, states: Any) -> Tensor:
        self.called.append("decoder")
        raise AssertionError


def test_a_model_without_a_reconstruction_is_the_one_that_it_was() -> None:
    batch = draw("bfs")
    plain = make("bfs", None)
    assert not any("hint_network" in name for name in plain.state_dict())
    by_name, _ = loss_of(plain, batch)
    assert not any(name.startswith("reconstruction/") for name in by_name)
    assert plain.model("bfs", batch.feedback.features, with_reconstruction=True).reconstructed is None


@pytest.mark.parametrize("reconstruction", [Reconstruction(), MASKED])
def test_recordings_have_the_same_losses_and_gradients(reconstruction: Reconstruction) -> None:
    batch, reasoner = draw("dijkstra"), make("dijkstra", reconstruction)
    num_steps = most_steps_of(batch) + 2
    by_name, loss = loss_of(reasoner, batch, num_steps)
    expected = torch.autograd.grad(loss, list(reasoner.parameters()))
    torch.manual_seed(batch.seed)
    found, found_loss, gradients = reasoner.execution.losses_and_gradients(batch, num_steps)
    torch.testing.assert_close((found, found_loss), (by_name, loss.detach()))
    torch.testing.assert_close(gradients, expected)
    if reconstruction.mask_ratio == 0:  # graphs that leave the batch draw no masks
        torch.testing.assert_close(loss_of(reasoner, batch), (by_name, loss))


def test_a_training_step_draws_masks_by_the_seed_of_its_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Reasoner, "log", lambda *args, **kwargs: None)
    monkeypatch.setattr(Reasoner, "log_dict", lambda *args, **kwargs: None)
    batch, reasoner = draw("bfs"), make("bfs", MASKED)
    one, same, other = (
        reasoner.training_step(batch._replace(seed=batch.seed + shift), 0).item() for shift in (0, 0, 1)
    )
    assert one == same != other


def test_each_of_many_algorithms_has_a_network_of_its_own() -> None:
    specs = {name: recipe_spec(name) for name in ("bfs", "dijkstra")}
    reasoner = Reasoner(specs, MPNN(8), reconstruction=Reconstruction())
    reasoner.losses(draw("bfs"))[1].backward()
    trained = {
        name.split(".")[2] for name, x in reasoner.named_parameters() if "hint_net" in name and x.grad is not None
    }
    assert trained == {"bfs"}
    assert any(name.startswith("model.heads.dijkstra.hint_network") for name in reasoner.state_dict())


@pytest.mark.slow
def test_edge_pointers_through_triplets_go_with_it() -> None:
    reasoner = make("floyd_warshall", MASKED, edge_pointers="triplets")
    loss_of(reasoner, draw("floyd_warshall", number=2))[1].backward()
    assert [name for name, x in reasoner.named_parameters() if x.grad is None] == []


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("reconstruction", [Reconstruction(), MASKED])
def test_half_precision_is_near_single(reconstruction: Reconstruction, dtype: torch.dtype) -> None:
    torch.set_default_dtype(torch.float32)
    batch, reasoner = draw("dijkstra"), make("dijkstra", reconstruction)
    _, expected = loss_of(reasoner, batch)
    with torch.autocast("cpu", dtype=dtype):
        _, found = loss_of(reasoner, batch)
    torch.testing.assert_close(found.float(), expected, rtol=0.05, atol=0.05)


def test_a_saved_model_keeps_its_reconstruction(tmp_path: Path) -> None:
    batch, reasoner = draw("dijkstra"), make("dijkstra", Reconstruction(0.5, 0.25))
    reasoner.model.reconstruction.weight = 0.75
    reasoner.save_pretrained(tmp_path)
    found = Reasoner.from_pretrained(tmp_path)
    assert (found.model.reconstruction.weight, found.model.reconstruction.mask_ratio) == (0.75, 0.25)
    torch.testing.assert_close(found(batch).outputs, reasoner.eval()(batch).outputs)
    torch.testing.assert_close(loss_of(found, batch), loss_of(reasoner, batch))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"weight": -0.1}, "expected a weight of 0 or more, given -0.1"),
        ({"weight": float("inf")}, "expected a weight of 0 or more, given inf"),
        ({"mask_ratio": 1.0}, "expected a mask_ratio of at least 0 and below 1, given 1.0"),
        ({"mask_ratio": -0.5}, "expected a mask_ratio of at least 0 and below 1, given -0.5"),
    ],
)
def test_settings_out_of_range_are_refused_by_name(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Reconstruction(**settings)


@pytest.mark.parametrize("hint_mode", ["decoded_only", "none"])
def test_hints_that_are_not_encoded_are_not_reconstructed(hint_mode: Any) -> None:
    with pytest.raises(
        UserError, match=f"expected hint_mode 'encoded_decoded' for a reconstruction, given '{hint_mode}'"
    ):
        EncodeProcessDecode({"bfs": recipe_spec("bfs")}, MPNN(8), hint_mode=hint_mode, reconstruction=Reconstruction())


def test_hints_without_a_loss_are_not_reconstructed() -> None:
    with pytest.raises(ValueError, match="expected hint_loss 'all' with a reconstruction, given 'none'"):
        make("bfs", Reconstruction(), hint_loss="none")


def test_weights_that_dm_clrs_has_no_place_for_are_not_converted() -> None:
    with pytest.raises(UserError, match="dm-clrs has no reconstruction of hints"):
        haiku_names(make("bfs", Reconstruction()).model)
