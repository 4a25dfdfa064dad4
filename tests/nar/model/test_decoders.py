# Axes: B graphs, N nodes, H hidden, C classes. What belongs to an edge is [B, sender, receiver, ...].
import importlib
import math
from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from kinds import KINDS
from torch import Tensor, nn

import nar.model.decoders
import nar.model.pairs
from nar.model.decoders import (
    States,
    decode,
    gumbel_noise,
    hard_value,
    log_sinkhorn,
    make_decoder,
    predicted_value,
    soft_value,
)
from nar.model.encoders import dense
from nar.ops.channels import Channels, Folded, Rectified, concat
from nar.ops.pair_logits import pair_logits
from nar.specs import Location, Probe, Stage, Type

B, N, H, C = 2, 4, 3, 5
EDGE_DIM = 2 * H

EVERY_KIND = pytest.mark.parametrize(("location", "type_"), KINDS)


@pytest.fixture(autouse=True)
def _in_float64():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def reference(clrs: Any) -> Any:
    """dm-clrs's decoders, in float64."""
    jax = importlib.import_module("jax")
    with jax.enable_x64(True):
        yield importlib.import_module("clrs._src.decoders")


def make_probe(location: Location, type_: Type) -> Probe:
    return Probe(Stage.HINT, location, type_, C if type_ is Type.CATEGORICAL else 0)


def logits_shape(probe: Probe) -> list[int]:
    shape = {Location.NODE: [B, N], Location.EDGE: [B, N, N], Location.GRAPH: [B]}[probe.location]
    if probe.type is Type.CATEGORICAL:
        return [*shape, C]
    if probe.type in (Type.POINTER, Type.PERMUTATION_POINTER):
        return [*shape, N]
    return shape


def random_states() -> States:
    """States on graphs with one-way edges and self-loops."""
    adj = (torch.rand(B, N, N) < 0.3) | torch.eye(N, dtype=torch.bool)
    return States(torch.randn(B, N, 3 * H), torch.randn(B, N, N, EDGE_DIM), torch.randn(B, H), adj)


def random_decoder(location: Location, type_: Type) -> nn.Module:
    """A decoder in evaluation mode whose biases are told apart by the tests, which 0 would not be."""
    decoder = make_decoder(make_probe(location, type_), H, EDGE_DIM)
    for name, parameter in decoder.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(parameter)
    return decoder.eval()


def assert_equals_loops(
    decoder: nn.Module, states: States, num_indices: int, equation: Callable[..., Tensor], *, tail: tuple[int, ...] = ()
) -> None:
    """Compare a decoder's logits with its equation at every graph and every choice of nodes."""
    expected = torch.empty(B, *[N] * num_indices, *tail)
    for b in range(B):
        for nodes in product(range(N), repeat=num_indices):
            expected[(b, *nodes)] = equation(b, *nodes)
    torch.testing.assert_close(decoder(states), expected)


@EVERY_KIND
def test_logits_have_the_shape_that_the_type_says(location, type_):
    probe = make_probe(location, type_)
    assert list(make_decoder(probe, H, EDGE_DIM)(random_states()).shape) == logits_shape(probe)


@pytest.mark.parametrize("type_", [Type.SCALAR, Type.MASK, Type.MASK_ONE])
def test_node_logits_equal_the_equation_written_as_loops(type_):
    decoder, (node, edge, graph, adj, _) = random_decoder(Location.NODE, type_), random_states()
    assert_equals_loops(decoder, States(node, edge, graph, adj), 1, lambda b, i: decoder.node(node[b, i])[0])


def test_node_categorical_logits_equal_the_equation_written_as_loops():
    decoder, (node, edge, graph, adj, _) = random_decoder(Location.NODE, Type.CATEGORICAL), random_states()
    assert_equals_loops(decoder, States(node, edge, graph, adj), 1, lambda b, i: decoder.node(node[b, i]), tail=(C,))


def node_pointer_logit(decoder: nn.Module, states: States, b: int, i: int, j: int) -> Tensor:
    """``w · max(W1 s_i, W2 s_j + W3 e_ji)``."""
    target = decoder.target(states.node[b, j]) + decoder.edge(states.edge[b, j, i])
    return decoder.output(torch.maximum(decoder.source(states.node[b, i]), target))[0]


def test_node_pointer_logits_equal_the_equation_written_as_loops():
    decoder, states = random_decoder(Location.NODE, Type.POINTER), random_states()
    assert_equals_loops(decoder, states, 2, lambda b, i, j: node_pointer_logit(decoder, states, b, i, j))


