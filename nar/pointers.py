"""Logits of pointers, ``w · max(x, y)``, without keeping more than one of x, y and the maximum."""
# Axes: B graphs, N nodes, S sender, R receiver, H hidden, M rows. What belongs to an edge is [B, S, R, ...].

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from nar import kernels
from nar.linear import Parts
from nar.parallel import arrays, in_parallel
from nar.precision import alike

ROWS = 1024  # pairs that are computed at a time: they fit into a core's cache
ROWS_ELSEWHERE = 2**18  # on a GPU, where it is the memory that they have to fit into

Part = tuple[slice, slice]  # some graphs, some rows of each


def edge_logits(source: Tensor, target: Tensor, edge: Parts, weight: Tensor) -> Tensor:
    """``w · max(source_j, target_i + edge_ij)`` for every i and j, [B, S, R].

    Args:
        source: [B, R, H].
        target: [B, S, H].
        edge: The parts of [B, S, R, H].
        weight: w, [H].
    """
    given = [source, target + edge.bias, weight, edge.x, edge.weight]
    if edge.states is not None and edge.states_weight is not None:
        given += [edge.states.data, edge.states.weight, edge.states.bias, edge.states_weight]
    with torch.autocast(source.device.type, enabled=False):
        logits: Tensor = EdgeLogits.apply(*alike(*given))  # type: ignore[no-untyped-call]
    return logits.to(source.dtype)


def product_logits(source: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """``w · max(source_m, target_k)`` for every m and k, [B, M, N].

    Args:
        source: [B, M, H].
        target: [B, N, H].
        weight: w, [H].
    """
    with torch.autocast(source.device.type, enabled=False):
        logits: Tensor = ProductLogits.apply(*alike(source, target, weight))  # type: ignore[no-untyped-call]
    return logits.to(source.dtype)


class EdgeLogits(torch.autograd.Function):
    """See :func:`edge_logits`; of what is as large as edges times H the gradient keeps the second argument alone."""

    @staticmethod
    def forward(ctx: Any, *arguments: Tensor) -> Tensor:
        """The logits."""
        source, target, weight, x, x_weight, *states = (argument.contiguous() for argument in arguments)
        logits = x.new_empty(x.shape[:3])

        def compute(part: Part) -> Tensor:
            graphs, senders = part
            rows = x[graphs, senders].flatten(0, 2) @ x_weight.T
            if states:
                data, first_weight, first_bias, states_weight = states
                rows.addmm_(_rectified(data[graphs, senders], first_weight, first_bias), states_weight.T)
            sums = rows.view(*x[graphs, senders].shape[:3], -1)
            sums += target[graphs, senders, None]
            if sums.is_cpu:
                kernels.max_dot_of_pairs(*arrays(source[graphs], sums, weight, logits[graphs, senders]))
            else:
                logits[graphs, senders] = torch.maximum(source[graphs, None], sums) @ weight
            return sums

        parts = _parts(x.shape[:3], x.is_cpu)
        if any(ctx.needs_input_grad):
            sums = in_parallel(compute, parts)
            ctx.parts = parts
            ctx.save_for_backward(source, weight, x, x_weight, *sums, *states)
        else:
            in_parallel(lambda part: (compute(part), None)[1], parts)
        return logits

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, ...]:
        """The gradients."""
        source, weight, x, x_weight, *others = ctx.saved_tensors
        kept, states = others[: len(ctx.parts)], others[len(ctx.parts) :]
        to_target, to_x, to_data = torch.empty_like(source), torch.empty_like(x), torch.empty(())
        if states:
            data, first_weight, first_bias, states_weight = states
            to_data = torch.empty_like(data)

        def compute(of_part: tuple[Part, Tensor]) -> tuple[Tensor, ...]:
            (graphs, senders), sums = of_part
            at = gradient[graphs, senders].contiguous()
            if sums.is_cpu:
                to_source, to_weight = torch.zeros_like(source[graphs]), torch.zeros_like(weight)
                to_sums = torch.empty_like(sums)
                tensors = (at, source[graphs], sums, weight, to_source, to_sums, to_weight)
                kernels.max_dot_of_pairs_backward(*arrays(*tensors))
            else:
                to_source, to_sums, to_weight = _max_dot_backward(at, source[graphs, None], sums, weight)
                to_source = to_source.sum(dim=1)
            to_target[graphs, senders] = to_sums.sum(dim=2)
            to_rows = to_sums.flatten(0, 2)
            torch.mm(to_rows, x_weight, out=to_x[graphs, senders].flatten(0, 2))
            gradients = [to_source, to_weight, to_rows.T @ x[graphs, senders].flatten(0, 2)]
            if states:
                some = data[graphs, senders]
                first = _rectified(some, first_weight, first_bias)
                to_first = torch.ops.aten.threshold_backward(to_rows @ states_weight, first, 0)
                torch.mm(to_first, first_weight, out=to_data[graphs, senders].flatten(0, 2))
                gradients += [to_first.T @ some.flatten(0, 2), to_first.sum(dim=0), to_rows.T @ first]
            return tuple(gradients)

        made = in_parallel(compute, list(zip(ctx.parts, kept, strict=True)))
        to_source, to_weight, to_x_weight, *to_states = _summed(source, ctx.parts, made)
        return to_source, to_target, to_weight, to_x, to_x_weight, *([to_data, *to_states] if states else [])


