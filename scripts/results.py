"""Train one model for each of several algorithms with the single-task recipe and print what they reached.

    python scripts/results.py --steps 300 --out scripts/results.csv bfs insertion_sort minimum dijkstra
    python scripts/results.py --steps 10000 --at-once 8 all --trainer.precision=bf16-mixed

Everything goes through the command line of the library, as a user would run it; what is not of this script, written
with an ``=``, goes to ``nar fit``. Validation is every 100 steps on at most 512 trajectories, and a test has at most
64: that is the whole official split of all algorithms but the seven whose splits are larger, because they have few
outputs. String matchers have 5/4 as many nodes as the columns say (see ``num_nodes_at`` in ``datasets/recipe.py``). A
run that was cut short goes on from its last checkpoint.

With ``--at-once`` several models train side by side on one device, each in a process of its own, because Python runs
one thread at a time: on a GPU, where a step is one launch of a recorded graph, a process spends much of its time on
data, logging and the optimiser, in which another's graph can run. Two graphs run at the same time only where
``nvidia-cuda-mps-control -d`` was started before; otherwise the GPU turns from one process to the next.
"""

import argparse
import csv
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

CONFIG = Path(__file__).parent / "configs" / "clrs30.yaml"
NAR = Path(sys.executable).with_name("nar")
SIZES = (16, 32, 64)
COLUMNS = ("algorithm", "steps", "seconds", *(f"n = {size}" for size in SIZES))


def measure(algorithm: str, steps: int, folder: Path, more: Sequence[str], *, is_alone: bool) -> dict[str, str]:
    """Train and test one model; the row of the table. What it prints is in its folder, unless it is alone."""
    folder.mkdir(parents=True, exist_ok=True)
    fit = ["fit", "--config", CONFIG, "--data.algorithms", algorithm, "--trainer.max_steps", str(steps)]
    fit += ["--trainer.default_root_dir", folder, "--trainer.val_check_interval", "100"]
    fit += ["--trainer.limit_val_batches", "16", *more]
    if (folder / "last.ckpt").exists():
        fit += ["--ckpt_path", "last"]
    start = time.monotonic()
    with (folder / "printed.txt").open("a") as file:
        output = None if is_alone else file
        subprocess.run([NAR, *fit], check=True, stdout=output, stderr=output)
        row = {"algorithm": algorithm, "steps": str(steps), "seconds": f"{time.monotonic() - start:.0f}"}
        for size in SIZES:
            sizes = ["--data.test_sizes", f"[{size}]", "--trainer.limit_test_batches", "2"]
            test = [NAR, "test", "--ckpt_path", folder / "best.ckpt", *sizes]
            subprocess.run(test, check=True, stdout=output, stderr=output)
            with (folder / "ood.csv").open() as scores:
                score = next(line["score"] for line in csv.DictReader(scores) if line["output"] == "score")
            row[f"n = {size}"] = f"{float(score):.4f}"
    return row


def main() -> None:
    """Measure, write the CSV file after each algorithm, and print the table as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("algorithms", nargs="+", help="names, or all")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--at-once", type=int, default=1, help="how many to train side by side")
    parser.add_argument("--root", type=Path, default=Path("runs/results"), help="where checkpoints go")
    parser.add_argument("--out", type=Path, default=Path("scripts/results.csv"))
    args, more = parser.parse_known_args()
    if args.algorithms == ["all"]:
        from nar.datasets import ALGORITHMS

        args.algorithms = list(ALGORITHMS)
    rows, failed = {}, []
    with ThreadPoolExecutor(args.at_once) as pool:
        futures = {
            pool.submit(measure, name, args.steps, args.root / name, more, is_alone=args.at_once == 1): name
            for name in args.algorithms
        }
        for future in as_completed(futures):
            if future.exception() is not None:
                failed.append(f"{futures[future]}: {future.exception()}")
                continue
            rows[futures[future]] = future.result()
            with args.out.open("w", newline="") as file:
                writer = csv.DictWriter(file, COLUMNS)
                writer.writeheader()
                writer.writerows(rows[name] for name in args.algorithms if name in rows)
    print("| " + " | ".join(COLUMNS) + " |")
    print("|" + "---|" * len(COLUMNS))
    for name in args.algorithms:
        if name in rows:
            print("| " + " | ".join(rows[name][column] for column in COLUMNS) + " |")
    if failed:
        raise SystemExit("\n".join(failed))


if __name__ == "__main__":
    main()
