# Axes: B graphs, N nodes, H hidden, C classes. What belongs to an edge is [B, sender, receiver, ...].
import importlib
from typing import Any

import numpy as np
import pytest
import torch
from kinds import KINDS
from torch import Tensor

from nar.batch import to_tensors
from nar.datasets import SPECS, sample
from nar.model.encoders import Encoder, Encoding, dense
from nar.ops.channels import Channels, Folded, as_tensor
from nar.ops.linear import Linear
from nar.specs import Location, Probe, Spec, Stage, Type

B, N, H, C = 2, 4, 5, 3

CONNECTING_KINDS = [
    (Location.NODE, Type.POINTER),
    (Location.NODE, Type.PERMUTATION_POINTER),
    (Location.EDGE, Type.MASK),
]


@pytest.fixture(autouse=True)
def _in_float64():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def make_probe(location: Location, type_: Type, stage: Stage = Stage.HINT) -> Probe:
    return Probe(stage, location, type_, C if type_ is Type.CATEGORICAL else 0)


def random_value(probe: Probe) -> Tensor:
    """A value in the shape of the probe's logits."""
    shape = {Location.NODE: [B, N], Location.EDGE: [B, N, N], Location.GRAPH: [B]}[probe.location]
    if probe.type is Type.CATEGORICAL:
        shape = [*shape, C]
    elif probe.type in (Type.POINTER, Type.PERMUTATION_POINTER):
        shape = [*shape, N]
    return torch.rand(shape)


def make_encoder(spec: Spec) -> Encoder:
    """An encoder whose biases are told apart by the tests, which 0 would not be."""
    encoder = Encoder(spec, H)
    for name, parameter in encoder.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter)
    return encoder


def make_base() -> Encoding:
    return Encoding.empty(B, N, torch.zeros(()), H)


def random_channels(*shape: int) -> Channels:
    return Channels(torch.randn(*shape, 2), Folded(torch.randn(H, 2), torch.randn(H)))


def encode(encoder: Encoder, values: dict[str, Tensor]) -> Encoding:
    return encoder(values, make_base())


def assert_fts_equal(
    given: Encoding, node_fts: Tensor | Channels, edge_fts: Tensor | Channels, graph_fts: Tensor | Channels
) -> None:
    torch.testing.assert_close(as_tensor(given.node_fts), as_tensor(node_fts))
    torch.testing.assert_close(as_tensor(given.edge_fts), as_tensor(edge_fts))
    torch.testing.assert_close(as_tensor(given.graph_fts), as_tensor(graph_fts))


