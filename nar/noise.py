"""Noise in the latent space: what becomes of the node states after a step of the processor.

Source: Mirjanić et al., "Latent Space Representations of Neural Algorithmic Reasoners", LoG 2023, and the code of its
experiments. What they ran in evaluation alone may be drawn in training here, and have another scale.
"""
# Axes: B graphs, N nodes, H hidden, K directions.

import math
from abc import ABC, abstractmethod
from typing import Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from nar.configuration import KeepsArguments
from nar.files import check_file

When = Literal["always", "training", "evaluation"]


class Noise(KeepsArguments, nn.Module, ABC):
    """The base of what changes node states after a step, with numbers drawn from torch's generator.

    Args:
        when: In which modes it does.
    """

    def __init__(self, when: When = "always") -> None:
        super().__init__()
        if when not in ("always", "training", "evaluation"):
            raise ValueError(f"expected when 'always', 'training' or 'evaluation', given {when!r}")
        self.when = when

    def forward(self, hidden: Tensor, is_last: Tensor) -> Tensor:
        """The states that decoders and the next step are given, [B, N, H].

        Args:
            hidden: The states that the processor has made, [B, N, H].
            is_last: Whether it was the graph's last step, [B].
        """
        is_on = self.when == "always" or (self.when == "training") == self.training
        return self.changed(hidden, is_last) if is_on else hidden

    @abstractmethod
    def changed(self, hidden: Tensor, is_last: Tensor) -> Tensor:
        """The changed states, [B, N, H], in the modes in which there is noise."""


class Uniform(Noise):
    """Adds normal noise of no direction in particular: of variance ``scale² / H`` in every entry.

    So the expected square of its length is ``scale²``.

    Args:
        scale: As above; 1 in the paper.
        when: As in :class:`Noise`.
    """

    def __init__(self, scale: float = 1.0, *, when: When = "always") -> None:
        super().__init__(when)
        self.scale = _checked_scale(scale)

    def changed(self, hidden: Tensor, is_last: Tensor) -> Tensor:
        """See :meth:`Noise.changed`."""
        return hidden + self.scale / math.sqrt(hidden.shape[-1]) * torch.randn_like(hidden)


class Corrupt(Noise):
    """Puts normal noise of variance ``scale²`` in the place of all states after a graph's last step.

    Args:
        scale: As above; 1 in the paper.
        when: As in :class:`Noise`.
    """

    def __init__(self, scale: float = 1.0, *, when: When = "always") -> None:
        super().__init__(when)
        self.scale = _checked_scale(scale)

    def changed(self, hidden: Tensor, is_last: Tensor) -> Tensor:
        """See :meth:`Noise.changed`."""
        return torch.where(is_last[:, None, None], self.scale * torch.randn_like(hidden), hidden)


class AlongDirections(Noise):
    """The base of noise by directions of the latent space; in the paper, principal components of states of many runs.

    Args:
        directions: A safetensors file with ``directions``, [K, H]. Their span alone counts: they are made orthonormal.
        when: As in :class:`Noise`.
    """

    directions: Tensor

    def __init__(self, directions: str, *, when: When = "always") -> None:
        super().__init__(when)
        self.register_buffer("directions", read_directions(directions), persistent=False)

    def projected(self, hidden: Tensor) -> Tensor:
        """The part of the states in the span of the directions, [B, N, H]."""
        directions = self.fitting(hidden)
        return hidden @ directions.mT @ directions

    def fitting(self, hidden: Tensor) -> Tensor:
        """The directions, [K, H], once they are known to have the width of the states.

        Raises:
            ValueError: If they are of another width.
        """
        if self.directions.shape[1] != hidden.shape[-1]:
            raise ValueError(f"expected directions of width {hidden.shape[-1]}, given {self.directions.shape[1]}")
        return self.directions.to(hidden.dtype)


class Directional(AlongDirections):
    """Adds normal noise in the span of the directions, of variance ``scale²`` along each.

    Args:
        directions: As in :class:`AlongDirections`.
        scale: As above; 1 in the paper.
        when: As in :class:`Noise`.
    """

    def __init__(self, directions: str, scale: float = 1.0, *, when: When = "always") -> None:
        super().__init__(directions, when=when)
        self.scale = _checked_scale(scale)

    def changed(self, hidden: Tensor, is_last: Tensor) -> Tensor:
        """See :meth:`Noise.changed`."""
        directions = self.fitting(hidden)
        return hidden + self.scale * hidden.new_empty(*hidden.shape[:-1], len(directions)).normal_() @ directions


class Project(AlongDirections):
    """Keeps the part of the states in the span of the directions alone; nothing is drawn."""

    def changed(self, hidden: Tensor, is_last: Tensor) -> Tensor:
        """See :meth:`Noise.changed`."""
        return self.projected(hidden)


class Discard(AlongDirections):
    """Takes away the part of the states in the span of the directions; nothing is drawn."""

    def changed(self, hidden: Tensor, is_last: Tensor) -> Tensor:
        """See :meth:`Noise.changed`."""
        return hidden - self.projected(hidden)


def _checked_scale(scale: float) -> float:
    """`scale`, once it is known to be finite and not negative."""
    if not 0 <= scale < float("inf"):
        raise ValueError(f"expected a scale of at least 0, given {scale}")
    return scale


def read_directions(path: str) -> Tensor:
    """The ``directions`` in a safetensors file as orthonormal rows, [K, H].

    Raises:
        ValueError: If there is no such file or no such tensor in it, or its rows do not span K directions.
    """
    try:
        check_file(path)
        given = load_file(path).get("directions")
    except (OSError, SafetensorError) as error:
        raise ValueError(f"expected a safetensors file of directions, given {path}: {error}") from error
    if given is None or given.dim() != 2 or torch.linalg.matrix_rank(given.double()) < len(given):
        shape = None if given is None else list(given.shape)
        raise ValueError(f"expected independent rows as 'directions' [K, H] in {path}, given {shape}")
    orthonormal: Tensor = torch.linalg.qr(given.double().mT).Q.mT
    return orthonormal.float().contiguous()
