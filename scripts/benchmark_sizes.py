"""Time and memory of a forward pass against the number of nodes.

``python scripts/benchmark_sizes.py`` runs a Triplet-GMPNN (hidden 128) on one graph, in a process of its own for each
algorithm and size, prints a table with the exponents of growth from one size to the next, and writes
``scripts/benchmark_sizes.csv``. Memory is the peak of the process, data and imports included.
"""

import argparse
import csv
import json
import math
import resource
import subprocess
import sys
import time
from pathlib import Path

SIZES = {"bfs": [64, 128, 256, 512, 1024], "dijkstra": [64, 128, 256], "minimum": [64, 128, 256]}


def forward(algorithm: str, num_nodes: int) -> None:
    """Print the seconds of a pass, its steps, and the peak memory in bytes."""
    import torch

    from nar.batch import num_steps_of, to_tensors
    from nar.datasets import sample
    from nar.datasets.clrs30.recipe import apply_recipe, recipe_spec
    from nar.model.unroll import EncodeProcessDecode
    from nar.ops.process import keep_freed_memory
    from nar.processors import TripletGMPNN

    keep_freed_memory()
    spec = recipe_spec(algorithm)
    model = EncodeProcessDecode({algorithm: spec}, TripletGMPNN()).eval()

    def features(size: int) -> object:
        feedback = sample(algorithm, num_nodes=size, num_samples=1, seed=1, hints="first")
        return to_tensors(apply_recipe(algorithm, feedback), spec).features

    given = features(num_nodes)
    with torch.inference_mode():
        model(algorithm, features(16), with_hints=False)  # numba's cache is read
        start = time.perf_counter()
        model(algorithm, given, with_hints=False)
        seconds = time.perf_counter() - start
    num_steps = num_steps_of(int(given.lengths.max()))
    print(json.dumps([seconds, num_steps, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024]))


def main() -> None:
    """Measure, print and write."""
    from rich.console import Console
    from rich.table import Table

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--one", nargs=2, help="measure this algorithm and size alone, in this process")
    args = parser.parse_args()
    if args.one:
        forward(args.one[0], int(args.one[1]))
        return
    rows = []
    for algorithm, sizes in SIZES.items():
        for num_nodes in sizes:
            command = [sys.executable, __file__, "--one", algorithm, str(num_nodes)]
            printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            seconds, num_steps, peak = json.loads(printed.splitlines()[-1])
            rows.append([algorithm, num_nodes, num_steps, seconds, seconds / num_steps, peak / 1e6])
            print(*rows[-1], flush=True)
    table = Table("algorithm", "n", "steps", "s", "s per step", "exponent", "MB")
    last = None
    for row in rows:
        grows = last is not None and last[0] == row[0]
        exponent = f"{math.log(row[4] / last[4]) / math.log(row[1] / last[1]):.2f}" if last and grows else ""
        table.add_row(row[0], str(row[1]), str(row[2]), f"{row[3]:.3g}", f"{row[4]:.3g}", exponent, f"{row[5]:.0f}")
        last = row
    Console(width=100).print(table)
    with (Path(__file__).parent / "benchmark_sizes.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["algorithm", "num_nodes", "num_steps", "s", "s_per_step", "MB"])
        writer.writerows([*row[:3], *(f"{x:.4g}" for x in row[3:])] for row in rows)


if __name__ == "__main__":
    main()
