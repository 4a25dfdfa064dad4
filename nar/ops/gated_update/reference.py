"""The update of gated nodes as it is written."""
# Axes: B graphs, N nodes, H hidden.

from torch import Tensor
from torch.nn.functional import layer_norm, linear


def plain_gated_update(
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
    """The formula of :func:`nar.ops.gated_update.gated_update`, [B, N, H]."""
    states, opens = plain_states_and_opens(update, gate, messages, norm_weight, norm_bias, eps)
    return plain_mixture(states, linear(opens, gate_weight, gate_bias), hidden)


def plain_states_and_opens(
    update: Tensor, gate: Tensor, messages: Tensor, norm_weight: Tensor, norm_bias: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    """``LayerNorm(ReLU(update + m))`` and ``ReLU(gate + m')``, [B, N, H] each."""
    of_update, of_gate = messages.chunk(2, dim=-1)
    states = layer_norm((update + of_update).relu(), norm_weight.shape, norm_weight, norm_bias, eps)
    return states, (gate + of_gate).relu()


def plain_mixture(states: Tensor, logits: Tensor, hidden: Tensor) -> Tensor:
    """``σ(logits) states + (1 - σ(logits)) hidden``."""
    gate = logits.sigmoid()
    return gate * states + (1 - gate) * hidden
