"""CLRS-30 for Lightning."""

import pickle
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any, get_args

from lightning.pytorch.trainer.states import TrainerFn
from torch.utils.data import DataLoader

from nar.batch import Batch
from nar.datasets.algorithm import Algorithm, check_algorithm
from nar.datasets.arguments import MOST_IN_A_BATCH, check_named, check_sizes, is_whole, shown
from nar.datasets.cache import Cache, CacheError
from nar.datasets.clrs30 import ALGORITHMS
from nar.datasets.compilation import compile_ahead, progress_bar
from nar.datasets.recipe import num_nodes_at, recipe_spec, train_sizes
from nar.datasets.samplers import algorithm_of, check_size, sample
from nar.datasets.splits import Source, Split, SplitBatches, TrainLoader, TrainStream, end_with_parent
from nar.datasets.streaming import StreamingData
from nar.errors import UserError
from nar.specs import Spec

MOST = {"chunk_length": 2**15, "batch_size": MOST_IN_A_BATCH, "eval_batch_size": MOST_IN_A_BATCH, "num_workers": 1024}
"""Of longer windows and of larger batches the first takes long to be drawn, and workers take all the memory."""
SECONDS_BETWEEN_LINES = 10
"""In a log, where no bar can be shown."""


class CLRS30(StreamingData):
    """Training, validation and test data of CLRS-30 algorithms, drawn by the recipe of Ibarz et al. (2022).

    Training never repeats a trajectory. Validation is at the largest training size, or at `val_size`; tests are at
    every one of `test_sizes`, 64 being the official one. At every size string matchers have 5/4 as many nodes, as in
    the published data: their haystack is as long as the size, and their needle a quarter of it. So their official test
    split, that of ``n = 64``, has 80 nodes, by which it is named wherever scores are.

    Args:
        algorithms: Names of algorithms, or ``all`` of the 30, or the import path of a subclass of
            :class:`nar.datasets.Algorithm`. One model learns all that are given.
        train_sizes: Numbers of nodes, taken in turn (string matchers train at 5/4 of the largest alone).
        test_sizes: Numbers of nodes (string matchers are tested at 5/4 of each).
        batch_size: Trajectories in a training batch, on each device; with a `chunk_length`, windows of that length.
        eval_batch_size: Trajectories in a validation or test batch; scores do not depend on it, memory does.
        num_workers: Processes that draw trajectories ahead of training; 0 to draw them in between.
        cache_dir: Folder for validation and test splits, which are drawn once.
        seed: Of the training data; that of ``seed_everything`` if not given.
        chunk_length: Time slices of a window. Training is then on windows of trajectories that follow one another, 16
            slices long in the multi-task recipe; on whole trajectories if not given. Validation and test always are.
        source: What draws the trajectories of CLRS-30, which are the same: this library, or (slower) dm-clrs.
        test_graphs: A family of graphs to test on, such as ``watts_strogatz``, in place of dm-clrs's.
        test_graph_args: The family's parameters.
        val_size: Number of nodes in validation (of string matchers 5/4 of it), if not that of the largest in training:
            the larger they are, the more of the errors that tests will find are seen when the best weights are chosen.
    """

    def __init__(
        self,
        algorithms: list[Algorithm | str] | Algorithm | str = "bfs",
        train_sizes: list[int] = [4, 7, 11, 13, 16],  # noqa: B006 (never changed; a list shows its default in --help)
        test_sizes: list[int] = [64],  # noqa: B006
        batch_size: int = 32,
        eval_batch_size: int = 32,
        num_workers: int = 1,
        cache_dir: str = "~/.cache/nar",
        seed: int | None = None,
        chunk_length: int | None = None,
        source: Source = "nar",
        test_graphs: str | None = None,
        test_graph_args: dict[str, int | float] | None = None,
        val_size: int | None = None,
    ) -> None:
        super().__init__()
        given = list(algorithms) if isinstance(algorithms, list | tuple) else [algorithms]
        is_all = len(given) == 1 and isinstance(given[0], str) and given[0] == "all"
        self.algorithms: list[str | Algorithm] = list(ALGORITHMS) if is_all else given
        self.sizes = check_sizes("train_sizes", train_sizes)
        self.test_sizes = check_sizes("test_sizes", test_sizes)
        self.val_size = val_size
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.num_workers = num_workers
        self.cache = Cache(cache_dir)
        self.seed = 0 if seed is None else seed
        self.chunk_length = chunk_length
        self.source = source
        self.test_graphs = test_graphs
        self.test_graph_args = {} if test_graph_args is None else test_graph_args
        self._check()

    def _check(self) -> None:
        for algorithm in self.algorithms:
            check_algorithm(algorithm_of(algorithm))
        names = [algorithm_of(algorithm).name for algorithm in self.algorithms]
        if not isinstance(self.source, str) or self.source not in get_args(Source):
            raise UserError(f"expected source to be one of {', '.join(get_args(Source))}, given {shown(self.source)}")
        check_named("test_graph_args", self.test_graph_args)
        if not names or len(set(names)) < len(names):
            raise UserError(f"expected one or more different algorithms, given {names}")
        if self.test_graph_args and self.test_graphs is None:
            raise UserError(f"expected test_graphs, the family of test_graph_args, given {self.test_graph_args} alone")
        for algorithm in self.algorithms:
            test_sizes = [num_nodes_at(algorithm, size) for size in self.test_sizes]
            for size in (*train_sizes(algorithm, self.sizes), self._val_size_of(algorithm), *test_sizes):
                check_size(algorithm, size)
            if self.test_graphs is not None:
                for size in test_sizes:  # one, so that what is wrong with the family is said before anything runs
                    args: dict[str, Any] = {"graphs": self.test_graphs, **self.test_graph_args}
                    sample(algorithm, num_nodes=size, num_samples=1, seed=0, hints="none", **args)
        for name, value, least in (
            ("batch_size", self.batch_size, 1),
            ("eval_batch_size", self.eval_batch_size, 1),
            ("num_workers", self.num_workers, 0),
            ("seed", self.seed, 0),
            ("chunk_length", 2 if self.chunk_length is None else self.chunk_length, 2),
        ):
            if not is_whole(value) or value < least:
                raise UserError(f"expected {name} ≥ {least}, given {shown(value)}")
            if value > MOST.get(name, value):
                raise UserError(f"expected {name} ≤ {MOST[name]}, given {shown(value)}")

    @property
    def specs(self) -> dict[str, Spec]:
        """The probes of each algorithm as the model sees them."""
        return {algorithm_of(algorithm).name: recipe_spec(algorithm) for algorithm in self.algorithms}

    @property
    def val_splits(self) -> list[Split]:
        """One for each algorithm."""
        return [
            Split(algorithm, self._val_size_of(algorithm), is_test=False, source=self.source)
            for algorithm in self.algorithms
        ]

    def _val_size_of(self, algorithm: str | Algorithm) -> int:
        """The size of `algorithm` in validation."""
        return max(train_sizes(algorithm, self.sizes if self.val_size is None else [self.val_size]))

    @property
    def test_splits(self) -> list[Split]:
        """One for each algorithm and test size."""
        return [
            Split(algorithm, num_nodes_at(algorithm, size), True, self.source, self.test_graphs, self.test_graph_args)
            for algorithm in self.algorithms
            for size in self.test_sizes
        ]

    def prepare_data(self) -> None:
        """Compile what draws training data, and generate the splits that are not in the cache if it can be used."""
        trains = self.trainer is None or self.trainer.state.fn is TrainerFn.FITTING
        if trains:
            self._compile()
        validates = trains or (self.trainer is not None and self.trainer.state.fn is TrainerFn.VALIDATING)
        splits = self.val_splits if validates else self.test_splits
        try:
            generate_splits(splits, self.cache, num_processes=self.num_workers)
        except CacheError as error:
            self.cache.go_on_without(error)

    def _compile(self) -> None:
        """Compile what draws training data in this process, for all that will be forked from it."""
        compile_ahead(
            (algorithm, min(train_sizes(algorithm, self.sizes)))
            for algorithm in self.algorithms
            if is_compiled(algorithm, self.source)
        )

    def train_dataloader(self) -> Iterable[Batch]:
        """Batches from where the run is, without end."""
        self._compile()
        rank, _ = self.ranks()
        stream = TrainStream(
            self.algorithms,
            self.sizes,
            self.batch_size,
            seed=self.seed,
            rank=rank,
            start=self.num_batches_seen,
            chunk_length=self.chunk_length,
            source=self.source,
        )
        return TrainLoader(stream, self.num_workers)

    def val_dataloader(self) -> Iterable[Batch]:
        """The validation splits."""
        return self._eval_dataloader(self.val_splits)

    def test_dataloader(self) -> Iterable[Batch]:
        """The test splits."""
        return self._eval_dataloader(self.test_splits)

    def predict_dataloader(self) -> Iterable[Batch]:
        """The test splits."""
        return self._eval_dataloader(self.test_splits)

    def _eval_dataloader(self, splits: Sequence[Split]) -> Iterable[Batch]:
        """The batches that fall to this process: every trajectory is seen by exactly one."""
        rank, num_ranks = self.ranks()
        loaded = [(split, split.load(self.cache)) for split in splits]
        batches = SplitBatches(loaded, self.eval_batch_size, rank=rank, num_ranks=num_ranks)
        return DataLoader(batches, batch_size=None)


