"""The published files of SALSA-CLRS: what its own code writes into ``<folder>/<task>/<split>``, read as data.

Each data set is a folder that is named after its graphs, such as ``graphgenerator=ws_p_range=..._k=[4, 6, 8]_n=80``,
with a pickle of PyTorch for each graph. Of what it has, :class:`SparseData` has

- ``weights`` under the name ``A``;
- edges in the order of senders and receivers, with loops, in the same order with loops last;
- pointers, which there are 1 on the edge to the node pointed at and 0 on all others, as the number of that edge;
- mask_one and categorical probes, which there are 1 at what is chosen, as the number of that.

Source: ``to_sparse_data`` and ``SALSACLRSDataset`` in ``salsaclrs/data.py`` of https://github.com/jkminder/SALSA-CLRS.
"""
# Axes: N nodes, E edges, T time, C classes.

import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nar.batch import NumpyArray
from nar.datasets.engine.algorithm import Hints, check_hints
from nar.datasets.engine.arguments import check_known, check_whole, shown
from nar.datasets.salsa.algorithms import SPARSE_TASKS
from nar.datasets.salsa.graph import Graph, graph_of, num_reached
from nar.datasets.salsa.tasks import SparseData, SparseSplit, as_data, run_task
from nar.errors import UserError, one_line
from nar.specs import Location, Probe, Stage, Type, at_stage

FAMILIES: Mapping[str, str] = {
    "er": "erdos_renyi",
    "ws": "watts_strogatz",
    "delaunay": "delaunay",
    "grid": "grid",
    "path": "path",
    "tree": "tree",
    "complete": "complete",
}
"""The names that graphs have here, by those that they have there."""

SPLITS = ("train", "val", "test")


class PublishedTask(SparseSplit):
    """A published data set of a task, read graph by graph when they are asked for.

    Args:
        task: One of :data:`SPARSE_TASKS`.
        folder: That of the data set, ``graphgenerator=...``.
        hints: Which to give. Published tests have none: those that are not there are computed.
        num_samples: How many of its first graphs; None for all.

    Raises:
        UserError: If it is no such folder, or has no graphs, or not all of them.
    """

    def __init__(self, task: str, folder: str | Path, hints: Hints = "all", num_samples: int | None = None) -> None:
        check_known("task", task, SPARSE_TASKS)
        check_hints(hints)
        if num_samples is not None:
            check_whole("num_samples", num_samples, at_least=1)
        self.task, self.hints, self.folder = task, hints, Path(folder)
        self.graphs, self.sizes = _graphs_and_sizes(self.folder.name)
        numbers = [
            int(name[1]) for file in self.processed.glob("*") if (name := re.fullmatch(r"data_(\d+)\.pt", file.name))
        ]
        self.num_samples = min(len(numbers), num_samples or len(numbers))
        if not numbers or max(numbers) >= len(numbers):
            raise UserError(
                f"expected data_0.pt, data_1.pt and so on in {self.processed}, given {len(numbers)} of them"
            )

    @property
    def processed(self) -> Path:
        """The folder of the files."""
        return self.folder / "processed"

    def __getitem__(self, index: int) -> SparseData:
        path = self.processed / f"data_{range(self.num_samples)[index]}.pt"
        try:
            return _converted(self.task, _read(path), self.hints)
        except UserError as error:
            raise UserError(f"{path}: {error}") from error


