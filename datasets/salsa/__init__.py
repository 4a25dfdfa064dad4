"""The sparse tasks of SALSA-CLRS."""

from typing import TYPE_CHECKING, Any

from nar.datasets.salsa.algorithms import SPARSE_TASKS
from nar.datasets.salsa.graph import Graph, graph_of
from nar.datasets.salsa.published import published_tasks
from nar.datasets.salsa.tasks import SparseData, SparseTask

if TYPE_CHECKING:
    from nar.datasets.salsa.datamodule import SALSA

__all__ = ["SALSA", "SPARSE_TASKS", "Graph", "SparseData", "SparseTask", "graph_of", "published_tasks"]


def __getattr__(name: str) -> Any:
    """The data module, imported when first asked for: Lightning takes longer than all else that is needed to draw."""
    if name != "SALSA":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from nar.datasets.salsa.datamodule import SALSA

    return SALSA
