"""Tokenizers for CLRS-Text: a small one made for it, or any other of Hugging Face's that can express it."""

import re
import reprlib
from collections.abc import Mapping
from itertools import takewhile
from typing import Any

from nar.datasets.clrs30.samplers import CLRS_30
from nar.datasets.text.chat import PLAIN_TEMPLATE
from nar.datasets.text.format import asked_for, written_inputs
from nar.errors import UserError
from nar.tokenizer_files import tokenizer_of_files

try:
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast
except ModuleNotFoundError as error:
    raise ImportError('nar.datasets.text.tokenizer needs transformers: pip install "transformers>=5.24,<6"') from error

PAD, END, UNKNOWN = "<pad>", "<eos>", "<unk>"
_CHARACTERS = "0123456789.-+e[]() ,:|\n"
"""The characters of all that is no name: numbers, brackets and what separates them."""

NAMES: tuple[str, ...] = tuple(
    dict.fromkeys(
        name
        for algorithm in CLRS_30.values()
        for name in [
            algorithm.name,
            *written_inputs(algorithm),
            *(name for hints in (False, True) for name in asked_for(algorithm, hints=hints)),
            *("initial_trace", "trace"),
        ]
    )
)
"""The words of all texts."""

_WHOLE_NUMBERS = (
    "-1",  # of entries that are not scored
    *map(str, range(100)),
    *(f"{sign}{hundredths / 100}" for sign in ("", "-") for hundredths in range(200)),
)
"""The numbers that may have a token of their own: indices, and numbers of two decimals as texts have them."""
_SPACED = (*_WHOLE_NUMBERS, *(f" {number}" for number in _WHOLE_NUMBERS), "], [")
_WHOLE_NUMBER = r"(?: |(?<![\w.+-]))(?:-1|0|[1-9][0-9]?|-?[01]\.[0-9][1-9]?)(?![0-9.e])"
"""One of :data:`_WHOLE_NUMBERS` and the space before it, if there is one; no part of a longer number."""

EXAMPLE = f"{', '.join(NAMES)}:\n[[0 1 2], [3.4 -5e-06 7e+89]], (0, 1) | [2 0], 1\n\n"
"""A text that has every word and character that a text can have."""


def text_tokenizer(*, whole_numbers: bool = False) -> PreTrainedTokenizerFast:
    """A tokenizer whose tokens are names, single digits, and the other characters of texts one by one.

    It gives every text back letter by letter, and has a token for padding and one for the end. By its chat template,
    messages are texts as they are.

    Args:
        whole_numbers: Whether -1, 0 to 99 and numbers between -2 and 2 with up to two decimals are a token each, with
            the space before them, and so is what parts two rows; other numbers are spelled. Texts of two decimals have
            half as many tokens then, and all of one algorithm and size equally many.
    """
    words = [*NAMES, *_CHARACTERS]
    vocabulary = [PAD, END, UNKNOWN, *words, *(_SPACED if whole_numbers else ())]
    longest_first = sorted([*words, "], ["] if whole_numbers else words, key=len, reverse=True)
    patterns = [*([_WHOLE_NUMBER] if whole_numbers else []), *map(re.escape, longest_first)]
    indices = {word: index for index, word in enumerate(dict.fromkeys(vocabulary))}
    tokenizer = Tokenizer(models.WordLevel(indices, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("|".join(patterns)), "isolated")
    tokenizer.decoder = decoders.Fuse()
    special = {"pad_token": PAD, "eos_token": END, "unk_token": UNKNOWN}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, chat_template=PLAIN_TEMPLATE, **special)


def load_tokenizer(source: str | Mapping[str, str] | None = None) -> PreTrainedTokenizerBase:
    """The tokenizer of that name or in that folder, as Hugging Face's ``AutoTokenizer`` finds it, or that of these
    files (see :mod:`nar.tokenizer_files`); by default the one made for CLRS-Text.

    Raises:
        UserError: If there is none, or it cannot express the texts.
    """
    if source is None:
        return text_tokenizer()
    if isinstance(source, Mapping):
        return tokenizer_of_files(source)
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    except Exception as error:  # of what a file may hold, as many kinds as there are libraries that read it
        reason = str(error).strip().partition("\n")[0]
        raise UserError(f"expected the name or the folder of a tokenizer, given {source}: {reason}") from error
    encode(tokenizer, EXAMPLE)
    return tokenizer


def encode(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """The tokens of a text, without any that stand for its beginning or its end.

    Raises:
        UserError: If they do not give the text back.
    """
    tokens: list[int] = tokenizer.encode(text, add_special_tokens=False)
    back: Any = tokenizer.decode(tokens, clean_up_tokenization_spaces=False)
    if back != text:
        same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(text, back, strict=False)))
        name = getattr(tokenizer, "name_or_path", "") or type(tokenizer).__name__
        expected, given = reprlib.repr(text[same:]), reprlib.repr(back[same:])
        raise UserError(f"the tokenizer {name} cannot express the text: it makes {given} of {expected}")
    return tokens
