# Axes: B graphs, N nodes, K channels, F features.
import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from nar.ops import parallel, triplets
from nar.ops.triplets import triplet_logits, triplet_max
from nar.ops.triplets.reference import plain_triplet_logits, plain_triplet_max

B, N, F, K = 2, 4, 3, 2
Function = Callable[..., Tensor]
FUNCTIONS: dict[str, tuple[Function, Function]] = {
    "triplet_max": (triplet_max, plain_triplet_max),
    "triplet_logits": (triplet_logits, plain_triplet_logits),
}
every_function = pytest.mark.parametrize("name", FUNCTIONS)


def random_arguments(
    name: str, num_nodes: int = N, num_channels: int = K, dtype: torch.dtype = torch.float64, *, whole: bool = False
) -> list[Tensor]:
    """Arguments of an operation; whole numbers, if asked for: many sums are then equal, or 0."""
    pairs, of_three = (B, num_nodes, num_nodes, F), (B, num_nodes, num_nodes, num_nodes, num_channels)
    shapes: list[Any] = [pairs, pairs, of_three, (F, num_channels)]
    if name == "triplet_logits":
        shapes = [pairs, *shapes, (F,)]
    drawn = (torch.randn(shape, dtype=dtype) for shape in shapes)
    return [(x.round() if whole else x).requires_grad_() for x in drawn]


def test_the_maximum_is_the_equation_written_as_loops() -> None:
    ij, ik, x, x_weight = random_arguments("triplet_max")
    found = plain_triplet_max(ij, ik, x, x_weight)
    for b, j, k in itertools.product(range(B), range(N), range(N)):
        sums = [ij[b, i, j] + ik[b, i, k] + x_weight @ x[b, i, j, k] for i in range(N)]
        torch.testing.assert_close(found[b, j, k], torch.stack(sums).max(dim=0).values)


def test_logits_are_the_equation_written_as_loops() -> None:
    ij, ik, jk, x, x_weight, weight = random_arguments("triplet_logits")
    found = plain_triplet_logits(ij, ik, jk, x, x_weight, weight)
    for b, i, j, k in itertools.product(range(B), *[range(N)] * 3):
        total = ij[b, i, j] + ik[b, i, k] + jk[b, j, k] + x_weight @ x[b, i, j, k]
        torch.testing.assert_close(found[b, i, j, k], weight @ total.clamp(min=0))


def assert_same_function(name: str, arguments: list[Tensor], **tolerance: float) -> None:
    made = []
    for function in FUNCTIONS[name]:
        result = function(*arguments)
        weights = torch.linspace(-1, 1, result.numel(), dtype=result.dtype).view_as(result)
        made.append((result, *torch.autograd.grad(result, arguments, weights)))
    torch.testing.assert_close(made[0], made[1], **tolerance)


@every_function
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(("num_nodes", "num_channels"), [(1, 1), (2, 0), (9, 1), (20, 3)])
@pytest.mark.parametrize("pairs", [1, parallel.PAIRS])
def test_equals_the_formula(
    name: str, dtype: torch.dtype, num_nodes: int, num_channels: int, pairs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However a batch is divided among threads, down to single rows."""
    monkeypatch.setattr(parallel, "PAIRS", pairs)
    monkeypatch.setattr(parallel, "num_threads", 2)
    # In float32 the weights' gradients are sums of thousands of numbers, in another order.
    tolerance = {"rtol": 1e-4, "atol": 1e-3} if dtype is torch.float32 else {}
    assert_same_function(name, random_arguments(name, num_nodes, num_channels, dtype), **tolerance)


@every_function
def test_equal_sums_share_the_gradient_evenly_and_sums_of_zero_have_none(name: str) -> None:
    assert_same_function(name, random_arguments(name, 8, whole=True))


@every_function
def test_gradient_equals_finite_differences(name: str) -> None:
    assert gradcheck(FUNCTIONS[name][0], random_arguments(name))


@every_function
@pytest.mark.parametrize("index", [0, 1, 2, -1])
def test_what_is_not_a_number_is_not_hidden(name: str, index: int) -> None:
    arguments = [x.detach() for x in random_arguments(name)]
    arguments[index].view(-1)[1] = torch.nan
    call, formula = FUNCTIONS[name]
    found = call(*arguments).isnan()
    assert found.any()
    assert torch.equal(found, formula(*arguments).isnan())


@every_function
def test_half_precision_gives_what_float32_gives_rounded(name: str) -> None:
    arguments = random_arguments(name, dtype=torch.bfloat16)
    made = FUNCTIONS[name][0](*arguments)
    assert made.dtype == torch.bfloat16
    assert torch.equal(made, FUNCTIONS[name][0](*(x.float() for x in arguments)).bfloat16())
    assert {x.dtype for x in torch.autograd.grad(made.sum(), arguments)} == {torch.bfloat16}


@every_function
@pytest.mark.parametrize("numbers", [1, 2 * B * N * N * F, 2**24])
def test_equals_the_formula_on_other_devices(name: str, numbers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Tensor, "is_cpu", False)
    monkeypatch.setattr(triplets, "NUMBERS", numbers)
    assert_same_function(name, random_arguments(name))


@every_function
@pytest.mark.parametrize("is_cpu", [True, False])
def test_keeps_nothing_as_large_as_every_three_nodes_times_features(
    name: str, is_cpu: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[int] = []
    arguments = random_arguments(name, num_channels=1)
    monkeypatch.setattr(Tensor, "is_cpu", is_cpu)
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x.numel()) or x, lambda x: x):
        FUNCTIONS[name][0](*arguments)
    assert max(kept) <= B * N**3
