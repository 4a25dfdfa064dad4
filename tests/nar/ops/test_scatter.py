"""Reductions over groups of rows, beside loops over the groups, for every backend that is there."""
# Axes: E rows, N groups.

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from nar.ops import scatter as module
from nar.ops.scatter import Backend, Reduce, scatter, scatter_log_softmax, scatter_softmax, sizes, starts

N = 8
INDEX = torch.tensor([0, 0, 0, 2, 2, 3, 5, 5, 5, 5, 5, 7])  # of groups 1, 4 and 6 there are no rows
needs_torch_scatter = pytest.mark.skipif(not module.HAS_TORCH_SCATTER, reason="torch-scatter is not installed")
every_backend = pytest.mark.parametrize(
    "backend", [None, "torch", pytest.param("torch-scatter", marks=needs_torch_scatter)]
)
every_reduce = pytest.mark.parametrize("reduce", ["sum", "mean", "max"])
sorted_or_not = pytest.mark.parametrize("is_sorted", [True, False])


def rows(*shape: int) -> Tensor:
    """Random ones, one for each of `INDEX`."""
    return torch.randn(len(INDEX), *shape, dtype=torch.float64, requires_grad=True)


def arguments(is_sorted: bool) -> tuple[Tensor, Tensor | None]:
    """Groups, and where they begin if that is to be told."""
    return (INDEX, starts(INDEX, N)) if is_sorted else (INDEX[torch.randperm(len(INDEX))], None)


def by_loops(src: Tensor, index: Tensor, reduce: Reduce) -> Tensor:
    """One group after another."""
    take: dict[Reduce, Callable[[Tensor], Tensor]] = {
        "sum": lambda x: x.sum(dim=0),
        "mean": lambda x: x.mean(dim=0),
        "max": lambda x: x.amax(dim=0),
    }
    groups = [src[index == group] for group in range(N)]
    return torch.stack([take[reduce](group) if len(group) else src.new_zeros(src.shape[1:]) for group in groups])


@pytest.mark.parametrize("shape", [(), (3,), (2, 3)], ids=str)
@sorted_or_not
@every_backend
@every_reduce
def test_equals_a_loop_over_the_groups(
    reduce: Reduce, backend: Backend | None, is_sorted: bool, shape: tuple[int, ...]
) -> None:
    src, (index, ptr) = rows(*shape), arguments(is_sorted)
    found = scatter(src, index, N, reduce, ptr=ptr, backend=backend)
    torch.testing.assert_close(found, by_loops(src, index, reduce))


@sorted_or_not
@every_backend
@every_reduce
def test_gradient_equals_finite_differences(reduce: Reduce, backend: Backend | None, is_sorted: bool) -> None:
    index, ptr = arguments(is_sorted)
    assert gradcheck(lambda src: scatter(src, index, N, reduce, ptr=ptr, backend=backend), rows(3))


@pytest.mark.parametrize("value", [0.0, -2.0, 3.0])
@sorted_or_not
@every_backend
def test_equal_maxima_share_the_gradient_evenly_also_if_they_are_zero(
    backend: Backend | None, is_sorted: bool, value: float
) -> None:
    index, ptr = arguments(is_sorted)
    src = torch.full((len(index), 2), value, requires_grad=True)
    scatter(src, index, N, "max", ptr=ptr, backend=backend).sum().backward()
    torch.testing.assert_close(src.grad, (1 / sizes(index, N)[index]).to(torch.float32)[:, None].expand(-1, 2))


@every_backend
def test_a_maximum_of_minus_infinity_is_not_taken_for_an_empty_group(backend: Backend | None) -> None:
    found = scatter(torch.full((1, 2), -torch.inf), torch.tensor([1]), 2, "max", backend=backend)
    assert found.tolist() == [[0, 0], [-torch.inf, -torch.inf]]


@every_reduce
def test_without_rows_all_groups_are_zero(reduce: Reduce) -> None:
    empty = torch.zeros(0, dtype=torch.int64)
    assert scatter(torch.zeros(0, 2), empty, 3, reduce).equal(torch.zeros(3, 2))
    assert scatter(torch.zeros(0, 2), empty, 3, reduce, ptr=starts(empty, 3)).equal(torch.zeros(3, 2))


@pytest.mark.slow
@pytest.mark.parametrize("compiler", ["aot_eager"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # what torch's compiler is itself built with
def test_what_is_compiled_has_the_same_values_and_gradients(compiler: str) -> None:
    src, (index, ptr) = rows(3), arguments(is_sorted=True)
    src.data[:3] = 0  # the first group's maxima are equal and 0

    def all_of_them(src: Tensor) -> Tensor:
        taken = [scatter(src, index, N, reduce, ptr=ptr) for reduce in ("sum", "mean", "max")]  # type: ignore[arg-type]
        return torch.cat([*taken, scatter_softmax(src, index, N)])

    compiled: Any = torch.compile(all_of_them, backend=compiler, fullgraph=True)
    expected, found = all_of_them(src), compiled(src)
    torch.testing.assert_close(found, expected)
    weights = torch.randn_like(expected)
    torch.testing.assert_close(torch.autograd.grad(found, src, weights), torch.autograd.grad(expected, src, weights))


@sorted_or_not
def test_the_softmax_is_torchs_in_each_group(is_sorted: bool) -> None:
    src, (index, ptr) = rows(3), arguments(is_sorted)
    with torch.no_grad():
        src *= 500  # whose exponential is infinite
    found, logarithm = (f(src, index, N, ptr=ptr) for f in (scatter_softmax, scatter_log_softmax))
    for group in index.unique():
        torch.testing.assert_close(found[index == group], src[index == group].softmax(dim=0))
        torch.testing.assert_close(logarithm[index == group], src[index == group].log_softmax(dim=0))


def test_the_gradient_of_the_softmax_equals_finite_differences() -> None:
    assert gradcheck(lambda src: scatter_softmax(src, INDEX, N), rows(2))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"reduce": "median"}, "expected reduce 'sum' or 'mean' or 'max', given 'median'"),
        ({"backend": "scatter"}, "expected backend None or 'torch' or 'torch-scatter', given 'scatter'"),
    ],
)
def test_what_is_unknown_is_refused_by_name(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        scatter(rows(1), INDEX, N, **settings)


def test_a_backend_that_is_not_installed_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HAS_TORCH_SCATTER", False)
    with pytest.raises(ValueError, match="given 'torch-scatter': pip install torch-scatter"):
        scatter(rows(1), INDEX, N, backend="torch-scatter")
