"""A model as it is when it is looked at and not trained."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from nar.model.unroll import EncodeProcessDecode
from nar.noise import Noise


@contextmanager
def evaluating(model: EncodeProcessDecode, noise: Noise | None = None) -> Iterator[None]:
    """The model in evaluation mode, without gradients and with this noise only; afterwards it is as it was."""
    was_training, own_noise = model.training, model.latent_noise
    model.latent_noise = noise
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.latent_noise = own_noise
        model.train(was_training)
