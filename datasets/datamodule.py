"""CLRS-30 for Lightning."""

from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningDataModule
from lightning.pytorch.trainer.states import TrainerFn
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from torch.utils.data import DataLoader

from nar.batch import Batch
from nar.datasets.cache import Cache
from nar.datasets.clrs30 import ALGORITHMS
from nar.datasets.recipe import recipe_spec, train_sizes
from nar.datasets.samplers import check_algorithms, check_size
from nar.datasets.splits import Split, SplitBatches, TrainStream
from nar.errors import UserError
from nar.specs import Spec

PREFETCHED_BATCHES = 8  # by each worker


class CLRS30(LightningDataModule):
    """Training, validation and test data of CLRS-30 algorithms, drawn by the recipe of Ibarz et al. (2022).

    Training never repeats a trajectory. Validation is at the largest training size; tests are at every
    one of `test_sizes`, 64 being the official one.

    Args:
        algorithms: Names of algorithms, or ``all`` of the 30. One model learns all that are given.
        train_sizes: Numbers of nodes, taken in turn (string matchers train at 5/4 of the largest alone).
        test_sizes: Numbers of nodes.
        batch_size: Trajectories in a training batch, on each device; with a `chunk_length`, windows of that length.
        eval_batch_size: Trajectories in a validation or test batch; scores do not depend on it, memory does.
        num_workers: Processes that draw trajectories ahead of training; 0 to draw them in between.
        cache_dir: Folder for validation and test splits, which are drawn once.
        seed: Of the training data; that of ``seed_everything`` if not given.
        chunk_length: Time slices of a window. Training is then on windows of trajectories that follow one another, 16
            slices long in the multi-task recipe; on whole trajectories if not given. Validation and test always are.
    """

    def __init__(
        self,
        algorithms: list[str] | str = "bfs",
        train_sizes: list[int] = [4, 7, 11, 13, 16],  # noqa: B006 (never changed; a list shows its default in --help)
        test_sizes: list[int] = [64],  # noqa: B006
        batch_size: int = 32,
        eval_batch_size: int = 32,
        num_workers: int = 1,
        cache_dir: str = "~/.cache/nar",
        seed: int | None = None,
        chunk_length: int | None = None,
    ) -> None:
        super().__init__()
        names = [algorithms] if isinstance(algorithms, str) else list(algorithms)
        self.algorithms = list(ALGORITHMS) if names == ["all"] else names
        self.sizes = list(train_sizes)
        self.test_sizes = list(test_sizes)
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.num_workers = num_workers
        self.cache = Cache(Path(cache_dir))
        self.seed = 0 if seed is None else seed
        self.chunk_length = chunk_length
        self.num_batches_seen = 0
        self._check()

    def _check(self) -> None:
        if not self.algorithms or len(set(self.algorithms)) < len(self.algorithms):
            raise UserError(f"expected one or more different algorithms, given {self.algorithms}")
        check_algorithms(self.algorithms)
        for name, sizes in (("train_sizes", self.sizes), ("test_sizes", self.test_sizes)):
            if not sizes:
                raise UserError(f"expected at least one size in {name}, given none")
        for algorithm in self.algorithms:
            for size in (*train_sizes(algorithm, self.sizes), *self.test_sizes):
                check_size(algorithm, size)
        for name, value, least in (
            ("batch_size", self.batch_size, 1),
            ("eval_batch_size", self.eval_batch_size, 1),
            ("num_workers", self.num_workers, 0),
            ("seed", self.seed, 0),
            ("chunk_length", 2 if self.chunk_length is None else self.chunk_length, 2),
        ):
            if value < least:
                raise UserError(f"expected {name} ≥ {least}, given {value}")

    @property
    def specs(self) -> dict[str, Spec]:
        """The probes of each algorithm as the model sees them."""
        return {algorithm: recipe_spec(algorithm) for algorithm in self.algorithms}

    @property
    def val_splits(self) -> list[Split]:
        """One for each algorithm, at its largest training size."""
        return [Split(name, max(train_sizes(name, self.sizes)), is_test=False) for name in self.algorithms]

    @property
    def test_splits(self) -> list[Split]:
        """One for each algorithm and test size."""
        return [Split(name, size, is_test=True) for name in self.algorithms for size in self.test_sizes]

    def prepare_data(self) -> None:
        """Generate the splits that are not in the cache."""
        validates = self.trainer is None or self.trainer.state.fn in (TrainerFn.FITTING, TrainerFn.VALIDATING)
        splits = self.val_splits if validates else self.test_splits
        generate_splits(splits, self.cache, num_processes=self.num_workers)

    def train_dataloader(self) -> Iterable[Batch]:
        """Batches from where the run is, without end."""
        rank = self.trainer.global_rank if self.trainer else 0
        stream = TrainStream(
            self.algorithms,
            self.sizes,
            self.batch_size,
            seed=self.seed,
            rank=rank,
            start=self.num_batches_seen,
            chunk_length=self.chunk_length,
        )
        prefetch = PREFETCHED_BATCHES if self.num_workers else None
        return DataLoader(stream, batch_size=None, num_workers=self.num_workers, prefetch_factor=prefetch)

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
        rank, num_ranks = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        loaded = [(split, split.load(self.cache)) for split in splits]
        batches = SplitBatches(loaded, self.eval_batch_size, rank=rank, num_ranks=num_ranks)
        return DataLoader(batches, batch_size=None)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Count training batches as they are used, so that a resumed run goes on with the next one."""
        if self.trainer and self.trainer.training:
            self.num_batches_seen += 1
        return batch

    def state_dict(self) -> dict[str, Any]:
        """How far the training stream has been used."""
        return {"num_batches_seen": self.num_batches_seen}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there."""
        self.num_batches_seen = state_dict["num_batches_seen"]


def generate_splits(splits: Sequence[Split], cache: Cache, *, num_processes: int) -> None:
    """Generate the splits that are not in the cache yet, showing a progress bar.

    Args:
        splits: What to have in the cache.
        cache: Where to.
        num_processes: How many processes draw trajectories; 0 for this one.
    """
    missing = [split for split in splits if not split.is_in(cache)]
    if not missing:
        return
    text = TextColumn("{task.description}")
    with Progress(SpinnerColumn(), text, BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()) as progress:
        task = progress.add_task("generating splits", total=len(missing))

        def show(split: Split) -> None:
            kind = "test" if split.is_test else "validation"
            progress.update(task, description=f"generated {kind} split of {split.algorithm}, n = {split.num_nodes}")
            progress.advance(task)

        if num_processes == 0:
            for split in missing:
                split.load(cache)
                show(split)
            return
        with ProcessPoolExecutor(min(num_processes, len(missing))) as pool:
            futures = {pool.submit(_load, split, cache): split for split in missing}
            for future in as_completed(futures):
                future.result()
                show(futures[future])


def _load(split: Split, cache: Cache) -> None:
    split.load(cache)
