"""CLRS-Text to train and test on: the published sizes, and texts drawn on the fly, each with the graph it is of.

Source: Markeeva et al., "The CLRS-Text Algorithmic Reasoning Language Benchmark", 2024;
``clrs/_src/clrs_text/generate_clrs_text.py`` of dm-clrs 2.0.3.
"""
# Axes: B graphs, T time.

import warnings
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor
from torch.utils.data import IterableDataset

from nar import batch
from nar.batch import Features, Feedback, Graphs, NumpyArray, to_tensors
from nar.datasets.clrs30.recipe import apply_recipe, recipe_spec
from nar.datasets.clrs30.samplers import CLRS_30, check_size, known_algorithm, sample
from nar.datasets.engine.arguments import check_seed, check_whole, shown
from nar.datasets.splits.splits import own_indices
from nar.datasets.text.format import TRACE, Scores, answer_of, render, scores
from nar.errors import UserError

DECIMALS = 3
"""How many decimals the numbers in texts are cut off to."""

_SIZES = (4, 5, 10, 11, 12, 15, 19, 23, 28, 31)
TRAIN_SIZES: Mapping[str, tuple[int, ...]] = MappingProxyType(
    {name: tuple(n for n in _SIZES if n <= known.text.longest_in_training) for name, known in CLRS_30.items()}
)
"""The sizes of the published training set by algorithm."""

VALIDATION_SIZES: Mapping[str, tuple[int, ...]] = MappingProxyType(
    {name: tuple(range(4, known.text.longest_in_validation + 1)) for name, known in CLRS_30.items()}
)
"""The sizes of the published validation set by algorithm."""

_FORMER_NAMES = {"TRAIN_LENGTHS": "TRAIN_SIZES", "VALIDATION_LENGTHS": "VALIDATION_SIZES"}


def __getattr__(name: str) -> Any:
    """The constant that had this name before it was renamed, with a warning."""
    if name not in _FORMER_NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    warnings.warn(f"{__name__}.{name} is now {_FORMER_NAMES[name]}", DeprecationWarning, stacklevel=2)
    return globals()[_FORMER_NAMES[name]]


TRAIN_SEEDS, NUM_TRAIN_SAMPLES = (0,), 10_000
VALIDATION_SEEDS, NUM_VALIDATION_SAMPLES = (3, 14, 35, 81, 94), 125
"""Seeds of the published sets, and how many texts there are for each algorithm, size and seed."""


class TextSample(NamedTuple):
    """A text and the graph of the same instance.

    Attributes:
        algorithm: The algorithm's name.
        num_nodes: The size that was asked of the sampler.
        prompt: Ends with a line break.
        answer: Ends with an empty line.
        features: The inputs, the first hints and the length of a batch of one, as in a reasoner's test split: after
            the recipe, positions evenly spaced. Of several samples, :func:`grouped` makes what a model takes.
    """

    algorithm: str
    num_nodes: int
    prompt: str
    answer: str
    features: Features[NumpyArray]

    def scores(self, answer: str) -> Scores:
        """How right an answer is, see :func:`nar.datasets.text.format.scores`."""
        return scores(answer, self.answer)

    def answer_with(self, outputs: Mapping[str, NumpyArray]) -> str:
        """The answer that says these outputs, see :func:`nar.datasets.text.format.answer_of`."""
        inputs = {name: data[0] for name, data in self.features.inputs.items()}
        return answer_of(self.algorithm, inputs, outputs, hints=TRACE in self.prompt)


