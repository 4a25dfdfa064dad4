# Axes: B texts, L tokens.
import json
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from hybrids import CONTEXT, FAMILIES, PAD, graph, hybrid, language_model, opened, reasoner
from torch import Tensor

from nar.batch import grouped
from nar.checkpoint import load_reasoner, write_checkpoint
from nar.hybrid import TransNAR
from nar.module import Reasoner
from nar.processors import MPNN

TEXTS = torch.tensor([[PAD, PAD, 5, 6, 7, 8], [9, 10, 11, 12, 13, 14]])
MASK = (TEXTS != PAD).long()
GRAPHS = grouped([graph("bfs", 4, 1), graph("dijkstra", 5, 2)])


def logits(model: TransNAR) -> Tensor:
    """Of the batch."""
    with torch.no_grad():
        result: Tensor = model(TEXTS, GRAPHS, MASK).logits
    return result


def assert_loaded_is_equal(model: TransNAR, folder: Path) -> TransNAR:
    """Fail unless what is saved is what was saved."""
    model.save_pretrained(folder)
    loaded = TransNAR.from_pretrained(folder)
    assert not loaded.training
    assert loaded.settings == model.settings
    assert torch.equal(logits(loaded), logits(model))
    answers = [m.generate(TEXTS, GRAPHS, MASK, max_new_tokens=4) for m in (model, loaded)]
    assert torch.equal(*answers)
    return loaded


@pytest.mark.parametrize("family", FAMILIES)
def test_everything_is_kept(family: str, tmp_path: Path) -> None:
    model = hybrid(family, steps_per_block=2, num_heads=1, adaptive_temperature=True)
    model.language_model.generation_config.repetition_penalty = 1.5
    loaded = assert_loaded_is_equal(model, tmp_path / "model")
    assert loaded.reasoner is not None
    assert type(loaded.reasoner.processor).__name__ == "TripletGMPNN"
    assert loaded.language_model.generation_config.repetition_penalty == 1.5
    assert [path.suffix for path in (tmp_path / "model").iterdir() if path.is_file() and path.suffix != ".json"] == [
        ".safetensors"
    ]


def test_it_can_be_saved_again_where_it_is(tmp_path: Path) -> None:
    loaded = assert_loaded_is_equal(hybrid(), tmp_path)
    assert_loaded_is_equal(loaded, tmp_path)


def test_a_reasoner_of_a_checkpoint_is_kept(tmp_path: Path) -> None:
    made = reasoner()
    with open(tmp_path / "reasoner.ckpt", "wb") as file:
        write_checkpoint(file, made, {"model": made.config["model"], "data": {}})
    model = opened(TransNAR(language_model(), load_reasoner(tmp_path / "reasoner.ckpt")))
    assert_loaded_is_equal(model, tmp_path / "model")


def test_a_reasoner_that_went_on_learning_is_kept(tmp_path: Path) -> None:
    model = hybrid(freeze_reasoner=False)
    before = logits(model)
    with torch.no_grad():
        for parameter in model.reasoner.parameters():
            parameter.mul_(1.5)
    assert not torch.allclose(logits(model), before)
    loaded = assert_loaded_is_equal(model, tmp_path)
    assert all(parameter.requires_grad for parameter in loaded.reasoner.parameters())


def test_the_baseline_is_kept(tmp_path: Path) -> None:
    assert assert_loaded_is_equal(TransNAR(language_model()), tmp_path).reasoner is None


def test_drawn_positions_are_kept(tmp_path: Path) -> None:
    model = hybrid(max_position=CONTEXT, positions_in_evaluation="consecutive")
    loaded = assert_loaded_is_equal(model, tmp_path).train()
    assert not torch.allclose(logits(loaded), logits(model))


def with_adapters(**settings: Any) -> Any:
    """A language model with LoRA."""
    config = peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM", **settings)
    return peft.get_peft_model(language_model(), config)


def test_adapters_start_bit_equal_and_are_trained_alone() -> None:
    model = TransNAR(with_adapters(), reasoner())
    positions = (MASK.cumsum(dim=-1) - 1).clamp(min=0)
    assert torch.equal(logits(model), language_model()(TEXTS, attention_mask=MASK, position_ids=positions).logits)
    model.train()(TEXTS, GRAPHS, MASK, labels=TEXTS).loss.backward()
    trained = [name for name, parameter in model.named_parameters() if parameter.grad is not None]
    assert any("lora_B" in name for name in trained)
    assert all("lora_" in name or name.startswith("cross_attention.") for name in trained)


def test_adapters_are_kept(tmp_path: Path) -> None:
    model = opened(TransNAR(with_adapters(), reasoner()).eval())
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_()
    assert not torch.allclose(logits(model), logits(hybrid()))
    loaded = assert_loaded_is_equal(model, tmp_path)
    assert isinstance(loaded.language_model, peft.PeftModel)
    assert_loaded_is_equal(hybrid(), tmp_path)


def test_adapters_inside_of_a_language_model_are_refused(tmp_path: Path) -> None:
    model = language_model()
    model.peft_config = {"default": peft.LoraConfig()}  # as its own add_adapter leaves it
    with pytest.raises(ValueError, match=r"expected adapters around the language model, by peft\.get_peft_model"):
        TransNAR(model).save_pretrained(tmp_path)


def test_a_reasoner_of_unknown_making_is_refused(tmp_path: Path) -> None:
    made = reasoner()
    model = TransNAR(language_model(), Reasoner(made.specs, MPNN(8)))
    with pytest.raises(ValueError, match=r"expected a reasoner that load_reasoner has read, given one"):
        model.save_pretrained(tmp_path)


def test_a_folder_with_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({}))
    with pytest.raises(ValueError, match=r"no hybrid in .*: expected a folder that save_pretrained wrote"):
        TransNAR.from_pretrained(tmp_path)
