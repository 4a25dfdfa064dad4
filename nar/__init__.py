"""Neural algorithmic reasoning: encode-process-decode models trained to execute algorithms."""

from nar import moved  # noqa: F401 (modules of old names)
