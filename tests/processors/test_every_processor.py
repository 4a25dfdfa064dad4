"""What holds for each of the dense processors: its equations, its symmetries, and whatever looks on.

A new layer gets all of these tests by an entry in the table `KINDS`.
"""
# Axes: B graphs, N nodes, H hidden. What belongs to an edge is [B, sender, receiver, ...].

from collections.abc import Callable
from contextlib import nullcontext
from importlib.util import find_spec
from itertools import combinations
from typing import Any, NamedTuple, get_args

import pytest
import torch
from equations import asynchronous_as_loops, gat_as_loops, memnet_as_loops, pgn_as_loops
from layers import (
    Inputs,
    assert_finite_with_gradients,
    assert_gradient_equals_finite_differences,
    assert_permutation_equivariant,
    influences,
    pairwise,
    random_inputs,
    random_words,
    randomised,
    reads_in_order,
    results,
    variants,
)
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.export import Dim, export

from nar.ops.channels import Channels, Folded, as_tensor
from nar.processor import Processor
from nar.processors import (
    GAT,
    MPNN,
    PGN,
    Asynchronous,
    DeepSets,
    GATv2,
    MemNet,
    PairGMPNN,
    TripletGMPNN,
    list_processors,
)
from nar.processors.gat import GATv2D2
from nar.processors.reductions import ReductionName
from nar.processors.triplet_variants import TripletVariant

B, N, H = 2, 4, 4
BOTH, SENDERS = (False, True), ("neighbours", "all")
OTHERS = ("mean", "dm-clrs mean", "sum", "softmax")
IN_ORDER: tuple[Any, ...] = ("recurrent", ["max", "recurrent"])
VARIANTS = get_args(TripletVariant)
TROPICAL, ORDINARY = ("tropical linear", "tropical bilinear"), ("linear", "mlp")


class Kind(NamedTuple):
    """A class of processors, and what its laws are tried on.

    Attributes:
        equations: Its states of nodes, and of edges if there are any, written as loops.
        variants: Makers of randomised layers from a width; all settings that change the equations are among them.
        examples: A few that every transform and every precision is tried on, of the width H.
        inputs: Makes what it receives from a width.
        hears_receivers: Whether a node hears those that it sends to, and not its senders.
    """

    equations: Callable[[Any, Inputs], tuple[Tensor, ...]]
    variants: dict[str, Callable[[int], Processor]]
    examples: dict[str, Callable[[], Processor]]
    inputs: Callable[..., Inputs] = random_inputs
    hears_receivers: bool = False


