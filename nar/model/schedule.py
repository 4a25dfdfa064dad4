"""Which graphs of a batch take each step, and after which their outputs are decoded."""
# Axes: B graphs, P (graph, step) pairs.

from typing import NamedTuple

import torch
from torch import Tensor

from nar.batch import num_steps_of


class Schedule(NamedTuple):
    """Which graphs of a batch take each step, and which states outputs are decoded of.

    Attributes:
        order: The graphs in the order in which they stand at every step, [B].
        counts: How many graphs take each step: so many of the first ones in the order.
        kept: The places, among the graphs that take a step, of those whose states after it are kept for outputs.
        last: The place of each graph's own last states among all that are kept, one step's after the other's, [B].
        time: The steps of all graphs, one after the other: the number of each, from 1, [P].
        graph: The graph that takes it, [P].
    """

    order: Tensor
    counts: list[int]
    kept: list[slice]
    last: Tensor
    time: Tensor
    graph: Tensor


def schedule_of(lengths: Tensor, num_steps: int | None) -> Schedule:
    """The schedule by which all graphs take `num_steps`, or, if None, each as many as its length [B] asks for."""
    return _drop_finished(lengths) if num_steps is None else keep_all(lengths, num_steps)


def _drop_finished(lengths: Tensor) -> Schedule:
    """The schedule by which every graph leaves the batch when it ends; the longest come first.

    Work is the least, but shapes depend on the lengths, which have to be known on the CPU.
    """
    num_steps = num_steps_of(lengths).tolist()
    order = torch.tensor(sorted(range(len(num_steps)), key=lambda graph: -num_steps[graph]), device=lengths.device)
    counts = [sum(number > step for number in num_steps) for step in range(max(num_steps))]
    # Of a step those graphs are kept that do not take the next one: they stand behind all that do.
    kept = [slice(end, count) for end, count in zip([*counts[1:], 0], counts, strict=True)]
    last = torch.cat([order[places] for places in kept]).argsort()
    time = torch.tensor([step for step, count in enumerate(counts, start=1) for _ in range(count)], device=order.device)
    return Schedule(order, counts, kept, last, time, torch.cat([order[:count] for count in counts]))


def keep_all(lengths: Tensor, num_steps: int) -> Schedule:
    """The schedule by which all graphs take every step, whatever their lengths: a GPU's shapes are known beforehand.

    The states of all are kept after every step, and among them the last ones are found by arithmetic on the GPU.
    """
    number = len(lengths)
    order = torch.arange(number, device=lengths.device)
    last = (num_steps_of(lengths) - 1) * number + order
    time = torch.arange(1, num_steps + 1, device=lengths.device).repeat_interleave(number)
    every = slice(0, number)
    return Schedule(order, [number] * num_steps, [every] * num_steps, last, time, order.repeat(num_steps))
