"""Neural algorithmic reasoning: encode-process-decode models trained to execute algorithms."""

from typing import Any

from nar import moved  # noqa: F401 (modules of old names)

__version__: str


def __getattr__(name: str) -> Any:
    """The version of the installed package, which takes a while to be looked up."""
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib.metadata import version

    return version("neural-algorithmic-reasoning")
