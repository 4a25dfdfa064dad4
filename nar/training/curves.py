"""Training curves: a picture of the losses and scores that a run has logged."""

import csv
import math
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from nar.files import replacing

Curves = Mapping[str, Sequence[tuple[int, float]]]
"""By the name of a metric: the steps at which it was logged, and its values."""

_MOST_NAMED = 24
"""How many curves of one panel are named beside it; of more, the names would not fit."""
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""The colours of Okabe and Ito, which the colour-blind can tell apart."""


def draw_curves(logs: Path, path: Path) -> bool:
    """Draw the losses and scores of a run against steps; whether there are any.

    Args:
        logs: The folder with a ``version_<number>/metrics.csv`` of Lightning's CSVLogger for each time that the run was
            begun or gone on with.
        path: The picture to write. If nothing was logged there is none.
    """
    curves = read_curves(logs)
    panels = [(name, shown) for name, shown in (("loss", losses_of(curves)), ("score", scores_of(curves))) if shown]
    if not panels:
        return False
    from matplotlib.figure import Figure  # here, as it takes long to be imported

    figure = Figure(figsize=(7, 3.2 * len(panels)), layout="constrained")
    for axes, (label, shown) in zip(figure.subplots(len(panels), squeeze=False)[:, 0], panels, strict=True):
        algorithms = list(dict.fromkeys(_algorithm_of(name) for name in shown))
        for name, points in shown.items():
            number = algorithms.index(_algorithm_of(name))
            is_of_training = name.startswith("train/")
            axes.plot(
                *zip(*points, strict=True),
                color=COLOURS[number % len(COLOURS)],
                linestyle=["-", "--", ":"][number // len(COLOURS) % 3],
                alpha=0.4 if is_of_training else 1.0,
                linewidth=0.8 if is_of_training else 1.5,
                label=name,
            )
        if label == "loss" and all(value > 0 for points in shown.values() for _, value in points):
            axes.set_yscale("log")
        axes.set_ylabel(label)
        axes.grid(alpha=0.3)
        if len(shown) <= _MOST_NAMED:
            axes.legend(fontsize="x-small", ncols=-(-len(shown) // 8))
    axes.set_xlabel("training steps")
    with replacing(path) as file:
        figure.savefig(file, format="png", dpi=120)
    return True


def read_curves(logs: Path) -> dict[str, list[tuple[int, float]]]:
    """Everything that a run has logged, by the name of the metric; what is no finite number is left out.

    Where a run was gone on with from an earlier step than it had come to, what followed that step is left out.
    """
    curves: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for folder in sorted(logs.glob("version_*"), key=_number_of):
        found = _read(folder / "metrics.csv")
        first = min((step for points in found.values() for step, _ in points), default=math.inf)
        for name in curves:
            curves[name] = [(step, value) for step, value in curves[name] if step < first]
        for name, points in found.items():
            curves[name] += points
    return {name: points for name, points in curves.items() if points}


def losses_of(curves: Curves) -> Curves:
    """The loss of each algorithm in training and validation, or where there is no sum, those of its probes."""
    losses = {name: points for name, points in curves.items() if "loss" in name.split("/")}
    sums = {name: points for name, points in losses.items() if name.endswith("/loss")}
    return sums or losses


def scores_of(curves: Curves) -> Curves:
    """The validation score of each algorithm; where one is not called so, all that validations say of it."""
    found = {
        name: points
        for name, points in curves.items()
        if name.startswith("val/") and "loss" not in name.split("/") and name.count("/") > 1
    }
    means = {name: points for name, points in found.items() if name.endswith("/score")}
    return means or found


def _read(path: Path) -> dict[str, list[tuple[int, float]]]:
    """What one file of metrics holds; a line that a program did not write to its end is left out."""
    curves: dict[str, list[tuple[int, float]]] = defaultdict(list)
    if not path.exists():
        return curves
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            for name, text in row.items():
                step, value = _number(row.get("step")), _number(text)
                if name not in (None, "step", "epoch") and math.isfinite(step) and math.isfinite(value):
                    curves[name].append((int(step), value))
    return curves


def _number(text: object) -> float:
    """The number that a text is; NaN if it is none."""
    try:
        return float(str(text))
    except ValueError:
        return math.nan


def _number_of(folder: Path) -> int:
    """The number of the version that a folder has the logs of."""
    found = re.search(r"\d+$", folder.name)
    return int(found[0]) if found else -1


def _algorithm_of(name: str) -> str:
    """The algorithm that a metric such as ``val/bfs/loss`` is of."""
    return name.split("/")[1]
