"""Training steps per second of this library alone on a device, by algorithm, and what the recipe would take on it.

``python scripts/benchmark.py train --device cuda`` trains a Triplet-GMPNN (hidden 128) on batches of 32 of the
single-task recipe: of each algorithm some at every training size, drawn ahead and on the device. The first pass over
them, in which the GPU's kernels are compiled and its graphs recorded, is timed by itself. Prints a table and writes
``scripts/benchmark_cuda.csv`` after each algorithm. No more is needed than what training needs.

With ``--at-once 8`` as many processes train side by side, the longest algorithms first. All are measured at the same
time, each goes on until the last has been, and those for which no algorithm is left go on with their last one. Graphs
of different processes run on a GPU at the same time through ``nvidia-cuda-mps-control``, which is started if there is
one.

With ``--profile`` the tests of the kernels are run on the GPU, and what a training step spends its time on is printed
and written to ``scripts/profile_cuda.csv``, kernel by kernel. That is the first thing to do on a new GPU.
"""

import csv
import gc
import multiprocessing
import platform
import shutil
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.utilities import move_data_to_device
from torch.nn.utils import clip_grad_norm_
from torch.profiler import ProfilerActivity

from nar.datasets import ALGORITHMS
from nar.datasets.clrs30.recipe import recipe_spec
from nar.datasets.splits.splits import TrainStream
from nar.processors import TripletGMPNN
from nar.training.cuda_graphs import most_steps_of
from nar.training.reasoner import Reasoner

SIZES = [4, 7, 11, 13, 16]
RECIPE_STEPS = 10_000
BATCH_SIZE = 32
PROFILED = ["insertion_sort", "bridges", "jarvis_march"]
NUM_PRINTED = 25  # of a profile's kernels, those that take longest
TIMEOUT = 120  # seconds, after which a process is given up
LONGEST = [
    "heapsort",
    "jarvis_march",
    "articulation_points",
    "bridges",
    "strongly_connected_components",
    "bubble_sort",
    "mst_kruskal",
    "quicksort",
    "quickselect",
    "dfs",
    "topological_sort",
    "kmp_matcher",
    "naive_string_matcher",
    "graham_scan",
]


def name_of(device: str) -> str:
    """The name of a device: of the GPU, or of the processor."""
    return torch.cuda.get_device_name() if device == "cuda" else platform.processor() or platform.machine()


def wait(device: str) -> float:
    """The time in seconds, when the device has finished all that was launched on it."""
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


class Training:
    """A model of one algorithm and its batches, on each of which it has been trained once."""

    def __init__(self, algorithm: str, device: str, num_batches: int, sizes: Sequence[int], batch_size: int) -> None:
        torch.manual_seed(1)
        self.algorithm, self.device = algorithm, device
        stream = TrainStream([algorithm], sizes, batch_size, seed=1)
        self.batches = [move_data_to_device(stream[index], device) for index in range(num_batches)]
        self.reasoner = Reasoner({algorithm: recipe_spec(algorithm)}, TripletGMPNN()).to(device)
        self.optimizer = self.reasoner.configure_optimizers()
        start = wait(device)
        self.train()
        self.first_pass = wait(device) - start

    def train(self) -> None:
        """Take a training step on each batch."""
        for batch in self.batches:
            self.optimizer.zero_grad()
            self.reasoner.training_step(batch, 0).backward()
            clip_grad_norm_(self.reasoner.parameters(), 1.0)
            self.optimizer.step()

    def measure(self, seconds: float, at_once: int) -> dict[str, Any]:
        """A row of the table: the batches, again and again for so many seconds."""
        begin, passes = wait(self.device), 0
        while not passes or time.perf_counter() - begin < seconds:
            self.train()
            passes += 1
            end = wait(self.device)
        rate = passes * len(self.batches) / (end - begin)
        return {
            "algorithm": self.algorithm,
            "at once": at_once,
            "steps per s": rate,
            f"minutes of {RECIPE_STEPS}": RECIPE_STEPS / rate / at_once / 60,
            "first pass s": self.first_pass,
            "MB": torch.cuda.max_memory_reserved() / 1e6 if self.device == "cuda" else 0,
            "device": name_of(self.device),
            "torch": torch.__version__,
        }


def measure_all(
    algorithms: Sequence[str],
    index: int,
    at_once: int,
    barrier: Any,
    measured: Any,
    rows: Any,
    seconds: float,
    *more: Any,
) -> None:
    """Measure one of every `at_once` algorithms, in step with the other processes, which measure the others."""
    warnings.filterwarnings("ignore", message=".*self.log.*")  # there is no trainer
    torch.set_num_threads(1)  # as `nar fit` does
    training: Training | None = None
    try:
        for first in range(0, len(algorithms), at_once):
            is_new = first + index < len(algorithms)
            if is_new:
                training = None
                free_memory()
                training = Training(algorithms[first + index], *more)
            assert training is not None
            barrier.wait(TIMEOUT)
            row = training.measure(seconds, at_once)
            with measured.get_lock():
                measured.value += 1
            while measured.value < first + at_once and not barrier.broken:
                training.train()
            barrier.wait(TIMEOUT)
            if is_new:
                rows.put(row)
    except BaseException:
        barrier.abort()
        raise
    finally:
        rows.put(None)


