"""Batches of texts in buckets, whose texts are of similar lengths.

A batch has texts of many algorithms, and a matrix of edges has N² numbers where a list of keys has N: padded to the
longest of all, half of its tokens may be padding, on which a language model computes for nothing.
"""
# Axes: B texts, L tokens.

from collections.abc import Sequence
from itertools import pairwise

import torch

from nar.batch import AnyGraphs, TextBatch


def buckets_of(batch: TextBatch, cost: int) -> list[TextBatch]:
    """The batch in buckets, each padded to its own longest text, of which all together take the least time.

    Texts whose graphs are in one group stay together.

    Args:
        batch: In one piece.
        cost: How many tokens take as long as one bucket more.
    """
    if not batch.num_tokens or not batch.graphs:
        return [batch]
    longest = {group.rows: max(batch.num_tokens[row] for row in group.rows) for group in batch.graphs}
    groups = sorted(batch.graphs, key=lambda group: longest[group.rows])
    lengths = [longest[group.rows] for group in groups]
    cuts = _cuts(lengths, [len(group.rows) for group in groups], cost)
    if len(cuts) == 2:
        return [batch]
    return [_bucket(batch, groups[start:stop], lengths[stop - 1]) for start, stop in pairwise(cuts)]


def _cuts(lengths: Sequence[int], sizes: Sequence[int], cost: int) -> list[int]:
    """Where to cut a list of groups so that all tokens, padding among them, and the costs of buckets are the fewest.

    Args:
        lengths: Of the longest text of each group, in ascending order.
        sizes: How many texts each has.
        cost: Of a bucket, in tokens.

    Returns:
        The index of each bucket's first group, and at the end the number of groups.
    """
    best = [(0, [0])]  # for the first groups, as many as the index says
    for stop in range(1, len(sizes) + 1):
        ways = [(best[start][0] + lengths[stop - 1] * sum(sizes[start:stop]) + cost, start) for start in range(stop)]
        total, start = min(ways)
        best.append((total, [*best[start][1], stop]))
    return best[-1][1]


def _bucket(batch: TextBatch, groups: Sequence[AnyGraphs], num_tokens: int) -> TextBatch:
    """The texts of some groups, padded to so many tokens."""
    rows = sorted(row for group in groups for row in group.rows)
    places = {row: place for place, row in enumerate(rows)}
    index = torch.tensor(rows).to(batch.input_ids.device, non_blocking=True)
    return batch._replace(
        keys=tuple(batch.keys[row] for row in rows),
        input_ids=batch.input_ids[index, :num_tokens],
        attention_mask=batch.attention_mask[index, :num_tokens],
        labels=batch.labels[index, :num_tokens],
        graphs=[group._replace(rows=tuple(places[row] for row in group.rows)) for group in groups],
        num_tokens=tuple(batch.num_tokens[row] for row in rows),
    )
