# Axes: B graphs, N nodes, P pointers, H hidden, Q other probes, C = P · H + Q columns, K channels, F, W of states.
import itertools
import re

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from nar.ops import parallel
from nar.ops.pair_logits import pair_logits
from nar.ops.pair_logits.reference import plain_pair_logits

B, N, P, H, Q, K, F, W = 2, 4, 2, 5, 3, 3, 2, 6


@pytest.fixture(autouse=True)
def _in_several_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "PAIRS", 12)


def random_arguments(
    num_nodes: int = N,
    num_pointers: int = P,
    num_others: int = Q,
    num_channels: int = K,
    *,
    states: bool = True,
    dtype: torch.dtype = torch.float64,
) -> list[Tensor]:
    nodes, pairs, width = (B, num_nodes), (B, num_nodes, num_nodes), num_pointers * H + num_others
    shapes: list[tuple[int, ...]] = [(*nodes, width), (*nodes, width), (num_pointers * H,), (num_pointers,)]
    shapes += [(*pairs, num_channels), (width, num_channels)]
    shapes += [(*pairs, F), (W, F), (W,), (width, W)] if states else []
    return [torch.randn(shape, dtype=dtype, requires_grad=True) for shape in shapes]


def assert_equals_the_formula(arguments: list[Tensor]) -> None:
    made = []
    for function in (plain_pair_logits, pair_logits):
        logits = function(*arguments)
        weights = torch.linspace(-1, 1, logits.numel(), dtype=logits.dtype).view_as(logits)
        made.append((logits, *torch.autograd.grad(logits, arguments, weights)))
    tolerance = 1e-10 if arguments[0].dtype == torch.float64 else 1e-3  # sums in another order
    torch.testing.assert_close(made[1], made[0], rtol=tolerance, atol=tolerance)


def test_the_formula_is_the_equations_written_as_loops() -> None:
    arguments = [argument.detach() for argument in random_arguments()]
    receiver, sender, weight, bias, x, x_weight, data, first_weight, first_bias, states_weight = arguments
    logits = plain_pair_logits(*arguments)
    for b, i, j in itertools.product(range(B), range(N), range(N)):
        state = (first_weight @ data[b, i, j] + first_bias).clamp(min=0)
        z = sender[b, i] + x_weight @ x[b, i, j] + states_weight @ state
        for p in range(P):
            columns = slice(p * H, (p + 1) * H)
            logit = weight[columns] @ torch.maximum(receiver[b, j, columns], z[columns]) + bias[p]
            torch.testing.assert_close(logits[p, b, j, i], logit)
        torch.testing.assert_close(logits[P:, b, i, j], (receiver[b, j] + z)[P * H :])


@pytest.mark.parametrize("states", [False, True])
@pytest.mark.parametrize("num_nodes", [1, 3, 20])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_logits_equal_the_formula(num_nodes: int, states: bool, dtype: torch.dtype) -> None:
    assert_equals_the_formula(random_arguments(num_nodes, states=states, dtype=dtype))


@pytest.mark.parametrize(("num_pointers", "num_others"), [(1, 0), (0, 1), (0, 4), (3, 1)])
@pytest.mark.parametrize("num_channels", [0, 1])
@pytest.mark.parametrize("states", [False, True])
def test_probes_may_be_of_one_kind_alone(num_pointers: int, num_others: int, num_channels: int, states: bool) -> None:
    assert_equals_the_formula(random_arguments(N, num_pointers, num_others, num_channels, states=states))


def test_gradients_equal_finite_differences() -> None:
    assert gradcheck(pair_logits, random_arguments(states=False))
    assert gradcheck(pair_logits, random_arguments(states=True))


def test_where_both_are_equal_half_of_the_gradient_goes_to_each() -> None:
    assert_equals_the_formula([argument.detach().round().requires_grad_() for argument in random_arguments()])


@pytest.mark.parametrize("value", [0.0, -0.5])
def test_outputs_that_weigh_nothing_or_less_have_gradients(value: float) -> None:
    arguments = random_arguments()
    arguments[2].data[1::2] = value
    assert_equals_the_formula(arguments)


@pytest.mark.parametrize("index", [0, 1, 4, 6])
def test_what_is_not_a_number_is_not_hidden(index: int) -> None:
    arguments = random_arguments()
    with torch.no_grad():
        arguments[index][0, 0, 0] = torch.nan
    logits = pair_logits(*arguments)
    assert torch.equal(logits.isnan(), plain_pair_logits(*arguments).isnan())
    assert logits[:, 0].isnan().any()
    (gradient,) = torch.autograd.grad(logits.sum(), arguments[2])
    assert gradient.isnan().any()


def test_half_precision_gives_half_precision() -> None:
    assert pair_logits(*random_arguments(dtype=torch.bfloat16)).dtype == torch.bfloat16


def test_logits_equal_the_formula_on_other_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Tensor, "is_cpu", False)
    assert_equals_the_formula(random_arguments())


def test_a_byte_is_kept_of_each_pair_and_feature_and_nothing_without_gradients() -> None:
    kept: list[Tensor] = []
    arguments = random_arguments(12)
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x) or x, lambda x: x):
        pair_logits(*arguments)
    of_pairs = [x for x in kept if x.numel() >= B * 12 * 12 * P * H]
    assert [x.dtype for x in of_pairs] == [torch.uint8]
    kept.clear()
    with torch.no_grad(), torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x) or x, lambda x: x):
        pair_logits(*arguments)
    assert not kept


@pytest.mark.parametrize(("num_weights", "num_pointers"), [(5, 2), (3, 0), (16, 2)])
def test_weights_that_are_not_of_the_pointers_are_refused(num_weights: int, num_pointers: int) -> None:
    arguments = random_arguments()
    arguments[2:4] = [torch.zeros(num_weights, dtype=torch.float64), torch.zeros(num_pointers, dtype=torch.float64)]
    expected = f"a multiple of P={num_pointers} and at most C={P * H + Q}, given [{num_weights}]"
    with pytest.raises(ValueError, match=re.escape(f"pair_logits: expected weight [P·H] with {expected}")):
        pair_logits(*arguments)
