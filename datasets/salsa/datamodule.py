"""SALSA-CLRS for Lightning: training on small sparse graphs, tests on graphs of up to 1600 nodes and more.

Source: Minder et al., "SALSA-CLRS: A Sparse and Scalable Benchmark for Algorithmic Reasoning", LoG 2023.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from torch.utils.data import DataLoader, IterableDataset

from nar.datasets.engine.arguments import (
    MAX_BATCH_SIZE,
    check_between,
    check_known,
    check_named,
    check_seed,
    check_sizes,
    check_whole,
)
from nar.datasets.salsa.algorithms import SPARSE_TASKS
from nar.datasets.salsa.published import published_tasks
from nar.datasets.salsa.tasks import SparseSplit, SparseTask, joined
from nar.datasets.splits.streaming import StreamingData
from nar.errors import UserError
from nar.sparse.batch import SparseBatch
from nar.specs import Spec

NUM_TRAIN_SAMPLES = 2**32  # more than any run uses
VALIDATION, TEST = 1, 2  # what their samples are drawn from, besides the seed of all


class SALSA(StreamingData):
    """Training, validation and test data of SALSA-CLRS tasks, drawn when they are needed.

    Training never repeats a graph. Validation is at the largest training size; tests are at every one of `test_sizes`.

    Args:
        algorithms: A task of SALSA-CLRS, or several, which take turns and which one model learns: bfs, dfs, dijkstra,
            mst_prim, fast_mis, eccentricity.
        train_sizes: Numbers of nodes, of which each sample has one at random.
        test_sizes: Numbers of nodes.
        batch_size: Graphs in a training batch, on each device.
        eval_batch_size: Graphs in a validation or test batch.
        num_val: Graphs of the validation split of each task.
        num_test: Graphs of the test split of each task and size.
        seed: Seed of the training data; that of ``seed_everything`` if not given.
        test_graphs: The family of graphs to test on; ``erdos_renyi``, as in training, if not given.
        test_graph_args: The family's parameters; those of SALSA-CLRS if not given.
        published: The folder of SALSA-CLRS's published files (see :func:`nar.datasets.salsa.published_tasks`), whose
            test splits of these graphs and sizes are then tested on, the first `num_test` graphs of each; if not given,
            graphs are drawn.
    """

    def __init__(
        self,
        algorithms: list[str] | str = "bfs",
        train_sizes: list[int] = [4, 7, 11, 13, 16],  # noqa: B006 (never changed; a list shows its default in --help)
        test_sizes: list[int] = [16, 80, 160, 800, 1600],  # noqa: B006
        batch_size: int = 8,
        eval_batch_size: int = 8,
        num_val: int = 1000,
        num_test: int = 1000,
        seed: int | None = None,
        test_graphs: str | None = None,
        test_graph_args: dict[str, int | float] | None = None,
        published: str | None = None,
    ) -> None:
        super().__init__()
        self.algorithms = list(algorithms) if isinstance(algorithms, list | tuple) else [algorithms]
        self.sizes = check_sizes("train_sizes", train_sizes)
        self.test_sizes = check_sizes("test_sizes", test_sizes)
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.num_val = num_val
        self.num_test = num_test
        self.seed = 0 if seed is None else seed
        self.test_graphs = "erdos_renyi" if test_graphs is None else test_graphs
        self.test_graph_args = {} if test_graph_args is None else test_graph_args
        self.published = published
        check_named("test_graph_args", self.test_graph_args)
        if published is not None and self.test_graph_args:
            raise UserError(f"expected no test_graph_args of published graphs, given {self.test_graph_args}")
        for algorithm in self.algorithms:
            check_known("task", algorithm, SPARSE_TASKS)
        if not self.algorithms or len(set(self.algorithms)) < len(self.algorithms):
            raise UserError(f"expected one or more different algorithms, given {self.algorithms}")
        for name, value in (("batch_size", batch_size), ("eval_batch_size", eval_batch_size), ("num_val", num_val)):
            check_whole(name, value, at_least=1)
            check_between(name, value, 1, MAX_BATCH_SIZE)
        check_seed(self.seed)
        self.train_tasks()
        self.test_tasks()

    @property
    def specs(self) -> dict[str, Spec]:
        """The probes of each algorithm."""
        return {algorithm: SPARSE_TASKS[algorithm].spec for algorithm in self.algorithms}

    def train_tasks(self) -> list[SparseTask]:
        """The training data of each algorithm."""
        return [
            SparseTask(a, num_nodes=self.sizes, num_samples=NUM_TRAIN_SAMPLES, seed=self.seed) for a in self.algorithms
        ]

    def val_tasks(self) -> list[SparseTask]:
        """The validation split of each algorithm."""
        return [
            SparseTask(a, num_nodes=max(self.sizes), num_samples=self.num_val, seed=[0, VALIDATION], hints="first")
            for a in self.algorithms
        ]

    def test_tasks(self) -> Sequence[SparseSplit]:
        """The test split of each algorithm and size."""
        if self.published is not None:
            return [task for a in self.algorithms for task in self._published_tasks(self.published, a)]
        settings: dict[str, Any] = {"graphs": self.test_graphs, "num_samples": self.num_test, **self.test_graph_args}
        return [
            SparseTask(a, num_nodes=size, seed=[0, TEST], hints="first", **settings)
            for a in self.algorithms
            for size in self.test_sizes
        ]

    def _published_tasks(self, folder: str, algorithm: str) -> list[SparseSplit]:
        """The published test split of each size."""
        found = published_tasks(folder, algorithm, hints="first", num_samples=self.num_test)
        by_size = {size: task for task in found if task.graphs == self.test_graphs for size in task.sizes}
        if missing := [size for size in self.test_sizes if size not in by_size]:
            there = ", ".join(f"{task.graphs} of {' or '.join(map(str, task.sizes))}" for task in found)
            raise UserError(
                f"expected published tests of {algorithm} on {self.test_graphs} of {missing[0]} nodes, given {there}"
            )
        return [by_size[size] for size in self.test_sizes]

    def train_dataloader(self) -> DataLoader[SparseBatch]:
        """Batches from where the run is, without end."""
        rank, num_ranks = self.ranks()
        stream = Stream(self.train_tasks(), self.batch_size, self.num_batches_seen * num_ranks + rank, num_ranks)
        return DataLoader(stream, batch_size=None)

    def val_dataloader(self) -> DataLoader[SparseBatch]:
        """The validation splits."""
        return DataLoader(Splits(self.val_tasks(), self.eval_batch_size, *self.ranks()), batch_size=None)

    def test_dataloader(self) -> DataLoader[SparseBatch]:
        """The test splits."""
        return DataLoader(Splits(self.test_tasks(), self.eval_batch_size, *self.ranks()), batch_size=None)


class Stream(IterableDataset[SparseBatch]):
    """Fresh batches of tasks that take turns: every `step`-th from the batch `start`, without end."""

    def __init__(self, tasks: Sequence[SparseTask], batch_size: int, start: int, step: int) -> None:
        self.tasks = tasks
        self.batch_size = batch_size
        self.start = start
        self.step = step

    def __iter__(self) -> Iterator[SparseBatch]:
        number = self.start
        while True:
            turn, which = divmod(number, len(self.tasks))
            first = turn * self.batch_size
            yield batch_of(self.tasks[which], range(first, first + self.batch_size))
            number += self.step


class Splits(IterableDataset[SparseBatch]):
    """The batches of splits that fall to one of several processes."""

    def __init__(self, tasks: Sequence[SparseSplit], batch_size: int, rank: int, num_ranks: int) -> None:
        self.tasks = tasks
        self.batch_size = batch_size
        self.rank = rank
        self.num_ranks = num_ranks

    def __iter__(self) -> Iterator[SparseBatch]:
        for task in self.tasks:
            mine = range(len(task))[self.rank :: self.num_ranks]
            for first in range(0, len(mine), self.batch_size):
                yield batch_of(task, mine[first : first + self.batch_size])


def batch_of(task: SparseSplit, indices: Sequence[int]) -> SparseBatch:
    """Some samples of a task, with edges in the order of their receivers."""
    return joined(task.__getitems__(indices), max(task.sizes))
