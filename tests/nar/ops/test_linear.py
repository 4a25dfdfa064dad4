import math

import pytest
import torch

from nar.ops.linear import Linear

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
