"""Trajectories of the tasks of SALSA-CLRS, for models that pass messages along edges only.

Source: Minder et al., "SALSA-CLRS: A Sparse and Scalable Benchmark for Algorithmic Reasoning", LoG 2023, and its code,
https://github.com/jkminder/SALSA-CLRS.
"""
# Axes: N nodes, E edges, T time.

import math
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.utils.data import Dataset

from nar.batch import NumpyArray
from nar.datasets.clrs30.families import draw_edges, known_family, sparse_density
from nar.datasets.engine.algorithm import Hints, check_hints, positions
from nar.datasets.engine.arguments import check_known, check_seed, check_whole, is_whole, plain, shown
from nar.datasets.engine.memory import UNCHECKED_BYTES, num_free_bytes
from nar.datasets.engine.trace import DTYPES, Trace
from nar.datasets.salsa.algorithms import SPARSE_TASKS
from nar.datasets.salsa.checks import checked_inputs
from nar.datasets.salsa.graph import Graph, check_graph, graph_of, num_reached
from nar.errors import UserError
from nar.sparse.batch import SparseBatch
from nar.specs import Location, Probe, Spec, Stage, Type, at_stage

try:
    from torch_geometric.data import Batch, Data
except ModuleNotFoundError as error:
    raise ImportError('nar.datasets.salsa.tasks needs PyTorch Geometric: pip install "torch-geometric>=2.8"') from error

MAX_NODES = 2**15  # the random graphs on more of them are drawn for minutes
_MAX_SAMPLES = 2**32  # their numbers are words of the seeds that they are drawn from
MAX_DRAWS = 1000  # SALSA-CLRS's sparsest training graphs are connected once in 18
_DTYPES_OF_INDICES = {Type.MASK_ONE: np.int32, Type.POINTER: np.int32}  # of nodes and of edges in a whole batch


class SparseData(Data):  # type: ignore[misc]
    """A trajectory on a sparse graph, or several in a batch of PyG's ``DataLoader``.

    Probes are attributes under their own names. Values of nodes are [N], of edges [E] and of the graph [1]; hints, and
    ``randomness``, have the time for their last axis: [N, T], [E, T] and [1, T]. In a batch nodes, edges and graphs are
    concatenated, and times after a graph's own ``length`` are padded with zeros. Mask and categorical probes are int8.
    A mask_one is the index of a node [1]. A pointer of node i is the index of the edge from i to the node it points at,
    which is ``edge_index[1, pi]``: the loop of i if it points at itself. In a batch both count from its beginning.

    Attributes:
        task: The task's name.
        edge_index: Both directions of each edge, then a loop for each node, [2, E].
        length: T, how many times hints are recorded in all, [1].
    """

    def __inc__(self, key: str, value: Any, *args: Any, **kwargs: Any) -> Any:
        probe = SPARSE_TASKS[self.task].spec.get(key)
        if probe is None or probe.type not in _DTYPES_OF_INDICES:
            return super().__inc__(key, value, *args, **kwargs)
        return self.num_nodes if probe.type is Type.MASK_ONE else self.num_edges


class SparseSplit(Dataset[SparseData]):
    """The base of what gives trajectories of a task, for PyG's ``DataLoader``.

    Attributes:
        task: One of :data:`SPARSE_TASKS`.
        graphs: The family of the graphs.
        sizes: Their numbers of nodes.
        num_samples: How many there are.
    """

    task: str
    graphs: str
    sizes: list[int]
    num_samples: int

    @property
    def spec(self) -> Spec:
        """The probes by name."""
        return SPARSE_TASKS[self.task].spec

    def __len__(self) -> int:
        return self.num_samples

    @abstractmethod
    def __getitem__(self, index: int) -> SparseData: ...

    def __getitems__(self, indices: Sequence[int]) -> list[SparseData]:
        """What a ``DataLoader`` asks for: the samples of a batch, padded to the same length."""
        return padded([self[index] for index in indices])


