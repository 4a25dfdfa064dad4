"""A model as it is when it is looked at and not trained."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from nar.model.unroll import EncodeProcessDecode
from nar.noise import Noise


@contextmanager
def evaluating(model: torch.nn.Module) -> Iterator[None]:
    """The model in evaluation mode and without gradients; afterwards each of its modules is in the mode it was in."""
    were_training = [module for module in model.modules() if module.training] if model.training else []
    if were_training:
        model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module in were_training:
            module.training = True


@contextmanager
def with_noise(model: EncodeProcessDecode, noise: Noise | None) -> Iterator[None]:
    """The model with this latent noise, or with none, in place of its own."""
    own = model.latent_noise
    model.latent_noise = noise
    try:
        yield
    finally:
        model.latent_noise = own


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the memory of a device, or the machine's, does not hold what was computed."""
    is_allocator = isinstance(error, RuntimeError) and "memory" in str(error)  # a CPU's raises a plain RuntimeError
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or is_allocator
