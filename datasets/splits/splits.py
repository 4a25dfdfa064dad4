"""The splits of CLRS-30: an endless one for training, fixed ones for validation and test.

Source: Ibarz et al., "A Generalist Neural Algorithmic Learner", LoG 2022; ``CLRS30`` in ``clrs/_src/samplers.py`` and
``clrs/examples/run.py`` of dm-clrs 2.0.3.
"""

import atexit
import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from itertools import count
from multiprocessing import active_children, parent_process
from threading import Thread
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, get_worker_info

from nar.batch import Batch, Feedback, NumpyArray, join, to_tensors
from nar.datasets.clrs30.dm_clrs import sample_from_dm_clrs
from nar.datasets.clrs30.known import KnownAlgorithm
from nar.datasets.clrs30.recipe import (
    apply_recipe,
    has_communities,
    randomise_positions,
    recipe_spec,
    train_sampler_args,
    train_sizes,
)
from nar.datasets.clrs30.samplers import algorithm_of, sample
from nar.datasets.engine.algorithm import Algorithm, Hints
from nar.datasets.splits.cache import Cache
from nar.datasets.splits.chunks import chunks
from nar.specs import of_algorithm

Source = Literal["nar", "dm-clrs"]

VERSION = 1  # of what the engine and the recipe make of a seed: a cache holds what an older one made
_VALIDATION_SEED = 2
TEST_SEED = 3
PREFETCHED_BATCHES = 8  # by each worker
LARGEST_SENT_AS_ARRAY = 2**20  # a tensor of fewer bytes is sent from a worker as an array
NUM_SAMPLES = 32  # of a test split, before the algorithm's multiplier; validation has twice as many


def draw(algorithm: Algorithm, source: Source, *, hints: Hints = "all", **args: Any) -> Feedback[NumpyArray]:
    """What :func:`nar.datasets.sample` gives, drawn by this library or, if it can, by dm-clrs, after the recipe."""
    if source == "dm-clrs" and isinstance(algorithm, KnownAlgorithm) and "graphs" not in args:
        return apply_recipe(algorithm, sample_from_dm_clrs(algorithm, **args))
    return apply_recipe(algorithm, sample(algorithm, hints=hints, **args))


@dataclass(init=False)
class Split:
    """A fixed set of one algorithm's trajectories.

    Attributes:
        algorithm: What they are of: one of CLRS-30, which may be given by its name, or one of a user's own.
        num_nodes: The size asked of the sampler (see :func:`nar.datasets.clrs30.recipe.num_nodes_at`): that of an
            official test split is 64, or 80 of a string matcher.
        is_test: Whether it is a test split (of the official kind: seed 3, evenly spaced positions, the sampler's
            default densities and needles) or one for validation (seed 2, drawn as in training).
        source: What draws it: this library, or dm-clrs.
        graphs: The family of its graphs; None for those of dm-clrs.
        graph_args: The family's parameters.
        random_pos: Whether positions in validation are random, as in the recipe, or i/n, as in every test.
    """

    algorithm: Algorithm
    num_nodes: int
    is_test: bool
    source: Source
    graphs: str | None
    graph_args: dict[str, int | float]
    random_pos: bool

    def __init__(
        self,
        algorithm: str | Algorithm,
        num_nodes: int,
        is_test: bool,
        source: Source = "nar",
        graphs: str | None = None,
        graph_args: Mapping[str, int | float] | None = None,
        random_pos: bool = True,
    ) -> None:
        self.algorithm = algorithm_of(algorithm)
        self.num_nodes = num_nodes
        self.is_test = is_test
        self.source = source
        self.graphs = graphs
        self.graph_args = dict(graph_args or {})
        self.random_pos = random_pos

    @property
    def name(self) -> str:
        """The algorithm's name."""
        return self.algorithm.name

    @property
    def can_be_cached(self) -> bool:
        """Whether it can be told from one of another algorithm of this name (see :meth:`Algorithm.fingerprint`)."""
        return isinstance(self.algorithm, KnownAlgorithm) or self.algorithm.fingerprint() is not None

    @property
    def num_samples(self) -> int:
        """The number of the split's trajectories."""
        multiplier = self.algorithm.samples_multiplier if isinstance(self.algorithm, KnownAlgorithm) else 1
        return multiplier * (NUM_SAMPLES if self.is_test else 2 * NUM_SAMPLES)

    def load(self, cache: Cache) -> Feedback[NumpyArray]:
        """The split's trajectories, from the cache if they are there; of a test split only the first hint is kept."""
        return cache.get(self._key(), self._generate) if self.can_be_cached else self._generate()

    def store(self, cache: Cache) -> None:
        """Have the split's trajectories in the cache.

        Raises:
            CacheError: If the folder of the cache cannot be written.
        """
        cache.fill(self._key(), self._generate)

    def is_in(self, cache: Cache) -> bool:
        """Whether the cache has a file for it, sound or not."""
        return self.can_be_cached and cache.has(self._key())

    def _key(self) -> dict[str, Any]:
        key = {**vars(self), "algorithm": self.name, "version": VERSION, **self._sampling()}
        if self.random_pos or self.is_test:
            del key["random_pos"]  # what is as in the recipe has the name that it had before there was a choice
        if self.source == "dm-clrs":
            key["dm-clrs"] = version("dm-clrs")
        if self.graphs is not None:
            key["networkx"] = version("networkx")  # whose generators decide which numbers make which graph
        if not isinstance(self.algorithm, KnownAlgorithm):
            key["code"] = self.algorithm.fingerprint()
        return key

    def _sampling(self) -> dict[str, Any]:
        """The arguments of :func:`sample` besides the algorithm and the size."""
        if self.is_test:
            return {"num_samples": self.num_samples, "seed": TEST_SEED}
        args = train_sampler_args(self.algorithm, self.num_nodes)
        return {"num_samples": self.num_samples, "seed": _VALIDATION_SEED, **args}

    def _generate(self) -> Feedback[NumpyArray]:
        args = {"num_nodes": self.num_nodes, **self._sampling()}
        if self.graphs is not None:
            args |= {"graphs": self.graphs, **self.graph_args}
        feedback = draw(self.algorithm, self.source, hints="first" if self.is_test else "all", **args)
        if self.is_test:
            return feedback._replace(features=feedback.features.first_hints())
        return randomise_positions(feedback, np.random.RandomState(_VALIDATION_SEED)) if self.random_pos else feedback


