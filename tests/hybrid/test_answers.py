"""What a hybrid answers, and what its reasoner says alone."""
# Axes: B texts, L tokens.

from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from hybrids import ALGORITHMS, language_model, opened, reasoner
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from nar.datasets.text.stream import TextSample, grouped, text_samples
from nar.datasets.text.tokenizer import END, encode, text_tokenizer
from nar.hybrid import TransNAR
from nar.hybrid.answers import AnswerEnds, generate_answers, line_breaks, longest_answer, reasoner_outputs
from nar.model.metrics import definite

TOKENIZER = text_tokenizer()
CONTEXT = 160


def drawn() -> list[TextSample]:
    """Texts of several algorithms and lengths."""
    kinds = [("insertion_sort", 5), ("bfs", 4), ("bfs", 5), ("bfs", 4)]
    return [text_samples(name, num_nodes=n, num_samples=1, seed=i)[0] for i, (name, n) in enumerate(kinds)]


def hybrid(**settings: Any) -> TransNAR:
    """With the vocabulary of texts and open gates."""
    sizes = {"vocab_size": len(TOKENIZER), "max_position_embeddings": CONTEXT, "hidden_size": 32}
    model = language_model("llama", **sizes, eos_token_id=TOKENIZER.eos_token_id)
    torch.manual_seed(2)
    return opened(TransNAR(model, reasoner(), **settings))


def answers(model: TransNAR, texts: list[TextSample], max_new_tokens: int = 12, **generation: Any) -> list[str]:
    """To all at once."""
    prompts = [text.prompt for text in texts]
    return generate_answers(model, TOKENIZER, prompts, grouped(texts), max_new_tokens=max_new_tokens, **generation)


def test_texts_that_are_answered_together_are_answered_as_by_themselves() -> None:
    model, texts = hybrid(), drawn()
    together = answers(model, texts)
    assert together == [answers(model, [text])[0] for text in texts]
    assert len(set(together)) > 1
    assert all(together)


@pytest.mark.slow
def test_what_was_learned_is_answered_and_ends_there() -> None:
    model, texts = hybrid(), drawn()
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=0.01)
    tokens = [torch.tensor(encode(TOKENIZER, text.prompt + text.answer + "0")) for text in texts]
    labels = torch.nn.utils.rnn.pad_sequence(tokens, batch_first=True, padding_value=-100)
    for _ in range(120):
        loss = model(labels.clamp(min=0), grouped(texts), (labels >= 0).long(), labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert answers(model, texts, 40) == [text.answer for text in texts]
    for text, of_text in zip(texts, tokens, strict=True):
        with patch.object(model.language_model, "generate", wraps=model.language_model.generate) as generate:
            assert text.scores(answers(model, [text], 40)[0]).exact == 1
        stop = generate.call_args.kwargs["stopping_criteria"][0]
        assert [bool(stop(of_text[None, :end], None)) for end in (-2, -1)] == [False, True]


def test_what_follows_an_empty_line_is_no_part_of_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    more = torch.tensor([encode(TOKENIZER, "1\n\n2")])
    monkeypatch.setattr(TransNAR, "generate", lambda self, prompt, *_, **__: torch.cat([prompt, more], dim=1))
    assert answers(hybrid(), drawn()[:1]) == ["1\n\n"]


def test_an_answer_ends_with_the_token_for_it() -> None:
    model, texts = hybrid(), drawn()[:2]
    head = model.language_model.lm_head
    head.weight.data[TOKENIZER.eos_token_id] = 0
    head.bias = torch.nn.Parameter(torch.zeros(len(TOKENIZER)))
    head.bias.data[TOKENIZER.eos_token_id] = 1e3
    assert answers(model, texts) == ["", ""]


def test_answers_can_be_sampled() -> None:
    model, texts = hybrid(), drawn()[:2]
    torch.manual_seed(0)
    sampled = [answers(model, texts, do_sample=True)[0] for _ in range(2)]
    assert sampled[0] != sampled[1]


@pytest.mark.parametrize("mode", [True, False])
def test_answering_leaves_the_mode_as_it_was(mode: bool) -> None:
    model = hybrid().train(mode)
    answers(model, drawn()[:1], 1)
    assert model.training == model.language_model.training == mode


def test_an_answer_has_no_more_tokens_than_context_or_bound() -> None:
    model, (text,) = hybrid(), drawn()[:1]
    model.language_model.generation_config.eos_token_id = None
    left = CONTEXT - len(encode(TOKENIZER, text.prompt))
    lengths = [len(encode(TOKENIZER, answers(model, [text], n, suppress_tokens=[1])[0])) for n in (3, 1000)]
    assert lengths[0] <= 3
    assert lengths[1] <= left
    long = text._replace(prompt=text.prompt * 5)
    with pytest.raises(ValueError, match=rf"^expected at most {CONTEXT} tokens, the language model's context"):
        answers(model, [long])


def test_the_bound_has_room_for_true_answers() -> None:
    texts = [text.answer for text in drawn()]
    longest = max(len(encode(TOKENIZER, text)) for text in texts)
    assert longest < longest_answer(TOKENIZER, texts, 1.0) < longest_answer(TOKENIZER, texts, 2.0)


def byte_pairs() -> PreTrainedTokenizerFast:
    """A tokenizer with line breaks inside of tokens, and a hole in its vocabulary."""
    words = ["a", "\n", "]\n\n", "]\n", "\n\n", "\na", END]
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="a"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END)


@pytest.mark.parametrize(
    ("tokens", "ends"),
    [
        (["a", "\n"], False),
        (["\n", "\n"], True),
        (["a", "]\n\n"], True),
        (["a", "\n\n"], True),
        (["]\n", "\n"], True),
        (["]\n", "\na"], True),
        (["]\n", "a"], False),
        (["\n\n", "a"], False),
        (["]\n", None], False),
    ],
)
def test_an_empty_line_is_seen_however_it_is_cut(tokens: list[str | None], ends: bool) -> None:
    tokenizer = byte_pairs()
    vocabulary = tokenizer.get_vocab()
    row = [1_000 if token is None else vocabulary[token] for token in tokens]
    assert AnswerEnds(tokenizer)(torch.tensor([[0, *row]]), None).tolist() == [ends]


def test_line_breaks_are_looked_up_once() -> None:
    assert line_breaks(TOKENIZER) is line_breaks(TOKENIZER)


def test_outputs_of_the_reasoner_are_its_definite_ones_for_every_text() -> None:
    model, texts = hybrid(), drawn()
    assert model.reasoner is not None
    outputs = reasoner_outputs(model.reasoner, grouped(texts), len(texts))
    specs = reasoner().specs
    for text, given in zip(texts, outputs, strict=True):
        (group,) = grouped([text])
        expected = definite(specs[text.algorithm], model.reasoner(text.algorithm, group.features).outputs)
        assert given.keys() == expected.keys()
        for name, value in given.items():
            np.testing.assert_array_equal(value, expected[name][0].numpy())
        assert text.scores(text.answer_with(given)).shape == 1
    assert {text.algorithm for text in texts} < set(ALGORITHMS)


def test_a_text_without_a_graph_is_refused() -> None:
    model, texts = hybrid(), drawn()
    assert model.reasoner is not None
    with pytest.raises(ValueError, match=r"^expected one graph for each of 5 texts, given 0 for text 4$"):
        reasoner_outputs(model.reasoner, grouped(texts), 5)
