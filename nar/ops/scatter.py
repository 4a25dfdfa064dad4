"""Reductions over groups of rows: what a graph network does where edges meet in a node."""
# Axes: E rows, N groups.

import importlib.util
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from nar.ops.border import check_index, differentiable_gradients, has_to_be_differentiable, is_watched

Reduce = Literal["sum", "mean", "max"]
Backend = Literal["torch", "torch-scatter"]

HAS_TORCH_SCATTER = importlib.util.find_spec("torch_scatter") is not None


def scatter(
    src: Tensor,
    index: Tensor,
    dim_size: int,
    reduce: Reduce = "sum",
    *,
    ptr: Tensor | None = None,
    backend: Backend | None = None,
) -> Tensor:
    """The sum, mean or elementwise maximum of the rows of each group, [N, ...]; 0 of a group without rows.

    Equal maxima share the gradient evenly, maxima of 0 as well, whatever computes them.

    Args:
        src: [E, ...].
        index: The group of each row, [E].
        dim_size: N.
        reduce: What of each group to take.
        ptr: Where each group begins, and E, if `index` is in ascending order, [N + 1]; makes maxima faster.
        backend: What computes sums and maxima; None for what is faster: torch-scatter, if it is installed, for sums
            with a `ptr` and for maxima on a GPU, else PyTorch, and this alone in what torch compiles.

    Raises:
        ValueError: If there is no such reduction or backend, torch-scatter is not installed, or shapes disagree.
        TypeError: If `index` or `ptr` is not of whole numbers.
        IndexError: If a row is of no group.
    """
    for name, value, known in (("reduce", reduce, get_args(Reduce)), ("backend", backend, (None, *get_args(Backend)))):
        if value not in known:
            raise ValueError(f"expected {name} {' or '.join(map(repr, known))}, given {value!r}")
    if backend == "torch-scatter" and not HAS_TORCH_SCATTER:
        raise ValueError("expected a backend that is installed, given 'torch-scatter': pip install torch-scatter")
    if backend is None:
        is_faster = src.is_cuda if reduce == "max" else ptr is not None
        backend = "torch-scatter" if HAS_TORCH_SCATTER and is_faster else "torch"
    if src.shape[:1] != index.shape:
        raise ValueError(f"scatter: expected index {list(src.shape[:1])}, given {list(index.shape)}")
    if src.is_cpu or backend == "torch-scatter":  # PyTorch's own kernels for GPUs look at it without a wait for it
        index = check_index("scatter", "index", index, dim_size)
    if ptr is not None:
        _check_ptr(ptr, index, dim_size)
    is_plain = is_watched(src, index, ptr) or src.numel() == 0
    if is_plain:
        backend = "torch"
    if reduce == "max" and is_plain:
        return plain_max(src, index, dim_size)
    if reduce == "max":
        top: Tensor = _ScatterMax.apply(src, index, dim_size, ptr, backend)  # type: ignore[no-untyped-call]
        return top
    total = _sum(src, index, dim_size, ptr, backend)
    if reduce == "sum":
        return total
    return total / _like(sizes(index, dim_size), total).clamp(min=1)


def scatter_softmax(src: Tensor, index: Tensor, dim_size: int, *, ptr: Tensor | None = None) -> Tensor:
    """The softmax of each entry among those of the rows of its group, [E, ...].

    Args:
        src: [E, ...].
        index: The group of each row, [E].
        dim_size: N.
        ptr: As in :func:`scatter`.
    """
    return scatter_log_softmax(src, index, dim_size, ptr=ptr).exp()


def scatter_log_softmax(src: Tensor, index: Tensor, dim_size: int, *, ptr: Tensor | None = None) -> Tensor:
    """The logarithm of :func:`scatter_softmax`."""
    shifted = src - scatter(src.detach(), index, dim_size, "max", ptr=ptr).index_select(0, index)
    return shifted - scatter(shifted.exp(), index, dim_size, ptr=ptr).index_select(0, index).log()


def sizes(index: Tensor, dim_size: int) -> Tensor:
    """How many rows each group has, [N]."""
    return torch.zeros(dim_size, dtype=torch.int64, device=index.device).scatter_add(0, index, torch.ones_like(index))


