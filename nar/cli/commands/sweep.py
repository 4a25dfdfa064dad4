"""``nar sweep``: a model for every variant, algorithm and seed, and a table of what they reach."""

import argparse
import json
import math
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

import torch

from nar.errors import UserError
from nar.sweep.campaign import OFFICIAL_SIZES, Campaign, Result, Variant
from nar.sweep.report import write_report, write_tables

ABOUT = (
    "Train and test a model for every variant, algorithm and seed, and show what they reach beside what is published."
)
_MORE = """\
Any other flag is one of `nar fit`, and goes to every run. A campaign that was stopped, or killed, goes on with the same
command; a run that fails is named and does not stop the rest. The folder gets table.md, scores.csv and scores.png, and
one folder for each run. A language model is one for all algorithms, and its reasoner is tested alone on the same texts.

  nar sweep --config scripts/configs/clrs30.yaml --data.algorithms all --seeds 3 --jobs 8 --minutes 600 --out runs/all
  nar sweep --config scripts/configs/clrs30.yaml --variant scripts/configs/clrs30_averaged.yaml --out runs/averaged
  nar sweep --config scripts/configs/clrs30.yaml --variant model.processor=PGN --variant model.processor=MPNN
"""
_OWN_OF_RUNS = ("--seed_everything", "--trainer.default_root_dir", "--ckpt_path")
_OF_REPORT = 15.0  # seconds that the table and the picture take at the end, at most
MPS, PIPES = "nvidia-cuda-mps-control", "CUDA_MPS_PIPE_DIRECTORY"

Rehearse = Callable[[Sequence[str], Sequence[int] | None], dict[str, Any]]


class Parser(argparse.ArgumentParser):
    """A parser whose errors are for the user."""

    def error(self, message: str) -> NoReturn:
        """Raise what is wrong with the command line as a :class:`UserError`, in place of ending the program."""
        raise UserError(message)


