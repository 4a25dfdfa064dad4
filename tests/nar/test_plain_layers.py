"""What PyTorch may put in the place of a layer or of its weights, or around its calls, counts in every layer."""
# Axes: B graphs, N nodes, H hidden. What belongs to an edge is [B, sender, receiver, ...].

import copy
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from kinds import KINDS
from layers import random_inputs, randomised
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

from nar.model.decoders import States, decode, make_decoder
from nar.model.encoders import Encoder, Encoding
from nar.model.reconstruction import HintNetwork
from nar.ops.channels import Channels, Folded, as_tensor
from nar.ops.linear import Linear, is_plain, may_be_given_channels, two_layers
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
from nar.sparse.batch import SparseBatch
from nar.sparse.model import SparseEncoder
from nar.specs import Location, Probe, Stage, Type

B, N, H, K = 2, 4, 6, 3
Outputs = tuple[Tensor, ...]

PROCESSORS: dict[str, Callable[[], nn.Module]] = {
    "PGN": lambda: PGN(H, gated=True, triplet_dim=2),
    "PGN, softmax": lambda: PGN(H, reduction="softmax", triplet_dim=2, triplet_reduction="mean"),
    "PGN, max and recurrent": lambda: PGN(H, reduction=["max", "recurrent"], gated=True),
    "PGN, lstm": lambda: PGN(H, reduction="lstm"),
    "PGN, in evaluation": lambda: PGN(H, reduction="lstm", reduction_in_evaluation="max"),
    "MPNN": lambda: MPNN(H, layer_norm=False),
    "TripletGMPNN": lambda: TripletGMPNN(H),
    "TripletGMPNN, concatrep": lambda: TripletGMPNN(H, triplet_messages="concatrep"),
    "TripletGMPNN, tanhexpand": lambda: TripletGMPNN(H, triplet_messages="tanhexpand"),
    "TripletGMPNN, forget gate": lambda: TripletGMPNN(H, gated=False, forget_gate=True),
    "PairGMPNN": lambda: PairGMPNN(H),
    "DeepSets": lambda: DeepSets(H),
    "GAT": lambda: GAT(H, num_heads=2),
    "GATv2": lambda: GATv2(H, num_heads=2),
    "GATv2D2": lambda: GATv2D2(H, num_heads=2),
    "MemNet": lambda: MemNet(H, memory_size=8),
    "Asynchronous": lambda: Asynchronous(H),
    "Asynchronous, networks": lambda: Asynchronous(H, message="mlp", update="network", arguments="network"),
}


def inputs_of(layer: nn.Module) -> tuple[Tensor, ...]:
    torch.manual_seed(1)
    inputs = random_inputs(H, B, N)
    for x in inputs:
        x.requires_grad_(x.is_floating_point())
    if not isinstance(layer, GATv2D2):
        return tuple(inputs)
    views = (torch.randn(4, *x.shape, dtype=x.dtype, requires_grad=True) for x in inputs[:3])
    return (*views, *inputs[3:])


def channels(*shape: int, width: int = H) -> Channels:
    data, weight, bias = (torch.randn(size, dtype=torch.float64) for size in ((*shape, K), (width, K), (width,)))
    return Channels(data.requires_grad_(), Folded(weight, bias))


def outputs_of_processor(layer: nn.Module, *, as_channels: bool) -> Outputs:
    node_fts, edge_fts, *others = inputs_of(layer)
    features: list[Any] = [node_fts, edge_fts]
    if as_channels:
        features = [channels(B, N), channels(B, N, N)]
    made = layer(*features, *others)
    made = (made,) if isinstance(made, Tensor) else made
    return tuple(as_tensor(x) for x in made if x is not None)


class Decoders(nn.Module):
    """One of every kind, together."""

    def __init__(self) -> None:
        super().__init__()
        probes = [Probe(Stage.HINT, place, kind, 3 if kind is Type.CATEGORICAL else 0) for place, kind in KINDS]
        self.each = nn.ModuleDict(
            {f"{probe.location}_{probe.type}": make_decoder(probe, H, 2 * H, masked=True) for probe in probes}
        )
        self.each["triplets"] = make_decoder(Probe(Stage.HINT, Location.EDGE, Type.POINTER), H, 2 * H, num_pointers=2)

    def forward(self) -> Outputs:
        torch.manual_seed(1)
        adj = torch.rand(B, N, N) < 0.5
        graph, edge_states = (
            torch.randn(size, dtype=torch.float64, requires_grad=True) for size in ((B, H), (B, N, N, H))
        )
        edge = channels(B, N, N)
        edge = Channels(edge.data, edge.map, (edge_states,))
        pointers = torch.rand(B, N, N, N, 2, dtype=torch.float64, requires_grad=True)
        states = States(channels(B, N, width=3 * H), edge, graph, adj, pointers)
        return tuple(decode(self.each, states).values())


