"""Time and memory of a training step or of a forward pass, of this library and of dm-clrs, side by side.

``python scripts/benchmark.py train`` trains a Triplet-GMPNN (hidden 128, batches of 32) at n = 16,
``python scripts/benchmark.py forward`` runs one at n = 64. Each prints a table by algorithm and writes
``scripts/benchmark_train.csv`` or ``scripts/benchmark_forward.csv``, row by row: ended, the same command goes on, and
measures again only what was measured at another commit. All 30 algorithms are trained unless some are named: a chosen
few would tell of themselves. Each library has a process of its own for each
algorithm; both compute the same batches, on all cores, in turn: one step here, one there. Training counts everything
that ``nar fit`` does in a step, with a data worker beside it; dm-clrs is given its batches ready, padded so that it
compiles once. Peak memory is that of the process so far.

``python scripts/benchmark.py train --device cuda`` measures this library alone on a GPU: see ``benchmark_device.py``.
"""

import argparse
import csv
import json
import math
import os
import resource
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

FORWARD = ["bfs", "dijkstra", "insertion_sort"]
SIZES = {"train": 16, "forward": 64}
BATCH_SIZE = 32
LIBRARIES = ("dm-clrs", "nar")


def nar_train(algorithm: str, num_nodes: int) -> Iterator[None]:
    """Training steps of this library."""
    from torch.nn.utils import clip_grad_norm_

    from nar.datasets import CLRS30
    from nar.ops.process import tune_process
    from nar.processors import TripletGMPNN
    from nar.training.reasoner import Reasoner

    tune_process()  # as `nar fit` does
    data = CLRS30(algorithms=algorithm, train_sizes=[num_nodes], num_workers=1, seed=1)
    reasoner = Reasoner(data.specs, TripletGMPNN())
    optimizer = reasoner.configure_optimizers()
    for batch in data.train_dataloader():
        optimizer.zero_grad()
        reasoner.training_step(batch, 0).backward()
        clip_grad_norm_(reasoner.parameters(), 1.0)
        optimizer.step()
        yield


def nar_forward(algorithm: str, num_nodes: int) -> Iterator[None]:
    """Forward passes of this library."""
    import torch

    from nar.datasets import CLRS30
    from nar.ops.process import keep_freed_memory
    from nar.processors import TripletGMPNN
    from nar.training.reasoner import Reasoner

    keep_freed_memory()
    data = CLRS30(algorithms=algorithm, test_sizes=[num_nodes])
    reasoner = Reasoner(data.specs, TripletGMPNN()).eval()
    (batch,) = batches(algorithm, num_nodes, 1)
    with torch.inference_mode():
        while True:
            reasoner(batch, with_hints=False)
            yield


def dm_clrs_train(algorithm: str, num_nodes: int) -> Iterator[None]:
    """Training steps of dm-clrs."""
    import jax

    # As many batches as are measured, all as long as the longest.
    feedbacks = their_batches(batches(algorithm, num_nodes, 8))
    model = their_model(algorithm, feedbacks[:1])
    rng = jax.random.PRNGKey(1)
    while True:
        for feedback in feedbacks:
            float(model.feedback(rng, feedback, 0))
            jax.block_until_ready(model.params)
            yield


def dm_clrs_forward(algorithm: str, num_nodes: int) -> Iterator[None]:
    """Forward passes of dm-clrs."""
    import jax

    (feedback,) = their_batches(batches(algorithm, num_nodes, 1))
    model = their_model(algorithm, [feedback])
    rng = jax.random.PRNGKey(1)
    while True:
        jax.block_until_ready(model.predict(rng, feedback.features))
        yield


def batches(algorithm: str, num_nodes: int, number: int) -> list[Any]:
    """The first batches of the training stream."""
    from nar.datasets.splits.splits import TrainStream

    stream = TrainStream([algorithm], [num_nodes], BATCH_SIZE, seed=1)
    return [stream[index] for index in range(number)]


