"""The affine map of a layer, whose weights' gradients may be made for many uses of the layer at a time.

A layer that a model applies at every step of a trajectory has at each of them, for the gradients of its weight and its
bias, a product, a sum over rows and two additions. On a GPU and of small batches these are half of what training
launches, while one product over the rows of many steps takes little longer than that of one.
"""
# Axes: M rows.

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from nar.ops.total import total

ROWS = 2**16  # of uses that are kept until one product is made of them: on a GPU their memory is the limit

# By the identities of weight and bias: both, the buffer of their gradients, and both as uses are given them.
# All threads see it: the engine of PyTorch has a thread of its own for each GPU, which makes checkpoints' values anew.
_gathered: dict[tuple[int, int], tuple[Any, Any, Any]] | None = None


@contextmanager
def gathered_gradients() -> Iterator[None]:
    """A context in which the gradients of an affine map's weights are computed for many of its uses at a time.

    The backward pass has to be in it, too.
    """
    global _gathered
    outside, _gathered = _gathered, {}
    try:
        yield
    finally:
        _gathered = outside


def affine(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``x weightᵀ + bias``, [..., out]: :func:`torch.nn.functional.linear`.

    Args:
        x: [..., in].
        weight: [out, in].
        bias: [out].
    """
    if not _is_gathered(weight, bias):
        return functional.linear(x, weight, bias)
    buffer, *weights = deferred(weight, bias, as_autocast)
    result: Tensor = DeferredLinear.apply(buffer, as_autocast(x), *weights)  # type: ignore[no-untyped-call]
    return result


def rectified(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """``ReLU(x weightᵀ + bias)``, [..., out]; where gradients are gathered, by one product if a device has such a one.

    Args:
        x: [..., in].
        weight: [out, in].
        bias: [out].
    """
    if not _is_gathered(weight, bias) or not _rectifies(x.device, as_autocast(x[:0]).dtype):
        return affine(x, weight, bias).relu()
    buffer, *weights = deferred(weight, bias, as_autocast)
    result: Tensor = DeferredRectified.apply(buffer, as_autocast(x), *weights)  # type: ignore[no-untyped-call]
    return result


@cache
def _rectifies(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether a product of a device that rectifies makes what a product and a rectification make, to the bit."""
    x = torch.linspace(-1, 1, 64 * 64, device=device).sin().view(64, 64)
    x[1, 2] = torch.nan  # which some rectify, too
    x = x.to(dtype)
    with torch.no_grad(), torch.autocast(device.type, enabled=False):
        try:
            made = torch._addmm_activation(x[0], x, x.mT)
        except (AttributeError, RuntimeError):
            return False
        return torch.allclose(made, functional.linear(x, x, x[0]).relu(), rtol=0, atol=0, equal_nan=True)


def gathered(weight: Tensor) -> "tuple[GradientBuffer | None, Tensor]":
    """The buffer of the gradients of a weight, None if they are not gathered, and the weight as a use is given it.

    An operation that has a product with the weight in it calls :func:`weight_gradient` in its backward pass.
    """
    buffer, weight, _ = deferred(weight)
    return buffer, weight


def weight_gradient(buffer: "GradientBuffer | None", x: Tensor, gradient: Tensor) -> Tensor | None:
    """The gradient of the weight of ``x weightᵀ``, given that of the product; None if a buffer takes the use.

    Args:
        buffer: Of :func:`gathered`.
        x: [..., in].
        gradient: [..., out].
    """
    x = x.to(gradient.dtype)
    if buffer is None:
        return gradient.flatten(0, -2).mT @ x.flatten(0, -2)
    buffer.add(x, gradient)
    return None


def bias_gradient(buffer: "GradientBuffer | None", gradient: Tensor) -> Tensor | None:
    """The gradient of what is added to rows, given that of these, [..., out]; None if a buffer takes the use."""
    if buffer is None:
        return gradient.flatten(0, -2).sum(dim=0)
    buffer.add(gradient[..., :0], gradient)  # of a layer without inputs, whose bias it is
    return None


def plus(x: Tensor, bias: Tensor) -> Tensor:
    """``x + bias``, [..., out].

    Args:
        x: [..., out].
        bias: [out].
    """
    if not _is_gathered(None, bias):
        return x + bias
    buffer, _, bias_of_use = deferred(None, bias)
    result: Tensor = DeferredSum.apply(buffer, x, bias_of_use)  # type: ignore[no-untyped-call]
    return result


def _is_gathered(weight: Tensor | None, bias: Tensor | None) -> bool:
    """Whether gradients of a weight and a bias are gathered now."""
    is_trained = any(x is not None and x.requires_grad for x in (weight, bias))
    return _gathered is not None and is_trained and torch.is_grad_enabled()


def deferred(
    weight: Tensor | None, bias: Tensor | None = None, cast: Callable[[Tensor], Tensor] = lambda x: x
) -> "tuple[GradientBuffer | None, Any, Any]":
    """The buffer of the gradients of a weight and a bias, None if they are not gathered, and both as uses get them.

    Args:
        weight: [out, in]; None if there is a bias alone.
        bias: [out].
        cast: Makes of each what uses get.
    """

    def cast_both() -> tuple[Any, Any]:
        return None if weight is None else cast(weight), None if bias is None else cast(bias)

    if not _is_gathered(weight, bias):
        return None, *cast_both()
    assert _gathered is not None
    key = id(weight), id(bias)
    if key not in _gathered:
        buffer, given = GradientBuffer(), cast_both()
        _gathered[key] = (weight, bias), buffer, DeferredWeights.apply(buffer, *given)  # type: ignore[no-untyped-call]
    _, buffer, weights = _gathered[key]
    return buffer, *weights


def shared(x: Tensor) -> Tensor:
    """`x` for one of several operations on it; where gradients are gathered, those by `x` are added up all at once."""
    if _gathered is None or not (x.requires_grad and torch.is_grad_enabled()):
        return x
    key = id(x), id(shared)
    if key not in _gathered:
        parts: list[Tensor] = []
        _gathered[key] = x, parts, _SharedGradient.apply(parts, x)  # type: ignore[no-untyped-call]
    _, parts, whole = _gathered[key]
    use: Tensor = _Use.apply(parts, whole)  # type: ignore[no-untyped-call]
    return use


class _SharedGradient(torch.autograd.Function):
    """A tensor, whose gradient is the sum of those that its uses have left."""

    @staticmethod
    def forward(ctx: Any, parts: list[Tensor], x: Tensor) -> Tensor:
        """The tensor, in the same memory."""
        ctx.set_materialize_grads(False)  # uses return no gradients to it
        ctx.parts = parts
        return x

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *_: None) -> tuple[None, Tensor | None]:
        """The gradient."""
        parts = ctx.parts.copy()
        ctx.parts.clear()
        return None, total(*(x.reshape(1, -1, x.shape[-1]) for x in parts)).view_as(parts[0]) if parts else None


