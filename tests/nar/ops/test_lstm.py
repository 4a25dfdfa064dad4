# Axes: B graphs, N nodes, H hidden. What belongs to an edge is [B, sender, receiver, ...].
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import gradcheck

from nar.ops import parallel
from nar.ops.lstm import cpu, lstm
from nar.ops.lstm.reference import plain_lstm

B, N, H = 2, 5, 3
MASKED = pytest.mark.parametrize("masked", [False, True])


def random_arguments(num_nodes: int = N, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    shapes = [(B, num_nodes, num_nodes, H), (4 * H, H), (4 * H, H), (4 * H,), (4 * H,)]
    return [torch.randn(shape, dtype=dtype, requires_grad=True) for shape in shapes]


def random_mask(num_nodes: int = N) -> Tensor:
    """Who is heard: by one node nobody."""
    is_heard = torch.rand(B, num_nodes, num_nodes) < 0.5
    is_heard[:, :, 0] = False
    return is_heard


@MASKED
def test_the_formula_is_pytorchs_lstm_of_those_that_are_heard(masked: bool) -> None:
    messages, *weights = random_arguments()
    is_heard = random_mask() if masked else torch.ones(B, N, N, dtype=torch.bool)
    found = plain_lstm(messages, *weights, is_heard if masked else None)
    cell = nn.LSTM(H, H).double()
    names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    cell.load_state_dict(dict(zip(names, weights, strict=True)))
    for b, r in is_heard.any(dim=1).nonzero().tolist():
        torch.testing.assert_close(found[b, r], cell(messages[b, is_heard[b, :, r], r])[0][-1])
    assert found[~is_heard.any(dim=1)].eq(0).all()


def values_and_gradients(function: Callable[..., Tensor], arguments: list[Tensor], is_heard: Any) -> list[Tensor]:
    state = function(*arguments, is_heard)
    weights = torch.linspace(-1, 1, state.numel(), dtype=state.dtype).view_as(state)
    return [state, *torch.autograd.grad(state, arguments, weights)]


def assert_same_function(arguments: list[Tensor], is_heard: Tensor | None) -> None:
    tolerance = 1e-10 if arguments[0].dtype == torch.float64 else 1e-4  # sums in another order
    made = (values_and_gradients(function, arguments, is_heard) for function in (lstm, plain_lstm))
    torch.testing.assert_close(*made, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("num_nodes", [1, 2, 5, 20])
@pytest.mark.parametrize("sequences", [1, 7, 64])
@MASKED
def test_equals_the_formula(
    dtype: torch.dtype, num_nodes: int, sequences: int, masked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However a batch is divided among threads, down to single receivers."""
    monkeypatch.setattr(cpu, "SEQUENCES", sequences)
    monkeypatch.setattr(parallel, "num_threads", 2)
    assert_same_function(random_arguments(num_nodes, dtype), random_mask(num_nodes) if masked else None)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_who_hears_nobody_anywhere_is_left_with_nothing(dtype: torch.dtype) -> None:
    arguments, nobody = random_arguments(dtype=dtype), torch.zeros(B, N, N, dtype=torch.bool)
    assert lstm(*arguments, nobody).eq(0).all()
    assert_same_function(arguments, nobody)


@MASKED
def test_gradient_equals_finite_differences(masked: bool) -> None:
    assert gradcheck(lstm, (*random_arguments(), random_mask() if masked else None), fast_mode=True)


@pytest.mark.parametrize("function", [lstm, plain_lstm])
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_what_is_not_heard_has_no_influence_whatever_it_is(function: Callable[..., Tensor], value: float) -> None:
    (messages, *weights), is_heard = random_arguments(), random_mask()
    changed = (messages.detach().masked_fill(~is_heard[..., None], other) for other in (0.0, value))
    made = [values_and_gradients(function, [x.requires_grad_(), *weights], is_heard) for x in changed]
    assert all(torch.equal(one, other) for one, other in zip(*made, strict=True))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("index", range(5))
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_what_is_not_finite_gives_what_the_formula_says(dtype: torch.dtype, index: int, value: float) -> None:
    arguments = [x.detach() for x in random_arguments(dtype=dtype)]
    arguments[index].view(-1)[1] = value
    torch.testing.assert_close(lstm(*arguments), plain_lstm(*arguments), equal_nan=True)


def test_what_is_not_a_number_is_not_hidden() -> None:
    arguments = [x.detach() for x in random_arguments()]
    arguments[0][0, 2, 1, 0] = torch.nan
    found = lstm(*arguments).isnan()
    assert found[0, 1].all()
    assert found.sum() == H


def test_what_is_computed_does_not_depend_on_the_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    arguments, made = random_arguments(20), []
    for num_threads in (1, 3):
        monkeypatch.setattr(parallel, "num_threads", num_threads)
        made.append(values_and_gradients(lstm, arguments, None))
    assert all(torch.equal(one, other) for one, other in zip(*made, strict=True))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("autocast", [False, True])
def test_half_precision_gives_what_float32_gives_rounded(dtype: torch.dtype, autocast: bool) -> None:
    arguments, is_heard = random_arguments(dtype=dtype), random_mask()
    expected = lstm(*(x.float() for x in arguments), is_heard).to(dtype)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        for function in (lstm, plain_lstm):
            made = function(*arguments, is_heard)
            torch.testing.assert_close(made, expected)
            assert {x.dtype for x in torch.autograd.grad(made.sum(), arguments)} == {dtype}


@MASKED
def test_equals_the_formula_on_other_devices(masked: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments, is_heard = random_arguments(), random_mask() if masked else None
    expected = values_and_gradients(plain_lstm, arguments, is_heard)
    monkeypatch.setattr(Tensor, "is_cpu", False)
    torch.testing.assert_close(values_and_gradients(lstm, arguments, is_heard), expected)


def test_keeps_nothing_but_what_it_is_given() -> None:
    kept: list[int] = []
    arguments, is_heard = random_arguments(), random_mask()
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x.data_ptr()) or x, lambda x: x):
        lstm(*arguments, is_heard)
    assert set(kept) == {x.data_ptr() for x in (*arguments, is_heard)}


@pytest.mark.parametrize("index", range(1, 5))
def test_weights_of_other_than_four_gates_are_refused(index: int) -> None:
    arguments = random_arguments()
    arguments[1:] = [x[: 3 * H] for x in arguments[1:]]
    with pytest.raises(ValueError, match=r"lstm: expected weight_ih \[4H=12, H=3\], given \[9, 3\]"):
        lstm(*arguments)
    arguments = random_arguments()
    arguments[index] = arguments[index][: 3 * H]
    with pytest.raises(ValueError, match=r"lstm: expected \w+ \[.*\], given"):
        lstm(*arguments)


def test_torch_has_its_threads_again_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "num_threads", 2)
    before, seen = torch.get_num_threads(), []
    torch.set_num_threads(2)
    try:
        parallel.in_parallel(lambda _: seen.append(torch.get_num_threads()), range(4))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert seen == [1] * 4
