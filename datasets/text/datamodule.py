"""CLRS-Text for Lightning.

Source: Markeeva et al., "The CLRS-Text Algorithmic Reasoning Language Benchmark", 2024; the sizes of tests are those of
Bounsi et al., "Transformers meet Neural Algorithmic Reasoners", 2024.
"""
# Axes: B texts, L tokens.

import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
import torch
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset
from transformers import PreTrainedTokenizerBase

from nar.batch import Key, TextBatch, with_joint_graphs
from nar.datasets.clrs30.samplers import check_size, known_algorithm
from nar.datasets.clrs30.specs import ALGORITHMS
from nar.datasets.engine.arguments import (
    MAX_BATCH_SIZE,
    MAX_WORKERS,
    check_between,
    check_seed,
    check_sizes,
    check_whole,
)
from nar.datasets.splits.compilation import compile_ahead
from nar.datasets.splits.splits import PREFETCHED_BATCHES, DrawingLoader, own_indices
from nar.datasets.splits.streaming import StreamingData
from nar.datasets.text.batches import text_batch
from nar.datasets.text.published import read_texts, samples_of
from nar.datasets.text.stream import DECIMALS, TRAIN_SIZES, TextSample, TextStream, text_samples
from nar.datasets.text.tokenizer import load_tokenizer, text_tokenizer
from nar.errors import UserError

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # it would not survive the fork of workers

VALIDATION, TEST = 1, 2  # what their texts are drawn from
_MAX_DECIMALS = 15  # of numbers of 64 bits
_GROUP_SIZE = 8  # a reasoner takes about as long for eight small graphs as for one


