"""By how much layers break the laws: what asynchrony_error finds, and the penalties that teach them to keep them."""
# Axes: B graphs, N nodes, H hidden. What belongs to an edge is [B, sender, receiver, ...].

from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from layers import Inputs, random_inputs, randomised
from torch import Tensor

from nar.processor import Processor
from nar.processors import GAT, MPNN, PGN, Asynchronous, TripletGMPNN, asynchrony_error
from nar.processors.asynchronous.laws import Pieces

few = settings(derandomize=True, deadline=None, max_examples=20, database=None)
every_dtype = pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
every_level = pytest.mark.parametrize("level", [1, 2, 3])

EXACT: list[dict[str, Any]] = [
    {},
    {"message": "tropical bilinear"},
    {"arguments": "received"},
    {"message": "tropical bilinear", "senders": "all"},
]
ROUNDED: list[dict[str, Any]] = [
    {"reduction": "logsumexp", "temperature": temperature, "arguments": "received", "message": message}
    for temperature, message in ((0.1, "tropical linear"), (1.0, "tropical bilinear"))
]
BREAKING: dict[int, list[dict[str, Any]]] = {
    2: [{"update": "network"}, {"update": "network", "reduction": "sum", "message": "mlp"}],
    3: [
        {"arguments": "network"},
        {"message": "mlp"},
        {"message": "linear"},
        {"reduction": "sum"},
        {"temperature": 1.0},
        {"reduction": "logsumexp", "temperature": 1.0},
    ],
}


class Unordered(Asynchronous):
    """A layer whose ⊕ of two depends on which comes first, or of three on how they are put together."""

    def __init__(self, fault: str) -> None:
        super().__init__(4)
        self.fault = fault

    def combine(self, one: Tensor, other: Tensor) -> Tensor:
        return 0.7 * one + 0.3 * other if self.fault == "order" else (one + other) / 2


class Recurrent(Processor):
    """A layer that reads its senders in their order, and forgets."""

    def __init__(self, hidden_dim: int = 4) -> None:
        super().__init__()
        self.hidden_dim = hidden_dim

    def forward(
        self, node_fts: Tensor, edge_fts: Tensor, graph_fts: Tensor, adj: Tensor, hidden: Tensor
    ) -> tuple[Tensor, None]:
        state = hidden
        for sender in range(hidden.shape[1]):
            read = (state + hidden[:, sender, None]) / 2
            state = torch.where(adj[:, sender, :, None].bool(), read, state)
        return state, None


class Opaque(Processor):
    """A processor of which only forward is known."""

    def __init__(self, processor: Processor) -> None:
        super().__init__()
        self.inner = processor
        self.hidden_dim = processor.hidden_dim

    def forward(
        self, node_fts: Tensor, edge_fts: Tensor, graph_fts: Tensor, adj: Tensor, hidden: Tensor
    ) -> tuple[Tensor, None]:
        return self.inner(node_fts, edge_fts, graph_fts, adj, hidden)[0], None


def error(layer: Processor, level: int, inputs: Inputs | None = None, seed: int = 0, **settings: Any) -> float:
    inputs = random_inputs(layer.hidden_dim) if inputs is None else inputs
    return asynchrony_error(layer, level, *inputs, generator=torch.Generator().manual_seed(seed), **settings)


@pytest.mark.slow
@every_level
@every_dtype
@pytest.mark.parametrize("kind", EXACT, ids=str)
@given(seed=st.integers(0, 2**32 - 1), num_nodes=st.integers(3, 8), scale=st.sampled_from([1e-3, 1.0, 1e3]))
@few
def test_layers_of_the_maximum_break_no_law_by_a_single_bit(
    kind: dict[str, Any], level: int, dtype: torch.dtype, seed: int, num_nodes: int, scale: float
) -> None:
    torch.manual_seed(seed)
    layer = Asynchronous(4, **kind).to(dtype)
    inputs = random_inputs(4, num_nodes=num_nodes, dtype=dtype)
    scaled = Inputs(*(scale * x if x.is_floating_point() else x for x in inputs))
    assert error(layer, level, scaled, seed, num_schedules=2) == 0


@every_level
@pytest.mark.parametrize("kind", ROUNDED, ids=str)
def test_layers_of_the_log_semiring_break_no_law_by_more_than_rounding(kind: dict[str, Any], level: int) -> None:
    assert error(randomised(Asynchronous(4, **kind)), level) < 1e-13


@pytest.mark.parametrize(("level", "kind"), [(n, kind) for n, kinds in BREAKING.items() for kind in kinds], ids=str)
@every_dtype
def test_layers_that_break_a_law_are_found(level: int, kind: dict[str, Any], dtype: torch.dtype) -> None:
    layer = randomised(Asynchronous(8, **kind)).to(dtype)
    assert error(layer, level, random_inputs(8, dtype=dtype)) > 0.05
    assert error(layer, 1, random_inputs(8, dtype=dtype)) < 1e-4


