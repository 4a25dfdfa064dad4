"""The base of layers along edges, which takes graphs in the ways in which PyTorch Geometric's users give them.

====================================  ======================================================================
x                                     a tensor; of a bipartite graph (x_src, x_dst), where one may be None
edge_index                            a tensor [2, E], an ``EdgeIndex``, or a sparse matrix adj_t
edge_attr                             a tensor; if it is None, the values of the sparse matrix
batch                                 a tensor, None for one graph, or a pair, as ``HeteroConv`` gives it
widths of the features                numbers, or -1 for those of the first call
flow                                  in PyG's words: which row of edge_index hears the other
====================================  ======================================================================

:meth:`SparseConv.given` brings all of them into one form.
"""
# Axes: S senders and R receivers, the same N nodes unless the graph is bipartite; E edges, B graphs.

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.parameter import UninitializedParameter
from torch_geometric import EdgeIndex
from torch_geometric.nn import MessagePassing
from torch_geometric.nn.aggr import Aggregation
from torch_geometric.utils import is_sparse, to_edge_index

from nar.ops.border import check_index
from nar.ops.linear import Linear

Flow = Literal["source_to_target", "target_to_source"]
Width = int | tuple[int, int]
Nodes = Tensor | tuple[Tensor | None, Tensor | None]
Size = tuple[int | None, int | None]


class Given(NamedTuple):
    """The arguments of a layer in one form, once they are known to fit.

    Attributes:
        sending: Features of the nodes that send, [S, ...].
        hearing: Features of the nodes that hear, [R, ...]; None if they have none.
        edge_index: In the order and the direction in which it was given, as :meth:`MessagePassing.propagate` takes it.
        senders: [E].
        receivers: [E].
        size: How many nodes the rows of `edge_index` choose among.
        num_receivers: R.
        edge_attr: [E, ...], or None.
        graph_attr: Features of each receiver's graph, [R, ...], or None.
        is_bipartite: Whether those who send are not those who hear.
    """

    sending: Tensor
    hearing: Tensor | None
    edge_index: Tensor
    senders: Tensor
    receivers: Tensor
    size: tuple[int, int]
    num_receivers: int
    edge_attr: Tensor | None
    graph_attr: Tensor | None
    is_bipartite: bool


