"""Affine maps by oneDNN: the same function as torch's own, and only taken where it is faster and nobody looks on."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from nar.ops import onednn
from nar.ops.affine import affine
from nar.ops.onednn import is_for_onednn, onednn_linear

pytestmark = pytest.mark.skipif(not onednn._has_onednn(), reason="torch comes without oneDNN here")
Map = Callable[[Tensor, Tensor, Tensor | None], Tensor]


def arguments(*rows: int, bias: bool = True) -> tuple[Tensor, Tensor, Tensor | None]:
    generator = torch.Generator().manual_seed(1)
    x, weight, b = (torch.randn(shape, generator=generator) for shape in [(*rows, 40), (70, 40), (70,)])
    return x.requires_grad_(), weight.requires_grad_(), b.requires_grad_() if bias else None


def values_and_gradients(function: Map, given: tuple[Tensor, Tensor, Tensor | None]) -> list[Tensor]:
    made = function(*given)
    return [made, *torch.autograd.grad(made.sin().sum(), [x for x in given if x is not None and x.requires_grad])]


@pytest.mark.parametrize("rows", [(1,), (9,), (3, 5), (2, 3, 4)])
@pytest.mark.parametrize("bias", [True, False])
def test_values_and_gradients_are_those_of_torch(rows: tuple[int, ...], bias: bool) -> None:
    given = arguments(*rows, bias=bias)
    made, expected = (values_and_gradients(function, given) for function in (onednn_linear, functional.linear))
    torch.testing.assert_close(made, expected, rtol=1e-4, atol=1e-4)


def test_it_does_not_matter_how_arguments_lie_in_memory() -> None:
    x, weight, bias = arguments(3, 5)
    others = (x.detach().mT.contiguous().mT, weight.detach().mT.contiguous().mT.requires_grad_(), bias)
    made, expected = (values_and_gradients(function, others) for function in (onednn_linear, functional.linear))
    torch.testing.assert_close(made, expected, rtol=1e-4, atol=1e-4)


def test_only_what_needs_a_gradient_gets_one() -> None:
    x, weight, bias = arguments(5)
    onednn_linear(x.detach(), weight, None if bias is None else bias.detach()).sum().backward()
    assert weight.grad is not None
    assert x.grad is None
    assert bias is not None
    assert bias.grad is None


def test_second_gradients_are_those_of_torch() -> None:
    made = []
    for function in (onednn_linear, functional.linear):
        given = [x for x in arguments(5) if x is not None]
        gradients = torch.autograd.grad(function(*given).sin().sum(), given, create_graph=True)
        penalty = torch.stack([x.square().sum() for x in gradients]).sum()
        made.append(torch.autograd.grad(penalty, given))
    torch.testing.assert_close(made[0], made[1], rtol=1e-3, atol=1e-3)


def test_what_is_not_a_number_is_not_hidden() -> None:
    x, weight, bias = (None if y is None else y.detach() for y in arguments(4))
    assert x is not None
    assert weight is not None
    x[2, 7] = torch.nan
    assert torch.equal(onednn_linear(x, weight, bias).isnan().all(dim=1), torch.tensor([False, False, True, False]))


def test_only_large_products_of_float32_that_nobody_looks_at_are_for_it() -> None:
    x, weight, bias = torch.zeros(256, 128), torch.zeros(128, 128), torch.zeros(128)
    assert is_for_onednn(x, weight, bias)
    assert is_for_onednn(x, weight, None)
    assert not is_for_onednn(x[:255], weight, bias)
    assert not is_for_onednn(x.double(), weight.double(), None)
    assert not is_for_onednn(x, weight, bias.double())
    assert not is_for_onednn(x.to("meta"), weight.to("meta"), None)
    with torch.autocast("cpu", torch.bfloat16):
        assert not is_for_onednn(x, weight, bias)
    seen: list[bool] = []
    torch.func.vmap(lambda row: seen.append(is_for_onednn(x, weight, row)) or row)(bias[None])
    assert seen == [False]


@pytest.mark.parametrize(("rows", "number"), [(256, 1), (16, 0)])
def test_affine_maps_are_made_by_it_if_they_are_large(rows: int, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    monkeypatch.setattr("nar.ops.affine.onednn_linear", lambda *given: calls.append(1) or functional.linear(*given))
    affine(torch.zeros(rows, 128), torch.zeros(128, 128))
    assert len(calls) == number