KINDS = [
    Kind(
        pgn_as_loops,
        {
            **variants(
                PGN,
                {
                    "reduction": ("max", *OTHERS),
                    "senders": (*SENDERS, "self"),
                    "triplet_dim": (0, 3),
                    "gated": BOTH,
                    "layer_norm": BOTH,
                },
            ),
            **variants(PGN, {"triplet_dim": (2,), "triplet_reduction": (*OTHERS, "recurrent", ["max", "recurrent"])}),
            **variants(PGN, {"reduction": IN_ORDER, "senders": (*SENDERS, "self"), "gated": BOTH}),
            **variants(MPNN, {"gated": BOTH, "triplet_dim": (0, 3)}),
            **variants(TripletGMPNN, {"gated": BOTH, "triplet_dim": (0, 8)}),
            **variants(DeepSets, {"layer_norm": BOTH}),
            **variants(TripletGMPNN, {"triplet_messages": VARIANTS, "gated": BOTH}),
            **variants(MPNN, {"forget_gate": (True,), "gated": BOTH, "triplet_dim": (0, 2)}),
            **variants(PairGMPNN, {"num_heads": (1, 2), "head_dim": (3,), "gated": BOTH, "forget_gate": BOTH}),
        },
        {
            "PGN": lambda: PGN(H, gated=True, triplet_dim=2),
            "MPNN": lambda: MPNN(H, layer_norm=False),
            "TripletGMPNN": lambda: TripletGMPNN(H),
            "DeepSets": lambda: DeepSets(H),
            "PairGMPNN": lambda: PairGMPNN(H, num_heads=2, head_dim=2),
            "TripletGMPNN, forget gate": lambda: TripletGMPNN(H, gated=False, forget_gate=True),
            **{
                f"TripletGMPNN, {name}": lambda name=name: TripletGMPNN(H, triplet_dim=2, triplet_messages=name)
                for name in VARIANTS
            },
            **{
                f"PGN, {name}": lambda name=name: PGN(H, reduction=name, triplet_dim=2, triplet_reduction=name)
                for name in get_args(ReductionName)
            },
            **{f"MPNN, {name}": lambda name=name: MPNN(H, reduction=name) for name in get_args(ReductionName)},
            "PGN, max and recurrent": lambda: PGN(H, reduction=["max", "recurrent"], gated=True),
        },
    ),
    Kind(
        gat_as_loops,
        variants(GAT, {"num_heads": (1, 2), "senders": SENDERS, "layer_norm": BOTH}),
        {f"GAT, {senders}": lambda senders=senders: GAT(H, num_heads=2, senders=senders) for senders in SENDERS},
        hears_receivers=True,
    ),
    Kind(
        gat_as_loops,
        variants(GATv2, {"num_heads": (1, 2), "senders": SENDERS, "layer_norm": BOTH}),
        {f"GATv2, {senders}": lambda senders=senders: GATv2(H, num_heads=2, senders=senders) for senders in SENDERS},
        hears_receivers=True,
    ),
    Kind(
        memnet_as_loops,
        {  # larger weights would saturate the softmax
            **variants(MemNet, {"senders": SENDERS, "embedding_dim": [3], "memory_size": [6]}, 0.2),
            **variants(MemNet, {"senders": SENDERS, "embedding_dim": [16], "memory_size": [128]}, 0.2),
        },
        {
            f"MemNet, {senders}": lambda senders=senders: MemNet(H, senders=senders, memory_size=16)
            for senders in SENDERS
        },
        inputs=random_words,
        hears_receivers=True,
    ),
    Kind(
        asynchronous_as_loops,
        {
            **variants(
                Asynchronous,
                {
                    "message": (*TROPICAL, *ORDINARY),
                    "arguments": ("state", "received", "network"),
                    "update": ("action", "network"),
                    "senders": SENDERS,
                    "layer_norm": BOTH,
                },
            ),
            **variants(Asynchronous, {"message": TROPICAL, "temperature": (0.5,), "reduction": ("max", "logsumexp")}),
            **variants(Asynchronous, {"message": ORDINARY, "temperature": (0.5,), "reduction": ("logsumexp",)}),
            **variants(Asynchronous, {"message": (*TROPICAL, *ORDINARY), "reduction": ("sum",), "senders": SENDERS}),
        },
        {
            "Asynchronous": lambda: Asynchronous(H),
            "Asynchronous, smooth": lambda: Asynchronous(
                H, reduction="logsumexp", temperature=1.0, message="tropical bilinear"
            ),
            "Asynchronous, networks": lambda: Asynchronous(
                H, reduction="sum", message="mlp", update="network", arguments="network"
            ),
        },
    ),
]
every_variant = pytest.mark.parametrize(
    ("kind", "make"), [pytest.param(kind, make, id=name) for kind in KINDS for name, make in kind.variants.items()]
)
EVERY = {name: make for kind in KINDS for name, make in kind.examples.items()}
EVERY_PROCESSOR = pytest.mark.parametrize("name", EVERY)
SOME = pytest.mark.parametrize(
    "name",
    [
        *(kind for kind in EVERY if not kind.startswith(("MPNN, ", "PGN, ")) and not kind.endswith("all")),
        *("PGN, softmax", "PGN, adaptive softmax", "PGN, dm-clrs mean", "PGN, max and recurrent"),
    ],
)
"""Of what takes a compiler seconds."""


def made(name: str) -> Processor:
    return randomised(EVERY[name]().eval())


def inputs(num_graphs: int = B, num_nodes: int = N) -> Inputs:
    """Of features that are other words for a MemNet."""
    given = random_inputs(H, num_graphs, num_nodes)
    return given._replace(node_fts=3 * given.node_fts, edge_fts=3 * given.edge_fts, graph_fts=3 * given.graph_fts)


def test_variants_have_every_pair_of_options() -> None:
    options = ("ab", "cd", "efg", "h")
    chosen = pairwise(*options)
    assert len(chosen) == 6
    assert all(a in values for choice in chosen for a, values in zip(choice, options, strict=True))
    for one, other in combinations(options, 2):
        assert all(any({a, b} <= set(choice) for choice in chosen) for a in one for b in other)


@pytest.mark.slow
@every_variant
def test_states_equal_the_equations_written_as_loops(kind: Kind, make: Callable[[int], Processor]) -> None:
    layer, given = make(8), kind.inputs(8)
    torch.testing.assert_close(results(layer, given), kind.equations(layer, given))


@every_variant
def test_has_edge_states_exactly_if_it_has_layers_for_them(kind: Kind, make: Callable[[int], Processor]) -> None:
    layer, given = make(4), kind.inputs(4)
    assert layer.has_edge_states == any(
        name.startswith(("triplets.", "pairs.")) for name, _ in layer.named_parameters()
    )
    assert layer.has_edge_states == (layer(*given)[1] is not None)


