"""What is done with layers of PyTorch Geometric and of PyTorch, with each of ours: it works, or is refused by name.

Every pattern is tried on every layer; :data:`REFUSED` is the exact list of what a layer cannot do.
"""
# Axes: N nodes, E edges, K channels in, H channels out.

import copy
import io
import pickle
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

with warnings.catch_warnings():  # PyTorch Geometric 2.8 compiles with what torch 2.13 calls deprecated
    warnings.simplefilter("ignore")
    from torch_geometric.data import Batch, Data, HeteroData
    from torch_geometric.explain import AttentionExplainer, Explainer, GNNExplainer, GraphMaskExplainer, PGExplainer
    from torch_geometric.explain.algorithm.utils import clear_masks, set_masks
    from torch_geometric.loader import DataLoader
    from torch_geometric.nn import DirGNNConv, HeteroConv, summary, to_hetero
    from torch_geometric.typing import SparseTensor
    from torch_geometric.utils import k_hop_subgraph, to_torch_coo_tensor, to_torch_csc_tensor, to_torch_csr_tensor

from nar.processors.asynchronous.conv import AsynchronousConv
from nar.processors.sparse import GATConv, GATv2Conv, PGNConv

N, E, K, H = 6, 11, 6, 4
Make = Callable[..., nn.Module]

LAYERS: dict[str, Make] = {
    "PGNConv": PGNConv,
    "PGNConv gated": lambda *args, **settings: PGNConv(*args, gated=True, **settings),
    "PGNConv with triplets": lambda *args, **settings: PGNConv(*args, triplet_dim=3, **settings),
    "PGNConv of itself": lambda *args, **settings: PGNConv(*args, senders="self", **settings),
    **{
        f"PGNConv {aggr}": lambda *args, aggr=aggr, **settings: PGNConv(*args, aggr=aggr, **settings)
        for aggr in ("mean", "adaptive softmax", "recurrent", "lstm", "median")
    },
    "GATConv": lambda *args, **settings: GATConv(args[0], args[1], 2, *args[2:], **settings),
    "GATv2Conv": lambda *args, **settings: GATv2Conv(args[0], args[1], 2, *args[2:], **settings),
    "AsynchronousConv": AsynchronousConv,
    "AsynchronousConv logsumexp": lambda *args, **settings: AsynchronousConv(
        *args, reduction="logsumexp", temperature=0.5, message="mlp", arguments="network", **settings
    ),
}
WITH_SETTINGS_SLOW = [pytest.param(name, marks=[pytest.mark.slow] if " " in name else []) for name in LAYERS]


class Wrapped(nn.Module):
    """A model of one layer, of which states of nodes are wanted."""

    def __init__(self, conv: nn.Module) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: Any, edge_index: Any, *args: Any, **kwargs: Any) -> Tensor:
        """[N, H]."""
        return states(self.conv(x, edge_index, *args, **kwargs))


def states(made: Tensor | tuple[Tensor, Tensor]) -> Tensor:
    """Those of nodes, of a layer that may have some of edges too."""
    return made if isinstance(made, Tensor) else made[0]


def graph() -> tuple[Tensor, Tensor]:
    """x [N, K] and edges in no order, with a self-loop and two between the same nodes; node 5 is alone."""
    edge_index = torch.tensor([[3, 0, 1, 4, 2, 0, 1, 3, 2, 2, 0], [1, 3, 2, 0, 2, 1, 0, 4, 4, 0, 3]])
    return torch.randn(N, K, dtype=torch.float64), edge_index


def layer(make: Make, *args: Any, **settings: Any) -> nn.Module:
    """One in double precision and evaluation, with no weight at a start of 0 or 1."""
    conv = make(*(args or (K, H)), **settings).double().eval()
    for parameter in conv.parameters():
        nn.init.normal_(parameter, std=0.5)
    return conv


def close(found: Tensor, expected: Tensor) -> None:
    """See that the two are equal up to rounding."""
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


# Explainers and hooks, which see edges in the order in which they are given.


def masks(make: Make) -> None:
    (x, edge_index), conv = graph(), layer(make)
    ones, plain = torch.ones(E, dtype=torch.float64), states(conv(x, edge_index))
    set_masks(conv, ones, edge_index, apply_sigmoid=False)
    close(states(conv(x, edge_index)), plain)
    for edge in range(E):
        mask = ones.clone()
        mask[edge] = 0.2
        conv._edge_mask = mask
        changed = (states(conv(x, edge_index)) - plain).abs().amax(dim=1) > 1e-9
        changed[edge_index[1, edge]] |= True  # where another edge's message is the largest it may stay
        assert changed.nonzero().flatten().tolist() == [edge_index[1, edge]]
    conv._edge_mask = 0.2 * ones
    changed = (states(conv(x, edge_index)) - plain).abs().amax(dim=1) > 1e-9
    assert changed.tolist() == [True] * 5 + [False]
    clear_masks(conv)
    close(states(conv(x, edge_index)), plain)


