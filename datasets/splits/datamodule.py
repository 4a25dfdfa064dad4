"""CLRS-30 for Lightning."""

from collections.abc import Iterable, Sequence

from lightning.pytorch.trainer.states import TrainerFn
from torch.utils.data import DataLoader

from nar.batch import Batch
from nar.datasets.clrs30.recipe import train_sizes
from nar.datasets.splits.cache import CacheError
from nar.datasets.splits.clrs30 import CLRS30Splits
from nar.datasets.splits.compilation import compile_ahead
from nar.datasets.splits.generation import generate_splits, is_compiled
from nar.datasets.splits.splits import Split, SplitBatches, TrainLoader, TrainStream
from nar.datasets.splits.streaming import StreamingData


class CLRS30(CLRS30Splits, StreamingData):
    """Training, validation and test data of CLRS-30 algorithms, drawn by the recipe of Ibarz et al. (2022).

    See :class:`nar.datasets.splits.clrs30.CLRS30Splits`, which has the same arguments.
    """

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
            random_pos=self.random_pos,
            communities=self.train_communities,
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
