"""What the papers' layers bring: scores of small models that differ in one thing, over several seeds.

    python scripts/layers.py --steps 200 --seeds 3

Every model is a Triplet-GMPNN, or an asynchronous layer, of width 32, trained by the single-task recipe (sizes 4 to 16,
batches of 32) for the same number of steps and tested with its last weights on the first 64 trajectories of the test
splits at n = 16 and 64. Models that differ in evaluation alone share their weights. Runs are shared out to processes of
one core each; those that ``scripts/layers.csv`` has already are not repeated. The table is printed as Markdown: mean ±
standard deviation over seeds, in per cent.
"""

import argparse
import csv
import os
import statistics
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

ALGORITHMS = ("bfs", "bellman_ford", "dijkstra", "minimum", "floyd_warshall")
SIZES = (16, 64)
HIDDEN_DIM = 32
OUT = Path(__file__).with_suffix(".csv")
COLUMNS = ("algorithm", "model", "steps", "seed", "num_nodes", "score")

Settings = tuple[str, dict[str, Any], dict[str, Any]]  # a processor, its arguments, and those of the model
DECAY = {"latent_decay": 0.9}
TRAINED: dict[str, Settings] = {
    "max": ("TripletGMPNN", {}, {}),
    "softmax": ("TripletGMPNN", {"reduction": "softmax"}, {}),
    "decay 0.9": ("TripletGMPNN", {}, DECAY),
    "softmax and decay": ("TripletGMPNN", {"reduction": "softmax"}, DECAY),
    "asynchronous, level 1": ("Asynchronous", {"update": "network", "message": "mlp"}, {}),
    "asynchronous, level 2": ("Asynchronous", {"message": "mlp"}, {}),
    "asynchronous, level 3": ("Asynchronous", {}, {}),
}
TESTED: dict[str, dict[str, Any]] = {  # in evaluation, besides as it was trained
    "softmax": {"tested with max": "max", "tested with adaptive softmax": "adaptive softmax"},
    "softmax and decay": {"tested with max": "max"},
}
MODELS = [name + how for name in TRAINED for how in ("", *(f", {how}" for how in TESTED.get(name, {})))]


def reasoner(specs: Any, settings: Settings, **evaluation: Any) -> Any:
    """A model of some settings."""
    import nar.processors
    from nar.module import Reasoner

    name, arguments, others = settings
    make: Callable[..., Any] = getattr(nar.processors, name)
    return Reasoner(specs, make(HIDDEN_DIM, **arguments, **evaluation), **others)


def run(algorithm: str, name: str, steps: int, seed: int) -> list[dict[str, Any]]:
    """Train a model and test it in every way: a row for each way and size."""
    warnings.simplefilter("ignore")
    import logging

    from lightning.pytorch import Trainer, seed_everything

    from nar.datasets import CLRS30
    from nar.datasets.recipe import num_nodes_at

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    seed_everything(seed, verbose=False)
    quiet: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    quiet |= {"enable_checkpointing": False, "accelerator": "cpu", "devices": 1}
    data = CLRS30(algorithms=algorithm, num_workers=0, seed=seed)
    trained = reasoner(data.specs, TRAINED[name])
    trainer = Trainer(max_steps=steps, max_epochs=-1, gradient_clip_val=1.0, limit_val_batches=0, **quiet)
    trainer.fit(trained, datamodule=data)
    rows = []
    for how, reduction in {"": None, **TESTED.get(name, {})}.items():
        model = reasoner(data.specs, TRAINED[name], **({"reduction_in_evaluation": reduction} if reduction else {}))
        model.load_state_dict(trained.state_dict())
        for size in SIZES:
            tests = CLRS30(algorithms=algorithm, test_sizes=[size], num_workers=0)
            Trainer(limit_test_batches=2, **quiet).test(model, datamodule=tests, verbose=False)
            score = model.scores[algorithm, num_nodes_at(algorithm, size)]["score"]
            model_name = f"{name}, {how}" if how else name
            values = (algorithm, model_name, steps, seed, size, f"{score:.4f}")
            rows.append(dict(zip(COLUMNS, values, strict=True)))
    return rows


def recorded() -> list[dict[str, str]]:
    """The rows that are there already."""
    if not OUT.exists():
        return []
    with OUT.open(newline="") as file:
        return list(csv.DictReader(file))


def table(rows: list[dict[str, str]], steps: int) -> Iterator[str]:
    """The lines of the table, with a column for each algorithm and size."""
    scores: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    for row in rows:
        if row["steps"] == str(steps):
            scores[row["model"], row["algorithm"], row["num_nodes"]].append(100 * float(row["score"]))
    columns = [(algorithm, str(size)) for algorithm in ALGORITHMS for size in SIZES]
    yield "| model | " + " | ".join(f"{algorithm}, n = {size}" for algorithm, size in columns) + " |"
    yield "|---|" + "---|" * len(columns)
    for model in MODELS:
        cells = []
        for column in columns:
            found = scores[(model, *column)]
            spread = f" ± {statistics.stdev(found):.1f}" if len(found) > 1 else ""
            cells.append(f"{statistics.mean(found):.1f}{spread}" if found else "")
        yield f"| {model} | " + " | ".join(cells) + " |"


def main() -> None:
    """Run what is not recorded yet, write each run's rows when it ends, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=3, help="how many")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    args = parser.parse_args()
    done = {(row["algorithm"], row["model"], row["steps"], row["seed"]) for row in recorded()}
    jobs = [
        (algorithm, name, args.steps, seed)
        for seed in range(args.seeds)
        for algorithm in ALGORITHMS
        for name in TRAINED
    ]
    jobs = [job for job in jobs if tuple(map(str, job)) not in done]
    os.environ["OMP_NUM_THREADS"] = "1"  # read by the processes that are started now
    with ProcessPoolExecutor(args.processes, mp_context=get_context("spawn")) as pool:
        for future in as_completed([pool.submit(run, *job) for job in jobs]):
            is_new = not OUT.exists()
            with OUT.open("a", newline="") as file:
                writer = csv.DictWriter(file, COLUMNS)
                if is_new:
                    writer.writeheader()
                writer.writerows(future.result())
            print(*(row.values() for row in future.result()), sep="\n", flush=True)
    print(*table(recorded(), args.steps), sep="\n")


if __name__ == "__main__":
    main()