class SparseTask(SparseSplit):
    """A task of SALSA-CLRS on random connected graphs, drawn and run when they are asked for.

    For PyG's ``DataLoader``, which is given hints of the length of the longest in the batch. SALSA-CLRS trains on 10000
    Erdős–Rényi graphs of 4, 7, 11, 13 or 16 nodes, validates on 1000 of 16, and tests without hints on 1000 of each of
    the families ``erdos_renyi``, ``watts_strogatz`` and ``delaunay`` with each of 16, 80, 160, 800 and 1600 nodes.

    Args:
        task: One of :data:`SPARSE_TASKS`.
        graphs: One of :data:`nar.datasets.clrs30.families.GRAPH_FAMILIES`, drawn until the graph is connected.
        num_nodes: The size, or several of which each sample has one at random; from 2 to 2¹⁵.
        num_samples: How many.
        seed: With its index it determines a sample: a number below 2³², or several.
        hints: Which hints to keep; ``length`` counts all of them in any case.
        **parameters: Of the family. Those not given have its defaults, but for these, which are drawn for each sample
            as in SALSA-CLRS: ``p`` of Erdős–Rényi graphs (see :func:`nar.datasets.clrs30.families.sparse_density`), and
            of Watts–Strogatz graphs ``k`` (4, 6 or 8) and ``rewiring`` (from 0.05 to 0.2).

    Raises:
        UserError: If there is no such task, family or parameter, nothing can be drawn of what is given, or no connected
            graph is found.
    """

    def __init__(
        self,
        task: str,
        *,
        graphs: str = "erdos_renyi",
        num_nodes: int | Sequence[int] = 16,
        num_samples: int = 1000,
        seed: int | Sequence[int] = 0,
        hints: Hints = "all",
        **parameters: Any,
    ) -> None:
        check_known("task", task, SPARSE_TASKS)
        known_family(graphs)
        self.task = task
        self.graphs = graphs
        self.sizes = list(num_nodes) if isinstance(num_nodes, Sequence) else [num_nodes]
        self.hints = hints
        self.parameters = {name: plain(value) for name, value in parameters.items()}
        if not self.sizes or not all(is_whole(size) and size >= 2 for size in self.sizes):
            raise UserError(f"expected one or more sizes of at least 2 nodes, given {shown(num_nodes)}")
        if max(self.sizes) > MAX_NODES:
            raise UserError(f"expected sizes of at most {MAX_NODES} nodes, given {shown(num_nodes)}")
        self.sizes = [int(size) for size in self.sizes]
        check_whole("num_samples", num_samples, at_least=1)
        self.num_samples = int(num_samples)
        check_seed(seed)
        self.words = [int(word) for word in (seed if isinstance(seed, Sequence) else [seed])]
        check_hints(hints)
        if num_samples > _MAX_SAMPLES:
            raise UserError(f"expected num_samples of at most {_MAX_SAMPLES}, given {shown(num_samples)}")
        for size in self.sizes:
            self.draw_graph(np.random.RandomState(0), size)

    def __getitem__(self, index: int) -> SparseData:
        rng = np.random.RandomState([*self.words, range(self.num_samples)[index]])
        graph = self.draw_graph(rng, self.sizes[rng.randint(len(self.sizes))])
        return run_task(self.task, graph, SPARSE_TASKS[self.task].draw(rng, graph), self.hints)

    def draw_graph(self, rng: np.random.RandomState, num_nodes: int) -> Graph:
        """A connected graph of the family."""
        parameters = {**_drawn_parameters(self.graphs, rng, num_nodes), **self.parameters}
        for _ in range(MAX_DRAWS):
            graph = graph_of(draw_edges(self.graphs, rng, num_nodes, **parameters), num_nodes)
            if num_reached(graph, 0) == num_nodes:
                return graph
        raise UserError(
            f"expected a connected graph of {self.graphs} on {num_nodes} nodes, drawn {MAX_DRAWS} that are none: "
            "ask for more edges"
        )


def _drawn_parameters(family: str, rng: np.random.RandomState, num_nodes: int) -> dict[str, Any]:
    """The parameters of a family that SALSA-CLRS draws for each graph."""
    if family == "erdos_renyi":
        return {"p": sparse_density(rng, num_nodes)}
    if family == "watts_strogatz":
        degrees = [k for k in (4, 6, 8) if k < num_nodes] or [4]
        return {"k": degrees[rng.randint(len(degrees))], "rewiring": rng.uniform(0.05, 0.2)}
    return {}


def trajectory(task: str, graph: Graph, inputs: tuple[Any, ...], hints: Hints = "all") -> SparseData:
    """Run a task on a connected graph.

    Args:
        task: One of :data:`SPARSE_TASKS`.
        graph: Of at least 2 nodes, as :func:`graph_of` makes it.
        inputs: The inputs other than ``pos``, as the task draws them.
        hints: Which to keep.

    Raises:
        UserError: If the graph is not such a one (the flood of ``eccentricity`` might never come back) or an input not
            what the task takes, or the hints would not fit into memory.
    """
    check_known("task", task, SPARSE_TASKS)
    check_hints(hints)
    check_graph(graph)
    return run_task(task, graph, checked_inputs(task, graph, inputs), hints)