def test_permutation_logits_are_pointer_logits_after_ten_sinkhorn_steps():
    decoder, states = random_decoder(Location.NODE, Type.PERMUTATION_POINTER), random_states()
    pointers = torch.empty(B, N, N)
    for b, i, j in product(range(B), range(N), range(N)):
        pointers[b, i, j] = node_pointer_logit(decoder, states, b, i, j)
    torch.testing.assert_close(decoder(states), log_sinkhorn(pointers, 10))


@pytest.mark.parametrize("type_", [Type.SCALAR, Type.MASK])
def test_edge_logits_equal_the_equation_written_as_loops(type_):
    decoder, (node, edge, graph, adj, _) = random_decoder(Location.EDGE, type_), random_states()

    def equation(b: int, i: int, j: int) -> Tensor:
        return (decoder.sender(node[b, i]) + decoder.receiver(node[b, j]) + decoder.edge(edge[b, i, j]))[0]

    assert_equals_loops(decoder, States(node, edge, graph, adj), 2, equation)


def test_edge_categorical_logits_equal_the_equation_written_as_loops():
    decoder, (node, edge, graph, adj, _) = random_decoder(Location.EDGE, Type.CATEGORICAL), random_states()

    def equation(b: int, i: int, j: int) -> Tensor:
        return decoder.sender(node[b, i]) + decoder.receiver(node[b, j]) + decoder.edge(edge[b, i, j])

    assert_equals_loops(decoder, States(node, edge, graph, adj), 2, equation, tail=(C,))


def test_edge_pointer_logits_equal_the_equation_written_as_loops():
    decoder, (node, edge, graph, adj, _) = random_decoder(Location.EDGE, Type.POINTER), random_states()

    def equation(b: int, i: int, j: int, k: int) -> Tensor:
        ends = decoder.source.sender(node[b, i]) + decoder.source.receiver(node[b, j])
        source = ends + decoder.source.edge(edge[b, i, j])
        return decoder.output(torch.maximum(source, decoder.target(node[b, k])))[0]

    assert_equals_loops(decoder, States(node, edge, graph, adj), 3, equation)


@pytest.mark.parametrize("num_pointers", [0, 2])
def test_edge_pointer_logits_from_triplets_equal_the_equation_written_as_loops(num_pointers):
    probe = make_probe(Location.EDGE, Type.POINTER)
    decoder = make_decoder(probe, H, EDGE_DIM, num_pointers=num_pointers)
    for bias in (decoder.edge.bias, decoder.node.bias):
        nn.init.normal_(bias)
    node, edge, graph, adj, _ = random_states()
    pointers = torch.rand(B, N, N, N, num_pointers) if num_pointers else None
    each = ["A1", "A2", "B1", "B2", "C1", "C2"]
    of_edges = dict(zip(each, torch.arange(len(decoder.edge.weight)).chunk(6), strict=True))
    of_nodes = dict(zip(("A3", "B3", "C3"), torch.arange(len(decoder.node.weight)).chunk(3), strict=True))

    def equation(b: int, i: int, j: int, k: int) -> Tensor:
        def linear(name: str, *nodes: int) -> Tensor:
            layer, rows, x = decoder.edge, of_edges.get(name), edge[(b, *nodes)] if len(nodes) == 2 else None
            if x is None:
                layer, rows, x = decoder.node, of_nodes[name], node[b, nodes[0]]
            return layer.weight[rows] @ x + layer.bias[rows]

        total = linear("A1", i, j) + linear("A2", j, i) + linear("A3", i)
        total = total + linear("B1", i, k) + linear("B2", k, i) + linear("B3", k)
        total = total + linear("C1", j, k) + linear("C2", k, j) + linear("C3", j)
        if pointers is not None:
            total = total + decoder.pointers.weight @ pointers[b, i, j, k]
        return decoder.output.weight[0] @ total.clamp(min=0)

    assert_equals_loops(decoder, States(node, edge, graph, adj, pointers), 3, equation)


@pytest.mark.parametrize("location_and_type", [kind for kind in KINDS if kind != (Location.EDGE, Type.POINTER)])
def test_only_edge_pointers_are_decoded_from_triplets(location_and_type):
    probe = make_probe(*location_and_type)
    others = [make_decoder(probe, H, EDGE_DIM, num_pointers=number) for number in (None, 2)]
    assert {type(other) for other in others} == {type(others[0])}
    assert others[0].state_dict().keys() == others[1].state_dict().keys()


