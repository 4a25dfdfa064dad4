"""What an evaluation has found: a CSV file, tables in Markdown and LaTeX, and a picture of scores against size."""

import csv
import math
import re
import statistics
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nar.batch import NumpyArray
from nar.evaluation.instances import NEVER, Marks
from nar.evaluation.run import FAMILY_OF_DM_CLRS, Evaluation, Subject, Unit
from nar.evaluation.statistics import Estimate, estimates, is_exact, resampling_weights, share_of
from nar.files import replacing, replacing_text
from nar.model.metrics import pooled_score
from nar.specs import Spec
from nar.sweep.published import by_category, published
from nar.training.curves import COLOURS

COLUMNS = (
    "checkpoint",
    "algorithm",
    "processor",
    "seed",
    "step",
    "split",
    "family",
    "num_nodes",
    "probe",
    "kind",
    "score",
    "num_samples",
    "ci_low",
    "ci_high",
)
_HINT_COLUMNS = ("checkpoint", "algorithm", "family", "num_nodes", "probe", "time", "score", "num_samples")
_PANELS_FROM = 6
"""How many algorithms a picture has from which each has a panel of its own."""


class Row(NamedTuple):
    """A score of a unit.

    Attributes:
        unit: Whose it is.
        probe: Of which probe it is; nothing where it is of whole instances.
        kind: ``mean`` over the outputs (what CLRS-30 reports), an ``output``'s own, the share of ``exact`` instances,
            that of ``valid`` ones (whose answer is right, be it the classical algorithm's or another), a ``hint``'s
            over all times, the share of instances with ``exact hints``, the mean time at which hints first ``part``
            from the true ones where they do, or what is scored by ``chance``.
        estimate: The score and its interval, which that of chance does not have.
        num_samples: Of how many instances it is.
    """

    unit: Unit
    probe: str
    kind: str
    estimate: Estimate
    num_samples: int


def _labels_of(subjects: Iterable[Subject]) -> dict[str, str]:
    """What the model of each checkpoint is called, by the checkpoint; those that differ in seed or algorithm share it.

    A name is that of the processor; where several are to be told apart, with a folder of ``nar sweep``'s variant or the
    checkpoint's own path.
    """
    groups: dict[str, list[Subject]] = {}
    for subject in dict.fromkeys(subjects):
        folder = Path(subject.checkpoint).parent
        if re.fullmatch(r"seed\d+", folder.name):
            group = str(folder.parents[1])  # <variant>/<algorithm>/seed<k>
        else:
            known = {name for other in groups.get("", []) for name in other.algorithms}
            group = subject.checkpoint if known & {*subject.algorithms} else ""
        groups.setdefault(group, []).append(subject)
    names = {group: " and ".join(dict.fromkeys(one.processor for one in own)) for group, own in groups.items()}
    shared = [name for name in names.values() if list(names.values()).count(name) > 1]
    labels: dict[str, str] = {}
    for group, own in groups.items():
        label = f"{names[group]} ({group})" if group and names[group] in shared else names[group]
        labels |= {subject.checkpoint: label for subject in own}
    return labels


def write_report(evaluation: Evaluation, out: Path) -> list[Path]:
    """Write ``scores.csv``, ``table.md``, ``table.tex``, ``scores.png``, and ``hints.csv`` if hints were scored.

    Returns:
        The paths.
    """
    rows = [row for unit, marks in evaluation.marks.items() for row in rows_of(evaluation.specs, unit, marks)]
    cells = _cells_of(rows)
    paths = [out / name for name in ("scores.csv", "table.md", "table.tex", "scores.png")]
    write_csv(rows, paths[0])
    with replacing_text(paths[1]) as file:
        file.write("\n".join(markdown(cells)) + "\n")
    with replacing_text(paths[2]) as file:
        file.write("\n".join(_latex(cells)) + "\n")
    draw(rows, paths[3])
    if any(marks.hints for marks in evaluation.marks.values()):
        paths.append(out / "hints.csv")
        _write_hints(evaluation, paths[-1])
    return paths