class SparseConv(MessagePassing):  # type: ignore[misc]
    """A layer of PyTorch Geometric that says in one line what of its arguments does not fit.

    Args:
        in_channels: Width of x, or those of x_src and x_dst; -1 for what the first call is given.
        out_channels: H.
        edge_dim: Width of the edges' features, -1 as above; None for none.
        graph_dim: Width of the graphs' features, -1 as above; None for none.
        aggr: What is taken of the messages.
        flow: Which row of `edge_index` hears the other.
    """

    def __init__(
        self,
        in_channels: Width,
        out_channels: int,
        edge_dim: int | None,
        graph_dim: int | None,
        aggr: str | Aggregation | None,
        flow: Flow,
    ) -> None:
        pair = in_channels if isinstance(in_channels, Sequence) else (in_channels,)
        widths = [*pair, out_channels, *(width for width in (edge_dim, graph_dim) if width is not None)]
        if len(pair) > 2 or any(width < 1 and width != -1 for width in widths) or out_channels < 1:
            raise ValueError(
                f"{type(self).__name__}: expected widths ≥ 1 (-1 for what the first call is given), given {widths}"
            )
        super().__init__(aggr=aggr, flow=flow)
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.edge_dim = edge_dim
        self.graph_dim = graph_dim

    def reset_parameters(self) -> None:
        """Draw all weights anew."""
        for module in self.modules():
            if module is not self and hasattr(module, "reset_parameters"):
                module.reset_parameters()

    @property
    def widths(self) -> tuple[int, int]:
        """The widths of the features of senders and of receivers; -1 before the first call."""
        first, second = self.in_channels if isinstance(self.in_channels, Sequence) else [self.in_channels] * 2
        return (first, second) if self.flow == "source_to_target" else (second, first)

    def given(
        self,
        x: Nodes,
        edge_index: Any,
        edge_attr: Tensor | None = None,
        graph_attr: Tensor | None = None,
        batch: Tensor | tuple[Tensor | None, Tensor | None] | None = None,
        size: Size | None = None,
    ) -> Given:
        """The arguments of `forward`, in whichever form they were given, as :class:`Given`.

        Raises:
            IndexError: If an edge or a node's graph is none of those that there are.
            TypeError: If an argument is of another type.
            ValueError: If an argument is of another shape, or a width is given and no features, or features and none.
            NotImplementedError: If it is asked to decompose its messages.
        """
        name = type(self).__name__
        if self.decomposed_layers != 1:
            raise NotImplementedError(
                f"{name}: expected decomposed_layers 1, given {self.decomposed_layers}: its messages mix their channels"
            )
        is_forward = self.flow == "source_to_target"
        if is_sparse(edge_index):
            edge_index, edge_attr, size = self._of_sparse_matrix(edge_index, edge_attr)
        edge_index, pair = self._edge_index(edge_index), self._pair(x)
        sending, hearing = pair if is_forward else pair[::-1]
        if sending is None:
            raise ValueError(f"{name}: expected features of the nodes that send, given None")
        num_nodes = self.num_nodes(pair, size)
        num_senders, num_receivers = num_nodes if is_forward else num_nodes[::-1]
        sender_dim, receiver_dim = self.widths
        self.expect("x", sending, num_senders, sender_dim)
        if hearing is not None:
            self.expect("x", hearing, num_receivers, receiver_dim)
        for what, features, width in (("edge", edge_attr, self.edge_dim), ("graph", graph_attr, self.graph_dim)):
            if (features is None) != (width is None):
                found = "none" if features is None else f"some of width {_width_of(features)}"
                raise ValueError(f"{name}: expected {what}_attr of {what}_dim {width}, given {found}")
        if num_nodes[0] == num_nodes[1]:
            edge_index = check_index(name, "edge_index", edge_index, num_nodes[0])
        else:
            rows = zip(edge_index, num_nodes, strict=True)
            edge_index = torch.stack([check_index(name, f"edge_index[{i}]", *row) for i, row in enumerate(rows)])
        if edge_attr is not None and self.edge_dim is not None:
            self.expect("edge_attr", edge_attr, edge_index.shape[1], self.edge_dim)
        of_receivers = self._of_receivers(graph_attr, batch, num_receivers)
        self.learn_widths(pair, edge_attr, graph_attr)
        senders, receivers = edge_index if is_forward else edge_index.flip(0)
        return Given(
            *(sending, hearing, edge_index, senders, receivers, num_nodes, num_receivers),
            *(edge_attr, of_receivers, pair[0] is not pair[1]),
        )

    def _of_sparse_matrix(self, adj_t: Any, edge_attr: Tensor | None) -> tuple[Tensor, Tensor | None, Size]:
        """`edge_index`, `edge_attr` and `size` from a sparse matrix, in whose row i are the edges to i.

        Its values are the features, unless some were given or the layer takes none.
        """
        if self.flow != "source_to_target":
            raise ValueError(
                f"{type(self).__name__}: expected an edge_index of flow {self.flow!r}, given a sparse matrix (adj_t)"
            )
        transposed, values = to_edge_index(adj_t)
        if edge_attr is None and self.edge_dim is not None:
            edge_attr = values[:, None] if values.dim() == 1 else values
        return transposed.flip(0), edge_attr, (adj_t.size(1), adj_t.size(0))

    def _edge_index(self, edge_index: Any) -> Tensor:
        """`edge_index` as a plain tensor [2, E]."""
        name = type(self).__name__
        if not isinstance(edge_index, Tensor):
            raise TypeError(f"{name}: expected edge_index as a tensor, given {type(edge_index).__name__}")
        plain: Tensor = edge_index.as_tensor() if isinstance(edge_index, EdgeIndex) else edge_index
        if plain.dim() != 2 or plain.shape[0] != 2:
            raise ValueError(f"{name}: expected edge_index [2, E], given {list(plain.shape)}")
        return plain

    def _pair(self, x: Any) -> tuple[Tensor | None, Tensor | None]:
        """x_src and x_dst, which are the same tensor unless the graph is bipartite."""
        pair = tuple(x) if isinstance(x, tuple | list) else (x, x)
        if len(pair) != 2 or not all(part is None or isinstance(part, Tensor) for part in pair):
            kinds = ", ".join(type(part).__name__ for part in pair)
            raise TypeError(f"{type(self).__name__}: expected x as a tensor or a pair of them, given {kinds}")
        return pair

    def _of_receivers(self, graph_attr: Tensor | None, batch: Any, num_receivers: int) -> Tensor | None:
        """The features of each receiver's graph, [R, graph_dim]; None if graphs have none."""
        name = type(self).__name__
        if isinstance(batch, tuple):  # of both kinds of nodes, as HeteroConv has it
            batch = batch[1 if self.flow == "source_to_target" else 0]
        if batch is not None and not isinstance(batch, Tensor):
            raise TypeError(f"{name}: expected batch as a tensor, given {type(batch).__name__}")
        if batch is not None and batch.shape != (num_receivers,):
            raise ValueError(f"{name}: expected batch [{num_receivers}], given {list(batch.shape)}")
        if graph_attr is None or self.graph_dim is None:
            return None
        number = 1 if batch is None or not isinstance(graph_attr, Tensor) else graph_attr.shape[0]
        self.expect("graph_attr", graph_attr, number, self.graph_dim)
        if batch is None:
            return graph_attr.expand(num_receivers, -1)
        return graph_attr.index_select(0, check_index(name, "batch", batch, graph_attr.shape[0]))

    def pass_on(self, given: Given, **features: Tensor) -> Tensor:
        """What receivers are left with when messages are made of these features and aggregated, by PyG."""
        if self.explain:  # some explainers read x beside the messages
            pair = (given.sending, given.hearing)
            features["x"] = pair if self.flow == "source_to_target" else pair[::-1]  # type: ignore[assignment]
        received: Tensor = self.propagate(given.edge_index, size=given.size, **features)
        return received

    def num_nodes(self, pair: Sequence[Tensor | None], size: Size | None) -> tuple[int, int]:
        """The numbers of nodes that the two rows of `edge_index` choose among."""
        numbers = [None if part is None or part.dim() == 0 else part.shape[0] for part in pair]
        for place, wanted in enumerate(size or ()):
            if numbers[place] is None:
                numbers[place] = wanted
            elif wanted is not None and wanted != numbers[place]:
                raise ValueError(
                    f"{type(self).__name__}: expected size[{place}] {numbers[place]}, as x has rows, given {wanted}"
                )
        first, second = (numbers[place] if numbers[place] is not None else numbers[1 - place] for place in (0, 1))
        return first or 0, second or 0

    def expect(self, what: str, features: Tensor, number: int, width: int) -> None:
        """See to it that features are so many of this width, or of any if it is -1, in the type of the weights."""
        name = type(self).__name__
        if not isinstance(features, Tensor):
            raise TypeError(f"{name}: expected {what} as a tensor, given {type(features).__name__}")
        shape = list(features.shape)
        if len(shape) != 2 or shape[0] != number or (width not in (-1, shape[1])):
            raise ValueError(f"{name}: expected {what} {[number, width]}, given {shape}")
        if torch.is_autocast_enabled(features.device.type) and features.is_floating_point():
            return
        dtypes = (parameter.dtype for parameter in self.parameters() if parameter.is_floating_point())
        first = next(dtypes, features.dtype)
        if features.dtype != first and features.dtype not in dtypes:
            raise TypeError(f"{name}: expected {what} of {first}, as its weights are, given {features.dtype}")

    def learn_widths(self, pair: Sequence[Tensor | None], edge_attr: Tensor | None, graph_attr: Tensor | None) -> None:
        """Take the widths that are -1 from what the first call was given."""
        if -1 in self.widths:
            known = self.in_channels if isinstance(self.in_channels, Sequence) else [self.in_channels] * 2
            first, second = (
                part.shape[1] if width == -1 and part is not None else width
                for width, part in zip(known, pair, strict=True)
            )
            self.in_channels = first if first == second else (first, second)
        if self.edge_dim == -1 and edge_attr is not None:
            self.edge_dim = edge_attr.shape[1]
        if self.graph_dim == -1 and graph_attr is not None:
            self.graph_dim = graph_attr.shape[1]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.in_channels}, {self.out_channels})"


