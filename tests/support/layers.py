"""What the tests of processors have in common: inputs, random weights, and checks that hold for any of them."""
# Axes: B graphs, N nodes, H hidden. What belongs to an edge is [B, sender, receiver, ...].

import importlib
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import combinations, product
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from nar.batch import NumpyArray
from nar.processors.reductions import Reduction
from nar.training.haiku import ENTRIES, NORM_ENTRIES

Layer = TypeVar("Layer", bound=nn.Module)

ORDER = torch.tensor([3, 0, 4, 1, 2])  # a renaming of five nodes: i is the new name of node ORDER[i]


class Inputs(NamedTuple):
    """What a processor receives."""

    node_fts: Tensor
    edge_fts: Tensor
    graph_fts: Tensor
    adj: Tensor
    hidden: Tensor


def random_inputs(
    hidden_dim: int, num_graphs: int = 2, num_nodes: int = 5, dtype: torch.dtype = torch.float64
) -> Inputs:
    """Graphs with one-way edges and self-loops."""
    b, n, h = num_graphs, num_nodes, hidden_dim
    adj = (torch.rand(b, n, n) < 0.4) | torch.eye(n, dtype=torch.bool)
    shapes = [(b, n, h), (b, n, n, h), (b, h), (b, n, h)]
    node_fts, edge_fts, graph_fts, hidden = (torch.randn(shape, dtype=dtype) for shape in shapes)
    return Inputs(node_fts, edge_fts, graph_fts, adj, hidden)


def random_words(hidden_dim: int, **sizes: Any) -> Inputs:
    """Random inputs with features that stand for every word, and for none beyond."""
    inputs, within = random_inputs(hidden_dim, **sizes), 0.99 * hidden_dim
    node_fts, edge_fts, graph_fts = ((3 * x).clamp(-within, within) for x in inputs[:3])
    return Inputs(node_fts, edge_fts, graph_fts, inputs.adj, inputs.hidden)


def randomised(layer: Layer, std: float = 0.5) -> Layer:
    """The layer in double precision; no weight keeps a start at 0 or 1, where a mix-up would not be seen."""
    for parameter in layer.double().parameters():
        nn.init.normal_(parameter, std=std)
    return layer


def variants(
    kind: Callable[..., Layer], options: Mapping[str, Sequence[Any]], std: float = 0.5
) -> dict[str, Callable[[int], Layer]]:
    """Makers, from a width, of randomised layers that have every pair of options between them, by their options."""
    makers: dict[str, Callable[[int], Layer]] = {}
    for chosen in pairwise(*options.values()):
        arguments = dict(zip(options, chosen, strict=True))

        def make(hidden_dim: int, arguments: dict[str, Any] = arguments) -> Layer:
            return randomised(kind(hidden_dim, **arguments), std)

        makers[f"{kind.__name__}({', '.join(f'{name}={value}' for name, value in arguments.items())})"] = make
    return makers


def pairwise(*options: Sequence[Any]) -> list[tuple[Any, ...]]:
    """Choices of one value of each option, few, but so that every two values of two options are chosen together."""

    def pairs(choice: tuple[int, ...]) -> set[Any]:
        return set(combinations(enumerate(choice), 2)) if len(choice) > 1 else {choice}

    every = list(product(*(range(len(values)) for values in options)))
    missing = set().union(*map(pairs, every))
    chosen = []
    while missing:
        chosen.append(max(every, key=lambda choice: len(pairs(choice) & missing)))  # the first of the best
        missing -= pairs(chosen[-1])
    return [tuple(values[i] for values, i in zip(options, choice, strict=True)) for choice in chosen]


def results(
    layer: nn.Module, inputs: Sequence[Tensor], parameters: Mapping[str, Tensor] | None = None
) -> tuple[Tensor, ...]:
    """States of nodes and, if there are any, of edges; with `parameters` in place of the layer's own if given."""
    returned = torch.func.functional_call(layer, dict(parameters or {}), tuple(inputs))
    return (returned,) if isinstance(returned, Tensor) else tuple(x for x in returned if x is not None)


