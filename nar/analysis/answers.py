"""Scores of answers, of several models side by side: as a table, a CSV file, a table in Markdown and a picture."""

import csv
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from rich import box
from rich.console import Console
from rich.table import Table

from nar.files import check_file, replacing, replacing_text, unused

METRICS = ("parse", "shape", "clrs", "exact")
KEY = ("model", "algorithm", "num_nodes")
COLUMNS = (*KEY, "texts", *METRICS)
_HEADINGS = ("algorithm", "n", "size", "model", "texts", "parse", "shape", "CLRS", "exact")
_MARKERS = {"in training": "o", "interpolated": "s", "extrapolated": "^"}
_STYLES: tuple[Literal["-", "--", ":"], ...] = ("-", "--", ":")
_PANELS_IN_A_ROW = 4

Key = tuple[str, str, int]
"""A model, an algorithm and a size."""
TextScores = Mapping[Key, Mapping[str, float]]
"""The mean of each of :data:`METRICS` over so many ``"texts"``."""


def mean_scores(rows: Iterable[tuple[Key, Sequence[float]]]) -> dict[Key, dict[str, float]]:
    """The means over all texts of a model, an algorithm and a size, in the order in which they come first.

    Args:
        rows: Of every text its key, and one score for each of :data:`METRICS`.
    """
    by_key: dict[Key, list[Sequence[float]]] = defaultdict(list)
    for key, scores in rows:
        by_key[key].append(scores)
    return {key: _means(scores) for key, scores in by_key.items()}


def _means(scores: Sequence[Sequence[float]]) -> dict[str, float]:
    means = [sum(values) / len(scores) for values in zip(*scores, strict=True)]
    return {"texts": len(scores), **dict(zip(METRICS, means, strict=True))}


def kind_of_size(num_nodes: int, train_sizes: Sequence[int]) -> str:
    """Where a size is: one "in training", "interpolated" between two of these, or "extrapolated" beyond them."""
    if num_nodes in train_sizes:
        return "in training"
    return "interpolated" if min(train_sizes) < num_nodes < max(train_sizes) else "extrapolated"


def print_text_table(scores: TextScores, train_sizes: Mapping[str, Sequence[int]], title: str) -> None:
    """Print one row for each algorithm, size and model; the kind of size and the number of texts find no room.

    Args:
        scores: What to print.
        train_sizes: The sizes of training by algorithm.
        title: Of the table.
    """
    table = Table(title=title, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    shown = [place for place, heading in enumerate(_HEADINGS) if heading not in ("size", "texts")]
    for place in shown:
        is_name = _HEADINGS[place] in ("algorithm", "model")
        table.add_column(_HEADINGS[place], justify="left" if is_name else "right", no_wrap=True)
    for row in _rows(scores, train_sizes):
        table.add_row(*(row[place] for place in shown))
    Console().print(table)


def _rows(scores: TextScores, train_sizes: Mapping[str, Sequence[int]]) -> list[list[str]]:
    """The cells of a table, algorithm by algorithm and size by size."""
    algorithms = list(dict.fromkeys(algorithm for _, algorithm, _ in scores))
    keys = sorted(scores, key=lambda key: (algorithms.index(key[1]), key[2]))
    return [
        [
            algorithm,
            str(num_nodes),
            kind_of_size(num_nodes, train_sizes[algorithm]),
            model,
            str(scores[model, algorithm, num_nodes]["texts"]),
            *(f"{scores[model, algorithm, num_nodes][metric]:.3f}" for metric in METRICS),
        ]
        for model, algorithm, num_nodes in keys
    ]


def _write_text_markdown(scores: TextScores, train_sizes: Mapping[str, Sequence[int]], path: Path) -> None:
    """Write scores as a table in Markdown, with the rows of :func:`print_text_table`."""
    lines = [_HEADINGS, ["---"] * 4 + ["---:"] * 5, *_rows(scores, train_sizes)]
    with replacing_text(path) as file:
        file.writelines(f"| {' | '.join(line)} |\n" for line in lines)


def write_text_csv(scores: TextScores, path: Path) -> None:
    """Write one line for each model, algorithm and size."""
    with replacing_text(path) as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for key, of_key in scores.items():
            writer.writerow([*key, *(of_key[name] for name in COLUMNS[len(KEY) :])])


def read_text_csv(path: Path) -> dict[Key, dict[str, float]]:
    """The scores in a file that :func:`write_text_csv` wrote.

    Raises:
        ValueError: If the file is another.
        OSError: If there is none.
    """
    check_file(path)
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or ()) != COLUMNS:
            raise ValueError(f"expected scores of answers in {path}, with columns {', '.join(COLUMNS)}")
        return {
            (row["model"], row["algorithm"], int(row["num_nodes"])): {
                "texts": int(row["texts"]),
                **{metric: float(row[metric]) for metric in METRICS},
            }
            for row in reader
        }


