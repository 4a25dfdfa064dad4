"""A hybrid as a model of Hugging Face."""

# Axes: B texts, L tokens.
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import peft
import pytest
import torch
from hybrids import FAMILIES, OTHER_FAMILIES, PAD, graph, hybrid, language_model, opened, reasoner
from torch import Tensor
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, PreTrainedModel

from nar.batch import grouped
from nar.errors import UserError
from nar.hybrid import TransNAR, TransNARConfig, TransNARModel
from nar.hybrid.saving import dtypes, frozen
from nar.packed import pack_graphs

TEXTS = torch.tensor([[PAD, PAD, 5, 6, 7, 8], [9, 10, 11, 12, 13, 14]])
MASK = (TEXTS != PAD).long()
GRAPHS = [graph("bfs", 4, 1), graph("dijkstra", 5, 2)]


def made(family: str = "llama", processor: str = "TripletGMPNN", **settings: Any) -> TransNARModel:
    """A hybrid with open gates, in evaluation mode."""
    model = language_model(family)
    torch.manual_seed(2)
    return opened(TransNARModel.from_parts(model, reasoner(processor), **settings)).eval()


def logits(model: TransNAR) -> Tensor:
    with torch.no_grad():
        result: Tensor = model(TEXTS, grouped(GRAPHS), MASK).logits
    return result


def assert_loaded_is_equal(model: TransNARModel, folder: Path) -> TransNARModel:
    """Fail unless what Auto classes load is what was saved."""
    model.save_pretrained(folder)
    loaded = AutoModelForCausalLM.from_pretrained(folder)
    assert isinstance(loaded, TransNARModel)
    assert not loaded.training
    assert torch.equal(logits(loaded), logits(model))
    assert loaded.settings == model.settings
    assert dtypes(loaded) == dtypes(model)
    assert frozen(loaded) == frozen(model)
    assert loaded.generation_config.to_dict() == model.generation_config.to_dict()
    return loaded


@pytest.mark.parametrize("family", FAMILIES)
def test_computes_what_a_hybrid_computes(family: str) -> None:
    model, other = made(family), hybrid(family)
    assert torch.equal(logits(model), logits(other))
    assert model(TEXTS, grouped(GRAPHS), MASK, TEXTS).loss == other(TEXTS, grouped(GRAPHS), MASK, labels=TEXTS).loss
    answers = [m.generate(TEXTS, grouped(GRAPHS), MASK, max_new_tokens=4) for m in (model, other)]
    assert torch.equal(*answers)
    assert model.state_dict().keys() == other.state_dict().keys()


@pytest.mark.parametrize(
    "family", [*FAMILIES, *(pytest.param(name, marks=pytest.mark.slow) for name in OTHER_FAMILIES)]
)
def test_what_is_saved_comes_back_to_the_bit(family: str, tmp_path: Path) -> None:
    assert_loaded_is_equal(made(family), tmp_path)


@pytest.mark.parametrize("processor", ["GAT", "MemNet"])  # the order of probes counts; a buffer that no file has
def test_every_reasoner_comes_back(processor: str, tmp_path: Path) -> None:
    model = made(processor=processor)
    torch.use_deterministic_algorithms(True)  # by which memory that nobody writes to is not a number
    try:
        assert_loaded_is_equal(model, tmp_path)
    finally:
        torch.use_deterministic_algorithms(False)


def test_settings_come_back(tmp_path: Path) -> None:
    settings = {"steps_per_block": 2, "num_heads": 1, "freeze_reasoner": False, "feed_forward": True}
    positions = {"max_position": 32, "positions_in_evaluation": "consecutive", "adaptive_temperature": True}
    model = made(**settings, **positions, blocks="model.layers")
    model.adaptive_temperature = False
    loaded = assert_loaded_is_equal(model, tmp_path)
    assert loaded.settings == {**settings, **positions, "adaptive_temperature": False, "blocks": "model.layers"}


def test_a_language_model_alone_comes_back(tmp_path: Path) -> None:
    model = TransNARModel.from_parts(language_model()).eval()
    assert assert_loaded_is_equal(model, tmp_path).reasoner is None


def untied(model: TransNARModel) -> None:
    inputs = model.get_input_embeddings()
    model.get_output_embeddings().weight = torch.nn.Parameter(inputs.weight.detach() + 0.5)


CHANGES: dict[str, Callable[[TransNARModel], Any]] = {
    "bfloat16": lambda model: model.bfloat16(),
    "double": lambda model: model.double(),
    "a language model in half": lambda model: model.language_model.half(),
    "cross-attention in double": lambda model: model.cross_attention.double(),
    "a reasoner in double": lambda model: model.reasoner.double(),
    "one gate in double": lambda model: model.cross_attention[1].double(),
    "untied embeddings": untied,
    "more tokens": lambda model: model.resize_token_embeddings(40, mean_resizing=False),
    "other answers": lambda model: model.generation_config.update(max_new_tokens=3, eos_token_id=[6, 7]),
}