def renamed(inputs: Inputs) -> Inputs:
    """The same graphs, or views of graphs, with node ``ORDER[i]`` called i."""
    edge_fts = inputs.edge_fts[..., ORDER, :, :][..., ORDER, :]
    adj = inputs.adj[:, ORDER][:, :, ORDER]
    return Inputs(inputs.node_fts[..., ORDER, :], edge_fts, inputs.graph_fts, adj, inputs.hidden[:, ORDER])


def assert_permutation_equivariant(layer: nn.Module, inputs: Inputs) -> None:
    """Fail, saying in which result and by how much, if renaming the nodes does more than to rename the results."""
    nodes, *edges = results(layer, inputs)
    expected = [nodes[..., ORDER, :], *(x[:, ORDER][:, :, ORDER] for x in edges)]
    found = results(layer, renamed(inputs))
    assert len(found) == len(expected)
    for name, x, y in zip(("node states", "edge states"), expected, found, strict=False):
        error = (x - y).abs().max().item()
        assert error < 1e-12, f"{name} do not commute with renaming the nodes: off by {error}"


def reads_in_order(layer: nn.Module) -> bool:
    """Whether states of nodes depend on how these are ordered."""
    reads = any(part.reads_in_order for part in layer.modules() if isinstance(part, Reduction))
    return reads and getattr(layer, "senders", None) != "self"  # of one there is one order


def assert_gradient_equals_finite_differences(layer: nn.Module, inputs: Inputs) -> None:
    """Fail if a gradient, of features, state or parameters, is not the limit of finite differences."""
    names, shapes = zip(*((name, x.shape) for name, x in layer.named_parameters()), strict=True)

    def states(node_fts: Tensor, edge_fts: Tensor, graph_fts: Tensor, hidden: Tensor, weights: Tensor) -> Any:
        parts = torch.split(weights, [shape.numel() for shape in shapes])
        parameters = {name: x.view(shape) for name, x, shape in zip(names, parts, shapes, strict=True)}
        return results(layer, (node_fts, edge_fts, graph_fts, inputs.adj, hidden), parameters)

    weights = nn.utils.parameters_to_vector(layer.parameters()).detach()
    variables = [x.requires_grad_() for x in (*floating(inputs), weights)]
    assert torch.autograd.gradcheck(states, variables, fast_mode=True)


def floating(inputs: Inputs) -> list[Tensor]:
    """All but the adjacency."""
    return [x for x in inputs if x.is_floating_point()]


def influences(layer: nn.Module, inputs: Inputs) -> Tensor:
    """Whether the features, state and edges of one node (row) change the state of another (column), [B, N, N]."""
    states = results(layer, inputs)[0]
    rows = []
    for node in range(states.shape[1]):
        node_fts, edge_fts, hidden = (x.clone() for x in (inputs.node_fts, inputs.edge_fts, inputs.hidden))
        for x in (node_fts[:, node], edge_fts[:, node], edge_fts[:, :, node], hidden[:, node]):
            x += 10 * torch.randn_like(x)
        others = inputs._replace(node_fts=node_fts, edge_fts=edge_fts, hidden=hidden)
        rows.append((results(layer, others)[0] != states).any(dim=-1))
    return torch.stack(rows, dim=1)


def assert_finite_with_gradients(layer: nn.Module, states: Iterable[Tensor]) -> None:
    """Fail if any of the layer's states is not finite, or the gradient of any parameter."""
    states = list(states)
    torch.autograd.backward([x.float().sum() for x in states])
    assert all(x.isfinite().all() for x in states)
    for name, parameter in layer.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def normalised(state: Tensor, norm: nn.Module) -> Tensor:
    """One node's state by the equation of a layer normalisation; the state itself if `norm` is none."""
    if not isinstance(norm, nn.LayerNorm):
        return state
    scale = (state.var(correction=0) + 1e-5).sqrt()
    return (state - state.mean()) / scale * norm.weight + norm.bias


