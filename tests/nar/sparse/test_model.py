"""Encode-process-decode along edges, its losses and scores, and commands for it."""
# Axes: B graphs; N nodes, E edges of all graphs together; T time, H hidden.

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from nar.sparse.batch import SparseBatch
from nar.sparse.model import SparsePredictions
from nar.sparse.scores import GRAPHS, _first_of_the_highest, counts, counts_by_graph, entry_losses, losses, scores
from nar.specs import Location, Probe, Stage, Type, at_stage
from nar.training.checkpoint import load_reasoner, read_checkpoint
from nar.training.sparse_reasoner import SparseReasoner

with warnings.catch_warnings():  # PyTorch Geometric 2.8 compiles with what torch 2.13 calls deprecated
    warnings.simplefilter("ignore")
    from nar.datasets.salsa.datamodule import batch_of
    from nar.datasets.salsa.tasks import SPARSE_TASKS, SparseTask
    from nar.processors.sparse import ConvProcessor, PGNConv

H = 8
CONFIG = Path(__file__).parents[3] / "scripts" / "configs" / "salsa.yaml"
POINTER = Probe(Stage.OUTPUT, Location.NODE, Type.POINTER)
SPEC = {"pi": POINTER}
every_task = pytest.mark.parametrize("task", SPARSE_TASKS)


def reasoner(task: str, triplet_dim: int = 0, **settings: Any) -> SparseReasoner:
    """A small model."""
    conv = PGNConv(2 * H, H, H, H, triplet_dim=triplet_dim)
    return SparseReasoner({task: SPARSE_TASKS[task].spec}, ConvProcessor(conv, H), **settings)


