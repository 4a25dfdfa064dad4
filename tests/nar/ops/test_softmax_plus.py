# Axes: B graphs, N nodes, F features.
import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from nar.ops import softmax_plus as module
from nar.ops.softmax_plus import softmax_plus

B, N, F = 2, 4, 3


def by_the_formula(a: Tensor, b: Tensor) -> Tensor:
    sums = a[:, :, :, None] + b[:, :, None]
    return (sums.softmax(dim=1) * sums).sum(dim=1)


def random_matrices(num_nodes: int = N, spread: float = 1.0, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    shape = (B, num_nodes, num_nodes, F)
    return [(spread * torch.randn(shape, dtype=torch.float64)).to(dtype).requires_grad_() for _ in range(2)]


def with_gradients(product: Tensor, *matrices: Tensor) -> tuple[Tensor, ...]:
    weights = torch.linspace(-1, 1, product.numel(), dtype=product.dtype).view_as(product)
    return product, *torch.autograd.grad(product, matrices, weights)


def disjoint(spread: float) -> list[Tensor]:
    """Matrices in which b is low where a is high, so that every exponential of a sum is far below e⁰."""
    a, b = (torch.randn(B, 6, 6, F, dtype=torch.float64) for _ in range(2))
    a[:, :3] -= spread
    b[:, 3:] -= spread
    return [a.requires_grad_(), b.requires_grad_()]


@pytest.mark.parametrize("num_nodes", [1, 2, 20])
@pytest.mark.parametrize("spread", [0.1, 1, 10, 100, 1000, 1e5])
def test_equals_the_formula(num_nodes: int, spread: float) -> None:
    matrices = random_matrices(num_nodes, spread)
    found = with_gradients(softmax_plus(*matrices), *matrices)
    torch.testing.assert_close(found, with_gradients(by_the_formula(*matrices), *matrices))


@pytest.mark.parametrize("spread", [0.1, 1, 10, 30, 100, 1000, 1e5])
def test_is_right_in_single_precision(spread: float) -> None:
    exact = random_matrices(24, spread, torch.float32)
    doubles = [matrix.detach().double().requires_grad_() for matrix in exact]
    found = with_gradients(softmax_plus(*exact), *exact)
    expected = with_gradients(by_the_formula(*doubles), *doubles)
    # A sum in single precision is off by so much, and by e to this power the weights.
    error = 8 * max(spread, 1) * torch.finfo(torch.float32).eps
    torch.testing.assert_close(found[0].double(), expected[0], rtol=1e-6, atol=error)
    for ours, true in zip(found[1:], expected[1:], strict=True):
        torch.testing.assert_close(ours.double(), true, rtol=1e-4, atol=30 * (1 + spread) * error)


@pytest.mark.parametrize("spread", [50, 60, 80, 100, 400, 800, 1e4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_underflows_is_computed_as_it_is_written(spread: float, dtype: torch.dtype) -> None:
    matrices = [matrix.detach().to(dtype).requires_grad_() for matrix in disjoint(spread)]
    doubles = [matrix.detach().double().requires_grad_() for matrix in matrices]
    found = with_gradients(softmax_plus(*matrices), *matrices)
    expected = with_gradients(by_the_formula(*doubles), *doubles)
    tolerance = max(1e-4 if dtype == torch.float32 else 1e-9, 20 * spread * torch.finfo(dtype).eps)
    torch.testing.assert_close([x.double() for x in found], list(expected), rtol=tolerance, atol=tolerance)


def test_what_underflows_is_computed_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    original = module._one_by_one

    def one_by_one(a: Tensor, b: Tensor, entries: Tensor) -> Tensor:
        sizes.append(len(entries))
        return original(a, b, entries)

    monkeypatch.setattr(module, "_one_by_one", one_by_one)
    monkeypatch.setattr(module, "SUMS", 100)
    matrices = disjoint(1000)
    found = with_gradients(softmax_plus(*matrices), *matrices)
    torch.testing.assert_close(found, with_gradients(by_the_formula(*matrices), *matrices))
    assert len(sizes) > 4
    assert max(sizes) == 100 // 6


@pytest.mark.slow
@pytest.mark.parametrize("spread", [1, 1000])
def test_gradient_equals_finite_differences(spread: float) -> None:
    assert gradcheck(softmax_plus, random_matrices(3) if spread == 1 else disjoint(spread))


def test_never_holds_a_sum_of_every_three_nodes() -> None:
    num_nodes, sizes = 32, [0]
    matrices = random_matrices(num_nodes, dtype=torch.float32)

    def keep(tensor: Tensor) -> Tensor:
        sizes.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        softmax_plus(*matrices).sum().backward()
    assert 0 < max(sizes) <= B * F * num_nodes**2


def test_what_is_not_a_number_is_not_hidden() -> None:
    a, b = (matrix.detach() for matrix in random_matrices())
    a[1, 2, 3, 0] = float("nan")
    bad = softmax_plus(a, b).isnan()
    assert bad[1, 3, :, 0].all()
    assert bad.sum() == N


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_that_of_what_is_given_and_returned_alone(dtype: torch.dtype) -> None:
    a, b = random_matrices(16, 3, dtype)
    expected = softmax_plus(a.float(), b.float())
    with torch.autocast("cpu", dtype=dtype):
        product = softmax_plus(a, b)
        within = softmax_plus(a.float(), b.float())
    assert product.dtype == dtype
    assert product.equal(expected.to(dtype))
    assert within.equal(expected)
