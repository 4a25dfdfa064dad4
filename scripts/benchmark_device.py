"""Training steps per second of this library alone on a device, by algorithm, and what the recipe would take on it.

``python scripts/benchmark.py train --device cuda`` trains a Triplet-GMPNN (hidden 128) on batches of 32 of the
single-task recipe: of each algorithm some at every training size, drawn ahead and on the device. The first pass over
them, in which the GPU's kernels are compiled and its graphs recorded, is timed by itself. Prints a table and writes
``scripts/benchmark_cuda.csv`` after each algorithm. No more is needed than what training needs.
"""

import csv
import gc
import platform
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.utilities import move_data_to_device
from torch.nn.utils import clip_grad_norm_

from nar.datasets import ALGORITHMS
from nar.datasets.recipe import recipe_spec
from nar.datasets.splits import TrainStream
from nar.module import Reasoner
from nar.processors import TripletGMPNN

SIZES = [4, 7, 11, 13, 16]
RECIPE_STEPS = 10_000
BATCH_SIZE = 32


def name_of(device: str) -> str:
    """What the device is called."""
    return torch.cuda.get_device_name() if device == "cuda" else platform.processor() or platform.machine()


def wait(device: str) -> float:
    """The time, once the device has done what it was given."""
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def measure(algorithm: str, device: str, num_batches: int, seconds: float) -> dict[str, Any]:
    """A row of the table: so many batches, again and again for so many seconds."""
    torch.manual_seed(1)
    stream = TrainStream([algorithm], SIZES, BATCH_SIZE, seed=1)
    batches = [move_data_to_device(stream[index], device) for index in range(num_batches)]
    reasoner = Reasoner({algorithm: recipe_spec(algorithm)}, TripletGMPNN()).to(device)
    optimizer = reasoner.configure_optimizers()

    def train() -> None:
        for batch in batches:
            optimizer.zero_grad()
            reasoner.training_step(batch, 0).backward()
            clip_grad_norm_(reasoner.parameters(), 1.0)
            optimizer.step()

    start = wait(device)
    train()
    begin, passes = wait(device), 0
    while not passes or time.perf_counter() - begin < seconds:
        train()
        passes += 1
        end = wait(device)
    rate = passes * num_batches / (end - begin)
    return {
        "algorithm": algorithm,
        "steps per s": rate,
        f"minutes of {RECIPE_STEPS}": RECIPE_STEPS / rate / 60,
        "first pass s": begin - start,
        "MB": torch.cuda.max_memory_reserved() / 1e6 if device == "cuda" else 0,
        "device": name_of(device),
        "torch": torch.__version__,
    }


def run(device: str, algorithms: Sequence[str], num_batches: int, seconds: float) -> None:
    """Measure, print and write."""
    warnings.filterwarnings("ignore", message=".*self.log.*")  # there is no trainer
    rows: list[dict[str, Any]] = []
    for algorithm in algorithms or ALGORITHMS:
        rows.append(measure(algorithm, device, num_batches, seconds))
        texts = [{key: f"{x:.4g}" if isinstance(x, float) else str(x) for key, x in row.items()} for row in rows]
        print(" | ".join(f"{key} {text}" for key, text in texts[-1].items()), flush=True)
        with (Path(__file__).parent / f"benchmark_{device}.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, list(texts[0]))
            writer.writeheader()
            writer.writerows(texts)
        if device == "cuda":
            gc.collect()  # the last model, before its memory is given back
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
    total = sum(row[f"minutes of {RECIPE_STEPS}"] for row in rows)
    print(f"{RECIPE_STEPS} steps of each of {len(rows)}, one after the other: {total:.3g} minutes on {name_of(device)}")
