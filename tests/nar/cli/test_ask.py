"""``nar ask``, and what ``nar test`` reports of answers."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hybrids import ALGORITHMS, reasoner

from nar import cli
from nar.analysis.answers import read_text_csv
from nar.cli.answers import _parting, compared, name_of, read_baseline, report_test
from nar.datasets.text.datamodule import CLRSText
from nar.datasets.text.stream import TextSample, text_samples
from nar.datasets.text.tokenizer import text_tokenizer
from nar.errors import UserError
from nar.hybrid.module import Answer, LanguageReasoner

SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}


def module(*, alone: bool = False) -> LanguageReasoner:
    """A tiny one with random weights."""
    torch.manual_seed(0)
    language_model = {"model_type": "llama", **SIZES, "max_position_embeddings": 512}
    source = None if alone else json.dumps(reasoner().config)
    return LanguageReasoner(text_tokenizer(), ALGORITHMS, language_model, source, language_model_only=alone)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """Of one."""
    made = module()
    data = {"algorithms": list(ALGORITHMS), "hints": False}
    config = {"model": {"language_model": {}, "reasoner": None}, "data": data, "kind": "text", "parts": made.parts()}
    torch.save({"state_dict": made.state_dict(), "nar_config": config}, tmp_path / "best.ckpt")
    return tmp_path / "best.ckpt"


def run(monkeypatch: pytest.MonkeyPatch, *args: Any) -> None:
    """Run the command line."""
    monkeypatch.setattr(sys, "path", [*sys.path])  # to which the command line adds this folder
    cli.main(["ask", *map(str, args)])


@pytest.mark.slow
def test_prompts_truth_answers_and_scores_are_shown(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--algorithm", "insertion_sort", "--num_nodes", 5, "--seed", 3, "--number", 2]
    run(monkeypatch, "--ckpt_path", checkpoint, *given)
    printed = capsys.readouterr().out
    for text in text_samples("insertion_sort", num_nodes=5, num_samples=2, seed=3):
        assert text.prompt in printed
        assert f"truth           {text.answer.strip()}" in printed
    assert printed.count("hybrid ") == printed.count("reasoner alone  [") == 2
    assert printed.count("; parse ") == 4


def test_without_an_algorithm_it_is_the_first_of_the_model(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(monkeypatch, "--ckpt_path", checkpoint)
    assert capsys.readouterr().out.startswith("bfs:\n")


@pytest.mark.parametrize("in_file", [False, True])
def test_a_text_of_one_s_own_is_answered_beside_the_truth(
    in_file: bool, checkpoint: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    prompt = "insertion_sort:\nkey: [0.4 0.1 0.3]\npred:\n"
    (tmp_path / "prompt.txt").write_text(prompt + "\n")
    run(monkeypatch, "--ckpt_path", checkpoint, "--text", tmp_path / "prompt.txt" if in_file else prompt[:-1])
    printed = capsys.readouterr().out
    assert printed.startswith(f"{prompt}\ntruth           [0.1 0.3 0.4]\n")
    assert "reasoner alone  [0." in printed


OWN = "bfs:\ns: 7, A: [[0 1], [1 0]]\npi:"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--ckpt_path", "{}", "--text", "sort 3, 1 and 2"], "unknown algorithm 'sort 3, 1 and 2"),
        (["--ckpt_path", "{}", "--text", OWN], "bfs: expected s to be a node from 0 to 1, given 7"),
        (
            ["--ckpt_path", "{}", "--text", OWN.replace("bfs", "dfs").replace("s: 7, ", "")],
            "expected an algorithm of the ",
        ),
        (["--ckpt_path", "{}", "--text", OWN, "--algorithm", "bfs"], "expected --text or --algorithm, as a text says"),
        (["--ckpt_path", "{}", "--algorithm", "dfs"], "expected an algorithm of the reasoner (bfs, insertion_sort,"),
        (["--ckpt_path", "{}", "--algorithm", "bogosort"], "unknown algorithm bogosort; known are"),
        (["--ckpt_path", "{}", "--num_nodes", "30"], "expected at most 512 tokens, the language model's context"),
        (["--ckpt_path", "{}", "--number", "0"], "--number: expected a whole number above 0, given 0"),
        (["--ckpt_path", "no.ckpt"], "no checkpoint at no.ckpt"),
        ([], "nar ask needs a checkpoint: --ckpt_path runs/transnar/best.ckpt"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_one_line(
    args: list[str],
    message: str,
    checkpoint: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        run(monkeypatch, *(arg.format(checkpoint) for arg in args))
    error = capsys.readouterr().err
    assert error.startswith(f"nar: error: {message}")
    assert error.count("\n") == 1


def test_a_checkpoint_of_a_reasoner_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = {"model": {}, "data": {}, "specs": {"bfs": {}}, "kind": "dense"}
    torch.save({"state_dict": {"weight": torch.ones(1)}, "nar_config": config}, tmp_path / "best.ckpt")
    with pytest.raises(SystemExit):
        run(monkeypatch, "--ckpt_path", tmp_path / "best.ckpt")
    assert "is a checkpoint of a reasoner alone: expected one with a language model" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ("[0 1]", "as the truth"),
        ("[0 2]", "parts from the truth at character 4: '2' in place of '1'"),
        ("[0 ", "parts from the truth at character 4, where it ends"),
        ("[0 1], 3", "parts from the truth at character 6: ',' in place of the end"),
        ("", "parts from the truth at character 1, where it ends"),
    ],
)
def test_where_an_answer_parts_from_the_truth_is_said(answer: str, words: str) -> None:
    assert _parting(answer, "[0 1]") == words


@pytest.mark.parametrize(
    ("answer", "parts"),
    [
        ("[0 1]", [("[0 1]", "green")]),
        ("[0 23]", [("[0 ", "green"), ("2", "bold red reverse"), ("3]", "red")]),
        ("[0", [("[0", "green"), (" ", "bold red reverse")]),
    ],
)
def test_where_an_answer_parts_from_the_truth_is_marked(answer: str, parts: list[tuple[str, str]]) -> None:
    shown = compared(answer, "[0 1]")
    spans = [(shown.plain[span.start : span.end], str(span.style)) for span in shown.spans] or [
        (shown.plain, str(shown.style))
    ]
    assert [span for span in spans if span[0]] == parts


def data() -> CLRSText:
    """Few texts."""
    return CLRSText(["bfs", "dijkstra"], train_sizes=[4, 6], test_sizes=[5, 6], num_test=3)


def answered(made: LanguageReasoner, texts: list[TextSample]) -> LanguageReasoner:
    """The module as if it had answered these texts, always with the truth."""
    made.answers = [Answer(text.algorithm, text.num_nodes, text.prompt, text.answer, text.answer) for text in texts]
    return made.eval()


def test_the_reasoner_alone_and_a_baseline_are_reported_beside(tmp_path: Path) -> None:
    texts = [text for of_kind in data().test_texts() for text in of_kind]
    for made, folder, baseline in (
        (module(alone=True), tmp_path / "a", None),
        (module(), tmp_path / "b", str(tmp_path / "a" / "answers.csv")),
    ):
        folder.mkdir()
        report_test(answered(made, texts), data(), folder, read_baseline(baseline))
    scores = read_text_csv(tmp_path / "b" / "answers.csv")
    assert list(dict.fromkeys(model for model, *_ in scores)) == ["hybrid", "language model", "reasoner alone"]
    assert len(scores) == 3 * 2 * 2
    for (model, *_), of_key in scores.items():
        assert of_key["texts"] == 3
        assert of_key["shape"] == 1
        assert (of_key["exact"] == 1) == (model != "reasoner alone")
    assert len(read_text_csv(tmp_path / "a" / "answers.csv")) == 4
    assert "| bfs | 5 | interpolated | hybrid | 3 |" in (tmp_path / "b" / "answers.md").read_text()


def test_of_texts_that_were_not_answered_the_reasoner_is_not_asked(tmp_path: Path) -> None:
    texts = next(data().test_texts())[:2]
    report_test(answered(module(), texts), data(), tmp_path, {})
    assert {of_key["texts"] for of_key in read_text_csv(tmp_path / "answers.csv").values()} == {2}


def test_a_baseline_that_is_no_such_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ood.csv").write_text("a,b\n")
    (tmp_path / "short.csv").write_text("model,algorithm,num_nodes,texts,parse,shape,clrs,exact\nhybrid,bfs\n")
    for path in (tmp_path / "ood.csv", tmp_path / "short.csv", tmp_path / "none.csv"):
        with pytest.raises(UserError, match=r"^no scores to report beside in .*: expected the answers.csv of a nar te"):
            read_baseline(str(path))


def test_of_a_baseline_the_same_texts_are_reported_under_another_name(tmp_path: Path) -> None:
    texts = [text for of_kind in data().test_texts() for text in of_kind]
    zero: dict[str, Any] = {"texts": 0, **dict.fromkeys(("parse", "shape", "clrs", "exact"), 0.0)}
    baseline = {("hybrid", "bfs", 5): zero, ("hybrid", "bfs", 9): zero, ("hybrid", "dfs", 5): zero}
    report_test(answered(module(), texts), data(), tmp_path, {**baseline, ("reasoner alone", "bfs", 5): zero})
    scores = read_text_csv(tmp_path / "answers.csv")
    assert [key for key in scores if key[0] == "hybrid of the baseline"] == [("hybrid of the baseline", "bfs", 5)]
    assert scores["hybrid", "bfs", 5]["exact"] == 1
    assert scores["reasoner alone", "bfs", 5]["texts"] == 3


def test_models_are_called_by_what_they_are() -> None:
    assert [name_of(module(alone=alone).model) for alone in (False, True)] == ["hybrid", "language model"]