class Encoders(nn.Module):
    """One of every kind, together."""

    def __init__(self) -> None:
        super().__init__()
        probes = [Probe(Stage.HINT, place, kind, 3 if kind is Type.CATEGORICAL else 0) for place, kind in KINDS]
        spec = {f"{probe.location}_{probe.type}": probe for probe in probes}
        self.encoder = Encoder(spec, H, 2, num_frequencies=2, difference_scales=2)

    def forward(self) -> Outputs:
        torch.manual_seed(1)
        values = {}
        for name, probe in self.encoder.spec.items():
            shape = {Location.NODE: [B, N], Location.EDGE: [B, N, N], Location.GRAPH: [B]}[probe.location]
            shape += {Type.CATEGORICAL: [3], Type.POINTER: [N], Type.PERMUTATION_POINTER: [N]}.get(probe.type, [])
            values[name] = torch.rand(shape, dtype=torch.float64, requires_grad=True)
        base = Encoding.empty(B, N, torch.zeros((), dtype=torch.float64), H)
        encoding = self.encoder(values, self.encoder(values, base))
        triplet_fts = encoding.triplet_fts
        assert triplet_fts is not None
        of_three = nn.functional.linear(triplet_fts.data, triplet_fts.weight)
        return as_tensor(encoding.node_fts), as_tensor(encoding.edge_fts), as_tensor(encoding.graph_fts), of_three


class Network(nn.Module):
    """A network of hints, what its gates make of it, and its decoders."""

    def __init__(self) -> None:
        super().__init__()
        probes = [Probe(Stage.HINT, place, kind, 3 if kind is Type.CATEGORICAL else 0) for place, kind in KINDS]
        self.network = HintNetwork({f"{probe.location}_{probe.type}": probe for probe in probes}, H)

    def forward(self) -> Outputs:
        torch.manual_seed(1)
        adj = torch.ones(B, N, N, dtype=torch.bool)
        x, z = (Encoding(channels(B, N), channels(B, N, N), channels(B), adj) for _ in range(2))
        made = self.network(z)
        found = self.network.blended(x, z, made, Encoding.empty(B, N, torch.zeros((), dtype=torch.float64), H))
        logits = decode(self.network.decoders, made).values()
        return *map(as_tensor, (found.node_fts, found.edge_fts, found.graph_fts)), *logits


class SparseEncoders(nn.Module):
    """Of two probes of nodes and one of edges."""

    def __init__(self) -> None:
        super().__init__()
        kinds = [(Location.NODE, Type.SCALAR), (Location.NODE, Type.CATEGORICAL), (Location.EDGE, Type.MASK)]
        probes = [Probe(Stage.HINT, place, kind, 3 if kind is Type.CATEGORICAL else 0) for place, kind in kinds]
        self.encoder = SparseEncoder(dict(zip("abc", probes, strict=True)), H)

    def forward(self) -> Outputs:
        torch.manual_seed(1)
        shapes = {"a": (5,), "b": (5, 3), "c": (9,)}
        values = {name: torch.rand(shape, dtype=torch.float64, requires_grad=True) for name, shape in shapes.items()}
        index = torch.zeros(2, 9, dtype=torch.long)
        batch = SparseBatch("", 5, index, torch.zeros(5), torch.zeros(2), inputs={}, hints={}, outputs={})
        made: Outputs = self.encoder(values, batch)
        return made


def cases() -> Iterator[Any]:
    for name, make in PROCESSORS.items():
        yield pytest.param(make, lambda layer: outputs_of_processor(layer, as_channels=False), id=name)
        if getattr(make(), "takes_channels", False):
            yield pytest.param(
                make, lambda layer: outputs_of_processor(layer, as_channels=True), id=f"{name}, channels"
            )
    yield pytest.param(Decoders, lambda layer: layer(), id="decoders")
    yield pytest.param(Encoders, lambda layer: layer(), id="encoders")
    yield pytest.param(Network, lambda layer: layer(), id="network of hints")
    yield pytest.param(SparseEncoders, lambda layer: layer(), id="sparse encoders")


EVERY_LAYER = pytest.mark.parametrize(("make", "outputs"), list(cases()))


def made(make: Callable[[], nn.Module]) -> nn.Module:
    return randomised(make().eval(), std=0.7)


def linears(layer: nn.Module) -> list[str]:
    return [name for name, module in layer.named_modules() if isinstance(module, nn.Linear)]


