"""What a campaign has reached as a table beside published scores, as a CSV file and as a picture."""

import csv
import io
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nar.sweep.campaign import Campaign
from nar.sweep.published import FLAGS, SOURCES, Facts, by_category, published
from nar.sweep.run import REASONER, Reached, replace

_PUBLISHED_SIZE = 64  # string matchers: 80 nodes, 64 of them the text
_OF_RUN = ("variant", "algorithm", "seed", "steps", "max_steps", "seconds", "tested_at_step", "num_nodes")
COLUMNS = (*_OF_RUN, "score", "val_size", "val_score")
TEXT_METRICS = {"parse": "parse score", "shape": "shape score", "clrs": "CLRS score", "exact": "exact answers"}
"""The scores of answers, and what tables of them are called."""
_TEXT_COLUMNS = (*_OF_RUN, "texts", *TEXT_METRICS)


class Entry(NamedTuple):
    """What a model scores on one algorithm at one size.

    Attributes:
        variant: What the model is called in tables: its run's variant, or a reasoner alone.
        algorithm: The algorithm's name.
        seed: Of the run.
        reached: What the run has reached; None for a reasoner alone, which is trained elsewhere.
        size: Of the test; None if the score is that in validation, by which the best checkpoint is chosen.
        scores: In [0, 1] by name; of texts, also how many there are.
    """

    variant: str
    algorithm: str
    seed: int
    reached: Reached | None
    size: int | None
    scores: Mapping[str, float]


def entries_of(campaign: Campaign) -> list[Entry]:
    """All that has been tested, or only validated if nothing is to be tested, run by run; at the end each reasoner
    alone, once for all the hybrids that it is in.
    """
    entries: list[Entry] = []
    alone: dict[tuple[str, str, int | None], Entry] = {}
    for run, reached, _ in campaign.results():
        own: list[tuple[int | None, float]] = []
        if not reached.answers and (reached.scores or not campaign.sizes):
            own = [*((None, score) for score in reached.validation.values()), *sorted(reached.scores.items())]
        entries += [Entry(*run, reached, size, {"score": score}) for size, score in own]
        for row in reached.answers:
            scores = {name: row[name] for name in ("texts", *TEXT_METRICS)}
            entry = Entry(run.variant, row["algorithm"], run.seed, reached, row["num_nodes"], scores)
            if row["model"] != REASONER:
                entries.append(entry)
                continue
            entry = entry._replace(variant=REASONER, reached=None)
            if alone.setdefault((*entry[:2], entry.size), entry).scores != scores:
                entry = entry._replace(variant=f"{REASONER} ({run.variant})")
                alone.setdefault((entry.variant, entry.algorithm, entry.size), entry)
    return [*entries, *alone.values()]


def write_report(campaign: Campaign) -> list[Path]:
    """Write what every run has reached so far; the paths of a table, a CSV file and a picture."""
    picture = campaign.out / "scores.png"
    paths = write_tables(campaign)
    draw(campaign, entries_of(campaign), picture)
    return [*paths, picture]


def write_tables(campaign: Campaign) -> list[Path]:
    """Write what every run has reached so far, but for the picture, which takes a second; the paths."""
    entries = entries_of(campaign)
    table, scores = campaign.out / "table.md", campaign.out / "scores.csv"
    replace(scores, _tidy(campaign, entries))
    replace(table, "\n".join(lines(campaign, entries)) + "\n")
    return [table, scores]


def _is_of_texts(entries: Sequence[Entry]) -> bool:
    """Whether scores are those of answers to texts."""
    return any("clrs" in entry.scores for entry in entries)


