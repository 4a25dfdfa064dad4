"""The asynchronous layers: their laws on any numbers, and any schedule that reaches the same end."""
# Axes: B graphs, N nodes, H hidden, D width of states. What belongs to an edge is [B, sender, receiver, ...].

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import networkx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from layers import (
    Inputs,
    random_inputs,
    randomised,
    variants,
)
from torch import Tensor, nn

from nar.processors import Asynchronous
from nar.processors.asynchronous.layer import TropicalLinear

Make = Callable[[int], Asynchronous]

TROPICAL = ("tropical linear", "tropical bilinear")
# Those of which every law holds bit for bit.
SEMILATTICES: dict[str, Make] = variants(Asynchronous, {"message": TROPICAL, "arguments": ("state", "received")})
every_semilattice = pytest.mark.parametrize("make", SEMILATTICES.values(), ids=SEMILATTICES)
every_dtype = pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
few = settings(derandomize=True, deadline=None, max_examples=25, database=None)
# So that there are ties, and sums that are rounded.
numbers = st.sampled_from([0.0, -0.0, 0.1, 0.2, 0.3, 1 / 3, -1 / 3, 1.0, -1.0, 1e-8, 12345.678, -9876.54321])
D = 2


def tensors(draw: Any, dtype: torch.dtype, *shape: int) -> Tensor:
    size = math.prod(shape)
    return torch.tensor(draw(st.lists(numbers, min_size=size, max_size=size)), dtype=dtype).view(shape)


def layer_of(make: Make, dtype: torch.dtype, draw: Any) -> Asynchronous:
    """One with some weights; D is the width of its states."""
    layer = make(D)
    layer = layer if layer.sends_state else make(2 * D)
    for parameter in layer.to(dtype).parameters():
        parameter.data = tensors(draw, dtype, *parameter.shape)
    return layer


@pytest.mark.slow
@every_semilattice
@every_dtype
@given(data=st.data())
@few
def test_the_laws_hold_bit_for_bit_on_any_numbers(make: Make, dtype: torch.dtype, data: st.DataObject) -> None:
    layer = layer_of(make, dtype, data.draw)
    s, m, n, a, b, c = (tensors(data.draw, dtype, 1, 2, D) for _ in range(6))
    x = torch.zeros(1, 2, layer.hidden_dim, dtype=dtype)
    both = layer.combine(m, n)
    assert both.equal(layer.combine(n, m))
    assert layer.combine(both, s).equal(layer.combine(m, layer.combine(n, s)))
    once = layer.update(s, m, x)
    assert layer.update(s, both, x).equal(layer.update(once, n, x))
    assert layer.arguments(s, both, x).equal(layer.combine(layer.arguments(s, m, x), layer.arguments(once, n, x)))
    whole = layer.message(layer.combine(a, b), s, c)
    assert whole.equal(layer.combine(layer.message(a, s, c), layer.message(b, s, c)))
    if layer.hears_receiver:
        whole = layer.message(s, layer.combine(a, b), c)
        assert whole.equal(layer.combine(layer.message(s, a, c), layer.message(s, b, c)))


@every_semilattice
def test_what_comes_of_nobody_changes_no_state(make: Make) -> None:
    layer, inputs = make(4), random_inputs(4)
    state = layer.states(inputs.hidden)[0]
    nothing = layer.reduce(state[:, None].expand(-1, 5, -1, -1), torch.zeros_like(inputs.adj))
    assert layer.update(state, nothing, inputs.node_fts).equal(state)


@pytest.mark.parametrize("temperature", [0.01, 1.0])
@pytest.mark.parametrize("message", TROPICAL)
def test_in_the_log_semiring_the_laws_hold_to_rounding(message: Any, temperature: float) -> None:
    given: dict[str, Any] = {"message": message, "temperature": temperature, "arguments": "received"}
    layer = randomised(Asynchronous(2 * D, reduction="logsumexp", **given))
    s, m, n, c = torch.randn(4, 1, 2, D, dtype=torch.float64)
    x = torch.zeros(1, 2, 2 * D, dtype=torch.float64)
    both = layer.combine(m, n)
    torch.testing.assert_close(layer.update(s, both, x), layer.update(layer.update(s, m, x), n, x))
    torch.testing.assert_close(layer.message(both, s, c), layer.combine(layer.message(m, s, c), layer.message(n, s, c)))


@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_smooth_messages_below_a_maximum_break_the_law_by_no_more_than_the_temperature_times_log_2(
    temperature: float,
) -> None:
    layer = randomised(Asynchronous(D, message="tropical bilinear", temperature=temperature))
    a, b, s, c = torch.randn(4, 100, D, dtype=torch.float64)
    gap = layer.combine(layer.message(a, s, c), layer.message(b, s, c)) - layer.message(layer.combine(a, b), s, c)
    assert 0.1 * temperature < gap.abs().max() <= temperature * math.log(2)


