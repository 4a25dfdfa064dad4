"""Features that are linear in channels, beside others, and layers on them."""
# Axes: B graphs, N nodes, W width.

import pytest
import torch
from torch import Tensor

from nar.ops.channels import Channels, Folded, NodeSum, Rectified, as_tensor, concat, concat_graphs, products, with_sums
from nar.ops.linear import Linear, operands

B, N, W = 2, 4, 5


def random_map(num_channels: int = 3) -> Folded:
    return Folded(torch.randn(W, num_channels), torch.randn(W))


def random_features() -> dict[str, Tensor | Channels]:
    """Every form that features have, of width 2 W."""
    channels, other = Channels(torch.randn(B, N, 3), random_map()), torch.randn(B, N, W)
    rectified = Rectified(torch.randn(B, N, 2), torch.randn(W, 2), torch.randn(W))
    double = Channels(torch.randn(B, N, 3), Folded(torch.randn(2 * W, 3), torch.randn(2 * W)))
    return {
        "tensor": torch.randn(B, N, 2 * W),
        "channels": double,
        "no channels": Channels(torch.randn(B, N, 0), Folded(torch.zeros(2 * W, 0), torch.zeros(2 * W))),
        "beside a tensor": concat(channels, other),
        "beside rectified": concat(channels, rectified),
        "tensor beside a tensor": concat(other, other + 1),
        "tensor beside rectified": concat(other, rectified),
    }


FORMS = list(random_features())


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("bias", [None, 1.5])
def test_a_layer_on_channels_is_the_layer_on_the_features(form: str, bias: float | None) -> None:
    features, layer = random_features()[form], Linear(2 * W, 3, bias=bias)
    torch.testing.assert_close(layer(features), layer(as_tensor(features)))


@pytest.mark.parametrize("form", FORMS)
def test_the_operands_make_the_result(form: str) -> None:
    features, layer = random_features()[form], Linear(2 * W, 3, bias=0.5)
    x, weight, bias, *of_states = layer.operands(features)
    total = x @ weight.T + bias
    if of_states:
        data, first_weight, first_bias, second_weight = of_states
        total = total + (data @ first_weight.T + first_bias).relu() @ second_weight.T
    torch.testing.assert_close(total, layer(as_tensor(features)))


@pytest.mark.parametrize("form", FORMS)
def test_groups_of_layers_have_their_results_side_by_side(form: str) -> None:
    features, layers = random_features()[form], [Linear(2 * W, width, bias=0.5) for width in (3, 1, 2)]
    first, second = products(features, [layers[:2], layers[2:]])
    each = [layer(as_tensor(features)) for layer in layers]
    torch.testing.assert_close(first, torch.cat(each[:2], dim=-1))
    torch.testing.assert_close(second, each[2])


def test_the_operands_of_several_layers_make_their_results_side_by_side() -> None:
    features, layers = random_features()["beside rectified"], [Linear(2 * W, width, bias=0.5) for width in (3, 1)]
    assert isinstance(features, Channels)
    x, weight, bias, data, first_weight, first_bias, second_weight = operands(features, layers)
    total = x @ weight.T + bias + (data @ first_weight.T + first_bias).relu() @ second_weight.T
    torch.testing.assert_close(total, torch.cat([layer(as_tensor(features)) for layer in layers], dim=-1))


def test_a_map_keeps_the_weights_of_layers_with_one_result_as_the_same_tensors() -> None:
    features_map, layers = random_map(), (Linear(2, 1, bias=0.5), Linear(3, 1, bias=None))
    weights, biases = features_map.rows_of(layers)
    torch.testing.assert_close(weights, torch.cat([layer.weight.flatten() for layer in layers]))
    torch.testing.assert_close(biases, torch.tensor([0.5, 0]))
    assert all(one is other for one, other in zip(features_map.rows_of(layers), (weights, biases), strict=True))
    assert [x.shape for x in features_map.rows_of(())] == [(0,), (0,)]


def test_gradients_flow_through_channels_and_their_map() -> None:
    layer, (data, weight, bias) = Linear(W, 3), (torch.randn(N, 2), torch.randn(W, 2), torch.randn(W))
    made = []
    for features in (lambda *args: Channels(args[0], Folded(*args[1:])), lambda x, w, b: x @ w.T + b):
        leaves = [tensor.clone().requires_grad_() for tensor in (data, weight, bias)]
        made.append(torch.autograd.grad(layer(features(*leaves)).square().sum(), [*leaves, *layer.parameters()]))
    torch.testing.assert_close(made[0], made[1])


@pytest.mark.parametrize("form", FORMS)
def test_some_graphs_are_those_of_the_features(form: str) -> None:
    features = random_features()[form]
    torch.testing.assert_close(as_tensor(features[:1]), as_tensor(features)[:1])
    order = torch.tensor([1, 0])
    torch.testing.assert_close(as_tensor(features[order]), as_tensor(features)[order])


def test_rectified_features_that_nobody_reads_are_never_made() -> None:
    made: list[Tensor] = []

    def make() -> Tensor:
        made.append(torch.randn(B, N, 2))
        return made[-1]

    rectified = Rectified(make, torch.randn(W, 2), torch.randn(W))
    first, both = rectified[:1], concat_graphs([rectified, rectified])
    assert not made
    read = as_tensor(both)
    assert len(made) == 1  # for all who read them
    torch.testing.assert_close(read[:B], as_tensor(rectified))
    torch.testing.assert_close(as_tensor(first), as_tensor(rectified)[:1])


