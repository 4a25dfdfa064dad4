"""Positions of tokens: consecutive ones beside padding, and randomised ones from a range longer than any text.

Source: Ruoss et al., "Randomized Positional Encodings Boost Length Generalization of Transformers", ACL 2023.
"""
# Axes: B texts, L tokens.

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel

from nar.hybrid.language_model import context_length

_READ_PADDING = ("recurrent_gemma", "rwkv", "xlstm")
"""Families whose recurrence goes through padding before a text as through tokens."""


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
        if not takes_positions(language_model):
            raise ValueError(f"expected a language model that is given positions, given {name}")
        if not _has_rotary_positions(language_model) and length is not None and maximum > length:
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

    def _replace(self, language_model: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        return args, self.replaced(kwargs)

    def replaced(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        """The arguments of a language model with drawn positions, if there are any, in the place of its own."""
        if self.drawn is None:
            return kwargs
        consecutive, mask = kwargs["position_ids"], kwargs.get("attention_mask")
        if mask is None:  # a text without one, whose positions are not consecutive, is taken for several texts
            mask = consecutive.new_ones(len(consecutive), int(consecutive[0, -1]) + 1)
        drawn = self.drawn.repeat_interleave(len(consecutive) // len(self.drawn), dim=0)  # for several answers
        return {**kwargs, "position_ids": drawn.gather(1, consecutive), "attention_mask": mask}


def takes_positions(language_model: PreTrainedModel) -> bool:
    """Whether a language model can be given positions that count from 0; such as RoBERTa take only their own."""
    makes_its_own = any(hasattr(module, "create_position_ids_from_input_ids") for module in language_model.modules())
    return "position_ids" in inspect.signature(language_model.forward).parameters and not makes_its_own


def may_be_padded_on_the_left(language_model: PreTrainedModel) -> bool:
    """Whether tokens come out the same beside padding on their left: their positions can be given, or are relative."""
    if language_model.config.get_text_config().model_type in _READ_PADDING:
        return False
    names = (name for name, _ in language_model.named_modules())
    return takes_positions(language_model) or not any("position" in name for name in names)


def check_padding(attention_mask: Tensor, input_ids: Tensor, *, may_be_left: bool) -> None:
    """Refuse a mask that does not fit texts, has padding between tokens, or on the left where it may not be.

    Args:
        attention_mask: [B, L], or more for tokens that are in a cache.
        input_ids: [B, L].
        may_be_left: See :func:`may_be_padded_on_the_left`.

    Raises:
        ValueError: With the text that is not padded as expected.
    """
    num_texts, num_tokens = input_ids.shape
    if attention_mask.dim() != 2 or len(attention_mask) != num_texts or attention_mask.shape[1] < num_tokens:
        expected = f"an attention_mask [{num_texts}, {num_tokens}]"
        raise ValueError(f"expected {expected}, given {list(attention_mask.shape)}")
    is_token = attention_mask != 0
    begins = is_token & ~functional.pad(is_token, (1, 0))[:, :-1]
    is_wrong = (begins.sum(dim=-1) > 1) | (attention_mask != is_token).any(dim=-1)
    if not may_be_left:
        is_wrong |= ~is_token[:, 0]
    if is_wrong.any():  # the only thing that a GPU is waited for
        row, where = int(is_wrong.int().argmax()), "around them" if may_be_left else "after them"
        raise ValueError(f"expected an attention_mask of 1 at tokens and 0 {where}, given another for text {row}")


def _has_rotary_positions(language_model: PreTrainedModel) -> bool:
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