class _Use(torch.autograd.Function):
    """A tensor for one use, which leaves its gradient in a list."""

    @staticmethod
    def forward(ctx: Any, parts: list[Tensor], whole: Tensor) -> Tensor:
        """The tensor, in the same memory."""
        ctx.parts = parts
        return whole

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, None]:
        """Nothing."""
        ctx.parts.append(gradient)
        return None, None


class GradientBuffer:
    """The gradients of a weight and a bias, summed up over the uses of a layer that have been added."""

    def __init__(self) -> None:
        self.uses: list[tuple[Tensor, Tensor]] = []  # each [M, ...]
        self.grad_weight: Tensor | None = None
        self.grad_bias: Tensor | None = None

    def add(self, x: Tensor, gradient: Tensor) -> None:
        """Add a use: its input, and the gradient of its output."""
        self.uses.append((x.detach().flatten(0, -2), gradient.flatten(0, -2)))
        if sum(len(rows) for rows, _ in self.uses) >= ROWS:
            self._sum_up()

    def take(self) -> tuple[Tensor | None, Tensor | None]:
        """The gradients of weight and bias, None if there were no uses; the buffer is empty then."""
        if self.uses:
            self._sum_up()
        taken, self.grad_weight, self.grad_bias = (self.grad_weight, self.grad_bias), None, None
        return taken

    def _sum_up(self) -> None:
        """Replace the uses by what they add to the gradients."""
        x, gradient = (parts[0] if len(parts) == 1 else torch.cat(parts) for parts in zip(*self.uses, strict=True))
        self.uses = []
        if self.grad_weight is None or self.grad_bias is None:
            self.grad_weight, self.grad_bias = gradient.mT @ x, gradient.sum(dim=0)
        else:
            self.grad_weight.addmm_(gradient.mT, x)
            self.grad_bias += gradient.sum(dim=0)


