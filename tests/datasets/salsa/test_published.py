"""Files in the form in which SALSA-CLRS's own code writes them, as trajectories."""
# Axes: N nodes, E edges, T time.

import os
import sys
import types
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nar.errors import UserError
from nar.specs import Location, Stage, Type, at_stage

with warnings.catch_warnings():  # PyTorch Geometric 2.8 compiles with what torch 2.13 calls deprecated
    warnings.simplefilter("ignore")
    from torch_geometric.data import Data

    from nar.datasets.salsa import SALSA, SPARSE_TASKS, SparseData, SparseTask, published_tasks
    from nar.datasets.salsa.published import PublishedTask

TEST, TRAIN = "graphgenerator=ws_p_range=['5.00e-02', '2.00e-01']_k=[4, 6, 8]_n=9-nohints", "graphgenerator=er_n=[4, 7]"
every_task = pytest.mark.parametrize("task", SPARSE_TASKS)


@pytest.fixture
def published_class(monkeypatch: pytest.MonkeyPatch) -> Iterator[type]:
    """The class whose objects the published files hold, in a module that whoever reads them need not have."""
    module: Any = types.ModuleType("salsaclrs.data")
    module.CLRSData = type("CLRSData", (Data,), {"__module__": "salsaclrs.data"})
    monkeypatch.setitem(sys.modules, "salsaclrs", types.ModuleType("salsaclrs"))
    monkeypatch.setitem(sys.modules, "salsaclrs.data", module)
    return module.CLRSData


def as_published(data: SparseData, published_class: Any, *, with_hints: bool) -> Any:
    """A trajectory as SALSA-CLRS saves it: by matrices of nodes by nodes, of which it keeps the edges."""
    n, spec = data.num_nodes, SPARSE_TASKS[data.task].spec
    adjacency = np.zeros((n, n))
    adjacency[tuple(data.edge_index.numpy())] = 1
    edges = np.nonzero(adjacency)
    stored: dict[str, Any] = {"length": torch.tensor(data.length.item()), "edge_index": torch.tensor(np.stack(edges))}

    def on_edges(values: Any) -> Any:
        matrix = np.zeros((n, n, *values.shape[1:]))
        matrix[tuple(data.edge_index.numpy())] = values
        return matrix[edges]

    for name, probe in spec.items():
        if probe.stage is Stage.HINT and not with_hints:
            continue
        values: Any = data[name].numpy()
        match probe.type, probe.location:
            case Type.POINTER, _:
                targets = data.edge_index.numpy()[1, values]
                one_hot = np.eye(n)[targets]  # [N, N], or [N, T, N]
                values = np.moveaxis(one_hot, -1, 1)[edges]
            case Type.MASK_ONE, _:
                values = np.eye(n)[values[0]].T  # [N], or [N, T]
            case Type.CATEGORICAL, _:
                values = np.eye(probe.num_classes)[values]
            case _, Location.EDGE:
                values = on_edges(values)
            case _, Location.GRAPH if probe.stage is Stage.OUTPUT:
                values = values[0]
        is_pointed_output = (probe.stage, probe.type) == (Stage.OUTPUT, Type.POINTER)
        stored["weights" if name == "A" else name] = torch.tensor(
            np.asarray(values), dtype=torch.float64 if is_pointed_output else torch.float32
        )
    saved = published_class(**stored)
    saved.inputs = [name for name in at_stage(spec, Stage.INPUT) if name != "A"]
    saved.hints = list(at_stage(spec, Stage.HINT)) if with_hints else []
    saved.outputs = list(at_stage(spec, Stage.OUTPUT))
    return saved


@pytest.fixture
def write(tmp_path: Path, published_class: type) -> Callable[..., SparseTask]:
    """What draws graphs of a task and writes them as published; it returns what it has drawn."""

    def written(task: str, name: str, num_nodes: Any, *, split: str = "test", number: int = 3) -> SparseTask:
        drawn = SparseTask(task, num_nodes=num_nodes, num_samples=number, seed=7)
        folder = tmp_path / task / split / name / "processed"
        folder.mkdir(parents=True)
        for index in range(number):
            saved = as_published(drawn[index], published_class, with_hints="nohints" not in name)
            torch.save(saved, folder / f"data_{index}.pt")
        for other in ("pre_filter.pt", "pre_transform.pt"):
            torch.save("None", folder / other)
        return drawn

    return written


