# Axes: B texts, L tokens.
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers
from hybrids import CONTEXT, FAMILIES, OTHER_FAMILIES, PAD, VOCABULARY, graph, hybrid, language_model, opened, reasoner
from safetensors.torch import save_model
from torch import Tensor

from nar.batch import grouped
from nar.datasets.text.tokenizer import text_tokenizer
from nar.hybrid import LanguageReasoner, TransNAR, load_transnar
from nar.hybrid.cross_attention import CrossAttention
from nar.hybrid.language_model import without_adapters
from nar.processors import MPNN
from nar.processors.reductions import Softmax
from nar.training.checkpoint import load_reasoner, write_checkpoint
from nar.training.reasoner import Reasoner

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


@pytest.mark.parametrize("family", [*FAMILIES, *OTHER_FAMILIES])
def test_everything_is_kept(family: str, tmp_path: Path) -> None:
    model = hybrid(family, steps_per_block=2, num_heads=1, adaptive_temperature=True, feed_forward=True)
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
        write_checkpoint(file, made)
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


def state(model: TransNAR) -> dict[str, Any]:
    """What a model has besides values."""
    base = without_adapters(model.language_model)
    parameters = dict(model.named_parameters(remove_duplicate=False))
    tensors = {**parameters, **dict(model.named_buffers())}
    first = {id(x): name for name, x in reversed(parameters.items())}
    return {
        "settings": model.settings,
        "sharpened": [x.adaptive_temperature for x in model.modules() if isinstance(x, CrossAttention)],
        "frozen": [name for name, x in parameters.items() if not x.requires_grad],
        "dtypes": {name: x.dtype for name, x in tensors.items()},
        "shared": {name: first[id(x)] for name, x in parameters.items()},
        "attention": base.config._attn_implementation,
        "generation": base.generation_config.to_dict(),
        "recomputed": [name for name, x in base.named_modules() if getattr(x, "gradient_checkpointing", False)],
        "adapters": peft.get_model_status(model.language_model) if base is not model.language_model else None,
    }


def gates_shut(model: TransNAR) -> None:
    with torch.no_grad():
        model.cross_attention[0].alpha.zero_()


def bfloat16_and_back(model: TransNAR) -> None:
    model.bfloat16().float()  # rounds the angles of rotary positions too, which are no weights


def untied(model: TransNAR) -> None:
    base = model.language_model
    base.get_output_embeddings().weight = torch.nn.Parameter(base.get_input_embeddings().weight.detach() + 0.5)


def tied(model: TransNAR) -> None:
    model.language_model.get_output_embeddings().weight = model.language_model.get_input_embeddings().weight


def other_answers(model: TransNAR) -> None:
    model.language_model.generation_config.update(
        max_new_tokens=3, pad_token_id=5, eos_token_id=[6, 7], temperature=0.3, bad_words_ids=[[9]]
    )


def other_settings(model: TransNAR) -> None:
    model.steps_per_block, model.freeze_reasoner = 2, False
    model.adaptive_temperature, model.positions_in_evaluation = True, "consecutive"


CHANGES: dict[str, Callable[[TransNAR], Any]] = {
    "bfloat16": lambda model: model.bfloat16(),
    "double": lambda model: model.double(),
    "bfloat16 and back": bfloat16_and_back,
    "a language model in half": lambda model: model.language_model.half(),
    "cross-attention in double": lambda model: model.cross_attention.double(),
    "a reasoner in double": lambda model: model.reasoner.double(),
    "one gate in double": lambda model: model.cross_attention[1].double(),
    "eager attention": lambda model: model.language_model.set_attn_implementation("eager"),
    "a frozen language model": lambda model: model.language_model.requires_grad_(False),
    "a frozen gate": lambda model: model.cross_attention[0].alpha.requires_grad_(False),
    "a reasoner that is trained in part": lambda model: model.reasoner.processor.requires_grad_(True),
    "a shut gate": gates_shut,
    "untied embeddings": untied,
    "tied embeddings": tied,
    "more tokens": lambda model: model.language_model.resize_token_embeddings(40),
    "other answers": other_answers,
    "other settings": other_settings,
    "blocks that are computed again": lambda model: model.language_model.activation_checkpointing_enable(),
    "every second block": lambda model: model.language_model.activation_checkpointing_enable(
        {"use_reentrant": True}, every_n_layers=2
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "family"),
    [
        *((change, "llama") for change in CHANGES),
        *((change, "gpt2") for change in ("bfloat16", "double", "untied embeddings", "more tokens", "eager attention")),
        *((change, "gpt_neox") for change in ("bfloat16 and back", "tied embeddings", "a frozen language model")),
    ],
)
def test_what_a_live_model_became_is_kept(change: str, family: str, tmp_path: Path) -> None:
    model = hybrid(family)
    CHANGES[change](model)
    loaded = assert_loaded_is_equal(model.eval(), tmp_path)
    assert state(loaded) == state(model)


def checkpoint_of(module: LanguageReasoner, path: Path) -> Path:
    """Of a run whose model this is."""
    config = {"model": {"language_model": "", "reasoner": None}, "data": {"algorithms": ["bfs"], "hints": False}}
    torch.save(
        {"state_dict": module.state_dict(), "nar_config": {**config, "kind": "text", "parts": module.parts()}}, path
    )
    return path


def module_with(model: TransNAR) -> LanguageReasoner:
    """One that trains this model."""
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    module = LanguageReasoner(text_tokenizer(), [], {"model_type": "llama", **sizes}, language_model_only=True)
    module.model = model
    return module


