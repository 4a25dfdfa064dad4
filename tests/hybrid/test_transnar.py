# Axes: B texts, L tokens.
import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hybrids import CONTEXT, FAMILIES, PAD, graph, hybrid, language_model, reasoner
from torch import Tensor

from nar.batch import grouped
from nar.hybrid import TransNAR
from nar.training.cuda_graphs import Recorder
from nar.training.sparse_reasoner import SparseReasoner

TEXTS = torch.tensor([[PAD, PAD, 5, 6, 7, 8], [9, 10, 11, 12, 13, 14], [PAD, 3, 15, 16, 3, 17]])
MASK = (TEXTS != PAD).long()
ALL = [graph("bfs", 4, 1), graph("dijkstra", 5, 2), graph("bfs", 6, 3)]
GRAPHS = grouped(ALL)


def positions(mask: Tensor | None) -> Tensor | None:
    """Of tokens, counted from each text's first."""
    return None if mask is None else (mask.cumsum(dim=-1) - 1).clamp(min=0)


def loss(model: TransNAR) -> Tensor:
    """Of the batch."""
    value: Tensor = model(TEXTS, GRAPHS, MASK, labels=TEXTS).loss
    return value


def gradients(model: torch.nn.Module) -> dict[str, Tensor | None]:
    """Of every parameter."""
    return {name: None if p.grad is None else p.grad.clone() for name, p in model.named_parameters()}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("mask", [MASK, None])
def test_a_language_model_starts_bit_equal(family: str, mask: Tensor | None) -> None:
    model = language_model(family)
    before = model(input_ids=TEXTS, attention_mask=mask, position_ids=positions(mask)).logits
    assert torch.equal(TransNAR(model, reasoner())(TEXTS, GRAPHS, mask).logits, before)


@pytest.mark.parametrize("family", FAMILIES)
def test_open_gates_let_a_text_read_its_own_graph_after_every_block(family: str) -> None:
    model = hybrid(family)
    logits = model(TEXTS, GRAPHS, MASK).logits
    other = model(TEXTS, grouped([ALL[0], graph("dijkstra", 5, 9), ALL[2]]), MASK).logits
    assert torch.equal(other[::2], logits[::2])
    assert not torch.allclose(other[1], logits[1])
    for attention in model.cross_attention:
        with torch.no_grad():
            attention.alpha.zero_()
        assert not torch.allclose(model(TEXTS, GRAPHS, MASK).logits, logits)
        torch.nn.init.constant_(attention.alpha, 1.0)


def test_a_language_model_that_is_called_by_itself_is_as_it_was() -> None:
    model = hybrid()
    expected = language_model()(TEXTS).logits
    model(TEXTS, GRAPHS)
    assert torch.equal(model.language_model(TEXTS).logits, expected)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("do_sample", [False, True])
def test_generation_is_the_same_with_and_without_the_cache(family: str, do_sample: bool) -> None:
    model, answers = hybrid(family), []
    for use_cache in (True, False):
        torch.manual_seed(3)
        settings = {"max_new_tokens": 6, "do_sample": do_sample, "use_cache": use_cache}
        answers.append(model.generate(TEXTS, GRAPHS, MASK, **settings))
    assert torch.equal(*answers)
    assert answers[0].shape == (3, 12)


@pytest.mark.parametrize("family", FAMILIES)
def test_generation_takes_the_likeliest_tokens_of_each_text_alone(family: str) -> None:
    model = hybrid(family)
    together = model.generate(TEXTS, GRAPHS, MASK, max_new_tokens=6)
    for index in range(3):
        text, own = TEXTS[index : index + 1, MASK[index] == 1], grouped([ALL[index]])
        for _ in range(6):
            text = torch.cat([text, model(text, own).logits[:, -1:].argmax(dim=-1)], dim=1)
        assert torch.equal(together[index, 6:], text[0, -6:])


