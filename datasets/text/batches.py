"""Texts in batches, as tokens: for the data module, and for whatever trains with Hugging Face's ``Trainer``."""
# Axes: B texts, L tokens.

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from nar.batch import NOT_SCORED, TextBatch
from nar.datasets.text.chat import chat_text
from nar.datasets.text.graphs import graph_of
from nar.datasets.text.stream import TextSample, grouped, sample_graph
from nar.errors import UserError
from nar.packed import pack_graphs


class _Tokens(NamedTuple):
    """Prompts and answers as tokens, see :class:`nar.batch.TextBatch`."""

    input_ids: Tensor
    attention_mask: Tensor
    labels: Tensor


def text_batch(tokenizer: PreTrainedTokenizerBase, samples: Sequence[TextSample], seed: int = 0) -> TextBatch:
    """Texts as tokens, with the answer and the end of each as labels."""
    tokens = _tokens(tokenizer, [(sample.prompt, sample.answer) for sample in samples])
    keys = tuple((sample.algorithm, sample.num_nodes) for sample in samples)
    num_tokens = tuple(tokens.attention_mask.sum(dim=-1).tolist())
    return TextBatch(seed, keys, *tokens, grouped(samples), num_tokens=num_tokens)


class TextCollator:
    """What makes a batch of texts: tokens, the answer and the end of each as labels, and the graphs as one tensor.

    To be given to Hugging Face's ``Trainer``, or to a ``DataLoader`` as its ``collate_fn``.

    Args:
        tokenizer: Of the language model.
        with_graphs: Whether the batch has the ``graphs``, which a language model alone does not take.
        as_chat: Whether prompts are questions of a user and answers those of an assistant, by the chat template of an
            instruction-tuned model (see :mod:`nar.datasets.text.chat`).
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, *, with_graphs: bool = True, as_chat: bool = False) -> None:
        self.tokenizer = tokenizer
        self.with_graphs = with_graphs
        self.as_chat = as_chat

    def __call__(self, texts: Sequence[TextSample | Mapping[str, Any]]) -> dict[str, Tensor]:
        """The arguments of a hybrid by name: ``input_ids``, ``attention_mask`` and ``labels``, [B, L], and ``graphs``.

        Args:
            texts: Of :func:`nar.datasets.text.text_samples`; or rows with ``question`` and ``answer``, as of
                :func:`nar.datasets.text.clrs_text_dataset`, of which the graphs are read from the questions.

        Raises:
            UserError: If a row has no question and answer, a question is not the prompt of a text, or the tokenizer
                has no chat template that would do.
        """
        pairs = list(map(_prompt_and_answer, texts))
        if self.as_chat:  # in whose template the end is
            pairs = [chat_text(self.tokenizer, prompt, answer.rstrip("\n")) for prompt, answer in pairs]
        batch = _tokens(self.tokenizer, pairs, ends=not self.as_chat)._asdict()
        if self.with_graphs:
            graphs = [sample_graph(x) if isinstance(x, TextSample) else graph_of(x["question"]) for x in texts]
            batch["graphs"] = pack_graphs(graphs)
        return batch


def _prompt_and_answer(text: TextSample | Mapping[str, Any]) -> tuple[str, str]:
    if isinstance(text, TextSample):
        return text.prompt, text.answer
    try:
        return text["question"], text["answer"]
    except KeyError as error:
        expected = "rows with question and answer (of a Trainer with remove_unused_columns=False)"
        raise UserError(f"expected {expected}, given {', '.join(text) or 'no columns'}") from error


def _tokens(tokenizer: PreTrainedTokenizerBase, texts: Sequence[tuple[str, str]], *, ends: bool = True) -> _Tokens:
    """The tokens of prompts and answers, with that of the end if it is to be added, padded on the right."""
    parts = [prompt for prompt, _ in texts] + [answer for _, answer in texts]
    both: Any = tokenizer(parts, add_special_tokens=False, verbose=False)["input_ids"]
    end = [tokenizer.eos_token_id] if ends and tokenizer.eos_token_id is not None else []
    rows = [(prompt, answer + end) for prompt, answer in zip(both[: len(texts)], both[len(texts) :], strict=True)]
    longest = max(len(prompt) + len(answer) for prompt, answer in rows)
    input_ids = torch.full((len(rows), longest), tokenizer.pad_token_id or 0)
    attention_mask, labels = torch.zeros_like(input_ids), torch.full_like(input_ids, NOT_SCORED)
    for row, (prompt, answer) in enumerate(rows):
        start, stop = len(prompt), len(prompt) + len(answer)
        input_ids[row, :stop] = torch.tensor(prompt + answer)
        attention_mask[row, :stop] = 1
        labels[row, start:stop] = input_ids[row, start:stop]
    return _Tokens(input_ids, attention_mask, labels)
