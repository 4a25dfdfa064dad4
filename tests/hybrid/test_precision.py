"""A hybrid in any precision, and parts of it in different ones."""

# Axes: B texts, L tokens.
from pathlib import Path
from typing import Any

import pytest
import torch
from hybrids import PAD, graph, hybrid, language_model, reasoner
from torch import Tensor

from nar.batch import grouped
from nar.datasets.text.datamodule import text_batch
from nar.datasets.text.stream import text_samples
from nar.datasets.text.tokenizer import text_tokenizer
from nar.hybrid import LanguageReasoner, TransNAR

TEXTS = torch.tensor([[PAD, PAD, 5, 6, 7, 8], [9, 10, 11, 12, 13, 14]])
MASK = (TEXTS != PAD).long()
GRAPHS = grouped([graph("bfs", 4, 1), graph("dijkstra", 5, 2)])
BF16, HALF, SINGLE, DOUBLE = torch.bfloat16, torch.float16, torch.float32, torch.float64
FAMILIES = ("llama", "gpt_neox", "gpt2", "opt")
CASTS = {
    "bfloat16": lambda model: model.bfloat16(),
    "half": lambda model: model.half(),
    "double": lambda model: model.double(),
    "to": lambda model: model.to(BF16),
}


def dtypes(module: Any) -> set[torch.dtype]:
    """Of all weights."""
    return {parameter.dtype for parameter in module.parameters()}


def assert_works(model: TransNAR, exact: TransNAR) -> None:
    """Fail unless the model is about the exact one, in float32, and generates and learns."""
    logits, expected = (each(TEXTS, GRAPHS, MASK).logits for each in (model, exact))
    assert logits.dtype == model.language_model.lm_head.weight.dtype
    assert (logits - expected).std() < 0.1 * expected.std()
    cached, uncached = (
        model.generate(TEXTS, GRAPHS, MASK, max_new_tokens=3, use_cache=cache) for cache in (True, False)
    )
    assert cached.shape == uncached.shape == (2, 9)
    loss = model.train()(TEXTS, GRAPHS, MASK, labels=TEXTS).loss
    loss.backward()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    before = [parameter.clone() for parameter in trained]
    torch.optim.SGD(trained, lr=0.1).step()
    assert all(torch.isfinite(parameter).all() for parameter in trained)
    assert not all(torch.equal(parameter, old) for parameter, old in zip(trained, before, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("cast", CASTS)
def test_a_hybrid_works_when_it_is_cast(family: str, cast: str) -> None:
    frozen = family != "llama"
    exact = hybrid(family, freeze_reasoner=frozen)
    assert_works(CASTS[cast](hybrid(family, freeze_reasoner=frozen)), exact)


PARTS = [
    ("language_model", BF16),
    ("language_model", HALF),
    ("language_model", DOUBLE),
    ("cross_attention", BF16),
    ("cross_attention", DOUBLE),
    ("reasoner", BF16),
    ("reasoner", DOUBLE),
]


@pytest.mark.slow
@pytest.mark.parametrize(("part", "dtype"), PARTS)
def test_parts_may_each_have_a_precision_of_their_own(part: str, dtype: torch.dtype) -> None:
    model = hybrid()
    getattr(model, part).to(dtype)
    assert_works(model, hybrid())
    assert dtypes(getattr(model, part)) == {dtype}


@pytest.mark.parametrize("cast", CASTS)
def test_without_a_reasoner_it_works_too(cast: str) -> None:
    assert_works(CASTS[cast](TransNAR(language_model())), TransNAR(language_model()))


@pytest.mark.parametrize("dtype", [BF16, HALF])
def test_a_reasoner_is_not_narrowed(dtype: torch.dtype) -> None:
    model, exact = hybrid(freeze_reasoner=False).train(), hybrid(freeze_reasoner=False).train()
    for each in (model, exact):
        each(TEXTS, GRAPHS, MASK, labels=TEXTS).loss.backward()
    names = list(model.state_dict())
    model.to(dtype)
    assert list(model.state_dict()) == names
    assert dtypes(model.language_model) == dtypes(model.cross_attention) == {dtype}
    for ours, theirs in zip(model.reasoner.parameters(), exact.reasoner.parameters(), strict=True):
        assert torch.equal(ours, theirs)
        assert (ours.grad is None) == (theirs.grad is None)
        assert ours.grad is None or torch.equal(ours.grad, theirs.grad)
    assert dtypes(model.double().reasoner) == {DOUBLE}
    assert dtypes(model.float()) == {SINGLE}


def test_what_is_read_does_not_depend_on_the_default_precision() -> None:
    model = hybrid()
    expected = model(TEXTS, GRAPHS, MASK).logits
    torch.set_default_dtype(BF16)
    try:
        assert torch.equal(model(TEXTS, GRAPHS, MASK).logits, expected)
        assert torch.get_default_dtype() == BF16
    finally:
        torch.set_default_dtype(SINGLE)


@pytest.mark.parametrize("dtype", [BF16, HALF, DOUBLE])
def test_a_training_step_works_in_any_precision(dtype: torch.dtype) -> None:
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    module: Any = LanguageReasoner(
        text_tokenizer(), ["bfs"], {"model_type": "llama", **sizes}, language_model_only=True, learning_rate=1e-2
    )
    module.model = TransNAR(module.model.language_model, reasoner(), freeze_reasoner=False).train()
    module.log = module.log_dict = lambda *args, **kwargs: None
    module._fabric = object()  # of Lightning's, where the step is counted
    batch = text_batch(text_tokenizer(), text_samples("bfs", num_nodes=5, num_samples=2, seed=0))
    optimizer = module.to(dtype).configure_optimizers()
    losses: list[Tensor] = []
    for _ in range(4):
        optimizer.zero_grad()
        losses.append(module.training_step(batch, 0))
        losses[-1].backward()
        optimizer.step()
    assert all(torch.isfinite(parameter).all() for parameter in module.parameters())
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("dtype", [None, BF16, DOUBLE])
def test_a_folder_is_read_in_the_precision_that_is_asked_for(dtype: torch.dtype | None, tmp_path: Path) -> None:
    hybrid().save_pretrained(tmp_path)
    loaded = TransNAR.from_pretrained(tmp_path, dtype=dtype)
    assert dtypes(loaded.language_model) == dtypes(loaded.cross_attention) == {dtype or SINGLE}
    assert_works(loaded, hybrid())