@pytest.mark.parametrize("settings", [{"num_beams": 3}, {"num_beams": 3, "num_return_sequences": 2}])
def test_several_beams_of_a_text_read_its_graph(settings: dict[str, Any]) -> None:
    model, number = hybrid(), settings.get("num_return_sequences", 1)
    together = model.generate(TEXTS, GRAPHS, MASK, max_new_tokens=5, **settings)
    for index in range(3):
        text = TEXTS[index : index + 1, MASK[index] == 1]
        alone = model.generate(text, grouped([ALL[index]]), max_new_tokens=5, **settings)
        assert torch.equal(together[number * index : number * (index + 1), 6:], alone[:, -5:])


def test_states_are_computed_once_for_a_prompt() -> None:
    model, calls = hybrid(), []
    assert model.reasoner is not None
    model.reasoner.processor.register_forward_hook(lambda *_: calls.append(None))
    model(TEXTS, GRAPHS, MASK)
    once = len(calls)
    model.generate(TEXTS, GRAPHS, MASK, max_new_tokens=6)
    assert len(calls) == 2 * once


def test_steps_per_block_are_taken_between_blocks() -> None:
    one, two = hybrid(), hybrid(steps_per_block=2)
    assert not torch.allclose(one(TEXTS, GRAPHS, MASK).logits, two(TEXTS, GRAPHS, MASK).logits)


def test_a_frozen_reasoner_stays_as_it_is() -> None:
    frozen = reasoner(dropout=0.5)
    model = TransNAR(language_model(), frozen).train()
    before = copy.deepcopy(frozen.model.state_dict())
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.1)
    losses = []
    for _ in range(3):
        optimizer.zero_grad()
        losses.append(loss(model))
        assert torch.equal(loss(model), losses[-1])  # without dropout
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < losses[0]
    assert all(parameter.grad is None for parameter in frozen.model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in frozen.model.state_dict().items())
    assert model.training
    assert not frozen.model.training


def test_a_reasoner_that_is_not_frozen_learns() -> None:
    model = hybrid(freeze_reasoner=False).train()
    assert model.reasoner is not None
    assert model.reasoner.training
    loss(model).backward()
    processor = model.reasoner.processor
    assert any(p.grad is not None and p.grad.any() for p in processor.parameters())
    assert not model.eval().reasoner.training


def test_gradients_reach_everything_that_is_trained() -> None:
    model = hybrid().train()
    loss(model).backward()
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert not any(name.startswith("reasoner") for name in trained)
    assert [name for name, parameter in trained.items() if parameter.grad is None or not parameter.grad.any()] == []


def test_blocks_that_are_computed_again_read_the_graphs_of_their_batch() -> None:
    plain, again = hybrid().train(), hybrid().train()
    again.language_model.activation_checkpointing_enable()
    others = grouped([ALL[2], graph("dijkstra", 4, 8), ALL[0]])
    for model in (plain, again):
        (loss(model) + model(TEXTS, others, MASK, labels=TEXTS).loss).backward()
    of_plain, of_again = gradients(plain), gradients(again)
    for name, gradient in of_plain.items():
        torch.testing.assert_close(of_again[name], gradient)


@pytest.mark.parametrize("family", FAMILIES)
def test_without_a_reasoner_it_is_the_language_model(family: str) -> None:
    model = language_model(family)
    baseline = TransNAR(model)
    before = model(TEXTS, attention_mask=MASK, position_ids=positions(MASK)).logits
    assert torch.equal(baseline(TEXTS, GRAPHS, MASK).logits, before)
    assert torch.equal(
        baseline.generate(TEXTS, GRAPHS, MASK, max_new_tokens=4),
        model.generate(TEXTS, attention_mask=MASK, max_new_tokens=4, do_sample=False),
    )
    numbers = [sum(p.numel() for p in m.parameters()) for m in (baseline, model)]
    assert numbers[0] == numbers[1]