@every_variant
def test_features_as_channels_give_the_same_states(kind: Kind, make: Callable[[int], Processor]) -> None:
    layer, given = make(8), kind.inputs(8)
    if not layer.takes_channels:
        return
    shared = Folded(torch.randn(8, 2, dtype=torch.float64), torch.randn(8, dtype=torch.float64))
    nodes, edges = (
        Channels(torch.randn(*x.shape[:-1], 2, dtype=torch.float64), shared) for x in (given.node_fts, given.edge_fts)
    )
    found = layer(nodes, edges, *given[2:])  # type: ignore[arg-type]
    expected = results(layer, given._replace(node_fts=as_tensor(nodes), edge_fts=as_tensor(edges)))
    torch.testing.assert_close([as_tensor(x) for x in found if x is not None], list(expected))


@every_variant
def test_commutes_with_renaming_the_nodes_unless_it_reads_them_in_order(
    kind: Kind, make: Callable[[int], Processor]
) -> None:
    layer = make(8)
    if isinstance(layer, MemNet):
        nn.init.constant_(layer.slot_biases, 0.5)  # slots that differ tell nodes apart
    is_refuted = pytest.raises(AssertionError, match="do not commute with renaming the nodes")
    with is_refuted if reads_in_order(layer) else nullcontext():
        assert_permutation_equivariant(layer, kind.inputs(8))


@pytest.mark.slow
@every_variant
def test_gradient_equals_finite_differences(kind: Kind, make: Callable[[int], Processor]) -> None:
    assert_gradient_equals_finite_differences(make(4), kind.inputs(4, num_graphs=1, num_nodes=3))


@every_variant
def test_a_node_hears_those_that_it_says_it_hears(kind: Kind, make: Callable[[int], Processor]) -> None:
    layer, given = make(16), kind.inputs(16)
    heard = given.adj.mT if kind.hears_receivers else given.adj
    expected = {"all": torch.ones_like(heard), "self": torch.eye(5, dtype=torch.bool).expand_as(heard)}
    found = influences(layer, given)
    assert found.equal(expected.get(layer.senders, heard))


@every_variant
def test_nodes_without_edges_change_nothing_for_those_that_hear_neighbours(
    kind: Kind, make: Callable[[int], Processor]
) -> None:
    """As a graph alone, so is it with four more nodes that fill it up to the size of another."""
    layer, given = make(8), kind.inputs(8, num_nodes=9)
    if layer.senders != "neighbours" or isinstance(layer, MemNet):  # whose memory has a sentence for each node
        return
    adj, itself = given.adj.clone(), torch.eye(9, dtype=torch.bool)
    adj[:, 5:], adj[:, :, 5:] = itself[5:], itself[:, 5:]
    alone = Inputs(
        given.node_fts[:, :5], given.edge_fts[:, :5, :5], given.graph_fts, adj[:, :5, :5], given.hidden[:, :5]
    )
    torch.testing.assert_close(layer(*given._replace(adj=adj))[0][:, :5], layer(*alone)[0])


@every_variant
def test_adjacency_matters_exactly_if_neighbours_are_heard(kind: Kind, make: Callable[[int], Processor]) -> None:
    layer, given = make(8), kind.inputs(8)
    other = layer(*given._replace(adj=~given.adj))[0]
    assert other.equal(layer(*given)[0]) == (layer.senders != "neighbours")


@every_variant
def test_an_adjacency_of_zeros_and_ones_is_one_of_truth_values(kind: Kind, make: Callable[[int], Processor]) -> None:
    layer, given = make(8), kind.inputs(8)
    expected = layer(*given)[0]
    for dtype in (torch.float64, torch.int64):
        assert layer(*given._replace(adj=given.adj.to(dtype)))[0].equal(expected)


@every_variant
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_states_and_gradients_are_finite_in_low_precision(
    kind: Kind, make: Callable[[int], Processor], dtype: torch.dtype
) -> None:
    layer, given = make(16).float(), kind.inputs(16, dtype=torch.float32)
    with torch.autocast("cpu", dtype=dtype):
        states = results(layer, given._replace(node_fts=30 * given.node_fts))
    assert_finite_with_gradients(layer, states)


@every_variant
def test_a_node_that_hears_nobody_has_finite_states_and_gradients(kind: Kind, make: Callable[[int], Processor]) -> None:
    layer, given = make(8).float(), kind.inputs(8, dtype=torch.float32)
    assert_finite_with_gradients(layer, results(layer, given._replace(adj=torch.zeros_like(given.adj))))


