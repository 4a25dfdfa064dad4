"""Every operation with compiled code, with arguments and the formula that it is to be equal to."""
# Axes: B graphs, N nodes, S sender, R receiver, E edges, M rows, H hidden, K channels, F features.

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from nar.ops import edge_max_message as sparse
from nar.ops.edge_max_message import reference
from nar.ops.max_message import max_message
from nar.ops.max_message.reference import plain_max_message
from nar.ops.max_plus import max_plus
from nar.ops.max_plus.reference import plain_max_plus
from nar.ops.pointer_logits import edge_logits, product_logits
from nar.ops.pointer_logits.reference import plain_edge_logits, plain_product_logits
from nar.ops.scatter import plain_max, scatter
from nar.ops.softmax_plus import plain_softmax_plus, softmax_plus

SIZES = {"B": 2, "N": 4, "S": 3, "R": 4, "M": 6, "E": 12, "H": 5, "K": 2, "F": 3, "W": 6}


class Operation(NamedTuple):
    """Attributes:
    axes: Of each argument, all of which are floating-point.
    call: The operation.
    plain: Its formula.
    """

    axes: tuple[str, ...]
    call: Callable[..., Tensor]
    plain: Callable[..., Tensor]


def some_heard(num_graphs: int, num_senders: int, num_receivers: int) -> Tensor:
    """Who is heard: by one node nobody."""
    b, s, r = torch.arange(num_graphs), torch.arange(num_senders), torch.arange(num_receivers)
    return ((b[:, None, None] + 2 * s[:, None] + r) % 3 != 1) & (r > 0)


def edges_of(num_edges: int, num_senders: int, num_receivers: int) -> Tensor:
    """Edges that none of the last receivers has."""
    e = torch.arange(num_edges)
    return torch.stack([(5 * e + 1) % max(1, num_senders), (e * e + e // 3) % max(1, num_receivers - 1)])


def _plain_edge_logits(
    source: Tensor, target: Tensor, weight: Tensor, x: Tensor, x_weight: Tensor, bias: Tensor, *states: Tensor
) -> Tensor:
    return plain_edge_logits(source, target + bias, weight, x, x_weight, *states)


def _masked(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return lambda *given: function(*given, some_heard(*given[2].shape[:3]))


def _sparse(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def call(sent: Tensor, heard: Tensor, edge: Tensor, *weights: Tensor) -> Tensor:
        edge_index = edges_of(len(edge), len(sent), len(heard))
        return function(sent, heard, edge, *weights, sparse.by_receiver(edge_index, len(heard), len(sent)))

    return call


def _scattered(src: Tensor) -> Tensor:
    return scatter(src, edges_of(len(src), 1, 4)[1], 4, "max")


def _plain_scattered(src: Tensor) -> Tensor:
    return plain_max(src, edges_of(len(src), 1, 4)[1], 4)


_LAYERS = ("H H", "H", "H H", "H")
_OF_EDGES = ("B R H", "B S H", "H", "B S R K", "H K", "H")
_MESSAGES = ("B S H", "B R H", "B S R K", "H K", *_LAYERS)
OPERATIONS = {
    "max_message": Operation(_MESSAGES, max_message, plain_max_message),
    "max_message, masked": Operation(_MESSAGES, _masked(max_message), _masked(plain_max_message)),
    "max_plus": Operation(("B N N F", "B N N F"), max_plus, plain_max_plus),
    "softmax_plus": Operation(("B N N F", "B N N F"), softmax_plus, plain_softmax_plus),
    "edge_logits": Operation(_OF_EDGES, edge_logits, _plain_edge_logits),
    "edge_logits, states": Operation((*_OF_EDGES, "B S R F", "W F", "W", "H W"), edge_logits, _plain_edge_logits),
    "product_logits": Operation(("B M H", "B N H", "H"), product_logits, plain_product_logits),
    "sparse max_message": Operation(
        ("M H", "N H", "E K", "H K", *_LAYERS), _sparse(sparse.max_message), _sparse(reference.plain_max_message)
    ),
    "scatter": Operation(("E H",), _scattered, _plain_scattered),
}


def random_arguments(
    operation: str, sizes: dict[str, int] | None = None, dtype: torch.dtype = torch.float64
) -> list[Tensor]:
    """Of an operation, with gradients."""
    known = SIZES | (sizes or {})
    shapes = [[known[axis] for axis in axes.split()] for axes in OPERATIONS[operation].axes]
    return [torch.randn(shape, dtype=dtype, requires_grad=True) for shape in shapes]