@pytest.mark.slow
@pytest.mark.parametrize("family", ["llama", "gpt2"])  # the embeddings of the latter are tied
@pytest.mark.parametrize("change", CHANGES)
def test_what_a_live_model_became_comes_back(change: str, family: str, tmp_path: Path) -> None:
    model = made(family)
    CHANGES[change](model)
    loaded = assert_loaded_is_equal(model, tmp_path)
    tied = [m.get_input_embeddings().weight is m.get_output_embeddings().weight for m in (model, loaded)]
    assert tied[0] == tied[1]


@pytest.mark.slow
@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize("change", ["", "merged", "bfloat16", "second"])
def test_adapters_come_back(change: str, family: str, tmp_path: Path) -> None:
    is_transposed = family == "gpt2"
    targets = ["c_attn"] if is_transposed else ["q_proj"]
    config = peft.LoraConfig(r=2, target_modules=targets, fan_in_fan_out=is_transposed)
    adapted: Any = peft.get_peft_model(language_model(family), config)
    if change == "second":
        adapted.add_adapter("a second", peft.LoraConfig(r=3, target_modules=targets, fan_in_fan_out=is_transposed))
        adapted.set_adapter("a second")
    torch.manual_seed(3)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    model = opened(TransNARModel.from_parts(adapted, reasoner())).eval()
    if change == "merged":
        adapted.merge_adapter()
    elif change == "bfloat16":
        model.bfloat16()
    loaded = assert_loaded_is_equal(model, tmp_path)
    assert peft.get_model_status(loaded.language_model) == peft.get_model_status(adapted)


def test_adapters_may_be_around_the_hybrid() -> None:
    model = made()
    adapted: Any = peft.get_peft_model(
        model, peft.LoraConfig(r=2, target_modules=["q_proj", "query"], task_type="CAUSAL_LM")
    )
    rows = pack_graphs(GRAPHS)
    adapted(input_ids=TEXTS, graphs=rows, attention_mask=MASK, labels=TEXTS).loss.backward()
    trained = {name for name, parameter in adapted.named_parameters() if parameter.grad is not None}
    assert all("lora_" in name for name in trained)
    assert {".cross_attention." in name for name in trained} == {True, False}
    assert adapted.generate(input_ids=TEXTS, graphs=rows, attention_mask=MASK, max_new_tokens=2).shape == (2, 8)


@pytest.mark.slow
def test_a_dtype_is_that_of_all_but_the_reasoner(tmp_path: Path) -> None:
    model = made()
    model.cross_attention[1].double()
    model.save_pretrained(tmp_path)
    for dtype in (torch.bfloat16, "float16"):
        loaded = TransNARModel.from_pretrained(tmp_path, dtype=dtype)
        expected = dtype if isinstance(dtype, torch.dtype) else getattr(torch, dtype)
        assert {x.dtype for x in loaded.language_model.parameters()} == {expected}
        assert {x.dtype for x in loaded.cross_attention.parameters()} == {expected}
        assert {x.dtype for x in loaded.reasoner.parameters()} == {torch.float32}
        assert loaded.dtype == expected
    config = AutoConfig.from_pretrained(tmp_path)
    loaded = TransNARModel.from_pretrained(tmp_path, config=config, dtype=torch.bfloat16)
    assert {x.dtype for x in loaded.cross_attention.parameters()} == {torch.bfloat16}
    assert TransNARModel.from_pretrained(tmp_path, dtype="auto").cross_attention[1].alpha.dtype == torch.float64


def test_attention_is_computed_as_asked_for(tmp_path: Path) -> None:
    model = made()
    model.save_pretrained(tmp_path)
    loaded = TransNARModel.from_pretrained(tmp_path, attn_implementation="eager")
    assert loaded.language_model.config._attn_implementation == "eager"
    torch.testing.assert_close(logits(loaded)[MASK.bool()], logits(model)[MASK.bool()])
    assert model.language_model.config._attn_implementation == "sdpa"  # which making a hybrid of it has left as it was


