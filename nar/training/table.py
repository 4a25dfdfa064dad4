"""Scores as a table and as a picture."""

import math
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.table import Table

from nar.batch import Key
from nar.files import replacing

Scores = Mapping[Key, Mapping[str, float]]
"""By algorithm and size: the score of each output and under ``"score"`` their mean."""


def print_table(scores: Scores, title: str) -> None:
    """Print one row for each algorithm and size."""
    table = Table(title=title)
    table.add_column("algorithm")
    table.add_column("n", justify="right")
    table.add_column("score", justify="right")
    table.add_column("by output")
    for (algorithm, num_nodes), by_output in scores.items():
        parts = ", ".join(f"{name} {value:.4f}" for name, value in by_output.items() if name != "score")
        table.add_row(algorithm, str(num_nodes), f"{by_output['score']:.4f}", parts)
    console = Console()
    if not console.is_terminal:
        console.width = 120  # no line is broken that another program may read
    console.print(table)


def draw_scores(scores: Scores, path: Path) -> None:
    """Draw score against size, a line for each algorithm; the axis ends at 1, or at the largest error of a scalar."""
    from matplotlib.figure import Figure  # here, as most commands draw nothing

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    algorithms = list(dict.fromkeys(algorithm for algorithm, _ in scores))
    sizes = sorted({num_nodes for _, num_nodes in scores})
    for i, algorithm in enumerate(algorithms):
        points = sorted((size, by_output["score"]) for (name, size), by_output in scores.items() if name == algorithm)
        style = ["-", "--", ":"][i // 10 % 3]  # matplotlib repeats its ten colours
        axes.plot(*zip(*points, strict=True), marker="o", linestyle=style, label=algorithm)
    axes.set_xscale("log", base=2)
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.minorticks_off()
    axes.set_xlabel("number of nodes")
    axes.set_ylabel("score")
    top = max([1.0, *(by_output["score"] for by_output in scores.values() if math.isfinite(by_output["score"]))])
    axes.set_ylim(-0.03 * top, 1.03 * top)
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper", fontsize="small")
    with replacing(path) as file:
        figure.savefig(file, format="png", dpi=150)
