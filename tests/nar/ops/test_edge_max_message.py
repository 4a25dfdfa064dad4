"""The maximum of messages along edges, beside its formula."""
# Axes: N nodes, E edges, H hidden, K edge features.

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from nar.ops import parallel
from nar.ops.edge_max_message import by_receiver, edge_max_message
from nar.ops.edge_max_message.cpu import parts_of
from nar.ops.edge_max_message.reference import plain_edge_max_message
from nar.ops.max_message.reference import plain_max_message

H = 4


def random_edges(num_nodes: int, num_edges: int) -> Tensor:
    """In any order; the last node hears no one."""
    edge_index = torch.randint(num_nodes, (2, num_edges))
    edge_index[1].clamp_(max=num_nodes - 2)
    return edge_index


def random_arguments(
    num_nodes: int, num_edges: int, width: int = 3, dtype: torch.dtype = torch.float64
) -> list[Tensor]:
    shapes = [(num_nodes, H), (num_nodes, H), (num_edges, width), (H, width), (H, H), (H,), (H, H), (H,)]
    return [torch.randn(shape, dtype=dtype, requires_grad=True) for shape in shapes]


def assert_equals_the_formula(arguments: list[Tensor], edge_index: Tensor) -> None:
    edges = by_receiver(edge_index, len(arguments[0]))
    expected = plain_edge_max_message(*arguments, edges)
    found = edge_max_message(*arguments, edges)
    torch.testing.assert_close(found, expected)
    weights = torch.randn_like(expected)
    torch.testing.assert_close(
        torch.autograd.grad(found, arguments, weights), torch.autograd.grad(expected, arguments, weights)
    )


def test_the_formula_is_that_between_all_pairs_of_which_only_edges_are_heard() -> None:
    arguments, adj = random_arguments(5, 12), torch.rand(5, 5) < 0.5
    adj[0] = True  # of nobody the one has 0, the other its own number
    edge_index = adj.nonzero().T
    sent, heard, _, *weights = arguments
    edge = torch.randn(5, 5, 3, dtype=torch.float64)
    found = plain_edge_max_message(sent, heard, edge[adj], *weights, by_receiver(edge_index, 5))
    expected = plain_max_message(sent[None], heard[None], edge[None], *weights, adj[None])[0]
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("width", [0, 3])
@pytest.mark.parametrize(("num_nodes", "num_edges"), [(2, 1), (9, 30), (300, 3000), (3, 2500)])
def test_equals_the_formula_however_edges_are_cut_into_parts(num_nodes: int, num_edges: int, width: int) -> None:
    assert_equals_the_formula(random_arguments(num_nodes, num_edges, width), random_edges(num_nodes, num_edges))


@pytest.mark.parametrize("num_threads", [1, 2, 3, 20])
def test_the_number_of_threads_does_not_matter(num_threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "num_threads", num_threads)
    monkeypatch.setattr("nar.ops.edge_max_message.cpu.num_threads", num_threads)
    assert_equals_the_formula(random_arguments(9, 40), random_edges(9, 40))


def test_gradient_equals_finite_differences() -> None:
    edges = by_receiver(random_edges(5, 12), 5)
    assert gradcheck(lambda *x: edge_max_message(*x, edges), random_arguments(5, 12))


def test_equal_messages_share_the_gradient_evenly_also_if_they_are_zero() -> None:
    arguments, edge_index = random_arguments(5, 12), random_edges(5, 12)
    with torch.no_grad():
        for x in (arguments[0], arguments[2], arguments[7]):  # all that a sender and its edge give, and the last bias
            x.zero_()
        arguments[6][0] = 0  # one entry of every message is 0
    assert_equals_the_formula(arguments, edge_index)


def test_without_edges_nothing_is_received() -> None:
    arguments, none = random_arguments(3, 0), torch.zeros(2, 0, dtype=torch.int64)
    assert_equals_the_formula(arguments, none)
    assert edge_max_message(*arguments, by_receiver(none, 3)).eq(0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_results_have_the_type_of_what_is_given(dtype: torch.dtype) -> None:
    edges = by_receiver(random_edges(5, 12), 5)
    found = edge_max_message(*random_arguments(5, 12, dtype=dtype), edges)
    assert found.dtype == dtype
    assert found.isfinite().all()


def test_nothing_as_large_as_edges_times_channels_is_kept() -> None:
    arguments, edges = random_arguments(10, 500), by_receiver(random_edges(10, 500), 10)
    kept: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x.numel()) or x, lambda x: x):
        edge_max_message(*arguments, edges)
    assert kept
    assert max(kept) < 500 * H


def test_edges_are_sorted_by_receiver_and_else_stay_in_order() -> None:
    edge_index = random_edges(6, 30)
    edges = by_receiver(edge_index, 6)
    assert edges.receivers.equal(edge_index[1].sort(stable=True).values)
    assert edge_index[:, edges.order].equal(torch.stack([edges.senders, edges.receivers]))
    again = by_receiver(torch.stack([edges.senders, edges.receivers]), 6)
    assert again.order.equal(torch.arange(30))
    for x, y in zip(edges, again, strict=True):
        assert x is edges.order or x.equal(y)


def test_every_receiver_is_in_exactly_one_part() -> None:
    edges = by_receiver(random_edges(50, 400), 50)
    parts = parts_of(edges.ptr)
    assert [receiver for begin, end in parts for receiver in range(begin, end)] == list(range(50))