def draw_text_scores(scores: TextScores, train_sizes: Mapping[str, Sequence[int]], path: Path) -> None:
    """Draw the CLRS score against size: a panel for each algorithm, and in it a line for each model."""
    models = list(dict.fromkeys(model for model, _, _ in scores))
    algorithms = list(dict.fromkeys(algorithm for _, algorithm, _ in scores))
    num_columns = min(_PANELS_IN_A_ROW, len(algorithms))
    num_rows = -(-len(algorithms) // num_columns)
    figure = Figure(figsize=(max(5.5, 1.2 + 2.9 * num_columns), 1.1 + 2.4 * num_rows), layout="constrained")
    panels = figure.subplots(num_rows, num_columns, sharey=True, squeeze=False).ravel()
    for axes, algorithm in zip(panels, algorithms, strict=False):
        _draw_panel(axes, algorithm, models, scores, train_sizes[algorithm])
    for axes in panels[len(algorithms) :]:
        axes.remove()
    lines = [Line2D([], [], color=f"C{i}", linestyle=_STYLES[i % len(_STYLES)], label=x) for i, x in enumerate(models)]
    kinds = {kind_of_size(num_nodes, train_sizes[algorithm]) for _, algorithm, num_nodes in scores}
    marks = [
        Line2D([], [], color="grey", linestyle="", marker=marker, label=kind)
        for kind, marker in _MARKERS.items()
        if kind in kinds
    ]
    figure.supxlabel("number of nodes", fontsize="medium")
    figure.supylabel("CLRS score", fontsize="medium")
    num_in_a_row = len(lines) + len(marks) if num_columns > 2 else 3
    figure.legend(handles=[*lines, *marks], loc="outside upper center", ncols=num_in_a_row)
    with replacing(path) as file:
        figure.savefig(file, format="png", dpi=150)


def _draw_panel(
    axes: Axes, algorithm: str, models: Sequence[str], scores: TextScores, train_sizes: Sequence[int]
) -> None:
    sizes = sorted({num_nodes for _, name, num_nodes in scores if name == algorithm})
    for i, model in enumerate(models):
        points = [(n, scores[model, algorithm, n]["clrs"]) for n in sizes if (model, algorithm, n) in scores]
        axes.plot(*zip(*points, strict=True), color=f"C{i}", linestyle=_STYLES[i % len(_STYLES)])
        for num_nodes, score in points:
            axes.plot(num_nodes, score, color=f"C{i}", marker=_MARKERS[kind_of_size(num_nodes, train_sizes)])
    axes.set_title(algorithm, fontsize="small")
    axes.set_xticks(sizes)
    axes.set_ylim(-0.03, 1.03)
    axes.grid(alpha=0.3)


def write_text_report(scores: TextScores, train_sizes: Mapping[str, Sequence[int]], folder: Path) -> list[Path]:
    """Write ``answers.csv``, ``answers.md`` and ``answers.png`` into a folder, and return their paths.

    If one of them is there already, all have the first number in their names that none has, from ``answers_2.csv`` on.
    """
    paths = unused(folder, "answers", ("csv", "md", "png"))
    write_text_csv(scores, paths[0])
    _write_text_markdown(scores, train_sizes, paths[1])
    draw_text_scores(scores, train_sizes, paths[2])
    return paths