def published_tasks(
    folder: str | Path, task: str, split: str = "test", hints: Hints = "all", num_samples: int | None = None
) -> list[PublishedTask]:
    """The published data sets of a task, smallest graphs first.

    Args:
        folder: Where ``<task>.zip`` of https://huggingface.co/datasets/SALSA-CLRS/SALSA-CLRS was unpacked, or where
            ``load_dataset`` of SALSA-CLRS or its ``SALSACLRSDataset`` wrote (their `local_dir` or `root`).
        task: One of :data:`SPARSE_TASKS`.
        split: ``train``, ``val`` or ``test``.
        hints: Which to give.
        num_samples: How many of the first graphs of each; None for all.

    Raises:
        UserError: If there are none.
    """
    check_known("task", task, SPARSE_TASKS)
    check_known("split", split, SPLITS)
    within = Path(folder) / task / split
    folders = sorted(path for path in within.glob("graphgenerator=*") if path.is_dir())
    found = [PublishedTask(task, path, hints, num_samples) for path in folders]
    if not found:
        raise UserError(f"expected folders graphgenerator=... of SALSA-CLRS in {within}, given none")
    return sorted(found, key=lambda one: (max(one.sizes), one.graphs))


def _graphs_and_sizes(name: str) -> tuple[str, list[int]]:
    """The family and the sizes of the graphs of a data set by the name of its folder."""
    family, sizes = re.match(r"graphgenerator=([a-z]+)_", name), re.search(r"_n=(range\(\d+, \d+\)|[\d, \[\]]+)", name)
    if family is None or sizes is None or family[1] not in FAMILIES:
        known = ", ".join(FAMILIES)
        raise UserError(f"expected a folder graphgenerator=... of SALSA-CLRS ({known}) with n=..., given {name}")
    numbers = [int(number) for number in re.findall(r"\d+", sizes[1])]
    return FAMILIES[family[1]], list(range(*numbers)) if sizes[1].startswith("range") else numbers


class _Stored:
    """Stands in for the classes whose objects are in the files: attributes, and no code."""


_CLASSES = (
    "salsaclrs.data.CLRSData",
    "torch_geometric.data.storage.GlobalStorage",
    "torch_geometric.data.data.DataEdgeAttr",
    "torch_geometric.data.data.DataTensorAttr",
)


def _read(path: Path) -> dict[str, NumpyArray]:
    """The arrays that are in a file by name; nothing that it names is imported or called.

    Raises:
        UserError: If it holds something else, or cannot be read.
    """
    try:
        with torch.serialization.safe_globals([(_Stored, name) for name in _CLASSES]):
            stored = torch.load(path, map_location="cpu", weights_only=True)
        values: Any = stored._store._mapping
        return {name: value.numpy() for name, value in values.items() if isinstance(value, Tensor)}
    except (pickle.UnpicklingError, RuntimeError, OSError, EOFError, AttributeError, TypeError, ValueError) as error:
        raise UserError(f"expected a graph that SALSA-CLRS has written ({one_line(error)})") from error


def _converted(task: str, values: Mapping[str, NumpyArray], hints: Hints) -> SparseData:
    """A trajectory of a task from what its file holds.

    Raises:
        UserError: If something is missing or of another form.
    """
    values = {{"weights": "A"}.get(name, name): value for name, value in values.items()}
    spec = SPARSE_TASKS[task].spec
    needed = {name for name, probe in spec.items() if probe.stage is not Stage.HINT} | {"edge_index", "length", "pos"}
    if missing := sorted(needed - values.keys()):
        raise UserError(f"expected {task} with {', '.join(missing)}, given {', '.join(values)}")
    length = int(values["length"].reshape(-1)[0])
    graph, places = _graph(values["edge_index"], values["pos"])
    given = {
        name: _value(name, probe, values[name], graph, places)
        for name, probe in spec.items()
        if name in values and (probe.stage is not Stage.HINT or hints != "none")
    }
    inputs = tuple(_input(given[name]) for name in at_stage(spec, Stage.INPUT) if name != "pos")
    own = run_task(task, graph, inputs, hints)
    if own.length.item() != length:
        raise UserError(f"expected a length of {own.length.item()}, as {task} takes on this graph, given {length}")
    for name, probe in spec.items():
        if name in given:
            kept = given[name][..., :1] if probe.stage is Stage.HINT and hints == "first" else given[name]
            own[name] = as_data(probe, kept)
    return own


