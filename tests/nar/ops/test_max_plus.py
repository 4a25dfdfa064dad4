# Axes: B graphs, N nodes, F features.
import itertools

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from nar.ops.max_plus import cpu, max_plus
from nar.ops.max_plus.reference import plain_max_plus

B, N, F = 2, 4, 3


def random_matrices(num_nodes: int = N, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    return [torch.randn(B, num_nodes, num_nodes, F, dtype=dtype, requires_grad=True) for _ in range(2)]


def test_the_formula_is_the_equation_written_as_loops() -> None:
    a, b = (matrix.detach() for matrix in random_matrices())
    product = plain_max_plus(a, b)
    for j, k in itertools.product(range(N), range(N)):
        highest = torch.stack([a[:, i, j] + b[:, i, k] for i in range(N)]).max(dim=0).values
        torch.testing.assert_close(product[:, j, k], highest)


def assert_same_function(a: Tensor, b: Tensor) -> None:
    made = []
    for function in (plain_max_plus, max_plus):
        product = function(a, b)
        weights = torch.linspace(-1, 1, product.numel(), dtype=product.dtype).view_as(product)
        made.append((product, *torch.autograd.grad(product, (a, b), weights)))
    torch.testing.assert_close(made[1], made[0])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("num_nodes", [1, 2, 20])
def test_equals_the_formula(dtype: torch.dtype, num_nodes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "ENTRIES", 2 * num_nodes**2)
    assert_same_function(*random_matrices(num_nodes, dtype))


def test_gradient_equals_finite_differences() -> None:
    assert gradcheck(max_plus, random_matrices())


def test_equal_sums_share_the_gradient_evenly() -> None:
    assert_same_function(*(matrix.detach().round().requires_grad_() for matrix in random_matrices(8)))


def test_what_is_not_a_number_is_not_hidden() -> None:
    a, b = (matrix.detach() for matrix in random_matrices())
    a[0, 1, 2, 0] = torch.nan
    is_nan = max_plus(a, b).isnan()
    assert is_nan[0, 2, :, 0].all()
    assert is_nan.sum() == N


def test_half_precision_gives_half_precision() -> None:
    assert max_plus(*random_matrices(dtype=torch.bfloat16)).dtype == torch.bfloat16


def test_equals_the_formula_on_other_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Tensor, "is_cpu", False)
    assert_same_function(*random_matrices())
