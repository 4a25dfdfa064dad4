"""Logits of all that is decoded on pairs of nodes: of pointers from node to node, and of what an edge has.

All of them read the same states of edges, which are made once, a few pairs at a time, and not kept. On a CPU they are
computed by :mod:`nar.ops.pair_logits.cpu`, on a GPU by :mod:`nar.ops.pair_logits.triton`, elsewhere and for compilers
and transforms by :mod:`nar.ops.pair_logits.reference`.
"""
# Axes: B graphs, N nodes, P pointers, H hidden, C columns, K channels, F features and W width of states.
# What belongs to an edge is [B, sender, receiver, ...].

from torch import Tensor

from nar.ops.border import check_shapes, is_watched
from nar.ops.device import is_for_triton
from nar.ops.pair_logits import cpu
from nar.ops.pair_logits.reference import plain_pair_logits


def pair_logits(
    receiver: Tensor,
    sender: Tensor,
    weight: Tensor,
    bias: Tensor,
    x: Tensor,
    x_weight: Tensor,
    data: Tensor | None = None,
    first_weight: Tensor | None = None,
    first_bias: Tensor | None = None,
    states_weight: Tensor | None = None,
) -> Tensor:
    """The logits of P pointers and of C - P · H other probes, [P + C - P · H, B, N, N]; with columns side by side::

        z_ij = sender_i + We x_ij + Ws ReLU(Wf data_ij + bf)

    a pointer from j to i has ``w · max(receiver_j, z_ij) + b`` at [j, i], by H columns of its own, and another probe
    has ``receiver_j + z_ij`` at [i, j], by one column; the columns of the pointers come first.

    Args:
        receiver: [B, N, C].
        sender: [B, N, C].
        weight: w of all pointers, one after the other, [P · H].
        bias: b of every pointer, [P].
        x: [B, N, N, K].
        x_weight: We, [C, K].
        data: [B, N, N, F]; None for no states, and so are the others.
        first_weight: Wf, [W, F].
        first_bias: bf, [W].
        states_weight: Ws, [C, W].
    """
    sizes = check_shapes(
        "pair_logits",
        receiver=(receiver, "B N C"),
        sender=(sender, "B N C"),
        weight=(weight, "P·H"),
        bias=(bias, "P"),
        x=(x, "B N N K"),
        x_weight=(x_weight, "C K"),
        data=(data, "B N N F"),
        first_weight=(first_weight, "W F"),
        first_bias=(first_bias, "W"),
        states_weight=(states_weight, "C W"),
    )
    number, width, columns = sizes["P"], sizes["P·H"], sizes["C"]
    if width > columns or (width % number if number else width):
        expected = f"a multiple of P={number} and at most C={columns}"
        raise ValueError(f"pair_logits: expected weight [P·H] with {expected}, given {list(weight.shape)}")
    of_states = () if data is None else (data, first_weight, first_bias, states_weight)
    given = (receiver, sender, weight, bias, x, x_weight, *of_states)
    is_empty = 0 in (y.numel() for y in (receiver, *of_states) if y is not None)
    if is_empty or is_watched(*given):
        return plain_pair_logits(*given)
    if is_for_triton(receiver):
        from nar.ops.pair_logits import triton

        return triton.pair_logits(*given)
    return cpu.pair_logits(*given) if receiver.is_cpu else plain_pair_logits(*given)
