"""Trajectories of algorithms: CLRS-30, its splits and the data module that trains on them."""

if __name__ == "datasets":
    raise ImportError(
        "this folder is nar.datasets; importing it as 'datasets' hides Hugging Face's package of that name: "
        "take the root of this repository off sys.path (set PYTHONSAFEPATH=1, or run from another folder)"
    )

import warnings
from typing import TYPE_CHECKING, Any

from nar.ops import numba_cache  # noqa: F401 (before anything is defined that numba compiles)

# isort: split
from nar.datasets.clrs30.dm_clrs import to_dm_clrs
from nar.datasets.clrs30.samplers import sample
from nar.datasets.clrs30.specs import ALGORITHMS, SPECS
from nar.datasets.engine.algorithm import Algorithm
from nar.datasets.engine.trace import Trace, record

if TYPE_CHECKING:
    from nar.datasets.splits.datamodule import CLRS30

__all__ = ["ALGORITHMS", "CLRS30", "SPECS", "Algorithm", "Trace", "record", "sample", "to_dm_clrs"]


def __getattr__(name: str) -> Any:
    """The data module, imported when first asked for: Lightning takes longer than all else that is needed to draw."""
    if name == "dense":
        warnings.warn("nar.datasets.dense is now nar.datasets.to_dm_clrs", DeprecationWarning, stacklevel=2)
        return to_dm_clrs
    if name != "CLRS30":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from nar.datasets.splits.datamodule import CLRS30

    return CLRS30
