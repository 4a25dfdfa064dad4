"""Neural algorithmic reasoning: encode-process-decode models trained to execute algorithms."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from nar import moved  # noqa: F401 (modules of old names)

if TYPE_CHECKING:
    from nar.datasets import ALGORITHMS, CLRS30, sample
    from nar.processors import list_processors
    from nar.training.folders import list_pretrained
    from nar.training.reasoner import Reasoner

    __version__: str

__all__ = ["ALGORITHMS", "CLRS30", "Reasoner", "__version__", "list_pretrained", "list_processors", "sample"]

_MODULES = {
    "ALGORITHMS": "nar.datasets",
    "CLRS30": "nar.datasets",
    "Reasoner": "nar.training.reasoner",
    "list_pretrained": "nar.training.folders",
    "list_processors": "nar.processors",
    "sample": "nar.datasets",
}


def __getattr__(name: str) -> Any:
    """What users import from the top, and the version: found when first asked for, as PyTorch takes seconds to load."""
    if name == "__version__":
        from importlib.metadata import version

        return version("neural-algorithmic-reasoning")
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