def test_graphs_may_be_taken_twice_and_share_their_gradient() -> None:
    data, places = torch.randn(B, N, 3).requires_grad_(), torch.tensor([1, 0, 1])
    taken = Channels(data, random_map())[places].data
    assert taken.equal(data[places])
    (gradient,) = torch.autograd.grad(taken.sum(), data)
    assert gradient[:, 0, 0].tolist() == [1, 2]


@pytest.mark.parametrize("form", FORMS)
def test_parts_of_a_batch_make_the_batch(form: str) -> None:
    features = random_features()[form]
    torch.testing.assert_close(as_tensor(concat_graphs([features[:1], features[1:]])), as_tensor(features))


def test_an_extended_map_adds_layers_on_more_channels_and_is_made_once() -> None:
    channels, layers = Channels(torch.randn(B, N, 3), random_map()), [Linear(2, W), Linear(1, W, bias=0.5)]
    more = [torch.randn(B, N, 2), torch.randn(B, N, 1)]
    extended = channels.extended(more, layers)
    expected = as_tensor(channels) + layers[0](more[0]) + layers[1](more[1])
    torch.testing.assert_close(as_tensor(extended), expected)
    assert channels.extended(more, layers).map is extended.map
    assert channels.extended([], []) is channels


def test_gradients_of_biases_do_not_share_memory() -> None:
    linears = [Linear(1, 4) for _ in range(3)]
    Folded(torch.zeros(4, 0), torch.zeros(4)).extended(linears).bias.square().sum().backward()
    for linear in linears:
        assert linear.bias.grad is not None
    assert len({linear.bias.grad.data_ptr() for linear in linears}) == len(linears)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "graphs",
    [slice(1), torch.tensor([1, 0, 1]), torch.tensor([False, True]), torch.tensor([[True, False] * 2, [False] * 4])],
    ids=["a slice", "places", "a mask of graphs", "a mask of nodes"],
)
def test_features_of_some_graphs_or_nodes_are_those_of_all_at_their_places(form: str, graphs: slice | Tensor) -> None:
    features = random_features()[form]
    torch.testing.assert_close(as_tensor(features[graphs]), as_tensor(features)[graphs])


def test_features_of_several_batches_are_tensors_where_some_are() -> None:
    channels, other = Channels(torch.randn(B, N, 3), random_map()), torch.randn(B, N, W)
    joined = concat_graphs([channels, other])
    assert torch.equal(joined, torch.cat([as_tensor(channels), other]))


def random_sums() -> list[NodeSum]:
    layers = [Linear(2 * W, 3, bias=0.5), Linear(2 * W, 4), Linear(2 * W, 3, bias=None)]
    return [
        NodeSum(layers[0], Linear(W, 3, bias=0.25), (torch.randn(3), torch.randn(3))),
        NodeSum(layers[1]),
        NodeSum(layers[2], Linear(W, 3)),
    ]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("num_channels", [None, 0, 2])
def test_sums_over_nodes_and_their_graph_are_those_of_the_layers(form: str, num_channels: int | None) -> None:
    z, sums = random_features()[form], random_sums()
    graph = (
        torch.randn(B, W) if num_channels is None else Channels(torch.randn(B, num_channels), random_map(num_channels))
    )
    made = with_sums(z, graph, sums)
    for each in sums:
        expected = each.nodes(as_tensor(z)) + sum(each.biases)
        if each.graph is not None:
            expected = expected + each.graph(as_tensor(graph))[:, None]
        torch.testing.assert_close(each.of(made, graph), expected)
        torch.testing.assert_close(each.of(z, graph), expected)
    assert isinstance(z, Tensor) or set(made.results) == {sums[0], sums[1].nodes, sums[2]}  # type: ignore[union-attr]
    torch.testing.assert_close(as_tensor(made), as_tensor(z))


def test_the_map_of_sums_and_parts_of_biases_are_made_once_in_a_forward_pass() -> None:
    z, graph = Channels(torch.randn(B, N, 3), random_map()), random_map(2)
    sums = tuple(NodeSum(Linear(W, width), Linear(W, width)) for width in (3, 4))
    made = z.map.summed(sums, (), graph)
    assert z.map.summed(sums, (), graph) is made
    assert z.map.summed(sums, (), random_map(2)) is not made
    parts = made.biases(3, 4)
    assert torch.cat(parts).equal(made.bias)
    assert all(x is y for x, y in zip(made.biases(3, 4), parts, strict=True))


def test_a_sum_with_another_bias_is_another() -> None:
    z, graph, layer = (
        Channels(torch.randn(B, N, 3), random_map()),
        Channels(torch.randn(B, 2), random_map(2)),
        Linear(W, 3),
    )
    one, other = (NodeSum(layer, None, (torch.randn(3),)) for _ in range(2))
    made = with_sums(z, graph, [one])
    assert other not in made.results
    torch.testing.assert_close(other.of(made, graph), layer(as_tensor(z)) + other.biases[0])