@every_level
@pytest.mark.parametrize(
    "kind",
    [
        *EXACT[:3],
        *ROUNDED,
        {"reduction": "logsumexp", "temperature": 5e3, "arguments": "received", "message": "tropical linear"},
    ],
)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_laws_hold_where_a_node_hears_nobody(kind: dict[str, Any], level: int, dtype: torch.dtype) -> None:
    layer, inputs = randomised(Asynchronous(4, **kind)).to(dtype), random_inputs(4)
    inputs.adj[:, :, 0] = False
    inputs.adj[0] = False
    inputs = Inputs(*(x.to(dtype) if x.is_floating_point() else x for x in inputs))
    rounding = torch.finfo(dtype).eps * max(10, kind.get("temperature", 0))
    assert error(layer, level, inputs) <= (0 if kind in EXACT else 10 * rounding)


@pytest.mark.parametrize("fault", ["order", "groups"])
def test_a_reduction_that_is_no_commutative_monoid_is_found(fault: str) -> None:
    assert error(Unordered(fault).double(), 1) > 0.05


@every_level
@pytest.mark.parametrize("kind", [{}, {"reduction": "max", "message": "tropical linear"}], ids=str)
def test_by_forward_alone_a_layer_of_the_maximum_that_does_not_look_at_its_receiver_breaks_no_law(
    kind: dict[str, Any], level: int
) -> None:
    assert error(Opaque(randomised(Asynchronous(4, **kind))), level) == 0


@pytest.mark.parametrize("level", [2, 3])
@pytest.mark.parametrize("kind", [MPNN, TripletGMPNN, PGN, GAT, lambda h: PGN(h, reduction="mean")])
def test_ordinary_layers_break_the_laws_of_levels_2_and_3(kind: Callable[[int], Processor], level: int) -> None:
    layer = randomised(kind(4))
    assert not isinstance(layer, Pieces)
    assert error(layer, level) > 0.05


@pytest.mark.parametrize("kind", [MPNN, TripletGMPNN, PGN, GAT, lambda h: PGN(h, reduction="mean")])
def test_ordinary_layers_keep_the_law_of_level_1(kind: Callable[[int], Processor]) -> None:
    assert error(randomised(kind(4)), 1) < 1e-12


def test_a_layer_that_reads_its_senders_in_turn_breaks_the_law_of_level_1() -> None:
    assert error(Recurrent().double(), 1) > 0.05


class Listening(Processor):
    """A layer that keeps what it is told to hear."""

    hidden_dim = 4

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[Tensor] = []

    def forward(
        self, node_fts: Tensor, edge_fts: Tensor, graph_fts: Tensor, adj: Tensor, hidden: Tensor
    ) -> tuple[Tensor, None]:
        self.heard.append(adj)
        return hidden, None


def test_by_forward_alone_every_other_node_is_heard_once_by_one_that_does_not_hear_itself() -> None:
    layer = Listening()
    error(layer, 2, num_schedules=1)
    at_once, first, second = ([len(adj[0]) - 1, adj[:, 1:].all(), adj[:, 0, 0].any()] for adj in layer.heard)
    assert at_once == [4, True, False]
    assert first[1:] == second[1:] == at_once[1:]
    assert first[0] + second[0] == 4


@pytest.mark.parametrize("level", [2, 3])
def test_the_same_seed_gives_the_same_error(level: int) -> None:
    layer, inputs = randomised(Asynchronous(4, update="network", message="mlp")), random_inputs(4)
    found = [error(layer, level, inputs, seed, num_schedules=1) for seed in (1, 1, 2)]
    assert found[0] == found[1]
    assert found[0] != found[2]


def test_more_schedules_find_no_smaller_error() -> None:
    layer, inputs = randomised(Asynchronous(4, update="network")), random_inputs(4)
    errors = [error(layer, 2, inputs, num_schedules=number) for number in (1, 4, 16)]
    assert errors == sorted(errors)
    assert errors[0] < errors[-1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"level": 4}, "expected a level of 1, 2 or 3, given 4"),
        ({"level": 2, "inputs": random_inputs(4, num_nodes=2)}, "expected 3 nodes .*given 2 and 8"),
        ({"level": 2, "num_schedules": 0}, "1 schedule or more, given 5 and 0"),
    ],
)
def test_what_cannot_be_measured_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        error(Asynchronous(4).double(), **arguments)


def penalties(layer: Asynchronous, inputs: Inputs, seed: int = 0) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    return layer.penalties(*inputs)


@every_dtype
@pytest.mark.parametrize("kind", EXACT, ids=str)
def test_layers_of_the_maximum_have_penalties_of_0(kind: dict[str, Any], dtype: torch.dtype) -> None:
    layer = Asynchronous(4, **kind).to(dtype)
    found = penalties(layer, random_inputs(4, dtype=dtype))
    assert {name: value.item() for name, value in found.items()} == dict.fromkeys(layer.penalty_names, 0)


