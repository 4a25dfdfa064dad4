"""Trajectories per second of nar.datasets and of dm-clrs, by algorithm, on one core.

``python scripts/benchmark_data.py [--sizes 16 64] [--seconds 1] [algorithm ...]`` prints a table and writes
``scripts/benchmark_data.csv``. The two are measured in turn, several times each, in CPU time, and the fastest turn of
each counts: other processes on the machine then disturb little. Everything is included: drawing, running, batching.
"""

import argparse
import csv
import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

from rich.console import Console
from rich.table import Table

from nar.datasets import ALGORITHMS, sample

TURNS = 5


def sample_from_dm_clrs(algorithm: str, num_nodes: int, num_samples: int, seed: int) -> Any:
    """What dm-clrs draws, as it draws it."""
    import clrs

    return clrs.build_sampler(algorithm, num_samples, seed=seed, length=num_nodes)[0].next()


def milliseconds(draw: Callable[..., Any], algorithm: str, num_nodes: int, num_samples: int) -> float:
    """CPU time for one trajectory, of so many."""
    start = time.process_time()
    draw(algorithm, num_nodes=num_nodes, num_samples=num_samples, seed=1)
    return (time.process_time() - start) * 1e3 / num_samples


def fitting(draw: Callable[..., Any], algorithm: str, num_nodes: int, seconds: float) -> int:
    """How many trajectories take about so long, at most 1024."""
    cost = milliseconds(draw, algorithm, num_nodes, 1)
    cost = min(cost, milliseconds(draw, algorithm, num_nodes, 4 if cost < 1000 * seconds else 1))
    return max(1, min(1024, int(1000 * seconds / max(cost, 1e-3))))


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("algorithms", nargs="*", default=ALGORITHMS)
    parser.add_argument("--sizes", nargs="+", type=int, default=[16, 64])
    parser.add_argument("--seconds", type=float, default=0.2, help="of a turn")
    args = parser.parse_args()
    rows = []
    for algorithm in args.algorithms:
        for num_nodes in args.sizes:
            sources = (sample, sample_from_dm_clrs)
            numbers = [fitting(draw, algorithm, num_nodes, args.seconds) for draw in sources]
            turns = [
                [milliseconds(draw, algorithm, num_nodes, n) for draw, n in zip(sources, numbers, strict=True)]
                for _ in range(TURNS)
            ]
            ours, theirs = (min(column) for column in zip(*turns, strict=True))
            rows.append((algorithm, num_nodes, theirs, ours, theirs / ours))
            print(f"{algorithm} at {num_nodes}: {theirs / ours:.1f}", flush=True)
    table = Table("algorithm", "n", "dm-clrs, ms", "nar, ms", "ratio")
    for algorithm, num_nodes, theirs, ours, ratio in rows:
        table.add_row(algorithm, str(num_nodes), f"{theirs:.3f}", f"{ours:.4f}", f"{ratio:.1f}")
    for num_nodes in args.sizes:
        ratios = [row[-1] for row in rows if row[1] == num_nodes]
        mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
        table.add_row("geometric mean", str(num_nodes), "", "", f"{mean:.1f}")
        table.add_row("least", str(num_nodes), "", "", f"{min(ratios):.1f}")
    Console(width=100).print(table)
    with (Path(__file__).parent / "benchmark_data.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["algorithm", "num_nodes", "dm_clrs_ms", "nar_ms", "ratio"])
        writer.writerows((*row[:2], *(f"{x:.4g}" for x in row[2:])) for row in rows)


if __name__ == "__main__":
    main()
