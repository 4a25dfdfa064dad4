# Axes: B graphs, N nodes, M rows, H hidden, K channels, F features of states.
import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from nar.ops import parallel
from nar.ops.pointer_logits import edge_logits, product_logits
from nar.ops.pointer_logits.reference import plain_edge_logits, plain_product_logits

B, N, M, H, K, F = 2, 4, 6, 5, 3, 2


def test_the_formulas_are_the_equations_written_as_loops() -> None:
    arguments = [argument.detach() for argument in random_edge_arguments(states=True)]
    source, target, weight, x, x_weight, data, first_weight, first_bias, states_weight = arguments
    logits = plain_edge_logits(*arguments)
    for b, i, j in itertools.product(range(B), range(N), range(N)):
        state = (first_weight @ data[b, i, j] + first_bias).clamp(min=0)
        second = target[b, i] + x_weight @ x[b, i, j] + states_weight @ state
        torch.testing.assert_close(logits[b, i, j], weight @ torch.maximum(source[b, j], second))
    logits = plain_product_logits(source, target, weight)
    for b, i, j in itertools.product(range(B), range(N), range(N)):
        torch.testing.assert_close(logits[b, i, j], weight @ torch.maximum(source[b, i], target[b, j]))


def random_edge_arguments(num_nodes: int = N, *, states: bool, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    nodes = (B, num_nodes)
    shapes = [(*nodes, H), (*nodes, H), (H,), (*nodes, num_nodes, K), (H, K)]
    shapes += [(*nodes, num_nodes, F), (H, F), (H,), (H, H)] if states else []
    return [torch.randn(shape, dtype=dtype, requires_grad=True) for shape in shapes]


def random_product_arguments(num_rows: int = M, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    shapes = [(B, num_rows, H), (B, N, H), (H,)]
    return [torch.randn(shape, dtype=dtype, requires_grad=True) for shape in shapes]


def assert_same_function(
    given: Callable[..., Tensor], expected: Callable[..., Tensor], arguments: list[Tensor]
) -> None:
    made = []
    for function in (expected, given):
        logits = function(*arguments)
        weights = torch.linspace(-1, 1, logits.numel(), dtype=logits.dtype).view_as(logits)
        made.append((logits, *torch.autograd.grad(logits, arguments, weights)))
    tolerance = 1e-10 if arguments[0].dtype == torch.float64 else 1e-3  # sums in another order
    torch.testing.assert_close(made[1], made[0], rtol=tolerance, atol=tolerance)


@pytest.fixture(autouse=True)
def _in_several_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "PAIRS", 12)


@pytest.mark.parametrize("states", [False, True])
@pytest.mark.parametrize("num_nodes", [1, 3, 20])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_logits_of_edges_equal_the_formula(num_nodes: int, states: bool, dtype: torch.dtype) -> None:
    arguments = random_edge_arguments(num_nodes, states=states, dtype=dtype)
    assert_same_function(edge_logits, plain_edge_logits, arguments)


def test_features_need_not_lie_in_order_in_memory() -> None:
    arguments = random_edge_arguments(states=True)
    for index in (3, 5):
        arguments[index] = arguments[index].detach().transpose(1, 2).contiguous().transpose(1, 2).requires_grad_()
    assert_same_function(edge_logits, plain_edge_logits, arguments)


@pytest.mark.parametrize("num_rows", [1, 6, 30])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_logits_of_products_equal_the_formula(num_rows: int, dtype: torch.dtype) -> None:
    assert_same_function(product_logits, plain_product_logits, random_product_arguments(num_rows, dtype))


def test_gradients_equal_finite_differences() -> None:
    assert gradcheck(edge_logits, random_edge_arguments(states=False))
    assert gradcheck(edge_logits, random_edge_arguments(states=True))
    assert gradcheck(product_logits, random_product_arguments())


def test_where_both_are_equal_half_of_the_gradient_goes_to_each() -> None:
    def rounded(arguments: list[Tensor]) -> list[Tensor]:
        return [argument.detach().round().requires_grad_() for argument in arguments]

    assert_same_function(edge_logits, plain_edge_logits, rounded(random_edge_arguments(states=True)))
    assert_same_function(product_logits, plain_product_logits, rounded(random_product_arguments()))


@pytest.mark.parametrize("index", [0, 1])
def test_what_is_not_a_number_is_not_hidden(index: int) -> None:
    edge_arguments, product_arguments = random_edge_arguments(states=True), random_product_arguments()
    with torch.no_grad():
        for arguments in (edge_arguments, product_arguments):
            arguments[index][0, 0, 0] = torch.nan
    for logits in (edge_logits(*edge_arguments), product_logits(*product_arguments)):
        assert logits[0].isnan().any()
        assert not logits[1].isnan().any()


def test_half_precision_gives_half_precision() -> None:
    assert edge_logits(*random_edge_arguments(states=True, dtype=torch.bfloat16)).dtype == torch.bfloat16
    assert product_logits(*random_product_arguments(dtype=torch.bfloat16)).dtype == torch.bfloat16


def test_logits_equal_the_formulas_on_other_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Tensor, "is_cpu", False)
    for states in (False, True):
        assert_same_function(edge_logits, plain_edge_logits, random_edge_arguments(states=states))
    assert_same_function(product_logits, plain_product_logits, random_product_arguments())
