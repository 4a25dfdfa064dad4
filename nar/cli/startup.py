"""What a command that runs a model does before all else: how its process waits, and how Lightning is imported."""

import logging
import warnings
from importlib import import_module

from nar.cli.optional import compiler_put_off, taken_for_missing
from nar.ops.process import wait_passively

_SAYS_NOTHING = (
    ".*does not have many workers.*",  # splits are in memory and need none
    ".*Checkpoint directory .* exists and is not empty.*",
    ".*LeafSpec.*",  # Lightning's, beside torch 2.13
    ".*sync_dist=True.*",  # what is logged is of all processes already
    ".*resuming from a checkpoint that ended before the epoch ended.*",  # the stream of data goes on where it was
    r"\s*Dump of a value that does not round-trip",  # pairs, which are lists in YAML: optimizers take both
    ".*in eval mode at the start of training.*",  # a frozen reasoner
)
"""Warnings that ask for nothing that a user could do."""


wait_passively()  # before torch is imported
with taken_for_missing("matplotlib", "scipy", "transformers"), compiler_put_off():
    import_module("lightning.pytorch")


def silence_noise() -> None:
    """Have neither warnings nor lines of Lightning's be printed that say nothing about a run."""
    for message in _SAYS_NOTHING:
        warnings.filterwarnings("ignore", message=message)
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(
        import_module("nar.training.progress").is_no_noise
    )
