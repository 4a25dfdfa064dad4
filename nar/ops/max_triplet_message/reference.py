"""The maximum of messages over triplets of nodes as it is written."""
# Axes: B graphs, N nodes, F triplet features, K channels.

from torch import Tensor
from torch.nn.functional import linear


def plain_max_triplet_message(first: Tensor, second: Tensor, third: Tensor, edge: Tensor, weight: Tensor) -> Tensor:
    """The formula of :func:`nar.ops.max_triplet_message.max_triplet_message`; it holds all N³ messages."""
    ij, ik, jk = linear(edge, weight).chunk(3, dim=-1)
    of_nodes = first[:, :, None, None] + second[:, None, :, None] + third[:, None, None]
    messages = of_nodes + ij[:, :, :, None] + ik[:, :, None] + jk[:, None]  # [B, i, j, k, F]
    return messages.amax(dim=1) if messages.shape[1] else messages.sum(dim=1)