def _tidy(campaign: Campaign, entries: Sequence[Entry]) -> str:
    """A CSV file with a row for each run, algorithm and size, of a run without tests one; scores are in [0, 1]."""
    max_steps = {variant.name: variant.max_steps for variant in campaign.variants}
    text = io.StringIO()
    columns = _TEXT_COLUMNS if _is_of_texts(entries) else COLUMNS
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    for variant, algorithm, seed, reached, size, scores in entries:
        row: dict[str, Any] = {"variant": variant, "algorithm": algorithm, "seed": seed}
        if reached is not None:
            steps = {"steps": reached.steps, "max_steps": max_steps[variant], "tested_at_step": reached.tested}
            row |= {**steps, "seconds": round(reached.seconds)}
            row |= dict(zip(("val_size", "val_score"), next(iter(reached.validation.items()), ()), strict=False))
        if size is not None:
            writer.writerow({**row, "num_nodes": size, **scores})
        elif not campaign.sizes:
            writer.writerow(row)
    return text.getvalue()


def lines(campaign: Campaign, entries: Sequence[Entry]) -> Iterator[str]:
    """A table in Markdown: of each algorithm and variant the score in per cent, mean ± standard deviation over seeds,
    and the gain over the first variant; what is published beside; the means over algorithms; and what the columns are.
    Of texts, one for each of the scores.
    """
    if not _is_of_texts(entries):
        yield from _table(campaign, entries, "score")
        return
    for metric, title in TEXT_METRICS.items():
        yield from (f"{title[0].upper()}{title[1:]}:", "")
        yield from _table(campaign, entries, metric)
        yield ""


def _table(campaign: Campaign, entries: Sequence[Entry], metric: str) -> Iterator[str]:
    """The table of one score, and what its columns are."""
    algorithms = _tested_algorithms(campaign, entries)
    names = list(dict.fromkeys([*(variant.name for variant in campaign.variants), *(one.variant for one in entries)]))
    sources = list(SOURCES) if _PUBLISHED_SIZE in campaign.sizes and metric == "score" else []

    def row(title: str, variant: str, *cells: str) -> str:
        return f"| {' | '.join([title, *([variant] if len(names) > 1 else []), *cells])} |"

    columns = columns_of(campaign, entries)
    head = row("algorithm", "variant", "seeds", "steps", "s/step", *columns.values(), *(SOURCES[s][0] for s in sources))
    yield head
    yield "|" + "---|" * (head.count("|") - 1)
    for algorithm in algorithms:
        quotes = [quoted(published().get(algorithm), source) for source in sources]
        first = [scores_of(entries, names[0], algorithm, size, metric) for size in columns]
        for name in names:
            own = [one for one in entries if (one.variant, one.algorithm) == (name, algorithm)]
            if own:
                scores = [scores_of(own, name, algorithm, size, metric) for size in columns]
                cells = map(compared, scores, [[]] * len(columns) if name == names[0] else first)
                yield row(algorithm, name, str(len({one.seed for one in own})), *costs(own), *cells, *quotes)
    for title, groups in _groups_of(algorithms).items():
        first = []
        for name in names:
            means = [_means_of_seeds(entries, name, campaign.num_seeds, groups, size, metric) for size in columns]
            if any(means):
                cells = map(compared, means, first or [[]] * len(columns))
                quotes = [_published_mean(groups, source) for source in sources]
                yield row(title, name, str(max(map(len, means))), "", "", *cells, *quotes)
            first = means if name == names[0] else first
    yield ""
    matchers = "; string matchers have 5/4 as many nodes" if metric == "score" else ""
    yield f"Scores in per cent, mean ± standard deviation over seeds{matchers}."
    if None in columns:
        yield "Validation is that of the best checkpoint: by it variants can be chosen without a look at tests."
    if len(names) > 1:
        yield f"In parentheses: the gain over {names[0]} ± two of its standard errors, in bold where it is larger."
    if sources:
        flags = {
            score.flag for name in algorithms if name in published() for score in published()[name].scores.values()
        }
        yield from (f"{title}: {text}." for title, text in SOURCES.values())
        notes = [f"({flag}) {text}" for flag, text in FLAGS.items() if flag in flags]
        yield from [f"{'; '.join(notes)}."] if notes else []