def assert_same(one: SparseData, other: SparseData) -> None:
    """Fail unless two trajectories are the same but for the rounding to single precision of what was published."""
    assert one.keys() == other.keys()
    assert one.task == other.task
    for name, value in other.to_dict().items():
        if isinstance(value, torch.Tensor):
            assert one[name].dtype == value.dtype, name
            torch.testing.assert_close(one[name], value, rtol=1e-6, atol=1e-6)


@pytest.mark.slow
@every_task
@pytest.mark.parametrize("hints", ["all", "first", "none"])
@pytest.mark.parametrize(("name", "split"), [(TEST, "test"), (TRAIN, "train")])
def test_what_is_published_is_read_as_what_was_drawn(
    task: str, hints: Any, name: str, split: str, write: Callable[..., SparseTask], tmp_path: Path
) -> None:
    drawn = write(task, name, 9 if split == "test" else [4, 7], split=split)
    drawn.hints = hints
    for module in ("salsaclrs.data", "salsaclrs"):
        del sys.modules[module]
    (published,) = published_tasks(tmp_path, task, split, hints)
    assert (published.graphs, published.sizes) == (
        ("watts_strogatz", [9]) if split == "test" else ("erdos_renyi", [4, 7])
    )
    assert (len(published), published.spec) == (3, drawn.spec)
    for index in range(3):
        assert_same(published[index], drawn[index])
    for one, other in zip(published.__getitems__([2, 0]), drawn.__getitems__([2, 0]), strict=True):
        assert_same(one, other)


def test_hints_and_outputs_are_those_of_the_file(
    write: Callable[..., SparseTask], tmp_path: Path, published_class: type
) -> None:
    write("bfs", TRAIN, 7, split="train", number=1)
    path = tmp_path / "bfs/train" / TRAIN / "processed/data_0.pt"
    stored: Any = torch.load(path, weights_only=False)
    stored.reach_h[:] = torch.tensor([[1.0, 0, 0, 0, 0, 0, 0]]).T
    senders, receivers = stored.edge_index
    stored.pi = (senders == receivers).double()
    torch.save(stored, path)
    data = published_tasks(tmp_path, "bfs", "train")[0][0]
    assert data.reach_h.sum(dim=0).eq(1).all()
    assert data.edge_index[1, data.pi.long()].tolist() == list(range(7))


@pytest.mark.parametrize(
    ("name", "family", "sizes"),
    [
        ("graphgenerator=delaunay_n=1600-nohints", "delaunay", [1600]),
        ("graphgenerator=er_p_range=['1.73e-01', '5.20e-01']_n=[4, 7, 11]", "erdos_renyi", [4, 7, 11]),
        ("graphgenerator=er_n=range(16, 20)_p_range=['1.0e-01', '3.0e-01']", "erdos_renyi", [16, 17, 18, 19]),
        ("graphgenerator=er_n=16_p_range=['1.0e-01', '3.0e-01']_directed=False", "erdos_renyi", [16]),
        ("graphgenerator=ws_p=0.1_k=range(2, 4)_n=80", "watts_strogatz", [80]),
    ],
)
def test_graphs_and_sizes_are_known_by_the_name_of_the_folder(
    name: str, family: str, sizes: list[int], tmp_path: Path
) -> None:
    (tmp_path / name / "processed").mkdir(parents=True)
    (tmp_path / name / "processed/data_0.pt").touch()
    task = PublishedTask("bfs", tmp_path / name)
    assert (task.graphs, task.sizes) == (family, sizes)