def numbered(*linears: str) -> dict[str, str]:
    """dm-haiku's names of linear layers, in the order in which the reference makes them, by ours."""
    return {name: f"linear_{i}" if i else "linear" for i, name in enumerate(linears)}


def in_haiku(layer: nn.Module, names: Mapping[str, str], scope: str) -> dict[str, tuple[str, str]]:
    """The module and the entry in dm-haiku's tree, all of which is below `scope`, of every parameter."""
    places: dict[str, tuple[str, str]] = {}
    for name, _ in layer.named_parameters():
        owner, _, kind = name.rpartition(".")
        if owner:
            entries = NORM_ENTRIES if isinstance(layer.get_submodule(owner), nn.LayerNorm) else ENTRIES
            places[name] = f"{scope}/{names[owner]}", entries[kind]
        else:
            places[name] = scope, names[name]
    return places


def assert_equals_dm_clrs(
    layer: nn.Module, inputs: Inputs, reference: Callable[..., Any], names: Mapping[str, str]
) -> None:
    """Fail if node states, or gradients of features, state or parameters, are not those of dm-clrs with our weights.

    Args:
        layer: Ours.
        inputs: What both receive.
        reference: Makes dm-clrs's layer and gives its node states, or a list of those of each view.
        names: Those that dm-haiku gives our layers, and our parameters that belong to none, within the reference.
    """
    haiku, jax = importlib.import_module("haiku"), importlib.import_module("jax")
    network = haiku.without_apply_rng(haiku.transform(lambda *x: jax.numpy.asarray(reference(*x))))

    def states_and_gradients(params: Any, arrays: Any, cotangent: Any) -> Any:
        states, gradients_of = jax.vjp(network.apply, params, *arrays)
        return states, *gradients_of(cotangent)

    variables = dict(layer.named_parameters()) | {
        name: x.requires_grad_() for name, x in inputs._asdict().items() if x.is_floating_point()
    }
    states = results(layer, inputs)[0]
    cotangent = torch.randn_like(states)
    gradients = torch.autograd.grad(states, list(variables.values()), cotangent, materialize_grads=True)
    with warnings.catch_warnings(), jax.enable_x64(True):
        warnings.simplefilter("ignore")
        arrays = [x.detach().double().numpy() for x in inputs]
        shapes = jax.eval_shape(network.init, jax.random.PRNGKey(0), *arrays)
        (scope,) = {module.split("/")[0] for module in shapes}
        places = in_haiku(layer, names, scope)
        params: dict[str, dict[str, NumpyArray]] = {}
        for name, (module, entry) in places.items():
            params.setdefault(module, {})[entry] = in_other_layout(entry, variables[name].detach().numpy())
        assert jax.tree_util.tree_map(np.shape, params) == jax.tree_util.tree_map(lambda x: x.shape, dict(shapes))
        given = (params, arrays, cotangent.numpy())
        compiled = jax.jit(states_and_gradients).lower(*given).compile({"xla_backend_optimization_level": "0"})
        their_states, of_params, *of_inputs = compiled(*given)
    np.testing.assert_allclose(states.detach(), their_states, rtol=0, atol=1e-10)
    expected = dict(zip(Inputs._fields, of_inputs, strict=True))
    expected |= {name: in_other_layout(entry, of_params[module][entry]) for name, (module, entry) in places.items()}
    for name, gradient in zip(variables, gradients, strict=True):
        np.testing.assert_allclose(gradient, expected[name], rtol=0, atol=1e-10, err_msg=name)


def in_other_layout(entry: str, array: NumpyArray) -> NumpyArray:
    """dm-haiku multiplies by weights [in, out], torch by their transpose."""
    return array.T if entry == "w" else array