def rows_of(specs: Mapping[str, Spec], unit: Unit, marks: Marks) -> Iterator[Row]:
    """All scores of one model on one set of instances: means, outputs, hints, and shares that are exact.

    Args:
        specs: Of every algorithm by name.
        unit: The model and the set of instances.
        marks: What is right of each instance.
    """
    spec = specs[unit.algorithm]
    number = len(next(iter(marks.outputs.values())))
    weights = _weights(number)
    for name, estimate in estimates(spec, marks.outputs, weights).items():
        yield Row(unit, name, "mean" if name == "score" else "output", estimate, number)
    if marks.chance:
        guessed = statistics.mean(marks.chance.values())
        yield Row(unit, "score", "chance", Estimate(guessed, math.nan, math.nan), number)
    yield Row(unit, "", "exact", share_of(is_exact(spec, marks.outputs), weights), number)
    if len(marks.valid):
        yield Row(unit, "", "valid", share_of(marks.valid, weights), number)
    if marks.hints:
        pooled = {name: counts.sum(axis=0) for name, counts in marks.hints.items()}
        for name, estimate in estimates(spec, pooled, weights).items():
            if name != "score":
                yield Row(unit, name, "hint", estimate, number)
        yield Row(unit, "", "exact hints", share_of(marks.parted == NEVER, weights), number)
        parted = marks.parted[marks.parted != NEVER]
        if len(parted):
            yield Row(unit, "", "part", share_of(parted, _weights(len(parted))), len(parted))


@cache
def _weights(num_instances: int) -> NumpyArray:
    return resampling_weights(num_instances)


def write_csv(rows: Sequence[Row], path: Path) -> None:
    """Write a line for each score."""
    with replacing_text(path) as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for unit, probe, kind, estimate, number in rows:
            subject = unit.subject
            known = (subject.checkpoint, unit.algorithm, subject.processor, subject.seed, subject.step)
            where = ("test", unit.family, unit.num_nodes, probe, kind)
            low, high = ("" if math.isnan(x) else f"{x:.6f}" for x in estimate[1:])
            writer.writerow([*known, *where, f"{estimate.score:.9f}", number, low, high])


def _write_hints(evaluation: Evaluation, path: Path) -> None:
    """Write the score of every hint at every time, over the instances that still run then."""
    with replacing_text(path) as file:
        writer = csv.writer(file)
        writer.writerow(_HINT_COLUMNS)
        for unit, marks in evaluation.marks.items():
            known = (unit.subject.checkpoint, unit.algorithm, unit.family, unit.num_nodes)
            for name, counts in marks.hints.items():
                kind = evaluation.specs[unit.algorithm][name].type
                for time, at_time in enumerate(counts, start=1):
                    number = int((at_time.sum(axis=-1) > 0).sum())
                    score = float(pooled_score(kind, at_time.sum(axis=0)))
                    writer.writerow([*known, name, time, f"{score:.6f}", number])


class Cell(NamedTuple):
    """The scores that a table shows of one algorithm at one size.

    Attributes:
        scores: The score of each seed, in per cent.
        interval: Of the only seed, in per cent; None if there are more.
    """

    scores: list[float]
    interval: tuple[float, float] | None

    @property
    def text(self) -> str:
        """The score with its interval over instances, or the mean over seeds ± their standard deviation."""
        if self.interval is not None:
            return f"{self.scores[0]:.1f} [{self.interval[0]:.1f}, {self.interval[1]:.1f}]"
        return f"{statistics.mean(self.scores):.1f} ± {statistics.stdev(self.scores):.1f} ({self.standard_error:.1f})"

    @property
    def standard_error(self) -> float:
        """The standard error of the mean over seeds."""
        return statistics.stdev(self.scores) / math.sqrt(len(self.scores))


Cells = dict[tuple[str, str], dict[str, dict[int, Cell]]]
"""The cells of tables: by model and family, by algorithm, by size."""