def their_batches(ours: list[Any]) -> list[Any]:
    """The same in the form of dm-clrs, padded to one length."""
    import clrs
    import numpy as np
    import torch

    from nar.datasets import to_dm_clrs
    from nar.datasets.clrs30.recipe import recipe_spec

    spec = recipe_spec(ours[0].algorithm)
    longest = max(int(batch.feedback.features.lengths.max()) for batch in ours)

    def points(probes: Any, stage: str) -> tuple[Any, ...]:
        made = []
        for name, data in probes.items():
            data = data.astype(np.float32) if data.dtype.kind == "f" else data
            if stage == "hint":
                data = np.pad(data, [(0, longest - len(data)), *[(0, 0)] * (data.ndim - 1)])
            made.append(clrs.DataPoint(name, str(spec[name].location), str(spec[name].type), data))
        return tuple(made)

    result = []
    for batch in ours:
        (inputs, hints, lengths), outputs = to_dm_clrs(spec, batch.feedback.map(torch.Tensor.numpy))
        made = clrs.Features(points(inputs, "input"), points(hints, "hint"), np.asarray(lengths))
        result.append(clrs.Feedback(made, points(outputs, "output")))
    return result


def their_model(algorithm: str, feedbacks: list[Any]) -> Any:
    """A Triplet-GMPNN of dm-clrs as its training script makes it, for batches of some sizes."""
    import clrs

    from nar.datasets.clrs30.recipe import recipe_spec

    spec = {name: (str(p.stage), str(p.location), str(p.type)) for name, p in recipe_spec(algorithm).items()}
    model = clrs.models.BaselineModel(
        spec=[spec],
        dummy_trajectory=feedbacks[:1],
        hidden_dim=128,
        encode_hints=True,
        decode_hints=True,
        encoder_init="xavier_on_scalars",
        use_lstm=False,
        learning_rate=1e-3,
        grad_clip_max_norm=1.0,
        processor_factory=clrs.get_processor_factory("triplet_gmpnn", use_ln=True, nb_triplet_fts=8, nb_heads=1),
        dropout_prob=0.0,
        hint_teacher_forcing=0.0,
        hint_repred_mode="soft",
        nb_msg_passing_steps=1,
    )
    model.init([feedbacks[0].features], 1)
    return model


STEPS: dict[tuple[str, str], Callable[[str, int], Iterator[None]]] = {
    ("nar", "train"): nar_train,
    ("nar", "forward"): nar_forward,
    ("dm-clrs", "train"): dm_clrs_train,
    ("dm-clrs", "forward"): dm_clrs_forward,
}


def work(library: str, what: str, algorithm: str, num_nodes: int) -> None:
    """Take a step for each line that is read, and answer with its seconds and the peak memory so far, in bytes."""
    # XLA's compiler and whatever else prints does so elsewhere.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    steps = STEPS[library, what](algorithm, num_nodes)
    for _ in sys.stdin:
        start = time.perf_counter()
        next(steps)
        answer = [time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024]
        print(json.dumps(answer), file=answers, flush=True)


class Worker:
    """A process that takes steps of one library when asked."""

    def __init__(self, library: str, what: str, algorithm: str, num_nodes: int) -> None:
        # Both are to have all cores, and neither is to spin on them while the other computes.
        environment = {"JAX_PLATFORMS": "cpu", "OMP_WAIT_POLICY": "PASSIVE", "TF_CPP_MIN_LOG_LEVEL": "3", **os.environ}
        command = [sys.executable, __file__, "--work", library, what, algorithm, str(num_nodes)]
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        self.process = subprocess.Popen(command, **pipes, text=True, env=environment, start_new_session=True)

    def step(self) -> tuple[float, float]:
        """Seconds of a step, and the peak memory so far."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        seconds, peak = json.loads(self.process.stdout.readline())
        return seconds, peak

    def stop(self) -> None:
        """End the process, and its data worker."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def measure(what: str, algorithm: str, num_nodes: int, number: int) -> dict[str, Any]:
    """A row of the table: the median of so many steps after the first two, which may compile."""
    workers = {library: Worker(library, what, algorithm, num_nodes) for library in LIBRARIES}
    try:
        first = {library: worker.step()[0] for library, worker in workers.items()}
        turns = [{library: worker.step() for library, worker in workers.items()} for _ in range(1 + number)][1:]
    finally:
        for worker in workers.values():
            worker.stop()
    row: dict[str, Any] = {"what": what, "algorithm": algorithm, "num_nodes": num_nodes}
    for library in LIBRARIES:
        row[f"{library} ms"] = 1e3 * statistics.median(turn[library][0] for turn in turns)
        row[f"{library} first s"] = first[library]
        row[f"{library} MB"] = turns[-1][library][1] / 1e6
    row["time ratio"] = row["dm-clrs ms"] / row["nar ms"]
    row["memory ratio"] = row["dm-clrs MB"] / row["nar MB"]
    return row


