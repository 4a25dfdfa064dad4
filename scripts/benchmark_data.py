"""Trajectories per second of nar.datasets and of dm-clrs, by algorithm, on one core.

``python scripts/benchmark_data.py [--sizes 16 64] [--seconds 1] [algorithm ...]`` prints a table and writes
``scripts/benchmark_data.csv``. The two are measured in turn, several times each, in CPU time, and the fastest turn of
each counts: other processes on the machine then disturb little. Everything is included: drawing, running, batching.

``python scripts/benchmark_data.py --workers 0 1 2 4`` prints batches of training per second of wall time instead, from
so many worker processes; the numbers are measured in turn as well.
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
from nar.datasets.splits.compilation import compile_ahead
from nar.datasets.splits.splits import TrainLoader, TrainStream

TURNS = 5
BATCH_SIZE = 32
WITH_WORKERS = (("dijkstra", 16, 300), ("bridges", 16, 150), ("bridges", 64, 16))  # and how many batches


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


def batches_per_second(algorithm: str, num_nodes: int, num_workers: int, num_batches: int) -> float:
    """Batches of 32 trajectories in a second, once the workers have started."""
    batches = iter(TrainLoader(TrainStream([algorithm], [num_nodes], BATCH_SIZE, seed=1), num_workers))
    for _ in range(1 + num_workers):
        next(batches)
    start = time.perf_counter()
    for _ in range(num_batches):
        next(batches)
    return num_batches / (time.perf_counter() - start)


def measure_workers(numbers: list[int]) -> None:
    """Print the fastest turn of each number of workers."""
    compile_ahead((algorithm, num_nodes) for algorithm, num_nodes, _ in WITH_WORKERS)
    table = Table("algorithm", "n", *(f"{number} workers" for number in numbers))
    for algorithm, num_nodes, num_batches in WITH_WORKERS:
        turns = [[batches_per_second(algorithm, num_nodes, n, num_batches) for n in numbers] for _ in range(TURNS)]
        table.add_row(algorithm, str(num_nodes), *(f"{max(column):.3g}" for column in zip(*turns, strict=True)))
    Console(width=100).print(table)


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("algorithms", nargs="*", default=ALGORITHMS)
    parser.add_argument("--sizes", nargs="+", type=int, default=[16, 64])
    parser.add_argument("--seconds", type=float, default=0.2, help="of a turn")
    parser.add_argument("--workers", nargs="+", type=int, help="measure batches of training from so many workers")
    args = parser.parse_args()
    if args.workers:
        return measure_workers(args.workers)
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
    with (Path(__file__).parent / "benchmark_data.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["algorithm", "num_nodes", "dm_clrs_ms", "nar_ms", "ratio"])
        writer.writerows((*row[:2], *(f"{x:.4g}" for x in row[2:])) for row in rows)


if __name__ == "__main__":
    main()
