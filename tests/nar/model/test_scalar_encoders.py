"""Encoders of scalars at several frequencies, and of the differences of two scalars at several scales."""

# Axes: B graphs, N nodes, H hidden, F frequencies, S scales. What belongs to an edge is [B, sender, receiver, ...].
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from kinds import KINDS
from torch import Tensor

from nar.batch import Batch
from nar.datasets.clrs30.recipe import recipe_spec
from nar.datasets.splits.splits import TrainStream
from nar.errors import UserError
from nar.model.encoders import Encoder, Encoding, soft_signs, waves
from nar.model.losses import losses
from nar.model.unroll import EncodeProcessDecode
from nar.ops.channels import as_tensor
from nar.processors import TripletGMPNN
from nar.specs import Location, Probe, Stage, Type
from nar.training.haiku import haiku_names
from nar.training.reasoner import Reasoner

B, N, H, F, S = 2, 4, 5, 3, 4
SHAPES = {Location.NODE: (B, N), Location.EDGE: (B, N, N), Location.GRAPH: (B,)}
BOTH: dict[str, Any] = {"num_frequencies": F, "difference_scales": S}
# Scalars of nodes that are inputs and hints; of nodes and the graph; of nodes, edges and the graph, some of them hints.
ALGORITHMS = pytest.mark.parametrize("algorithm", ["insertion_sort", "quickselect", "articulation_points"])
SETTINGS = pytest.mark.parametrize(
    "settings",
    [
        {"difference_scales": S},
        {"num_frequencies": F},
        BOTH,
        {**BOTH, "hint_mode": "decoded_only"},
    ],
)


@pytest.fixture(autouse=True)
def _in_float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def scalar(location: Location, stage: Stage = Stage.INPUT) -> Probe:
    return Probe(stage, location, Type.SCALAR)