def main() -> None:
    """Measure, print and write."""
    if "--work" in sys.argv:
        library, what, algorithm, num_nodes = sys.argv[sys.argv.index("--work") + 1 :]
        work(library, what, algorithm, int(num_nodes))
        return

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=SIZES)
    parser.add_argument("algorithms", nargs="*")
    parser.add_argument("--number", type=int, default=3, help="of steps measured")
    parser.add_argument("--device", choices=("cpu", "cuda"), help="measure this library alone on it")
    parser.add_argument("--seconds", type=float, default=2.0, help="with a --device, for each algorithm")
    parser.add_argument("--at-once", type=int, default=1, help="with a --device, how many train side by side")
    parser.add_argument("--profile", action="store_true", help="with a --device, test and profile its kernels")
    args = parser.parse_intermixed_args()
    if args.device and args.what == "forward":
        parser.error("--device measures training: expected train, given forward")
    if args.device:
        import benchmark_device

        if args.profile:
            benchmark_device.check_and_profile(args.device, args.algorithms)
            return
        benchmark_device.run(args.device, args.algorithms, 5 * args.number, args.seconds, args.at_once)
        return

    from rich.console import Console
    from rich.table import Table

    from nar.datasets import ALGORITHMS

    algorithms = args.algorithms or (ALGORITHMS if args.what == "train" else FORWARD)
    path, commit = Path(__file__).parent / f"benchmark_{args.what}.csv", head()
    known = read(path)
    for algorithm in algorithms:
        if known.get(algorithm, {}).get("commit") != commit:
            known[algorithm] = {**measure(args.what, algorithm, SIZES[args.what], args.number), "commit": commit}
            write(path, known)
            print(
                " ".join(f"{name} {x:.3g}" if isinstance(x, float) else str(x) for name, x in known[algorithm].items())
            )
    rows = [known[algorithm] for algorithm in algorithms]
    table = Table("", "algorithm", "n", "dm-clrs, ms", "nar, ms", "ratio", "dm-clrs, MB", "nar, MB", "ratio")
    for row in rows:
        numbers = [row[f"{library} {unit}"] for unit in ("ms", "MB") for library in LIBRARIES]
        numbers.insert(2, row["time ratio"])
        numbers.append(row["memory ratio"])
        table.add_row(row["what"], row["algorithm"], f"{row['num_nodes']:.0f}", *(f"{x:.3g}" for x in numbers))
    mean = math.exp(sum(math.log(row["time ratio"]) for row in rows) / len(rows))
    table.add_row(args.what, "geometric mean", "", "", "", f"{mean:.2f}", "", "", "")
    Console(width=120).print(table)


def head() -> str:
    """The commit that is measured, marked if files have been changed since."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--exclude=*"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def read(path: Path) -> dict[str, dict[str, Any]]:
    """The rows of a table by algorithm."""
    if not path.exists():
        return {}
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    texts = ("what", "algorithm", "commit")
    return {row["algorithm"]: {k: v if k in texts else float(v) for k, v in row.items()} for row in rows}


def write(path: Path, rows: Mapping[str, Mapping[str, Any]]) -> None:
    """Write a table, in place of what was there when it is whole."""
    temporary = path.with_suffix(".tmp")
    with temporary.open("w", encoding="utf-8", newline="") as file:
        names = list(dict.fromkeys(name for row in rows.values() for name in row))
        writer = csv.DictWriter(file, names, restval="")
        writer.writeheader()
        for row in rows.values():
            writer.writerow({key: f"{x:.4g}" if isinstance(x, float) else x for key, x in row.items()})
    temporary.replace(path)


if __name__ == "__main__":
    main()
