# Axes: D choices.
import numpy as np
import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from nar.ops.adaptive_temperature import adaptive_temperature, masked_softmax


def with_entropy(entropy: float, num_choices: int = 5000) -> Tensor:
    """Logits of one choice of weight p and others that share the rest evenly, [D]; p is found by bisection."""
    low, high = 1 / num_choices, 1.0
    for _ in range(200):
        p = (low + high) / 2
        rest = (1 - p) / (num_choices - 1)
        found = -p * np.log(p) - (1 - p) * np.log(rest)
        low, high = (p, high) if found > entropy else (low, p)
    return torch.tensor([p, *[rest] * (num_choices - 1)], dtype=torch.float64).log()


@pytest.mark.parametrize("entropy", [0.9, 1.0, 1.5, 2.32, 3.0, 4.0, 5.0, 5.9])
def test_is_the_published_polynomial_of_the_entropy(entropy: float) -> None:
    h = entropy
    expected = -0.037 * h**4 + 0.481 * h**3 - 2.3 * h**2 + 4.917 * h - 1.791
    assert expected > 1
    assert adaptive_temperature(with_entropy(h)).item() == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    ("number", "expected"), [(2, 1.0), (4, 1.7500661), (16, 2.2265087), (64, 2.4076432), (256, 1.7830801)]
)
def test_of_equal_logits_it_is_known(number: int, expected: float) -> None:
    assert adaptive_temperature(torch.zeros(number, dtype=torch.float64)).item() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("entropy", [0.01, 0.3, 0.499, 0.501, 0.7, 0.83, 6.0, 7.0, 8.0])
def test_is_one_where_the_entropy_is_low_or_beyond_the_fit(entropy: float) -> None:
    assert adaptive_temperature(with_entropy(entropy)).item() == 1


def test_what_is_masked_has_no_influence() -> None:
    logits, mask = torch.randn(20, 6), torch.rand(20, 6) < 0.5
    others = torch.where(mask, logits, torch.tensor(float("nan")))
    assert adaptive_temperature(others, mask, dim=0).equal(adaptive_temperature(logits, mask, dim=0))
    for column in range(6):
        alone = adaptive_temperature(logits[mask[:, column], column])
        torch.testing.assert_close(adaptive_temperature(logits, mask, dim=0)[:, column], alone)


def test_is_one_where_there_is_nothing_to_choose_from() -> None:
    logits = torch.randn(3, 4, requires_grad=True)
    beta = adaptive_temperature(logits, torch.zeros(3, 4, dtype=torch.bool))
    assert beta.eq(1).all()
    assert torch.autograd.grad(beta.sum(), logits)[0].eq(0).all()


def test_keeps_the_axis_that_it_is_taken_over() -> None:
    assert [adaptive_temperature(torch.randn(2, 3, 4), dim=dim).shape for dim in (0, 1, -1)] == [
        (1, 3, 4),
        (2, 1, 4),
        (2, 3, 1),
    ]


def test_gradient_equals_finite_differences() -> None:
    logits = torch.randn(3, 12, dtype=torch.float64, requires_grad=True)
    assert (adaptive_temperature(logits) > 1).all()
    assert gradcheck(adaptive_temperature, logits)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_is_computed_in_more_than_half_precision(dtype: torch.dtype) -> None:
    logits = (10 * torch.randn(4, 100)).to(dtype)
    beta = adaptive_temperature(logits)
    assert beta.dtype == dtype
    assert beta.equal(adaptive_temperature(logits.float()).to(dtype))


def test_a_masked_softmax_is_that_of_the_rest() -> None:
    logits, mask = torch.randn(2, 7, 3), torch.rand(2, 7, 1) < 0.6
    weights = masked_softmax(logits, mask, dim=1)
    exponentials = logits.exp() * mask
    torch.testing.assert_close(weights, exponentials / exponentials.sum(dim=1, keepdim=True))
