"""A command line in place of ``nar`` whose ``fit`` and ``test`` take no time; a checkpoint is its number of steps."""

import csv
import os
import signal
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

STEP = 0.002  # seconds
PAUSE = 30  # the step after which a run waits as long as there is a file called pause beside its campaign


PROGRAM = f"import runpy\nrunpy.run_path({__file__!r}, run_name='__main__')"


def install(monkeypatch: Any) -> None:
    """Have runs of campaigns call this in place of ``nar``."""
    from nar.sweep import run as sweep_run

    monkeypatch.setattr(sweep_run, "PROGRAM", PROGRAM)
    monkeypatch.setattr(sweep_run, "steps_of", steps_in_text)
    monkeypatch.setattr(sweep_run, "POLL", 0.02)


def steps_in_text(checkpoint: Path) -> int:
    """How many steps a checkpoint is of."""
    return int(checkpoint.read_text()) if checkpoint.exists() else 0


def main(command: str, *flags: str) -> None:
    """Train, or test, as the algorithm's name says."""
    given = dict(pairwise(flags))
    config = given["--config"] if command == "test" else ""
    folder = Path(given["--trainer.default_root_dir"]) if command == "fit" else Path(config).parents[2]
    with (folder.parents[2] / "calls.txt").open("a") as file:
        print(time.time(), command, folder.relative_to(folder.parents[2]), *flags, file=file)
    if command == "fit":
        fit(folder, given)
    else:
        test(folder, given)


def fit(folder: Path, given: dict[str, str]) -> None:
    """Train from where the last checkpoint is; what the seed makes of every step is added up in ``weights.txt``."""
    algorithm, max_steps = given["--data.algorithms"], int(given["--trainer.max_steps"])
    last, weights = folder / "last.ckpt", folder / "weights.txt"
    if algorithm == "fails":
        print("a warning\nnar: error: it fails\nmore", file=sys.stderr)
        raise SystemExit(2)
    if algorithm == "is_killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if last.exists() != (given.get("--ckpt_path") == "last"):
        raise SystemExit("nar: error: it goes on from nothing, or starts again")
    config = folder / "logs" / "version_0" / "config.yaml"
    config.parent.mkdir(parents=True, exist_ok=True)
    config.touch()
    step, weight = (int(last.read_text()), int(weights.read_text())) if last.exists() else (0, 0)
    told: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: told.append(number))
    meet(folder.parents[2], given)
    while step < max_steps and not told:
        time.sleep(STEP)
        step += 1
        weight = (31 * weight + step + int(given["--seed_everything"])) % 1009
        if step % 10 == 0 or step == max_steps:
            save(folder, step, weight)
        while step == PAUSE and (folder.parents[3] / "pause").exists() and not told:
            time.sleep(0.01)
    if told:
        save(folder, step, weight)
        raise SystemExit(143)


def save(folder: Path, step: int, weight: int) -> None:
    """Save the weight, and the checkpoints after it: the best is the one from the last validation."""
    (folder / "weights.txt").write_text(str(weight))
    for name in ("best.ckpt", "last.ckpt"):
        (folder / "new").write_text(str(step))
        (folder / "new").replace(folder / name)


def meet(root: Path, given: dict[str, str]) -> None:
    """Wait until as many train as ``--meet`` says."""
    number = int(given.get("--meet", "0"))
    if number:
        (root / f"here_{os.getpid()}").touch()
        for _ in range(3000):
            if len(list(root.glob("here_*"))) >= number:
                return
            time.sleep(0.01)
        raise SystemExit("nar: error: it is alone")


def test(folder: Path, given: dict[str, str]) -> None:
    """Score the weight: at every size a hundredth less."""
    if folder.parent.name == "fails_in_test":
        raise SystemExit("nar: error: out of memory")
    if folder.parent.name == "takes_long_to_test":
        (folder / "is_testing").touch()
        time.sleep(600)
    sizes = [int(size) for size in given["--data.test_sizes"].strip("[]").split(",")]
    weight = int((folder / "weights.txt").read_text()) / 1009
    is_string_matcher = folder.parent.name == "kmp_matcher"
    tables = len(list(folder.glob("ood*.csv")))
    with (folder / f"ood_{tables + 1}.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["algorithm", "num_nodes", "probe", "kind", "score"])
        for size in sizes:
            num_nodes = size * 5 // 4 if is_string_matcher else size
            writer.writerow([folder.parent.name, num_nodes, "score", "mean", weight - size / 10_000])
            writer.writerow([folder.parent.name, num_nodes, "pi", "output", 0])


if __name__ == "__main__":
    main(*sys.argv[1:])
