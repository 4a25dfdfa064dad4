"""Answers to prompts of CLRS-Text: those that a language model writes, and the outputs of its reasoner alone."""
# Axes: B texts, L tokens, G graphs of one group, V tokens of a vocabulary.

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase, StoppingCriteria

from nar.batch import AnyGraphs, NumpyArray
from nar.hybrid.states import check_graphs
from nar.hybrid.transnar import TransNAR
from nar.model.heads import Heads
from nar.model.metrics import definite
from nar.model.unroll import EncodeProcessDecode

_END_OF_ANSWER = "\n\n"


def generate_answers(
    model: TransNAR,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    graphs: Sequence[AnyGraphs] | Tensor = (),
    *,
    max_new_tokens: int,
    **generation: Any,
) -> list[str]:
    """What the model answers to each prompt, up to the empty line that ends an answer or to the end of the sequence.

    Prompts of similar lengths are fastest together: they are padded to the longest.

    Args:
        model: A hybrid, or a language model alone; put into evaluation mode for the time.
        tokenizer: Of the language model.
        prompts: B texts.
        graphs: The graph of each, as for :meth:`TransNAR.forward`; on any device.
        max_new_tokens: So many for each answer, fewer where the context ends; see :func:`longest_answer`.
        **generation: Of `generate`: ``do_sample``, ``temperature``, ...; by default the answers are greedy.

    Raises:
        ValueError: As :meth:`TransNAR.generate`.
    """
    device = next(model.parameters()).device
    input_ids, attention_mask = (x.to(device) for x in _padded(tokenizer, prompts))
    num_tokens = input_ids.shape[1]
    if model.context_length is not None:
        max_new_tokens = max(1, min(max_new_tokens, model.context_length - num_tokens))
    settings = {"do_sample": False, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": _pad(tokenizer)}
    was_training = model.training
    try:
        tokens = model.eval().generate(
            input_ids,
            graphs if isinstance(graphs, Tensor) else _on(device, graphs),
            attention_mask,
            max_new_tokens=max_new_tokens,
            stopping_criteria=[AnswerEnds(tokenizer)],
            **{**settings, **generation},
        )
    finally:
        model.train(was_training)
    new = tokenizer.batch_decode(tokens[:, num_tokens:], skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return ["".join(text.partition(_END_OF_ANSWER)[:2]) for text in new]


def longest_answer(tokenizer: PreTrainedTokenizerBase, answers: Sequence[str], margin: float = 1.25) -> int:
    """How many tokens to allow for, from answers that are true, and so much room to be wrong in."""
    lengths = map(len, tokenizer(list(answers), add_special_tokens=False)["input_ids"])
    return int(margin * max(lengths)) + 2  # the token that ends the sequence, and one more


def _padded(tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
    """The tokens of prompts, padded on the left, and 1 where there is no padding, [B, L]."""
    tokens = tokenizer(list(prompts), add_special_tokens=False)["input_ids"]
    longest = max(map(len, tokens))
    padded = [[_pad(tokenizer)] * (longest - len(some)) + some for some in tokens]
    mask = [[0] * (longest - len(some)) + [1] * len(some) for some in tokens]
    return torch.tensor(padded), torch.tensor(mask)


def _pad(tokenizer: PreTrainedTokenizerBase) -> int:
    """The token for padding; of tokenizers without one, that of the end, or any."""
    tokens = (tokenizer.pad_token_id, tokenizer.eos_token_id, 0)
    return int(next(token for token in tokens if token is not None))


def _on(device: torch.device, graphs: Sequence[AnyGraphs]) -> list[AnyGraphs]:
    """The graphs of texts, on a device."""
    return [group._replace(features=group.features.to(device)) for group in graphs]


class AnswerEnds(StoppingCriteria):  # type: ignore[misc]
    """Stops each text at the first empty line.

    (What transformers has for `stop_strings` takes tokenizers alone that can express any text.)
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.line_breaks = line_breaks(tokenizer)

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Tensor:
        """Whether the last token of each text ends an empty line, [B]."""
        table = self.line_breaks = self.line_breaks.to(input_ids.device)
        before, last = table[:, input_ids[:, -2:].clamp(max=table.shape[1] - 1)].unbind(dim=-1)
        return last[0] | (before[1] & last[2])


@lru_cache(maxsize=1)
def line_breaks(tokenizer: PreTrainedTokenizerBase) -> Tensor:
    """Whether a token has an empty line, ends with a line break, begins with one, [3, V + 1]; the last is unknown."""
    texts = tokenizer.batch_decode([[token] for token in range(len(tokenizer))], clean_up_tokenization_spaces=False)
    rows = [(_END_OF_ANSWER in text, text.endswith("\n"), text.startswith("\n")) for text in [*texts, ""]]
    return torch.tensor(rows).T.contiguous()


@torch.no_grad()
def reasoner_outputs(
    reasoner: EncodeProcessDecode, graphs: Sequence[AnyGraphs], num_texts: int
) -> list[dict[str, NumpyArray]]:
    """The definite outputs of the reasoner by name for the graph of each text (see :func:`nar.model.metrics.definite`).

    Args:
        reasoner: In evaluation mode.
        graphs: The graph of each text, on any device.
        num_texts: How many texts there are.

    Raises:
        ValueError: If a text has no graph, or several, or a graph is not what its algorithm is given.
    """
    graphs = _on(next(reasoner.parameters()).device, graphs)
    check_graphs(reasoner, graphs, num_texts)
    by_text = dict(output for group in graphs for output in _outputs(reasoner, group))
    return [by_text[text] for text in range(num_texts)]


def _outputs(reasoner: EncodeProcessDecode, group: AnyGraphs) -> Iterator[tuple[int, dict[str, NumpyArray]]]:
    """The texts of a group and the outputs of each."""
    heads = reasoner.heads[group.algorithm]
    assert isinstance(heads, Heads)
    logits = reasoner(group.algorithm, group.features, with_hints=False).outputs
    outputs = {name: value.cpu().numpy() for name, value in definite(heads.outputs, logits).items()}
    for place, text in enumerate(group.rows):
        yield text, {name: value[place] for name, value in outputs.items()}
