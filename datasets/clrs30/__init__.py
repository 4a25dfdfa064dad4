"""The 30 algorithms of CLRS-30, and what the published recipe makes of them."""

from nar.datasets.clrs30.samplers import sample
from nar.datasets.clrs30.specs import ALGORITHMS, SPECS

__all__ = ["ALGORITHMS", "SPECS", "sample"]
