"""AsynchronousConv beside the dense layer."""

from typing import Any

import pytest
import torch
from layers import Inputs, random_inputs, randomised
from torch import Tensor

from nar.processors.asynchronous.conv import AsynchronousConv

KINDS: list[dict[str, Any]] = [
    {},
    {"message": "tropical bilinear", "temperature": 0.5},
    {"message": "mlp", "update": "network"},
    {"reduction": "sum", "message": "linear"},
    {"reduction": "logsumexp", "temperature": 0.5, "arguments": "received"},
    {"arguments": "network", "update": "network"},
]
every_kind = pytest.mark.parametrize("kind", KINDS, ids=str)


def sparse(inputs: Inputs) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The first graph: x, edge_index, edge_attr and hidden."""
    edge_index = inputs.adj[0].nonzero().T
    return inputs.node_fts[0], edge_index, inputs.edge_fts[0][edge_index[0], edge_index[1]], inputs.hidden[0]


def dense(conv: AsynchronousConv, inputs: Inputs) -> Tensor:
    """The states of the first graph by the dense layer."""
    encoder = conv.edge_encoder
    edge_fts = torch.zeros_like(inputs.edge_fts) if encoder is None else encoder(inputs.edge_fts)
    nothing = torch.zeros_like(inputs.graph_fts)
    states: Tensor = conv.layer(conv.node_encoder(inputs.node_fts), edge_fts, nothing, inputs.adj, inputs.hidden)[0][0]
    return states


@every_kind
@pytest.mark.parametrize("with_edges", [True, False])
def test_states_and_gradients_equal_those_of_the_dense_layer(kind: dict[str, Any], with_edges: bool) -> None:
    conv = randomised(AsynchronousConv(4, 4, 4 if with_edges else None, **kind))
    inputs = random_inputs(4, num_graphs=1)
    inputs = inputs._replace(adj=inputs.adj & (torch.arange(5) != 3))  # a node that hears nobody
    x, edge_index, edge_attr, hidden = sparse(inputs)
    found = conv(x, edge_index, edge_attr if with_edges else None, hidden)
    expected = dense(conv, inputs)
    torch.testing.assert_close(found, expected)
    weights = torch.randn_like(found)
    gradients = [
        torch.autograd.grad(states, list(conv.parameters()), weights, allow_unused=True, materialize_grads=True)
        for states in (found, expected)
    ]
    torch.testing.assert_close(*gradients)


def test_the_order_of_edges_changes_no_bit_of_a_maximum() -> None:
    conv, inputs = AsynchronousConv(4, 4, 4), random_inputs(4, num_graphs=1, dtype=torch.float32)
    x, edge_index, edge_attr, hidden = sparse(inputs)
    order = torch.randperm(edge_index.shape[1])
    assert conv(x, edge_index[:, order], edge_attr[order], hidden).equal(conv(x, edge_index, edge_attr, hidden))


def in_quarters(x: Tensor) -> Tensor:
    """Rounded, so that sums and products are exact and one edge's features are the same by themselves."""
    return (4 * x).round() / 4


@pytest.mark.parametrize(("kind", "is_invariant"), [({}, True), ({"reduction": "max", "update": "network"}, False)])
def test_edges_may_come_one_after_the_other_if_the_update_is_an_action(
    kind: dict[str, Any], is_invariant: bool
) -> None:
    conv, inputs = AsynchronousConv(4, 4, 4, **kind), random_inputs(4, num_graphs=1, dtype=torch.float32)
    for parameter in conv.parameters():
        parameter.data = in_quarters(parameter.data)
    x, edge_index, edge_attr, _ = sparse(inputs)
    # Later edges come first, and go to later nodes, so that all are sent from a state of 0.
    order = (edge_index[0] < edge_index[1]).nonzero()[:, 0].flip(0)
    x, edge_index, edge_attr = in_quarters(x), edge_index[:, order], in_quarters(edge_attr[order])
    at_once = conv(x, edge_index, edge_attr)
    state = torch.zeros_like(at_once)
    for edge in range(len(order)):
        state = conv(x, edge_index[:, edge, None], edge_attr[edge, None], state)
    assert len(order) > len(edge_index[1].unique())
    assert state.equal(at_once) == is_invariant


def test_without_a_state_it_starts_from_0() -> None:
    conv = AsynchronousConv(3, 4)
    x, edge_index = torch.randn(2, 3), torch.tensor([[0, 1], [1, 1]])
    assert conv(x, edge_index).equal(conv(x, edge_index, hidden=torch.zeros(2, 4)))


def test_weights_are_drawn_anew() -> None:
    conv = AsynchronousConv(3, 4, 2, message="mlp", update="network")
    before = {name: x.clone() for name, x in conv.named_parameters() if x.dim() > 1}
    conv.reset_parameters()
    assert all(not x.equal(before[name]) for name, x in conv.named_parameters() if name in before)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"in_channels": 0}, r"expected widths ≥ 1 .*given \[0, 4\]"),
        ({"edge_dim": 0}, r"expected widths ≥ 1 .*given \[3, 4, 0\]"),
        ({"senders": "all"}, "expected no senders but those of edge_index, given 'all'"),
    ],
)
def test_a_bad_setting_is_refused_by_name(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AsynchronousConv(**{"in_channels": 3, "out_channels": 4, **settings})


@pytest.mark.parametrize(("edge_dim", "given"), [(2, None), (None, 2)])
def test_features_of_edges_without_a_width_and_the_other_way_round_are_refused(
    edge_dim: int | None, given: int | None
) -> None:
    conv = AsynchronousConv(3, 4, edge_dim)
    edge_attr = None if given is None else torch.randn(1, given)
    with pytest.raises(ValueError, match=f"expected edge_attr of edge_dim {edge_dim}, given"):
        conv(torch.randn(2, 3), torch.tensor([[0], [1]]), edge_attr)
