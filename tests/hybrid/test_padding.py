"""What stands at padding, and on which side, changes nothing of what comes out at tokens."""

# Axes: B texts, L tokens.
from typing import Any

import pytest
import torch
from hybrids import CONTEXT, FAMILIES, OTHER_FAMILIES, PAD, RIGHT_FAMILIES, graph, hybrid
from torch import Tensor

from nar.batch import grouped
from nar.hybrid import TransNAR

TEXTS = torch.tensor(
    [[9, 9, 9, 5, 6, 7, 8], [9, 10, 11, 12, 13, 14, 15], [3, 15, 16, 3, 9, 9, 9], [9, 9, 17, 18, 19, 20, 9]]
)
MASK = torch.tensor([[0, 0, 0, 1, 1, 1, 1], [1] * 7, [1, 1, 1, 1, 0, 0, 0], [0, 0, 1, 1, 1, 1, 0]])
GRAPHS = [graph("bfs", 4, 1), graph("dijkstra", 5, 2), graph("bfs", 6, 3), graph("dijkstra", 4, 4)]
ON_THE_LEFT, ON_THE_RIGHT = [0, 1], [1, 2]  # texts that are padded there, or nowhere


@torch.no_grad()
def logits_at_tokens(model: TransNAR, rows: list[int], **settings: Any) -> list[Tensor]:
    """Of some of the texts, in one batch."""
    logits = model(TEXTS[rows], grouped([GRAPHS[row] for row in rows]), MASK[rows], **settings).logits
    return [of_text[MASK[row] == 1] for row, of_text in zip(rows, logits, strict=True)]


@torch.no_grad()
def logits_alone(model: TransNAR, row: int, **settings: Any) -> Tensor:
    """Of one of the texts without its padding."""
    alone: Tensor = model(TEXTS[row : row + 1, MASK[row] == 1], grouped([GRAPHS[row]]), **settings).logits[0]
    return alone