class ProductLogits(torch.autograd.Function):
    """See :func:`product_logits`; nothing of size M · N · H is held."""

    @staticmethod
    def forward(ctx: Any, source: Tensor, target: Tensor, weight: Tensor) -> Tensor:
        """The logits."""
        source, target = source.contiguous(), target.contiguous()
        logits = source.new_empty(*source.shape[:2], target.shape[1])

        def compute(part: Part) -> None:
            graphs, rows = part
            if source.is_cpu:
                kernels.max_dot(*arrays(source[graphs, rows], target[graphs], weight, logits[graphs, rows]))
            else:
                logits[graphs, rows] = torch.maximum(source[graphs, rows, None], target[graphs, None]) @ weight

        ctx.parts = _parts((*source.shape[:2], target.shape[1]), source.is_cpu)
        in_parallel(compute, ctx.parts)
        ctx.save_for_backward(source, target, weight)
        return logits

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The gradients."""
        source, target, weight = ctx.saved_tensors
        to_source = torch.zeros_like(source)

        def compute(part: Part) -> tuple[Tensor, Tensor]:
            graphs, rows = part
            at, some = gradient[graphs, rows].contiguous(), source[graphs, rows]
            if source.is_cpu:
                to_target, to_weight = torch.zeros_like(target[graphs]), torch.zeros_like(weight)
                tensors = (at, some, target[graphs], weight, to_source[graphs, rows], to_target, to_weight)
                kernels.max_dot_backward(*arrays(*tensors))
                return to_target, to_weight
            to_some, to_target, to_weight = _max_dot_backward(at, some[:, :, None], target[graphs, None], weight)
            to_source[graphs, rows] = to_some.sum(dim=2)
            return to_target.sum(dim=1), to_weight

        made = in_parallel(compute, ctx.parts)
        to_target, to_weight = _summed(target, ctx.parts, made)
        return to_source, to_target, to_weight


def _parts(shape: tuple[int, ...], is_cpu: bool) -> list[Part]:
    """Graphs and rows with so many pairs as are computed at a time."""
    num_graphs, num_rows, num_columns = shape
    number = ROWS if is_cpu else ROWS_ELSEWHERE
    at_once, step = max(1, number // (num_rows * num_columns)), max(1, number // num_columns)
    return [
        (slice(graph, graph + at_once), slice(row, row + step))
        for graph in range(0, num_graphs, at_once)
        for row in range(0, num_rows, step)
    ]


def _summed(like: Tensor, parts: list[Part], made: Sequence[tuple[Tensor, ...]]) -> list[Tensor]:
    """The gradients that parts add to: the first of each is that of some graphs of `like`, the others are weights'."""
    total = torch.zeros_like(like)
    for (graphs, _), (of_graphs, *_) in zip(parts, made, strict=True):
        total[graphs] += of_graphs
    return [total, *(torch.stack(gradients).sum(dim=0) for gradients in list(zip(*made, strict=True))[1:])]


def _rectified(data: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """``ReLU(data weightᵀ + bias)``, [rows, H]."""
    return torch.addmm(bias, data.flatten(0, -2), weight.T).relu_()


def _max_dot_backward(gradient: Tensor, x: Tensor, y: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of x, y and w from that of ``max(x, y) · w``; where x and y are equal, half goes to each."""
    share = 0.5 * ((x > y).to(x.dtype) + (x >= y).to(x.dtype))
    passed = gradient[..., None] * weight
    to_weight = (gradient[..., None] * torch.maximum(x, y)).flatten(0, -2).sum(dim=0)
    return passed * share, passed * (1 - share), to_weight