def columns_of(campaign: Campaign, entries: Sequence[Entry]) -> dict[int | None, str]:
    """What the columns of a table are called, by the size of tests; None is validation, if there has been any."""
    validated = {size for one in entries if one.size is None and one.reached for size in one.reached.validation}
    title = f"validation, n = {' or '.join(map(str, sorted(validated)))}" if validated else "validation"
    tests: dict[int | None, str] = {size: f"n = {size}" for size in campaign.sizes}
    return {None: title, **tests} if validated or not tests else tests


def costs(entries: Sequence[Entry]) -> tuple[str, str]:
    """How many steps runs have taken, and how many seconds a step on average, as text."""
    runs = {one.seed: one.reached for one in entries if one.reached is not None and one.reached.steps}
    if not runs:
        return "", ""
    steps = sorted({reached.steps for reached in runs.values()})
    seconds = statistics.mean(reached.seconds / reached.steps for reached in runs.values())
    return " to ".join(map(str, dict.fromkeys([steps[0], steps[-1]]))), f"{seconds:.2g}"


def _groups_of(algorithms: Sequence[str]) -> dict[str, list[list[str]]]:
    """By what a mean is called, groups of algorithms: the mean is that of the means of groups."""
    known = published()
    if {*algorithms} != {*known}:
        return {f"mean over these {len(algorithms)} algorithms": [list(algorithms)]} if len(algorithms) > 1 else {}
    categories = by_category(algorithms)
    return {
        f"mean over the {len(known)} algorithms": [list(algorithms)],
        f"mean over the {len(categories)} categories' means": categories,
    }


def _means_of_seeds(
    entries: Sequence[Entry],
    variant: str,
    num_seeds: int,
    groups: Sequence[Sequence[str]],
    size: int | None,
    metric: str,
) -> list[float]:
    """The mean of the groups' means of each seed of which all algorithms have a score."""
    means = []
    for seed in range(num_seeds):
        own = [entry for entry in entries if entry.seed == seed]
        scores = [[scores_of(own, variant, name, size, metric) for name in group] for group in groups]
        if all(found for group in scores for found in group):
            means.append(_mean_of_means([[found[0] for found in group] for group in scores]))
    return means


def _published_mean(groups: Sequence[Sequence[str]], source: str) -> str:
    """The mean over groups of algorithms of their mean published score, as text; "" if the source lacks one of them."""
    known = published()
    if not all(name in known for group in groups for name in group):
        return ""
    return f"{_mean_of_means([[known[name].scores[source].value for name in group] for group in groups]):.2f}"


def _mean_of_means(groups: Sequence[Sequence[float]]) -> float:
    """The mean over groups of scores of the mean of each, so that groups count alike whatever their sizes."""
    return statistics.mean(statistics.mean(group) for group in groups)


def spread(scores: Sequence[float]) -> str:
    """The mean of scores ± their standard deviation, as text; of one score the score, of none ""."""
    if len(scores) < 2:
        return "".join(f"{score:.1f}" for score in scores)
    return f"{statistics.mean(scores):.1f} ± {statistics.stdev(scores):.1f}"


def compared(scores: Sequence[float], first: Sequence[float]) -> str:
    """Scores as :func:`spread` has them, and their gain over those of the first variant, as text.

    The gain is that of the mean, with two standard errors of it where both have several scores, and in bold where it,
    or the loss, is larger than these.
    """
    if not scores or not first:
        return spread(scores)
    gain = statistics.mean(scores) - statistics.mean(first)
    if min(len(scores), len(first)) < 2:
        return f"{spread(scores)} ({gain:+.1f})"
    error = 2 * math.sqrt(sum(statistics.variance(each) / len(each) for each in (scores, first)))
    mark = "**" if abs(gain) > error else ""
    return f"{spread(scores)} ({mark}{gain:+.1f} ± {error:.1f}{mark})"