def explained(make: Make, algorithm: Any, index: int | None = 3) -> Tensor:
    """The weights of edges."""
    x, edge_index = graph()
    kind = "phenomenon" if isinstance(algorithm, PGExplainer) else "model"
    explainer = Explainer(
        Wrapped(layer(make, K, H).float()),
        algorithm=algorithm,
        explanation_type=kind,
        edge_mask_type="object",
        model_config={"mode": "multiclass_classification", "task_level": "node", "return_type": "raw"},
    )
    target = None
    if kind == "phenomenon":
        target = torch.arange(N) % H
        algorithm.train(0, explainer.model, x.float(), edge_index, target=target, index=index)
    weights: Tensor = explainer(x.float(), edge_index, index=index, target=target).edge_mask
    return weights


def gnn_explainer(make: Make) -> None:
    has_weight, reaches = explained(make, GNNExplainer(epochs=2)) > 0, graph()[1][1] == 3
    assert has_weight.any()
    assert not (has_weight & ~reaches).any()


def pg_explainer(make: Make) -> None:
    assert explained(make, PGExplainer(epochs=1), index=3).shape == (E,)


def graph_mask_explainer(make: Make) -> None:
    assert explained(make, GraphMaskExplainer(1, epochs=1, log=False)).shape == (E,)


def attention_explainer(make: Make) -> None:
    weights, edge_index = explained(make, AttentionExplainer(reduce="mean"), index=None), graph()[1]
    sums = torch.zeros(N).scatter_add(0, edge_index[1], weights)
    torch.testing.assert_close(sums, torch.tensor([1.0] * 5 + [0.0]))


def message_hooks(make: Make) -> None:
    (x, edge_index), conv = graph(), layer(make)
    plain, seen = states(conv(x, edge_index)), []
    handles = [
        conv.register_propagate_forward_pre_hook(lambda _, given: seen.append(given[0])),
        conv.register_propagate_forward_hook(lambda _, given, made: seen.append(given[0])),
        conv.register_aggregate_forward_pre_hook(lambda _, given: seen.append(given[0]["index"])),
        conv.register_message_forward_hook(lambda _, given, made: seen.append(made)),
        conv.register_aggregate_forward_hook(lambda _, given, made: seen.append(made)),
    ]
    close(states(conv(x, edge_index)), plain)
    given, messages, index, received, after = seen
    assert given.equal(edge_index)
    assert after.equal(edge_index)
    assert index.equal(edge_index[1])
    assert len(messages) == E
    assert len(received) == N
    for handle in handles:
        handle.remove()
    doubled = conv.register_message_forward_hook(lambda _, given, made: torch.cat([made[:1] + 100, made[1:]]))
    changed = (states(conv(x, edge_index)) - plain).abs().amax(dim=1) > 1e-9
    assert changed.nonzero().flatten().tolist() == [edge_index[1, 0]]
    doubled.remove()
    pre = conv.register_message_forward_pre_hook(
        lambda _, given: {name: 0 * value if isinstance(value, Tensor) else value for name, value in given[0].items()}
    )
    assert not states(conv(x, edge_index)).equal(plain)
    pre.remove()
    assert states(conv(x, edge_index)).equal(plain)


def overridden_message(make: Make) -> None:
    (x, edge_index), conv = graph(), layer(make)
    plain = states(conv(x, edge_index))
    original = conv.message
    conv.message = lambda *args, **kwargs: original(*args, **kwargs) * 3
    assert not torch.allclose(states(conv(x, edge_index))[:5], plain[:5])


# Sub-modules, which are called, whatever stands in their place.