def test_a_copy_reads_its_own_graphs() -> None:
    model = hybrid()
    logits = model(TEXTS, GRAPHS, MASK).logits
    copied = copy.deepcopy(model)
    with torch.no_grad():
        for attention in model.cross_attention:
            attention.alpha.zero_()
    assert torch.equal(copied(TEXTS, GRAPHS, MASK).logits, logits)


def test_a_model_in_half_precision_stays_in_it() -> None:
    model = TransNAR(language_model().to(torch.bfloat16), reasoner())
    assert model(TEXTS, GRAPHS, MASK).logits.dtype == torch.bfloat16
    with torch.no_grad():
        for attention in model.cross_attention:
            attention.alpha.fill_(1.0)
    assert model(TEXTS, GRAPHS, MASK).logits.dtype == torch.bfloat16


def test_a_text_without_a_graph_is_refused() -> None:
    with pytest.raises(ValueError, match=r"expected one graph for each of 3 texts, given 0 for text 0"):
        hybrid()(TEXTS)


def test_a_text_over_the_context_is_refused() -> None:
    long = torch.full((1, CONTEXT + 1), 3)
    with pytest.raises(
        ValueError, match=r"expected at most 64 tokens, the language model's context or max_position, given 65"
    ):
        hybrid()(long, grouped(ALL[:1]))
    with pytest.raises(ValueError, match=r"given 66"):
        hybrid().generate(TEXTS, GRAPHS, MASK, max_new_tokens=60)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps_per_block": 0}, r"expected steps_per_block ≥ 1, given 0"),
        ({"num_heads": 3}, r"expected a num_heads that divides hidden_dim 16, given 3"),
        ({"positions_in_evaluation": "none"}, r"'random' or 'consecutive', given 'none'"),
        ({"blocks": "model.norm"}, r"no decoder blocks found in LlamaForCausalLM"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TransNAR(language_model(), reasoner(), **settings)


def test_a_reasoner_of_sparse_graphs_is_refused() -> None:
    sparse = SparseReasoner.__new__(SparseReasoner)
    with pytest.raises(ValueError, match=r"expected a reasoner of dense graphs, given a SparseReasoner"):
        TransNAR(language_model(), sparse)


def test_a_reasoner_with_teacher_forcing_is_refused_unless_frozen() -> None:
    TransNAR(language_model(), reasoner(hint_teacher_forcing=0.5))
    with pytest.raises(ValueError, match=r"without teacher forcing .* given hint_teacher_forcing 0\.5"):
        TransNAR(language_model(), reasoner(hint_teacher_forcing=0.5), freeze_reasoner=False)


def test_a_recorded_reasoner_gives_each_batch_its_own_states(monkeypatch: pytest.MonkeyPatch) -> None:
    # A recording on a GPU runs with what was copied into its first batch, and writes where its first result is. As all
    # share memory, the results of others are not there any more.
    results: list[Any] = []

    def record(self: Recorder[Any], function: Callable[[], Any]) -> tuple[Callable[[], None], Any]:
        result = function()
        results.append(result)

        def replay() -> None:
            for state in [state for other in results if other is not result for state in flat(other)]:
                state.fill_(torch.nan)
            for old, new in zip(flat(result), flat(function()), strict=True):
                old.copy_(new)

        return replay, result

    def flat(blocks: Any) -> list[Tensor]:
        return [state for block in blocks for state in block]

    monkeypatch.setattr(Recorder, "record", record)
    model = hybrid()
    batches = [grouped([graph("bfs", 4, seed), graph("dijkstra", 5, seed), ALL[2]]) for seed in range(3)]
    with torch.no_grad():
        expected = [model(TEXTS, batch).logits for batch in batches]
        monkeypatch.setattr(TransNAR, "_is_recorded", True)
        found = [model(TEXTS, batch).logits for batch in batches]
    assert len(model._recorded.recorded) == 3
    torch.testing.assert_close(found, expected)
