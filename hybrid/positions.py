"""Randomised positional encodings: tokens are given positions from a range longer than any text.

Source: Ruoss et al., "Randomized Positional Encodings Boost Length Generalization of Transformers", ACL 2023.
"""
# Axes: B texts, L tokens.

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from nar.hybrid.language_model import context_length


class RandomPositions:
    """Puts drawn positions in the place of consecutive ones, in a language model that has rotary or learned ones.

    Args:
        language_model: Of Hugging Face.
        maximum: How many positions there are to draw from.

    Raises:
        ValueError: If it takes no positions, or has learned fewer.
    """

    def __init__(self, language_model: PreTrainedModel, maximum: int) -> None:
        name, length = type(language_model).__name__, context_length(language_model)
        if "position_ids" not in inspect.signature(language_model.forward).parameters:
            raise ValueError(f"expected a language model that is given positions, given {name}")
        if not has_rotary_positions(language_model) and length is not None and maximum > length:
            raise ValueError(f"expected max_position ≤ {length}, as many as {name} has learned, given {maximum}")
        self.maximum = maximum
        self.drawn: Tensor | None = None
        language_model.register_forward_pre_hook(self._replace, with_kwargs=True)

    @contextmanager
    def draw(self, attention_mask: Tensor, num_new: int = 0) -> Iterator[None]:
        """Positions for these texts [B, L], and for so many tokens that are to follow, as long as this is entered.

        The language model has to be given ``position_ids`` meanwhile, see :func:`consecutive_positions`.
        """
        before = self.drawn
        num_tokens = attention_mask.shape[1] + num_new
        self.drawn = random_positions(attention_mask.sum(dim=-1) + num_new, num_tokens, self.maximum)
        try:
            yield
        finally:
            self.drawn = before

    def _replace(self, language_model: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]] | None:
        if self.drawn is None:
            return None
        consecutive, mask = kwargs["position_ids"], kwargs.get("attention_mask")
        if mask is None:  # a text without one, whose positions are not consecutive, is taken for several texts
            mask = consecutive.new_ones(len(consecutive), int(consecutive[0, -1]) + 1)
        drawn = self.drawn.repeat_interleave(len(consecutive) // len(self.drawn), dim=0)  # for several answers
        return args, {**kwargs, "position_ids": drawn.gather(1, consecutive), "attention_mask": mask}


def has_rotary_positions(language_model: PreTrainedModel) -> bool:
    """Whether positions are angles, of which there are as many as one likes; else each has its own weights."""
    return any("rotary" in name for name, _ in language_model.named_modules())


def random_positions(lengths: Tensor, num_tokens: int, maximum: int) -> Tensor:
    """For each text the positions of its tokens, drawn from 0 to `maximum` - 1 without replacement, in order.

    Args:
        lengths: Each text's own number of tokens, [B].
        num_tokens: L.
        maximum: How many positions there are.

    Returns:
        [B, L]; beyond a text's length, `maximum` - 1.

    Raises:
        ValueError: If there are more tokens than positions.

    Source:
        The paper, where all texts of a batch are given the same positions.
    """
    if num_tokens > maximum:
        raise ValueError(f"expected at most as many tokens as there are positions, {maximum}, given {num_tokens}")
    drawn = torch.rand(len(lengths), maximum, device=lengths.device).argsort(dim=-1)[:, :num_tokens]
    is_beyond = torch.arange(num_tokens, device=lengths.device) >= lengths[:, None]
    return drawn.masked_fill(is_beyond, maximum - 1).sort(dim=-1).values


def consecutive_positions(attention_mask: Tensor) -> Tensor:
    """0, 1, 2, ... from each text's own first token on, [B, L]; 0 at padding before it."""
    return (attention_mask.long().cumsum(dim=-1) - 1).clamp(min=0)
