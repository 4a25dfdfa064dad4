"""Training language models that read a reasoner's states, by the command line."""

# Axes: B texts, L tokens.
import csv
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from hybrids import ALGORITHMS, language_model, reasoner
from torch import Tensor

from nar.analysis.answers import read_text_csv
from nar.batch import TextBatch
from nar.datasets.clrs30.recipe import recipe_spec
from nar.datasets.text import clrs_text_dataset, read_texts, write_texts
from nar.datasets.text.datamodule import CLRSText, text_batch
from nar.datasets.text.stream import TRAIN_SIZES, TextStream, text_samples
from nar.datasets.text.tokenizer import text_tokenizer
from nar.errors import UserError
from nar.hybrid import LanguageReasoner, TransNAR, load_transnar, make_language_model
from nar.processors import TripletGMPNN
from nar.tokenizer_files import files_of_tokenizer, tokenizer_of_files
from nar.training.checkpoint import read_checkpoint, write_checkpoint
from nar.training.reasoner import Reasoner

Run = Callable[..., None]

NAR = Path(sys.executable).with_name("nar")
CONFIG_FOLDER = Path(__file__).parents[2] / "scripts" / "configs"
CONFIGS = sorted(CONFIG_FOLDER.glob("transnar*.yaml"))
TINY = {
    "model_type": "llama",
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "attention_dropout": 0.1,
}
ELSEWHERE = ["--trainer.default_root_dir", "elsewhere"]
PARTS = {"language_model": TINY, "language_model_only": True}
DDP = ["--trainer.devices", "2", "--trainer.strategy", "ddp"]


def save_reasoner(path: Path, algorithms: Sequence[str] = ALGORITHMS) -> None:
    made = reasoner()
    made.specs = {algorithm: made.specs[algorithm] for algorithm in algorithms}
    for algorithm in set(ALGORITHMS) - set(algorithms):
        del made.model.heads[algorithm]
    with path.open("wb") as file:
        write_checkpoint(file, made)


@pytest.fixture
def short(tmp_path: Path) -> list[str]:
    """Settings that make a run short, and a reasoner."""
    save_reasoner(tmp_path / "reasoner.ckpt")
    return [
        *("--model", "LanguageReasoner"),
        *("--model.reasoner", "reasoner.ckpt", "--data.algorithms", "[bfs,insertion_sort]", "--data.num_workers", "0"),
        *("--data.train_sizes", "[4,5]", "--data.test_sizes", "[4,6]", "--data.batch_size", "3"),
        *("--data.num_val", "2", "--data.num_test", "2", "--trainer.default_root_dir", "run"),
        *("--trainer.max_steps", "4", "--trainer.val_check_interval", "2", "--trainer.accumulate_grad_batches", "1"),
        *("--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"),
        *("--trainer.enable_model_summary", "false", "--trainer.log_every_n_steps", "1"),
    ]


@pytest.fixture
def tiny(short: list[str]) -> list[str]:
    """And a language model, which starts from random weights."""
    return [*short, "--model.language_model", json.dumps(TINY), "--model.max_position", "1000"]


def metrics(root: Path, name: str) -> list[float]:
    """What was logged, of the last version of a run."""
    (*_, last) = sorted(root.glob("logs/version_*/metrics.csv"))
    with last.open() as file:
        return [float(row[name]) for row in csv.DictReader(file) if row.get(name)]


def weights(path: Path) -> dict[str, Tensor]:
    return dict(read_checkpoint(path)["state_dict"])


def assert_equal_weights(one: Path, other: Path) -> None:
    ours, theirs = weights(one), weights(other)
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert torch.equal(ours[name], theirs[name]), name