def _width_of(features: Tensor) -> int | str:
    """The length of the last axis of features, or the name of their type if they are no tensor."""
    shape = getattr(features, "shape", ())
    return shape[-1] if shape else type(features).__name__


class LazyLinear(LazyModuleMixin, Linear):
    """A :class:`nar.ops.linear.Linear` that takes its width from the first x, and is then one of those.

    Args:
        out_features: Width of y.
        bias: Starting value of every entry of b.
    """

    cls_to_become = Linear

    def __init__(self, out_features: int, *, bias: float = 0.0) -> None:
        super().__init__(1, out_features, bias=bias)
        self.in_features = 0
        self.weight = UninitializedParameter()

    def reset_parameters(self) -> None:
        """Draw W and set b anew, once there is a W."""
        if not self.has_uninitialized_params():
            super().reset_parameters()

    def initialize_parameters(self, input: Tensor) -> None:
        """Draw W for this x, unless it has been loaded."""
        is_loaded = not self.has_uninitialized_params()
        if is_loaded and input.shape[-1] != self.weight.shape[1]:
            raise ValueError(f"expected {self.weight.shape[1]} channels, as its weights have, given {input.shape[-1]}")
        self.in_features = input.shape[-1]
        self.std = self.in_features**-0.5
        if not is_loaded:
            assert isinstance(self.weight, UninitializedParameter)
            self.weight.materialize((self.out_features, self.in_features))
            self.reset_parameters()


def linear(in_features: int, out_features: int, *, bias: float = 0.0) -> Linear:
    """A linear layer on x of this width, or of that of the first x if it is -1."""
    return LazyLinear(out_features, bias=bias) if in_features == -1 else Linear(in_features, out_features, bias=bias)