def parts(conv: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Its sub-modules but for lists of them, and what takes a maximum or sum where there is none to take."""
    for name, part in conv.named_modules():
        if name and not isinstance(part, nn.ModuleList) and not (name == "aggr_module" and is_deaf(conv)):
            yield name, part


def is_deaf(conv: nn.Module) -> bool:
    """Whether its nodes hear no other."""
    return getattr(conv, "senders", None) == "self"


def module_hooks(make: Make) -> None:
    (x, edge_index), conv, seen = graph(), layer(make, K, H, 2), []
    edge_attr = torch.randn(E, 2, dtype=torch.float64)
    x.requires_grad_()
    plain = flat(conv(x, edge_index, edge_attr))
    hooks = []
    for name, part in parts(conv):
        hooks += [
            part.register_forward_hook(lambda *_, name=name: seen.append((name, "after"))),
            part.register_forward_pre_hook(lambda *_, name=name: seen.append((name, "before"))),
            part.register_full_backward_hook(lambda *_, name=name: seen.append((name, "backward"))),
        ]
    made = flat(conv(x, edge_index, edge_attr))
    for one, other in zip(made, plain, strict=True):
        close(one, other)
    sum(part.sum() for part in made).backward()
    assert {*seen} == {(name, when) for name, _ in parts(conv) for when in ("before", "after", "backward")}
    for hook in hooks:
        hook.remove()
    for name, part in parts(conv):
        hook = part.register_forward_hook(lambda _, given, made: tripled(made))
        assert not all(map(torch.allclose, flat(conv(x, edge_index, edge_attr)), plain)), name
        hook.remove()


def tripled(made: Any) -> Any:
    """Three times that, or the first of several, and one."""
    return (3 * made[0] + 1, *made[1:]) if isinstance(made, tuple) else 3 * made + 1


def flat(made: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """As a tuple."""
    return (made,) if isinstance(made, Tensor) else made


def linears(conv: nn.Module) -> list[nn.Module]:
    """Those of its parts that have a matrix of weights."""
    return [
        part for _, part in parts(conv) if isinstance(getattr(part, "weight", None), Tensor) and part.weight.dim() == 2
    ]


def agrees_with_weights(make: Make, change: Callable[[nn.Module], Any]) -> None:
    """See that a change of every linear part acts as the weights do that it makes."""
    (x, edge_index), changed, plain = graph(), layer(make, K, H, 2), layer(make, K, H, 2)
    edge_attr = torch.randn(E, 2, dtype=torch.float64)
    plain.load_state_dict(changed.state_dict())
    before = changed(x, edge_index, edge_attr)
    for one, other in zip(linears(changed), linears(plain), strict=True):
        weight = change(one)
        if weight is None:
            one(torch.randn(2, one.weight.shape[1], dtype=torch.float64))  # which makes the weight of old ones anew
            weight = one.weight
        other.weight.data = weight.detach().clone()
    found, expected = changed(x, edge_index, edge_attr), plain(x, edge_index, edge_attr)
    for one, other in zip(flat(found), flat(expected), strict=True):
        close(one, other)
    assert not flat(found)[0].equal(flat(before)[0])


def pruning(make: Make) -> None:
    def change(part: nn.Module) -> None:
        prune.random_unstructured(part, "weight", 0.5)

    agrees_with_weights(make, change)


def weight_norm(make: Make) -> None:
    def change(part: nn.Module) -> None:
        parametrizations.weight_norm(part)
        part.parametrizations.weight.original0.data *= 2

    agrees_with_weights(make, change)


def spectral_norm(make: Make) -> None:
    agrees_with_weights(make, lambda part: parametrizations.spectral_norm(part).eval() and None)


def old_norms(make: Make) -> None:
    def change(part: nn.Module) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if part.weight.shape[0] % 2:
                torch.nn.utils.spectral_norm(part).eval()
            else:
                torch.nn.utils.weight_norm(part)
                part.weight_g.data *= 2

    agrees_with_weights(make, change)


class LowRank(nn.Module):
    """Something that stands in a linear layer's place."""

    def __init__(self, base: nn.Module) -> None:
        super().__init__()
        self.base = base
        out, width = base.weight.shape
        self.down, self.up = torch.randn(1, width, dtype=torch.float64), torch.randn(out, 1, dtype=torch.float64)

    def forward(self, x: Tensor) -> Tensor:
        """Its own and that of the layer."""
        return self.base(x) + x @ self.down.mT @ self.up.mT


def stand_ins(make: Make) -> None:
    (x, edge_index), changed, plain = graph(), layer(make, K, H, 2), layer(make, K, H, 2)
    edge_attr = torch.randn(E, 2, dtype=torch.float64)
    plain.load_state_dict(changed.state_dict())
    for name, part in [*parts(changed)]:
        if isinstance(part, nn.Linear):
            stand_in = LowRank(part)
            changed.set_submodule(name, stand_in)
            plain.get_submodule(name).weight.data += stand_in.up @ stand_in.down
    for one, other in zip(flat(changed(x, edge_index, edge_attr)), flat(plain(x, edge_index, edge_attr)), strict=True):
        close(one, other)


def functional_call(make: Make) -> None:
    (x, edge_index), conv, other = graph(), layer(make), layer(make)
    given = {name: parameter.detach() for name, parameter in other.named_parameters()}
    close(states(torch.func.functional_call(conv, given, (x, edge_index))), states(other(x, edge_index)))


# Transforms, compilers and exporters.


def jacobians(make: Make) -> None:
    (x, edge_index), conv = graph(), layer(make)

    def call(x: Tensor) -> Tensor:
        return states(conv(x, edge_index))

    expected = torch.autograd.functional.jacobian(call, x)
    close(torch.func.jacrev(call)(x), expected)
    gradient = torch.func.grad(lambda x: call(x).square().sum())(x)
    close(gradient, 2 * torch.einsum("nhmk,nh->mk", expected, call(x)))


def vmap(make: Make) -> None:
    (x, edge_index), conv = graph(), layer(make)
    several = torch.stack([x, 2 * x, x + 1])
    found = torch.func.vmap(lambda x: states(conv(x, edge_index)))(several)
    close(found, torch.stack([states(conv(x, edge_index)) for x in several]))


def double_backward(make: Make) -> None:
    (x, edge_index), conv = graph(), layer(make)
    x.requires_grad_()

    def slope(x: Tensor, **kwargs: Any) -> Tensor:
        return torch.autograd.grad(states(conv(x, edge_index)).square().sum(), x, **kwargs)[0]

    along, step = torch.randn_like(x), 1e-6
    (found,) = torch.autograd.grad((slope(x, create_graph=True) * along).sum(), x)
    expected = (slope(x + step * along) - slope(x - step * along)) / (2 * step)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def with_features(make: Make) -> tuple[nn.Module, dict[str, Tensor]]:
    """A layer, and all that it takes."""
    x, edge_index = graph()
    given = {"x": x, "edge_index": edge_index, "edge_attr": torch.randn(E, 2, dtype=torch.float64)}
    if not isinstance(make(K, H), AsynchronousConv):
        given |= {"graph_attr": torch.randn(2, 3, dtype=torch.float64), "batch": torch.tensor([0, 0, 0, 1, 1, 1])}
        return layer(make, K, H, 2, 3), given
    return layer(make, K, H, 2), given


class Whole(nn.Module):
    """A model of one layer."""

    def __init__(self, conv: nn.Module) -> None:
        super().__init__()
        self.conv = conv

    def forward(
        self,
        x: Tensor,
        edge_index: Tensor,
        edge_attr: Tensor,
        graph_attr: Tensor | None = None,
        batch: Tensor | None = None,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """What the layer makes."""
        of_graphs = {} if graph_attr is None else {"graph_attr": graph_attr, "batch": batch}
        made: Tensor | tuple[Tensor, Tensor] = self.conv(x, edge_index, edge_attr, **of_graphs)
        return made


def full_graph(make: Make) -> None:
    conv, given = with_features(make)
    torch.compiler.reset()
    for one, other in zip(
        flat(torch.compile(conv, backend="eager", fullgraph=True)(**given)), flat(conv(**given)), strict=True
    ):
        close(one, other)


def export(make: Make) -> None:
    conv, given = with_features(make)
    dims = {"x": "nodes", "edge_index": "edges", "edge_attr": "edges", "graph_attr": "graphs", "batch": "nodes"}
    sizes = {name: torch.export.Dim(name, min=2) for name in {*dims.values()}}
    shapes = {name: {int(name == "edge_index"): sizes[dims[name]]} for name in given}
    # In a model: torch.export cannot set a module `graph`, which some of ours have, where it sets a graph of its own.
    program = torch.export.export(Whole(conv), (), given, dynamic_shapes=shapes).module()
    twice = {name: torch.cat([x, x], dim=int(name == "edge_index")) for name, x in given.items()}
    twice["edge_attr"][E:] += 1
    for some in (given, twice):
        for one, other in zip(flat(program(**some)), flat(conv(**some)), strict=True):
            close(one, other)


# Graphs in PyG's ways.


def bipartite(make: Make) -> None:
    conv, (x, _) = layer(make), graph()
    edge_index = torch.tensor([[2, 0, 3, 1, 3], [1, 1, 0, 0, 1]])
    whole = states(conv(x, edge_index + torch.tensor([[0], [4]])))
    close(states(conv((x[:4], x[4:]), edge_index)), whole[4:])
    close(states(conv((x[:4], x[4:]), edge_index.int(), size=(4, 2))), whole[4:])
    with pytest.raises(ValueError, match=r"expected size\[1\] 2.*given 3"):
        conv((x[:4], x[4:]), edge_index, size=(4, 3))
    with pytest.raises(IndexError, match=r"expected edge_index\[1\] in 0 … 1, given 2"):
        conv((x[:4], x[4:]), edge_index + torch.tensor([[0], [1]]))


def bipartite_of_two_widths(make: Make) -> None:
    conv = layer(make, (3, K), H)
    x_src, x_dst = torch.randn(4, 3, dtype=torch.float64), torch.randn(2, K, dtype=torch.float64)
    edge_index = torch.tensor([[2, 0, 3, 1, 3], [1, 1, 0, 0, 1]])
    assert states(conv((x_src, x_dst), edge_index)).shape == (2, H)
    turned = layer(make, (K, 3), H, flow="target_to_source")
    turned.load_state_dict(conv.state_dict())
    close(states(turned((x_dst, x_src), edge_index.flip(0))), states(conv((x_src, x_dst), edge_index)))


def nothing_of_receivers(make: Make) -> None:
    conv, (x, _) = make(K, H).double(), graph()
    edge_index = torch.tensor([[2, 0, 5, 1, 3], [1, 1, 0, 0, 1]])
    expected = states(conv((x, torch.zeros(3, K, dtype=torch.float64)), edge_index))
    close(states(conv((x, None), edge_index, size=(6, 3))), expected)


def hetero() -> tuple[HeteroData, dict[str, Tensor], dict[Any, Tensor]]:
    """Two kinds of nodes, and edges within one and to and fro."""
    data = HeteroData()
    data["a"].x, data["b"].x = torch.randn(4, K), torch.randn(3, K)
    data["a", "to", "b"].edge_index = torch.tensor([[0, 3, 1], [2, 1, 0]])
    data["b", "to", "a"].edge_index = torch.tensor([[2, 1, 0], [0, 3, 1]])
    data["a", "to", "a"].edge_index = torch.tensor([[0, 1], [1, 2]])
    return data, data.x_dict, data.edge_index_dict


def hetero_conv(make: Make) -> None:
    _, x, edges = hetero()
    model = HeteroConv({kind: Wrapped(make(K, H)) for kind in edges}, aggr="sum")
    made = model(x, edges)
    assert {name: y.shape for name, y in made.items()} == {"a": (4, H), "b": (3, H)}
    one = model.convs[("a", "to", "b")].conv
    close(made["b"], states(one((x["a"], x["b"]), edges["a", "to", "b"])))


class Net(nn.Module):
    """Two layers."""

    def __init__(self, make: Make, width: Any) -> None:
        super().__init__()
        self.one, self.two = make(width, H), make(H, H)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        """[N, H]."""
        return self.two(self.one(x, edge_index).relu(), edge_index)


def to_heterogeneous(make: Make) -> None:
    data, x, edges = hetero()
    for width in (K, -1):
        model = to_hetero(Net(make, width), data.metadata(), aggr="sum")
        assert {name: y.shape for name, y in model(x, edges).items()} == {"a": (4, H), "b": (3, H)}


class Matrix(SparseTensor):
    """As much of torch-sparse's, which need not be installed, as PyG asks of it."""

    def __init__(self, row: Tensor, col: Tensor, value: Tensor | None) -> None:
        self.parts = row, col, value

    def coo(self) -> tuple[Tensor, Tensor, Tensor | None]:
        """Rows, columns and values."""
        return self.parts

    def size(self, dim: int) -> int:
        """Of an axis."""
        return N


def adj_t(make: Make) -> None:
    (x, edge_index), conv = graph(), layer(make)
    edge_index = edge_index.unique(dim=1)
    with_values = layer(make, K, H, 1)
    values = torch.randn(edge_index.shape[1], dtype=torch.float64)
    receivers, senders = edge_index.flip(0)
    made: list[Any] = []
    for convert in (to_torch_coo_tensor, to_torch_csr_tensor, to_torch_csc_tensor):
        made.append(convert(edge_index.flip(0), values, size=(N, N)))
    made.append(Matrix(receivers, senders, values))
    for matrix in made:
        close(states(conv(x, matrix)), states(conv(x, edge_index)))
        close(states(with_values(x, matrix)), states(with_values(x, edge_index, values[:, None])))
    conv.flow = "target_to_source"
    with pytest.raises(ValueError, match=r"expected an edge_index of flow 'target_to_source', given a sparse matrix"):
        conv(x, made[0])


def flow(make: Make) -> None:
    (x, edge_index), conv, turned = graph(), layer(make, K, H, 2), layer(make, K, H, 2, flow="target_to_source")
    edge_attr = torch.randn(E, 2, dtype=torch.float64)
    turned.load_state_dict(conv.state_dict())
    expected = conv(x, edge_index, edge_attr)
    for one, other in zip(flat(turned(x, edge_index.flip(0), edge_attr)), flat(expected), strict=True):
        close(one, other)
    conv.flow = "target_to_source"  # as PyG's own layers for directed graphs do
    assert conv(x, edge_index.flip(0), edge_attr)[0].equal(turned(x, edge_index.flip(0), edge_attr)[0])
    with pytest.raises(ValueError, match="flow"):
        make(K, H, flow="both")


def directed(make: Make) -> None:
    x, edge_index = graph()
    assert DirGNNConv(layer(make)).double()(x, edge_index).shape == (N, H)


def lazy_widths(make: Make) -> None:
    (x, edge_index), conv, edge_attr = graph(), make(-1, H, -1), torch.randn(E, 2)
    x = x.float()
    stored = io.BytesIO()
    torch.save(conv.state_dict(), stored)
    copied = copy.deepcopy(conv)
    made = flat(conv(x, edge_index, edge_attr))
    assert conv.in_channels == K
    assert conv.edge_dim == 2
    known = make(K, H, 2)
    known.load_state_dict(conv.state_dict())
    copied.load_state_dict(conv.state_dict())
    loaded = pickle.loads(pickle.dumps(conv))
    for other in (known, copied, loaded):
        for one, another in zip(made, flat(other(x, edge_index, edge_attr)), strict=True):
            torch.testing.assert_close(one, another)
    again = make(-1, H, -1)
    again.load_state_dict(torch.load(io.BytesIO(stored.getvalue()), weights_only=False))
    assert flat(again(x, edge_index, edge_attr))[0].shape == (N, H)
    again.reset_parameters()
    with pytest.raises(ValueError, match=rf"expected x \[{N}, {K}\], given \[{N}, {K - 1}\]"):
        conv(x[:, 1:], edge_index, edge_attr)
    narrow = make(-1, H, -1)
    narrow.load_state_dict(conv.state_dict())
    with pytest.raises(ValueError, match=rf"expected {K} channels.*given {K - 1}"):
        narrow(x[:, 1:], edge_index, edge_attr)
    assert not any(isinstance(part, nn.modules.lazy.LazyModuleMixin) for part in conv.modules())


def integers(make: Make) -> None:
    (x, edge_index), conv = graph(), layer(make)
    expected = states(conv(x, edge_index))
    for dtype in (torch.uint8, torch.int8, torch.int16, torch.int32):
        assert states(conv(x, edge_index.to(dtype))).equal(expected)
    if isinstance(conv, AsynchronousConv):
        return
    conv = layer(make, K, H, None, 2)
    batch, graph_attr = torch.tensor([0, 0, 1, 1, 2, 2]), torch.randn(3, 2, dtype=torch.float64)
    expected = states(conv(x, edge_index, None, graph_attr, batch))
    for dtype in (torch.uint8, torch.int32):
        assert states(conv(x, edge_index.to(dtype), None, graph_attr, batch.to(dtype))).equal(expected)


def nothing(make: Make) -> None:
    x, edge_index = graph()
    for edge_dim in (None, 2):
        conv = layer(make, K, H, edge_dim).train()
        edge_attr = None if edge_dim is None else torch.randn(E, edge_dim, dtype=torch.float64)
        alone = states(conv(x, edge_index, edge_attr))[5:]  # hears nobody
        none = edge_attr if edge_attr is None else edge_attr[:0]
        made = conv(x, edge_index[:, :0], none)
        close(states(made)[5:], alone)
        sum(part.sum() for part in flat(made)).backward()
        assert all(part.grad is None or part.grad.isfinite().all() for part in conv.parameters())
        close(states(conv(x[5:], edge_index[:, :0], none)), alone)
        assert [len(part) for part in flat(conv(x[:0], edge_index[:, :0], none))] in ([0], [0, 0])
        loop = None if edge_attr is None else edge_attr[:1]
        assert states(conv(x[:1], torch.zeros(2, 1, dtype=torch.int64), loop)).isfinite().all()


def mini_batches(make: Make) -> None:
    conv = layer(make)
    graphs = []
    for number in range(3):
        x, edge_index = graph()
        graphs.append(Data(x=x, edge_index=edge_index[:, : 4 * number]))
    expected = torch.cat([states(conv(one.x, one.edge_index)) for one in graphs])
    batch = Batch.from_data_list(graphs)
    close(states(conv(batch.x, batch.edge_index)), expected)
    loaded = [states(conv(some.x, some.edge_index)) for some in DataLoader(graphs, batch_size=2)]
    close(torch.cat(loaded), expected)


def subgraphs(make: Make) -> None:
    (x, edge_index), conv = graph(), layer(make)
    nodes, edges, seed, _ = k_hop_subgraph(1, 1, edge_index, relabel_nodes=True)
    close(states(conv(x[nodes], edges))[seed], states(conv(x, edge_index))[[1]])


def copies(make: Make) -> None:
    (x, edge_index), conv = graph(), layer(make)
    expected = states(conv(x, edge_index))
    for other in (copy.deepcopy(conv), pickle.loads(pickle.dumps(conv))):
        assert states(other(x, edge_index)).equal(expected)
    assert "Conv" in summary(Wrapped(conv), x, edge_index)


def autocast(make: Make) -> None:
    (x, edge_index), conv = graph(), layer(make, K, H, 2).float()
    x, edge_attr = x.float(), torch.randn(E, 2)
    with torch.autocast("cpu", torch.bfloat16):
        found = states(conv(x, edge_index, edge_attr))
    torch.testing.assert_close(found.float(), states(conv(x, edge_index, edge_attr)), rtol=0.1, atol=0.2)


def decomposition(make: Make) -> None:
    (x, edge_index), conv = graph(), layer(make)
    conv.decomposed_layers = 2
    conv(x, edge_index)


def what_does_not_fit(make: Make) -> None:
    (x, edge_index), conv, plain = graph(), layer(make, K, H, 2), layer(make)
    edge_attr = torch.randn(E, 2, dtype=torch.float64)
    name = type(conv).__name__

    def refused(kind: type[Exception], match: str, *given: Any, of: nn.Module = conv) -> None:
        with pytest.raises(kind, match=f"^{name}: expected {match}") as caught:
            of(*given)
        assert "\n" not in str(caught.value)

    for bad in (-1, N, 10**6, -(2**40)):
        for row in (0, 1):
            wrong = edge_index.clone()
            wrong[row, 3] = bad
            refused(IndexError, f"edge_index in 0 … {N - 1}, given {bad}", x, wrong, edge_attr)
    refused(ValueError, rf"edge_attr \[{E}, 2\], given \[1, 2\]", x, edge_index, edge_attr[:1])
    refused(
        ValueError, rf"edge_attr \[{E}, 2\], given \[{E + 1}, 2\]", x, edge_index, torch.cat([edge_attr, edge_attr[:1]])
    )
    refused(ValueError, rf"edge_attr \[{E}, 2\], given \[{E}, 1\]", x, edge_index, edge_attr[:, :1])
    refused(ValueError, rf"edge_attr \[{E}, 2\], given \[{E}\]", x, edge_index, edge_attr[:, 0])
    refused(ValueError, "edge_attr of edge_dim 2, given none", x, edge_index)
    refused(ValueError, "edge_attr of edge_dim None, given some of width 2", x, edge_index, edge_attr, of=plain)
    refused(ValueError, rf"x \[{N}, {K}\], given \[{N}, {K - 1}\]", x[:, 1:], edge_index, edge_attr)
    refused(ValueError, rf"edge_index \[2, E\], given \[{E}, 2\]", x, edge_index.T, edge_attr)
    refused(ValueError, r"edge_index \[2, E\], given \[2\]", x, edge_index[:, 0], edge_attr)
    refused(TypeError, "edge_index of whole numbers, given torch.float32", x, edge_index.float(), edge_attr)
    refused(TypeError, "edge_index as a tensor, given list", x, edge_index.tolist(), edge_attr)
    refused(TypeError, "x as a tensor or a pair of them, given dict, dict", {"a": x}, edge_index, edge_attr)
    refused(TypeError, "x of torch.float64.*given torch.float32", x.float(), edge_index, edge_attr)
    refused(TypeError, "x of torch.float64.*given torch.int64", x.long(), edge_index, edge_attr)
    refused(TypeError, "edge_attr of torch.float64.*given torch.float16", x, edge_index, edge_attr.half())
    refused(ValueError, "features of the nodes that send, given None", (None, x), edge_index, edge_attr)
    if isinstance(conv, AsynchronousConv):
        refused(ValueError, rf"hidden \[{N}, {H}\], given \[1, {H}\]", x, edge_index, edge_attr, x[:1, :H])
        return
    conv = layer(make, K, H, None, 3)
    batch, graph_attr = torch.tensor([0, 0, 1, 1, 1, 1]), torch.randn(2, 3, dtype=torch.float64)
    refused(ValueError, rf"batch \[{N}\], given \[{N - 1}\]", x, edge_index, None, graph_attr, batch[1:], of=conv)
    refused(ValueError, rf"graph_attr \[1, 3\], given \[{N}, 3\]", x, edge_index, None, x[:, :3], of=conv)
    refused(IndexError, "batch in 0 … 0, given 1", x, edge_index, None, graph_attr[:1], batch, of=conv)
    refused(IndexError, "batch in 0 … 1, given -1", x, edge_index, None, graph_attr, batch - 1, of=conv)
    refused(TypeError, "batch of whole numbers", x, edge_index, None, graph_attr, batch.double(), of=conv)
    refused(ValueError, "graph_attr of graph_dim 3, given none", x, edge_index, None, None, batch, of=conv)


PATTERNS = [
    *(masks, gnn_explainer, pg_explainer, graph_mask_explainer, attention_explainer, message_hooks),
    *(overridden_message, module_hooks, pruning, weight_norm, spectral_norm, old_norms, stand_ins, functional_call),
    *(jacobians, vmap, double_backward, full_graph, export),
    *(bipartite, bipartite_of_two_widths, nothing_of_receivers, hetero_conv, to_heterogeneous, adj_t, flow, directed),
    *(lazy_widths, integers, nothing, mini_batches, subgraphs, copies, autocast, decomposition, what_does_not_fit),
]
NO_MESSAGES = NotImplementedError, "PGNConv: expected no hooks on messages and no explainer with senders 'self'"
NOT_TWO = NotImplementedError, "Conv: expected one x"
NO_STATE = NotImplementedError, "PGNConv: expected x_dst with a gate.*given None"
ACROSS_TYPES = ("bipartite", "nothing_of_receivers", "hetero_conv", "to_heterogeneous")
REFUSED: dict[tuple[str, str], tuple[type[Exception], str]] = {
    **{
        (pattern, "PGNConv of itself"): NO_MESSAGES
        for pattern in (
            *("masks", "gnn_explainer", "pg_explainer", "graph_mask_explainer", "attention_explainer"),
            *("message_hooks", "overridden_message"),
        )
    },
    **{
        (pattern, name): NOT_TWO
        for pattern in ACROSS_TYPES
        for name in LAYERS
        if name in ("PGNConv with triplets", "PGNConv of itself") or name.startswith("AsynchronousConv")
    },
    ("nothing_of_receivers", "PGNConv gated"): NO_STATE,
    **{
        ("bipartite_of_two_widths", name): (error, r"expected one in_channels.*given \(3, 6\)")
        for name in LAYERS
        for kind, error in (
            ("PGNConv with triplets", ValueError),
            ("PGNConv of itself", ValueError),
            ("AsynchronousConv", TypeError),
        )
        if name.startswith(kind)
    },
    **{
        ("decomposition", name): (NotImplementedError, "Conv: expected decomposed_layers 1, given 2") for name in LAYERS
    },
    **{
        (pattern, f"PGNConv {aggr}"): (NotImplementedError, "Aggregation: expected no torch.export and no vmap")
        for pattern in ("vmap", "export")
        for aggr in ("recurrent", "lstm")
    },
}
# What PyTorch or PyG itself says no to.
NOT_OURS: dict[tuple[str, str], tuple[type[Exception], str]] = {
    ("full_graph", "PGNConv lstm"): (torch._dynamo.exc.Unsupported, "LSTM"),
    ("full_graph", "PGNConv recurrent"): (torch._dynamo.exc.Unsupported, "Data-dependent branching"),
    ("export", "PGNConv median"): (torch._dynamo.exc.UserError, "Constraints violated"),
    ("directed", "PGNConv with triplets"): (TypeError, "can't multiply sequence"),
    ("graph_mask_explainer", "AsynchronousConv logsumexp"): (RuntimeError, "shapes cannot be multiplied"),
    **{
        ("attention_explainer", name): (ValueError, "Could not collect any attention coefficients")
        for name in LAYERS
        if not name.startswith("GAT") and name != "PGNConv of itself"
    },
}


@pytest.mark.filterwarnings("ignore:Full backward hook is firing", "ignore:Sparse (invariant|CS[RC])")
@pytest.mark.filterwarnings("ignore:Converting a tensor with requires_grad")  # PyG's PGExplainer does
@pytest.mark.parametrize("name", WITH_SETTINGS_SLOW)
@pytest.mark.parametrize("pattern", PATTERNS, ids=lambda pattern: pattern.__name__)
def test_a_pattern_of_pyg_works_or_is_refused_by_name(pattern: Callable[[Make], None], name: str) -> None:
    key = (pattern.__name__, name)
    refusal = (REFUSED | NOT_OURS).get(key)
    if refusal is None:
        pattern(LAYERS[name])
        return
    kind, message = refusal
    with pytest.raises(kind, match=message) as caught:
        pattern(LAYERS[name])
    assert key in NOT_OURS or "\n" not in str(caught.value)


def broken(given: dict[str, Tensor], draw: Callable[[int], int]) -> str:
    """Break one of the tensors, in some way that does not fit, and say how."""
    name = [*given][draw(len(given))]
    x = given[name]
    is_index = not x.is_floating_point()
    if is_index and draw(2):
        rows = {"edge_index": N, "batch": 2}[name]
        bad = [-1, rows, -(2 ** draw(40)) - 1, rows + 2 ** draw(40)][draw(4)]
        given[name] = x.clone().flatten().index_fill(0, torch.tensor([draw(x.numel())]), bad).view_as(x)
        return f"{name} holds {bad}"
    ways: dict[str, Callable[[Tensor], Any]] = {
        "one less": lambda x: x[1:],
        "one more": lambda x: torch.cat([x, x[:1]]),
        "with an axis more": lambda x: x[None],
        "flat": lambda x: x.flatten() if x.dim() > 1 else x[:, None],
        "of another type": lambda x: x.double() if is_index else x.half(),
        "as a list": lambda x: x.tolist(),
        "none": lambda x: None,
    }
    if name == "graph_attr":  # of more graphs than there are nodes in
        del ways["one more"]
    if name == "x" and "batch" not in given:  # there is no other word on how many nodes there are
        del ways["one less"], ways["one more"]
    if name == "batch":
        del ways["none"]
    how = [*ways][draw(len(ways))]
    given[name] = ways[how](x)
    return f"{name} {how}"


@pytest.mark.parametrize("name", LAYERS)
def test_what_is_broken_at_random_is_refused_in_one_line(name: str) -> None:
    conv, sound = with_features(LAYERS[name])
    for _ in range(40):
        given = dict(sound)
        how = broken(given, lambda below: int(torch.randint(below, ())))
        try:
            conv(**given)
        except (IndexError, TypeError, ValueError) as error:
            message = str(error)
        else:
            pytest.fail(f"{how} was taken")
        assert message.startswith(f"{type(conv).__name__}: expected "), how
        assert "\n" not in message, how