def error_of(run: Run, capsys: pytest.CaptureFixture[str], *args: str) -> str:
    """The one line of a refused command."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        run(*args)
    assert stop.value.code == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("nar: error: ")]
    return line


def save_pretrained(folder: Path) -> None:
    """A small language model and its tokenizer."""
    tokenizer = text_tokenizer()
    model = language_model("gpt_neox", vocab_size=len(tokenizer), max_position_embeddings=512)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


@pytest.mark.slow
@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_every_shipped_config_trains_and_its_checkpoint_is_tested_without_any_other_file(
    config: Path, run: Run, short: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    smaller = ["--model.language_model", json.dumps(TINY)]
    if config.stem == "transnar_pretrained":
        save_pretrained(tmp_path / "pretrained")
        smaller = ["--model.language_model", "pretrained", "--data.tokenizer", "pretrained"]
    run("fit", "--config", str(config), *short, *smaller)
    (tmp_path / "reasoner.ckpt").unlink()
    shutil.rmtree(tmp_path / "pretrained", ignore_errors=True)
    elsewhere = tmp_path / "elsewhere"
    (tmp_path / "run").rename(elsewhere)
    run("validate", "--ckpt_path", "elsewhere/best.ckpt")
    run("test", "--ckpt_path", "elsewhere/best.ckpt", "--data.test_sizes", "[4]")


@pytest.mark.slow
def test_a_checkpoint_is_tested_on_the_texts_of_a_file(
    run: Run, tiny: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("fit", *tiny)
    write_texts("texts.jsonl", clrs_text_dataset({"bfs": [4, 7], "dfs": [4]}, 6, seed=5))
    run("test", "--ckpt_path", "run/best.ckpt", "--data.texts", "texts.jsonl")
    scores = read_text_csv(tmp_path / "run" / "answers.csv")
    rows = [row for row in read_texts("texts.jsonl") if row["algo_name"] == "bfs"]
    sizes = Counter(row["length"] for row in rows)
    assert {(*key, of_key["texts"]) for key, of_key in scores.items() if key[0] == "hybrid"} == {
        ("hybrid", "bfs", size, number) for size, number in sizes.items()
    }
    write_texts("others.jsonl", clrs_text_dataset({"dfs": [4]}, 1))
    expected = "expected texts of bfs, insertion_sort in others.jsonl, given none"
    assert expected in error_of(run, capsys, "test", "--ckpt_path", "run/best.ckpt", "--data.texts", "others.jsonl")
    write_texts("texts.jsonl", [{**rows[0], "length": 99}])
    expected = f"row 1: expected length {rows[0]['length']}, as many as in question, given 99"
    assert expected in error_of(run, capsys, "test", "--ckpt_path", "run/best.ckpt", "--data.texts", "texts.jsonl")
    assert "cannot read none.jsonl" in error_of(
        run, capsys, "test", "--ckpt_path", "run/best.ckpt", "--data.texts", "none.jsonl"
    )


@pytest.mark.slow
def test_a_hybrid_is_trained_and_tested_with_the_graphs_of_other_texts(
    run: Run, tiny: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shuffled = ["--model.shuffle_graphs", "true"]
    pairs = [*tiny, "--data.batch_size", "8"]
    run("fit", *pairs)
    run("fit", *pairs, *shuffled, *ELSEWHERE)
    assert metrics(tmp_path / "run", "train/loss")[0] == metrics(tmp_path / "elsewhere", "train/loss")[0]  # shut gates
    assert metrics(tmp_path / "run", "val/loss") != metrics(tmp_path / "elsewhere", "val/loss")
    run("test", "--ckpt_path", "run/best.ckpt", *shuffled)
    models = {model for model, _, _ in read_text_csv(tmp_path / "run" / "answers.csv")}
    assert models == {"hybrid with shuffled graphs", "reasoner alone"}
    expected = "expected two or more texts of each algorithm and size in a batch, to exchange their graphs, given one"
    assert expected in error_of(run, capsys, "test", "--ckpt_path", "run/best.ckpt", *shuffled, "--data.num_test", "1")


@pytest.mark.slow
def test_of_the_small_set_up_hybrid_and_baseline_train_equally_many_parameters() -> None:
    small = yaml.safe_load((CONFIG_FOLDER / "transnar_small.yaml").read_text())
    baseline = yaml.safe_load((CONFIG_FOLDER / "variants" / "transnar_baseline.yaml").read_text())
    of_reasoner = yaml.safe_load((CONFIG_FOLDER / "generalist_small.yaml").read_text())
    algorithms = small["data"]["init_args"]["algorithms"]
    assert of_reasoner["data"]["algorithms"] == algorithms
    made = Reasoner({name: recipe_spec(name) for name in algorithms}, TripletGMPNN(gated=False))
    tokens = {"vocab_size": len(text_tokenizer(whole_numbers=True))}
    settings = [config["model"]["init_args"]["language_model"] for config in (small, baseline)]
    numbers = []
    for setting, of_model in zip(settings, (made, None), strict=True):
        model = TransNAR(make_language_model({**tokens, **setting}), of_model)
        numbers.append(sum(x.numel() for x in model.parameters() if x.requires_grad))
    assert numbers[1] == pytest.approx(numbers[0], rel=0.001)
    assert {**settings[1], "intermediate_size": settings[0]["intermediate_size"]} == settings[0]
    assert 2e6 < numbers[0] < 4e6


def test_of_the_small_set_up_there_are_four_times_as_many_positions_as_the_longest_text_has_tokens() -> None:
    arguments = yaml.safe_load((CONFIG_FOLDER / "transnar_small.yaml").read_text())
    data = CLRSText(**arguments["data"]["init_args"])
    longest = max(text.input_ids.shape[1] for text in data.largest_texts())
    assert 4 * longest <= arguments["model"]["init_args"]["max_position"] <= 5 * longest


def test_whole_numbers_are_tokens_of_the_own_tokenizer_alone() -> None:
    (batch,) = CLRSText(["bfs"], train_sizes=[4], test_sizes=[4], whole_numbers=True).largest_texts()
    assert batch.input_ids.shape == (1, 47)
    with pytest.raises(
        UserError, match=r"^expected whole_numbers for the tokenizer made for texts alone, given gpt2 too$"
    ):
        CLRSText(["bfs"], tokenizer="gpt2", whole_numbers=True)
    with pytest.raises(UserError, match=r"expected decimals of at least 1, given 0|decimals"):
        CLRSText(["bfs"], decimals=0)


def test_the_paper_s_language_model_has_70_million_parameters() -> None:
    config = yaml.safe_load((CONFIG_FOLDER / "transnar.yaml").read_text())
    with torch.device("meta"):
        module = LanguageReasoner(
            text_tokenizer(), [], config["model"]["init_args"]["language_model"], language_model_only=True
        )
    assert len(module.model.language_model.model.layers) == 6
    assert sum(parameter.numel() for parameter in module.parameters()) == pytest.approx(70e6, rel=0.05)


@pytest.mark.slow
def test_a_checkpoint_gives_the_hybrid_and_its_tokenizer(run: Run, tiny: list[str], tmp_path: Path) -> None:
    run("fit", *tiny)
    model, tokenizer = load_transnar("run/last.ckpt")
    assert not model.training
    assert model.settings["max_position"] == 1000
    assert tokenizer.get_vocab() == text_tokenizer().get_vocab()
    saved = weights(tmp_path / "run" / "last.ckpt")
    assert all(torch.equal(value, saved[f"model.{name}"]) for name, value in model.state_dict().items())
    batch = text_batch(tokenizer, text_samples("bfs", num_nodes=5, num_samples=2, seed=0))
    model.save_pretrained("hybrid")
    of_both = []
    for each in (model, TransNAR.from_pretrained("hybrid")):
        torch.manual_seed(0)
        with torch.no_grad():
            of_both.append(each(batch.input_ids, batch.graphs, batch.attention_mask).logits)
    assert torch.equal(*of_both)


@pytest.mark.slow
@pytest.mark.parametrize("frozen", [True, False])
def test_a_reasoner_learns_only_if_it_is_not_frozen(frozen: bool, run: Run, tiny: list[str], tmp_path: Path) -> None:
    run("fit", *tiny, "--model.freeze_reasoner", str(frozen).lower())
    before, after = weights(tmp_path / "reasoner.ckpt"), weights(tmp_path / "run" / "last.ckpt")
    changed = [name for name, value in before.items() if not torch.equal(value, after[name.replace("model", MODEL)])]
    assert bool(changed) != frozen
    assert not torch.equal(after["model.cross_attention.0.alpha"], torch.tensor(0.0))


MODEL = "model.reasoner"


@pytest.mark.slow
def test_the_baseline_is_the_same_transformer_without_the_reasoner(run: Run, tiny: list[str], tmp_path: Path) -> None:
    run("fit", *tiny)
    run("fit", *tiny, "--model.language_model_only", "true", "--trainer.default_root_dir", "baseline")
    hybrid, baseline = (weights(tmp_path / root / "last.ckpt") for root in ("run", "baseline"))
    of_language_model = {name for name in hybrid if name.startswith("model.language_model.")}
    assert baseline.keys() == of_language_model
    run("test", "--ckpt_path", "baseline/best.ckpt")


@pytest.mark.slow
def test_runs_are_named_after_the_model(run: Run, tiny: list[str], tmp_path: Path) -> None:
    at = tiny.index("--trainer.default_root_dir")
    anywhere = [*tiny[:at], *tiny[at + 2 :]]
    run("fit", *anywhere)
    run("fit", *anywhere, "--model.language_model_only", "true")
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {"transnar", "transformer"}


@pytest.mark.slow
def test_a_killed_run_resumes_as_if_it_had_never_stopped(tiny: list[str], tmp_path: Path) -> None:
    args = [*tiny, "--data.num_workers", "1", "--trainer.max_steps", "24", "--model.warmup_steps", "20"]
    whole = ["--trainer.default_root_dir", "whole"]
    subprocess.run([NAR, "fit", *args, *whole], cwd=tmp_path, check=True, capture_output=True)
    with subprocess.Popen(
        [NAR, "fit", *args], cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT
    ) as fit:
        last = tmp_path / "run" / "last.ckpt"
        deadline = time.monotonic() + 120
        while not last.exists() and fit.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        fit.send_signal(signal.SIGKILL)
    assert fit.returncode == -signal.SIGKILL
    assert read_checkpoint(last)["global_step"] < 24
    subprocess.run([NAR, "fit", *args, "--ckpt_path", "last"], cwd=tmp_path, check=True, capture_output=True)
    assert read_checkpoint(last)["global_step"] == 24
    assert_equal_weights(last, tmp_path / "whole" / "last.ckpt")


@pytest.mark.slow
def test_two_processes_train_one_model_and_score_every_text_once(run: Run, tiny: list[str], tmp_path: Path) -> None:
    args = [*tiny, "--data.num_val", "3", "--model.positions_in_evaluation", "consecutive"]
    subprocess.run([NAR, "fit", *args, *DDP], cwd=tmp_path, check=True, capture_output=True)
    names = ("val/loss", "val/score", "val/exact")
    with_two = [metrics(tmp_path / "run", name)[-1] for name in names]
    run("validate", "--ckpt_path", "run/last.ckpt")
    assert [metrics(tmp_path / "run", name)[-1] for name in names] == pytest.approx(with_two, rel=1e-5)


@pytest.mark.slow
def test_two_processes_train_a_reasoner_too(tiny: list[str], tmp_path: Path) -> None:
    args = [*tiny, "--model.freeze_reasoner", "false"]
    subprocess.run([NAR, "fit", *args, *DDP], cwd=tmp_path, check=True, capture_output=True)


@pytest.mark.slow
def test_a_checkpoint_gives_the_hybrid_in_the_precision_of_its_run(run: Run, tiny: list[str], tmp_path: Path) -> None:
    run("fit", *tiny, "--trainer.precision", "bf16-true")
    model, _ = load_transnar("run/last.ckpt")
    saved = weights(tmp_path / "run" / "last.ckpt")
    for name, value in model.state_dict().items():
        assert value.dtype == saved[f"model.{name}"].dtype, name
        assert torch.equal(value, saved[f"model.{name}"]), name
    rotary = [value for name, value in model.named_buffers() if name.endswith("inv_freq")]
    assert {value.dtype for value in [*rotary, *model.cross_attention.parameters()]} == {torch.bfloat16}


@pytest.mark.slow
def test_gradients_of_several_batches_make_a_step(run: Run, tiny: list[str], tmp_path: Path) -> None:
    run("fit", *tiny, "--trainer.accumulate_grad_batches", "3")
    checkpoint = read_checkpoint(tmp_path / "run" / "last.ckpt")
    assert checkpoint["global_step"] == 4
    assert checkpoint["CLRSText"] == {"num_batches_seen": 12}
    assert len(metrics(tmp_path / "run", "val/score")) == 4  # and not in the midst of a step, as every 2 batches would


@pytest.mark.slow
def test_mixed_precision_leaves_a_reasoner_as_it_was(
    run: Run, tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dtypes = []
    keys = TransNAR._graph_keys

    def graph_keys(self: TransNAR, given: Any, *rest: Any) -> Any:
        hook = given.processor.register_forward_hook(lambda module, args, output: dtypes.append(output[0].dtype))
        try:
            return keys(self, given, *rest)
        finally:
            hook.remove()

    monkeypatch.setattr(TransNAR, "_graph_keys", graph_keys)
    run("fit", *tiny, "--trainer.precision", "bf16-mixed")
    assert set(dtypes) == {torch.float32}
    assert all(torch.isfinite(value).all() for value in weights(tmp_path / "run" / "last.ckpt").values())


def batch_of(algorithm: str = "bfs", hints: bool = False) -> TextBatch:
    return text_batch(text_tokenizer(), text_samples(algorithm, num_nodes=5, num_samples=2, seed=0, hints=hints))


@pytest.mark.parametrize("hints", [False, True])
def test_the_answer_and_the_end_are_what_is_learned(hints: bool) -> None:
    tokenizer = text_tokenizer()
    samples = [*text_samples("bfs", num_nodes=4, num_samples=2, seed=0, hints=hints)]
    samples += text_samples("heapsort", num_nodes=6, num_samples=1, seed=0, hints=hints)
    batch = text_batch(tokenizer, samples)
    for row, sample in enumerate(samples):
        tokens = batch.input_ids[row][batch.attention_mask[row] == 1]
        assert tokenizer.decode(tokens) == f"{sample.prompt}{sample.answer}<eos>"
        is_answer = batch.labels[row] != -100
        assert tokenizer.decode(batch.labels[row][is_answer]) == f"{sample.answer}<eos>"
        assert torch.equal(batch.labels[row][is_answer], batch.input_ids[row][is_answer])
    assert list(batch.keys) == [("bfs", 4), ("bfs", 4), ("heapsort", 6)]
    assert [group.rows for group in batch.graphs] == [(0, 1), (2,)]


def module_with(logits: Callable[[TextBatch], Tensor], **settings: Any) -> Any:
    """A module that predicts this."""
    module: Any = LanguageReasoner(text_tokenizer(), [], **{**PARTS, **settings})
    module.forward = logits
    module.log = lambda *args, **kwargs: None
    module.trainer = SimpleNamespace(global_step=1)
    return module


def right_but(*wrong: tuple[int, int]) -> Callable[[TextBatch], Tensor]:
    """Logits of what comes next, of another token at some places of some rows."""

    def logits(batch: TextBatch) -> Tensor:
        following = batch.input_ids.roll(-1, dims=1)
        for row, place in wrong:
            following[row, place] = (following[row, place] + 1) % len(text_tokenizer())
        return 20.0 * torch.nn.functional.one_hot(following, len(text_tokenizer())).float()

    return logits


def test_the_loss_is_the_mean_over_tokens_of_answers_or_over_all() -> None:
    batch = batch_of()
    start = int((batch.labels[0] != -100).int().argmax())
    in_answer, in_prompt = (0, start), (1, 3)
    num_answer = int((batch.labels != -100).sum())
    num_all = int(batch.attention_mask.sum()) - 2
    of_answer = module_with(right_but(in_answer, in_prompt)).training_step(batch, 0)
    of_all = module_with(right_but(in_answer, in_prompt), loss_on="all").training_step(batch, 0)
    assert float(of_answer) == pytest.approx(20 / num_answer, rel=1e-4)
    assert float(of_all) == pytest.approx(2 * 20 / num_all, rel=1e-4)


def test_scores_are_of_the_tokens_of_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = batch_of()
    start = int((batch.labels[0] != -100).int().argmax())
    logged: dict[str, Any] = {}
    module = module_with(right_but((0, start), (1, 3)))
    module.log_dict = lambda values, **kwargs: logged.update(values)
    module.validation_step(batch, 0)
    module.on_validation_epoch_end()
    num_answer = int((batch.labels != -100).sum())
    assert logged["val/bfs/score"] == logged["val/score"] == pytest.approx(1 - 1 / num_answer)
    assert logged["val/exact"] == 0.5
    assert logged["val/loss"] == pytest.approx(20 / num_answer, rel=1e-4)
    assert module.scores.keys() == {("bfs", 5)}


def test_a_loss_that_is_not_finite_stops_training() -> None:
    module = module_with(lambda batch: right_but()(batch) * float("nan"))
    module.trainer.global_step = 51
    with pytest.raises(UserError, match="the loss is nan after step 51; expected a finite number"):
        module.training_step(batch_of(), 0)


@pytest.mark.slow
def test_texts_of_tests_that_are_too_long_are_refused_before_training(
    run: Run, tiny: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    short_context = ["--model.language_model.max_position_embeddings", "150"]
    run("fit", *tiny, *short_context)
    line = error_of(run, capsys, "fit", *tiny, *short_context, "--data.test_sizes", "[12]", *ELSEWHERE)
    assert "expected texts of at most 150 tokens" in line
    assert "bfs with n = 12" in line
    assert not (tmp_path / "elsewhere").exists() or not list((tmp_path / "elsewhere").glob("*.ckpt"))


@pytest.mark.slow
def test_a_checkpoint_makes_no_objects_of_what_it_calls_its_language_model(
    run: Run, tiny: list[str], tmp_path: Path
) -> None:
    run("fit", *tiny)
    path = tmp_path / "run" / "last.ckpt"
    checkpoint = torch.load(path, weights_only=True)
    written = json.loads(checkpoint["nar_config"]["parts"]["language_model"])
    file = {"class_path": "logging.FileHandler", "init_args": {"filename": str(tmp_path / "made")}}
    checkpoint["nar_config"]["parts"]["language_model"] = {**written, "file": file}
    checkpoint["nar_config"]["model"]["language_model"] = {**TINY, "file": file}
    torch.save(checkpoint, path)
    run("validate", "--ckpt_path", "run/last.ckpt")
    assert not (tmp_path / "made").exists()


@pytest.mark.slow
def test_a_checkpoint_that_needs_something_else_is_refused_in_one_line(
    run: Run, tiny: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr("builtins.input", asked.append)
    monkeypatch.setattr("socket.getaddrinfo", lambda *args, **kwargs: asked.append(args))
    run("fit", *tiny)
    path = tmp_path / "run" / "last.ckpt"
    checkpoint = torch.load(path, weights_only=True)
    parts = checkpoint["nar_config"]["parts"]
    code = {**json.loads(parts["language_model"]), "model_type": "vit", "auto_map": {"AutoModelForCausalLM": "a--b.C"}}
    for harm, message in (
        ({**parts, "language_model": "gpt2"}, "expected the description of a language_model in a checkpoint, given"),
        ({**parts, "language_model": json.dumps(code)}, "the language model of the checkpoint is damaged"),
        ({**parts, "reasoner": "{}"}, "it has no model or no specs"),
        ({**parts, "tokenizer": {"tokenizer.json": "x"}}, "expected the files of a tokenizer, given others"),
        ({name: part for name, part in parts.items() if name != "tokenizer"}, "expected the files of a tokenizer"),
    ):
        torch.save({**checkpoint, "nar_config": {**checkpoint["nar_config"], "parts": harm}}, path)
        assert message in error_of(run, capsys, "test", "--ckpt_path", "run/last.ckpt")
        assert message in error_of(run, capsys, "ask", "--ckpt_path", "run/last.ckpt")
    assert asked == []


def test_a_tokenizer_with_several_chat_templates_is_kept() -> None:
    tokenizer = text_tokenizer()
    tokenizer.chat_template = {"default": "{{ messages }}", "other": "{{ messages }}"}
    assert tokenizer_of_files(files_of_tokenizer(tokenizer)).get_vocab() == tokenizer.get_vocab()


def test_samples_of_a_turn_are_of_one_algorithm_and_size() -> None:
    lengths = {"bfs": (4, 6), "insertion_sort": (5,)}
    stream = TextStream(lengths, batch_size=9, seed=3, group_size=3)
    turns = [(one.algorithm, one.num_nodes) for one in stream[0]][::3]
    assert turns == [("bfs", 4), ("insertion_sort", 5), ("bfs", 6)]
    assert [(one.algorithm, one.num_nodes) for one in stream[0]] == [turn for turn in turns for _ in range(3)]
    assert len({one.prompt for one in stream[0]}) == 9


def test_the_lengths_of_training_are_the_published_ones_by_default() -> None:
    assert CLRSText("bridges").sizes == {"bridges": TRAIN_SIZES["bridges"]}
    assert CLRSText(["bridges", "bfs"], train_sizes=[4, 6]).sizes == {"bridges": [4, 6], "bfs": [4, 6]}


def test_what_a_batch_draws_is_its_own() -> None:
    data = CLRSText(["bfs"], train_sizes=[4, 5], batch_size=2, num_workers=0, seed=1)
    first, second = (batch for batch, _ in zip(data.train_dataloader(), range(2), strict=False))
    assert first.seed != second.seed
    data.load_state_dict({"num_batches_seen": 1})
    resumed = next(iter(data.train_dataloader()))
    assert resumed.seed == second.seed
    assert torch.equal(resumed.input_ids, second.input_ids)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--model.reasoner", "no.ckpt"], "no checkpoint at no.ckpt"),
        (["--model.reasoner", "null"], "expected a reasoner, as in --model.reasoner"),
        (
            ["--data.algorithms", "[bfs,heapsort]"],
            r"the reasoner knows (bfs, insertion_sort, dijkstra), given heapsort",
        ),
        (["--data.algorithms", "[bfs,nothing]"], "nothing"),
        (["--data.train_sizes", "[4,1]"], "bfs needs at least"),
        (["--data.train_sizes", "[]"], "at least one size in train_sizes"),
        (["--data.test_sizes", "[]"], "at least one size in test_sizes"),
        (["--data.tokenizer", "nowhere/at/all"], "expected the name or the folder of a tokenizer"),
        (["--model.language_model", "nowhere/at/all"], "no language model 'nowhere/at/all'"),
        (["--model.language_model", '{"model_type": "bloom", "n_layer": 1}'], "position"),
        (["--model.language_model", json.dumps({**TINY, "vocab_size": 5})], "the tokenizer's 95 tokens"),
        (["--model.language_model", json.dumps({**TINY, "max_position_embeddings": 50})], "at most 50 tokens"),
        (["--model.num_heads", "3"], "num_heads that divides"),
        (["--model.learning_rate", "0"], "learning_rate above 0"),
        (["--model.warmup_steps", "-1"], "warmup_steps of 0 or more"),
        (["--trainer.strategy", "fsdp"], "FSDP"),
    ],
)
def test_what_does_not_fit_is_said_in_one_line(
    args: list[str], message: str, run: Run, tiny: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in error_of(run, capsys, "fit", *tiny, *args)


def test_a_tokenizer_that_cannot_express_the_texts_is_refused(
    run: Run, tiny: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    poor = Tokenizer(models.WordLevel({"bfs": 0, "<unk>": 1}, unk_token="<unk>"))
    poor.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=poor, unk_token="<unk>").save_pretrained("poor")
    assert "cannot express the text" in error_of(run, capsys, "fit", *tiny, "--data.tokenizer", "poor")


@pytest.mark.slow
def test_checkpoints_of_other_kinds_are_told_apart(
    run: Run, tiny: list[str], small: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    run("fit", *tiny)
    again = ["--trainer.default_root_dir", "again", "--model.reasoner", "run/best.ckpt"]
    assert "of a language model: expected one of a reasoner" in error_of(run, capsys, "fit", *tiny, *again)
    assert "is a checkpoint of a LanguageReasoner: expected one of a Reasoner" in error_of(
        run, capsys, "latents", "--ckpt_path", "run/best.ckpt"
    )
    with pytest.raises(UserError, match="a reasoner alone"):
        load_transnar("reasoner.ckpt")


def test_former_names_of_sizes_are_taken_with_a_warning() -> None:
    with pytest.warns(DeprecationWarning, match="the argument test_lengths of CLRSText is now test_sizes"):
        data = CLRSText(["bfs"], test_lengths=[6])
    assert data.test_sizes == [6]
    with pytest.warns(DeprecationWarning, match="the argument train_lengths of CLRSText is now train_sizes"):
        data = CLRSText(["bfs"], train_lengths=[4, 6])
    assert data.sizes == {"bfs": [4, 6]}


@pytest.mark.slow
def test_a_run_goes_on_whether_sizes_have_their_former_names_in_its_checkpoint_or_on_the_command_line(
    run: Run, tiny: list[str], tmp_path: Path
) -> None:
    run("fit", *tiny)
    path = tmp_path / "run" / "last.ckpt"
    checkpoint = torch.load(path, weights_only=False)
    data = checkpoint["nar_config"]["data"]
    assert data["train_sizes"] == [4, 5]
    data |= {"train_lengths": data.pop("train_sizes"), "test_lengths": data.pop("test_sizes")}
    torch.save(checkpoint, path)
    longer = ["--ckpt_path", "last", "--trainer.max_steps"]
    run("fit", *tiny, *longer, "5")
    with pytest.warns(DeprecationWarning, match="train_lengths of CLRSText is now train_sizes"):
        run("fit", *[flag.replace("train_sizes", "train_lengths") for flag in tiny], *longer, "6")
    assert read_checkpoint(path)["global_step"] == 6
    assert read_checkpoint(path)["nar_config"]["data"]["train_sizes"] == [4, 5]


@pytest.mark.slow
def test_a_run_goes_on_with_what_it_was_given(
    run: Run, tiny: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    run("fit", *tiny)
    longer = [*tiny, "--ckpt_path", "last", "--trainer.max_steps", "6"]
    assert "model.warmup_steps 0, but" in error_of(run, capsys, "fit", *longer, "--model.warmup_steps", "2")
    assert "data.train_sizes [4, 5], but" in error_of(run, capsys, "fit", *longer, "--data.train_sizes", "[4]")
    (tmp_path / "reasoner.ckpt").unlink()  # the checkpoint has it
    run("fit", *longer)
    assert read_checkpoint(tmp_path / "run" / "last.ckpt")["global_step"] == 6
    config = yaml.safe_load(sorted((tmp_path / "run").rglob("config.yaml"))[-1].read_text())
    assert config["model"]["init_args"]["reasoner"] == "reasoner.ckpt"


def test_without_transformers_the_command_says_what_to_install(
    run: Run, tiny: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    monkeypatch.delitem(sys.modules, "nar.hybrid.module")
    assert 'a language model needs transformers: pip install "transformers>=5.24,<6"' in error_of(
        run, capsys, "fit", *tiny
    )


@pytest.mark.slow
def test_training_a_reasoner_needs_no_language_model(tmp_path: Path) -> None:
    code = f"""
