"""Train one model for each of several algorithms with the single-task recipe and print what they reached.

    python scripts/results.py --steps 300 --out scripts/results.csv bfs insertion_sort minimum dijkstra

Everything goes through the command line of the library, as a user would run it. Validation is every 100 steps on at
most 512 trajectories, and a test has at most 64: that is the whole official split of all algorithms but the seven whose
splits are larger, because they have few outputs.
"""

import argparse
import csv
import subprocess
import sys
import time
from pathlib import Path

CONFIG = Path(__file__).parent / "configs" / "clrs30.yaml"
NAR = Path(sys.executable).with_name("nar")
SIZES = (16, 32, 64)
COLUMNS = ("algorithm", "steps", "seconds", *(f"n = {size}" for size in SIZES))


def measure(algorithm: str, steps: int, root: Path) -> dict[str, str]:
    """Train and test one model; the row of the table."""
    folder = ["--trainer.default_root_dir", str(root / algorithm)]
    fit = [NAR, "fit", "--config", CONFIG, "--data.algorithms", algorithm, "--trainer.max_steps", str(steps), *folder]
    start = time.monotonic()
    subprocess.run([*fit, "--trainer.val_check_interval", "100", "--trainer.limit_val_batches", "16"], check=True)
    row = {"algorithm": algorithm, "steps": str(steps), "seconds": f"{time.monotonic() - start:.0f}"}
    for size in SIZES:
        sizes = ["--data.test_sizes", f"[{size}]", "--trainer.limit_test_batches", "2"]
        subprocess.run([NAR, "test", "--ckpt_path", root / algorithm / "best.ckpt", *sizes], check=True)
        with (root / algorithm / "ood.csv").open() as file:
            score = next(line["score"] for line in csv.DictReader(file) if line["output"] == "score")
        row[f"n = {size}"] = f"{float(score):.4f}"
    return row


def main() -> None:
    """Measure, write the CSV file after each algorithm, and print the table as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("algorithms", nargs="+")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--root", type=Path, default=Path("runs/results"), help="where checkpoints go")
    parser.add_argument("--out", type=Path, default=Path("scripts/results.csv"))
    args = parser.parse_args()
    rows = []
    for algorithm in args.algorithms:
        rows.append(measure(algorithm, args.steps, args.root))
        with args.out.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(rows)
    print("| " + " | ".join(COLUMNS) + " |")
    print("|" + "---|" * len(COLUMNS))
    for row in rows:
        print("| " + " | ".join(row[column] for column in COLUMNS) + " |")


if __name__ == "__main__":
    main()
