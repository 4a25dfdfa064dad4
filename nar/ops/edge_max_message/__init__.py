"""The maximum of messages that a small network makes of every edge, without keeping the messages.

It is the messages and the reduction of :class:`nar.processors.sparse.PGNConv` at once. On a CPU it is computed by
:mod:`nar.ops.edge_max_message.cpu`, on a GPU by :mod:`nar.ops.edge_max_message.triton`, elsewhere and for compilers and
transforms by :mod:`nar.ops.edge_max_message.reference`. Between all pairs of nodes there is :mod:`nar.ops.max_message`,
which keeps more and computes less again.
"""
# Axes: N nodes, E edges, H hidden, K edge features.

import torch
from torch import Tensor

from nar.ops.border import check_index, check_shapes, is_watched
from nar.ops.device import is_for_triton
from nar.ops.edge_max_message import cpu
from nar.ops.edge_max_message.reference import Edges, plain_edge_max_message
from nar.ops.scatter import starts


def by_receiver(edge_index: Tensor, num_nodes: int, num_senders: int | None = None) -> Edges:
    """The edges in the order of their receivers and, of one receiver, in that in which they are given.

    Args:
        edge_index: Senders and receivers, [2, E].
        num_nodes: N, of the receivers.
        num_senders: Where the senders are other nodes, how many; else None.

    Raises:
        ValueError: If it is no edge_index [2, E].
        TypeError: If it is not of whole numbers.
        IndexError: If there is no such sender or receiver.
    """
    if edge_index.dim() != 2 or len(edge_index) != 2:
        raise ValueError(f"expected edge_index [2, E], given {list(edge_index.shape)}")
    if num_senders is None or num_senders == num_nodes:
        senders, receivers = check_index("edge_max_message", "edge_index", edge_index, num_nodes)
    else:
        senders = check_index("edge_max_message", "senders", edge_index[0], num_senders)
        receivers = check_index("edge_max_message", "receivers", edge_index[1], num_nodes)
    ptr = starts(receivers, num_nodes)
    if is_watched(edge_index) or (receivers[1:] < receivers[:-1]).any():
        receivers, order = receivers.sort(stable=True)
        return Edges(senders[order], receivers, order, ptr)
    return Edges(senders, receivers, torch.arange(len(senders), device=senders.device), ptr)


def edge_max_message(
    sent: Tensor,
    heard: Tensor,
    edge: Tensor,
    edge_weight: Tensor,
    weight_1: Tensor,
    bias_1: Tensor,
    weight_2: Tensor,
    bias_2: Tensor,
    edges: Edges,
) -> Tensor:
    """``max_i W2 ReLU(W1 ReLU(sent_i + heard_j + We edge_ij) + b1) + b2`` over the senders i of j, [N, H]; 0 without.

    It is computed for some edges at a time, and the gradient computes them again: nothing that is as large as edges
    times H is kept, or ever there (but in what torch compiles, and on a GPU without Triton or with too little memory).
    On a CPU only the gradient of the edge that has the maximum is computed. Equal messages share it evenly.

    Args:
        sent: [M, H]; M is N, unless the senders are other nodes.
        heard: [N, H].
        edge: In the order in which edges are given, [E, K].
        edge_weight: We, [H, K].
        weight_1: W1, [H, H].
        bias_1: b1, [H].
        weight_2: W2, [H, H].
        bias_2: b2, [H].
        edges: Who hears whom.
    """
    senders, receivers, order, ptr = edges
    sizes = check_shapes(
        "edge_max_message",
        sent=(sent, "M H"),
        heard=(heard, "N H"),
        edge=(edge, "E K"),
        edge_weight=(edge_weight, "H K"),
        weight_1=(weight_1, "H H"),
        bias_1=(bias_1, "H"),
        weight_2=(weight_2, "H H"),
        bias_2=(bias_2, "H"),
        senders=(senders, "E", torch.int64),
        receivers=(receivers, "E", torch.int64),
        order=(order, "E", torch.int64),
    )
    if ptr.shape != (sizes["N"] + 1,):
        raise ValueError(f"edge_max_message: expected edges of {sizes['N']} receivers, given those of {len(ptr) - 1}")
    check_index("edge_max_message", "senders", senders, sizes["M"])
    given = (sent, heard, edge, edge_weight, weight_1, bias_1, weight_2, bias_2)
    is_plain = is_watched(*given, *edges) or 0 in (len(order), sizes["H"])
    if is_for_triton(sent) and not is_plain:
        from nar.ops.edge_max_message import triton

        if triton.fits(*given):
            return triton.edge_max_message(*given, edges)
    if is_plain or not sent.is_cpu:
        return plain_edge_max_message(*given, edges)
    return cpu.edge_max_message(*given, edges)
