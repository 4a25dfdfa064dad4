"""Modules that users import by a name that they no longer have.

An old name imports what took its place, with a warning, for one release.
"""

import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

MOVED = {
    "nar.callbacks": "nar.analysis.callbacks",
    "nar.checkpoint": "nar.training.checkpoint",
    "nar.latents": "nar.analysis.latents",
    "nar.linear": "nar.ops.linear",
    "nar.losses": "nar.model.losses",
    "nar.metrics": "nar.model.metrics",
    "nar.module": "nar.training.reasoner",
    "nar.scatter": "nar.ops.scatter",
    "nar.schedules": "nar.training.schedules",
    "nar.sparse_batch": "nar.sparse.batch",
    "nar.sparse_model": "nar.sparse.model",
    "nar.sparse_module": "nar.training.sparse_reasoner",
    "nar.text_report": "nar.analysis.answers",
    "nar.datasets.cache": "nar.datasets.splits.cache",
    "nar.datasets.compilation": "nar.datasets.splits.compilation",
    "nar.datasets.datamodule": "nar.datasets.splits.datamodule",
    "nar.datasets.graph_families": "nar.datasets.clrs30.families",
    "nar.datasets.recipe": "nar.datasets.clrs30.recipe",
    "nar.datasets.sparse": "nar.datasets.salsa.tasks",
    "nar.datasets.text_data": "nar.datasets.text.stream",
    "nar.datasets.text_datamodule": "nar.datasets.text.datamodule",
    "nar.datasets.tokenizer": "nar.datasets.text.tokenizer",
    "nar.processors.asynchronous_conv": "nar.processors.asynchronous.conv",
    "nar.processors.deep_sets": "nar.processors.pgn",
    "nar.processors.gatv2": "nar.processors.gat",
    "nar.processors.mpnn": "nar.processors.pgn",
    "nar.processors.triplet_gmpnn": "nar.processors.pgn",
}


class MovedModules(MetaPathFinder, Loader):
    """A finder and loader that Python asks for modules of old names."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """How to import a module of an old name; None for all others."""
        return ModuleSpec(fullname, self) if fullname in MOVED else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """A module that has what the one in its place has."""
        now = MOVED[spec.name]
        warnings.warn(f"{spec.name} is now {now}", DeprecationWarning, stacklevel=2)
        module, target = ModuleType(spec.name, f"The old name of {now}."), import_module(now)
        module.__getattr__ = lambda name: getattr(target, name)  # type: ignore[method-assign]
        module.__dir__ = lambda: dir(target)  # type: ignore[method-assign]
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Nothing: there is no code of its own."""


if not any(isinstance(finder, MovedModules) for finder in sys.meta_path):
    sys.meta_path.append(MovedModules())
