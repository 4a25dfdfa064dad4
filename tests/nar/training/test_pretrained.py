"""Reasoners as folders, by name, and of the Hub."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import networkx as nx
import pytest
import torch

import nar
from nar import Reasoner, list_pretrained
from nar.datasets import CLRS30
from nar.errors import UserError
from nar.evaluation import evaluate
from nar.evaluation.report import rows_of
from nar.files import replacing
from nar.noise import Uniform
from nar.processor import Processor
from nar.processors import MPNN, PairGMPNN, TripletGMPNN
from nar.processors.reductions import Recurrent, Softmax
from nar.processors.triplet_variants import TripletVariant
from nar.training import folders
from nar.training.checkpoint import load_reasoner, write_checkpoint
from nar.training.sparse_reasoner import SparseReasoner


@pytest.fixture
def data() -> CLRS30:
    return CLRS30(["bfs"], train_sizes=[4, 5])


@pytest.fixture
def reasoner(data: CLRS30) -> Reasoner:
    torch.manual_seed(0)
    return Reasoner(data.specs, MPNN(hidden_dim=8), latent_noise=Uniform(0.1), dropout=0.5)


def assert_equal(one: Reasoner, other: Reasoner, tolerance: float = 0.0) -> None:
    assert one.config["model"] == other.config["model"]
    assert one.specs == other.specs
    for name, value in one.state_dict().items():
        assert (value - other.state_dict()[name]).abs().max() <= tolerance


def test_what_is_saved_comes_back(reasoner: Reasoner, data: CLRS30, tmp_path: Path) -> None:
    reasoner.save_pretrained(tmp_path / "made" / "folder", data=data)
    back = Reasoner.from_pretrained(tmp_path / "made" / "folder")
    assert_equal(reasoner, back)
    assert not back.training
    assert isinstance(back.model.latent_noise, Uniform)
    assert back.data_config()["train_sizes"] == [4, 5]


@pytest.mark.parametrize(
    "make",
    [
        *(
            lambda reduction=reduction: MPNN(8, reduction=reduction)
            for reduction in (["max", "recurrent"], ["max", Recurrent(8), Softmax(2.0)], "lstm")
        ),
        *(lambda name=name: TripletGMPNN(8, triplet_messages=name) for name in get_args(TripletVariant)),
        lambda: TripletGMPNN(8, gated=False, forget_gate=True),
        lambda: PairGMPNN(8, num_heads=2, head_dim=3),
    ],
)
def test_reasoners_of_every_kind_of_processor_come_back(
    make: Callable[[], Processor], data: CLRS30, tmp_path: Path
) -> None:
    reasoner = Reasoner(data.specs, make()).eval()
    reasoner.save_pretrained(tmp_path / "folder")
    with replacing(tmp_path / "model.ckpt") as file:
        write_checkpoint(file, reasoner, data)
    for back in (Reasoner.from_pretrained(tmp_path / "folder"), load_reasoner(tmp_path / "model.ckpt").eval()):
        assert_equal(reasoner, back)
        torch.testing.assert_close(*(x.trace(nx.path_graph(4), source=0).outputs["pi"] for x in (reasoner, back)))


def test_saved_again_nothing_is_lost(reasoner: Reasoner, data: CLRS30, tmp_path: Path) -> None:
    reasoner.save_pretrained(tmp_path / "one", data=data)
    Reasoner.from_pretrained(tmp_path / "one").save_pretrained(tmp_path / "two")
    for name in (folders.CONFIG_FILE, folders.WEIGHTS_FILE, folders.CARD_FILE):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_half_precision_halves_the_file_and_is_read_as_float32(reasoner: Reasoner, tmp_path: Path) -> None:
    reasoner.save_pretrained(tmp_path / "whole")
    reasoner.save_pretrained(tmp_path / "half", half=True)
    sizes = [(tmp_path / name / folders.WEIGHTS_FILE).stat().st_size for name in ("half", "whole")]
    assert sizes[0] < 0.8 * sizes[1]
    back = Reasoner.from_pretrained(tmp_path / "half")
    assert {x.dtype for x in back.parameters()} == {torch.float32}
    assert_equal(reasoner, back, tolerance=1e-3)


@pytest.mark.slow
def test_a_reasoner_in_double_precision_comes_back_in_it(reasoner: Reasoner, tmp_path: Path) -> None:
    reasoner.double().save_pretrained(tmp_path / "double")
    assert {x.dtype for x in Reasoner.from_pretrained(tmp_path / "double").parameters()} == {torch.float64}


def test_a_checkpoint_and_a_folder_are_read_by_the_same_functions(
    reasoner: Reasoner, data: CLRS30, tmp_path: Path
) -> None:
    with (tmp_path / "model.ckpt").open("wb") as file:
        write_checkpoint(file, reasoner, data)
    reasoner.save_pretrained(tmp_path / "folder", data=data)
    for read in (load_reasoner, Reasoner.from_pretrained):
        for path in (tmp_path / "model.ckpt", tmp_path / "folder"):
            assert_equal(reasoner, read(path))  # type: ignore[operator]


def test_a_reasoner_of_the_library_is_had_by_its_name(
    reasoner: Reasoner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folders, "SHIPPED", tmp_path / "shipped")
    reasoner.save_pretrained(tmp_path / "shipped" / "bfs", facts={"steps": 3})
    assert list_pretrained() == {"bfs": {"steps": 3}}
    assert_equal(reasoner, Reasoner.from_pretrained("bfs"))
    with pytest.raises(UserError, match="no checkpoint at dfs"):
        Reasoner.from_pretrained("dfs")


def test_a_reasoner_of_the_hub_is_downloaded(
    reasoner: Reasoner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    huggingface_hub = pytest.importorskip("huggingface_hub")
    reasoner.save_pretrained(tmp_path / "cache")
    asked: list[Any] = []

    def download(name: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        asked.append((name, revision))
        return str(tmp_path / "cache")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert_equal(reasoner, Reasoner.from_pretrained("someone/bfs", revision="v1"))
    assert asked == [("someone/bfs", "v1")]


def test_a_download_that_fails_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    huggingface_hub = pytest.importorskip("huggingface_hub")

    def fail(*args: Any, **kwargs: Any) -> None:
        raise ConnectionError("no network\nat all")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(UserError, match=r"no folder someone/bfs here, and it cannot be downloaded: .*no network"):
        Reasoner.from_pretrained("someone/bfs")


def test_a_file_that_is_not_there_is_not_looked_for_on_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    huggingface_hub = pytest.importorskip("huggingface_hub")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *args, **kwargs: pytest.fail("looked for"))
    with pytest.raises(UserError, match=r"no checkpoint at runs/best\.ckpt"):
        Reasoner.from_pretrained("runs/best.ckpt")


def test_a_folder_is_uploaded_with_its_card(reasoner: Reasoner, monkeypatch: pytest.MonkeyPatch) -> None:
    huggingface_hub = pytest.importorskip("huggingface_hub")
    calls: list[Any] = []

    class Api:
        def __init__(self, token: str | None) -> None:
            calls.append(token)

        def create_repo(self, name: str, *, private: bool, exist_ok: bool) -> None:
            calls.append((name, private, exist_ok))

        def upload_folder(self, *, folder_path: str, repo_id: str, commit_message: str) -> str:
            calls.append(sorted(path.name for path in Path(folder_path).iterdir()))
            return f"https://hub/{repo_id}"

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    assert reasoner.push_to_hub("someone/bfs", private=True, token="secret") == "https://hub/someone/bfs"
    assert calls == ["secret", ("someone/bfs", True, True), ["README.md", "config.json", "model.safetensors"]]


@pytest.mark.parametrize("name", [folders.CONFIG_FILE, folders.WEIGHTS_FILE])
def test_a_damaged_file_is_refused_in_one_line(reasoner: Reasoner, tmp_path: Path, name: str) -> None:
    reasoner.save_pretrained(tmp_path / "whole")
    content = (tmp_path / "whole" / name).read_bytes()
    damages = [content[: len(content) // 2], b"", content[:-40] + b"x" + content[-39:], b"[" * 10_000]
    for index, damage in enumerate(damages):
        folder = tmp_path / str(index)
        shutil.copytree(tmp_path / "whole", folder)
        (folder / name).write_bytes(damage)
        with pytest.raises(UserError) as caught:
            Reasoner.from_pretrained(folder)
        assert str(folder) in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", [folders.CONFIG_FILE, folders.WEIGHTS_FILE])
def test_a_missing_file_is_refused_in_one_line(reasoner: Reasoner, tmp_path: Path, name: str) -> None:
    reasoner.save_pretrained(tmp_path / "folder")
    (tmp_path / "folder" / name).unlink()
    with pytest.raises(UserError, match=str(tmp_path)):
        Reasoner.from_pretrained(tmp_path / "folder")


@pytest.mark.parametrize(
    ("part", "value"),
    [("specs", 3), ("model", []), ("model", {"processor": "no.such.Class"}), ("kind", "other"), ("data", None)],
)
def test_a_configuration_of_another_form_is_refused_in_one_line(
    reasoner: Reasoner, tmp_path: Path, part: str, value: Any
) -> None:
    reasoner.save_pretrained(tmp_path)
    config = json.loads((tmp_path / folders.CONFIG_FILE).read_text())
    config["nar"][part] = value
    (tmp_path / folders.CONFIG_FILE).write_text(json.dumps(config))
    with pytest.raises(UserError) as caught:
        Reasoner.from_pretrained(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_model_of_another_kind_is_refused(reasoner: Reasoner, tmp_path: Path) -> None:
    reasoner.save_pretrained(tmp_path)
    with pytest.raises(UserError, match="of the kind dense: SparseReasoner is sparse"):
        SparseReasoner.from_pretrained(tmp_path)


def test_a_folder_that_cannot_be_written_is_one_line(reasoner: Reasoner, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        reasoner.save_pretrained(tmp_path / "file" / "folder")


def test_a_card_tells_what_is_known(reasoner: Reasoner, data: CLRS30, tmp_path: Path) -> None:
    scores = {"16": {"score": 0.98765, "low": 0.9, "high": 1.0, "num_samples": 32}}
    facts = {"recipe": "a.yaml", "steps": 7, "seed": 1, "commit": "abc", "command": "nar fit", "scores": scores}
    reasoner.save_pretrained(tmp_path, data=data, facts=facts)
    card = (tmp_path / folders.CARD_FILE).read_text()
    for line in ("# MPNN for bfs", "| recipe | a.yaml |", "| commit | abc |", "| 16 | 98.8 | 90.0 to 100.0 | 32 |"):
        assert line in card.splitlines()
    assert "with 4, 5 nodes" in card
    assert 'Reasoner.from_pretrained("bfs")' in card


def test_the_top_of_the_library_has_what_its_list_says() -> None:
    assert all(getattr(nar, name) is not None for name in nar.__all__)
    assert {*nar.__all__} <= {*dir(nar)}
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        nar.nothing  # noqa: B018


@pytest.mark.slow
@pytest.mark.parametrize("name", list_pretrained())
def test_a_reasoner_of_the_library_scores_what_its_card_says(name: str, tmp_path: Path) -> None:
    facts = list_pretrained()[name]
    evaluation = evaluate([name], tmp_path, sizes=[16], cache_dir=str(tmp_path))
    ((unit, marks),) = evaluation.marks.items()
    (row,) = (row for row in rows_of(evaluation.specs, unit, marks) if row.kind == "mean")
    assert row.estimate.score == pytest.approx(facts["scores"]["16"]["score"], abs=2e-3)
    assert row.num_samples == facts["scores"]["16"]["num_samples"]
