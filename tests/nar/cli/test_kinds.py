"""Which kind of model a command line is about."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

from nar.cli.kinds import DENSE, KINDS, SPARSE, TEXT, choose
from nar.errors import UserError

Run = Callable[..., None]
CONFIGS = Path(__file__).parents[3] / "scripts" / "configs"


@pytest.mark.parametrize("config", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_shipped_configuration_says_the_kind(config: Path) -> None:
    of_stem = {"salsa": SPARSE, "transnar": TEXT}.get(config.stem.partition("_")[0], DENSE)
    assert choose(["--config", str(config)]).kind is of_stem


@pytest.mark.parametrize(
    ("args", "name"),
    [
        ([], "dense"),
        (["--model.processor", "PGN"], "dense"),
        (["--model", "SparseReasoner"], "sparse"),
        (["--model=SparseReasoner", "--data=SALSA"], "sparse"),
        (["--data", "CLRSText"], "text"),
        (["--model", "nar.hybrid.module.LanguageReasoner"], "text"),
        (["--config", "{model: {class_path: SparseReasoner}}"], "sparse"),
        (["--config", "{data: {class_path: nar.datasets.salsa.SALSA, init_args: {}}}"], "sparse"),
        (["--config", "{model: {class_path: SparseReasoner}}", "--model", "Reasoner"], "dense"),
        (["--config", "{model: {class_path: Reasoner}}", "-c", "{model: {class_path: SparseReasoner}}"], "sparse"),
        (["--config", "{model: {class_path: SparseReasoner}}", "-c", "{model: {learning_rate: 0.1}}"], "sparse"),
        (["--model.language_model", "{model_type: llama}"], "text"),
        (["--config", "{model: {language_model: gpt2}}"], "text"),
    ],
)
def test_flags_count_more_than_configurations_and_later_ones_more_than_earlier(args: list[str], name: str) -> None:
    assert choose(args).kind.name == name


def test_what_says_the_class_is_no_argument_of_it() -> None:
    args = [
        "--model",
        "SparseReasoner",
        "--model.init_args.learning_rate",
        "0.1",
        "--data=SALSA",
        "--data.num_val",
        "2",
    ]
    assert choose(args).args == ["--model.learning_rate", "0.1", "--data.num_val", "2"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_checkpoint_says_the_kind_and_is_read_once(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = {"model": {}, "data": {}, "specs": {}, "parts": {}, "kind": kind}
    torch.save({"state_dict": {"weight": torch.ones(1)}, "nar_config": content}, tmp_path / "last.ckpt")
    for args in (
        ["--ckpt_path", str(tmp_path / "last.ckpt")],
        ["--ckpt_path", "last", "--trainer.default_root_dir", str(tmp_path)],
    ):
        choice = choose(args)
        assert choice.kind.name == kind
        assert choice.checkpoint is not None
        assert choice.checkpoint[0] == str(tmp_path / "last.ckpt")
        assert choice.checkpoint[1]["nar_config"] == content


def test_a_model_and_data_of_different_kinds_are_refused() -> None:
    with pytest.raises(UserError, match="--data: expected CLRSText for a LanguageReasoner, given SALSA"):
        choose(["--model", "LanguageReasoner", "--data", "SALSA"])


def test_configurations_with_and_without_classes_are_the_same(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flat = {"model": {"processor": "PGN", "learning_rate": 0.01}, "data": {"algorithms": "dfs"}}
    classes = {"model": "nar.training.reasoner.Reasoner", "data": "CLRS30"}
    nested = {group: {"class_path": classes[group], "init_args": flat[group]} for group in flat}
    printed = []
    for config in (flat, nested):
        Path("config.yaml").write_text(yaml.safe_dump(config))
        with pytest.raises(SystemExit, match="0"):
            run("fit", "--config", "config.yaml", "--model.init_args.dropout", "0.5", "--print_config")
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1]
    written = yaml.safe_load(printed[0])
    assert (written["model"]["learning_rate"], written["model"]["dropout"]) == (0.01, 0.5)
    assert written["data"]["algorithms"] == "dfs"


@pytest.mark.parametrize("kind", [SPARSE, TEXT], ids=lambda kind: kind.name)
def test_a_printed_configuration_of_another_kind_says_its_classes(
    kind: object, run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert kind in (SPARSE, TEXT)
    name = "salsa" if kind is SPARSE else "transnar_small"
    given = ["--config", str(CONFIGS / f"{name}.yaml")]
    printed = []
    for args in (given, ["--config", "printed.yaml"]):
        with pytest.raises(SystemExit, match="0"):
            run("fit", *args, "--print_config")
        printed.append(capsys.readouterr().out)
        Path("printed.yaml").write_text(printed[-1])
    assert printed[0] == printed[1]
    written = yaml.safe_load(printed[0])
    paths = {group: written[group]["class_path"] for group in ("model", "data")}
    assert paths == (SPARSE if kind is SPARSE else TEXT).class_paths
