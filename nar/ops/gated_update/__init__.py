"""The new states of nodes whose gate lets them keep some of the old, as Triplet-GMPNN has it.

On a GPU :mod:`nar.ops.gated_update.triton` computes it in a kernel before and one after the gate's product, on a CPU
torch the formula itself.
"""
# Axes: B graphs, N nodes, H hidden.

from torch import Tensor

from nar.ops.border import check_shapes, is_watched
from nar.ops.device import is_for_triton
from nar.ops.gated_update.reference import plain_gated_update


def gated_update(
    update: Tensor,
    gate: Tensor,
    messages: Tensor,
    hidden: Tensor,
    norm_weight: Tensor,
    norm_bias: Tensor,
    gate_weight: Tensor,
    gate_bias: Tensor,
    eps: float = 1e-5,
) -> Tensor:
    """``γ ◦ LayerNorm(ReLU(update + m)) + (1 - γ) ◦ hidden`` with ``γ = σ(V ReLU(gate + m') + v)``, [B, N, H].

    Args:
        update: What a node adds to its update, [B, N, H].
        gate: What it adds to its gate, [B, N, H].
        messages: What messages add to both, m and m' side by side, [B, N, 2H].
        hidden: The old states, [B, N, H].
        norm_weight: Of the layer normalisation, [H].
        norm_bias: Of the layer normalisation, [H].
        gate_weight: V, [H, H].
        gate_bias: v, [H].
        eps: Of the layer normalisation.
    """
    check_shapes(
        "gated_update",
        update=(update, "B N H"),
        gate=(gate, "B N H"),
        messages=(messages, "B N 2H"),
        hidden=(hidden, "B N H"),
        norm_weight=(norm_weight, "H"),
        norm_bias=(norm_bias, "H"),
        gate_weight=(gate_weight, "H H"),
        gate_bias=(gate_bias, "H"),
    )
    given = (update, gate, messages, hidden, norm_weight, norm_bias, gate_weight, gate_bias)
    if is_for_triton(hidden) and not is_watched(*given) and hidden.numel():
        from nar.ops.gated_update import triton

        return triton.gated_update(*given, eps)
    return plain_gated_update(*given, eps)