class CLRSText(StreamingData):
    """Training, validation and test texts of CLRS-30 algorithms, each with its graph, drawn when they are needed.

    Training never repeats a text. Validation is at the sizes of training.

    Args:
        algorithms: Names of algorithms, or ``all`` of the 30, which take turns.
        train_sizes: Numbers of nodes to train at, the same for all; the published ones of each algorithm if not given.
        test_sizes: Numbers of nodes to test at.
        hints: Whether answers begin with a trace of how they come about.
        tokenizer: The name of one on the Hugging Face Hub, or its folder; one made for these texts if not given.
        whole_numbers: Whether numbers of two decimals are a token each in that one (see
            :func:`nar.datasets.text.tokenizer.text_tokenizer`).
        decimals: To how many decimals the numbers in drawn texts, and in their graphs, are cut off.
        batch_size: Texts in a training batch, on each device. In a row, eight are of one algorithm and size.
        eval_batch_size: Texts in a validation or test batch, which are of one algorithm and size.
        num_val: Texts of the validation split, of each algorithm and size.
        num_test: Texts of the test split, of each algorithm and size.
        num_workers: Processes that draw texts ahead of training; 0 to draw them in between.
        seed: Seed of the training data; that of ``seed_everything`` if not given.
        batches_ahead: Of so many training batches a frozen reasoner computes the states at once, of all graphs of one
            algorithm and size together, which takes less time and more memory.
        texts: A file of texts in the published columns (see :func:`nar.datasets.text.read_texts`) to test on in place
            of drawn ones: those of `algorithms`.
        train_lengths: The former name of `train_sizes`.
        test_lengths: The former name of `test_sizes`.
    """

    def __init__(
        self,
        algorithms: list[str] | str = "all",
        train_sizes: list[int] | None = None,
        test_sizes: list[int] = [10, 12, 14],  # noqa: B006 (never changed; a list shows its default in --help)
        hints: bool = False,
        tokenizer: str | dict[str, str] | None = None,
        whole_numbers: bool = False,
        decimals: int = DECIMALS,
        batch_size: int = 32,
        eval_batch_size: int = 32,
        num_val: int = 8,
        num_test: int = 125,
        num_workers: int = 1,
        seed: int | None = None,
        batches_ahead: int = 1,
        texts: str | None = None,
        train_lengths: list[int] | None = None,
        test_lengths: list[int] | None = None,
    ) -> None:
        super().__init__()
        if train_lengths is not None:
            train_sizes = _by_former_name("train_lengths", "train_sizes", train_lengths)
        if test_lengths is not None:
            test_sizes = _by_former_name("test_lengths", "test_sizes", test_lengths)
        given = list(algorithms) if isinstance(algorithms, list | tuple) else [algorithms]
        is_all = len(given) == 1 and isinstance(given[0], str) and given[0] == "all"
        self.algorithms = list(ALGORITHMS) if is_all else given
        known = [known_algorithm(algorithm) for algorithm in self.algorithms]
        if not self.algorithms or len(set(self.algorithms)) < len(self.algorithms):
            raise UserError(f"expected one or more different algorithms, given {self.algorithms}")
        self.sizes: dict[str, Sequence[int]] = {
            algorithm: TRAIN_SIZES[algorithm] if train_sizes is None else check_sizes("train_sizes", train_sizes)
            for algorithm in self.algorithms
        }
        self.test_sizes = check_sizes("test_sizes", test_sizes)
        self.hints = hints
        self.decimals = decimals
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.num_val = num_val
        self.num_test = num_test
        self.num_workers = num_workers
        self.batches_ahead = batches_ahead
        self.seed = 0 if seed is None else seed
        for name, value in (("eval_batch_size", eval_batch_size), ("num_val", num_val), ("num_test", num_test)):
            check_whole(name, value, at_least=1)
            check_between(name, value, 1, MAX_BATCH_SIZE)
        check_whole("num_workers", num_workers, at_least=0)
        check_whole("batches_ahead", batches_ahead, at_least=1)
        check_between("batches_ahead", batches_ahead, 1, MAX_BATCH_SIZE)
        check_whole("decimals", decimals, at_least=1)
        check_between("decimals", decimals, 1, _MAX_DECIMALS)
        check_between("num_workers", num_workers, 0, MAX_WORKERS)
        check_between("batch_size", batch_size, 1, MAX_BATCH_SIZE)
        check_seed(self.seed)
        for algorithm in known:
            for num_nodes in self.test_sizes:
                check_size(algorithm, num_nodes)
        self._stream()
        if whole_numbers and isinstance(tokenizer, str):
            raise UserError(f"expected whole_numbers for the tokenizer made for texts alone, given {tokenizer} too")
        is_own = whole_numbers and tokenizer is None
        self.tokenizer = text_tokenizer(whole_numbers=True) if is_own else load_tokenizer(tokenizer)
        self.texts = texts
        self._rows = [] if texts is None else [x for x in read_texts(texts) if x["algo_name"] in self.algorithms]
        if texts is not None and not self._rows:
            raise UserError(f"expected texts of {', '.join(self.algorithms)} in {texts}, given none")

    def _stream(self, rank: int = 0) -> TextStream:
        return TextStream(
            self.sizes,
            self.batch_size,
            seed=self.seed,
            hints=self.hints,
            decimals=self.decimals,
            group_size=_GROUP_SIZE,
            rank=rank,
        )

    def train_dataloader(self) -> Iterable[TextBatch]:
        """Batches from where the run is, without end."""
        compile_ahead((algorithm, min(sizes)) for algorithm, sizes in self.sizes.items())
        stream, seen, number = self._stream(self.ranks()[0]), self.num_batches_seen, self.batches_ahead
        batches = _TrainBatches(stream, self.tokenizer, seen - seen % number)
        return _TextLoader(batches, self.num_workers, batches_ahead=number, skipped=seen % number)

    def val_dataloader(self) -> Iterable[TextBatch]:
        """Texts at the sizes of training."""
        cells = [(algorithm, num_nodes) for algorithm, sizes in self.sizes.items() for num_nodes in sizes]
        return self._batches(self._drawn(cells, self.num_val, VALIDATION))

    def test_dataloader(self) -> DataLoader[TextBatch]:
        """Texts at `test_sizes`, or those of a file."""
        return self._batches(self.test_texts())

    def test_texts(self) -> Iterator[list[TextSample]]:
        """All texts of the test split, or of a file, a list for each algorithm and size."""
        if self.texts is not None:
            of_file = samples_of(self._rows)
            keys = dict.fromkeys((text.algorithm, text.num_nodes) for text in of_file)
            return ([text for text in of_file if (text.algorithm, text.num_nodes) == key] for key in keys)
        cells = [(algorithm, num_nodes) for algorithm in self.algorithms for num_nodes in self.test_sizes]
        return self._drawn(cells, self.num_test, TEST)

    def largest_texts(self) -> Iterator[TextBatch]:
        """A text of each algorithm at the largest size of training and test, or the longest of a file."""
        for texts in () if self.texts is None else self.test_texts():
            yield text_batch(self.tokenizer, [max(texts, key=lambda text: len(text.prompt + text.answer))])
        tested = self.test_sizes if self.texts is None else []
        largest = {algorithm: max(*sizes, *tested) for algorithm, sizes in self.sizes.items()}
        compile_ahead(largest.items())
        for algorithm, num_nodes in largest.items():
            yield text_batch(self.tokenizer, self._texts(algorithm, num_nodes, 1, TEST))

    def check_pairs(self) -> None:
        """Refuse batches of training or validation with a text that is the only one of its algorithm and size.

        Raises:
            UserError: With the number that leaves one alone.
        """
        if self.batch_size % 2:
            raise UserError(f"expected an even batch_size, to exchange graphs of texts, given {self.batch_size}")
        if self.num_val % self.eval_batch_size == 1:
            expected = f"a num_val that leaves no text alone in batches of {self.eval_batch_size}"
            raise UserError(f"expected {expected}, to exchange graphs of texts, given {self.num_val}")

    def _drawn(self, cells: Sequence[Key], number: int, seed: int) -> Iterator[list[TextSample]]:
        """The texts of a split."""
        for algorithm, num_nodes in cells:
            yield self._texts(algorithm, num_nodes, number, seed)

    def _texts(self, algorithm: str, num_nodes: int, number: int, seed: int) -> list[TextSample]:
        return text_samples(
            algorithm,
            num_nodes=num_nodes,
            num_samples=number,
            seed=[0, seed],
            hints=self.hints,
            truncate_decimals=self.decimals,
        )

    def _batches(self, texts: Iterable[list[TextSample]]) -> DataLoader[TextBatch]:
        """The batches that fall to this process: every text is seen by exactly one."""
        rank, num_ranks = self.ranks()
        batches = []
        for drawn in texts:
            mine = drawn[rank::num_ranks]
            batches += [mine[i : i + self.eval_batch_size] for i in range(0, len(mine), self.eval_batch_size)]
        return _TextLoader(_EvalBatches(batches, self.tokenizer))


