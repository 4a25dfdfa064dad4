"""The splits of CLRS-30, their cache and the data module that trains on them."""

from nar.datasets.splits.splits import Split, TrainStream

__all__ = ["Split", "TrainStream"]