def test_states_of_several_batches_keep_the_pointers_of_each():
    node, edge, graph, adj, _ = random_states()
    states = States(node, edge, graph, adj, torch.rand(B, N, N, N, 1))
    joined = States.concatenated([states.select(slice(1, None)), states])
    assert joined.pointers is not None
    assert torch.equal(joined.pointers, torch.cat([states.pointers[1:], states.pointers]))
    assert States.concatenated([random_states()] * 2).pointers is None


@pytest.mark.parametrize("type_", [Type.SCALAR, Type.MASK])
def test_graph_logits_equal_the_equation_written_as_loops(type_):
    decoder, (node, edge, graph, adj, _) = random_decoder(Location.GRAPH, type_), random_states()

    def equation(b: int) -> Tensor:
        return (decoder.node(node[b].max(dim=0).values) + decoder.graph(graph[b]))[0]

    assert_equals_loops(decoder, States(node, edge, graph, adj), 0, equation)


def test_graph_categorical_logits_equal_the_equation_written_as_loops():
    decoder, (node, edge, graph, adj, _) = random_decoder(Location.GRAPH, Type.CATEGORICAL), random_states()

    def equation(b: int) -> Tensor:
        return decoder.node(node[b].max(dim=0).values) + decoder.graph(graph[b])

    assert_equals_loops(decoder, States(node, edge, graph, adj), 0, equation, tail=(C,))


def test_graph_pointer_logits_equal_the_equation_written_as_loops():
    decoder, (node, edge, graph, adj, _) = random_decoder(Location.GRAPH, Type.POINTER), random_states()

    def equation(b: int, j: int) -> Tensor:
        read_out = decoder.source.node(node[b].max(dim=0).values) + decoder.source.graph(graph[b])
        return (read_out + decoder.target(node[b, j]))[0]

    assert_equals_loops(decoder, States(node, edge, graph, adj), 1, equation)


def states_as_channels() -> States:
    """States as an encoder and a processor with edge states make them."""

    def channels(*axes: int) -> Channels:
        return Channels(torch.randn(*axes, 2), Folded(torch.randn(H, 2), torch.randn(H)))

    node = concat(channels(B, N), torch.randn(B, N, H), torch.randn(B, N, H))
    edge = concat(channels(B, N, N), Rectified(torch.randn(B, N, N, 2), torch.randn(H, 2), torch.randn(H)))
    return States(node, edge, torch.randn(B, H), torch.rand(B, N, N) < 0.3)


def decoders_of_every_kind() -> nn.ModuleDict:
    # Pointers come last, though their operation has them first.
    order = sorted(KINDS, key=lambda kind: kind[1] in (Type.POINTER, Type.PERMUTATION_POINTER))
    return nn.ModuleDict({" ".join(kind): random_decoder(*kind) for kind in order})


def test_logits_that_are_computed_together_are_those_that_decoders_compute_by_themselves():
    decoders, states = decoders_of_every_kind(), states_as_channels()
    expected = {name: decoder(states.without_channels()) for name, decoder in decoders.items()}
    made = decode(decoders, states)
    assert list(made) == list(expected)
    torch.testing.assert_close(made, expected)
    gradients = []
    for logits in (made, expected):
        total = torch.stack([x.sin().sum() for x in logits.values()]).sum()
        gradients.append(torch.autograd.grad(total, list(decoders.parameters())))
    torch.testing.assert_close(gradients[0], gradients[1])


@pytest.mark.parametrize("left_out", [Type.POINTER, Type.MASK])
def test_all_that_is_decoded_on_pairs_is_so_by_one_operation(left_out, monkeypatch):
    calls: list[int] = []
    monkeypatch.setattr(
        nar.model.pairs, "pair_logits", lambda *given: calls.append(len(given[3])) or pair_logits(*given)
    )
    kinds = {(Location.NODE, Type.POINTER), (Location.EDGE, Type.MASK), (Location.EDGE, Type.CATEGORICAL)}
    decoders = nn.ModuleDict(
        {" ".join(kind): random_decoder(*kind) for kind in sorted(kinds) if kind[1] is not left_out}
    )
    decode(decoders, states_as_channels())
    assert calls == [0 if left_out is Type.POINTER else 1]


def test_permutation_logits_are_noisy_in_training():
    decoder, states = random_decoder(Location.NODE, Type.PERMUTATION_POINTER).train(), random_states()
    assert not torch.allclose(decoder(states), decoder(states))


def test_permutation_logits_are_without_noise_in_evaluation():
    decoder, states = random_decoder(Location.NODE, Type.PERMUTATION_POINTER).eval(), random_states()
    assert torch.equal(decoder(states), decoder(states))