@pytest.mark.parametrize(
    ("kinds", "arguments", "message"),
    [
        ([PGN, MPNN, TripletGMPNN, DeepSets], {"hidden_dim": 0}, "expected hidden_dim ≥ 1 .*given 0"),
        ([PGN, MPNN, TripletGMPNN], {"triplet_dim": -1}, "expected .*triplet_dim ≥ 0, given .*-1"),
        ([TripletGMPNN], {"triplet_messages": "concat"}, "expected triplet_messages 'linear' or .*given 'concat'"),
        (
            [TripletGMPNN],
            {"triplet_messages": "div2mean", "triplet_reduction": "sum"},
            "no other triplet_reduction for triplet_messages 'div2mean', given 8 and .*sum",
        ),
        ([PGN, MPNN], {"triplet_messages": "concatrep"}, "expected triplet_dim ≥ 1 .*'concatrep', given 0"),
        ([PairGMPNN], {"num_heads": 0}, "expected num_heads ≥ 1 and head_dim ≥ 1, given 0 and 8"),
        ([PairGMPNN], {"head_dim": 0}, "expected num_heads ≥ 1 and head_dim ≥ 1, given 4 and 0"),
        ([PairGMPNN], {"triplet_dim": 8}, "expected triplet_dim 0, given 8"),
        ([PGN], {"senders": "neighbors"}, "expected senders .*neighbours.*all.*self.*given .*neighbors"),
        ([GAT, GATv2, GATv2D2], {"hidden_dim": 0}, "expected hidden_dim ≥ 1 .*given 0"),
        ([GAT, GATv2, GATv2D2], {"num_heads": 0}, "expected .*num_heads ≥ 1 .*given .*0"),
        ([GAT, GATv2, GATv2D2], {"hidden_dim": 8, "num_heads": 3}, "num_heads .*that divides it, given 8 and 3"),
        ([GAT, GATv2, MemNet], {"senders": "neighbors"}, "expected senders .*neighbours.*all.*given .*neighbors"),
        ([MemNet], {"hidden_dim": 0}, "expected hidden_dim ≥ 1, .*given 0"),
        ([MemNet], {"embedding_dim": 0}, "expected .*embedding_dim ≥ 1 .*given .*, 0"),
        ([MemNet], {"memory_size": 1}, "expected .*memory_size ≥ 2, given .*and 1"),
        ([Asynchronous], {"hidden_dim": 0}, "expected hidden_dim ≥ 1.*given 0"),
        ([Asynchronous], {"hidden_dim": 5, "arguments": "received"}, "even with arguments 'received', given 5"),
        ([Asynchronous], {"reduction": "mean"}, "expected reduction 'max' or 'logsumexp' or 'sum', given 'mean'"),
        ([Asynchronous], {"update": "gate"}, "expected update 'action' or 'network', given 'gate'"),
        ([Asynchronous], {"arguments": "none"}, "expected arguments .*given 'none'"),
        ([Asynchronous], {"message": "tropical"}, "expected message 'tropical linear' or .*given 'tropical'"),
        ([Asynchronous], {"senders": "self"}, "expected senders 'neighbours' or 'all', given 'self'"),
        ([Asynchronous], {"temperature": -1.0}, "expected a temperature .*given -1.0"),
        (
            [Asynchronous],
            {"reduction": "logsumexp"},
            "expected a temperature above 0 with reduction 'logsumexp'.*given 0.0",
        ),
        (
            [Asynchronous],
            {"message": "mlp", "temperature": 1.0},
            "0 otherwise, given 1.0 with reduction 'max' and message 'mlp'",
        ),
    ],
)
def test_a_bad_argument_is_refused_by_name(
    kinds: list[Callable[..., nn.Module]], arguments: dict[str, Any], message: str
) -> None:
    for kind in kinds:
        with pytest.raises(ValueError, match=message):
            kind(**arguments)


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@EVERY_PROCESSOR
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


@EVERY_PROCESSOR
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


@pytest.mark.slow
@EVERY_PROCESSOR
def test_gradients_have_gradients(name: str) -> None:
    layer, given = made(name), inputs(1, 3)
    if name.startswith("MemNet"):
        return  # which reads words
    features = [x.requires_grad_() for x in given if x.is_floating_point()]

    def states(node_fts: Tensor, edge_fts: Tensor, graph_fts: Tensor, hidden: Tensor) -> tuple[Tensor, ...]:
        return results(layer, (node_fts, edge_fts, graph_fts, given.adj, hidden))

    assert torch.autograd.gradgradcheck(states, features, fast_mode=True, atol=1e-4)


@pytest.mark.slow
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


@pytest.mark.slow
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


def test_every_processor_of_the_library_is_held_to_the_laws() -> None:
    tried = {type(make(8)) for kind in KINDS for make in kind.variants.values()}
    assert {*list_processors().values()} <= tried
