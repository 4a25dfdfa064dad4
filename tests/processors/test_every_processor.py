"""What holds for each of the dense processors: at any size, in any precision, and for whatever looks on."""
# Axes: B graphs, N nodes, H hidden. What belongs to an edge is [B, sender, receiver, ...].

from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any, get_args

import pytest
import torch
from layers import Inputs, random_inputs, randomised, results
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.export import Dim, export

from nar.processor import Processor
from nar.processors import GAT, MPNN, PGN, Asynchronous, DeepSets, GATv2, MemNet, TripletGMPNN
from nar.processors.reductions import ReductionName

B, N, H = 2, 4, 4


def makers() -> Iterator[tuple[str, Callable[[], Processor]]]:
    yield "PGN", lambda: PGN(H, gated=True, triplet_dim=2)
    yield "MPNN", lambda: MPNN(H, layer_norm=False)
    yield "TripletGMPNN", lambda: TripletGMPNN(H)
    yield "DeepSets", lambda: DeepSets(H)
    for senders in ("neighbours", "all"):
        yield f"GAT, {senders}", lambda senders=senders: GAT(H, num_heads=2, senders=senders)
        yield f"GATv2, {senders}", lambda senders=senders: GATv2(H, num_heads=2, senders=senders)
        yield f"MemNet, {senders}", lambda senders=senders: MemNet(H, senders=senders, memory_size=16)
    yield "Asynchronous", lambda: Asynchronous(H)
    yield (
        "Asynchronous, smooth",
        lambda: Asynchronous(H, reduction="logsumexp", temperature=1.0, message="tropical bilinear"),
    )
    yield (
        "Asynchronous, networks",
        lambda: Asynchronous(H, reduction="sum", message="mlp", update="network", arguments="network"),
    )
    for name in get_args(ReductionName):
        yield f"PGN, {name}", lambda name=name: PGN(H, reduction=name, triplet_dim=2, triplet_reduction=name)
        yield f"MPNN, {name}", lambda name=name: MPNN(H, reduction=name)


EVERY = dict(makers())
EVERY_PROCESSOR = pytest.mark.parametrize("name", EVERY)
WITHOUT_LSTM = pytest.mark.parametrize("name", [name for name in EVERY if "lstm" not in name])
"""PyTorch's own LSTM is not for all of its transforms."""
SOME = pytest.mark.parametrize(
    "name",
    [
        *(kind for kind in EVERY if not kind.startswith(("MPNN, ", "PGN, ")) and not kind.endswith("all")),
        *("PGN, softmax", "PGN, adaptive softmax", "PGN, dm-clrs mean"),
    ],
)
"""Of what takes a compiler seconds."""


def made(name: str) -> Processor:
    return randomised(EVERY[name]().eval())


def inputs(num_graphs: int = B, num_nodes: int = N) -> Inputs:
    """Of features that are other words for a MemNet."""
    given = random_inputs(H, num_graphs, num_nodes)
    return given._replace(node_fts=3 * given.node_fts, edge_fts=3 * given.edge_fts, graph_fts=3 * given.graph_fts)


@EVERY_PROCESSOR
@pytest.mark.parametrize(("num_graphs", "num_nodes"), [(0, 4), (0, 1), (2, 0), (2, 1), (0, 0), (1, 1)])
def test_there_may_be_no_graphs_and_no_nodes(name: str, num_graphs: int, num_nodes: int) -> None:
    layer, given = made(name), inputs(num_graphs, num_nodes)
    states, *edge_states = results(layer, [x.requires_grad_(x.is_floating_point()) for x in given])
    assert states.shape == (num_graphs, num_nodes, H)
    assert [x.shape for x in edge_states] in ([], [(num_graphs, num_nodes, num_nodes, H)])
    torch.stack([x.sum() for x in (states, *edge_states)]).sum().backward()
    for parameter in layer.parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all()


@EVERY_PROCESSOR
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_any_precision_gives_about_the_same(name: str, dtype: torch.dtype) -> None:
    layer, given = made(name), inputs()
    expected = results(layer, given)
    given = Inputs(*(x.to(dtype).requires_grad_() if x.is_floating_point() else x for x in given))
    found = results(layer.to(dtype), given)
    assert {x.dtype for x in found} == {dtype}
    tolerance = {torch.bfloat16: 0.1, torch.float16: 0.02, torch.float32: 1e-4}[dtype]
    for x, y in zip(found, expected, strict=True):
        if name.startswith("MemNet"):
            continue  # which reads numbers that are rounded as other words
        assert (x.double() - y).norm() <= tolerance * y.norm()
    torch.stack([x.sum() for x in found]).sum().backward()
    for parameter in layer.parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all()


def spoilt(given: Inputs, field: str, value: float) -> Inputs:
    """The inputs with another value in a place of the first graph, where there is an edge."""
    x = getattr(given, field).clone()
    x[(0, 1, 2, 1)[: x.dim()] if field == "edge_fts" else (0, 1, 1)[: x.dim()]] = value
    adj = given.adj.clone()
    adj[0, 1, 2] = True
    return given._replace(**{field: x, "adj": adj})


