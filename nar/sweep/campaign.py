"""Campaigns: a model for every variant, algorithm and seed, trained and tested side by side, longest first.

A campaign can be stopped at any time, and goes on where it was: each run has a folder of its own,
``<campaign>/<variant>/<algorithm>/seed<k>``, and is in processes of its own (see :mod:`nar.sweep.run`).
"""

import json
import math
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock, Timeout
from joblib import Parallel, cpu_count, delayed, parallel_config

from nar.errors import UserError
from nar.sweep.published import published
from nar.sweep.run import Reached, replace, train_and_test

OFFICIAL_SIZES = (16, 32, 64)
PATIENCE = 10.0  # seconds in which the scheduler of a cluster has to answer
_SHARE_OF_STEP = 0.45  # what a training step costs, on average over the sizes of training, of one at n = 16
_SHARE_OF_FORWARD = 1 / 3  # what a forward pass costs of a training step


class Variant(NamedTuple):
    """One way to train: a name, flags of ``nar fit`` and a number of steps.

    Attributes:
        name: Of its folder, and in tables.
        flags: Of ``nar fit``.
        max_steps: Of training, as those flags have it.
    """

    name: str
    flags: tuple[str, ...]
    max_steps: int


class Run(NamedTuple):
    """A model of a campaign."""

    variant: str
    algorithm: str
    seed: int

    def __str__(self) -> str:
        return f"{self.variant}/{self.algorithm}/seed{self.seed}"


class Result(NamedTuple):
    """What a run has reached, and why it went no further, if it failed."""

    run: Run
    reached: Reached
    error: str | None = None


