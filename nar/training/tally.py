"""Counts of scores and sums of losses over the batches of an evaluation."""

from collections import defaultdict
from collections.abc import Mapping

from torch import Tensor

from nar.batch import Key
from nar.training.distributed import gather


class Tally:
    """Counts of scores and sums of losses over the batches of an evaluation, by algorithm and size.

    Attributes:
        counts: The numbers that each output's score is made of, by name (see :func:`nar.model.metrics.counts`).
        losses: The sum over trajectories of each probe's loss and the number of trajectories, by name.
        marks: The counts of each trajectory by itself, batch by batch, [B, 3], by name; of tests alone.
    """

    def __init__(self) -> None:
        self.counts: dict[Key, dict[str, Tensor]] = {}
        self.losses: dict[Key, dict[str, tuple[float, int]]] = defaultdict(dict)
        self.marks: dict[Key, dict[str, list[Tensor]]] = defaultdict(dict)

    def add_counts(self, key: Key, new: Mapping[str, Tensor]) -> None:
        """Add the counts of a batch."""
        old = self.counts.setdefault(key, {})
        self.counts[key] = {name: old.get(name, 0) + count.cpu() for name, count in new.items()}

    def add_marks(self, key: Key, new: Mapping[str, Tensor]) -> None:
        """Add the counts of each trajectory of a batch, [B, 3]."""
        for name, counts in new.items():
            self.marks[key].setdefault(name, []).append(counts.cpu())

    def add_losses(self, key: Key, by_probe: Mapping[str, Tensor], num_samples: int) -> None:
        """Add the mean losses of a batch of `num_samples` trajectories."""
        for name, value in by_probe.items():
            self._add_loss(key, name, float(value) * num_samples, num_samples)

    def mean_losses(self) -> dict[Key, dict[str, float]]:
        """The mean loss of each probe."""
        return {
            key: {name: total / number for name, (total, number) in by_probe.items()}
            for key, by_probe in self.losses.items()
        }

    def over_all_ranks(self) -> "Tally":
        """The sum of the tallies of all processes, the same in each."""
        total = Tally()
        for tally in gather(self):
            for key, by_output in tally.counts.items():
                total.add_counts(key, by_output)
            for key, by_probe in tally.losses.items():
                for name, (value, number) in by_probe.items():
                    total._add_loss(key, name, value, number)
            for key, by_name in tally.marks.items():
                for parts in zip(*by_name.values(), strict=True):
                    total.add_marks(key, dict(zip(by_name, parts, strict=True)))
        return total

    def _add_loss(self, key: Key, name: str, value: float, number: int) -> None:
        old, old_number = self.losses[key].get(name, (0.0, 0))
        self.losses[key][name] = (old + value, old_number + number)