@pytest.fixture
def _double() -> Iterator[None]:
    """Everything in double precision."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def samples(task: str, num_nodes: int | list[int] = 6) -> SparseTask:
    return SparseTask(task, num_nodes=num_nodes, num_samples=20)


@every_task
@pytest.mark.parametrize("hint_mode", ["encoded_decoded", "none"])
def test_every_weight_has_a_gradient(task: str, hint_mode: Any) -> None:
    model, batch = reasoner(task, hint_mode=hint_mode), batch_of(samples(task), range(3))
    by_probe = losses(SPARSE_TASKS[task].spec, model(batch), batch)
    sum(by_probe.values()).backward()  # type: ignore[union-attr]
    stages = (Stage.OUTPUT,) if hint_mode == "none" else (Stage.OUTPUT, Stage.HINT)
    assert by_probe.keys() == {name for stage in stages for name in at_stage(SPARSE_TASKS[task].spec, stage)}
    assert [name for name, x in model.named_parameters() if x.grad is None] == []


@every_task
@pytest.mark.usefixtures("_double")
def test_a_graph_is_predicted_as_if_it_were_alone(task: str) -> None:
    model, data = reasoner(task).eval(), samples(task, [3, 5, 8])
    together = batch_of(data, range(5))
    assert len({*together.lengths.tolist()}) > 1
    outputs = model(together).outputs
    for graph in range(5):
        alone = model(batch_of(data, [graph])).outputs
        for name, logits in outputs.items():
            probe = SPARSE_TASKS[task].spec[name]
            among, _ = together.groups(probe) if probe.type is Type.POINTER else (None, 0)
            of_graph = together.graph_of(probe) if among is None else together.graph[among]
            torch.testing.assert_close(logits[of_graph == graph], alone[name])


def test_only_the_first_hint_is_looked_at() -> None:
    model, batch = reasoner("dijkstra"), batch_of(samples("dijkstra"), range(2))
    changed = {name: torch.cat([hint[..., :1], hint[..., 1:] * 0], dim=-1) for name, hint in batch.hints.items()}
    assert model(batch).outputs["pi"].equal(model(batch._replace(hints=changed)).outputs["pi"])
    first = {**batch.hints, "d": batch.hints["d"] + 1}
    assert not model(batch).outputs["pi"].equal(model(batch._replace(hints=first)).outputs["pi"])


def test_without_hints_none_are_looked_at() -> None:
    model, batch = reasoner("dijkstra", hint_mode="none"), batch_of(samples("dijkstra"), range(2))
    assert model(batch).outputs["pi"].equal(model(batch._replace(hints={})).outputs["pi"])


def test_triplets_give_edges_states_for_the_decoders() -> None:
    model, batch = reasoner("bfs", triplet_dim=2), batch_of(samples("bfs"), range(2))
    assert model.model.processor.has_edge_states
    assert model(batch).outputs["pi"].shape == batch.edge_index[0].shape


def small_batch(truth: list[int]) -> SparseBatch:
    """Two graphs of two nodes, of which each sends to both; the pointers of the nodes are the edges of `truth`."""
    edge_index = torch.tensor([[0, 1, 0, 1, 2, 3, 2, 3], [0, 0, 1, 1, 2, 2, 3, 3]])
    lengths = torch.tensor([3, 2])
    return SparseBatch("", 2, edge_index, torch.tensor([0, 0, 1, 1]), lengths, {}, {}, {"pi": torch.tensor(truth)})


def test_the_loss_of_a_pointer_is_cross_entropy_among_the_edges_that_its_node_sends() -> None:
    batch, logits = small_batch([0, 3, 6, 5]), torch.randn(8)
    by_node = logits.view(2, 2, 2).mT.reshape(4, 2)  # of each sender
    expected = cross_entropy(by_node, torch.tensor([0, 1, 1, 0]), reduction="none")
    torch.testing.assert_close(entry_losses(POINTER, logits, batch.outputs["pi"], batch), expected)


def test_hints_are_compared_with_the_next_ones_as_long_as_their_graph_runs() -> None:
    probe = Probe(Stage.HINT, Location.NODE, Type.SCALAR)
    batch = small_batch([0, 0, 0, 0])._replace(
        hints={"d": torch.tensor([[9.0, 1, 2], [9, 1, 2], [9, 1, 5], [9, 1, 5]])}
    )
    predictions = SparsePredictions({}, [{"d": torch.zeros(4)}, {"d": torch.zeros(4)}])
    found = losses({"d": probe}, predictions, batch)
    torch.testing.assert_close(found["d"], torch.tensor((4 * 1 + 2 * 4) / 6))


@pytest.mark.parametrize(
    ("truth", "nodes", "graphs"), [([0, 3, 6, 5], 1.0, 1.0), ([0, 3, 6, 7], 0.75, 0.5), ([2, 3, 4, 5], 0.5, 0.0)]
)
def test_accuracies_are_of_nodes_and_of_graphs_that_are_right_throughout(
    truth: list[int], nodes: float, graphs: float
) -> None:
    logits = torch.zeros(8).index_fill(0, torch.tensor([0, 3, 6, 5]), 1)
    found = scores(counts(counts_by_graph(SPEC, {"pi": logits}, small_batch(truth))))
    assert found == {"pi": nodes, GRAPHS: graphs, "score": nodes}


def test_of_equal_logits_the_first_is_chosen_so_that_a_constant_is_not_right_everywhere() -> None:
    senders = torch.tensor([0, 1, 0, 1])
    assert _first_of_the_highest(torch.zeros(4), senders, 2).tolist() == [0, 1]
    assert _first_of_the_highest(torch.full((4,), torch.nan), senders, 3).tolist() == [4, 4, 4]


@pytest.mark.parametrize(
    ("type_", "logits", "truth", "right"),
    [
        (Type.SCALAR, [2.4, 2.6, 3.0], [2.0, 2.0, 3.0], 2),
        (Type.MASK, [0.1, -0.1, 3.0], [1, 1, 0], 1),
    ],
)
def test_a_scalar_is_right_if_it_rounds_to_the_truth_and_a_mask_by_its_sign(
    type_: Type, logits: list[float], truth: list[float], right: int
) -> None:
    probe = Probe(Stage.OUTPUT, Location.NODE, type_)
    batch = small_batch([])._replace(graph=torch.tensor([0, 0, 1]), outputs={"x": torch.tensor(truth)})
    assert counts(counts_by_graph({"x": probe}, {"x": torch.tensor(logits)}, batch))["x"].tolist() == [right, 3]


@pytest.mark.slow
def test_learns_to_run_bfs() -> None:
    model, data = reasoner("bfs", learning_rate=1e-2), samples("bfs", 5)
    optimizer = model.configure_optimizers()

    def loss(batch: SparseBatch) -> Tensor:
        return torch.stack(list(losses(data.spec, model(batch), batch).values())).sum()

    held_out = batch_of(data, range(10, 20))
    before = float(loss(held_out).detach())
    for step in range(40):
        optimizer.zero_grad()
        loss(batch_of(data, range(step % 10, step % 10 + 2))).backward()
        optimizer.step()
    assert float(loss(held_out).detach()) < before / 2


@pytest.fixture
def small_salsa(tmp_path: Path) -> list[str]:
    """Settings that make a run short."""
    return [
        *("--model", "SparseReasoner"),
        *("--data.train_sizes", "[4,5]", "--data.num_val", "2", "--data.num_test", "2", "--data.batch_size", "2"),
        *("--trainer.default_root_dir", str(tmp_path / "run"), "--trainer.accelerator", "cpu"),
        *("--trainer.max_steps", "4", "--trainer.val_check_interval", "2", "--trainer.enable_progress_bar", "false"),
        *("--trainer.log_every_n_steps", "1", "--trainer.enable_model_summary", "false"),
    ]


@pytest.mark.slow
def test_the_shipped_configuration_is_trained_resumed_and_tested(
    run: Callable[..., None], small_salsa: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    given = ("--config", str(CONFIG), *small_salsa)
    run("fit", *given)
    run("fit", *given, "--trainer.max_steps", "6", "--ckpt_path", "last")
    run("validate", "--ckpt_path", "run/best.ckpt", "--data.num_val", "2")
    capsys.readouterr()
    run("test", "--ckpt_path", "run/best.ckpt", "--data.num_test", "2", "--data.test_sizes", "[6,9]")
    assert GRAPHS in capsys.readouterr().out
    assert Path("run/ood.csv").read_text().count("bfs") == 2 * 3
    assert isinstance(load_reasoner("run/best.ckpt"), SparseReasoner)


@pytest.mark.slow
def test_several_algorithms_share_a_model(run: Callable[..., None], small_salsa: list[str]) -> None:
    run("fit", *small_salsa, "--data.algorithms", "[bfs,eccentricity]")
    assert set(load_reasoner("run/best.ckpt").specs) == {"bfs", "eccentricity"}


@pytest.mark.slow
def test_a_checkpoint_says_what_kind_of_model_it_is_of(
    run: Callable[..., None], small: list[str], small_salsa: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    run("fit", *small_salsa)
    run("fit", *small, "--trainer.default_root_dir", "dense")
    for path, theirs, other in (("run", "SparseReasoner", "Reasoner"), ("dense", "Reasoner", "SparseReasoner")):
        run("validate", "--ckpt_path", f"{path}/best.ckpt")
        capsys.readouterr()
        with pytest.raises(SystemExit, match="2"):
            run("validate", "--model", other, "--ckpt_path", f"{path}/best.ckpt")
        expected = f"{path}/best.ckpt is a checkpoint of a {theirs}: expected one of a {other}"
        assert expected in capsys.readouterr().err


@pytest.mark.slow
def test_a_run_goes_on_from_the_configuration_that_it_saved(run: Callable[..., None], small_salsa: list[str]) -> None:
    run("fit", *small_salsa)
    saved = "run/logs/version_0/config.yaml"
    run("fit", "--config", saved, "--ckpt_path", "last", "--trainer.max_steps", "6")
    assert read_checkpoint("run/last.ckpt")["global_step"] == 6


def test_there_are_no_predictions_of_sparse_graphs(
    run: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        run("predict", "--model", "SparseReasoner")
    assert "nar predict expects a Reasoner, given a SparseReasoner" in capsys.readouterr().err


def test_without_pytorch_geometric_the_command_says_what_to_install(
    run: Callable[..., None], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(name: str) -> None:
        raise ImportError('nar.datasets.salsa.tasks needs PyTorch Geometric: pip install "torch-geometric>=2.8"')

    monkeypatch.setattr("nar.cli.kinds.import_module", refuse)
    with pytest.raises(SystemExit, match="2"):
        run("fit", "--model", "SparseReasoner")
    assert 'pip install "torch-geometric>=2.8"' in capsys.readouterr().err


def test_the_command_of_former_versions_says_what_to_write(
    run: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        run("salsa", "fit")
    assert "write nar fit --config scripts/configs/salsa.yaml, or nar fit --model SparseReasoner" in (
        capsys.readouterr().err
    )


@pytest.mark.slow
@every_task
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_a_reasoner_learns_in_any_precision(task: str, dtype: torch.dtype) -> None:
    model, batch, made = reasoner(task), batch_of(samples(task), range(3)), []
    for precision in (torch.float64, dtype):
        by_probe = losses(SPARSE_TASKS[task].spec, model.to(precision)(batch), batch)
        made.append(torch.stack(list(by_probe.values())).sum().double())
    made[1].backward()
    torch.testing.assert_close(made[1], made[0], rtol=0.05, atol=0)