@dataclass(frozen=True)
class Campaign:
    """The runs of every variant, algorithm and seed.

    Attributes:
        out: The folder of all.
        variants: One or more.
        algorithms: By the name that an algorithm has in folders and tables, what ``--data.algorithms`` is given.
        num_seeds: How many; they are 0, 1 and so on.
        sizes: Of tests.
    """

    out: Path
    variants: Sequence[Variant]
    algorithms: Mapping[str, str]
    num_seeds: int = 1
    sizes: Sequence[int] = OFFICIAL_SIZES

    def runs(self) -> list[Run]:
        """All runs, by variant, algorithm and seed."""
        return [
            Run(variant.name, algorithm, seed)
            for variant in self.variants
            for algorithm in self.algorithms
            for seed in range(self.num_seeds)
        ]

    def folder(self, run: Run) -> Path:
        """The folder of a run."""
        return self.out / run.variant / run.algorithm / f"seed{run.seed}"

    def results(self) -> list[Result]:
        """What every run has reached so far."""
        return [Result(run, Reached.read(self.folder(run))) for run in self.runs()]

    @property
    def stop_file(self) -> Path:
        """A file that ends the campaign: once it is there, all runs are stopped, and can go on another time."""
        return self.out / "stop"

    @contextmanager
    def _opened(self) -> Iterator[None]:
        """Make the folder, or see that it is this campaign's, and keep it from others.

        Raises:
            UserError: If it is another campaign's, or in use, or cannot be written.
        """
        settings = {variant.name: described(variant.flags) for variant in self.variants}
        path = self.out / "campaign.json"
        if self.out.exists() and not path.exists() and any(self.out.iterdir()):
            raise UserError(f"{self.out} holds something else than a campaign: expected another --out")
        self.out.mkdir(parents=True, exist_ok=True)
        with _locked(self.out):
            known: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else settings
            differing = [name for name, setting in settings.items() if known.get(name, setting) != setting]
            differing = differing or ([] if known.keys() & settings.keys() else list(settings))
            if differing:
                raise UserError(
                    f"{self.out} holds another campaign ({', '.join(known)}), with other settings of "
                    f"{', '.join(differing)}: expected the same settings, or another --out"
                )
            replace(path, json.dumps(known | settings, indent=1))
            self.stop_file.unlink(missing_ok=True)
            yield

    def train(self, *, num_jobs: int = 1, deadline: float = math.inf, cluster: str | None = None) -> Iterator[Result]:
        """Train and test what has not been, longest first; what each run reached, as it ends.

        Args:
            num_jobs: How many runs at a time.
            deadline: When all have to have ended, in seconds since 1970.
            cluster: The address of a scheduler of Dask, if its workers are to do it; they share the folder.

        Raises:
            UserError: If the folder is another campaign's, or in use, or there is no such cluster.
        """
        options: dict[str, Any] = {
            "deadline": deadline,
            "stop": self.stop_file.resolve(),
            "num_threads": 1 if cluster else max(1, cpu_count() // num_jobs),
            "cwd": Path.cwd(),
        }
        with self._opened(), _on(cluster):
            jobs = (
                delayed(_perform)(
                    run,
                    self.folder(run).resolve(),
                    self._flags(run),
                    tuple(self.sizes),
                    test_steps=steps_of_tests(run.algorithm, self.sizes),
                    **options,
                )
                for run in self._unfinished()
            )
            # A job minds a process that does the work: on this machine, threads are enough for that.
            parallel = Parallel(
                n_jobs=-1 if cluster else num_jobs, prefer="threads", return_as="generator_unordered", batch_size=1
            )
            yield from parallel(jobs)

    def _flags(self, run: Run) -> tuple[str, ...]:
        """The flags of ``nar fit`` for a run."""
        flags = {variant.name: variant.flags for variant in self.variants}[run.variant]
        return (*flags, "--data.algorithms", self.algorithms[run.algorithm], "--seed_everything", str(run.seed))

    def _unfinished(self) -> list[Run]:
        """Runs that are to be trained or tested, longest first."""
        results = self.results()
        seconds = expected_seconds(results, {variant.name: variant.max_steps for variant in self.variants})
        left = [run for run, reached, _ in results if not (reached.is_finished and {*self.sizes} <= {*reached.scores})]
        return sorted(left, key=lambda run: -seconds[run])


def described(flags: Sequence[str]) -> list[str]:
    """Flags in which each configuration has its content in place of its name."""
    texts = {name: Path(name).read_text(encoding="utf-8") for flag, name in pairwise(flags) if flag == "--config"}
    return [texts.get(flag, flag) for flag in flags]


def expected_seconds(results: Iterable[Result], max_steps: Mapping[str, int]) -> dict[Run, float]:
    """How long each run will still train: at the rate at which runs of its kind have, or by what is known of them."""
    results = list(results)
    rates: dict[tuple[str, str], float] = {}
    for run, reached, _ in results:
        if reached.steps:
            rates[run.variant, run.algorithm] = reached.seconds / reached.steps
    scale = statistics.median([rate / length(algorithm) for (_, algorithm), rate in rates.items()] or [1.0])
    return {
        run: (max_steps[run.variant] - reached.steps)
        * rates.get((run.variant, run.algorithm), scale * length(run.algorithm))
        for run, reached, _ in results
    }


def length(algorithm: str) -> float:
    """The mean length of a trajectory in training at n = 16, about, with which the time of a training step grows."""
    facts = published().get(algorithm)
    return facts.length_16 if facts else 16.0


def steps_of_tests(algorithm: str, sizes: Iterable[int]) -> float:
    """How many training steps take about as long as tests at these sizes: lengths grow with a power of n."""
    facts = published().get(algorithm)
    power = math.log(facts.length_64 / facts.length_16, 4) if facts else 1.0
    batches = facts.test_batches if facts else 1
    costs = [batches * math.pow(size / 16, 2 + power) for size in sizes]  # relative to one training step at n = 16
    return sum(costs) * _SHARE_OF_FORWARD / _SHARE_OF_STEP


def _perform(run: Run, folder: Path, flags: Sequence[str], sizes: Sequence[int], **options: Any) -> Result:
    """Train and test a run, and return what it has reached, with the error if it failed."""
    try:
        return Result(run, train_and_test(folder, flags, sizes, **options))
    except (UserError, OSError) as error:
        reached = Reached()
        with suppress(UserError, OSError):
            reached = Reached.read(folder)
        return Result(run, reached, " ".join(str(error).split()))


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep other campaigns from a folder."""
    lock = FileLock(folder / "campaign.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(f"another nar sweep is at work in {folder}") from None
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _on(cluster: str | None) -> Iterator[None]:
    """Have joblib send its jobs to a cluster, if there is to be one."""
    if cluster is None:
        yield
        return
    try:
        distributed = import_module("distributed")
    except ImportError as error:
        raise UserError(f'a cluster needs dask: pip install "nar[cluster]" ({error})') from error
    try:
        client = distributed.Client(cluster, timeout=PATIENCE)
    except (OSError, ValueError) as error:
        raise UserError(
            f"no Dask scheduler answers at {cluster}: expected an address such as tcp://10.0.0.1:8786"
        ) from error
    with client:
        if not client.scheduler_info()["workers"]:
            raise UserError(f"the Dask scheduler at {cluster} has no workers: expected one or more")
        with parallel_config(backend="dask"):
            yield
