"""Operations with compiled code where more than a backward pass is asked for: it is as if they were their formulas."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from operations import OPERATIONS, random_arguments
from torch import Tensor
from torch.autograd import forward_ad, gradcheck, gradgradcheck
from torch.fx.experimental.proxy_tensor import make_fx

SMALL = {"B": 1, "N": 3, "S": 2, "R": 3, "M": 2, "E": 6, "H": 2, "K": 1, "F": 2, "W": 2, "P": 1, "D": 2, "C": 3}
EVERY_OPERATION = pytest.mark.parametrize("operation", OPERATIONS)


def weighted(made: Tensor) -> Tensor:
    return (made * torch.linspace(-1, 1, made.numel(), dtype=made.dtype).view_as(made)).square().sum()


@EVERY_OPERATION
def test_first_and_second_gradients_equal_finite_differences(operation: str) -> None:
    arguments = random_arguments(operation, SMALL)
    assert gradcheck(OPERATIONS[operation].call, arguments)
    assert gradgradcheck(OPERATIONS[operation].call, arguments, fast_mode=True)


@EVERY_OPERATION
@pytest.mark.parametrize("whole", [False, True])
def test_second_gradients_are_those_of_the_formula(operation: str, whole: bool) -> None:
    """Of whole numbers, too, many of which are equal; and of arguments that are made of one another."""
    made = []
    for function in (OPERATIONS[operation].call, OPERATIONS[operation].plain):
        torch.manual_seed(1)
        arguments = [x.detach() for x in random_arguments(operation)]
        first, *others = [(x.round() if whole else x).requires_grad_() for x in arguments]
        shift = first.flatten()[0]
        loss = weighted(function(first, *(x + shift for x in others)))
        gradients = torch.autograd.grad(loss, [first, *others], create_graph=True)
        penalty = sum(weighted(x) for x in gradients)
        made.append((loss, gradients, torch.autograd.grad(penalty, [first, *others])))
    torch.testing.assert_close(made[0], made[1], rtol=1e-9, atol=1e-9)


@EVERY_OPERATION
def test_only_what_needs_a_second_gradient_gets_one(operation: str) -> None:
    for index in range(len(OPERATIONS[operation].axes)):
        arguments = [x.detach() for x in random_arguments(operation)]
        arguments[index].requires_grad_()
        (gradient,) = torch.autograd.grad(
            weighted(OPERATIONS[operation].call(*arguments)), arguments[index], create_graph=True
        )
        weighted(gradient).backward()
        assert arguments[index].grad is not None
        assert [x.grad is not None for x in arguments].count(True) == 1


def by_grad(function: Callable[..., Tensor], arguments: list[Tensor]) -> Any:
    numbers = tuple(range(len(arguments)))
    return torch.func.grad(lambda *given: weighted(function(*given)), numbers)(*arguments)


def by_vmap(function: Callable[..., Tensor], arguments: list[Tensor]) -> Any:
    return torch.func.vmap(function)(*(torch.stack([x, 2 * x]) for x in arguments))


def by_vmap_of_one(function: Callable[..., Tensor], arguments: list[Tensor]) -> Any:
    others = (None,) * (len(arguments) - 1)
    return torch.func.vmap(function, (0, *others))(torch.stack([arguments[0], -arguments[0]]), *arguments[1:])


def by_jvp(function: Callable[..., Tensor], arguments: list[Tensor]) -> Any:
    return torch.func.jvp(function, tuple(arguments), tuple(x.cos() for x in arguments))


def by_jacrev(function: Callable[..., Tensor], arguments: list[Tensor]) -> Any:
    return torch.func.jacrev(function)(*arguments)


def by_hessian(function: Callable[..., Tensor], arguments: list[Tensor]) -> Any:
    return torch.func.hessian(lambda x: weighted(function(x, *arguments[1:])))(arguments[0])


def by_forward_mode(function: Callable[..., Tensor], arguments: list[Tensor]) -> Any:
    with forward_ad.dual_level():
        return forward_ad.unpack_dual(function(*(forward_ad.make_dual(x, x.cos()) for x in arguments)))


def by_batched_gradients(function: Callable[..., Tensor], arguments: list[Tensor]) -> Any:
    given = [x.clone().requires_grad_() for x in arguments]
    made = function(*given)
    gradients = torch.stack([torch.ones_like(made), made.detach().cos()])
    return torch.autograd.grad(made, given, gradients, is_grads_batched=True)


def by_old_jacobian(function: Callable[..., Tensor], arguments: list[Tensor]) -> Any:
    return torch.autograd.functional.jacobian(lambda x: function(x, *arguments[1:]), arguments[0], vectorize=True)


def by_compiler(function: Callable[..., Tensor], arguments: list[Tensor]) -> Any:
    torch._dynamo.reset()
    given = [x.clone().requires_grad_() for x in arguments]
    made = torch.compile(function, fullgraph=True, backend="eager")(*given)
    return made, torch.autograd.grad(weighted(made), given)


def by_tracing(function: Callable[..., Tensor], arguments: list[Tensor]) -> Any:
    return make_fx(lambda *given: function(*given))(*(x + 1 for x in arguments))(*arguments)


WAYS = [
    *(by_grad, by_vmap, by_vmap_of_one, by_jvp, by_jacrev, by_hessian, by_forward_mode, by_batched_gradients),
    *(by_old_jacobian, by_compiler, by_tracing),
]


@EVERY_OPERATION
@pytest.mark.parametrize("way", WAYS)
def test_what_looks_on_sees_the_formula(operation: str, way: Callable[..., Any]) -> None:
    arguments = [x.detach() for x in random_arguments(operation, SMALL)]
    made, expected = (
        way(function, arguments) for function in (OPERATIONS[operation].call, OPERATIONS[operation].plain)
    )
    torch.testing.assert_close(made, expected, rtol=1e-9, atol=1e-9)
