import json
from pathlib import Path

import pytest
import torch
from hybrids import FAMILIES, language_model
from torch import nn

from nar.hybrid import make_language_model
from nar.hybrid.language_model import check_settings, context_length, decoder_blocks, without_adapters


@pytest.mark.parametrize("family", [*FAMILIES, "gemma2", "gemma3_text", "qwen3", "mistral", "opt"])
def test_blocks_are_those_that_tokens_go_through_in_this_order(family: str) -> None:
    model, seen = language_model(family), []
    for block in decoder_blocks(model):
        block.register_forward_hook(lambda block, *_: seen.append(block))
    model(torch.tensor([[3, 4, 5]]))
    assert seen == list(decoder_blocks(model))
    assert len(seen) == 2


def test_a_family_that_is_not_known_is_refused_with_what_was_looked_for() -> None:
    model = language_model()
    model.renamed = model.model
    del model.model
    with pytest.raises(
        ValueError, match=r"LlamaForCausalLM: looked for a list at model\.layers, gpt_neox\.layers, "
    ) as e:
        decoder_blocks(model)
    assert "\n" not in str(e.value)
    assert len(decoder_blocks(model, "renamed.layers")) == 2
    with pytest.raises(ValueError, match=r"looked for a list at renamed\.norm; say where they are by `blocks`"):
        decoder_blocks(model, "renamed.norm")


@pytest.mark.parametrize("family", FAMILIES)
def test_a_saved_model_is_loaded_by_its_path(family: str, tmp_path: Path) -> None:
    model, texts = language_model(family), torch.tensor([[3, 4, 5]])
    model.save_pretrained(tmp_path)
    assert torch.equal(make_language_model(tmp_path)(texts).logits, model(texts).logits)


def test_what_is_no_language_model_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"model_type that transformers knows, such as 'llama', given 'lama'$"):
        make_language_model({"model_type": "lama"})
    with pytest.raises(ValueError, match=r"given None$"):
        make_language_model({"hidden_size": 8})
    with pytest.raises(
        ValueError,
        match=r"no language model '.*nothing': expected a folder or a name on the Hub, which has to be reached$",
    ):
        make_language_model(tmp_path / "nothing")
    (tmp_path / "nothing").mkdir()
    with pytest.raises(
        ValueError,
        match=r"no language model '.*nothing': expected a folder or a name on the Hub, which has to be reached$",
    ):
        make_language_model(str(tmp_path / "nothing"))
    with pytest.raises(ValueError, match=r"expected a language model of Hugging Face, given a Linear"):
        without_adapters(nn.Linear(2, 2))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_context_is_as_long_as_configured(family: str) -> None:
    assert context_length(language_model(family)) == 64


def test_a_misspelt_setting_is_refused() -> None:
    with pytest.raises(
        ValueError, match="expected a setting of llama, such as num_hidden_layers, given num_hiden_layers"
    ):
        make_language_model({"model_type": "llama", "num_hiden_layers": 2})


@pytest.mark.parametrize("family", FAMILIES)
def test_every_setting_that_a_family_writes_down_is_one_of_its(family: str) -> None:
    written = json.loads(language_model(family).config.to_json_string(use_diff=False))
    check_settings({name: value for name, value in written.items() if value is not None})
