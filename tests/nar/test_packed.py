"""The graphs of texts as rows of bytes."""

from collections.abc import Callable

import pytest
import torch
from hybrids import graph
from torch import Tensor

from nar.batch import Graphs, grouped
from nar.packed import pack_graphs, unpack_graphs

GRAPHS = [graph("bfs", 4, 1), graph("insertion_sort", 6, 2), graph("bfs", 4, 3), graph("dijkstra", 5, 4)]


def assert_same(given: list[Graphs], expected: list[Graphs]) -> None:
    for one, other in zip(given, expected, strict=True):
        assert one[:2] == other[:2]
        for probes, others in zip(one.features[:2], other.features[:2], strict=True):
            assert list(probes) == list(others)  # in order
            for name, data in probes.items():
                assert data.dtype == others[name].dtype
                assert torch.equal(data, others[name])
        assert torch.equal(one.features.lengths, other.features.lengths)


def test_what_is_unpacked_is_what_was_packed() -> None:
    assert_same(unpack_graphs(pack_graphs(GRAPHS)), grouped(GRAPHS))
    assert unpack_graphs(pack_graphs([])) == []


def test_rows_are_split_joined_and_padded_as_those_of_any_tensor() -> None:
    rows = pack_graphs(GRAPHS)
    assert_same(unpack_graphs(rows[1:3]), grouped(GRAPHS[1:3]))
    assert_same(unpack_graphs(torch.cat([rows[3:], rows[:1]])), grouped([GRAPHS[3], GRAPHS[0]]))
    assert_same(unpack_graphs(torch.nn.functional.pad(rows, (0, 7))), grouped(GRAPHS))
    assert_same(unpack_graphs(rows.repeat_interleave(2, dim=0)), grouped([one for one in GRAPHS for _ in range(2)]))


@pytest.mark.parametrize("damage", [lambda rows: rows[:, :100], lambda rows: rows * 0, lambda rows: rows.roll(1, 1)])
def test_other_bytes_are_refused(damage: Callable[[Tensor], Tensor]) -> None:
    rows = damage(pack_graphs(GRAPHS))
    with pytest.raises(ValueError, match="expected a graph as pack_graphs writes it for text 0, given other bytes"):
        unpack_graphs(rows)


def test_a_tensor_of_something_else_is_refused() -> None:
    with pytest.raises(ValueError, match=r"as of pack_graphs or in groups, given a tensor of float32 \[2, 3\]"):
        unpack_graphs(torch.zeros(2, 3))
