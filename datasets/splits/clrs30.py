"""What a model of CLRS-30 algorithms is trained and tested on, as it can be asked for without Lightning.

Source: Ibarz et al., "A Generalist Neural Algorithmic Learner", LoG 2022.
"""

from collections.abc import Mapping
from typing import Any, get_args

from nar.configuration import KeepsArguments
from nar.datasets.clrs30.recipe import has_communities, num_nodes_at, recipe_spec, train_sizes
from nar.datasets.clrs30.samplers import algorithm_of, check_names, check_size, sample
from nar.datasets.clrs30.specs import ALGORITHMS
from nar.datasets.engine.algorithm import Algorithm, check_algorithm
from nar.datasets.engine.arguments import (
    MAX_BATCH_SIZE,
    MAX_WORKERS,
    check_named,
    check_sizes,
    is_whole,
    shown,
)
from nar.datasets.splits.cache import Cache
from nar.datasets.splits.splits import Source, Split
from nar.errors import UserError
from nar.specs import Spec, of_algorithm

_UPPER_LIMITS = {
    "chunk_length": 2**15,
    "batch_size": MAX_BATCH_SIZE,
    "eval_batch_size": MAX_BATCH_SIZE,
    "num_workers": MAX_WORKERS,
}
"""The largest values of some arguments; of larger batches the first would take long, and workers all the memory."""


class CLRS30Splits(KeepsArguments):
    """The splits of CLRS-30 algorithms by the recipe of Ibarz et al. (2022), and how training data are drawn.

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
        seed: Seed of the training data; that of ``seed_everything`` if not given.
        chunk_length: Time slices of a window. Training is then on windows of trajectories that follow one another, 16
            slices long in the multi-task recipe; on whole trajectories if not given. Validation and test always are.
        source: What draws the trajectories of CLRS-30, which are the same: this library, or (slower) dm-clrs.
        test_graphs: A family of graphs to test on, such as ``watts_strogatz``, in place of dm-clrs's.
        test_graph_args: The family's parameters.
        val_size: Number of nodes in validation (of string matchers 5/4 of it), if not that of the largest in training:
            the larger they are, the more of the errors that tests will find are seen when the best weights are chosen.
        random_pos: Whether the positions of nodes are random and sorted in training and validation, as in the recipe,
            or i/n, as in every test: of all algorithms, or of some by name, such as ``{binary_search: false}``.
        train_communities: Of how many communities the graphs of strongly_connected_components are made in training, in
            turn. In validation and tests they are 4, as in dm-clrs, but at n ≤ 16 most of them have 1 to 4 nodes.
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
        random_pos: bool | dict[str, bool] = True,
        train_communities: list[int] = [4],  # noqa: B006
    ) -> None:
        super().__init__()
        given = list(algorithms) if isinstance(algorithms, list | tuple) else [algorithms]
        is_all = len(given) == 1 and isinstance(given[0], str) and given[0] == "all"
        self.algorithms = [algorithm_of(algorithm) for algorithm in (ALGORITHMS if is_all else given)]
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
        self.random_pos = random_pos
        self.train_communities = check_sizes("train_communities", train_communities)
        self._check()

    def _check(self) -> None:
        for algorithm in self.algorithms:
            check_algorithm(algorithm)
        names = [algorithm.name for algorithm in self.algorithms]
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
        check_names("random_pos", self.random_pos, self.algorithms)
        for is_random in self.random_pos.values() if isinstance(self.random_pos, Mapping) else [self.random_pos]:
            if not isinstance(is_random, bool):
                raise UserError(f"expected random_pos to be true or false, given {shown(is_random)}")
        least, most = min(self.train_communities), max(self.train_communities)
        if least < 1:
            raise UserError(f"expected train_communities ≥ 1, given {least}")
        if any(map(has_communities, self.algorithms)) and most > min(self.sizes):
            raise UserError(f"expected no more train_communities than nodes, {min(self.sizes)}, given {shown(most)}")
        for name, value, least in (
            ("batch_size", self.batch_size, 1),
            ("eval_batch_size", self.eval_batch_size, 1),
            ("num_workers", self.num_workers, 0),
            ("seed", self.seed, 0),
            ("chunk_length", 2 if self.chunk_length is None else self.chunk_length, 2),
        ):
            if not is_whole(value) or value < least:
                raise UserError(f"expected {name} ≥ {least}, given {shown(value)}")
            if value > _UPPER_LIMITS.get(name, value):
                raise UserError(f"expected {name} ≤ {_UPPER_LIMITS[name]}, given {shown(value)}")

    @property
    def specs(self) -> dict[str, Spec]:
        """The probes of each algorithm as the model sees them."""
        return {algorithm.name: recipe_spec(algorithm) for algorithm in self.algorithms}

    @property
    def val_splits(self) -> list[Split]:
        """The validation splits, one for each algorithm."""
        return [
            Split(
                algorithm,
                self._val_size_of(algorithm),
                is_test=False,
                source=self.source,
                random_pos=of_algorithm(self.random_pos, algorithm.name, True),
            )
            for algorithm in self.algorithms
        ]

    def _val_size_of(self, algorithm: Algorithm) -> int:
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