def _by_former_name(former: str, name: str, value: list[int]) -> list[int]:
    warnings.warn(f"the argument {former} of CLRSText is now {name}", DeprecationWarning, stacklevel=3)
    return value


class _TrainBatches(IterableDataset[TextBatch]):
    """The batches of a stream of texts as tokens, from number `start` on."""

    def __init__(self, stream: TextStream, tokenizer: PreTrainedTokenizerBase, start: int) -> None:
        self.stream = stream
        self.tokenizer = tokenizer
        self.start = start

    def __iter__(self) -> Iterator[TextBatch]:
        for index in own_indices(self.start):
            words = np.random.SeedSequence([self.stream.seed, index, self.stream.rank]).spawn(1)[0].generate_state(2)
            yield text_batch(self.tokenizer, self.stream[index], seed=int(words[0]) << 32 | int(words[1]))


class _EvalBatches(Dataset[TextBatch]):
    """Texts as tokens and as they are."""

    def __init__(self, batches: Sequence[Sequence[TextSample]], tokenizer: PreTrainedTokenizerBase) -> None:
        self.batches = batches
        self.tokenizer = tokenizer

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> TextBatch:
        samples = self.batches[index]
        texts = tuple(sample.prompt for sample in samples), tuple(sample.answer for sample in samples)
        return text_batch(self.tokenizer, samples)._replace(prompts=texts[0], answers=texts[1])


class _TextLoader(DrawingLoader):
    """Batches in their order, made ahead by workers if there are any, which send them as bytes.

    See :class:`nar.datasets.splits.splits.TrainLoader`.

    Args:
        batches: The batches.
        num_workers: How many workers.
        batches_ahead: Of how many batches graphs are joined.
        skipped: How many of the first ones a run that goes on has seen: their graphs are among those that are joined.
    """

    def __init__(
        self, batches: Dataset[TextBatch], num_workers: int = 0, *, batches_ahead: int = 1, skipped: int = 0
    ) -> None:
        prefetch = PREFETCHED_BATCHES if num_workers else None
        super().__init__(batches, num_workers, batch_size=None, prefetch_factor=prefetch, collate_fn=_as_arrays)
        self.batches_ahead, self.skipped = batches_ahead, skipped

    def __iter__(self) -> Any:
        tensors = (apply_to_collection(batch, np.ndarray, torch.from_numpy) for batch in super().__iter__())
        return tensors if self.batches_ahead == 1 else islice(self._joined(tensors), self.skipped, None)

    def _joined(self, batches: Iterator[TextBatch]) -> Iterator[TextBatch]:
        while some := list(islice(batches, self.batches_ahead)):
            yield from with_joint_graphs(some)


def _as_arrays(batch: Any) -> Any:
    return apply_to_collection(batch, Tensor, Tensor.numpy)