import sys
from nar.cli import main
try:
    main(["fit", "--config", "{CONFIG_FOLDER / "clrs30.yaml"}", "--print_config"])
finally:
    print("nar.hybrid" in sys.modules)
"""
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert result.stdout.strip().splitlines()[-1] == "False"


BAD_SETTINGS: list[tuple[dict[str, Any], str]] = [
    ({"learning_rate": float("nan")}, "expected a learning_rate above 0, given nan"),
    ({"learning_rate": float("inf")}, "expected a learning_rate of at most 1000, given inf"),
    ({"weight_decay": float("nan")}, "expected weight_decay of 0 or more, given nan"),
    ({"warmup_steps": -1}, "expected warmup_steps of 0 or more, given -1"),
    ({"loss_on": "prompt"}, "expected loss_on 'answer' or 'all', given 'prompt'"),
    ({"steps_per_block": 1.5}, "expected steps_per_block ≥ 1, given 1.5"),
    ({"steps_per_block": True}, "expected steps_per_block ≥ 1, given True"),
    ({"shuffle_graphs": True}, "expected shuffle_graphs for a model with a reasoner, given language_model_only too"),
    ({"num_heads": 0}, "expected num_heads ≥ 1, given 0"),
    ({"max_position": 0}, "expected max_position ≥ 1, given 0"),
    ({"max_position": -1}, "expected max_position ≥ 1, given -1"),
    ({"positions_in_evaluation": "none"}, "expected positions_in_evaluation 'random' or 'consecutive', given 'none'"),
    ({"language_model": ""}, "expected the name, the folder or the settings of a language_model, given ''"),
    ({"language_model": "{"}, "expected the JSON text of a language model, given '{'"),
    ({"language_model": "{}"}, "given None"),
    ({"language_model": {**TINY, "attention_dropout": 1}}, "attention_dropout of at least 0 and below 1, given 1"),
    ({"language_model": {**TINY, "attention_dropout": -0.1}}, "attention_dropout of at least 0 and below 1, given"),
    ({"language_model": {**TINY, "hidden_size": 0}}, "expected"),
    ({"language_model": {**TINY, "hidden_size": -1}}, "expected"),
    ({"language_model": {**TINY, "hidden_size": "x"}}, "hidden_size"),
    ({"language_model": {**TINY, "hidden_size": 10**12}}, "expected"),
    ({"language_model": {**TINY, "vocab_size": 10**12}}, "expected a model that fits into"),
    ({"language_model": {**TINY, "num_attention_heads": 0}}, "expected settings of which a llama can be made"),
    ({"language_model": {**TINY, "num_hidden_layers": 10**9}}, "expected num_hidden_layers of at most"),
    ({"language_model": {**TINY, "attn_implementation": "nothing"}}, "nothing"),
    ({"reasoner": "{}"}, "expected a checkpoint of nar fit as the reasoner, given '{}': it has no model or no specs"),
    ({"reasoner": "{"}, "expected a checkpoint of nar fit as the reasoner, given '{': Expecting property name"),
    ({"reasoner": "{1"}, "expected a checkpoint of nar fit as the reasoner, given '{1': "),
    ({"reasoner": ""}, "no checkpoint at"),
]


@pytest.mark.parametrize(("settings", "message"), BAD_SETTINGS)
def test_what_no_model_can_be_made_of_is_refused_in_one_line(settings: dict[str, Any], message: str) -> None:
    reasoner_alone = {**PARTS, "language_model_only": "reasoner" not in settings}
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        LanguageReasoner(text_tokenizer(), ["bfs"], **{**reasoner_alone, **settings})
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 400


def test_prompts_that_cannot_be_padded_are_refused_in_one_line() -> None:
    decoder = {"d_model": 16, "decoder_layers": 1, "decoder_attention_heads": 2, "decoder_ffn_dim": 32}
    language_model = {"model_type": "bart", "max_position_embeddings": 512, **decoder}
    module = LanguageReasoner(text_tokenizer(), [], language_model, language_model_only=True)
    samples = [sample for n in (4, 5) for sample in text_samples("bfs", num_nodes=n, num_samples=1, seed=0)]
    batch = text_batch(text_tokenizer(), samples)
    texts = {"prompts": tuple(one.prompt for one in samples), "answers": tuple(one.answer for one in samples)}
    with pytest.raises(UserError, match="expected an attention_mask of 1 at tokens and 0 after them"):
        module.test_step(batch._replace(**texts), 0)