def test_pointer_logits_are_without_noise_in_training():
    decoder, states = random_decoder(Location.NODE, Type.POINTER).train(), random_states()
    assert torch.equal(decoder(states), decoder(states))


def test_noise_is_added_before_the_sinkhorn_operator(monkeypatch):
    decoder, states = random_decoder(Location.NODE, Type.PERMUTATION_POINTER).train(), random_states()
    noise = torch.randn(B, N, N)
    monkeypatch.setattr(nar.model.decoders, "gumbel_noise", lambda like: noise)
    decoder.permutation = False
    expected = log_sinkhorn(decoder(states) + noise, 10)
    decoder.permutation = True
    torch.testing.assert_close(decoder(states), expected)


@pytest.mark.parametrize(("power", "expected"), [(1, 0.5772), (2, 0.5772**2 + math.pi**2 / 6)], ids=["first", "second"])
def test_noise_has_the_moments_of_a_standard_gumbel_distribution(power, expected):
    assert gumbel_noise(torch.zeros(200_000)).pow(power).mean().item() == pytest.approx(expected, rel=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("num_steps", [1, 10, 25])
def test_log_sinkhorn_equals_that_of_dm_clrs(reference, num_steps):
    logits = torch.randn(B, N, N)
    theirs = reference.log_sinkhorn(
        reference.jnp.asarray(logits), num_steps, 0.1, zero_diagonal=True, noise_rng_key=None
    )
    torch.testing.assert_close(log_sinkhorn(logits, num_steps), torch.from_numpy(np.array(theirs)))


def test_sinkhorn_matrix_has_a_zero_diagonal():
    assert (log_sinkhorn(10 * torch.eye(N).expand(B, N, N), 10).exp().diagonal(dim1=1, dim2=2) == 0).all()


@pytest.mark.parametrize("dim", [1, 2], ids=["columns", "rows"])
def test_sinkhorn_matrix_sums_to_about_one(dim):
    sums = log_sinkhorn(0.1 * torch.randn(B, N, N), 25).exp().sum(dim=dim)
    torch.testing.assert_close(sums, torch.ones(B, N), atol=1e-3, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_sinkhorn_matrix_of_half_precision_is_finite(dtype):
    assert log_sinkhorn(torch.randn(B, N, N).to(dtype), 25).isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_sinkhorn_matrix_keeps_full_precision(dtype):
    assert log_sinkhorn(torch.randn(B, N, N).to(dtype), 2).dtype is dtype


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_noisy_permutation_logits_of_half_precision_are_finite(dtype):
    decoder = random_decoder(Location.NODE, Type.PERMUTATION_POINTER).train().to(dtype)
    states = States(*(part.repeat(1000, *[1] * (part.dim() - 1)) for part in random_states()[:4]))
    states = States(*(part if part.dtype is torch.bool else part.to(dtype) for part in states[:4]))
    assert decoder(states).isfinite().all()


MASKED_KINDS = [(Location.NODE, Type.POINTER), (Location.EDGE, Type.MASK), (Location.EDGE, Type.MASK_ONE)]


def masked_and_not(location: Location, type_: Type) -> tuple[nn.Module, nn.Module]:
    """A decoder that looks at `adj`, and one that does not, with the same weights."""
    probe = make_probe(location, type_)
    masked, plain = (make_decoder(probe, H, EDGE_DIM, masked=masked).eval() for masked in (True, False))
    plain.load_state_dict(masked.state_dict())
    return masked, plain


@pytest.mark.parametrize(("location", "type_"), MASKED_KINDS)
def test_masked_logits_on_edges_are_those_of_an_unmasked_decoder(location, type_):
    masked, plain = masked_and_not(location, type_)
    states = random_states()
    assert torch.equal(masked(states)[states.adj], plain(states)[states.adj])


@pytest.mark.parametrize(("location", "type_"), MASKED_KINDS)
@pytest.mark.parametrize("shift", [-20.0, 20.0])
def test_masked_logits_off_edges_are_negative_and_below_all_of_their_graph(location, type_, shift):
    masked, plain = masked_and_not(location, type_)
    for decoder in (masked, plain):
        nn.init.constant_((decoder.output if location is Location.NODE else decoder.edge).bias, shift)
    states = random_states()
    for graph, (logits, all_logits) in enumerate(zip(masked(states), plain(states), strict=True)):
        off_edges = logits[~states.adj[graph]]
        torch.testing.assert_close(off_edges, (all_logits.min() - 1).clamp(max=-1).expand_as(off_edges))


def test_masked_permutation_hardly_leaves_the_edges():
    masked, plain = masked_and_not(Location.NODE, Type.PERMUTATION_POINTER)
    states = random_states()
    cycle = torch.eye(N, dtype=torch.bool).roll(1, dims=1)
    states = states._replace(adj=(cycle | torch.eye(N, dtype=torch.bool)).expand(B, N, N))
    assert (masked(states).exp()[:, cycle] > 0.99).all()
    assert not (plain(states).exp()[:, cycle] > 0.99).all()


@pytest.mark.parametrize(
    ("location", "type_"),
    [kind for kind in KINDS if kind not in (*MASKED_KINDS, (Location.NODE, Type.PERMUTATION_POINTER))],
)
def test_a_mask_has_no_effect_on_other_probes(location, type_):
    masked, plain = masked_and_not(location, type_)
    states = random_states()
    assert torch.equal(masked(states), plain(states))


def postprocess(reference: Any, probe: Probe, logits: Tensor, *, num_steps: int, hard: bool) -> Tensor:
    """The value that dm-clrs makes of the logits of a probe."""
    spec = {"probe": (str(probe.stage), str(probe.location), str(probe.type))}
    points = reference.postprocess(
        spec, {"probe": reference.jnp.asarray(logits)}, sinkhorn_temperature=0.1, sinkhorn_steps=num_steps, hard=hard
    )
    return torch.from_numpy(np.array(points["probe"].data))


def random_logits(probe: Probe) -> Tensor:
    """Logits of many graphs, so that for some permutations more Sinkhorn steps give another matrix."""
    return torch.randn(150, *logits_shape(probe)[1:]) * 3


@pytest.mark.slow
@EVERY_KIND
def test_soft_value_equals_that_of_dm_clrs(reference, location, type_):
    probe = make_probe(location, type_)
    logits = random_logits(probe)
    expected = postprocess(reference, probe, logits, num_steps=25, hard=False)
    torch.testing.assert_close(soft_value(probe, logits), expected)


@pytest.mark.slow
@EVERY_KIND
def test_hard_value_equals_that_of_dm_clrs(reference, location, type_):
    probe = make_probe(location, type_)
    logits = random_logits(probe)
    expected = postprocess(reference, probe, logits, num_steps=25, hard=True)
    if type_ is Type.POINTER:  # dm-clrs has indices here, and makes them one-hot when it encodes them
        expected = nn.functional.one_hot(expected.long(), N)
    torch.testing.assert_close(hard_value(probe, logits), expected.to(logits.dtype))


@EVERY_KIND
def test_predicted_value_equals_that_of_dm_clrs(reference, location, type_):
    probe = make_probe(location, type_)
    logits = random_logits(probe)
    expected = postprocess(reference, probe, logits, num_steps=50, hard=True)
    given = predicted_value(probe, logits)
    if type_ is not Type.POINTER:  # of which alone dm-clrs, too, has indices
        given = dense(probe, given, N)
    torch.testing.assert_close(given.to(logits.dtype), expected.to(logits.dtype))


def test_prediction_of_a_permutation_takes_more_sinkhorn_steps_than_feedback():
    probe = make_probe(Location.NODE, Type.PERMUTATION_POINTER)
    logits = random_logits(probe)
    assert not torch.equal(predicted_value(probe, logits), hard_value(probe, logits).argmax(dim=-1))


CHOICES = (Type.MASK_ONE, Type.CATEGORICAL, Type.POINTER, Type.PERMUTATION_POINTER)


@pytest.mark.parametrize(("location", "type_"), [kind for kind in KINDS if kind[1] in CHOICES])
def test_predicted_choices_are_indices(location, type_):
    probe = make_probe(location, type_)
    logits = torch.randn(logits_shape(probe))
    predicted = predicted_value(probe, logits)
    assert (predicted.shape, predicted.dtype) == (logits.shape[:-1], torch.int64)


@pytest.mark.parametrize("location", list(Location))
def test_predicted_masks_are_as_small_as_data(location):
    probe = make_probe(location, Type.MASK)
    logits = torch.randn(logits_shape(probe))
    predicted = predicted_value(probe, logits)
    assert (predicted.shape, predicted.dtype) == (logits.shape, torch.int8)


@EVERY_KIND
def test_soft_value_lets_gradients_through(location, type_):
    probe = make_probe(location, type_)
    logits = torch.randn(logits_shape(probe), requires_grad=True)
    soft_value(probe, logits).square().sum().backward()
    assert logits.grad.abs().max() > 1e-6


@EVERY_KIND
def test_hard_value_lets_no_gradient_through(location, type_):
    probe = make_probe(location, type_)
    assert not hard_value(probe, torch.randn(logits_shape(probe), requires_grad=True)).requires_grad