def test_smoothing_goes_away_with_the_temperature() -> None:
    smooth, sharp = TropicalLinear(5, 4, temperature=1e-3).double(), TropicalLinear(5, 4).double()
    sharp.load_state_dict(smooth.state_dict())
    x = torch.randn(7, 5, dtype=torch.float64)
    gap = smooth(x) - sharp(x)
    assert 0 < gap.max() <= 1e-3 * math.log(5)
    assert gap.min() > -1e-12


def bellman_ford() -> Asynchronous:
    """A layer that takes the least of what its senders' distances and its edges' lengths add up to, negated."""
    layer = Asynchronous(1).double()
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    nn.init.constant_(layer.edge.weight, -1.0)
    return layer


FAR = 1e5


def graph(seed: int, num_nodes: int = 9) -> tuple[Inputs, networkx.DiGraph]:
    """A random directed graph with lengths and self-loops of length 0; the first node is the source."""
    inputs = random_inputs(1, num_graphs=1, num_nodes=num_nodes)
    lengths = torch.randint(1, 10, (1, num_nodes, num_nodes, 1)).double() * (1 - torch.eye(num_nodes)[None, ..., None])
    hidden = torch.full_like(inputs.hidden, -FAR)
    hidden[:, 0] = 0
    edges = [(i, j, float(lengths[0, i, j, 0])) for _, i, j in inputs.adj.nonzero().tolist()]
    known = networkx.DiGraph()
    known.add_nodes_from(range(num_nodes))
    known.add_weighted_edges_from(edges)
    return inputs._replace(edge_fts=lengths, hidden=hidden), known


def run_asynchronously(layer: Asynchronous, inputs: Inputs, num_steps: int) -> Tensor:
    """States after steps in each of which some random nodes hear some of their senders."""
    hidden = inputs.hidden
    for _ in range(num_steps):
        delivered = torch.rand(inputs.adj.shape) < torch.rand(len(inputs.adj), 1, inputs.adj.shape[2])
        hidden = layer(*inputs[:3], inputs.adj & delivered, hidden)[0]
    return hidden


@pytest.mark.parametrize("seed", range(5))
def test_hand_set_weights_find_shortest_paths_under_any_schedule(seed: int) -> None:
    torch.manual_seed(seed)
    inputs, known = graph(seed)
    found = -run_asynchronously(bellman_ford(), inputs, 300)[0, :, 0]
    expected = networkx.single_source_bellman_ford_path_length(known, 0)
    assert found.tolist() == [expected.get(node, FAR) for node in range(len(found))]
    assert len(expected) > 1


def declining(make: Make, dtype: torch.dtype) -> tuple[Asynchronous, Inputs]:
    """A layer and inputs of which no message is larger than what it is made of, so that states come to rest."""
    layer, inputs = make(4).to(dtype), random_inputs(4, dtype=dtype)
    for parameter in layer.parameters():
        parameter.data.abs_().mul_(-0.1)
    return layer, Inputs(*(x.abs() if x.is_floating_point() else x for x in inputs[:4]), 3 * inputs.hidden)


@every_dtype
@pytest.mark.parametrize("seed", range(3))
def test_every_schedule_comes_to_rest_at_the_same_states(dtype: torch.dtype, seed: int) -> None:
    torch.manual_seed(seed)
    layer, inputs = declining(Asynchronous, dtype)
    hidden = [inputs.hidden]
    for _ in range(30):
        hidden.append(layer(*inputs[:4], hidden[-1])[0])
    assert hidden[-1].equal(hidden[-2])
    assert not hidden[1].equal(hidden[0])
    assert run_asynchronously(layer, inputs, 300).equal(hidden[-1])
    assert not run_asynchronously(layer, inputs, 1).equal(hidden[-1])


def test_with_a_network_for_the_update_states_depend_on_the_schedule() -> None:
    torch.manual_seed(0)
    layer, inputs = randomised(Asynchronous(4, update="network")), random_inputs(4)
    ends = [run_asynchronously(layer, inputs, 300) for _ in range(2)]
    assert not ends[0].allclose(ends[1])


@every_dtype
def test_states_of_an_action_never_decrease(dtype: torch.dtype) -> None:
    layer, inputs = Asynchronous(8).to(dtype), random_inputs(8, dtype=dtype)
    states = [inputs.hidden]
    for _ in range(3):
        states.append(layer(*inputs[:4], states[-1])[0])
    assert all((after >= before).all() for before, after in pairwise(states))
