"""The cases in which our model is compared with dm-clrs: a model, a processor, an algorithm."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nar.batch import NumpyArray
from nar.datasets import ALGORITHMS

GOLDENS = Path(__file__).resolve().parents[1] / "goldens"
HIDDEN_DIM = 8
TRIPLET_DIM = 4
NUM_HEADS = 2

Record = dict[str, NumpyArray]
"""See ``parity.py``."""

# dm-clrs's names.
PROCESSORS = [
    *("deepsets", "gat", "gat_full", "gatv2", "gatv2_full", "memnet_full", "memnet_masked"),
    *("mpnn", "pgn", "pgn_mask", "triplet_mpnn", "triplet_pgn", "triplet_pgn_mask"),
    *("gmpnn", "gpgn", "gpgn_mask", "triplet_gmpnn", "triplet_gpgn", "triplet_gpgn_mask"),
]
# A graph algorithm with masks of edges; one whose output is a permutation; one with pointers of edges.
FAMILIES = ("bridges", "insertion_sort", "optimal_bst")


class Case(NamedTuple):
    """A model and a batch: an algorithm, dm-clrs's name of a processor, and our settings of the model."""

    algorithm: str
    kind: str
    settings: Mapping[str, Any] = {}

    def __str__(self) -> str:
        settings = [f"{name}={value}" for name, value in self.settings.items()]
        return "-".join([self.algorithm, self.kind, *settings])

    def path(self) -> Path:
        """Of its golden file."""
        return GOLDENS / f"{self}.npz"


CASES = [
    *(Case(algorithm, "triplet_gmpnn") for algorithm in ALGORITHMS),
    *(Case(algorithm, kind) for kind in PROCESSORS if kind != "triplet_gmpnn" for algorithm in FAMILIES),
    *(
        Case("dijkstra", "gmpnn", settings)
        for settings in (
            {"hint_teacher_forcing": 1.0},
            {"hint_feedback": "hard"},
            {"hint_feedback": "hard_on_eval"},
            {"hint_mode": "decoded_only"},
            {"hint_mode": "none"},
            {"use_lstm": True, "num_processor_steps": 2},
        )
    ),
    Case("dijkstra", "triplet_gmpnn", {"num_processor_steps": 2}),
]

# Whose weights at the start are compared: with scalar hints, a gate, triplets and an LSTM; and the other processors.
INITIALISED = [
    Case("dijkstra", "triplet_gmpnn", {"use_lstm": True}),
    *(Case("bfs", kind) for kind in ("gat", "gatv2", "memnet_full")),
]


def moments(draws: NumpyArray) -> NumpyArray:
    """The number of entries, their mean, their second and fourth central moments, and the largest magnitude, [5]."""
    x = draws.astype(np.float64).ravel()
    y = x - x.mean()
    return np.array([x.size, x.mean(), (y**2).mean(), (y**4).mean(), np.abs(x).max()])


def fixed_noise(num_nodes: int) -> NumpyArray:
    """Noise for every matrix of logits of a permutation, in both programs, [N, N]."""
    return np.random.RandomState(7).gumbel(size=(num_nodes, num_nodes)).astype(np.float32)


def write_golden(case: Case, record: Record) -> None:
    """Write a record: floats and integers each in one array, and an index of names and shapes (small arrays would take
    more room for their names than for themselves).
    """
    index = json.dumps([[key, array.dtype.kind == "f", array.shape] for key, array in record.items()])
    parts = {
        kind: np.concatenate([array.ravel() for array in record.values() if (array.dtype.kind == "f") == is_float])
        for kind, is_float in (("floats", True), ("integers", False))
    }
    np.savez_compressed(
        case.path(),
        index=np.frombuffer(index.encode(), np.uint8),
        floats=parts["floats"].astype(np.float32),
        integers=parts["integers"].astype(np.int64),
    )


def read_golden(case: Case) -> Record:
    """The record of a case as dm-clrs made it once (see ``make_goldens.py``)."""
    with np.load(case.path()) as file:
        parts = {True: file["floats"], False: file["integers"]}
        index = json.loads(file["index"].tobytes())
    record = {}
    used = {True: 0, False: 0}
    for key, is_float, shape in index:
        size = int(np.prod(shape))
        record[key] = parts[is_float][used[is_float] : used[is_float] + size].reshape(shape)
        used[is_float] += size
    return record


def moments_path(case: Case) -> Path:
    """Of the golden file with the moments of its weights at the start."""
    return GOLDENS / f"start-{case}.npz"


def read_moments(case: Case) -> Record:
    """The moments of every parameter (``module|entry``) over many draws by dm-clrs."""
    with np.load(moments_path(case)) as file:
        return {str(key): row for key, row in zip(file["keys"], file["moments"], strict=True)}
