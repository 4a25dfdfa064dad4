"""One run of a campaign: ``nar fit`` and ``nar test`` in processes of their own, which go on from where they were."""

import csv
import json
import math
import os
import signal
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from time import time as now
from typing import Any

import torch

from nar.errors import UserError
from nar.files import newest, replacing_text

PROGRAM = "from nar.cli import main\nmain()"
"""What is run with the arguments of a command."""
# Comes before: a run has its lock as long as it lasts, and is told to end when its standard input does, which is when
# who started it has ended: a campaign that is killed leaves nobody behind who trains in its folders.
_START = """
import os, signal, sys
from threading import Thread
from filelock import FileLock, Timeout

def end_after_input():
    os.read(0, 1)
    signal.raise_signal(signal.SIGTERM)

_, patience, lock, *sys.argv = sys.argv
lock = FileLock(lock)
try:
    lock.acquire(timeout=float(patience))
except Timeout:
    raise SystemExit(f"nar: error: another process is at work in {os.path.dirname(lock.lock_file)}")
Thread(target=end_after_input, daemon=True).start()
"""
POLL = 0.5  # seconds between two looks at a process
GRACE = 120.0  # seconds in which a process that is told to end may save
STARTUP = 40.0  # seconds that a test takes besides its forward passes: more, if training took long to begin


REASONER = "reasoner alone"
"""What the answers of a hybrid's reasoner are called in the table of a test."""


@dataclass
class Reached:
    """The progress of a run, as ``run.json`` in its folder has it: how far it is trained, and its scores.

    Attributes:
        steps: Of training.
        seconds: Of training, over all processes that had a part in it.
        is_finished: Whether training has come to its end.
        scores: By the size of tests; of a language model, the mean CLRS score over algorithms.
        tested: The training step of the checkpoint that has these scores.
        validation: The score in validation of that checkpoint, by which it was chosen, by the size.
        started: When a process began to train that is training still, or was killed.
        answers: Of a language model, the rows of ``answers.csv``: of every algorithm and size the scores of its answers
            and of those of the reasoner alone.
    """

    steps: int = 0
    seconds: float = 0.0
    is_finished: bool = False
    scores: dict[int, float] = field(default_factory=dict)
    tested: int = 0
    validation: dict[int, float] = field(default_factory=dict)
    started: float | None = None
    answers: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def read(cls, folder: Path) -> "Reached":
        """The progress of the run in a folder; that of a run which has not begun if there is none."""
        path = folder / "run.json"
        if not path.exists():
            return cls()
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            by_size = {
                name: {int(size): score for size, score in content.get(name, {}).items()}
                for name in ("scores", "validation")
            }
            reached = cls(**{**content, **by_size})
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise UserError(f"{path} is damaged: remove it, and what is in its folder is tested again") from error
        reached.validation = reached.validation or validation_of(folder / "best.ckpt")  # of what was not tested
        return reached

    def write(self, folder: Path) -> None:
        """Write the progress into the folder of the run."""
        replace(folder / "run.json", json.dumps(asdict(self), indent=1))


