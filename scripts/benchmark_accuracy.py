"""Seconds from the command line to a score of 0.99 on BFS at n = 64, with this library and with dm-clrs.

``python scripts/benchmark_accuracy.py`` starts a process for each, one after the other, that imports, compiles, and
trains a Triplet-GMPNN (hidden 128) on the same batches by the single-task recipe, with a test every 20 steps on the
official split at n = 64. Tests count, drawing the split does not. Several seeds: ``--seeds 1 2 3``.
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import benchmark

ALGORITHM, SIZES, TEST_SIZE, GOAL, TEST_EVERY, MOST_STEPS = "bfs", [4, 7, 11, 13, 16], 64, 0.99, 20, 1000


def test_batch() -> Any:
    """The official test split at n = 64."""
    from nar.batch import Batch, to_tensors
    from nar.datasets.clrs30.recipe import recipe_spec
    from nar.datasets.splits.cache import Cache
    from nar.datasets.splits.splits import Split

    feedback = Split(ALGORITHM, TEST_SIZE, is_test=True).load(Cache(Path("~/.cache/nar")))
    return Batch(ALGORITHM, TEST_SIZE, 0, to_tensors(feedback, recipe_spec(ALGORITHM)))


def with_nar(seed: int) -> None:
    """Train with this library."""
    import torch
    from torch.nn.utils import clip_grad_norm_

    from nar.datasets import CLRS30
    from nar.model.metrics import counts, scores
    from nar.ops.process import tune_process
    from nar.processors import TripletGMPNN
    from nar.training.reasoner import Reasoner

    tune_process()  # as `nar fit` does
    torch.manual_seed(seed)
    data = CLRS30(algorithms=ALGORITHM, train_sizes=SIZES, num_workers=1, seed=seed)
    reasoner = Reasoner(data.specs, TripletGMPNN())
    optimizer = reasoner.configure_optimizers()
    test, spec = test_batch(), data.specs[ALGORITHM]
    for step, batch in enumerate(data.train_dataloader(), start=1):
        optimizer.zero_grad()
        reasoner.training_step(batch, 0).backward()
        clip_grad_norm_(reasoner.parameters(), 1.0)
        optimizer.step()
        if step % TEST_EVERY == 0:
            with torch.inference_mode():
                outputs = reasoner.eval()(test, with_hints=False).outputs
            reasoner.train()
            reached(step, scores(spec, counts(spec, outputs, test.feedback.outputs))["score"])


def with_dm_clrs(seed: int) -> None:
    """Train with dm-clrs."""
    import clrs
    import jax

    from nar.datasets.splits.splits import TrainStream

    stream = TrainStream([ALGORITHM], SIZES, benchmark.BATCH_SIZE, seed=seed)
    ours = [stream[index] for index in range(MOST_STEPS)]
    by_size = {size: benchmark.their_batches([b for b in ours if b.num_nodes == size]) for size in SIZES}
    feedbacks = [by_size[batch.num_nodes][index // len(SIZES)] for index, batch in enumerate(ours)]
    (test,) = benchmark.their_batches([test_batch()])
    model = benchmark.their_model(ALGORITHM, [by_size[size][0] for size in SIZES])
    rng = jax.random.PRNGKey(seed)
    for step, feedback in enumerate(feedbacks, start=1):
        model.feedback(rng, feedback, 0)
        if step % TEST_EVERY == 0:
            outputs, _ = model.predict(rng, test.features)
            reached(step, float(clrs.evaluate(test.outputs, outputs)["score"]))


def reached(step: int, score: float) -> None:
    """End the process if the goal is reached."""
    print(f"step {step}: {score:.4f}", file=sys.stderr, flush=True)
    if score >= GOAL:
        print(step, flush=True)
        os._exit(0)


def main() -> None:
    """Run both, in turn."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", nargs="+", type=int, default=[1])
    parser.add_argument("--one", help="train with this library alone, in this process")
    args = parser.parse_args()
    if args.one:
        (with_nar if args.one == "nar" else with_dm_clrs)(args.seeds[0])
        raise SystemExit(f"{GOAL} was not reached in {MOST_STEPS} steps")
    test_batch()
    environment = {"JAX_PLATFORMS": "cpu", "OMP_WAIT_POLICY": "PASSIVE", "TF_CPP_MIN_LOG_LEVEL": "3", **os.environ}
    for seed in args.seeds:
        for library in benchmark.LIBRARIES:
            command = [sys.executable, __file__, "--one", library, "--seeds", str(seed)]
            start = time.perf_counter()
            printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout
            print(f"seed {seed}, {library}: {time.perf_counter() - start:.1f} s, {printed.splitlines()[-1]} steps")


if __name__ == "__main__":
    main()