def generate_splits(splits: Sequence[Split], cache: Cache, *, num_processes: int) -> None:
    """Generate the splits that are not in the cache yet, showing a progress bar.

    Args:
        splits: What to have in the cache.
        cache: Where to.
        num_processes: How many processes draw trajectories; 0 for this one.

    Raises:
        CacheError: If the folder cannot be written or the disk is full.
    """
    missing = [split for split in splits if split.can_be_cached and not split.is_in(cache)]
    if not missing:
        return
    compile_ahead((split.algorithm, split.num_nodes) for split in missing if is_compiled(split.algorithm, split.source))
    with progress_bar() as progress:
        task = progress.add_task("generating splits", total=len(missing))

        last = time.monotonic()

        def show(split: Split) -> None:
            nonlocal last
            kind = "test" if split.is_test else "validation"
            text = f"generated {kind} split of {split.name}, n = {split.num_nodes}"
            progress.update(task, description=text)
            progress.advance(task)
            if progress.disable and (progress.finished or time.monotonic() - last > SECONDS_BETWEEN_LINES):
                last = time.monotonic()
                print(f"{text}: {progress.tasks[task].completed:g} of {len(missing)}", flush=True)

        if num_processes == 0:
            for split in missing:
                split.store(cache)
                show(split)
            return
        for split in missing:
            check_sendable(split)
        with ProcessPoolExecutor(min(num_processes, len(missing)), initializer=end_with_parent) as pool:
            futures = {pool.submit(_store, split, cache.folder): split for split in missing}
            try:
                for future in as_completed(futures):
                    future.result()
                    show(futures[future])
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise


def is_compiled(algorithm: str | Algorithm, source: Source) -> bool:
    """Whether it is this library that draws trajectories of `algorithm`."""
    return source == "nar" or isinstance(algorithm, Algorithm)


def check_sendable(split: Split) -> None:
    """Raise a :class:`UserError` if another process could not draw it."""
    try:
        pickle.dumps(split)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise UserError(
            f"{split.name} cannot be sent to other processes ({error}): define it at the top of a module, without "
            "attributes that cannot be pickled, or set num_workers to 0"
        ) from error


def _store(split: Split, folder: Path) -> None:
    split.store(Cache(folder))