def train_and_test(
    folder: Path,
    flags: Sequence[str],
    sizes: Sequence[int],
    *,
    deadline: float = math.inf,
    test_steps: float = 0.0,
    stop: Path | None = None,
    num_threads: int = 1,
    cwd: Path | None = None,
) -> Reached:
    """What a run has reached after it went on from where it was, and the best checkpoint was tested.

    Args:
        folder: Of the run.
        flags: Of ``nar fit``.
        sizes: Of tests.
        deadline: When it has to have ended, in seconds since 1970: it is stopped before, so that it can be tested.
        test_steps: How many training steps take about as long as the tests.
        stop: A file: once it is there, training is stopped, and nothing is tested.
        num_threads: Of the processes, unless the environment has ``OMP_NUM_THREADS``.
        cwd: Where the commands run; here, if not given.

    Raises:
        UserError: If training or a test fails, or another process is at work in the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    commands = Commands(folder, {"OMP_NUM_THREADS": str(num_threads), **os.environ}, stop, cwd)
    reached = Reached.read(folder)
    if not reached.is_finished:
        _train(commands, reached, flags, deadline, test_steps)
    if not commands.is_stopped():
        _test(commands, reached, sizes, deadline)
    return reached


@dataclass(frozen=True)
class Commands:
    """Runs commands of ``nar`` for one run.

    Attributes:
        folder: Of the run, where ``printed.txt`` has what they print.
        environment: Of their processes.
        stop: A file: once it is there, they are told to end.
        cwd: Where they run.
    """

    folder: Path
    environment: Mapping[str, str]
    stop: Path | None
    cwd: Path | None

    def is_stopped(self) -> bool:
        """Whether all commands are to end, because the file `stop` is there."""
        return self.stop is not None and self.stop.exists()

    def run(self, command: str, flags: Sequence[str], is_late: Callable[[], bool], grace: float = 0.0) -> bool:
        """Run a command in a process of its own; whether it came to its end by itself.

        It is told to end before when it is late, or when all are to end.

        Args:
            command: Of ``nar``.
            flags: Of the command.
            is_late: Asked again and again.
            grace: Seconds in which it may save what it has, once it is told to end.

        Raises:
            UserError: If it failed.
        """
        nar = Path(sys.executable).with_name("nar")  # by which more processes would be started
        own = (str(GRACE), str(self.folder / "run.lock"), str(nar), command)
        with (self.folder / "printed.txt").open("a+", encoding="utf-8", errors="replace") as printed:
            begin = printed.seek(0, os.SEEK_END)
            process = subprocess.Popen(
                [sys.executable, "-P", "-c", _START + PROGRAM, *own, *flags],
                stdin=subprocess.PIPE,
                stdout=printed,
                stderr=printed,
                cwd=self.cwd,
                env=self.environment,
                start_new_session=True,  # Ctrl-C is for the campaign alone, which tells its runs
                creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),  # the same on Windows
            )
            try:
                is_told = self._wait(process, is_late)
            finally:
                _end(process, grace)
            printed.seek(begin)
            if process.returncode and not is_told:
                raise UserError(f"nar {command} {reason(process.returncode, printed.read())}")
        return not is_told

    def _wait(self, process: "subprocess.Popen[bytes]", is_late: Callable[[], bool]) -> bool:
        """Wait until a process ends, which is False, or until it has to be told to end, which is True."""
        while True:
            with suppress(subprocess.TimeoutExpired):
                process.wait(POLL)
                return False
            if self.is_stopped() or is_late():
                return True


def _train(commands: Commands, reached: Reached, flags: Sequence[str], deadline: float, test_steps: float) -> None:
    """Train until the end, or until there is time left for the tests alone."""
    folder, last = commands.folder, commands.folder / "last.ckpt"
    if reached.started is not None:  # of a process that was killed it is known until when it saved
        reached.seconds += max(0.0, last.stat().st_mtime - reached.started) if last.exists() else 0.0
    before, begin = reached.seconds, now()

    def is_late() -> bool:
        rate = reached.seconds / reached.steps if reached.steps else 0.0
        return now() > deadline - max(STARTUP, 2 * (_begun_at(folder) - begin)) - test_steps * rate

    def look() -> bool:
        reached.steps, reached.seconds = steps_of(last) or reached.steps, before + now() - begin
        return is_late()

    if is_late() or commands.is_stopped():
        return
    reached.started = begin
    reached.write(folder)
    own = ["--trainer.enable_progress_bar", "false", "--trainer.default_root_dir", str(folder)]
    try:
        own += ["--ckpt_path", "last"] if last.exists() else []
        reached.is_finished = commands.run("fit", [*flags, *own], look, GRACE)
    finally:
        look()
        reached.started = None
        reached.write(folder)


def _test(commands: Commands, reached: Reached, sizes: Sequence[int], deadline: float) -> None:
    """Test the best checkpoint at the sizes at which it has not been, unless that takes too long."""
    best = commands.folder / "best.ckpt"
    if steps_of(best) != reached.tested:
        reached.scores, reached.answers, reached.tested = {}, [], steps_of(best)
        reached.validation = validation_of(best)
        reached.write(commands.folder)
    missing = sorted({*sizes} - {*reached.scores})
    if not best.exists() or not missing or now() > deadline:
        return
    flags = [
        "--config",
        str(configs(commands.folder)[-1]),
        "--ckpt_path",
        str(best),
        "--data.test_sizes",
        json.dumps(missing),
    ]
    flags += ["--trainer.enable_progress_bar", "false", "--trainer.logger", "false"]
    if commands.run("test", flags, lambda: now() > deadline):
        if any(commands.folder.glob("answers*.csv")):
            _add_answers(reached, newest(commands.folder, "answers*.csv"))
        else:
            means = [row for row in _rows(newest(commands.folder, "ood*.csv")) if row["kind"] == "mean"]
            found = {int(row["num_nodes"]): float(row["score"]) for row in means}
            # In the order of sizes: string matchers are tested on 5/4 as many nodes as the size says.
            reached.scores |= dict(zip(missing, (found[size] for size in sorted(found)), strict=True))
        reached.write(commands.folder)


def _add_answers(reached: Reached, table: Path) -> None:
    """Add the scores of answers that a test has written."""
    numbers = {"num_nodes": int, "texts": int, "parse": float, "shape": float, "clrs": float, "exact": float}
    rows = [{name: numbers.get(name, str)(value) for name, value in row.items()} for row in _rows(table)]
    reached.answers += rows
    own = [row for row in rows if row["model"] != REASONER]
    for size in {row["num_nodes"] for row in own}:
        reached.scores[size] = statistics.mean(row["clrs"] for row in own if row["num_nodes"] == size)


def _rows(table: Path) -> list[dict[str, str]]:
    with table.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _end(process: "subprocess.Popen[bytes]", grace: float) -> None:
    """Have a process end, after so many seconds at most."""
    with process:
        if sys.platform != "win32":
            process.terminate()
        elif process.stdin is not None:
            process.stdin.close()  # which tells it to end (see `_START`): Windows has no signal that asks for it
        with suppress(subprocess.TimeoutExpired):
            process.wait(grace)
        process.kill()


def reason(status: int, printed: str) -> str:
    """Why a command failed, in one line, by its status and what it printed."""
    if status < 0:
        name = signal.Signals(-status).name
        return f"was ended by {name}" + (": out of memory?" if name == "SIGKILL" else "")
    lines = [line.strip() for line in printed.splitlines() if line.strip()]
    errors = [line.partition("nar: error: ")[2] for line in lines if line.startswith("nar: error: ")]
    return f"failed: {(errors or lines or [f'status {status}'])[-1]}"


def configs(folder: Path) -> list[Path]:
    """The configurations that processes wrote when they began to train, the last one last."""
    return sorted(folder.glob("logs/version_*/config.yaml"), key=lambda path: path.stat().st_mtime)


def _begun_at(folder: Path) -> float:
    """When a process last began to train, after all that comes before; 0 if none has."""
    return max((path.stat().st_mtime for path in configs(folder)), default=0.0)


def steps_of(checkpoint: Path) -> int:
    """How many training steps a checkpoint is of; 0 if there is none that can be read."""
    return _read(checkpoint)[0]


def validation_of(checkpoint: Path) -> dict[int, float]:
    """The best score in validation until a checkpoint, by the size of validation; none if it does not say."""
    return _read(checkpoint)[1]


def _read(checkpoint: Path) -> tuple[int, dict[int, float]]:
    """What :func:`steps_of` and :func:`validation_of` return."""
    try:
        return _read_at(checkpoint, checkpoint.stat().st_mtime_ns)
    except Exception:  # what a file that is damaged, or not yet whole, makes the unpickler raise has no end
        return 0, {}


@lru_cache(maxsize=256)
def _read_at(checkpoint: Path, time_of_change: int) -> tuple[int, dict[int, float]]:
    content = torch.load(checkpoint, map_location="cpu", weights_only=True)
    data = content.get("nar_config", {}).get("data", {})
    size = data.get("val_size") or max(data.get("train_sizes", [0]))
    states = [state for state in content.get("callbacks", {}).values() if state.get("monitor") == "val/score"]
    return int(content["global_step"]), {size: float(states[0]["best_model_score"])} if states else {}


def replace(path: Path, text: str) -> None:
    """Have a text in a file, which is never there by half."""
    with replacing_text(path) as file:
        file.write(text)