class DeferredWeights(torch.autograd.Function):
    """A weight and a bias, whose gradients are taken from a buffer.

    Autograd calls its backward pass after those of all uses that were given its results, as these
    are what they depend on; so the buffer then holds every use.
    """

    @staticmethod
    def forward(ctx: Any, buffer: GradientBuffer, *given: Tensor | None) -> tuple[Tensor | None, ...]:
        """Weight and bias, in the same memory."""
        ctx.set_materialize_grads(False)  # uses return no gradients to it
        ctx.buffer = buffer
        return given

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *_: None) -> tuple[Tensor | None, ...]:
        """The gradients of weight and bias."""
        grad_weight, grad_bias = ctx.buffer.take()
        _, needs_weight, needs_bias = ctx.needs_input_grad
        return None, grad_weight if needs_weight else None, grad_bias if needs_bias else None


class DeferredLinear(torch.autograd.Function):
    """``x weightᵀ + bias``, whose backward pass adds itself to a buffer in place of weight's and bias's gradients."""

    @staticmethod
    def forward(ctx: Any, buffer: GradientBuffer, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The result, [..., out]."""
        ctx.buffer = buffer
        ctx.save_for_backward(x, weight)
        return functional.linear(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """The gradient of x alone."""
        x, weight = ctx.saved_tensors
        ctx.buffer.add(x, gradient)
        return None, gradient @ weight if ctx.needs_input_grad[1] else None, None, None


class DeferredRectified(torch.autograd.Function):
    """``ReLU(x weightᵀ + bias)``, whose backward pass is that of :class:`DeferredLinear` with the rectification's."""

    @staticmethod
    def forward(ctx: Any, buffer: GradientBuffer, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """The result, [..., out]."""
        made = torch._addmm_activation(bias, x.flatten(0, -2), weight.mT).view(*x.shape[:-1], len(weight))
        ctx.buffer = buffer
        ctx.save_for_backward(x, weight, made)
        return made

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """The gradient of x alone."""
        x, weight, made = ctx.saved_tensors
        gradient = torch.ops.aten.threshold_backward(gradient, made, 0)
        ctx.buffer.add(x, gradient)
        return None, gradient @ weight if ctx.needs_input_grad[1] else None, None, None


class DeferredSum(torch.autograd.Function):
    """``x + bias``, whose backward pass adds itself to a buffer in place of bias's gradient."""

    @staticmethod
    def forward(ctx: Any, buffer: GradientBuffer, x: Tensor, bias: Tensor) -> Tensor:
        """The sum, [..., out]."""
        ctx.buffer = buffer
        return x + bias

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """The gradient of x alone."""
        return None, gradient, bias_gradient(ctx.buffer, gradient)


def as_autocast(x: Tensor) -> Tensor:
    """`x` in the type that autocast has for products of it."""
    if not torch.is_autocast_enabled(x.device.type) or x.dtype == torch.float64:
        return x
    return x.to(torch.get_autocast_dtype(x.device.type))
