"""What a campaign has reached as a table beside published scores, as a CSV file and as a picture."""

import csv
import io
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nar.sweep.campaign import Campaign, Result
from nar.sweep.published import FLAGS, SOURCES, Facts, by_category, published
from nar.sweep.run import replace

_PUBLISHED_SIZE = 64  # string matchers: 80 nodes, 64 of them the text
COLUMNS = ("variant", "algorithm", "seed", "steps", "max_steps", "seconds", "tested_at_step", "num_nodes", "score")


def write_report(campaign: Campaign) -> list[Path]:
    """Write what every run has reached so far; the paths of a table, a CSV file and a picture."""
    picture = campaign.out / "scores.png"
    paths = write_tables(campaign)
    draw(campaign, campaign.results(), picture)
    return [*paths, picture]


def write_tables(campaign: Campaign) -> list[Path]:
    """Write what every run has reached so far, but for the picture, which takes a second; the paths."""
    results = campaign.results()
    table, scores = campaign.out / "table.md", campaign.out / "scores.csv"
    replace(scores, _tidy(campaign, results))
    replace(table, "\n".join(lines(campaign, results)) + "\n")
    return [table, scores]


def _tidy(campaign: Campaign, results: Sequence[Result]) -> str:
    """A CSV file with a row for each run and size; scores are in [0, 1]."""
    max_steps = {variant.name: variant.max_steps for variant in campaign.variants}
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for run, reached, _ in results:
        for size, score in sorted(reached.scores.items()):
            known = (reached.steps, max_steps[run.variant], round(reached.seconds), reached.tested, size, score)
            writer.writerow([*run, *known])
    return text.getvalue()


def lines(campaign: Campaign, results: Sequence[Result]) -> Iterator[str]:
    """A table in Markdown: of each algorithm and variant the score in per cent, mean ± standard deviation over seeds;
    what is published beside; the means over algorithms; and what the columns are.
    """
    algorithms = _tested_algorithms(campaign, results)
    names = [variant.name for variant in campaign.variants]
    sources = list(SOURCES) if _PUBLISHED_SIZE in campaign.sizes else []

    def row(title: str, variant: str, *cells: str) -> str:
        return f"| {' | '.join([title, *([variant] if len(names) > 1 else []), *cells])} |"

    titles = [*(f"n = {size}" for size in campaign.sizes), *(SOURCES[source][0] for source in sources)]
    head = row("algorithm", "variant", "seeds", "steps", *titles)
    yield head
    yield "|" + "---|" * (head.count("|") - 1)
    for algorithm in algorithms:
        quotes = [quoted(published().get(algorithm), source) for source in sources]
        for name in names:
            own = [result for result in results if result.run[:2] == (name, algorithm) and result.reached.scores]
            if own:
                steps = sorted({result.reached.steps for result in own})
                taken = " to ".join(map(str, dict.fromkeys([steps[0], steps[-1]])))
                cells = [spread(scores_of(own, name, algorithm, size)) for size in campaign.sizes]
                yield row(algorithm, name, str(len(own)), taken, *cells, *quotes)
    for title, groups in _groups_of(algorithms).items():
        for name in names:
            of_seeds = [
                _means_of_seed(results, name, seed, groups, campaign.sizes) for seed in range(campaign.num_seeds)
            ]
            complete = [means for means in of_seeds if means]
            if complete:
                cells = [spread([means[size] for means in complete]) for size in campaign.sizes]
                quotes = [_published_mean(groups, source) for source in sources]
                yield row(title, name, str(len(complete)), "", *cells, *quotes)
    yield ""
    yield "Scores in per cent, mean ± standard deviation over seeds; string matchers have 5/4 as many nodes."
    if sources:
        flags = {
            score.flag for name in algorithms if name in published() for score in published()[name].scores.values()
        }
        yield from (f"{title}: {text}." for title, text in SOURCES.values())
        notes = [f"({flag}) {text}" for flag, text in FLAGS.items() if flag in flags]
        yield from [f"{'; '.join(notes)}."] if notes else []


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


