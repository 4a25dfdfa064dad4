"""Every operation with compiled code, with arguments and the formula that it is to be equal to.

What is listed here is tested by `tests/nar/ops/test_border.py` (shapes, types and memory), by
`tests/nar/test_differentiation.py` (gradients, transforms and compilers) and by `tests/test_triton.py` (kernels for
GPUs), and compiled for one by `compile_for_gpu.py`.
"""
# Axes: B graphs, N nodes, S sender, R receiver, E edges, M rows, H hidden, K channels, F features, W width of states,
# P pointers, D = P · H, C columns.

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import NamedTuple

import torch
from torch import Tensor

from nar.ops.edge_max_message import by_receiver
from nar.ops.scatter import plain_max, scatter
from nar.ops.softmax_plus import plain_softmax_plus, softmax_plus

SIZES = {"B": 2, "N": 4, "S": 3, "R": 4, "M": 6, "E": 12, "H": 5, "K": 2, "F": 3, "W": 6, "P": 1, "D": 5, "C": 7}
Function = Callable[..., Tensor]


class Operation(NamedTuple):
    """An operation as a function of tensors of floating-point numbers alone.

    Attributes:
        axes: Of each argument.
        call: The operation.
        plain: Its formula.
        kernels: The operation by kernels for GPUs, if there are any; Triton is imported when it is called.
        package: Whose folder it has, if it has one.
    """

    axes: tuple[str, ...]
    call: Function
    plain: Function
    kernels: Function | None = None
    package: str = ""


def in_folder(name: str, folder: str, *axes: str, adapted: Callable[[Function], Function] = lambda x: x) -> Operation:
    """An operation by its name and its folder in `nar/ops`.

    Args:
        name: Of the function, in the folder's `__init__.py` and `triton.py`; in `reference.py` after ``plain_``.
        folder: The folder's name.
        *axes: Of each argument.
        adapted: Gives each of the three the arguments that are not of floating-point numbers.
    """
    package = f"nar.ops.{folder}"
    call = getattr(import_module(package), name)
    plain = getattr(import_module(f"{package}.reference"), f"plain_{name}")

    def kernels(*given: Tensor) -> Tensor:
        made: Tensor = getattr(import_module(f"{package}.triton"), name)(*given)
        return made

    has_kernels = find_spec(f"{package}.triton") is not None
    return Operation(axes, adapted(call), adapted(plain), adapted(kernels) if has_kernels else None, package)


def some_heard(num_graphs: int, num_senders: int, num_receivers: int) -> Tensor:
    """Who is heard: by one node nobody."""
    b, s, r = torch.arange(num_graphs), torch.arange(num_senders), torch.arange(num_receivers)
    return ((b[:, None, None] + 2 * s[:, None] + r) % 3 != 1) & (r > 0)


def edges_of(num_edges: int, num_senders: int, num_receivers: int) -> Tensor:
    """Edges that none of the last receivers has."""
    e = torch.arange(num_edges)
    return torch.stack([(5 * e + 1) % max(1, num_senders), (e * e + e // 3) % max(1, num_receivers - 1)])


def _masked(pairs: int) -> Callable[[Function], Function]:
    """Gives a function a mask as its last argument, of the pairs [B, S, R, ...] of that argument."""

    def adapted(function: Function) -> Function:
        return lambda *given: function(*given, some_heard(*given[pairs].shape[:3]).to(given[pairs].device))

    return adapted


def _along_edges(function: Function) -> Function:
    def call(sent: Tensor, heard: Tensor, edge: Tensor, *weights: Tensor) -> Tensor:
        edge_index = edges_of(len(edge), len(sent), len(heard)).to(edge.device)
        return function(sent, heard, edge, *weights, by_receiver(edge_index, len(heard), len(sent)))

    return call


def _scattered(src: Tensor) -> Tensor:
    return scatter(src, edges_of(len(src), 1, 4)[1], 4, "max")


def _plain_scattered(src: Tensor) -> Tensor:
    return plain_max(src, edges_of(len(src), 1, 4)[1], 4)


_LAYERS = ("H H", "H", "H H", "H")
_MESSAGES = ("B S H", "B R H", "B S R K", "H K", *_LAYERS)
_EDGES = ("M H", "N H", "E K", "H K", *_LAYERS)
_GATED = ("B N H", "B N H", "B N 2H", "B N H")
_LSTM = ("B S R H", "4H H", "4H H", "4H", "4H")
_PAIRS, _STATES = ("B N C", "B N C", "D", "P", "B N N K", "C K"), ("B N N F", "W F", "W", "C W")
OPERATIONS = {
    "max_message": in_folder("max_message", "max_message", *_MESSAGES),
    "max_message, masked": in_folder("max_message", "max_message", *_MESSAGES, adapted=_masked(2)),
    "edge_max_message": in_folder("edge_max_message", "edge_max_message", *_EDGES, adapted=_along_edges),
    "max_plus": in_folder("max_plus", "max_plus", "B N N F", "B N N F"),
    "max_triplet_message": in_folder("max_triplet_message", "max_triplet_message", *["B N F"] * 3, "B N N K", "3F K"),
    "gated_update": in_folder("gated_update", "gated_update", *_GATED, "H", "H", "H H", "H"),
    "pair_logits": in_folder("pair_logits", "pair_logits", *_PAIRS),
    "pair_logits, states": in_folder("pair_logits", "pair_logits", *_PAIRS, *_STATES),
    "product_logits": in_folder("product_logits", "pointer_logits", "B M H", "B N H", "H"),
    "triplet_max": in_folder("triplet_max", "triplets", "B N N F", "B N N F", "B N N N K", "F K"),
    "triplet_logits": in_folder("triplet_logits", "triplets", *["B N N F"] * 3, "B N N N K", "F K", "F"),
    "recurrence": in_folder("recurrence", "recurrence", "B S R H", "B S R H"),
    "recurrence, masked": in_folder("recurrence", "recurrence", "B S R H", "B S R H", adapted=_masked(0)),
    "lstm": in_folder("lstm", "lstm", *_LSTM),
    "lstm, masked": in_folder("lstm", "lstm", *_LSTM, adapted=_masked(0)),
    "total": in_folder("total", "total", *["B N H"] * 3),
    "total, of eleven": in_folder("total", "total", *["B N H"] * 11),
    "softmax_plus": Operation(("B N N F", "B N N F"), softmax_plus, plain_softmax_plus),
    "scatter": Operation(("E H",), _scattered, _plain_scattered),
}


def random_arguments(
    operation: str, sizes: dict[str, int] | None = None, dtype: torch.dtype = torch.float64
) -> list[Tensor]:
    """Arguments of an operation, which require gradients.

    Args:
        operation: Its name.
        sizes: Of axes that are to have others than in `SIZES`.
        dtype: Of all arguments.
    """
    known = SIZES | (sizes or {})
    known |= {f"{times}{axis}": times * size for axis, size in known.items() for times in (2, 3, 4)}
    shapes = [[known[axis] for axis in axes.split()] for axes in OPERATIONS[operation].axes]
    return [torch.randn(shape, dtype=dtype, requires_grad=True) for shape in shapes]
