"""Pictures of what runs have logged."""

from pathlib import Path

import pytest
from matplotlib.figure import Figure

from nar.training.curves import draw_curves, losses_of, read_curves, scores_of

FIRST = """epoch,step,train/bfs/loss,train/bfs/loss/pi,val/bfs/loss,val/bfs/pi,val/bfs/score,val/score
0,9,2.0,1.5,,,,
0,19,1.0,0.5,,,,
0,19,,,1.5,0.25,0.25,0.25
0,29,0.5,0.25,,,,
0,39,nan,inf,,,,
"""
SECOND = """epoch,step,train/bfs/loss,val/bfs/score
0,29,0.75,
0,39,0.25,
0,39,,0.5
0,4"""


def write(logs: Path, *versions: str) -> Path:
    for number, text in enumerate(versions):
        (logs / f"version_{number}").mkdir(parents=True)
        (logs / f"version_{number}" / "metrics.csv").write_text(text)
    return logs


def test_a_run_that_was_gone_on_with_has_one_curve(tmp_path: Path) -> None:
    curves = read_curves(write(tmp_path / "logs", FIRST, SECOND))
    assert curves["train/bfs/loss"] == [(9, 2.0), (19, 1.0), (29, 0.75), (39, 0.25)]
    assert curves["val/bfs/score"] == [(19, 0.25), (39, 0.5)]
    assert curves["train/bfs/loss/pi"] == [(9, 1.5), (19, 0.5)]


def test_versions_follow_one_another_by_their_numbers(tmp_path: Path) -> None:
    rows = [f"epoch,step,train/bfs/loss\n0,{number},{number}.0\n" for number in range(12)]
    curves = read_curves(write(tmp_path / "logs", *rows))
    assert curves["train/bfs/loss"] == [(number, float(number)) for number in range(12)]


def test_sums_of_losses_and_mean_scores_are_drawn_where_there_are_any(tmp_path: Path) -> None:
    curves = read_curves(write(tmp_path / "logs", FIRST))
    assert [*losses_of(curves)] == ["train/bfs/loss", "val/bfs/loss"]
    assert [*scores_of(curves)] == ["val/bfs/score"]
    others = {"train/bfs/loss/pi": [(1, 1.0)], "val/bfs/exact": [(1, 0.5)], "val/score": [(1, 0.5)]}
    assert [*losses_of(others)] == ["train/bfs/loss/pi"]
    assert [*scores_of(others)] == ["val/bfs/exact"]


def test_the_picture_has_a_panel_of_losses_and_one_of_scores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figures: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, path, **settings: figures.append(figure))
    assert draw_curves(write(tmp_path / "logs", FIRST, SECOND), tmp_path / "curves.png")
    losses, scores = figures[0].axes
    assert losses.get_yscale() == "log"
    assert [line.get_label() for line in losses.lines] == ["train/bfs/loss", "val/bfs/loss"]
    assert list(losses.lines[0].get_xdata()) == [9, 19, 29, 39]
    assert [list(line.get_ydata()) for line in scores.lines] == [[0.25, 0.5]]


@pytest.mark.parametrize("versions", [[], [""], ["epoch,step\n"], ["epoch,step,train/bfs/loss\n0,9,nan\n"]])
def test_of_a_run_that_has_logged_nothing_there_is_no_picture(versions: list[str], tmp_path: Path) -> None:
    logs = write(tmp_path / "logs", *versions)
    assert not draw_curves(logs, tmp_path / "curves.png")
    assert not (tmp_path / "curves.png").exists()