def encode(encoder: Encoder, values: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """The features of nodes, edges and graphs that probes add."""
    given = encoder(values, Encoding.empty(B, N, torch.zeros((), dtype=torch.get_default_dtype()), H))
    return as_tensor(given.node_fts), as_tensor(given.edge_fts), as_tensor(given.graph_fts)


def waves_of(x: float) -> list[float]:
    """The equation as it is written."""
    angles = [2**f * math.pi * x for f in range(F)]
    return [*map(math.sin, angles), *map(math.cos, angles)]


def test_waves_are_sines_and_cosines_of_doubling_frequencies() -> None:
    x = torch.tensor([[0.0, 0.3], [-1.7, 12.0]])
    expected = torch.tensor([[waves_of(number) for number in row] for row in x.tolist()])
    torch.testing.assert_close(waves(x, F), expected)
    assert waves(x, 0).shape == (2, 2, 0)


@pytest.mark.parametrize("location", list(Location))
@pytest.mark.parametrize("stage", [Stage.INPUT, Stage.HINT])
def test_waves_of_a_scalar_are_added_to_what_the_scalar_adds(location: Location, stage: Stage) -> None:
    spec = {"x": scalar(location, stage)}
    plain, encoder = Encoder(spec, H), Encoder(spec, H, num_frequencies=F)
    encoder.load_state_dict(plain.state_dict(), strict=False)
    x = torch.randn(SHAPES[location])
    index = list(Location).index(location)
    rows = torch.tensor([waves_of(number) for number in x.flatten().tolist()]).unflatten(0, x.shape)
    expected = encode(plain, {"x": x})[index] + rows @ encoder.wave_linears["x"].weight.T
    torch.testing.assert_close(encode(encoder, {"x": x})[index], expected)


def soft_signs_of(x: float) -> list[float]:
    """The equation as it is written."""
    return [math.tanh(10**s * x) for s in range(S)]


def test_soft_signs_are_hyperbolic_tangents_at_scales_of_ten() -> None:
    x = torch.tensor([[0.0, 0.3], [-0.002, 12.0]])
    expected = torch.tensor([[soft_signs_of(number) for number in row] for row in x.tolist()])
    torch.testing.assert_close(soft_signs(x, S), expected)


@pytest.mark.parametrize("stage", [Stage.INPUT, Stage.HINT])
def test_an_edge_has_the_soft_signs_of_the_difference_of_its_nodes(stage: Stage) -> None:
    encoder = Encoder({"x": scalar(Location.NODE, stage)}, H, difference_scales=S)
    x, weight = torch.randn(B, N), encoder.get_submodule("difference_linears.x.x").weight
    _, edge_fts, _ = encode(encoder, {"x": x})
    for graph in range(B):
        for i in range(N):
            for j in range(N):
                entries = torch.tensor(soft_signs_of(float(x[graph, i] - x[graph, j])))
                torch.testing.assert_close(edge_fts[graph, i, j], weight @ entries)


def test_a_node_has_the_soft_signs_of_the_difference_of_its_scalar_and_that_of_the_graph() -> None:
    spec = {"g": scalar(Location.GRAPH), "x": scalar(Location.NODE)}
    plain, encoder = Encoder(spec, H), Encoder(spec, H, difference_scales=S)
    encoder.load_state_dict(plain.state_dict(), strict=False)
    values = {"g": torch.randn(B), "x": torch.randn(B, N)}
    weight = encoder.get_submodule("difference_linears.x.g").weight
    (node_fts, _, graph_fts), (expected, _, of_graph) = encode(encoder, values), encode(plain, values)
    torch.testing.assert_close(graph_fts, of_graph)
    for graph in range(B):
        for i in range(N):
            entries = torch.tensor(soft_signs_of(float(values["x"][graph, i] - values["g"][graph])))
            torch.testing.assert_close(node_fts[graph, i], expected[graph, i] + weight @ entries)


def test_several_scalars_have_the_differences_of_each() -> None:
    spec = {"x": scalar(Location.NODE), "y": scalar(Location.NODE)}
    encoder, values = Encoder(spec, H, difference_scales=S), {"x": torch.randn(B, N), "y": torch.randn(B, N)}
    _, together, _ = encode(encoder, values)
    each = [encode(encoder, {**values, name: torch.zeros(B, N)})[1] for name in values]
    torch.testing.assert_close(together, each[0] + each[1])
    assert set(encoder.difference_linears) == {"x", "y"}


@pytest.mark.parametrize("location", [Location.EDGE, Location.GRAPH])
def test_scalars_of_edges_and_of_graphs_alone_have_no_differences(location: Location) -> None:
    assert not Encoder({"x": scalar(location)}, H, difference_scales=S).difference_linears


@pytest.mark.parametrize(("location", "type_"), [kind for kind in KINDS if kind[1] is not Type.SCALAR])
def test_what_is_no_scalar_is_encoded_as_ever(location: Location, type_: Type) -> None:
    probe = Probe(Stage.HINT, location, type_, 3 if type_ is Type.CATEGORICAL else 0)
    assert Encoder({"x": probe}, H, **BOTH).state_dict().keys() == Encoder({"x": probe}, H).state_dict().keys()


def test_waves_and_differences_are_computed_before_scalars_are_rounded() -> None:
    """Numbers that are one in bfloat16 are told apart."""
    torch.set_default_dtype(torch.float32)
    x = torch.full((B, N), 0.5)
    x[:, 1] += 2**-12
    assert x.bfloat16().unique().numel() == 1
    encoder = Encoder({"x": scalar(Location.NODE)}, H, num_frequencies=12, difference_scales=S).bfloat16()
    base = Encoding.empty(B, N, torch.zeros((), dtype=torch.bfloat16), H)
    given = encoder({"x": x}, base)
    assert given.node_fts.data.dtype == given.edge_fts.data.dtype == torch.bfloat16
    assert not torch.equal(given.node_fts.data[:, 0], given.node_fts.data[:, 1])
    assert given.edge_fts.data[:, 0, 1].any()


def draw(algorithm: str) -> Batch:
    return TrainStream([algorithm], [5], 4, seed=3)[0]


def make_model(algorithm: str, **settings: Any) -> EncodeProcessDecode:
    torch.manual_seed(1)
    return EncodeProcessDecode({algorithm: recipe_spec(algorithm)}, TripletGMPNN(8, triplet_dim=4), **settings)


@ALGORITHMS
@SETTINGS
def test_all_parameters_are_trained(algorithm: str, settings: dict[str, Any]) -> None:
    model, feedback = make_model(algorithm, **settings), draw(algorithm).feedback
    by_probe = losses(recipe_spec(algorithm), model(algorithm, feedback.features), feedback)
    torch.stack(list(by_probe.values())).sum().backward()
    assert [name for name, x in model.named_parameters() if x.grad is None or not x.grad.isfinite().all()] == []
    assert any("wave_linears" in name or "difference_linears" in name for name, _ in model.named_parameters())


def test_hints_have_no_differences() -> None:
    """Those of predictions that are a little off would be as sharp as those of inputs."""
    (heads,) = make_model("dijkstra", difference_scales=S).heads.values()
    assert "d" in heads.hints
    assert set(heads.get_submodule("input_encoder.difference_linears")._modules) == {"pos"}
    assert not heads.get_submodule("hint_encoder.difference_linears")._modules


def test_a_scalar_added_to_all_keys_leaves_their_differences() -> None:
    """What the model sees of the edges, and of the edges alone, is the same."""
    model = make_model("insertion_sort", difference_scales=S)
    given = draw("insertion_sort").feedback.features
    moved = {**given.inputs, "key": given.inputs["key"] + 0.25}
    seen: list[tuple[Tensor, Tensor]] = []
    model.processor.register_forward_pre_hook(lambda _, args: seen.append((as_tensor(args[0]), as_tensor(args[1]))))
    model("insertion_sort", given)
    model("insertion_sort", given._replace(inputs=moved))
    first, second = seen[0], seen[len(seen) // 2]
    torch.testing.assert_close(first[1], second[1])
    assert not torch.allclose(first[0], second[0])


def test_a_saved_model_keeps_how_it_encodes_scalars_and_its_steps_by_algorithm(tmp_path: Path) -> None:
    settings = {**BOTH, "num_processor_steps": {"quickselect": 2}}
    reasoner = Reasoner({"quickselect": recipe_spec("quickselect")}, TripletGMPNN(8), **settings)
    reasoner.save_pretrained(tmp_path)
    batch = draw("quickselect")
    found = Reasoner.from_pretrained(tmp_path)(batch).outputs["median"]
    assert torch.equal(found, reasoner.eval()(batch).outputs["median"])


@pytest.mark.parametrize("name", BOTH)
def test_weights_that_dm_clrs_has_no_place_for_are_not_converted(name: str) -> None:
    with pytest.raises(UserError, match=f"dm-clrs has no {name}"):
        haiku_names(make_model("dijkstra", **{name: 1}))
    haiku_names(make_model("dijkstra"))


@pytest.mark.parametrize(
    ("name", "number"), [("num_frequencies", -1), ("num_frequencies", 21), ("difference_scales", 8)]
)
def test_a_number_out_of_range_is_an_error_that_names_it(name: str, number: int) -> None:
    with pytest.raises(ValueError, match=f"expected {name} .*, given {number}"):
        make_model("bfs", **{name: number})