def quoted(facts: Facts | None, source: str) -> str:
    """The score of an algorithm that a source publishes, as text with its flag; "" if it publishes none."""
    if facts is None:
        return ""
    value, error, flag = facts.scores[source]
    return f"{value:.2f}" + (f" ± {error:.2f}" if error is not None else "") + f" ({flag})"


def draw(campaign: Campaign, entries: Sequence[Entry], path: Path) -> None:
    """Draw scores as points, a row for each algorithm and a panel for each column, beside what is published."""
    columns = columns_of(campaign, entries)
    rows = {name: row for row, name in enumerate(_tested_algorithms(campaign, entries))}
    is_of_texts = _is_of_texts(entries)
    figure = Figure(figsize=(2 + 3 * len(columns), 1.5 + 0.27 * max(4, len(rows))), layout="constrained")
    panels = figure.subplots(1, len(columns), sharey=True, squeeze=False)[0]
    for panel, (size, title) in zip(panels, columns.items(), strict=True):
        _draw_own(panel, entries, size, "clrs" if is_of_texts else "score", rows)
        if size == _PUBLISHED_SIZE and not is_of_texts:
            _draw_published(panel, rows)
        panel.set_title(title)
        panel.set_xlabel(f"{TEXT_METRICS['clrs'] if is_of_texts else 'score'}, %")
        panel.set_xlim(-3, 103)
        panel.grid(alpha=0.3)
        panel.set_yticks(list(rows.values()), list(rows))
        panel.set_ylim(max(1, len(rows)) - 0.5, -0.5)
    marks = {label: mark for panel in panels for mark, label in zip(*panel.get_legend_handles_labels(), strict=True)}
    figure.legend(marks.values(), marks.keys(), loc="outside lower center", ncols=4, fontsize="small")
    figure.savefig(path, dpi=150)


def _draw_own(panel: Axes, entries: Sequence[Entry], size: int | None, metric: str, rows: Mapping[str, int]) -> None:
    """Draw mean and standard deviation over seeds of one column, the variants of a row below each other."""
    names = list(dict.fromkeys(entry.variant for entry in entries))
    for index, name in enumerate(names, start=1):
        shift = 0.5 * index / (len(names) + 1) - 0.25
        points = []
        for algorithm, row in rows.items():
            scores = scores_of(entries, name, algorithm, size, metric)
            if scores:
                deviation = statistics.stdev(scores) if len(scores) > 1 else 0.0
                points.append((statistics.mean(scores), row + shift, deviation))
        if points:
            means, heights, deviations = zip(*points, strict=True)
            panel.errorbar(means, heights, xerr=deviations, fmt="o", markersize=4, capsize=2, label=name)


def _draw_published(panel: Axes, rows: Mapping[str, int]) -> None:
    """Draw what is published of the algorithms that have rows."""
    heights = [row for name, row in rows.items() if name in published()]
    for (source, (title, _)), marker in zip(SOURCES.items(), "|x", strict=True):
        values = [published()[name].scores[source].value for name in rows if name in published()]
        if values:
            panel.plot(values, heights, marker, color="black", markersize=6, label=title)


def _tested_algorithms(campaign: Campaign, entries: Sequence[Entry]) -> list[str]:
    """The algorithms of which any run has been tested, in the campaign's order; those of texts in that of the test."""
    tested = dict.fromkeys(entry.algorithm for entry in entries)
    return list(tested) if _is_of_texts(entries) else [name for name in campaign.algorithms if name in tested]


def scores_of(entries: Sequence[Entry], variant: str, algorithm: str, size: int | None, metric: str) -> list[float]:
    """The scores of all seeds at one size of tests, or in validation, in per cent."""
    own = [one for one in entries if (one.variant, one.algorithm, one.size) == (variant, algorithm, size)]
    return [100 * one.scores[metric] for one in own]