def make_parser() -> Parser:
    """A parser of the flags that `nar sweep` takes for itself; the others are those of `nar fit`."""
    made = Parser(
        prog="nar sweep",
        description=ABOUT,
        epilog=_MORE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    made.add_argument("-c", "--config", action="append", default=[], help="configuration of nar fit; may be repeated")
    variant = (
        "what differs in another variant: a configuration over the others, or NAME=VALUE of flags; may be repeated"
    )
    made.add_argument("--variant", action="append", default=[], help=variant)
    algorithms = "one or several, such as [bfs,dfs], or all (default: what the configuration says)"
    made.add_argument("--data.algorithms", dest="algorithms", metavar="NAMES", help=algorithms)
    made.add_argument("--seeds", type=at_least(1), default=1, metavar="N", help="how many: 0, 1 and so on (default: 1)")
    made.add_argument(
        "--sizes",
        type=sizes,
        help="of tests, or none (default: 16,32,64; of language models, as the configuration says)",
    )
    made.add_argument("--jobs", type=at_least(1), default=1, metavar="N", help="how many runs at a time (default: 1)")
    made.add_argument(
        "--minutes", type=minutes, default=math.inf, help="after which all has ended; 0 for the table alone"
    )
    made.add_argument(
        "--cluster", help="address of a Dask scheduler on whose workers to run, such as tcp://10.0.0.1:8786"
    )
    made.add_argument(
        "--out", type=Path, default=Path("runs/sweep"), help="folder of the campaign (default: runs/sweep)"
    )
    return made


def at_least(least: int) -> Callable[[str], int]:
    """Reads whole numbers that are not less."""

    def number(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"expected a whole number ≥ {least}, given {text}")
        return int(text)

    return number


def minutes(text: str) -> float:
    """A time that is not negative."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not number >= 0:
        raise argparse.ArgumentTypeError(f"expected a number of minutes ≥ 0, given {text}")
    return number


def sizes(text: str) -> tuple[int, ...]:
    """The sizes that a text lists, each once and in ascending order; if it says none, none."""
    if text == "none":
        return ()
    parts = text.strip("[]").split(",")
    if not all(part.strip().isdecimal() and int(part) > 0 for part in parts):
        raise argparse.ArgumentTypeError(f"expected sizes such as 16,32,64, or none, given {text}")
    return tuple(sorted({int(part) for part in parts}))


def run(args: Sequence[str]) -> None:
    """Run `nar sweep`.

    Raises:
        SystemExit: With the status to end with: 0, or 1 if a run failed, or that of the signal which stopped the
            campaign.
        UserError: If something is wrong with the arguments, or with where the campaign is to be.
    """
    begin = time.time()
    given, more = make_parser().parse_known_args(args)
    import_module("nar.cli.startup").silence_noise()
    campaign = _planned(given, more, import_module("nar.cli.train").rehearse)
    num_runs = len(campaign.runs())
    print(f"{campaign.out}: {num_runs} runs", flush=True)
    failed: list[Result] = []
    on_gpu = given.jobs > 1 and given.cluster is None and torch.cuda.is_available()
    with _stopping(campaign) as signals, _shared_gpu() if on_gpu else nullcontext():
        deadline = begin + 60 * given.minutes - _OF_REPORT
        for result in campaign.train(num_jobs=given.jobs, deadline=deadline, cluster=given.cluster):
            if result.error is not None:
                failed.append(result)
                print(f"nar: {result.run} failed: {result.error}", file=sys.stderr, flush=True)
            elif result.reached.scores or not campaign.sizes:
                print(told(result), flush=True)
                write_tables(campaign)
    paths = write_report(campaign)
    print((campaign.out / "table.md").read_text(encoding="utf-8"))
    print(f"written: {', '.join(map(str, paths))}")
    left = sum(not result.reached.is_finished for result in campaign.results())
    if left:
        print(f"{left} of {num_runs} runs are not finished: the same command goes on")
    if failed:
        print(f"nar: {len(failed)} runs failed: {', '.join(str(r.run) for r in failed)}", file=sys.stderr)
    raise SystemExit(128 + signals[0] if signals else int(bool(failed)))


def _planned(given: argparse.Namespace, more: Sequence[str], rehearse: Rehearse) -> Campaign:
    """The campaign of a command line.

    Raises:
        UserError: If `nar fit` would not take what its runs are given, or a variant is none.
    """
    for flag in _OWN_OF_RUNS:
        if any(part == flag or part.startswith(f"{flag}=") for part in more):
            raise UserError(f"nar sweep gives every run its own {flag}: expected it not to be given")
    base = [part for path in given.config for part in ("--config", str(Path(path).resolve()))]
    differing: dict[str, list[str]] = {Path(given.config[-1]).stem if given.config else "default": []}
    for text in given.variant:
        name, flags = _variant_of(text)
        if name in differing:
            raise UserError(f"expected variants of different names, given two called {name}")
        differing[name] = flags
    variants: list[Variant] = []
    first: dict[str, Any] = {}
    for name, flags in differing.items():
        flags = [*base, *flags, *more]
        of_all = [] if given.algorithms is None else ["--data.algorithms", given.algorithms]
        rehearsed = rehearse([*flags, *of_all], given.sizes)
        if rehearsed["max_steps"] < 1:
            raise UserError(f"expected trainer.max_steps ≥ 1, given {rehearsed['max_steps']}")
        variants.append(Variant(name, tuple(flags), rehearsed["max_steps"]))
        first = first or rehearsed
        if rehearsed["kind"] != first["kind"]:
            raise UserError(f"expected variants of one kind of models, given {name} of another than {variants[0].name}")
    algorithms = first["algorithms"]
    by_name = {name_of(algorithm): written(algorithm) for algorithm in algorithms}
    if len(by_name) < len(algorithms):
        raise UserError(f"expected algorithms of different names, given {', '.join(map(written, algorithms))}")
    if first["kind"] == "text" and len(by_name) > 1:
        by_name = {"several": json.dumps(algorithms)}
    tested = OFFICIAL_SIZES if first["sizes"] is None else first["sizes"]
    return Campaign(given.out, variants, by_name, given.seeds, tested)


def _variant_of(text: str) -> tuple[str, list[str]]:
    """The name of a variant, and the flags that make it: ``--config`` and a file, or what it says of some flags."""
    if Path(text).suffix in (".yaml", ".yml", ".json"):
        return Path(text).stem, ["--config", str(Path(text).resolve())]
    parts = [part.removeprefix("--").partition("=") for part in shlex.split(text)]
    if not parts or not all(name and equals for name, equals, _ in parts):
        raise UserError(f"expected a variant such as clrs30_averaged.yaml or model.processor=PGN, given {text!r}")
    flags = [part for name, _, value in parts for part in (f"--{name}", value)]
    return re.sub(r"[^\w.=,+-]+", "_", text.removeprefix("--")), flags


def name_of(algorithm: str | dict[str, Any]) -> str:
    """The last part of an algorithm's name, or of its class's."""
    path = algorithm if isinstance(algorithm, str) else algorithm["class_path"]
    return path.partition("(")[0].rpartition(".")[2]


def written(algorithm: str | dict[str, Any]) -> str:
    """An algorithm as ``--data.algorithms`` takes it: its name, or its class and arguments as JSON."""
    return algorithm if isinstance(algorithm, str) else json.dumps(algorithm)


def told(result: Result) -> str:
    """One line for the user about what a run has reached: steps, seconds and scores."""
    reached = result.reached
    of_validation = [f"validation, n = {size} {score:.4f}" for size, score in reached.validation.items()]
    scores = ", ".join([*of_validation, *(f"n = {size} {score:.4f}" for size, score in sorted(reached.scores.items()))])
    state = "" if reached.is_finished else " so far"
    return f"{result.run}: {reached.steps} steps{state}, {reached.seconds:.0f} s, {scores}"


@contextmanager
def _stopping(campaign: Campaign) -> Iterator[list[int]]:
    """A list of the signals that came: SIGINT and SIGTERM stop the campaign, and its runs save what they have."""
    came: list[int] = []

    def stop(number: int, frame: Any) -> None:
        if came:
            os._exit(128 + number)  # of whoever cannot wait: the runs are told so by Linux
        came.append(number)
        campaign.stop_file.touch()
        print(f"nar: {signal.Signals(number).name}: runs are stopped and saved", file=sys.stderr, flush=True)

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _shared_gpu() -> Iterator[None]:
    """Have processes on one GPU run at the same time, by NVIDIA's MPS, where it can be started and has not been."""
    runs_already = Path(os.environ.get(PIPES, "/tmp/nvidia-mps"), "control").exists()
    if runs_already or shutil.which(MPS) is None:
        yield
        return
    with tempfile.TemporaryDirectory() as folder:
        where = {PIPES: folder, "CUDA_MPS_LOG_DIRECTORY": folder}
        if subprocess.run([MPS, "-d"], env={**os.environ, **where}, capture_output=True).returncode:
            yield
            return
        os.environ.update(where)
        try:
            yield
        finally:
            subprocess.run([MPS], input=b"quit\n", capture_output=True)
            for name in where:
                del os.environ[name]