@pytest.mark.slow
@pytest.mark.parametrize("change", [name for name in CHANGES if name not in ("bfloat16 and back", "more tokens")])
def test_a_checkpoint_keeps_what_a_live_model_became(change: str, tmp_path: Path) -> None:
    model = opened(TransNAR(language_model("gpt_neox", vocab_size=len(text_tokenizer())), reasoner()))
    CHANGES[change](model)
    loaded, _ = load_transnar(checkpoint_of(module_with(model), tmp_path / "last.ckpt"))
    assert state(loaded) == state(model)
    assert torch.equal(logits(loaded), logits(model.eval()))


def test_a_checkpoint_keeps_feed_forward_layers(tmp_path: Path) -> None:
    model = TransNAR(language_model(vocab_size=len(text_tokenizer())), reasoner(), feed_forward=True)
    loaded, _ = load_transnar(checkpoint_of(module_with(opened(model)), tmp_path / "last.ckpt"))
    assert loaded.settings["feed_forward"]
    assert torch.equal(logits(loaded), logits(model.eval()))


def two_adapters(model: TransNAR) -> None:
    model.language_model.add_adapter("a second", peft.LoraConfig(r=3, target_modules=["v_proj"], use_dora=True))


def second_in_use(model: TransNAR) -> None:
    two_adapters(model)
    model.language_model.set_adapter("a second")


def both_in_use(model: TransNAR) -> None:
    two_adapters(model)
    model.language_model.base_model.set_adapter(["default", "a second"])


def adapters_in_bfloat16(model: TransNAR) -> None:
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data = parameter.data.bfloat16()


ADAPTERS: dict[str, Callable[[TransNAR], Any]] = {
    "two": two_adapters,
    "the second in use": second_in_use,
    "both in use": both_in_use,
    "merged": lambda model: model.language_model.merge_adapter(),
    "disabled": lambda model: model.language_model.base_model.disable_adapter_layers(),
    "trained with all else": lambda model: model.requires_grad_(True),
    "in bfloat16": adapters_in_bfloat16,
}


@pytest.mark.slow
@pytest.mark.parametrize("change", ADAPTERS)
def test_what_adapters_became_is_kept(change: str, tmp_path: Path) -> None:
    model = opened(TransNAR(with_adapters(vocab_size=len(text_tokenizer())), reasoner()).eval())
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_()
    ADAPTERS[change](model)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B.a second" in name:
                parameter.normal_()
    loaded = assert_loaded_is_equal(model.eval(), tmp_path / "folder")
    assert state(loaded) == state(model)
    loaded, _ = load_transnar(checkpoint_of(module_with(model), tmp_path / "last.ckpt"))
    assert state(loaded) == state(model)
    assert torch.equal(logits(loaded), logits(model))


def test_what_cannot_be_made_again_is_not_saved(tmp_path: Path) -> None:
    class Own(transformers.LlamaForCausalLM):  # type: ignore[misc]
        """Somebody's own."""

    with pytest.raises(ValueError, match=r"expected a language model that AutoModelForCausalLM makes of its config"):
        TransNAR(Own(language_model().config)).save_pretrained(tmp_path)
    quantised = language_model()
    quantised.config.quantization_config = {"bits": 4}
    with pytest.raises(ValueError, match=r"expected a language model that is not quantised"):
        TransNAR(quantised).save_pretrained(tmp_path)


def save_as_before(model: TransNAR, folder: Path) -> None:
    """Write what folders had before they knew sums and live states."""
    base = without_adapters(model.language_model)
    for part in (base.config, base.generation_config):
        part.save_pretrained(folder / "language_model")
    for name, adapter in getattr(model.language_model, "peft_config", {}).items():
        adapter.save_pretrained(folder / "language_model" / "adapters" / name)
    config = {"transnar": model.settings, "reasoner": model.reasoner_config}
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    save_model(model, str(folder / "model.safetensors"))


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_a_folder_of_before_is_read(family: str, tmp_path: Path) -> None:
    model = hybrid(family, steps_per_block=2, max_position=CONTEXT, positions_in_evaluation="consecutive")
    model.language_model.generation_config.repetition_penalty = 1.5
    save_as_before(model, tmp_path)
    loaded = TransNAR.from_pretrained(tmp_path)
    assert state(loaded) == state(model)
    assert torch.equal(logits(loaded), logits(model))


def test_a_folder_of_before_with_adapters_is_read(tmp_path: Path) -> None:
    model = opened(TransNAR(with_adapters(), reasoner()).eval())
    save_as_before(model, tmp_path)
    loaded = TransNAR.from_pretrained(tmp_path)
    assert state(loaded) == state(model)
    assert torch.equal(logits(loaded), logits(model))


def with_adapters(*, vocab_size: int = VOCABULARY, **settings: Any) -> Any:
    """A language model with LoRA."""
    config = peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM", **settings)
    return peft.get_peft_model(language_model(vocab_size=vocab_size), config)


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


def test_a_reasoner_that_was_made_by_its_class_is_kept(tmp_path: Path) -> None:
    made = Reasoner(reasoner().specs, MPNN(8, reduction=Softmax(2.0))).eval()
    assert_loaded_is_equal(opened(TransNAR(language_model(), made)), tmp_path)


def test_a_folder_with_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({}))
    with pytest.raises(ValueError, match=r"no hybrid in .*: expected a folder that save_pretrained wrote"):
        TransNAR.from_pretrained(tmp_path)