def starts(index: Tensor, dim_size: int) -> Tensor:
    """Where each group begins if rows are in the order of their groups, and E, [N + 1]."""
    return torch.nn.functional.pad(sizes(index, dim_size).cumsum(0), (1, 0))


def plain_max(src: Tensor, index: Tensor, dim_size: int) -> Tensor:
    """The maximum of each group in PyTorch's operations alone, of which equal maxima share the gradient evenly."""
    lowest = src.new_full((dim_size, *src.shape[1:]), -torch.inf)
    top = lowest.scatter_reduce(0, _like(index, src).expand_as(src), src, "amax")
    return _without_empty_groups(top, index)


class _ScatterMax(torch.autograd.Function):
    """The maximum of each group by any backend, with a gradient that is the same by all of them."""

    @staticmethod
    def forward(ctx: Any, src: Tensor, index: Tensor, dim_size: int, ptr: Tensor | None, backend: Backend) -> Tensor:
        """The maxima."""
        top = _max(src, index, dim_size, ptr, backend)
        ctx.save_for_backward(src, index, top)
        return top

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """The gradient: of the largest entry, or of equal ones evenly."""
        if has_to_be_differentiable(gradient):
            src, index, top = ctx.saved_tensors
            return *differentiable_gradients(plain_max, (src, index, len(top)), gradient), None, None
        src, index, top = ctx.saved_tensors
        is_top = (src == top.index_select(0, index)).to(gradient.dtype)
        number = _sum(is_top, index, len(top), None, "torch").clamp(min=1)
        return is_top * (gradient / number).index_select(0, index), None, None, None, None


def _max(src: Tensor, index: Tensor, dim_size: int, ptr: Tensor | None, backend: Backend) -> Tensor:
    """The maxima without a gradient; a group that is empty is told by its size, as -inf may be a maximum.

    torch-scatter's own gradient would give all to one of equal maxima.
    """
    if backend == "torch-scatter":
        import torch_scatter

        if ptr is not None:
            top, which = torch_scatter.segment_max_csr(src, ptr)
        else:
            top, which = torch_scatter.scatter_max(src, index, dim=0, dim_size=dim_size)
        top = top.masked_fill(which == len(src), -torch.inf)  # of which it makes 0
    elif ptr is not None and src.is_floating_point():
        top = torch.segment_reduce(src, "max", offsets=ptr)
    else:
        return plain_max(src, index, dim_size)
    return _without_empty_groups(top, index)


def _without_empty_groups(top: Tensor, index: Tensor) -> Tensor:
    """The maxima, with 0 where there are no rows."""
    return top.masked_fill(_like(sizes(index, top.shape[0]) == 0, top), 0)


def _check_ptr(ptr: Tensor, index: Tensor, dim_size: int) -> None:
    """Raise a :class:`ValueError` unless `ptr` is where the groups of a sorted index begin."""
    if ptr.shape != (dim_size + 1,):
        raise ValueError(f"scatter: expected ptr {[dim_size + 1]}, given {list(ptr.shape)}")
    check_index("scatter", "ptr", ptr, len(index) + 1)
    if is_watched(ptr, index) or ptr.is_meta:
        return
    number = ptr.diff()
    if ptr[0] != 0 or (number < 0).any() or not torch.equal(torch.repeat_interleave(number), index.long()):
        raise ValueError("scatter: expected a ptr to where each group of a sorted index begins, given another")


def _sum(src: Tensor, index: Tensor, dim_size: int, ptr: Tensor | None, backend: Backend) -> Tensor:
    """The sum of each group, [N, ...]."""
    if backend == "torch-scatter" and ptr is not None:
        import torch_scatter

        return torch_scatter.segment_sum_csr(src, ptr)  # type: ignore[no-any-return]
    # torch-scatter's own sum of rows in any order is this.
    return src.new_zeros(dim_size, *src.shape[1:]).scatter_add(0, _like(index, src).expand_as(src), src)


def _like(index: Tensor, rows: Tensor) -> Tensor:
    """A number for each row, [E] or [N], with as many axes as `rows` has, of length 1."""
    return index.view(-1, *[1] * (rows.dim() - 1))
