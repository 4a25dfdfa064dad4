"""Folders and checkpoints that are damaged or meant to do harm: each is read as it was, or refused in one line."""

import copy
import json
import os
import random
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from hybrids import PAD, graph, hybrid, language_model, opened, reasoner
from safetensors.torch import load_file, save_file
from torch import Tensor

from nar.batch import grouped
from nar.datasets.text.tokenizer import text_tokenizer
from nar.errors import UserError
from nar.hybrid import LanguageReasoner, TransNAR, load_transnar
from nar.hybrid.saving import write_sums

TEXTS = torch.tensor([[PAD, PAD, 5, 6, 7, 8], [9, 10, 11, 12, 13, 14]])
MASK = (TEXTS != PAD).long()
GRAPHS = grouped([graph("bfs", 4, 1), graph("dijkstra", 5, 2)])
WRONG: list[Any] = [
    None,
    -1,
    0,
    10**12,
    10**30,
    1.5,
    float("nan"),
    True,
    "x",
    "a/b",
    "../../x",
    [],
    [1, "x"],
    {},
    {"": 1},
]
NUMBER = 6
CODE = {"AutoConfig": "harm.Config", "AutoModelForCausalLM": "harm.Model", "AutoTokenizer": ["harm.Own", "harm.Own"]}


@torch.no_grad()
def logits(model: TransNAR) -> Tensor:
    result: Tensor = model(TEXTS, GRAPHS, MASK).logits
    return result


@pytest.fixture(autouse=True)
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Of whom anything was asked: the user, or the network. In the end it has to be nobody."""
    calls: list[str] = []

    def refuse(name: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            calls.append(name)
            raise OSError(name)

        return call

    monkeypatch.setattr("builtins.input", refuse("input"))
    monkeypatch.setattr(socket.socket, "connect", refuse("connect"))
    monkeypatch.setattr(socket, "getaddrinfo", refuse("getaddrinfo"))
    yield calls
    assert calls == []


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One with adapters, one without."""
    config = peft.LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM")
    torch.manual_seed(0)
    models = {
        "gpt2": hybrid("gpt2"),
        "adapters": opened(TransNAR(peft.get_peft_model(language_model(), config), reasoner()).eval()),
    }
    saved = {name: tmp_path_factory.mktemp(name) / "hybrid" for name in models}
    for name, model in models.items():
        model.save_pretrained(saved[name])
    return saved


def copied(folder: Path, tmp_path: Path) -> Path:
    """A folder to do harm to."""
    shutil.rmtree(tmp_path / "copy", ignore_errors=True)
    return Path(shutil.copytree(folder, tmp_path / "copy"))


def refusal(read: Callable[[], Any]) -> str | None:
    """The line by which something is refused; None if it is not."""
    try:
        read()
    except UserError as error:
        line = str(error)
    else:
        return None
    assert "\n" not in line
    assert 0 < len(line) < 700
    return line


