import math

import pytest
import torch
from torch import Tensor

from nar.ops.linear import Channels, Linear, Map, Rectified, as_tensor, beside, concatenated

DENSITY_AT_2 = math.exp(-2) / math.sqrt(2 * math.pi) / math.erf(math.sqrt(2))  # of a standard normal cut off there
SECOND_MOMENT = 1 - 4 * DENSITY_AT_2  # by partial integration
FOURTH_MOMENT = 3 * SECOND_MOMENT - 16 * DENSITY_AT_2


def standardised_weights(**settings: float) -> torch.Tensor:
    """A quarter of a million weights of layers 16 wide, over the std of 1/4 that their width asks for."""
    return torch.cat([Linear(16, 64, **settings).weight.detach() for _ in range(256)]).double() * 4


def test_no_weight_is_beyond_two_standard_deviations():
    assert standardised_weights().abs().max() <= 2


def test_weights_reach_almost_two_standard_deviations():
    assert standardised_weights().abs().max() > 1.99


def test_mean_of_the_weights_is_zero():
    assert standardised_weights().mean().abs() < 0.01


@pytest.mark.parametrize(("power", "expected"), [(2, SECOND_MOMENT), (4, FOURTH_MOMENT)], ids=["second", "fourth"])
def test_moments_are_those_of_a_normal_cut_off_and_not_rescaled(power, expected):
    assert standardised_weights().pow(power).mean() == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("in_features", [1, 9, 400])
def test_spread_is_one_over_the_root_of_the_inputs(in_features):
    weight = Linear(in_features, 40_000 // in_features).weight
    assert weight.std().item() == pytest.approx(math.sqrt(SECOND_MOMENT / in_features), rel=0.03)


def test_a_given_std_takes_the_place_of_the_one_from_the_width():
    weights = standardised_weights(std=0.5) / 2  # 0.5 is twice the 1/4 of the width
    assert weights.pow(2).mean() == pytest.approx(SECOND_MOMENT, rel=0.01)


def test_cut_off_follows_a_given_std():
    assert 1.99 < standardised_weights(std=0.5).abs().max() / 2 <= 2


def test_bias_starts_at_zero():
    assert torch.equal(Linear(3, 5).bias, torch.zeros(5))


def test_bias_starts_at_a_given_constant():
    assert torch.equal(Linear(3, 5, bias=-3.0).bias, torch.full((5,), -3.0))


def test_bias_none_means_no_bias():
    assert Linear(3, 5, bias=None).bias is None


def test_without_bias_zero_is_mapped_to_zero():
    assert torch.equal(Linear(3, 5, bias=None)(torch.zeros(2, 3)), torch.zeros(2, 5))


def test_reset_parameters_draws_other_weights():
    layer = Linear(3, 5)
    before = layer.weight.detach().clone()
    layer.reset_parameters()
    assert not torch.equal(layer.weight, before)


def test_reset_parameters_sets_the_bias_back():
    layer = Linear(3, 5, bias=-3.0)
    torch.nn.init.zeros_(layer.bias)
    layer.reset_parameters()
    assert torch.equal(layer.bias, torch.full((5,), -3.0))


# Features that are linear in channels, beside others.
B, N, W = 2, 4, 5  # graphs, nodes, width


def random_map(num_channels: int = 3) -> Map:
    return Map(torch.randn(W, num_channels), torch.randn(W))


def random_features() -> dict[str, Tensor | Channels]:
    """Every form that features have, of width 2 W."""
    channels, other = Channels(torch.randn(B, N, 3), random_map()), torch.randn(B, N, W)
    rectified = Rectified(torch.randn(B, N, 2), torch.randn(W, 2), torch.randn(W))
    double = Channels(torch.randn(B, N, 3), Map(torch.randn(2 * W, 3), torch.randn(2 * W)))
    return {
        "tensor": torch.randn(B, N, 2 * W),
        "channels": double,
        "no channels": Channels(torch.randn(B, N, 0), Map(torch.zeros(2 * W, 0), torch.zeros(2 * W))),
        "beside a tensor": beside(channels, other),
        "beside rectified": beside(channels, rectified),
        "tensor beside a tensor": beside(other, other + 1),
        "tensor beside rectified": beside(other, rectified),
    }


FORMS = list(random_features())


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("bias", [None, 1.5])
def test_a_layer_on_channels_is_the_layer_on_the_features(form: str, bias: float | None) -> None:
    features, layer = random_features()[form], Linear(2 * W, 3, bias=bias)
    torch.testing.assert_close(layer(features), layer(as_tensor(features)))


@pytest.mark.parametrize("form", FORMS)
def test_the_parts_add_up_to_the_result(form: str) -> None:
    features, layer = random_features()[form], Linear(2 * W, 3, bias=0.5)
    parts = layer.parts(features)
    total = parts.x @ parts.weight.T + parts.bias
    if parts.states is not None and parts.states_weight is not None:
        total = total + as_tensor(parts.states) @ parts.states_weight.T
    torch.testing.assert_close(total, layer(as_tensor(features)))


def test_gradients_flow_through_channels_and_their_map() -> None:
    layer, (data, weight, bias) = Linear(W, 3), (torch.randn(N, 2), torch.randn(W, 2), torch.randn(W))
    made = []
    for features in (lambda *args: Channels(args[0], Map(*args[1:])), lambda x, w, b: x @ w.T + b):
        leaves = [tensor.clone().requires_grad_() for tensor in (data, weight, bias)]
        made.append(torch.autograd.grad(layer(features(*leaves)).square().sum(), [*leaves, *layer.parameters()]))
    torch.testing.assert_close(made[0], made[1])


@pytest.mark.parametrize("form", FORMS)
def test_some_graphs_are_those_of_the_features(form: str) -> None:
    features = random_features()[form]
    torch.testing.assert_close(as_tensor(features[:1]), as_tensor(features)[:1])
    order = torch.tensor([1, 0])
    torch.testing.assert_close(as_tensor(features[order]), as_tensor(features)[order])


@pytest.mark.parametrize("form", FORMS)
def test_parts_of_a_batch_make_the_batch(form: str) -> None:
    features = random_features()[form]
    torch.testing.assert_close(as_tensor(concatenated([features[:1], features[1:]])), as_tensor(features))


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
    Map(torch.zeros(4, 0), torch.zeros(4)).extended(linears).bias.square().sum().backward()
    for linear in linears:
        assert linear.bias.grad is not None
    assert len({linear.bias.grad.data_ptr() for linear in linears}) == len(linears)
