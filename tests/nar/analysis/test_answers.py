"""Scores of answers by model, algorithm and size."""

from pathlib import Path
from typing import Any

import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from nar.analysis.answers import (
    Key,
    draw_text_scores,
    kind_of_size,
    mean_scores,
    print_text_table,
    read_text_csv,
    write_text_csv,
    write_text_report,
)

TRAINED = {"bfs": (4, 5, 12), "strongly_connected_components": (10, 12)}
ROWS: list[tuple[Key, tuple[float, ...]]] = [
    (("hybrid", "bfs", 10), (1, 1, 0.5, 0)),
    (("hybrid", "bfs", 10), (1, 0, 0, 0)),
    (("hybrid", "bfs", 14), (0, 0, 0, 0)),
    (("hybrid", "strongly_connected_components", 12), (1, 1, 1, 1)),
    (("reasoner alone", "bfs", 10), (1, 1, 1, 1)),
    (("reasoner alone", "bfs", 12), (1, 1, 0.75, 0)),
]
SCORES = mean_scores(ROWS)


def test_scores_are_means_over_the_texts_of_a_model_an_algorithm_and_a_size() -> None:
    assert len(SCORES) == 5
    assert SCORES["hybrid", "bfs", 10] == {"texts": 2, "parse": 1, "shape": 0.5, "clrs": 0.25, "exact": 0}
    assert SCORES["reasoner alone", "bfs", 12] == {"texts": 1, "parse": 1, "shape": 1, "clrs": 0.75, "exact": 0}


@pytest.mark.parametrize(
    ("num_nodes", "kind"),
    [(12, "in training"), (4, "in training"), (10, "interpolated"), (14, "extrapolated"), (3, "extrapolated")],
)
def test_sizes_are_those_of_training_between_them_or_beyond(num_nodes: int, kind: str) -> None:
    assert kind_of_size(num_nodes, (4, 5, 12)) == kind


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    write_text_csv(SCORES, tmp_path / "answers.csv")
    assert read_text_csv(tmp_path / "answers.csv") == SCORES


def test_another_table_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ood.csv").write_text("algorithm,num_nodes,output,score\n")
    with pytest.raises(ValueError, match=r"^expected scores of answers in .*ood.csv, with columns model, algorithm"):
        read_text_csv(tmp_path / "ood.csv")


def test_models_stand_side_by_side_in_markdown(tmp_path: Path) -> None:
    csv, markdown, picture = write_text_report(SCORES, TRAINED, tmp_path)
    assert markdown.read_text().splitlines()[2:5] == [
        "| bfs | 10 | interpolated | hybrid | 2 | 1.000 | 0.500 | 0.250 | 0.000 |",
        "| bfs | 10 | interpolated | reasoner alone | 1 | 1.000 | 1.000 | 1.000 | 1.000 |",
        "| bfs | 12 | in training | reasoner alone | 1 | 1.000 | 1.000 | 0.750 | 0.000 |",
    ]
    assert read_text_csv(csv) == SCORES
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_the_table_fits_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    print_text_table(SCORES, TRAINED, "test")
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    (row,) = (line.split() for line in lines if "strongly_connected_components" in line)
    assert row == ["strongly_connected_components", "12", "hybrid", *["1.000"] * 4]


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def drawn(scores: Any, monkeypatch: pytest.MonkeyPatch) -> Figure:
    figures: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, path, **settings: figures.append(figure))
    draw_text_scores(scores, TRAINED, Path("answers.png"))
    (figure,) = figures
    return figure


def test_each_algorithm_has_a_panel_with_a_line_for_each_model(monkeypatch: pytest.MonkeyPatch) -> None:
    bfs, components = drawn(SCORES, monkeypatch).axes
    assert [axes.get_title() for axes in (bfs, components)] == ["bfs", "strongly_connected_components"]
    lines = {to_hex(str(line.get_color())): line for line in bfs.lines if len(line.get_xydata()) > 1}
    assert [line.get_xydata().tolist() for line in lines.values()] == [
        [[10, 0.25], [14, 0]],
        [[10, 1], [12, 0.75]],
    ]
    marks = {tuple(line.get_xydata()[0]): line.get_marker() for line in bfs.lines if len(line.get_xydata()) == 1}
    assert marks == {(10, 0.25): "s", (14, 0): "^", (10, 1): "s", (12, 0.75): "o"}


def test_a_model_without_scores_of_an_algorithm_has_no_line_there(monkeypatch: pytest.MonkeyPatch) -> None:
    _, components = drawn(SCORES, monkeypatch).axes
    assert all(line.get_color() == "C0" for line in components.lines if len(line.get_xydata()))


@pytest.mark.parametrize("number", [1, 5, 9])
def test_panels_are_as_many_as_algorithms(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = {("hybrid", f"algorithm {i}", 10): SCORES["hybrid", "bfs", 10] for i in range(number)}
    for _, algorithm, _ in scores:
        monkeypatch.setitem(TRAINED, algorithm, (4, 12))
    assert len(drawn(scores, monkeypatch).axes) == number