@pytest.mark.slow
def test_a_device_map_is_followed(tmp_path: Path) -> None:
    pytest.importorskip("accelerate")
    model = made()
    model.save_pretrained(tmp_path / "model")
    for device_map in ("cpu", "auto", {"": "cpu"}):
        assert torch.equal(
            logits(TransNARModel.from_pretrained(tmp_path / "model", device_map=device_map)), logits(model)
        )
    on_disk = {"device_map": {"language_model": "disk", "cross_attention": "cpu", "reasoner": "cpu"}}
    loaded = TransNARModel.from_pretrained(tmp_path / "model", offload_folder=tmp_path / "offloaded", **on_disk)
    torch.testing.assert_close(logits(loaded), logits(model))
    on_disk = {"device_map": {"language_model": "cpu", "cross_attention": "disk", "reasoner": "cpu"}}
    with pytest.raises(ValueError, match="a device_map that leaves reasoner and cross_attention in memory"):
        TransNARModel.from_pretrained(tmp_path / "model", offload_folder=tmp_path / "offloaded", **on_disk)


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_blocks_that_are_computed_again_change_no_gradient(use_reentrant: bool) -> None:
    gradients = []
    for is_recomputed in (False, True):
        model = made(freeze_reasoner=False).train()
        if is_recomputed:
            model.activation_checkpointing_enable({"use_reentrant": use_reentrant})
            assert model.is_activation_checkpointing
        model(TEXTS, grouped(GRAPHS), MASK, labels=TEXTS, use_cache=False).loss.backward()
        gradients.append({name: x.grad for name, x in model.named_parameters() if x.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        assert torch.equal(gradient, gradients[1][name])


@pytest.mark.parametrize("max_position", [None, 64])
def test_hidden_states_are_those_of_which_logits_are_made(max_position: int | None) -> None:
    model, expected = made(max_position=max_position), []
    torch.manual_seed(4)
    expected.append(logits(model))
    torch.manual_seed(4)
    with torch.no_grad():
        hidden = model.base_model(TEXTS, graphs=pack_graphs(GRAPHS), attention_mask=MASK).last_hidden_state
        expected.append(model.get_output_embeddings()(hidden))
    assert torch.equal(*expected)


def test_a_configuration_makes_a_model_with_random_weights() -> None:
    config = TransNARConfig(text_config=language_model().config.to_dict(), reasoner=reasoner().config, num_heads=1)
    for model in (TransNARModel(config), AutoModel.from_config(config)):
        assert isinstance(model, PreTrainedModel)
        assert logits(model.eval()).shape == (2, 6, model.config.text_config.vocab_size)
        assert model.settings["num_heads"] == 1


@pytest.mark.slow
def test_a_folder_of_before_is_read(tmp_path: Path) -> None:
    former = hybrid()
    former.save_pretrained(tmp_path)
    loaded = TransNARModel.from_pretrained(tmp_path)
    assert isinstance(loaded, TransNARModel)
    assert torch.equal(logits(loaded), logits(former))
    assert (
        TransNARModel.from_pretrained(tmp_path, dtype=torch.bfloat16, attn_implementation="eager").dtype
        == torch.bfloat16
    )
    (tmp_path / "config.json").write_text(
        (tmp_path / "config.json").read_text().replace('"steps_per_block": 1', '"steps_per_block": 2')
    )
    with pytest.raises(UserError, match=r"config\.json is damaged: its sum is another"):
        TransNARModel.from_pretrained(tmp_path)


def test_what_a_folder_lacks_is_initialised(tmp_path: Path) -> None:
    made().save_pretrained(tmp_path)
    torch.manual_seed(0)
    loaded, report = TransNARModel.from_pretrained(tmp_path, feed_forward=True, output_loading_info=True)
    assert all("feed_forward" in key or key.endswith(".beta") for key in report["missing_keys"])
    assert torch.equal(logits(loaded), logits(made()))  # behind gates that are shut
    assert 0 < loaded.cross_attention[0].feed_forward[1].weight.abs().max() < 1


def test_is_pushed_to_the_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Through a fake of it, that keeps the files."""
    pushed: dict[str, bytes] = {}

    def create_repo(self: Any, repo_id: str, **kwargs: Any) -> Any:
        return huggingface_hub.RepoUrl(f"https://huggingface.co/{repo_id}")

    def create_commit(self: Any, repo_id: str, operations: list[Any], **kwargs: Any) -> str:
        for operation in operations:
            with operation.as_file() as file:
                pushed[operation.path_in_repo] = file.read()
        return repo_id

    monkeypatch.setattr(huggingface_hub.HfApi, "create_repo", create_repo)
    monkeypatch.setattr(huggingface_hub.HfApi, "create_commit", create_commit)
    monkeypatch.setattr("transformers.utils.hub.create_and_tag_model_card", lambda *args, **kwargs: FakeCard())
    model = made()
    model.push_to_hub("someone/hybrid")
    assert {"config.json", "generation_config.json", "model.safetensors"} <= pushed.keys()
    for name, content in pushed.items():
        (tmp_path / name).write_bytes(content)
    assert json.loads(pushed["config.json"])["model_type"] == "transnar"
    assert torch.equal(logits(AutoModelForCausalLM.from_pretrained(tmp_path)), logits(model))


class FakeCard:
    """A model card that is written to a file."""

    def save(self, path: str) -> None:
        Path(path).write_text("# A hybrid")