class Doubled(nn.Module):
    """Twice what a module makes; it knows tensors alone."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        assert type(x) is Tensor
        made: Tensor = 2 * self.module(x)
        return made


def quietly(function: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        function(*args, **kwargs)


def pruned(layer: nn.Module, name: str) -> None:
    module = layer.get_submodule(name)
    prune.l1_unstructured(module, "weight", amount=0.5)
    if module.bias is not None:
        prune.random_unstructured(module, "bias", amount=0.5)


def normalised(norm: Callable[..., Any], strength: str | None, **settings: Any) -> Callable[[nn.Module, str], None]:
    def change(layer: nn.Module, name: str) -> None:
        module = layer.get_submodule(name)
        quietly(norm, module, "weight", **settings)
        if strength is not None:
            with torch.no_grad():
                module.get_parameter(strength).mul_(2)

    return change


def replaced(by: Callable[[nn.Module], nn.Module]) -> Callable[[nn.Module, str], None]:
    return lambda layer, name: layer.set_submodule(name, by(layer.get_submodule(name)))


def of_torch(module: nn.Module) -> nn.Linear:
    other = nn.Linear(module.in_features, module.out_features, module.bias is not None, dtype=torch.float64)
    other.load_state_dict(module.state_dict())
    return other


def without_bias(layer: nn.Module, name: str) -> None:
    layer.get_submodule(name).bias = None


def with_another_forward(layer: nn.Module, name: str) -> None:
    module = layer.get_submodule(name)
    forward = module.forward
    module.forward = lambda x: 2 * forward(x)


def doubled_output(layer: nn.Module, name: str) -> None:
    layer.get_submodule(name).register_forward_hook(lambda module, given, made: 2 * made)


def doubled_input(layer: nn.Module, name: str) -> None:
    layer.get_submodule(name).register_forward_pre_hook(lambda module, given: (2 * given[0],))


# What is done to a linear layer, and what its weight and bias then are: times so much, or as attributes say.
CHANGES: dict[str, tuple[Callable[[nn.Module, str], Any], tuple[float, float] | None]] = {
    "prune": (pruned, None),
    "weight_norm": (normalised(parametrizations.weight_norm, "parametrizations.weight.original0"), None),
    "spectral_norm": (normalised(parametrizations.spectral_norm, None), None),
    "old weight_norm": (normalised(nn.utils.weight_norm, "weight_g"), None),
    "old spectral_norm": (normalised(nn.utils.spectral_norm, None), None),
    "forward hook": (doubled_output, (2, 2)),
    "forward pre-hook": (doubled_input, (2, 1)),
    "another module": (replaced(Doubled), (2, 2)),
    "torch's own": (replaced(of_torch), (1, 1)),
    "no bias": (without_bias, (1, 0)),
    "another forward": (with_another_forward, (2, 2)),
}


@EVERY_LAYER
@pytest.mark.parametrize("shift", range(len(CHANGES)))
def test_what_is_done_to_linear_layers_counts(
    shift: int, make: Callable[[], nn.Module], outputs: Callable[[nn.Module], Outputs]
) -> None:
    """Something else to each: over all shifts everything to all of them."""
    layer = made(make)
    expected = copy.deepcopy(layer)
    changes = {name: list(CHANGES)[(i + shift) % len(CHANGES)] for i, name in enumerate(linears(layer))}
    for name, change in changes.items():
        CHANGES[change][0](layer, name)
    found = outputs(layer)
    for name, change in changes.items():
        factors, module, plain = CHANGES[change][1], layer.get_submodule(name), expected.get_submodule(name)
        assert is_plain(plain, Linear)
        with torch.no_grad():
            plain.weight.copy_(module.weight if factors is None else factors[0] * plain.weight)
            if plain.bias is not None:
                plain.bias.copy_(module.bias if factors is None else factors[1] * plain.bias)
    for x, y in zip(found, outputs(expected), strict=True):
        torch.testing.assert_close(x, y, rtol=1e-9, atol=1e-9, msg=lambda text: f"{changes}: {text}")
    torch.autograd.grad(sum(x.sum() for x in found), [*layer.parameters()], allow_unused=True)


@pytest.mark.slow
@EVERY_LAYER
def test_hooks_of_every_part_are_called_and_what_they_make_counts(
    make: Callable[[], nn.Module], outputs: Callable[[nn.Module], Outputs]
) -> None:
    layer = made(make)
    expected = outputs(layer)
    called: set[nn.Module] = set()

    def record(module: nn.Module, given: Any, *rest: Any) -> None:
        called.add(module)
        assert all(isinstance(x, Tensor | States) or x is None for x in given)

    parts = {name: part for name, part in layer.named_modules() if is_called(layer, name, part)}
    handles = [part.register_forward_hook(record) for part in parts.values()]
    torch.testing.assert_close(outputs(layer), expected, rtol=1e-9, atol=1e-9)
    assert {name for name, part in parts.items() if part not in called} == set()
    for handle in handles:
        handle.remove()
    for name, part in parts.items():
        if isinstance(part, nn.LSTM):
            continue  # which makes several tensors
        handle = part.register_forward_hook(lambda module, given, made: torch.zeros_like(made))
        assert any(not torch.equal(x, y) for x, y in zip(outputs(layer), expected, strict=True)), name
        handle.remove()


def is_called(layer: nn.Module, name: str, part: nn.Module) -> bool:
    """Whether that is a part which is to be called in the mode of evaluation."""
    if name == "" or isinstance(part, nn.ModuleList | nn.ModuleDict | Encoder | SparseEncoder | HintNetwork):
        return False
    return not (name.startswith("reduction.usual") and layer.reduction.in_evaluation is not None)


@pytest.mark.filterwarnings("ignore:Full backward hook is firing")  # as of layers whose matrix is asked for
@EVERY_LAYER
def test_backward_hooks_of_every_part_are_called(
    make: Callable[[], nn.Module], outputs: Callable[[nn.Module], Outputs]
) -> None:
    layer, called = made(make), set()
    for name in linears(layer):
        part = layer.get_submodule(name)
        part.register_full_backward_hook(lambda *_, name=name: called.add(name))
        part.register_full_backward_pre_hook(lambda *_, name=name: called.add(f"before {name}"))
    sum(x.sum() for x in outputs(layer)).backward()
    assert {name for name in linears(layer) if not {name, f"before {name}"} <= called} == set()


def test_hooks_of_all_modules_are_called() -> None:
    layer, called = made(PROCESSORS["PGN"]), set()
    handle = nn.modules.module.register_module_forward_hook(lambda module, *_: called.add(module) or None)
    outputs_of_processor(layer, as_channels=True)
    handle.remove()
    missing = {name for name, module in layer.named_modules() if module not in called}
    assert missing == set()


def test_another_network_in_the_place_of_a_layer_is_called() -> None:
    layer = made(PROCESSORS["PGN"])
    expected = outputs_of_processor(layer, as_channels=False)
    identical = copy.deepcopy(layer)
    identical.message_mlp = nn.Sequential(nn.Identity(), *layer.message_mlp)
    torch.testing.assert_close(outputs_of_processor(identical, as_channels=False), expected)
    layer.message_mlp = nn.Identity()
    given = inputs_of(layer)
    states, _ = layer(*given)
    z = torch.cat([given[0], given[4]], dim=-1)
    mixed = layer.message_sender(z)[:, :, None] + layer.message_receiver(z)[:, None]
    mixed = mixed + layer.message_edge(given[1]) + layer.message_graph(given[2])[:, None, None]
    received = mixed.masked_fill(~given[3][..., None], -1e6).amax(dim=1)
    expected_states = layer.norm((layer.update_node(z) + layer.update_message(received)).relu())
    gate = layer.gate(z, received)
    torch.testing.assert_close(states, gate * expected_states + (1 - gate) * given[4])


def test_a_wider_network_in_the_place_of_a_layer_is_called() -> None:
    layer = made(PROCESSORS["MPNN"])
    layer.message_mlp[1], layer.message_mlp[3] = Linear(H, 2 * H).double(), Linear(2 * H, H).double()
    assert two_layers(layer.message_mlp) is None
    assert outputs_of_processor(layer, as_channels=True)[0].shape == (B, N, H)


def test_weights_that_are_given_in_place_of_a_layers_own_count() -> None:
    layer = made(PROCESSORS["TripletGMPNN"])
    others = {name: 2 * x.detach() for name, x in layer.named_parameters()}
    given = inputs_of(layer)
    found = torch.func.functional_call(layer, others, given)
    layer.load_state_dict(others)
    torch.testing.assert_close(found, layer(*given))


class Own(Processor):
    """A processor of a user's."""

    takes_channels = True

    def __init__(self) -> None:
        super().__init__()
        self.inner = Linear(H, H)


def test_a_processor_of_ones_own_may_be_given_channels() -> None:
    Own.__abstractmethods__ = frozenset()
    assert may_be_given_channels(Own())
    own = Own()
    own.inner = Doubled(own.inner)
    assert may_be_given_channels(own)  # of its own package
    pgn = PGN(H)
    assert may_be_given_channels(pgn)
    pgn.update_node = Doubled(pgn.update_node)
    assert not may_be_given_channels(pgn)


def test_every_processor_of_the_library_is_there() -> None:
    assert {*list_processors().values()} <= {type(make()) for make in PROCESSORS.values()}
