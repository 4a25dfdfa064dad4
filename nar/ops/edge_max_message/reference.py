"""The maximum of the messages along edges as it is written."""
# Axes: S senders and R receivers, the same N nodes unless the graph is bipartite; E edges, H hidden, K channels.

from typing import NamedTuple

from torch import Tensor
from torch.nn.functional import linear

from nar.ops.scatter import scatter


class Edges(NamedTuple):
    """Edges in the order of their receivers.

    Attributes:
        senders: [E].
        receivers: In ascending order, [E].
        order: Where each edge is among those that were given, [E].
        ptr: Where each receiver's edges begin, and E, [N + 1].
    """

    senders: Tensor
    receivers: Tensor
    order: Tensor
    ptr: Tensor


def plain_max_message(
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
    """The formula of :func:`max_message` as it is written, which holds all messages."""
    rows = linear(edge.index_select(0, edges.order), edge_weight)
    first = (sent.index_select(0, edges.senders) + heard.index_select(0, edges.receivers) + rows).relu()
    messages = linear(linear(first, weight_1, bias_1).relu(), weight_2, bias_2)
    return scatter(messages, edges.receivers, len(heard), "max", ptr=edges.ptr)