def places(values: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where something stands in nested settings."""
    items = values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else ()
    for key, value in items:
        yield (*path, key)
        yield from places(value, (*path, key))


def changed(values: Any, path: tuple[Any, ...], wrong: Any) -> Any:
    """Settings in which one is another, or gone."""
    values = copy.deepcopy(values)
    at = values
    for key in path[:-1]:
        at = at[key]
    if wrong is Ellipsis:
        del at[path[-1]]
    else:
        at[path[-1]] = wrong
    return values


def mutants(values: Any, number: int, seed: int) -> Iterator[tuple[tuple[Any, ...], Any, Any]]:
    """So many changes of settings, and what these are then."""
    every = [(path, wrong) for path in places(values) for wrong in [..., *WRONG]]
    for path, wrong in random.Random(seed).sample(every, min(number, len(every))):
        yield path, wrong, changed(values, path, wrong)


FILES = ("config.json", "language_model/config.json", "language_model/generation_config.json")


@pytest.mark.parametrize("name", FILES)
def test_a_setting_that_is_another_than_its_sum_says_is_refused(
    name: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    folder = copied(folders["gpt2"], tmp_path)
    values = json.loads((folder / name).read_text())
    for path, wrong, mutant in mutants(values, 25, seed=1):
        if json.dumps(mutant) != json.dumps(values):
            (folder / name).write_text(json.dumps(mutant))
            assert refusal(lambda: TransNAR.from_pretrained(folder)) is not None, (path, wrong)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["gpt2", "adapters"])
@pytest.mark.parametrize("name", [*FILES, "language_model/adapters/default/adapter_config.json"])
def test_settings_with_forged_sums_are_read_or_refused(
    kind: str, name: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    if not (folders[kind] / name).exists():
        return
    folder = copied(folders[kind], tmp_path)
    values = json.loads((folder / name).read_text())
    for _path, _wrong, mutant in mutants(values, NUMBER, seed=2):
        (folder / name).write_text(json.dumps(mutant))
        write_sums(folder)
        refusal(lambda: TransNAR.from_pretrained(folder))


def damaged_weights(path: Path, seed: int) -> Iterator[bytes]:
    """The bytes of a file of weights, cut short, with a bit flipped in what it says of itself, or in the weights."""
    content, generator = path.read_bytes(), random.Random(seed)
    header = 8 + int.from_bytes(content[:8], "little")
    for length in [0, 4, 8, header - 1, header, *generator.sample(range(len(content)), 5)]:
        yield content[:length]
    yield content + b"\0"
    for at in [*range(8), *generator.sample(range(8, header), 10), *generator.sample(range(header, len(content)), 5)]:
        flipped = bytearray(content)
        flipped[at] ^= 1 << generator.randrange(8)
        yield bytes(flipped)


def test_weights_that_are_damaged_are_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    folder = copied(folders["gpt2"], tmp_path)
    for content in damaged_weights(folder / "model.safetensors", seed=3):
        (folder / "model.safetensors").write_bytes(content)
        assert refusal(lambda: TransNAR.from_pretrained(folder)) is not None


@pytest.mark.slow
def test_damaged_weights_with_forged_sums_are_read_or_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    folder = copied(folders["gpt2"], tmp_path)
    for content in damaged_weights(folder / "model.safetensors", seed=4):
        (folder / "model.safetensors").write_bytes(content)
        write_sums(folder)
        refusal(lambda: TransNAR.from_pretrained(folder))


def other_weights(tensors: dict[str, Tensor]) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Weights of which some are not the model's, with what is said of it."""
    for name in (
        "cross_attention.0.alpha",
        "cross_attention.1.nodes.key.weight",
        "language_model.transformer.wte.weight",
    ):
        value = tensors[name]
        yield f"has no {name}", {key: x for key, x in tensors.items() if key != name}
        yield f"has {name} as", {**tensors, name: value.new_zeros(*value.shape, 2)}
        yield f"has {name} as", {**tensors, name: value.long()}
    yield "has one.more, which its model has not", {**tensors, "one.more": torch.zeros(2)}


def test_weights_of_another_model_are_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    folder = copied(folders["gpt2"], tmp_path)
    path = folder / "model.safetensors"
    aliases = {"language_model.lm_head.weight": "language_model.transformer.wte.weight"}
    for message, tensors in other_weights(load_file(path)):
        save_file(tensors, path, metadata=aliases)
        write_sums(folder)
        assert message in str(refusal(lambda: TransNAR.from_pretrained(folder)))


def another_file(path: Path, kind: str) -> None:
    """Something else in the place of a file."""
    path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "link":
        outside = path.parents[3] / "outside"
        outside.write_text("{}")
        path.symlink_to(outside)
    elif kind == "bytes":
        path.write_bytes(b"\xff\xfe{}")
    elif kind == "nested":
        path.write_text("[" * 100_000)
    elif kind == "list":
        path.write_text("[1]")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["missing", "folder", "pipe", "link", "bytes", "nested", "list"])
@pytest.mark.parametrize("name", [*FILES, "model.safetensors"])
def test_what_is_no_file_of_a_hybrid_is_refused(name: str, kind: str, folders: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    folder = copied(folders["gpt2"], tmp_path / "a" / "b")
    another_file(folder / name, kind)
    assert refusal(lambda: TransNAR.from_pretrained(folder)) is not None
    folder = copied(folders["gpt2"], tmp_path / "a" / "b")  # and without sums
    config = json.loads((folder / "config.json").read_text())
    kept = {key: x for key, x in config.items() if key not in ("sums", "sum")}
    (folder / "config.json").write_text(json.dumps(kept))
    another_file(folder / name, kind)
    assert refusal(lambda: TransNAR.from_pretrained(folder)) is not None


def test_a_path_in_the_sums_does_not_lead_out(folders: dict[str, Path], tmp_path: Path) -> None:
    folder = copied(folders["gpt2"], tmp_path)
    (tmp_path / "outside").write_text("{}")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "sums": {**config["sums"], "../outside": None}}))
    write_sums(folder)
    assert "leads out of its folder" in str(refusal(lambda: TransNAR.from_pretrained(folder)))


