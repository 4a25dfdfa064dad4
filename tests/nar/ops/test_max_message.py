# Axes: B graphs, N nodes, H hidden, K channels. What belongs to an edge is [B, sender, receiver, ...].
import itertools
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from nar.ops import parallel
from nar.ops.max_message import cpu, max_message
from nar.ops.max_message.reference import plain_max_message
from nar.ops.precision import UNHEARD

B, N, H, K = 2, 5, 4, 3


def random_arguments(num_nodes: int = N, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    nodes = (B, num_nodes)
    shapes = [(*nodes, H), (*nodes, H), (*nodes, num_nodes, K), (H, K), (H, H), (H,), (H, H), (H,)]
    return [torch.randn(shape, dtype=dtype, requires_grad=True) for shape in shapes]


def random_mask(num_nodes: int = N) -> Tensor:
    """Who is heard: by one node nobody."""
    is_heard = torch.rand(B, num_nodes, num_nodes) < 0.5
    is_heard[:, :, 0] = False
    return is_heard


@pytest.mark.parametrize("masked", [False, True])
def test_the_formula_is_the_equation_written_as_loops(masked: bool) -> None:
    arguments, is_heard = random_arguments(), random_mask() if masked else torch.ones(B, N, N, dtype=torch.bool)
    sent, heard, edge, edge_weight, weight_1, bias_1, weight_2, bias_2 = (x.detach() for x in arguments)
    expected = torch.full((B, N, H), -torch.inf, dtype=torch.float64)
    for b, i, j in itertools.product(range(B), range(N), range(N)):
        first = (sent[b, i] + heard[b, j] + edge_weight @ edge[b, i, j]).clamp(min=0)
        message = weight_2 @ (weight_1 @ first + bias_1).clamp(min=0) + bias_2
        message = message if is_heard[b, i, j] else torch.full_like(message, UNHEARD)
        expected[b, j] = torch.maximum(expected[b, j], message)
    torch.testing.assert_close(plain_max_message(*arguments, is_heard if masked else None).detach(), expected)


def assert_same_function(arguments: list[Tensor], is_heard: Tensor | None) -> None:
    made: list[Any] = []
    for function in (plain_max_message, max_message):
        received = function(*arguments, is_heard)
        weights = torch.linspace(-1, 1, received.numel(), dtype=received.dtype).view_as(received)
        made.append((received, *torch.autograd.grad(received, arguments, weights)))
    tolerance = 1e-10 if arguments[0].dtype == torch.float64 else 1e-3  # sums in another order
    torch.testing.assert_close(made[1], made[0], rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("num_nodes", [1, 2, 5, 40])
@pytest.mark.parametrize("masked", [False, True])
def test_equals_the_formula(dtype: torch.dtype, num_nodes: int, masked: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "PAIRS", 300)  # so that 40 nodes are several parts of a graph
    assert_same_function(random_arguments(num_nodes, dtype), random_mask(num_nodes) if masked else None)


@pytest.mark.parametrize("masked", [False, True])
def test_gradient_equals_finite_differences(masked: bool) -> None:
    assert gradcheck(max_message, (*random_arguments(), random_mask() if masked else None))


@pytest.mark.parametrize("masked", [False, True])
def test_equal_messages_share_the_gradient_evenly(masked: bool) -> None:
    sent, heard, edge, *weights = (argument.detach().round() for argument in random_arguments())
    sent[:, 1:] = sent[:, :1]  # whole numbers, of which sums are exact in any order
    arguments = [x.requires_grad_() for x in (sent, heard, edge.zero_(), *weights)]
    received = max_message(*arguments, random_mask() if masked else None)
    received.sum().backward()
    assert_same_function(arguments, random_mask() if masked else None)
    if not masked:
        assert sent.grad is not None
        torch.testing.assert_close(sent.grad, sent.grad[:, :1].expand_as(sent))


def test_what_is_computed_does_not_depend_on_the_number_of_threads() -> None:
    arguments = random_arguments(20)
    made = []
    for num_threads in (1, 3):
        torch.set_num_threads(num_threads)
        received = max_message(*arguments)
        made.append((received, *torch.autograd.grad(received.sum(), arguments)))
    torch.set_num_threads(1)
    assert all(torch.equal(one, other) for one, other in zip(*made, strict=True))


def test_what_is_not_a_number_is_not_hidden() -> None:
    arguments = [argument.detach() for argument in random_arguments()]
    arguments[0][0, 2, 0] = torch.nan
    received = max_message(*arguments)
    assert received[0].isnan().all()
    assert not received[1].isnan().any()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_gives_half_precision(dtype: torch.dtype) -> None:
    arguments = random_arguments(dtype=dtype)
    received = max_message(*arguments, random_mask())
    assert received.dtype == dtype
    assert received.isfinite().all()
    expected = plain_max_message(*(argument.float() for argument in arguments))
    torch.testing.assert_close(max_message(*arguments).float(), expected, rtol=0.05, atol=0.05)


def test_without_gradients_nothing_but_the_result_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[Any] = []
    original = cpu.in_parallel
    monkeypatch.setattr(cpu, "in_parallel", lambda *args: kept.append(original(*args)) or kept[-1])
    numbers = []
    for arguments in (random_arguments(), [argument.detach() for argument in random_arguments()]):
        max_message(*arguments)
        numbers.append(sum(tensor.numel() for part in kept[-1] for tensor in part))
    assert numbers == [B * N * N * H + 2 * B * N * H, B * N * H]


@pytest.mark.parametrize("masked", [False, True])
def test_equals_the_formula_on_other_devices(masked: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Tensor, "is_cpu", False)
    assert_same_function(random_arguments(), random_mask() if masked else None)
