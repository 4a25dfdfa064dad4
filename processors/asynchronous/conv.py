"""The asynchronous layers along the edges of sparse graphs, as a layer of PyTorch Geometric.

Source: as of :mod:`nar.processors.asynchronous.layer`.
"""
# Axes: N nodes and E edges of all graphs together, H channels out, D width of states.

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from nar.ops.channels import Channels
from nar.processors.asynchronous.layer import Asynchronous
from nar.processors.sparse.conv import Flow, SparseConv, linear

_ONE_STATE = "its nodes send and hear by one state"


class AsynchronousConv(SparseConv):
    """An :class:`nar.processors.Asynchronous` layer whose senders are those of `edge_index`.

    Features go through a linear map each, ``x = X' x'`` and ``e = E' e'``, since the layer takes them at the width of
    its states; graphs have none. It is the dense layer of the same weights (``conv.layer``) whose `adj` are the edges.

    Args:
        in_channels: Width of x'; -1 for what the first call is given.
        out_channels: H.
        edge_dim: Width of e', -1 as above; None for none.
        flow: ``"target_to_source"`` lets a node hear those that it sends to.
        **settings: Of :class:`nar.processors.Asynchronous`; `senders` are the edges'.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        edge_dim: int | None = None,
        flow: Flow = "source_to_target",
        **settings: Any,
    ) -> None:
        if not isinstance(in_channels, int):
            raise TypeError(f"AsynchronousConv: expected one in_channels, given {in_channels}: {_ONE_STATE}")
        if "senders" in settings:
            raise ValueError(f"expected no senders but those of edge_index, given {settings['senders']!r}")
        super().__init__(in_channels, out_channels, edge_dim, None, aggr=None, flow=flow)
        self.layer = AlongEdges(out_channels, **settings)
        self.node_encoder = linear(in_channels, out_channels)
        self.edge_encoder = None if edge_dim is None else linear(edge_dim, out_channels)

    def forward(
        self, x: Tensor, edge_index: Tensor, edge_attr: Tensor | None = None, hidden: Tensor | None = None
    ) -> Tensor:
        """The new node states, [N, H].

        Args:
            x: x', [N, in_channels].
            edge_index: Senders and receivers, [2, E]. Who is to hear itself needs a self-loop. Or adj_t, a sparse
                matrix, whose values are the `edge_attr` if there is an `edge_dim` and none are given.
            edge_attr: e', [E, edge_dim].
            hidden: The previous node states, [N, H]; 0 if None.

        Raises:
            IndexError, TypeError, ValueError: If they do not fit.
            NotImplementedError: If x is that of a bipartite graph.
        """
        given = self.given(x, edge_index, edge_attr)
        if given.is_bipartite:
            raise NotImplementedError(
                f"AsynchronousConv: expected one x, given those of a bipartite graph: {_ONE_STATE}"
            )
        if hidden is not None:
            self.expect("hidden", hidden, given.num_receivers, self.out_channels)
        node_fts = self.node_encoder(given.sending)
        edge_fts = node_fts.new_zeros(1, self.out_channels)
        if self.edge_encoder is not None:
            edge_fts = self.edge_encoder(given.edge_attr)
        hidden = torch.zeros_like(node_fts) if hidden is None else hidden

        def receive(sent: Tensor, heard: Tensor, edge: Tensor) -> Tensor:
            return self.pass_on(given, sent=sent, heard=heard, edge=edge.expand(given.senders.shape[0], -1))

        states: Tensor = self.layer(node_fts, edge_fts, node_fts.new_zeros(self.out_channels), receive, hidden)[0]
        return states

    def message(self, sent_j: Tensor, heard_i: Tensor, edge: Tensor) -> Tensor:
        """ψ of every edge, [E, D]; in PyG's names j sends and i receives."""
        message: Tensor = self.layer.message_mlp(sent_j + heard_i + edge)
        return message

    def aggregate(self, inputs: Tensor, index: Tensor, dim_size: int) -> Tensor:
        """⊕ of the messages of every receiver, [N, D]; its unit where there are none."""
        unit, temperature = self.layer.unit(inputs.dtype), self.layer.temperature
        units, index = inputs.new_full((dim_size, inputs.shape[-1]), unit), index[:, None].expand_as(inputs)
        if self.layer.reduction == "sum":
            return units.scatter_add(0, index, inputs)
        top = units.scatter_reduce(0, index, inputs, "amax")
        if self.layer.reduction == "max":
            return top
        top = top.detach()
        parts = ((inputs - top.gather(0, index)) / temperature).exp()
        total = ((units - top) / temperature).exp().scatter_add(0, index, parts)
        return top + temperature * total.log()


class AlongEdges(Asynchronous):
    """An :class:`nar.processors.Asynchronous` layer that may be told what its nodes receive, in place of an `adj`."""

    def forward(
        self,
        node_fts: Tensor | Channels,
        edge_fts: Tensor | Channels,
        graph_fts: Tensor,
        adj: Tensor | Callable[[Tensor, Tensor, Tensor], Tensor],
        hidden: Tensor,
    ) -> tuple[Tensor, None]:
        """See :meth:`nar.processor.Processor.forward`; or the same without the axis of graphs.

        Args:
            node_fts: [N, H].
            edge_fts: [E, H] or [1, H].
            graph_fts: [H].
            adj: What nodes receive, [N, D], of what is sent and heard, [N, D] each, and said along edges, [E, D].
            hidden: [N, H].
        """
        if isinstance(adj, Tensor):
            return super().forward(node_fts, edge_fts, graph_fts, adj, hidden)
        state, argument = self.states(hidden)
        sent = self.sender_argument(argument) + self.sender_node(node_fts)
        heard = self.receiver_node(node_fts) + self.graph(graph_fts)
        if self.receiver_argument is not None:
            heard = heard + self.receiver_argument(argument)
        received = self.message_point(adj(sent, heard, self.edge(edge_fts)))
        new_state = self.update(state, received, node_fts)
        if self.sends_state:
            return new_state, None
        return torch.cat([new_state, self.arguments(state, received, node_fts)], dim=-1), None