class SplitBatches(Dataset[Batch]):
    """The batches of several splits, one after the other.

    Args:
        splits: Each with its trajectories.
        batch_size: Trajectories in a batch; the last of a split may have fewer.
        rank: Which of `num_ranks` equal parts of every split to take: each trajectory is in exactly one.
        num_ranks: How many parts.
    """

    def __init__(
        self,
        splits: Sequence[tuple[Split, Feedback[NumpyArray]]],
        batch_size: int,
        *,
        rank: int = 0,
        num_ranks: int = 1,
    ) -> None:
        parts = [(split, feedback.select(slice(rank, None, num_ranks))) for split, feedback in splits]
        self.starts = [
            (split, feedback, start)
            for split, feedback in parts
            for start in range(0, len(feedback.features.lengths), batch_size)
        ]
        self.batch_size = batch_size

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, index: int) -> Batch:
        split, feedback, start = self.starts[index]
        part = feedback.select(slice(start, start + self.batch_size))
        return Batch(split.name, split.num_nodes, 0, to_tensors(part, recipe_spec(split.algorithm)))


class TrainStream(IterableDataset[Batch]):
    """Fresh trajectories without end: batch i is a function of the seed, i and the rank alone.

    The algorithms take turns, one per step; each time all have had theirs, the next training size is taken, and each
    time all sizes have been taken, the next number of communities.

    Args:
        algorithms: In the order in which they take turns; those of CLRS-30 by name.
        sizes: Training sizes (see :func:`train_sizes`).
        batch_size: Trajectories in a batch, or windows of them.
        seed: Determines everything that is drawn.
        rank: Tells this process's batches from those that others draw for the same step.
        start: Index of the first batch.
        chunk_length: Time slices of a window (see :func:`nar.datasets.splits.chunks.chunks`); None for whole
            trajectories.
        source: What draws trajectories.
        random_pos: Whether positions are random, as in the recipe, or i/n; or of which algorithms, by name.
        communities: Of how many communities graphs are that are made of some (see :func:`has_communities`).
    """

    def __init__(
        self,
        algorithms: Sequence[str | Algorithm],
        sizes: Sequence[int],
        batch_size: int,
        *,
        seed: int,
        rank: int = 0,
        start: int = 0,
        chunk_length: int | None = None,
        source: Source = "nar",
        random_pos: bool | Mapping[str, bool] = True,
        communities: Sequence[int] = (4,),
    ) -> None:
        self.algorithms = list(map(algorithm_of, algorithms))
        self.sizes = list(sizes)
        self.batch_size = batch_size
        self.seed = seed
        self.rank = rank
        self.start = start
        self.chunk_length = chunk_length
        self.source = source
        self.random_pos = random_pos
        self.communities = list(communities)

    def __iter__(self) -> Iterator[Batch]:
        return map(self.__getitem__, own_indices(self.start))

    def __getitem__(self, index: int) -> Batch:
        """Batch number `index`."""
        turn, position = divmod(index, len(self.algorithms))
        algorithm = self.algorithms[position]
        sizes = train_sizes(algorithm, self.sizes)
        num_nodes = sizes[turn % len(sizes)]
        args = train_sampler_args(algorithm, num_nodes)
        if has_communities(algorithm):
            args["k"] = self.communities[turn // len(sizes) % len(self.communities)]
        seeds = np.random.SeedSequence([self.seed, index, self.rank])
        words = seeds.generate_state(18).tolist()
        feedback = self._draw(algorithm, num_nodes, words[:16], args)
        ended = None
        if self.chunk_length is not None:
            rounds = [feedback]
            while sum(part.features.lengths.sum() for part in rounds) < self.batch_size * self.chunk_length:
                rounds.append(self._draw(algorithm, num_nodes, _words(seeds, 16), args))
            rng = np.random.RandomState(_words(seeds, 8))
            feedback, marks = chunks(join(rounds), self.chunk_length, self.batch_size, rng)
            ended = torch.as_tensor(marks)
        noise_seed = words[16] << 32 | words[17]
        return Batch(algorithm.name, num_nodes, noise_seed, to_tensors(feedback, recipe_spec(algorithm)), ended)

    def _draw(
        self, algorithm: Algorithm, num_nodes: int, words: Sequence[int], args: Mapping[str, Any]
    ) -> Feedback[NumpyArray]:
        """A batch of fresh trajectories; `words` are 16 of 32 random bits, `args` are the sampler's."""
        seed = words[:8]
        feedback = draw(algorithm, self.source, num_nodes=num_nodes, num_samples=self.batch_size, seed=seed, **args)
        if not of_algorithm(self.random_pos, algorithm.name, True):
            return feedback
        return randomise_positions(feedback, np.random.RandomState(words[8:]))


def own_indices(start: int) -> Iterator[int]:
    """The indices of a stream, from `start` on, that are this worker's to draw; all are if there are no workers."""
    worker = get_worker_info()
    offset, stride = (worker.id, worker.num_workers) if worker else (0, 1)
    return count(start + offset, stride)


class DrawingLoader(DataLoader[Any]):
    """A loader whose workers, if there are any, end when the program does, whatever it is doing then."""

    def __init__(self, data: Any, num_workers: int, **settings: Any) -> None:
        super().__init__(data, num_workers=num_workers, worker_init_fn=end_with_parent, **settings)

    def __iter__(self) -> Any:
        if self.num_workers:
            atexit.unregister(_end_workers)
            atexit.register(_end_workers)  # again, to be called before what Python does with processes when it ends
        return super().__iter__()


class TrainLoader(DrawingLoader):
    """The batches of a stream, in its order, drawn ahead by workers if there are any.

    Of every tensor that a worker sends, torch makes a file in shared memory, and for the dozen of a small batch that
    takes longer than to draw it; the bytes of an array just go through a pipe.
    """

    def __init__(self, stream: TrainStream, num_workers: int) -> None:
        prefetch = PREFETCHED_BATCHES if num_workers else None
        super().__init__(stream, num_workers, batch_size=None, prefetch_factor=prefetch, collate_fn=_sendable)

    def __iter__(self) -> Any:
        return (batch.map(torch.as_tensor) for batch in super().__iter__())


def _end_workers() -> None:
    """End this process's workers.

    Python would send each one signal and wait for its end: the signal that they leave to their parent to act on (see
    :func:`end_with_parent`).
    """
    if hasattr(signal, "SIGCHLD"):
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # or torch would raise an error of a worker's end
    for worker in active_children():
        while worker.daemon and worker.is_alive():
            worker.terminate()
            worker.join(0.05)


def end_with_parent(worker: int | None = None) -> None:
    """Have this worker end when its parent does, killed or not, for which it would wait without end.

    Python tells on every system, and the operating system on Linux alone. A signal that a terminal or a cluster sends
    to parent and worker alike is the parent's to act on, who may need a batch more before it can end.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: signal.signal(signal.SIGTERM, signal.SIG_DFL))
    parent = parent_process()
    if parent is not None:
        Thread(target=_end_after, args=(parent,), daemon=True).start()


def _end_after(parent: Any) -> None:
    parent.join()
    os._exit(1)


def _sendable(batch: Any) -> Batch:
    """The batch with arrays in place of small tensors."""

    def array(data: Tensor) -> Any:
        return data if data.nbytes >= LARGEST_SENT_AS_ARRAY or data.dtype is torch.bfloat16 else data.numpy()

    sendable: Batch = batch.map(array)
    return sendable


def _words(seeds: np.random.SeedSequence, number: int) -> list[int]:
    """So many words that no other call of this function on `seeds` gives."""
    words: list[int] = seeds.spawn(1)[0].generate_state(number).tolist()
    return words
