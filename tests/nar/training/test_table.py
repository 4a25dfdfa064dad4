"""What the picture of scores shows."""

import math
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from nar.training.table import draw_scores


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def axis_of(score: float, monkeypatch: pytest.MonkeyPatch) -> tuple[float, float]:
    """Where the axis of scores begins and ends if there are two algorithms, one of this score."""
    figures: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, path, **settings: figures.append(figure))
    draw_scores({("bfs", 16): {"pi": 0.5, "score": 0.5}, ("mine", 16): {"y": score, "score": score}}, Path("ood.png"))
    ((axes,),) = (figure.axes for figure in figures)
    return axes.get_ylim()


@pytest.mark.parametrize("score", [0.2, 1.0, math.nan, math.inf])
def test_the_axis_is_that_of_scores_from_0_to_1(score: float, monkeypatch: pytest.MonkeyPatch) -> None:
    assert axis_of(score, monkeypatch) == (-0.03, 1.03)


def test_the_axis_has_room_for_larger_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    assert axis_of(200.0, monkeypatch) == pytest.approx((-6, 206))