def plant(folder: Path, marker: Path) -> None:
    """Code that leaves a mark when it is imported."""
    (folder / "harm.py").write_text(f"open({str(marker)!r}, 'w')\n")


SIZES = [
    ("language_model/config.json", {"vocab_size": 10**12}),
    ("language_model/config.json", {"vocab_size": 10**9}),
    ("language_model/config.json", {"n_layer": 10**9}),
    ("language_model/config.json", {"n_embd": 10**7}),
    ("language_model/config.json", {"n_positions": 10**11}),
    ("language_model/config.json", {"num_labels": 10**9}),
]


@pytest.mark.parametrize(("name", "settings"), SIZES)
def test_sizes_are_looked_at_before_they_take_memory(
    name: str, settings: dict[str, int], folders: dict[str, Path], tmp_path: Path
) -> None:
    folder = copied(folders["gpt2"], tmp_path)
    (folder / name).write_text(json.dumps({**json.loads((folder / name).read_text()), **settings}))
    write_sums(folder)
    assert refusal(lambda: TransNAR.from_pretrained(folder)) is not None


@pytest.mark.slow
def test_a_reasoner_s_sizes_are_looked_at_before_they_take_memory(folders: dict[str, Path], tmp_path: Path) -> None:
    folder = copied(folders["gpt2"], tmp_path)
    config = json.loads((folder / "config.json").read_text())
    config["reasoner"]["model"]["processor"]["init_args"]["hidden_dim"] = 10**7
    (folder / "config.json").write_text(json.dumps(config))
    write_sums(folder)
    assert refusal(lambda: TransNAR.from_pretrained(folder)) is not None