def run_task(task: str, graph: Graph, inputs: tuple[Any, ...], hints: Hints) -> SparseData:
    """Run a task on inputs that are known to be what it takes; see :func:`trajectory`."""
    reached = num_reached(graph, 0)
    if not 2 <= reached == graph.num_nodes:
        raise UserError(
            f"expected at least 2 nodes, all connected; of the {graph.num_nodes} given node 0 reaches {reached}"
        )
    spec, _, run = SPARSE_TASKS[task]
    trace = Trace(np.zeros(1, np.int64), _buffers(at_stage(spec, Stage.HINT), graph, 0))
    outputs = run(graph, *inputs, trace)
    length = int(trace.length[0])
    room = {"all": length, "first": 1, "none": 0}[hints]
    if room:
        trace = Trace(np.zeros(1, np.int64), _buffers(at_stage(spec, Stage.HINT), graph, room))
        run(graph, *inputs, trace)
    stages = {Stage.INPUT: (positions(graph.num_nodes), *inputs), Stage.OUTPUT: outputs}
    if room:
        stages[Stage.HINT] = tuple(np.atleast_2d(buffer.T) for buffer in trace.buffers)
    data = SparseData(task=task, edge_index=torch.as_tensor(graph.edge_index), num_nodes=graph.num_nodes)
    data.length = torch.tensor([length])
    for stage, values in stages.items():
        for (name, probe), value in zip(at_stage(spec, stage).items(), values, strict=True):
            data[name] = as_data(probe, value)
    return data


def padded(data: Iterable[SparseData]) -> list[SparseData]:
    """Trajectories of one task with hints as long as the longest, so that PyG's ``Batch`` takes them."""
    samples = [copy(sample) for sample in data]
    spec = SPARSE_TASKS[samples[0].task].spec
    for name in ["randomness", *at_stage(spec, Stage.HINT)]:
        if name in samples[0]:
            longest = max(sample[name].shape[-1] for sample in samples)
            for sample in samples:
                sample[name] = pad(sample[name], (0, longest - sample[name].shape[-1]))
    return samples


def joined(samples: Sequence[SparseData], num_nodes: int) -> SparseBatch:
    """Trajectories of one task, with hints of one length, as a batch with edges in the order of their receivers.

    Args:
        samples: Of one task.
        num_nodes: The size that was asked for.
    """
    data = Batch.from_data_list(samples)
    order = data.edge_index[1].argsort(stable=True)
    new_place = torch.empty_like(order).index_copy(0, order, torch.arange(len(order)))

    def of_stage(stage: Stage) -> dict[str, Tensor]:
        probes: Mapping[str, Any] = at_stage(SPARSE_TASKS[samples[0].task].spec, stage)
        values = {}
        for name, probe in probes.items():
            value = data[name]
            if probe.type is Type.POINTER:
                value = new_place[value.long()]
            elif probe.location is Location.EDGE:
                value = value[order]
            values[name] = value
        return values

    stages = (of_stage(stage) for stage in (Stage.INPUT, Stage.HINT, Stage.OUTPUT))
    return SparseBatch(samples[0].task, num_nodes, data.edge_index[:, order], data.batch, data.length, *stages)


def _dtype(probe: Probe) -> Any:
    """The dtype of a probe's compact values."""
    return np.dtype({**DTYPES, **_DTYPES_OF_INDICES}[probe.type])


def _buffers(spec: Spec, graph: Graph, num_times: int) -> tuple[NumpyArray, ...]:
    """Room for hints, [T, N], [T, E] or [T]."""
    sizes = {Location.NODE: [graph.num_nodes], Location.EDGE: [len(graph.receivers)], Location.GRAPH: []}
    shapes = [(num_times, *([] if probe.type is Type.MASK_ONE else sizes[probe.location])) for probe in spec.values()]
    types = [_dtype(probe) for probe in spec.values()]
    needed = sum(math.prod(shape) * type_.itemsize for shape, type_ in zip(shapes, types, strict=True))
    free = num_free_bytes() if needed >= UNCHECKED_BYTES else needed
    if needed > free:
        raise UserError(
            f"{num_times} hints on {graph.num_nodes} nodes would take {needed / 2**30:.1f} GiB, and "
            f'{free / 2**30:.1f} GiB are free: ask for hints="first" or "none"'
        )
    return tuple(np.zeros(shape, type_) for shape, type_ in zip(shapes, types, strict=True))


def as_data(probe: Probe, value: Any) -> Tensor:
    """The data of a probe, with an axis of graphs if it has one value for each."""
    data = np.atleast_1d(value)
    if probe.type is Type.SCALAR:
        return torch.tensor(data, dtype=torch.get_default_dtype())
    return torch.as_tensor(data.astype(_dtype(probe), copy=False))
