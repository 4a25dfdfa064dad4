# Axes: B texts, L tokens.
from typing import Any

import pytest
import torch
from hybrids import CONTEXT, PAD, graph, hybrid, language_model
from torch import Tensor

from nar.batch import grouped
from nar.hybrid import TransNAR
from nar.hybrid.positions import consecutive_positions, random_positions

TEXTS = torch.tensor([[PAD, PAD, 5, 6, 7, 8], [9, 10, 11, 12, 13, 14]])
MASK = (TEXTS != PAD).long()
GRAPHS = grouped([graph("bfs", 4, 1), graph("dijkstra", 5, 2)])
FAMILIES = ("llama", "gpt_neox", "gpt2")  # rotary, rotary in a part of the width, learned


def seen(model: TransNAR) -> list[Tensor]:
    """The positions that the language model is given, call by call."""
    calls: list[Tensor] = []

    def keep(module: Any, args: Any, kwargs: Any) -> None:
        calls.append(kwargs["position_ids"])

    model.language_model.register_forward_pre_hook(keep, with_kwargs=True)
    return calls


def test_positions_are_drawn_without_replacement_and_in_order() -> None:
    drawn = random_positions(torch.tensor([20, 20, 5]), 20, 24)
    assert (drawn.diff(dim=-1)[:2] > 0).all()
    assert (drawn[2].diff()[:4] > 0).all()
    assert drawn.min() >= 0
    assert drawn.max() < 24
    assert torch.equal(random_positions(torch.tensor([24]), 24, 24)[0], torch.arange(24))


def test_every_position_is_as_likely_however_much_padding_a_text_has() -> None:
    drawn = random_positions(torch.full((4000,), 3), 7, 10)[:, :3]
    frequency = torch.bincount(drawn.flatten(), minlength=10) / 4000
    assert ((frequency - 0.3).abs() < 0.04).all()


def test_more_tokens_than_positions_are_refused() -> None:
    with pytest.raises(ValueError, match=r"expected at most as many tokens as there are positions, 4, given 5"):
        random_positions(torch.tensor([5]), 5, 4)


def test_consecutive_positions_begin_at_the_first_token() -> None:
    assert consecutive_positions(MASK).tolist() == [[0, 0, 0, 1, 2, 3], [0, 1, 2, 3, 4, 5]]


@pytest.mark.parametrize("family", FAMILIES)
def test_training_draws_ordered_positions_anew_for_every_batch(family: str) -> None:
    model = hybrid(family, max_position=CONTEXT).train()
    calls = seen(model)
    for _ in range(2):
        model(TEXTS, GRAPHS, MASK)
    first, second = calls
    assert not torch.equal(first, second)
    assert not torch.equal(first[0, 2:], first[1, :4])
    for positions in calls:
        assert (positions[0, 2:].diff() > 0).all()
        assert (positions[1].diff() > 0).all()
        assert positions.max() < CONTEXT
    assert max(int(positions.max()) for positions in calls) > TEXTS.shape[1]


def test_a_rotary_model_goes_beyond_its_context() -> None:
    model = hybrid("llama", max_position=8192).train()
    calls = seen(model)
    model(TEXTS, GRAPHS, MASK)
    assert CONTEXT < calls[0].max() < 8192


def test_positions_are_consecutive_in_evaluation_if_asked_for() -> None:
    model = hybrid("llama", max_position=CONTEXT, positions_in_evaluation="consecutive")
    plain = hybrid("llama")
    assert torch.equal(model(TEXTS, GRAPHS, MASK).logits, plain(TEXTS, GRAPHS, MASK).logits)
    model.train()
    assert not torch.allclose(model(TEXTS, GRAPHS, MASK).logits, plain(TEXTS, GRAPHS, MASK).logits)


def test_positions_are_drawn_in_evaluation_otherwise() -> None:
    model = hybrid("llama", max_position=CONTEXT)
    calls = seen(model)
    for _ in range(2):
        model(TEXTS, GRAPHS, MASK)
    assert not torch.equal(*calls)


@pytest.mark.parametrize("family", FAMILIES)
def test_generated_tokens_go_on_in_the_drawn_positions(family: str) -> None:
    model = hybrid(family, max_position=CONTEXT)
    calls = seen(model)
    answers = []
    for use_cache in (True, False):
        torch.manual_seed(0)
        answers.append(model.generate(TEXTS, GRAPHS, MASK, max_new_tokens=5, use_cache=use_cache))
    assert torch.equal(*answers)
    with_cache, without = torch.cat(calls[:5], dim=1), calls[-1]
    assert torch.equal(with_cache, without)
    assert (with_cache[1].diff() > 0).all()
    assert not (with_cache[1].diff() == 1).all()


def test_several_answers_to_a_text_have_its_positions() -> None:
    model = hybrid("llama", max_position=CONTEXT)
    calls = seen(model)
    model.generate(TEXTS, GRAPHS, MASK, max_new_tokens=3, num_return_sequences=2, do_sample=True)
    assert torch.equal(calls[0][0], calls[0][1])
    assert torch.equal(calls[0][2], calls[0][3])


@pytest.mark.parametrize("family", FAMILIES)
def test_generation_from_texts_without_padding_takes_them_for_one_text_each(family: str) -> None:
    model, graphs, answers = hybrid(family, max_position=CONTEXT), grouped([graph("bfs", 4, 1)]), []
    for use_cache in (True, False):  # without padding, transformers drops the mask
        torch.manual_seed(0)
        answers.append(model.generate(TEXTS[1:], graphs, max_new_tokens=8, use_cache=use_cache))
    assert torch.equal(*answers)


@pytest.mark.parametrize("family", FAMILIES)
def test_without_a_mask_a_text_is_still_one_text(family: str) -> None:
    model, texts = hybrid(family, max_position=CONTEXT), TEXTS[1:]
    graphs = grouped([graph("bfs", 4, 1)])
    logits = []
    for mask in (None, torch.ones_like(texts)):
        torch.manual_seed(0)
        logits.append(model(texts, graphs, mask).logits)
    assert torch.equal(*logits)


def test_more_positions_than_were_learned_are_refused() -> None:
    with pytest.raises(ValueError, match=r"expected max_position ≤ 64, as many as GPT2LMHeadModel .* given 8192"):
        TransNAR(language_model("gpt2"), max_position=8192)


def test_a_model_without_positions_is_refused() -> None:
    with pytest.raises(ValueError, match=r"expected a language model that is given positions, given BloomForCausalLM"):
        TransNAR(language_model("bloom"), max_position=8192)