HARM: list[dict[str, Any]] = [
    {"auto_map": CODE},
    {"auto_map": {name: f"somebody/else--{value}" for name, value in CODE.items()}},
    {"auto_map": CODE, "model_type": "unknown"},
    {"auto_map": CODE, "model_type": "vit"},
    {"_attn_implementation": "somebody/else"},
    {"attn_implementation": "somebody/else:forward"},
    {"_attn_implementation_internal": "flash_attention_2"},
    {"experts_implementation": "somebody/else"},
    {"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}},
    {"_name_or_path": "somebody/else", "name_or_path": "somebody/else"},
    {"text_config": {"auto_map": CODE, "attn_implementation": "somebody/else"}},
]


@pytest.mark.slow
@pytest.mark.parametrize("harm", HARM)
@pytest.mark.parametrize("name", FILES)
def test_code_that_a_folder_names_is_neither_run_nor_fetched(
    name: str, harm: dict[str, Any], folders: dict[str, Path], tmp_path: Path
) -> None:
    folder = copied(folders["gpt2"], tmp_path)
    expected = logits(TransNAR.from_pretrained(folder))
    for place in (folder, folder / "language_model"):
        plant(place, tmp_path / "mark")
    (folder / name).write_text(json.dumps({**json.loads((folder / name).read_text()), **harm}))
    write_sums(folder)
    loaded: list[TransNAR] = []
    if refusal(lambda: loaded.append(TransNAR.from_pretrained(folder))) is None:
        assert torch.equal(logits(loaded[0]), expected)
    assert not (tmp_path / "mark").exists()


def test_attention_that_needs_somebody_s_code_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    folder = copied(folders["gpt2"], tmp_path)
    config = json.loads((folder / "config.json").read_text())
    for attention in ("somebody/else", "flash_attention_2"):
        config["live"]["attention"] = {"": attention}
        (folder / "config.json").write_text(json.dumps(config))
        write_sums(folder)
        message = str(refusal(lambda: TransNAR.from_pretrained(folder)))
        assert "expected one of eager, sdpa, flex_attention, given" in message


def test_an_adapter_that_names_a_module_to_import_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    folder = copied(folders["adapters"], tmp_path)
    path = folder / "language_model" / "adapters" / "default" / "adapter_config.json"
    harm = {"megatron_config": {"x": 1}, "megatron_core": "antigravity"}
    path.write_text(json.dumps({**json.loads(path.read_text()), **harm}))
    write_sums(folder)
    assert "expected an adapter that needs no Megatron" in str(refusal(lambda: TransNAR.from_pretrained(folder)))


@pytest.fixture(scope="module")
def checkpoint() -> dict[str, Any]:
    """Of a small hybrid."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    source = json.dumps(reasoner().config)
    module = LanguageReasoner(text_tokenizer(), ["bfs"], {"model_type": "llama", **sizes}, source)
    config = {"model": {"language_model": "", "reasoner": None}, "data": {"algorithms": ["bfs"], "hints": False}}
    return {"state_dict": module.state_dict(), "nar_config": {**config, "kind": "text", "parts": module.parts()}}


def refusal_of(checkpoint: dict[str, Any], tmp_path: Path) -> str | None:
    """How `load_transnar` refuses a checkpoint."""
    torch.save(checkpoint, tmp_path / "best.ckpt")
    return refusal(lambda: load_transnar(tmp_path / "best.ckpt"))


def with_part(checkpoint: dict[str, Any], **parts: Any) -> dict[str, Any]:
    """A checkpoint with other parts."""
    config = checkpoint["nar_config"]
    return {**checkpoint, "nar_config": {**config, "parts": {**config["parts"], **parts}}}


def test_a_sound_checkpoint_is_read(checkpoint: dict[str, Any], tmp_path: Path) -> None:
    assert refusal_of(checkpoint, tmp_path) is None


@pytest.mark.slow
@pytest.mark.parametrize("part", ["language_model", "reasoner"])
def test_the_parts_of_a_checkpoint_are_read_or_refused(part: str, checkpoint: dict[str, Any], tmp_path: Path) -> None:
    values = json.loads(checkpoint["nar_config"]["parts"][part])
    for _path, _wrong, mutant in mutants(values, NUMBER, seed=5):
        refusal_of(with_part(checkpoint, **{part: json.dumps(mutant)}), tmp_path)
    for harm in HARM if part == "language_model" else ():
        refusal_of(with_part(checkpoint, **{part: json.dumps({**values, **harm})}), tmp_path)
    for name in ("vocab_size", "num_hidden_layers", "hidden_size", "intermediate_size"):
        if name in values:
            assert refusal_of(with_part(checkpoint, **{part: json.dumps({**values, name: 10**12})}), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("part", ["language_model", "reasoner", "tokenizer"])
@pytest.mark.parametrize("wrong", ["gpt2", "somebody/else", "{", "{}", "{x", "[]", "", 3, [], {}, None, {"x": 1}])
def test_a_part_of_a_checkpoint_that_is_none_is_refused(
    part: str, wrong: Any, checkpoint: dict[str, Any], tmp_path: Path
) -> None:
    if (part, wrong) != ("reasoner", None):
        assert refusal_of(with_part(checkpoint, **{part: wrong}), tmp_path) is not None


@pytest.mark.slow
def test_a_checkpoint_without_some_of_it_is_refused(checkpoint: dict[str, Any], tmp_path: Path) -> None:
    config = checkpoint["nar_config"]
    for name in ("language_model", "reasoner", "tokenizer"):
        parts = {key: value for key, value in config["parts"].items() if key != name}
        assert refusal_of({**checkpoint, "nar_config": {**config, "parts": parts}}, tmp_path) is not None
    for name in list(checkpoint["state_dict"])[::25]:
        weights = {key: value for key, value in checkpoint["state_dict"].items() if key != name}
        assert refusal_of({**checkpoint, "state_dict": weights}, tmp_path) is not None
    assert refusal_of({**checkpoint, "nar_config": {**config, "parts": None}}, tmp_path) is not None
    assert refusal_of({"nar_config": config}, tmp_path) is not None


TOKENIZERS: list[tuple[str, str]] = [
    ("tokenizer.json", "garbage"),
    ("tokenizer.json", "{}"),
    ("tokenizer.json", '{"version": "1.0", "model": {"type": "BPE", "vocab": {"a": 0}, "merges": [["a", "b"]]}}'),
    ("tokenizer.json", "[" * 100_000),
    ("tokenizer_config.json", "garbage"),
    ("tokenizer_config.json", json.dumps({"tokenizer_class": "Nothing"})),
    ("tokenizer_config.json", json.dumps({"auto_map": CODE, "tokenizer_class": "Own"})),
    ("tokenizer_config.json", json.dumps({"auto_map": {"AutoTokenizer": ["a/b--harm.Own", None]}})),
    ("config.json", json.dumps({"auto_map": CODE, "model_type": "unknown"})),
    ("..", "x"),
    ("", "x"),
]


@pytest.mark.parametrize(("name", "text"), TOKENIZERS)
def test_a_tokenizer_s_files_are_read_or_refused(
    name: str, text: str, checkpoint: dict[str, Any], tmp_path: Path
) -> None:
    files = {**checkpoint["nar_config"]["parts"]["tokenizer"], "harm.py": f"open({str(tmp_path / 'mark')!r}, 'w')"}
    refusal_of(with_part(checkpoint, tokenizer={**files, name: text}), tmp_path)
    assert not (tmp_path / "mark").exists()