@EVERY_PROCESSOR
@pytest.mark.parametrize("field", ["node_fts", "edge_fts", "graph_fts", "hidden"])
def test_what_is_not_a_number_makes_what_depends_on_it_none(name: str, field: str) -> None:
    layer, given = made(name), inputs()
    usual, *others = (results(layer, spoilt(given, field, value)) for value in (0.0, 30.0, -30.0, 2.0, -3.0))
    found = results(layer, spoilt(given, field, torch.nan))
    for i, x in enumerate(found):
        depends = torch.stack([other[i] != usual[i] for other in others]).any(dim=0)
        assert x[depends].isnan().all()
        torch.testing.assert_close(x[1:], usual[i][1:])
    if not (name.startswith("MemNet") and field == "hidden") and not ("DeepSets" in name and field == "edge_fts"):
        assert any(x.isnan().any() for x in found)


@EVERY_PROCESSOR
@pytest.mark.parametrize("field", ["node_fts", "edge_fts", "graph_fts", "hidden"])
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_what_is_not_finite_gives_what_the_formula_says(name: str, field: str, value: float) -> None:
    layer, given = made(name), spoilt(inputs(), field, value)
    found = results(layer, given)
    with forward_ad.dual_level():  # in which formulas take the place of compiled code
        expected = results(layer, given)
    if "softmax" not in name:
        torch.testing.assert_close(found, expected, equal_nan=True)
    for x, y in zip(found, expected, strict=True):
        assert torch.equal(x.isfinite(), y.isfinite())


def states_of(layer: nn.Module, given: Inputs) -> Callable[[Tensor], Tensor]:
    """The node states as a function of those before."""
    return lambda hidden: results(layer, given._replace(hidden=hidden))[0]


@WITHOUT_LSTM
def test_transforms_of_functions_agree_with_autograd(name: str) -> None:
    layer, given = made(name), inputs()
    function, hidden = states_of(layer, given), given.hidden
    expected = torch.autograd.functional.jacobian(function, hidden)
    for jacobian in (torch.func.jacrev, torch.func.jacfwd):
        torch.testing.assert_close(jacobian(function)(hidden), expected)
    old = torch.autograd.functional.jacobian(function, hidden, vectorize=True)
    torch.testing.assert_close(old, expected)
    many = torch.stack([hidden, -hidden])
    torch.testing.assert_close(torch.func.vmap(function)(many), torch.stack([function(x) for x in many]))


@WITHOUT_LSTM
def test_gradients_for_each_graph_are_those_of_graphs_alone(name: str) -> None:
    layer, given = made(name), inputs()
    weights = {key: x.detach() for key, x in layer.named_parameters()}

    def loss(weights: dict[str, Tensor], *graph: Tensor) -> Tensor:
        return torch.stack([x.sin().sum() for x in results(layer, [x[None] for x in graph], weights)]).sum()

    found = torch.func.vmap(torch.func.grad(loss), (None, *[0] * 5))(weights, *given)
    for graph in range(B):
        trained = {key: x.clone().requires_grad_() for key, x in weights.items()}
        value = loss(trained, *(x[graph] for x in given))
        alone = torch.autograd.grad(value, list(trained.values()), materialize_grads=True)
        torch.testing.assert_close([x[graph] for x in found.values()], list(alone), rtol=1e-6, atol=1e-9)


@EVERY_PROCESSOR
def test_gradients_have_gradients(name: str) -> None:
    layer, given = made(name), inputs(1, 3)
    if name.startswith("MemNet"):
        return  # which reads words
    features = [x.requires_grad_() for x in given if x.is_floating_point()]

    def states(node_fts: Tensor, edge_fts: Tensor, graph_fts: Tensor, hidden: Tensor) -> tuple[Tensor, ...]:
        return results(layer, (node_fts, edge_fts, graph_fts, given.adj, hidden))

    assert torch.autograd.gradgradcheck(states, features, fast_mode=True, atol=1e-4)


@SOME
def test_what_is_compiled_is_one_graph(name: str) -> None:
    torch._dynamo.reset()
    layer, given = made(name), inputs()
    expected = results(layer, given)
    compiled = torch.compile(layer, fullgraph=True, backend="eager")(*given)
    torch.testing.assert_close([x for x in compiled if x is not None], list(expected))


class Within(nn.Module):
    """A model around a processor: in PyTorch 2.13 nothing that is exported may have a part named ``graph`` itself."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, *given: Tensor) -> Any:
        return self.layer(*given)


@SOME
def test_what_is_exported_is_for_graphs_of_any_number_and_size(name: str) -> None:
    graphs, nodes = Dim("graphs", min=2, max=64), Dim("nodes", min=2, max=7)
    layer, given = made(name), inputs()
    shapes = {0: graphs, 1: nodes}, {0: graphs, 1: nodes, 2: nodes}, {0: graphs}
    exported = export(Within(layer), tuple(given), dynamic_shapes=((*shapes, shapes[1], shapes[0]),)).module()
    others = inputs(3, 6)
    found = [x for x in exported(*others) if x is not None]
    torch.testing.assert_close(found, list(results(layer, others)))


@pytest.mark.skipif(find_spec("onnx") is None, reason="onnx is not installed")
@pytest.mark.parametrize("name", ["PGN", "MPNN", "GAT, all"])
def test_layers_are_exported_to_onnx(name: str) -> None:
    layer, given = made(name), inputs()
    assert torch.onnx.export(Within(layer), tuple(given), dynamo=True) is not None
