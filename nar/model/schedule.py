"""Which graphs of a batch take each step, and after which their outputs are decoded."""
# Axes: B graphs.

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
    """

    order: Tensor
    counts: list[int]
    kept: list[slice]
    last: Tensor


def schedule_of(lengths: Tensor, num_steps: int | None) -> Schedule:
    """The schedule by which all graphs take `num_steps`, or, if None, each as many as its length [B] asks for."""
    return drop_finished(lengths) if num_steps is None else keep_all(lengths, num_steps)


def drop_finished(lengths: Tensor) -> Schedule:
    """The schedule by which every graph leaves the batch when it ends; the longest come first.

    Work is the least, but shapes depend on the lengths, which have to be known on the CPU.
    """
    num_steps = num_steps_of(lengths).tolist()
    order = torch.tensor(sorted(range(len(num_steps)), key=lambda graph: -num_steps[graph]), device=lengths.device)
    counts = [sum(number > step for number in num_steps) for step in range(max(num_steps))]
    # Of a step those graphs are kept that do not take the next one: they stand behind all that do.
    kept = [slice(end, count) for end, count in zip([*counts[1:], 0], counts, strict=True)]
    return Schedule(order, counts, kept, torch.cat([order[places] for places in kept]).argsort())


def keep_all(lengths: Tensor, num_steps: int) -> Schedule:
    """The schedule by which all graphs take every step, whatever their lengths: a GPU's shapes are known beforehand.

    The states of all are kept after every step, and among them the last ones are found by arithmetic on the GPU.
    """
    order = torch.arange(len(lengths), device=lengths.device)
    last = (num_steps_of(lengths) - 1) * len(lengths) + order
    return Schedule(order, [len(lengths)] * num_steps, [slice(0, len(lengths))] * num_steps, last)
