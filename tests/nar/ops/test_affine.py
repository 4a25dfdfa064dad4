"""The gradients of an affine map that is used many times, made of many uses at a time."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

from nar.ops import affine as module
from nar.ops.affine import affine, gathered, gathered_gradients, plus, rectified, shared, weight_gradient
from nar.ops.total import total

Affine = Callable[[Tensor, Tensor, Tensor | None], Tensor]
DOUBLE = torch.float64


def unrolled(apply: Affine, x: Tensor, weight: Tensor, bias: Tensor | None, num_steps: int = 5) -> Tensor:
    """A layer applied at every step to what it made at the last, of fewer rows each time."""
    total = x.new_zeros(())
    for step in range(num_steps):
        x = apply(x[step:], weight, bias).tanh()
        total = total + (step + 1) * x.square().sum()
    return total


def arguments(dtype: torch.dtype = DOUBLE) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x, weight, bias = (torch.randn(shape, generator=generator, dtype=dtype) for shape in [(20, 2, 3), (3, 3), (3,)])
    return x.requires_grad_(), weight.requires_grad_(), bias.requires_grad_()


def gradients(apply: Affine, given: tuple[Tensor, Tensor, Tensor | None]) -> tuple[Tensor | None, ...]:
    """Of those that have one."""
    trained = [x for x in given if x is not None and x.requires_grad]
    with gathered_gradients():
        return torch.autograd.grad(unrolled(apply, *given), trained)


@pytest.mark.parametrize("rows", [1, 50, 10_000])  # at each step, at some, at the end
def test_gradients_of_many_uses_are_the_sum_of_theirs(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ROWS", rows)
    torch.testing.assert_close(gradients(affine, arguments()), gradients(functional.linear, arguments()))


def test_gradients_equal_finite_differences() -> None:
    def function(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        with gathered_gradients():
            return unrolled(affine, x, weight, bias)

    assert torch.autograd.gradcheck(function, arguments())


@pytest.mark.parametrize(
    "trained", [(True, True, False), (True, False, True), (True, False, False), (False, True, True)]
)
def test_what_is_not_trained_gets_no_gradient(trained: tuple[bool, ...]) -> None:
    def some() -> tuple[Tensor, Tensor, Tensor | None]:
        x, weight, bias = (x.requires_grad_(is_trained) for x, is_trained in zip(arguments(), trained, strict=True))
        return x, weight, bias

    torch.testing.assert_close(gradients(affine, some()), gradients(functional.linear, some()))


def test_a_layer_without_a_bias() -> None:
    given = (*arguments()[:2], None)
    torch.testing.assert_close(gradients(affine, given), gradients(functional.linear, given))


def test_a_layer_whose_result_has_no_part_in_the_loss_has_no_gradient() -> None:
    x, weight, bias = arguments()
    with gathered_gradients():
        affine(x, weight, bias)
        assert torch.autograd.grad(x.sum(), [weight, bias], allow_unused=True) == (None, None)


def test_layers_that_share_a_weight() -> None:
    x, weight, bias = arguments()

    def loss(apply: Affine) -> Tensor:
        return (apply(x, weight, bias).tanh() + apply(x, weight, 2 * bias).tanh() + apply(x, weight, None)).sum()

    with gathered_gradients():
        made = torch.autograd.grad(loss(affine), [x, weight, bias])
    torch.testing.assert_close(made, torch.autograd.grad(loss(functional.linear), [x, weight, bias]))


def test_uses_that_are_made_again_for_the_gradient() -> None:
    def again(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        made: Tensor = checkpoint(affine, x, weight, bias, use_reentrant=False)
        return made

    torch.testing.assert_close(gradients(again, arguments()), gradients(functional.linear, arguments()))


def test_half_precision_is_that_of_autocast() -> None:
    made: list[Any] = []
    for apply in (affine, functional.linear):
        given = arguments(torch.float32)
        with torch.autocast("cpu", torch.bfloat16), gathered_gradients():
            y = apply(given[0], *given[1:])
            loss = unrolled(apply, *given)
        made.append((y.detach(), loss.detach(), torch.autograd.grad(loss, given)))
    (y, loss, grad_given), (expected_y, expected_loss, expected) = made
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close((y, loss), (expected_y, expected_loss), rtol=0, atol=0)
    assert {x.dtype for x in grad_given} == {torch.float32}
    torch.testing.assert_close(grad_given, expected, rtol=0.03, atol=0.3)


def test_nothing_is_gathered_where_nobody_asks_for_it() -> None:
    x, weight, bias = arguments()
    assert "DeferredLinear" not in type(affine(x, weight, bias).grad_fn).__name__
    with gathered_gradients():
        with torch.no_grad():
            affine(x, weight, bias)
        assert "DeferredLinear" in type(affine(x, weight, bias).grad_fn).__name__
        torch.autograd.grad(affine(x, weight, bias).sum(), [weight, bias])
    assert "DeferredLinear" not in type(affine(x, weight, bias).grad_fn).__name__


class Product(torch.autograd.Function):
    """An operation that has a product with a weight in it, and computes its own gradients."""

    @staticmethod
    def forward(ctx: Any, uses: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.uses = uses
        ctx.save_for_backward(x, weight)
        return x @ weight.T

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        return None, gradient @ weight, weight_gradient(ctx.uses, x, gradient)


@pytest.mark.parametrize("rows", [1, 10_000])
def test_an_operation_may_have_the_gradient_of_its_weight_gathered(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        uses, weight = gathered(weight)
        assert (uses is None) == (module._gathered is None)
        made: Tensor = Product.apply(uses, x, weight)  # type: ignore[no-untyped-call]
        return made

    monkeypatch.setattr(module, "ROWS", rows)
    given = (*arguments()[:2], None)
    expected = gradients(functional.linear, given)
    torch.testing.assert_close(gradients(product, given), expected)
    torch.testing.assert_close(torch.autograd.grad(unrolled(product, *given), given[:2]), expected)


@pytest.mark.parametrize("rows", [1, 50, 10_000])
def test_the_gradient_of_a_bias_alone_is_gathered(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def layer(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        assert bias is not None
        return plus(affine(x, weight), bias)

    monkeypatch.setattr(module, "ROWS", rows)
    expected = gradients(functional.linear, arguments())
    torch.testing.assert_close(gradients(layer, arguments()), expected)
    given = arguments()
    torch.testing.assert_close(torch.autograd.grad(unrolled(layer, *given), given), expected)


class Launches(TorchDispatchMode):
    """How often each operation is called within it."""

    def __init__(self) -> None:
        super().__init__()
        self.number: Counter[str] = Counter()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.number[function.overloadpacket.__name__] += 1
        return function(*args, **(kwargs or {}))


def test_many_uses_take_one_product_and_one_sum_for_their_weights() -> None:
    number: dict[Affine, Counter[str]] = {}
    for apply in (affine, functional.linear):
        x, weight, bias = arguments()
        with gathered_gradients():
            made = torch.stack([apply(x.detach() * step, weight, bias) for step in range(10)])
            with Launches() as launches:
                torch.autograd.grad(made, [weight, bias], torch.ones_like(made))
        number[apply] = launches.number
    assert (number[affine]["mm"], number[affine]["sum"]) == (1, 1)
    assert number[functional.linear]["mm"] == 10


def by_uses(x: Tensor, use: Callable[[Tensor], Tensor]) -> Tensor:
    """A function of a tensor with four uses, one of which is of a part of it and one of a use."""
    x = x.tanh()
    made = use(x) @ torch.ones(3, 2, dtype=x.dtype) + torch.cat([use(x), use(x).cos()], dim=-1)[..., :2]
    return made.square().sum() + (use(x) * use(use(x).exp())).sum()


def test_gradients_by_uses_of_a_tensor_are_added_up_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers: list[int] = []
    monkeypatch.setattr(module, "total", lambda *parts: numbers.append(len(parts)) or total(*parts))
    x, _, _ = arguments()
    (expected,) = torch.autograd.grad(by_uses(x, lambda y: y), x)
    with gathered_gradients():
        (made,) = torch.autograd.grad(by_uses(x, shared), x)
    torch.testing.assert_close(made, expected)
    assert sorted(numbers) == [1, 5]


def test_a_use_without_a_part_in_the_loss_has_no_part_in_the_gradient() -> None:
    x, _, _ = arguments()
    with gathered_gradients():
        shared(x)
        assert torch.autograd.grad(shared(x).sum() + x.square().sum(), x)[0].equal(1 + 2 * x)
        assert torch.autograd.grad(x.sum() + 0 * shared(x.detach()).sum(), x)[0].equal(torch.ones_like(x))


def test_a_tensor_is_itself_where_nothing_is_gathered_or_trained() -> None:
    x, _, _ = arguments()
    assert shared(x) is x
    with gathered_gradients():
        assert shared(x.detach().requires_grad_(False)).grad_fn is None
        with torch.no_grad():
            assert shared(x) is x


def rectified_layer(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    assert bias is not None
    return functional.linear(x, weight, bias).relu()


def test_a_rectified_map_has_the_gradients_of_its_formula(monkeypatch: pytest.MonkeyPatch) -> None:
    assert module._rectifies(torch.device("cpu"), DOUBLE)
    calls: list[Any] = []
    original = module.DeferredRectified.apply
    monkeypatch.setattr(module.DeferredRectified, "apply", lambda *given: calls.append(given) or original(*given))
    expected = gradients(rectified_layer, arguments())
    torch.testing.assert_close(gradients(rectified, arguments()), expected)
    assert len(calls) == 5
    given = arguments()
    torch.testing.assert_close(torch.autograd.grad(unrolled(rectified, *given), given), expected)
    assert len(calls) == 5  # as nothing is gathered


@pytest.mark.parametrize("fault", ["hides what is not a number", "rounds otherwise", "is not there"])
def test_a_product_that_rectifies_otherwise_is_not_used(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def product(bias: Tensor, x: Tensor, weight: Tensor) -> Tensor:
        if fault == "is not there":
            raise RuntimeError("not implemented")
        made = torch.addmm(bias, x, weight).relu()
        return made.nan_to_num(0) if fault == "hides what is not a number" else made * (1 + 1e-6)

    monkeypatch.setattr(torch, "_addmm_activation", product)
    assert not module._rectifies.__wrapped__(torch.device("cpu"), torch.float32)
    module._rectifies.cache_clear()
    try:
        expected = gradients(rectified_layer, arguments())
        torch.testing.assert_close(gradients(rectified, arguments()), expected)
    finally:
        module._rectifies.cache_clear()