@pytest.mark.parametrize(
    ("kind", "broken"),
    [
        ({"update": "network"}, ("action", "cocycle")),
        ({"update": "network", "arguments": "received"}, ("action",)),
        ({"arguments": "network"}, ("cocycle",)),
        ({"message": "mlp"}, ("multimorphism",)),
        ({"temperature": 1.0}, ("multimorphism",)),
    ],
    ids=str,
)
def test_a_penalty_is_above_0_where_its_law_is_broken(kind: dict[str, Any], broken: tuple[str, ...]) -> None:
    found = penalties(randomised(Asynchronous(8, **kind)), random_inputs(8))
    assert {name for name, value in found.items() if value > 1e-5} == {*broken}


@pytest.mark.parametrize("reduction", ["max", "sum"])
def test_penalties_equal_their_equations(reduction: Any) -> None:
    layer = randomised(Asynchronous(4, reduction=reduction, update="network", arguments="network", message="mlp"))
    # Two nodes that hear themselves alone: which messages and nodes are drawn is no matter of chance.
    inputs = random_inputs(4, num_nodes=2)._replace(adj=torch.eye(2, dtype=torch.bool).expand(2, 2, 2))
    state, a = inputs.hidden.chunk(2, dim=-1)
    c = layer.inputs(*inputs[:3])
    m = torch.stack([layer.message(a[:, i], a[:, i], c[:, i, i]) for i in range(2)], dim=1)
    both = m if reduction == "max" else 2 * m
    once = layer.update(state, m, inputs.node_fts)
    action = layer.update(state, both, inputs.node_fts) - layer.update(once, m, inputs.node_fts)
    one, other = (layer.arguments(s, m, inputs.node_fts) for s in (state, once))
    cocycle = layer.arguments(state, both, inputs.node_fts) - layer.combine(one, other)
    gaps = []
    for i, j in product(range(2), range(2)):
        sender = layer.combine(
            layer.message(a[:, i], a[:, j], c[:, i, j]), layer.message(a[:, 1 - i], a[:, j], c[:, i, j])
        )
        gaps.append(layer.message(layer.combine(a[:, i], a[:, 1 - i]), a[:, j], c[:, i, j]) - sender)
        receiver = layer.combine(
            layer.message(a[:, i], a[:, j], c[:, i, j]), layer.message(a[:, i], a[:, 1 - j], c[:, i, j])
        )
        gaps.append(layer.message(a[:, i], layer.combine(a[:, j], a[:, 1 - j]), c[:, i, j]) - receiver)
    expected = {"action": action, "cocycle": cocycle, "multimorphism": torch.stack(gaps)}
    for name, value in penalties(layer, inputs).items():
        torch.testing.assert_close(value, expected[name].square().mean())


def test_two_messages_are_drawn_from_those_that_a_node_hears() -> None:
    layer, inputs = randomised(Asynchronous(4, update="network")), random_inputs(4, num_nodes=5)
    alone = inputs._replace(adj=torch.eye(5, dtype=torch.bool).expand(2, 5, 5))
    for name in ("action", "cocycle"):
        drawn = {penalties(layer, inputs, seed)[name].item() for seed in range(4)}
        assert len(drawn) > 1
        assert len({penalties(layer, alone, seed)[name].item() for seed in range(4)}) == 1


@pytest.mark.parametrize("name", ["action", "cocycle", "multimorphism"])
def test_gradient_of_a_penalty_equals_finite_differences(name: str) -> None:
    layer = randomised(Asynchronous(4, update="network", arguments="network", message="mlp"))
    inputs = random_inputs(4, num_graphs=1, num_nodes=3)

    def penalty(*weights: Tensor) -> Tensor:
        parameters = dict(zip(dict(layer.named_parameters()), weights, strict=True))
        torch.manual_seed(0)
        found: Tensor = torch.func.functional_call(
            Penalties(layer), {f"layer.{k}": x for k, x in parameters.items()}, inputs
        )[name]
        return found

    assert torch.autograd.gradcheck(penalty, tuple(layer.parameters()), fast_mode=True)


class Penalties(torch.nn.Module):
    """A layer's penalties as a module's result."""

    def __init__(self, layer: Asynchronous) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, *inputs: Tensor) -> dict[str, Tensor]:
        return self.layer.penalties(*inputs)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "name", "level"),
    [
        ({"update": "network", "layer_norm": False}, "action", 2),
        ({"arguments": "network", "layer_norm": False}, "cocycle", 3),
        ({"message": "mlp"}, "multimorphism", 3),
    ],
    ids=str,
)
def test_learning_to_keep_a_law_lowers_the_error(kind: dict[str, Any], name: str, level: int) -> None:
    layer, inputs = randomised(Asynchronous(4, **kind)), random_inputs(4)
    before = error(layer, level, inputs)
    optimiser = torch.optim.Adam(layer.parameters(), lr=0.01)
    for _ in range(150):
        optimiser.zero_grad()
        layer.penalties(*inputs)[name].backward()
        optimiser.step()
    assert error(layer, level, inputs) < 0.5 * before