def test_published_tests_are_tested_on_by_the_data_module(write: Callable[..., SparseTask], tmp_path: Path) -> None:
    drawn = write("dijkstra", "graphgenerator=er_p_range=['0.1', '0.3']_n=9-nohints", 9)
    write("dijkstra", TEST, 9)
    data = SALSA("dijkstra", published=str(tmp_path), test_sizes=[9], num_test=2, eval_batch_size=3)
    (batch,) = data.test_dataloader()
    assert (batch.key, len(batch.lengths), batch.hints["pi_h"].shape[-1]) == (("dijkstra", 9), 2, 1)
    weights = [sorted(drawn[index].A.tolist()) for index in range(2)]
    of_graph = batch.graph[batch.edge_index[0]]
    assert [sorted(batch.inputs["A"][of_graph == graph].tolist()) for graph in range(2)] == weights
    other = SALSA("dijkstra", published=str(tmp_path), test_sizes=[9], test_graphs="watts_strogatz")
    assert len(other.test_tasks()[0]) == 3
    with pytest.raises(
        UserError, match="published tests of dijkstra on erdos_renyi of 16 nodes, given erdos_renyi of 9"
    ):
        SALSA("dijkstra", published=str(tmp_path))
    with pytest.raises(UserError, match="expected no test_graph_args of published graphs"):
        SALSA("dijkstra", published=str(tmp_path), test_sizes=[9], test_graph_args={"p": 0.5})
    with pytest.raises(UserError, match=r"expected folders graphgenerator=... of SALSA-CLRS in .*bfs"):
        SALSA("bfs", published=str(tmp_path))


class Harmful:
    """What runs a command when it is unpickled."""

    def __reduce__(self) -> Any:
        return os.mkdir, ("harmed",)


def test_no_code_that_a_file_names_is_run(
    write: Callable[..., SparseTask], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write("bfs", TEST, 9)
    path = tmp_path / "bfs/test" / TEST / "processed/data_0.pt"
    stored: Any = torch.load(path, weights_only=False)
    stored.pi = Harmful()
    torch.save(stored, path)
    with pytest.raises(UserError, match=r"data_0\.pt: expected a graph that SALSA-CLRS has written"):
        published_tasks(tmp_path, "bfs")[0][0]
    assert not Path("harmed").exists()


def set_to(name: str, value: Any) -> Callable[[Any], None]:
    return lambda stored: stored.__setitem__(name, value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda stored: stored.__delitem__("s"), "expected dijkstra with s, given"),
        (lambda stored: stored.__delitem__("weights"), "expected dijkstra with A, given"),
        (set_to("weights", torch.ones(3)), "expected A of .* entries along 1 axes"),
        (set_to("s", torch.zeros(9)), "expected s to be 1 at one entry"),
        (set_to("length", torch.tensor(3)), "expected a length of 10, as dijkstra takes on this graph, given 3"),
        (lambda stored: stored.pi.zero_(), "expected pi to be 1 on one edge from each node"),
        (lambda stored: stored.weights.fill_(torch.nan), "expected A of"),
        (lambda stored: stored.edge_index[0].fill_(9), "expected edges between nodes from 0 to 8"),
        (lambda stored: stored.edge_index[0].fill_(0), "expected each edge once|without some direction or loop"),
        (set_to("edge_index", torch.arange(9).repeat(2, 1)), "expected a connected graph"),
    ],
)
def test_what_is_no_graph_of_the_task_is_refused_by_its_file(
    change: Callable[[Any], Any], message: str, write: Callable[..., SparseTask], tmp_path: Path
) -> None:
    write("dijkstra", TEST, 9)
    path = tmp_path / "dijkstra/test" / TEST / "processed/data_1.pt"
    stored = torch.load(path, weights_only=False)
    change(stored)
    torch.save(stored, path)
    with pytest.raises(UserError, match=f"data_1.pt: .*({message})"):
        published_tasks(tmp_path, "dijkstra")[0][1]


def test_folders_of_another_form_are_refused(write: Callable[..., SparseTask], tmp_path: Path) -> None:
    write("bfs", TEST, 9)
    folder = tmp_path / "bfs/test" / TEST
    (folder / "processed/data_1.pt").unlink()
    with pytest.raises(UserError, match=r"expected data_0\.pt, data_1\.pt and so on in .* given 2 of them"):
        published_tasks(tmp_path, "bfs")
    with pytest.raises(UserError, match=r"expected a folder graphgenerator=\.\.\. of SALSA-CLRS"):
        PublishedTask("bfs", tmp_path)
    with pytest.raises(UserError, match="unknown split tests"):
        published_tasks(tmp_path, "bfs", "tests")
    with pytest.raises(UserError, match="expected num_samples"):
        PublishedTask("bfs", folder, num_samples=0)
    (folder / "processed/data_0.pt").write_text("nothing")
    (folder / "processed/data_2.pt").rename(folder / "processed/data_1.pt")
    with pytest.raises(UserError, match=r"data_0\.pt: expected a graph that SALSA-CLRS has written"):
        published_tasks(tmp_path, "bfs")[0][0]
