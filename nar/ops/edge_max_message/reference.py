"""The maximum of the messages along edges as it is written."""
# Axes: S senders and R receivers, the same N nodes unless the graph is bipartite; E edges, H hidden, K channels.

from typing import NamedTuple

from torch import Tensor

from nar.ops.max_message.reference import plain_messages
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


def plain_edge_max_message(
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
    """The formula of :func:`nar.ops.edge_max_message.edge_max_message`, [N, H]; it holds all messages, [E, H]."""
    rows = (sent.index_select(0, edges.senders), heard.index_select(0, edges.receivers))
    features = edge.index_select(0, edges.order)
    messages = plain_messages(*rows, features, edge_weight, weight_1, bias_1, weight_2, bias_2)
    return scatter(messages, edges.receivers, len(heard), "max", ptr=edges.ptr)
