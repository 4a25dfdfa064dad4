# Axes: B graphs, N nodes, H hidden. What belongs to an edge is [B, sender, receiver, ...].
import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from nar.ops import parallel
from nar.ops.recurrence import recurrence
from nar.ops.recurrence.reference import plain_recurrence

B, N, H = 2, 5, 3
MASKED = pytest.mark.parametrize("masked", [False, True])


def random_arguments(num_nodes: int = N, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    return [torch.randn(B, num_nodes, num_nodes, H, dtype=dtype, requires_grad=True) for _ in range(2)]


def random_mask(num_nodes: int = N) -> Tensor:
    """Who is heard: by one node nobody."""
    is_heard = torch.rand(B, num_nodes, num_nodes) < 0.5
    is_heard[:, :, 0] = False
    return is_heard


@MASKED
def test_the_formula_is_the_equation_written_as_loops(masked: bool) -> None:
    (gate, candidate), is_heard = random_arguments(), random_mask() if masked else None
    found = plain_recurrence(gate, candidate, is_heard)
    for b, r in itertools.product(range(B), range(N)):
        state = torch.zeros(H, dtype=torch.float64)
        for s in range(N):
            if is_heard is None or is_heard[b, s, r]:
                u = gate[b, s, r].sigmoid()
                state = (1 - u) * state + u * candidate[b, s, r]
        torch.testing.assert_close(found[b, r], state)


def assert_same_function(arguments: list[Tensor], is_heard: Tensor | None) -> None:
    made = []
    for function in (recurrence, plain_recurrence):
        state = function(*arguments, is_heard)
        weights = torch.linspace(-1, 1, state.numel(), dtype=state.dtype).view_as(state)
        made.append((state, *torch.autograd.grad(state, arguments, weights)))
    torch.testing.assert_close(made[0], made[1])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("num_nodes", [1, 2, 5, 40])
@MASKED
def test_equals_the_formula(dtype: torch.dtype, num_nodes: int, masked: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """However a batch is divided among threads: 40 nodes are several parts of a graph."""
    monkeypatch.setattr(parallel, "PAIRS", 300)
    monkeypatch.setattr(parallel, "num_threads", 2)
    assert_same_function(random_arguments(num_nodes, dtype), random_mask(num_nodes) if masked else None)


@pytest.mark.parametrize("scale", [30.0, 1000.0])
def test_equals_the_formula_where_gates_are_open_or_closed(scale: float) -> None:
    gate, candidate = random_arguments()
    assert_same_function([(scale * gate).detach().requires_grad_(), candidate], None)


@MASKED
def test_gradient_equals_finite_differences(masked: bool) -> None:
    assert gradcheck(recurrence, (*random_arguments(), random_mask() if masked else None))


@pytest.mark.parametrize("function", [recurrence, plain_recurrence])
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_what_is_not_heard_has_no_influence_whatever_it_is(function: Callable[..., Tensor], value: float) -> None:
    arguments, is_heard = random_arguments(), random_mask()
    made = []
    for other in (0.0, value):
        given = [x.detach().masked_fill(~is_heard[..., None], other).requires_grad_() for x in arguments]
        state = function(*given, is_heard)
        made.append((state, *torch.autograd.grad(state.square().sum(), given)))
    assert all(torch.equal(one, other) for one, other in zip(*made, strict=True))


@pytest.mark.parametrize("index", [0, 1])
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_what_is_not_finite_gives_what_the_formula_says(index: int, value: float) -> None:
    arguments = [x.detach() for x in random_arguments()]
    arguments[index][0, 2, 1, 0] = value
    found = recurrence(*arguments)
    torch.testing.assert_close(found, plain_recurrence(*arguments), equal_nan=True)
    assert found[0, 1, 0].isfinite() == (index == 0 and value in (torch.inf, -torch.inf))


def test_the_gradient_that_is_given_stays_as_it_is() -> None:
    arguments, gradient = random_arguments(), torch.randn(B, N, H, dtype=torch.float64)
    before = gradient.clone()
    torch.autograd.grad(recurrence(*arguments), arguments, gradient)
    assert gradient.equal(before)


def test_what_is_computed_does_not_depend_on_the_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    arguments, made = random_arguments(20), []
    for num_threads in (1, 3):
        monkeypatch.setattr(parallel, "num_threads", num_threads)
        state = recurrence(*arguments)
        made.append((state, *torch.autograd.grad(state.sum(), arguments)))
    assert all(torch.equal(one, other) for one, other in zip(*made, strict=True))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_gives_what_float32_gives_rounded(dtype: torch.dtype) -> None:
    arguments = random_arguments(dtype=dtype)
    made = recurrence(*arguments, random_mask())
    assert made.dtype == dtype
    assert torch.equal(recurrence(*arguments), recurrence(*(x.float() for x in arguments)).to(dtype))
    assert {x.dtype for x in torch.autograd.grad(made.sum(), arguments)} == {dtype}


@MASKED
def test_equals_the_formula_on_other_devices(masked: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Tensor, "is_cpu", False)
    assert_same_function(random_arguments(), random_mask() if masked else None)


def test_keeps_nothing_but_what_it_is_given() -> None:
    kept: list[int] = []
    arguments, is_heard = random_arguments(), random_mask()
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x.data_ptr()) or x, lambda x: x):
        recurrence(*arguments, is_heard)
    assert set(kept) == {x.data_ptr() for x in (*arguments, is_heard)}