def _cells_of(rows: Sequence[Row]) -> Cells:
    """The scores of CLRS-30 of all rows, seeds together, and the means over algorithms at the end."""
    found: dict[tuple[str, str], dict[str, dict[int, list[Row]]]] = defaultdict(
        lambda: defaultdict(lambda: defaultdict(list))
    )
    labels = _labels_of(row.unit.subject for row in rows)
    for row in rows:
        if row.kind == "mean":
            found[labels[row.unit.subject.checkpoint], row.unit.family][row.unit.algorithm][row.unit.size].append(row)
    cells: Cells = {}
    for group, by_algorithm in found.items():
        cells[group] = {name: {n: _cell(own) for n, own in at.items()} for name, at in by_algorithm.items()}
        cells[group] |= _means_of(cells[group])
    return cells


def _cell(rows: Sequence[Row]) -> Cell:
    only = rows[0].estimate if len(rows) == 1 else None
    interval = None if only is None else (100 * only.low, 100 * only.high)
    return Cell([100 * row.estimate.score for row in rows], interval)


def _means_of(by_algorithm: Mapping[str, Mapping[int, Cell]]) -> dict[str, dict[int, Cell]]:
    """The mean over the algorithms, and that over the means of CLRS-30's eight categories if all 30 are there."""
    if len(by_algorithm) < 2:
        return {}
    groups = {f"mean over {len(by_algorithm)} algorithms": [[name] for name in by_algorithm]}
    if {*by_algorithm} == {*published()}:
        categories = by_category(by_algorithm)
        groups[f"mean over the {len(categories)} categories' means"] = categories
    means: dict[str, dict[int, Cell]] = {}
    for title, group in groups.items():
        sizes = sorted(set.intersection(*({*at} for at in by_algorithm.values())))
        means[title] = {
            size: Cell([statistics.mean(_mean(by_algorithm, names, size) for names in group)], (math.nan, math.nan))
            for size in sizes
        }
    return means


def _mean(by_algorithm: Mapping[str, Mapping[int, Cell]], names: Sequence[str], size: int) -> float:
    return statistics.mean(statistics.mean(by_algorithm[name][size].scores) for name in names)


def _text(cell: Cell | None) -> str:
    if cell is None:
        return ""
    if cell.interval is not None and math.isnan(cell.interval[0]):
        return f"{cell.scores[0]:.1f}"
    return cell.text


_NOTE = (
    "Scores of CLRS-30 in per cent: of one seed with the 95 % bootstrap interval over instances, of several the mean "
    "± standard deviation over seeds (standard error of the mean); string matchers have 5/4 as many nodes."
)


def markdown(cells: Cells) -> Iterator[str]:
    """The tables in Markdown, one for each model and family."""
    for (model, family), by_algorithm in cells.items():
        sizes = sorted({size for at in by_algorithm.values() for size in at})
        yield f"**{model}**, graphs of {family}" if family != FAMILY_OF_DM_CLRS else f"**{model}**"
        yield ""
        yield f"| algorithm | {' | '.join(f'n = {size}' for size in sizes)} |"
        yield "|---" * (1 + len(sizes)) + "|"
        for name, at in by_algorithm.items():
            yield f"| {name} | {' | '.join(_text(at.get(size)) for size in sizes)} |"
        yield ""
    yield _NOTE


def _latex(cells: Cells) -> Iterator[str]:
    """The tables in LaTeX, for the package booktabs."""
    for (model, family), by_algorithm in cells.items():
        sizes = sorted({size for at in by_algorithm.values() for size in at})
        yield r"\begin{tabular}{l" + "r" * len(sizes) + "}"
        yield rf"\multicolumn{{{1 + len(sizes)}}}{{l}}{{{_escaped(model)}, {_escaped(family)}}} \\ \toprule"
        yield " & ".join(["algorithm", *(f"$n = {size}$" for size in sizes)]) + r" \\ \midrule"
        for name, at in by_algorithm.items():
            texts = [_escaped(_text(at.get(size))).replace("±", r"$\pm$") for size in sizes]
            yield " & ".join([_escaped(name), *texts]) + r" \\"
        yield r"\bottomrule \end{tabular}"
        yield ""
    yield f"% {_NOTE}"


def _escaped(text: str) -> str:
    return text.replace("_", r"\_").replace("%", r"\%")