def assert_padding_changes_nothing(model: TransNAR, rows: list[int], **settings: Any) -> None:
    """Fail unless texts in one batch have the logits that each has by itself."""
    for row, found in zip(rows, logits_at_tokens(model, rows, **settings), strict=True):
        torch.testing.assert_close(found, logits_alone(model, row, **settings), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", [*FAMILIES, *OTHER_FAMILIES])
def test_padding_on_either_side_changes_nothing(family: str) -> None:
    assert_padding_changes_nothing(hybrid(family), [0, 1, 2, 3])


@pytest.mark.parametrize("family", RIGHT_FAMILIES)
def test_padding_on_the_left_is_refused_where_it_would_be_counted(family: str) -> None:
    model = hybrid(family)
    assert_padding_changes_nothing(model, ON_THE_RIGHT)
    for forward in (model, model.generate):
        with pytest.raises(ValueError, match=r"expected an attention_mask of 1 at tokens and 0 after .* for text 0$"):
            forward(TEXTS[ON_THE_LEFT], grouped([GRAPHS[row] for row in ON_THE_LEFT]), MASK[ON_THE_LEFT])


@pytest.mark.slow
@pytest.mark.parametrize("family", [*FAMILIES, *OTHER_FAMILIES])
def test_answers_are_those_of_each_text_alone_with_and_without_the_cache(family: str) -> None:
    model, graphs = hybrid(family), grouped([GRAPHS[row] for row in ON_THE_LEFT])
    texts, mask = TEXTS[ON_THE_LEFT], MASK[ON_THE_LEFT]
    cached, uncached = (
        model.generate(texts, graphs, mask, max_new_tokens=4, do_sample=False, use_cache=use_cache)
        for use_cache in (True, False)
    )
    assert torch.equal(cached, uncached)
    for row, answer in zip(ON_THE_LEFT, cached, strict=True):
        text = TEXTS[row : row + 1, MASK[row] == 1]
        for _ in range(4):
            text = torch.cat([text, model(text, grouped([GRAPHS[row]])).logits[:, -1:].argmax(dim=-1)], dim=1)
        assert torch.equal(answer[-4:], text[0, -4:])


@pytest.mark.parametrize("family", ["llama", "gpt_neox", "gpt2", "opt"])
def test_padding_changes_nothing_between_drawn_positions(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def drawn(lengths: Tensor, num_tokens: int, maximum: int) -> Tensor:
        return (3 * torch.arange(num_tokens) + 1).expand(len(lengths), -1)

    model = hybrid(family, max_position=CONTEXT)
    monkeypatch.setattr("nar.hybrid.positions.random_positions", drawn)
    assert_padding_changes_nothing(model, [0, 1, 2, 3])


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_text_goes_on_from_its_cache(family: str) -> None:
    model, graphs = hybrid(family), grouped(GRAPHS[:2])
    with torch.no_grad():
        whole = model(TEXTS[:2], graphs, MASK[:2]).logits
        start = model(TEXTS[:2, :5], graphs, MASK[:2, :5], use_cache=True)
        rest = model(TEXTS[:2, 5:], graphs, MASK[:2], cache=start.cache).logits
    torch.testing.assert_close(rest, whole[:, 5:], rtol=1e-4, atol=1e-4)


def test_where_positions_are_drawn_none_are_known_of_a_cache() -> None:
    model, graphs = hybrid(max_position=CONTEXT), grouped(GRAPHS[:2])
    start = model(TEXTS[:2, :5], graphs, MASK[:2, :5], use_cache=True)
    with pytest.raises(ValueError, match=r"expected no cache in forward where positions are drawn, given one"):
        model(TEXTS[:2, 5:], graphs, MASK[:2], cache=start.cache)


@pytest.mark.parametrize("mask", [[1, 1, 0, 1, 1, 1, 1], [0, 1, 0, 0, 0, 1, 1], [0, 0, 2, 2, 2, 2, 2]])
def test_a_mask_with_holes_or_other_numbers_is_refused(mask: list[int]) -> None:
    given = torch.tensor([[1] * 7, mask])
    for family in ("llama", "bart"):
        model = hybrid(family)
        for forward in (model, model.generate):
            with pytest.raises(ValueError, match=r"expected an attention_mask of 1 at tokens and 0 .* for text 1$"):
                forward(TEXTS[:2], grouped(GRAPHS[:2]), given)


@pytest.mark.parametrize("shape", [(1, 7), (2, 6), (2, 1, 7)])
def test_a_mask_of_other_texts_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected an attention_mask \[2, 7\], given \["):
        hybrid()(TEXTS[:2], grouped(GRAPHS[:2]), torch.ones(shape))


def test_a_mask_may_be_of_booleans() -> None:
    model, graphs = hybrid("gpt2"), grouped(GRAPHS)
    assert torch.equal(model(TEXTS, graphs, MASK.bool()).logits, model(TEXTS, graphs, MASK).logits)


def test_generation_goes_on_from_prompts_that_end_in_tokens() -> None:
    with pytest.raises(ValueError, match=r"expected padding on the left alone of prompts to go on from, given some on"):
        hybrid().generate(TEXTS[ON_THE_RIGHT], grouped(GRAPHS[1:3]), MASK[ON_THE_RIGHT], max_new_tokens=2)


def test_positions_that_are_given_are_kept() -> None:
    model, graphs = hybrid("gpt2"), grouped(GRAPHS[:2])
    positions = torch.arange(7).expand(2, -1) + 3
    given = model(TEXTS[:2], graphs, MASK[:2], position_ids=positions).logits
    assert not torch.allclose(given, model(TEXTS[:2], graphs, MASK[:2]).logits)


def test_padding_tokens_are_not_told_by_their_number() -> None:
    model, graphs = hybrid("gpt2"), grouped(GRAPHS)
    one, other = (model(texts, graphs, MASK).logits for texts in (TEXTS, TEXTS.masked_fill(MASK == 0, PAD)))
    assert torch.equal(one[MASK == 1], other[MASK == 1])