def _graph(edge_index: NumpyArray, pos: NumpyArray) -> tuple[Graph, NumpyArray]:
    """The graph, and the place in the file of each of its edges, [E]."""
    n = len(pos)
    if edge_index.ndim != 2 or len(edge_index) != 2 or edge_index.dtype.kind not in "iu" or edge_index.size == 0:
        raise UserError(f"expected an edge_index of two rows of whole numbers, given {shown(edge_index)}")
    if n < 2 or not 0 <= edge_index.min() <= edge_index.max() < n:
        raise UserError(f"expected edges between nodes from 0 to {n - 1}, at least 2, given {shown(edge_index)}")
    senders, receivers = edge_index.astype(np.int64)
    graph = graph_of(np.stack([senders, receivers], axis=1)[senders < receivers], n)
    keys, ours = senders * n + receivers, graph.edge_index[0] * n + graph.edge_index[1]
    order = keys.argsort(kind="stable")
    if not np.array_equal(keys[order], np.sort(ours)):
        raise UserError(
            "expected an undirected graph with a loop at each node, given one without some direction or loop"
        )
    if num_reached(graph, 0) != n:
        raise UserError("expected a connected graph, given one that is not")
    return graph, order[np.searchsorted(keys[order], ours)]


def _value(name: str, probe: Probe, value: NumpyArray, graph: Graph, places: NumpyArray) -> NumpyArray:
    """The values of a probe as :class:`SparseData` has them: [N], [E] or [1], with time for a last axis if it has one.

    Raises:
        UserError: If it is of another shape, or does not choose one of what it is to choose of.
    """
    numbers = {Location.NODE: graph.num_nodes, Location.EDGE: len(places), Location.GRAPH: 1}
    number = len(places) if probe.type is Type.POINTER else numbers[probe.location]
    value = value.reshape(1, *value.shape[1:]) if probe.location is Location.GRAPH else value
    has_time = probe.stage is Stage.HINT or name == "randomness"
    num_axes = 1 + has_time + (probe.type is Type.CATEGORICAL)
    if value.ndim != num_axes or len(value) != number or not np.isfinite(value).all():
        raise UserError(f"expected {name} of {number} entries along {num_axes} axes, given {shown(value)}")
    if number == len(places):
        value = value[places]
    match probe.type:
        case Type.CATEGORICAL:
            return _chosen(name, value, axis=-1)
        case Type.MASK_ONE:
            return _chosen(name, value, axis=0)[None]
        case Type.POINTER:
            return _pointed(name, value, graph)
    return value


def _chosen(name: str, value: NumpyArray, axis: int) -> NumpyArray:
    """The index along an axis of what is 1 where all else is 0."""
    if not (np.isin(value, (0, 1)).all() and (value.sum(axis=axis) == 1).all()):
        raise UserError(f"expected {name} to be 1 at one entry and 0 elsewhere, given {shown(value)}")
    chosen: NumpyArray = value.argmax(axis=axis)
    return chosen


def _pointed(name: str, value: NumpyArray, graph: Graph) -> NumpyArray:
    """The edge that is 1 of those that each node sends, [N] or [N, T], of values [E] or [E, T]."""
    senders = graph.edge_index[0]
    order = senders.argsort(kind="stable")
    first = np.searchsorted(senders[order], np.arange(graph.num_nodes))
    is_one_of_each = np.isin(value, (0, 1)).all() and (np.add.reduceat(value[order], first, axis=0) == 1).all()
    if not is_one_of_each:
        raise UserError(f"expected {name} to be 1 on one edge from each node and 0 elsewhere, given {shown(value)}")
    numbers = np.arange(len(senders)).reshape(-1, *[1] * (value.ndim - 1))
    pointers: NumpyArray = np.add.reduceat((value * numbers)[order], first, axis=0).astype(np.int64)
    return pointers


def _input(value: NumpyArray) -> Any:
    """An input as its task's algorithm takes it: a source as a number, weights and randomness in double precision."""
    return int(value[0]) if value.dtype.kind == "i" else value.astype(np.float64)