def free_memory() -> None:
    """Give the GPU back what the last model had there, and let its peak of memory start anew."""
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def rows_of(algorithms: Sequence[str], at_once: int, seconds: float, *more: Any) -> Iterator[dict[str, Any]]:
    """The rows of the table, each as soon as its algorithm is measured."""
    if at_once == 1:
        for algorithm in algorithms:
            free_memory()
            yield Training(algorithm, *more).measure(seconds, 1)
        return
    context = multiprocessing.get_context("spawn")
    rows, barrier, measured = context.Queue(), context.Barrier(at_once), context.Value("i", 0)
    processes = [
        context.Process(
            target=measure_all, args=(algorithms, index, at_once, barrier, measured, rows, seconds, *more), daemon=True
        )
        for index in range(at_once)
    ]
    for process in processes:
        process.start()
    running = at_once
    while running:
        row = rows.get(timeout=TIMEOUT)
        if row is None:
            running -= 1
        else:
            yield row
    for process in processes:
        process.join()
    if any(process.exitcode for process in processes):
        raise SystemExit("a process failed: see above")


@contextmanager
def graphs_side_by_side(device: str, at_once: int) -> Iterator[None]:
    """Let several processes use a GPU at the same time, if that is not so already."""
    control = shutil.which("nvidia-cuda-mps-control") if device == "cuda" and at_once > 1 else None
    is_ours = control is not None and subprocess.run([control, "-d"], check=False).returncode == 0
    try:
        yield
    finally:
        if control is not None and is_ours:
            subprocess.run([control], input="quit\n", text=True, check=False)


def check_and_profile(device: str, algorithms: Sequence[str]) -> None:
    """Run the tests of the kernels, on a GPU if there is one, and print and write profiles."""
    tests = Path(__file__).parents[1] / "tests/test_triton.py"
    subprocess.run([sys.executable, "-m", "pytest", "-q", str(tests)], check=True)
    profile(device, algorithms or PROFILED)


def profile(device: str, algorithms: Sequence[str], num_passes: int = 3) -> None:
    """Print and write what a training step at the largest size spends its time on: each kernel's launches and time."""
    warnings.filterwarnings("ignore", message=".*self.log.*")  # there is no trainer
    activity = ProfilerActivity.CUDA if device == "cuda" else ProfilerActivity.CPU
    rows: list[dict[str, Any]] = []
    for algorithm in algorithms:
        free_memory()
        training = Training(algorithm, device, 1, SIZES[-1:], BATCH_SIZE)
        with torch.profiler.profile(activities=[activity]) as profiler:
            for _ in range(num_passes):
                training.train()
            wait(device)
        own = [row for row in map(_row_of_event, profiler.key_averages()) if row["us"] > 0]
        for row in sorted(own, key=lambda row: row["us"], reverse=True):
            scaled = {key: row[key] / num_passes for key in ("launches", "us")}
            rows.append({"algorithm": algorithm, "steps": most_steps_of(training.batches[0]), **row, **scaled})
        number, total = (sum(row[key] for row in own) / num_passes for key in ("launches", "us"))
        print(f"{algorithm}: {number:.0f} launches, {total / 1e3:.3g} ms", flush=True)
        for row in [row for row in rows if row["algorithm"] == algorithm][:NUM_PRINTED]:
            print(f"{row['us']:12.0f} us {row['launches']:8.0f} x {row['kernel'][:90]}", flush=True)
        with (Path(__file__).parent / f"profile_{device}.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)


def _row_of_event(event: Any) -> dict[str, Any]:
    """The launches of a kernel, or of an operation on a CPU, and its own time in microseconds."""
    own = event.self_device_time_total or event.self_cpu_time_total
    return {"kernel": event.key, "launches": event.count, "us": own}


def run(device: str, algorithms: Sequence[str], num_batches: int, seconds: float, at_once: int = 1) -> None:
    """Measure algorithms, print a line for each and their total, and write the table after each."""
    warnings.filterwarnings("ignore", message=".*self.log.*")  # there is no trainer
    algorithms = list(algorithms or ALGORITHMS)
    at_once = min(at_once, len(algorithms))
    if at_once > 1:
        algorithms.sort(key=lambda name: LONGEST.index(name) if name in LONGEST else len(LONGEST))
    rows: list[dict[str, Any]] = []
    with graphs_side_by_side(device, at_once):
        for row in rows_of(algorithms, at_once, seconds, device, num_batches, SIZES, BATCH_SIZE):
            rows.append(row)
            texts = [{key: f"{x:.4g}" if isinstance(x, float) else str(x) for key, x in row.items()} for row in rows]
            print(" | ".join(f"{key} {text}" for key, text in texts[-1].items()), flush=True)
            with (Path(__file__).parent / f"benchmark_{device}.csv").open("w", encoding="utf-8", newline="") as file:
                writer = csv.DictWriter(file, list(texts[0]))
                writer.writeheader()
                writer.writerows(texts)
    total = sum(row[f"minutes of {RECIPE_STEPS}"] for row in rows)
    how = "one after the other" if at_once == 1 else f"{at_once} at once"
    print(f"{RECIPE_STEPS} steps of each of {len(rows)}, {how}: {total:.3g} minutes on {rows[0]['device']}")