def draw(rows: Sequence[Row], path: Path) -> None:
    """Draw scores against sizes with bands of their intervals; trained sizes are shaded and chance is dotted.

    There is a panel for each algorithm from six of them on, and one for all of fewer.
    """
    algorithms = list(dict.fromkeys(row.unit.algorithm for row in rows))
    has_panels = len(algorithms) >= _PANELS_FROM
    number = len(algorithms) if has_panels else 1
    across = math.ceil(math.sqrt(1.5 * number))
    down = -(-number // across)
    size = (2.4 * across + 0.4, 2.1 * down + 0.8) if has_panels else (7.0, 4.5)
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False).flat
    labels = _labels_of(row.unit.subject for row in rows)
    order = list(dict.fromkeys(_label(row.unit, labels, with_algorithm=not has_panels) for row in rows))
    sizes = sorted({row.unit.size for row in rows})
    for index, panel in enumerate(panels):
        if index >= number:
            panel.set_visible(False)
            continue
        shown = [algorithms[index]] if has_panels else algorithms
        own = [row for row in rows if row.unit.algorithm in shown]
        _draw_panel(panel, own, labels, order, with_algorithms=not has_panels)
        if has_panels:
            panel.set_title(algorithms[index].replace("_", " "), fontsize="small")
        panel.set_xscale("log", base=2)
        panel.set_xticks(sizes, [str(size) for size in sizes])
        panel.minorticks_off()
        panel.tick_params(labelsize="small", labelbottom=index + across >= number)
        panel.set_ylim(-0.03, 1.03)
        panel.grid(alpha=0.3)
    figure.supxlabel("number of nodes (string matchers: 5/4 as many)", fontsize="small")
    figure.supylabel("score", fontsize="small")
    marks = {
        label: mark for panel in figure.axes for mark, label in zip(*panel.get_legend_handles_labels(), strict=True)
    }
    figure.legend(marks.values(), marks.keys(), loc="outside upper center", ncols=4, fontsize="small")
    with replacing(path) as file:
        figure.savefig(file, dpi=150, format="png")


def _draw_panel(
    panel: Axes, rows: Sequence[Row], labels: Mapping[str, str], order: Sequence[str], *, with_algorithms: bool
) -> None:
    """Draw the curves of some algorithms: one for each processor, family and, if they share a panel, algorithm."""
    trained = [size for row in rows for size in row.unit.subject.train_sizes]
    if trained:
        panel.axvspan(min(trained), max(trained), color="#DDDDDD", alpha=0.5, label="trained sizes")
    curves: dict[str, dict[int, list[Estimate]]] = defaultdict(lambda: defaultdict(list))
    guesses: dict[int, list[float]] = defaultdict(list)
    for row in rows:
        if row.kind == "mean":
            curves[_label(row.unit, labels, with_algorithm=with_algorithms)][row.unit.size].append(row.estimate)
        elif row.kind == "chance":
            guesses[row.unit.size].append(row.estimate.score)
    for label, by_size in curves.items():
        index = order.index(label)
        at = sorted(by_size)
        means = [statistics.mean(x.score for x in by_size[n]) for n in at]
        lows, highs = ([_edge(by_size[n], mean, side) for n, mean in zip(at, means, strict=True)] for side in (-1, 1))
        colour, style = COLOURS[index % len(COLOURS)], ["-", "--", ":"][index // len(COLOURS) % 3]
        panel.plot(at, means, marker="o", markersize=3, color=colour, linestyle=style, label=label)
        panel.fill_between(at, lows, highs, color=colour, alpha=0.2, linewidth=0)
    if guesses and not with_algorithms:
        at = sorted(guesses)
        panel.plot(at, [statistics.mean(guesses[n]) for n in at], color="black", linestyle=":", label="chance")


def _edge(estimates: Sequence[Estimate], mean: float, side: int) -> float:
    """Where the band of a curve ends: at the interval of one seed, or a standard deviation over seeds away."""
    if len(estimates) == 1:
        return estimates[0].low if side < 0 else estimates[0].high
    return mean + side * statistics.stdev(x.score for x in estimates)


def _label(unit: Unit, labels: Mapping[str, str], *, with_algorithm: bool) -> str:
    parts = [labels[unit.subject.checkpoint], unit.family if unit.family != FAMILY_OF_DM_CLRS else ""]
    return " ".join(part for part in [unit.algorithm if with_algorithm else "", *parts] if part)