def _means_of_seed(
    results: Sequence[Result], variant: str, seed: int, groups: Sequence[Sequence[str]], sizes: Sequence[int]
) -> dict[int, float]:
    """The mean of the groups' means at each size, of one seed; nothing, unless all algorithms have been tested."""
    own = [result for result in results if (result.run.variant, result.run.seed) == (variant, seed)]
    means = {}
    for size in sizes:
        scores = [[scores_of(own, variant, name, size) for name in group] for group in groups]
        if not all(found for group in scores for found in group):
            return {}
        means[size] = _mean_of_means([[found[0] for found in group] for group in scores])
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


def quoted(facts: Facts | None, source: str) -> str:
    """The score of an algorithm that a source publishes, as text with its flag; "" if it publishes none."""
    if facts is None:
        return ""
    value, error, flag = facts.scores[source]
    return f"{value:.2f}" + (f" ± {error:.2f}" if error is not None else "") + f" ({flag})"


def draw(campaign: Campaign, results: Sequence[Result], path: Path) -> None:
    """Draw scores as points, a row for each algorithm and a panel for each size, beside what is published."""
    rows = {name: row for row, name in enumerate(_tested_algorithms(campaign, results))}
    figure = Figure(figsize=(2 + 3 * len(campaign.sizes), 1.5 + 0.27 * max(4, len(rows))), layout="constrained")
    panels = figure.subplots(1, len(campaign.sizes), sharey=True, squeeze=False)[0]
    for panel, size in zip(panels, campaign.sizes, strict=True):
        _draw_own(panel, campaign, results, size, rows)
        if size == _PUBLISHED_SIZE:
            _draw_published(panel, rows)
        panel.set_title(f"n = {size}")
        panel.set_xlabel("score, %")
        panel.set_xlim(-3, 103)
        panel.grid(alpha=0.3)
        panel.set_yticks(list(rows.values()), list(rows))
        panel.set_ylim(max(1, len(rows)) - 0.5, -0.5)
    marks = {label: mark for panel in panels for mark, label in zip(*panel.get_legend_handles_labels(), strict=True)}
    figure.legend(marks.values(), marks.keys(), loc="outside lower center", ncols=4, fontsize="small")
    figure.savefig(path, dpi=150)


def _draw_own(panel: Axes, campaign: Campaign, results: Sequence[Result], size: int, rows: Mapping[str, int]) -> None:
    """Draw mean and standard deviation over seeds at one size, the variants of a row below each other."""
    for index, variant in enumerate(campaign.variants, start=1):
        shift = 0.5 * index / (len(campaign.variants) + 1) - 0.25
        points = []
        for name, row in rows.items():
            scores = scores_of(results, variant.name, name, size)
            if scores:
                deviation = statistics.stdev(scores) if len(scores) > 1 else 0.0
                points.append((statistics.mean(scores), row + shift, deviation))
        if points:
            means, heights, deviations = zip(*points, strict=True)
            panel.errorbar(means, heights, xerr=deviations, fmt="o", markersize=4, capsize=2, label=variant.name)


def _draw_published(panel: Axes, rows: Mapping[str, int]) -> None:
    """Draw what is published of the algorithms that have rows."""
    heights = [row for name, row in rows.items() if name in published()]
    for (source, (title, _)), marker in zip(SOURCES.items(), "|x", strict=True):
        values = [published()[name].scores[source].value for name in rows if name in published()]
        if values:
            panel.plot(values, heights, marker, color="black", markersize=6, label=title)


def _tested_algorithms(campaign: Campaign, results: Sequence[Result]) -> list[str]:
    """The algorithms of which any run has been tested, in the campaign's order."""
    tested = {result.run.algorithm for result in results if result.reached.scores}
    return [name for name in campaign.algorithms if name in tested]


def scores_of(results: Sequence[Result], variant: str, algorithm: str, size: int) -> list[float]:
    """The scores of all seeds that have been tested at one size, in per cent."""
    own = (result.reached.scores for result in results if result.run[:2] == (variant, algorithm))
    return [100 * scores[size] for scores in own if size in scores]