def fts_by_the_formula(probe: Probe, linears: list[Linear], value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The node, edge and graph features of one probe as ``clrs/_src/encoders.py`` of dm-clrs 2.0.3 makes them."""
    node_fts, edge_fts, graph_fts = torch.zeros(B, N, H), torch.zeros(B, N, N, H), torch.zeros(B, H)
    is_pointer = probe.type in (Type.POINTER, Type.PERMUTATION_POINTER)
    channels = value if probe.type is Type.CATEGORICAL else value[..., None]
    encoding = linears[0](channels)
    match probe.location, is_pointer:
        case Location.NODE, False:
            node_fts += encoding
        case Location.NODE, True:
            edge_fts += encoding
        case Location.EDGE, False:
            edge_fts += encoding
        case Location.EDGE, True:
            edge_fts += encoding.mean(dim=1) + linears[1](channels).mean(dim=2)
        case Location.GRAPH, False:
            graph_fts += encoding
        case Location.GRAPH, True:
            node_fts += encoding
    return node_fts, edge_fts, graph_fts


@pytest.mark.parametrize(("location", "type_"), KINDS)
def test_features_of_a_probe_equal_the_formula_of_dm_clrs(location, type_):
    probe = make_probe(location, type_)
    encoder = make_encoder({"probe": probe})
    value = random_value(probe)
    expected = fts_by_the_formula(probe, list(encoder.linears["probe"]), value)
    assert_fts_equal(encode(encoder, {"probe": value}), *expected)


def test_features_of_several_probes_are_added_up():
    spec = {f"{location}_{type_}": make_probe(location, type_) for location, type_ in KINDS}
    encoder = make_encoder(spec)
    values = {name: random_value(probe) for name, probe in spec.items()}
    parts = [fts_by_the_formula(spec[name], list(encoder.linears[name]), values[name]) for name in spec]
    assert_fts_equal(encode(encoder, values), *(sum(fts) for fts in zip(*parts, strict=True)))


def test_features_are_added_to_those_of_the_base():
    probe = make_probe(Location.NODE, Type.SCALAR)
    encoder = make_encoder({"probe": probe})
    value = random_value(probe)
    base = Encoding(random_channels(B, N), random_channels(B, N, N), random_channels(B), make_base().adj)
    added, _, _ = fts_by_the_formula(probe, list(encoder.linears["probe"]), value)
    given = encoder({"probe": value}, base)
    assert_fts_equal(given, as_tensor(base.node_fts) + added, base.edge_fts, base.graph_fts)


def test_an_encoder_of_nothing_gives_back_the_base():
    base = Encoding(random_channels(B, N), random_channels(B, N, N), random_channels(B), torch.rand(B, N, N) > 0.5)
    given = Encoder({}, H)({}, base)
    assert_fts_equal(given, base.node_fts, base.edge_fts, base.graph_fts)
    assert torch.equal(given.adj, base.adj)


def test_an_empty_encoding_has_no_features():
    assert_fts_equal(make_base(), torch.zeros(B, N, H), torch.zeros(B, N, N, H), torch.zeros(B, H))


def test_an_empty_encoding_has_self_loops_alone():
    assert torch.equal(make_base().adj, torch.eye(N, dtype=torch.bool).expand(B, N, N))


def test_the_first_graphs_of_an_encoding_are_its_first():
    encoding = Encoding(random_channels(B, N), random_channels(B, N, N), random_channels(B), torch.rand(B, N, N) > 0.5)
    first = encoding.first(1)
    assert_fts_equal(first, encoding.node_fts[:1], encoding.edge_fts[:1], encoding.graph_fts[:1])
    assert torch.equal(first.adj, encoding.adj[:1])


def test_an_edge_pointer_is_a_channel_of_triplets_if_there_are_any() -> None:
    spec = {name: make_probe(Location.EDGE, Type.POINTER) for name in ("one", "other")}
    x, y = (random_value(probe) for probe in spec.values())
    plain, encoder = Encoder(spec, H), Encoder(spec, H, triplet_dim=2)
    encoder.load_state_dict(plain.state_dict(), strict=False)
    given, expected = (
        each({"one": 2 * y, "other": x}, each({"one": x, "other": y}, make_base())) for each in (encoder, plain)
    )
    assert expected.triplet_fts is None
    assert_fts_equal(given, expected.node_fts, expected.edge_fts, expected.graph_fts)  # the means are there as well
    one, other = (encoder.triplet_linears[name].weight[:, 0] for name in spec)
    assert given.triplet_fts is not None
    made = torch.nn.functional.linear(given.triplet_fts.data, given.triplet_fts.weight)
    torch.testing.assert_close(made, (x + 2 * y)[..., None] * one + (y + x)[..., None] * other)
    first = given.first(1).triplet_fts
    assert first is not None
    assert torch.equal(first.data, given.triplet_fts.data[:1])


@pytest.mark.parametrize(("location", "type_"), [kind for kind in KINDS if kind != (Location.EDGE, Type.POINTER)])
def test_no_other_probe_is_a_channel_of_triplets(location, type_):
    probe = make_probe(location, type_)
    encoder = Encoder({"probe": probe}, H, triplet_dim=2)
    assert encoder.state_dict().keys() == Encoder({"probe": probe}, H).state_dict().keys()
    assert encode(encoder, {"probe": random_value(probe)}).triplet_fts is None


def adj_of(location: Location, type_: Type, entries: dict[tuple[int, int], float]) -> set[tuple[int, int]]:
    """The pairs that `adj` connects besides self-loops, if a [1, N, N] probe has these entries and 0 elsewhere."""
    value = torch.zeros(1, N, N)
    for (i, j), entry in entries.items():
        value[0, i, j] = entry
    encoder = Encoder({"probe": make_probe(location, type_)}, H)
    adj = encoder({"probe": value}, Encoding.empty(1, N, value, H)).adj[0]
    assert adj.diagonal().all()
    return {(i, j) for i, j in adj.nonzero().tolist() if i != j}


POINTER_TYPES = pytest.mark.parametrize("type_", [Type.POINTER, Type.PERMUTATION_POINTER])


@POINTER_TYPES
def test_adj_has_node_pointers_both_ways(type_):
    assert adj_of(Location.NODE, type_, {(0, 2): 1, (2, 2): 1, (3, 1): 1}) == {(0, 2), (2, 0), (3, 1), (1, 3)}


@POINTER_TYPES
def test_adj_has_a_soft_pointer_if_both_ways_together_exceed_one_half(type_):
    assert adj_of(Location.NODE, type_, {(0, 1): 0.26, (1, 0): 0.25}) == {(0, 1), (1, 0)}


@POINTER_TYPES
def test_adj_has_no_soft_pointer_if_both_ways_together_are_one_half(type_):
    assert adj_of(Location.NODE, type_, {(0, 1): 0.25, (1, 0): 0.25}) == set()


def test_adj_has_edge_masks_both_ways():
    assert adj_of(Location.EDGE, Type.MASK, {(0, 1): 1, (3, 2): 1}) == {(0, 1), (1, 0), (2, 3), (3, 2)}


def test_adj_has_a_soft_edge_mask_however_small():
    assert adj_of(Location.EDGE, Type.MASK, {(0, 1): 1e-6}) == {(0, 1), (1, 0)}


def test_adj_has_no_edge_mask_that_sums_to_nothing():
    assert adj_of(Location.EDGE, Type.MASK, {(0, 1): 1, (1, 0): -1, (2, 3): -1}) == set()


@pytest.mark.parametrize(("location", "type_"), [kind for kind in KINDS if kind not in CONNECTING_KINDS])
def test_adj_is_made_of_node_pointers_and_edge_masks_alone(location, type_):
    probe = make_probe(location, type_)
    adj = encode(Encoder({"probe": probe}, H), {"probe": torch.ones_like(random_value(probe))}).adj
    assert torch.equal(adj, make_base().adj)


def test_adj_keeps_the_connections_of_the_base():
    base = make_base()
    adj = base.adj.clone()
    adj[0, 0, 3] = True
    probe = make_probe(Location.NODE, Type.POINTER)
    value = torch.zeros(B, N, N)
    value[0, 1, 2] = 1
    given = Encoder({"probe": probe}, H)({"probe": value}, Encoding(base.node_fts, base.edge_fts, base.graph_fts, adj))
    assert given.adj[0, 0, 3]
    assert given.adj[0, 1, 2]


def test_adj_collects_the_connections_of_several_probes():
    spec = {"pointer": make_probe(Location.NODE, Type.POINTER), "mask": make_probe(Location.EDGE, Type.MASK)}
    values = {name: torch.zeros(B, N, N) for name in spec}
    values["pointer"][1, 0, 1] = 1
    values["mask"][1, 2, 3] = 1
    adj = encode(Encoder(spec, H), values).adj
    expected = make_base().adj.clone()
    for i, j in [(0, 1), (1, 0), (2, 3), (3, 2)]:
        expected[1, i, j] = True
    assert torch.equal(adj, expected)


def starting_spread(probe: Probe, hidden_dim: int = 6400) -> float:
    """Standard deviation of the weights that encode a probe, over that of a standard normal cut off at 2."""
    weight = Encoder({"probe": probe}, hidden_dim).linears["probe"][0].weight
    return weight.std().item() / 0.8796


def test_scalar_hints_start_with_weights_of_one_over_the_root_of_the_width():
    spread = starting_spread(make_probe(Location.NODE, Type.SCALAR))
    assert spread == pytest.approx(6400**-0.5, rel=0.05)


@pytest.mark.parametrize("location", list(Location))
def test_scalar_inputs_start_with_weights_of_one(location):
    assert starting_spread(make_probe(location, Type.SCALAR, Stage.INPUT)) == pytest.approx(1, rel=0.05)


@pytest.mark.parametrize("type_", [Type.MASK, Type.MASK_ONE, Type.POINTER])
def test_hints_that_are_no_scalars_start_with_weights_of_one(type_):
    assert starting_spread(make_probe(Location.NODE, type_)) == pytest.approx(1, rel=0.05)


def test_categorical_probes_start_with_weights_of_one_over_the_root_of_the_classes():
    assert starting_spread(make_probe(Location.NODE, Type.CATEGORICAL)) == pytest.approx(C**-0.5, rel=0.05)


def random_data(probe: Probe) -> Tensor:
    """Data of a probe, as compact as it is kept."""
    shape = {Location.NODE: [B, N], Location.EDGE: [B, N, N], Location.GRAPH: [B]}[probe.location]
    match probe.type:
        case Type.SCALAR:
            return torch.randn(shape)
        case Type.MASK:
            return torch.randint(-1, 2, shape, dtype=torch.int8)
        case Type.CATEGORICAL:
            return torch.randint(C, shape, dtype=torch.int8)
        case Type.MASK_ONE:
            return torch.randint(N, [B], dtype=torch.int16)
        case _:
            return torch.randint(N, shape, dtype=torch.int16)


def test_dense_pointers_are_one_hot():
    data = torch.tensor([[2, 0, 1, 1]])
    expected = torch.tensor([[[0, 0, 1, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 1, 0, 0]]])
    given = dense(make_probe(Location.NODE, Type.POINTER), data, N)
    torch.testing.assert_close(given, expected.to(torch.get_default_dtype()))


@pytest.mark.parametrize(("location", "type_"), [kind for kind in KINDS if kind[1] in (Type.SCALAR, Type.MASK)])
def test_dense_data_is_what_it_was_if_it_is_no_choice(location, type_):
    probe = make_probe(location, type_)
    data = random_data(probe)
    assert dense(probe, data, N).equal(data.double())


@pytest.mark.parametrize(("location", "type_"), [kind for kind in KINDS if kind[1] not in (Type.SCALAR, Type.MASK)])
def test_dense_choices_have_a_single_one_where_the_index_says(location, type_):
    probe = make_probe(location, type_)
    data = random_data(probe)
    rows = dense(probe, data, N).flatten(end_dim=-2)
    assert rows.unique().tolist() == [0, 1]
    assert [row.nonzero().flatten().tolist() for row in rows] == [[index] for index in data.flatten().tolist()]


@pytest.mark.parametrize("location", list(Location))
def test_a_dense_category_that_is_not_scored_has_minus_one_at_its_end_and_is_zero_elsewhere(location):
    probe = make_probe(location, Type.CATEGORICAL)
    data = random_data(probe)
    data.view(-1)[0] = -1
    rows = dense(probe, data, N).flatten(end_dim=-2)
    assert rows[0].tolist() == [0, 0, -1]
    assert (rows[1:].sum(dim=-1) == 1).all()


@pytest.mark.parametrize(("location", "type_"), KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dense_data_has_the_shape_of_logits_and_the_default_dtype(location, type_, dtype):
    torch.set_default_dtype(dtype)
    probe = make_probe(location, type_)
    given = dense(probe, random_data(probe), N)
    assert (given.shape, given.dtype) == (random_value(probe).shape, dtype)


# Between them: every type that the algorithms have, at every location.
@pytest.mark.filterwarnings("ignore:jax.nn.one_hot input should be integer")  # dm-clrs's hints are all floats
@pytest.mark.parametrize("algorithm", ["bridges", "lcs_length", "kmp_matcher", "graham_scan", "optimal_bst"])
def test_dense_data_is_what_dm_clrs_encodes(clrs: Any, algorithm: str) -> None:
    their_encoders = importlib.import_module("clrs._src.encoders")
    (inputs, hints, _), _ = clrs.build_sampler(algorithm, 3, seed=1, length=6)[0].next()
    (our_inputs, our_hints, lengths), _ = to_tensors(
        sample(algorithm, num_nodes=6, num_samples=3, seed=1), SPECS[algorithm]
    )
    ours, num_nodes = {**our_inputs, **our_hints}, our_inputs["pos"].shape[1]
    runs = torch.arange(int(lengths.max()))[:, None] < lengths  # afterwards dm-clrs has rows without a 1
    for point in (*inputs, *hints):
        expected = torch.from_numpy(np.array(their_encoders.preprocess(point, num_nodes).data))
        given = dense(SPECS[algorithm][point.name], ours[point.name], num_nodes).float()
        of_samples = runs if point.name in our_hints else slice(None)
        assert given[of_samples].equal(expected[of_samples]), point.name
