# Axes: B graphs, N nodes, M rows, H hidden.
import itertools

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from nar.ops import parallel
from nar.ops.pointer_logits import product_logits
from nar.ops.pointer_logits.reference import plain_product_logits

B, N, M, H = 2, 4, 6, 5


def test_the_formula_is_the_equation_written_as_loops() -> None:
    arguments = [argument.detach() for argument in random_arguments()]
    source, target, weight = arguments
    logits = plain_product_logits(source, target, weight)
    for b, i, j in itertools.product(range(B), range(M), range(N)):
        torch.testing.assert_close(logits[b, i, j], weight @ torch.maximum(source[b, i], target[b, j]))


def random_arguments(num_rows: int = M, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    shapes = [(B, num_rows, H), (B, N, H), (H,)]
    return [torch.randn(shape, dtype=dtype, requires_grad=True) for shape in shapes]


def assert_equals_the_formula(arguments: list[Tensor]) -> None:
    made = []
    for function in (plain_product_logits, product_logits):
        logits = function(*arguments)
        weights = torch.linspace(-1, 1, logits.numel(), dtype=logits.dtype).view_as(logits)
        made.append((logits, *torch.autograd.grad(logits, arguments, weights)))
    tolerance = 1e-10 if arguments[0].dtype == torch.float64 else 1e-3  # sums in another order
    torch.testing.assert_close(made[1], made[0], rtol=tolerance, atol=tolerance)


@pytest.fixture(autouse=True)
def _in_several_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "PAIRS", 12)


@pytest.mark.parametrize("num_rows", [1, 6, 30])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_logits_equal_the_formula(num_rows: int, dtype: torch.dtype) -> None:
    assert_equals_the_formula(random_arguments(num_rows, dtype))


def test_gradients_equal_finite_differences() -> None:
    assert gradcheck(product_logits, random_arguments())


def test_where_both_are_equal_half_of_the_gradient_goes_to_each() -> None:
    assert_equals_the_formula([argument.detach().round().requires_grad_() for argument in random_arguments()])


@pytest.mark.parametrize("index", [0, 1])
def test_what_is_not_a_number_is_not_hidden(index: int) -> None:
    arguments = random_arguments()
    with torch.no_grad():
        arguments[index][0, 0, 0] = torch.nan
    logits = product_logits(*arguments)
    assert logits[0].isnan().any()
    assert not logits[1].isnan().any()


def test_half_precision_gives_half_precision() -> None:
    assert product_logits(*random_arguments(dtype=torch.bfloat16)).dtype == torch.bfloat16


def test_logits_equal_the_formula_on_other_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Tensor, "is_cpu", False)
    assert_equals_the_formula(random_arguments())