def text_samples(
    algorithm: str,
    *,
    num_nodes: int,
    num_samples: int,
    seed: int | Sequence[int],
    hints: bool = False,
    truncate_decimals: int | None = DECIMALS,
    **args: Any,
) -> list[TextSample]:
    """Texts of an algorithm on random inputs, each with its graph; the texts are those of dm-clrs for this seed.

    Args:
        algorithm: One of CLRS-30.
        num_nodes: The size asked of the sampler.
        num_samples: How many.
        seed: As for :func:`nar.datasets.sample`.
        hints: Whether the answers begin with a trace.
        truncate_decimals: To how many decimals numbers are cut off, in the text and in the graph.
        **args: For the sampler. By default it draws as for tests: edges with one density, needles of a fifth.

    Raises:
        UserError: As :func:`nar.datasets.sample`.
    """
    known = known_algorithm(algorithm)
    feedback = sample(
        known,
        num_nodes=num_nodes,
        num_samples=num_samples,
        seed=seed,
        hints="all" if hints else "first",
        truncate_decimals=truncate_decimals,
        **args,
    )
    texts = render(algorithm, feedback, hints=hints)
    features = apply_recipe(known, feedback).features.first_hints()  # as a reasoner is given when it is tested
    rows = [features.select(slice(row, row + 1)) for row in range(num_samples)]
    return [TextSample(algorithm, num_nodes, *text, row) for text, row in zip(texts, rows, strict=True)]


def grouped(samples: Sequence[TextSample]) -> list[Graphs]:
    """The graphs of a batch of texts, those that a reasoner can take at once together."""
    return batch.grouped([sample_graph(one) for one in samples])


def sample_graph(one: TextSample) -> tuple[str, Features[Tensor]]:
    """The algorithm of a text, and the features of its graph in tensors."""
    return one.algorithm, to_tensors(Feedback(one.features, {}), recipe_spec(one.algorithm)).features


class TextStream(IterableDataset[list[TextSample]]):
    """Fresh texts without end, in batches: sample i is a function of the seed, i and the rank alone.

    The algorithms take turns; each time all have had theirs, each takes the next of its sizes. For a
    ``DataLoader`` with ``batch_size=None`` and any number of workers, which draw the same batches in the same order.

    Args:
        sizes: Sizes by algorithm.
        batch_size: Texts in a batch.
        seed: Determines everything that is drawn.
        hints: Whether the answers begin with a trace.
        decimals: To how many decimals numbers are cut off.
        group_size: Samples in a turn. They are of one algorithm and size, so that a reasoner takes them at once.
        rank: Tells this process's batches from those that others draw for the same step.
        start: Index of the first batch.

    Raises:
        UserError: If there are no algorithms or no sizes of one, or it is unknown or cannot be drawn at one of them.
    """

    def __init__(
        self,
        sizes: Mapping[str, Sequence[int]] = TRAIN_SIZES,
        batch_size: int = 32,
        *,
        seed: int,
        hints: bool = False,
        decimals: int = DECIMALS,
        group_size: int = 1,
        rank: int = 0,
        start: int = 0,
    ) -> None:
        expected = "expected one or more algorithms, each with one or more sizes, given"
        if not isinstance(sizes, Mapping) or not sizes:
            raise UserError(f"{expected} {shown(sizes)}")
        for algorithm, own in sizes.items():
            known = known_algorithm(algorithm)
            if not isinstance(own, Sequence) or not own:
                raise UserError(f"{expected} {shown(dict(sizes))}")
            for num_nodes in own:
                check_size(known, num_nodes)
        check_seed(seed)
        check_whole("batch_size", batch_size, at_least=1)
        check_whole("group_size", group_size, at_least=1)
        self.sizes = {algorithm: tuple(own) for algorithm, own in sizes.items()}
        self.batch_size = batch_size
        self.seed = seed
        self.hints = hints
        self.decimals = decimals
        self.group_size = group_size
        self.rank = rank
        self.start = start

    def __iter__(self) -> Iterator[list[TextSample]]:
        return map(self.__getitem__, own_indices(self.start))

    def __getitem__(self, index: int) -> list[TextSample]:
        """Batch number `index`."""
        return [self.draw(index * self.batch_size + position) for position in range(self.batch_size)]

    def draw(self, index: int) -> TextSample:
        """Sample number `index`."""
        turn, position = divmod(index // self.group_size, len(self.sizes))
        algorithm, sizes = list(self.sizes.items())[position]
        words = np.random.SeedSequence([self.seed, index, self.rank]).generate_state(8).tolist()
        num_nodes = sizes[turn % len(sizes)]
        (drawn,) = text_samples(
            algorithm,
            num_nodes=num_nodes,
            num_samples=1,
            seed=words,
            hints=self.hints,
            truncate_decimals=self.decimals,
        )
        return drawn
