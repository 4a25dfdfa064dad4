"""The asynchronous layers along the edges of sparse graphs, as a layer of PyTorch Geometric.

Source: as of :mod:`nar.processors.asynchronous`.
"""
# Axes: N nodes and E edges of all graphs together, H channels out, D width of states.

from typing import Any

import torch
from torch import Tensor
from torch_geometric.nn import MessagePassing

from nar.linear import Linear
from nar.processors.asynchronous import Asynchronous


class AsynchronousConv(MessagePassing):  # type: ignore[misc]
    """An :class:`nar.processors.Asynchronous` layer whose senders are those of `edge_index`.

    Features go through a linear map each, ``x = X' x'`` and ``e = E' e'``, since the layer takes them at the width of
    its states; graphs have none. It is the dense layer of the same weights (``conv.layer``) whose `adj` are the edges.

    Args:
        in_channels: Width of x'.
        out_channels: H.
        edge_dim: Width of e'; None for none.
        **settings: Of :class:`nar.processors.Asynchronous`; `senders` are the edges'.
    """

    def __init__(self, in_channels: int, out_channels: int, edge_dim: int | None = None, **settings: Any) -> None:
        if in_channels < 1 or (edge_dim is not None and edge_dim < 1):
            raise ValueError(f"expected in_channels and edge_dim ≥ 1, given {in_channels} and {edge_dim}")
        if "senders" in settings:
            raise ValueError(f"expected no senders but those of edge_index, given {settings['senders']!r}")
        super().__init__(aggr=None)
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.edge_dim = edge_dim
        self.layer = Asynchronous(out_channels, **settings)
        self.node_encoder = Linear(in_channels, out_channels)
        self.edge_encoder = None if edge_dim is None else Linear(edge_dim, out_channels)

    def reset_parameters(self) -> None:
        """Draw all weights anew."""
        for module in self.modules():
            if module is not self and hasattr(module, "reset_parameters"):
                module.reset_parameters()

    def forward(
        self, x: Tensor, edge_index: Tensor, edge_attr: Tensor | None = None, hidden: Tensor | None = None
    ) -> Tensor:
        """The new node states, [N, H].

        Args:
            x: x', [N, in_channels].
            edge_index: Senders and receivers, [2, E]. Who is to hear itself needs a self-loop.
            edge_attr: e', [E, edge_dim].
            hidden: The previous node states, [N, H]; 0 if None.

        Raises:
            ValueError: If there are edge_attr and no edge_dim, or the other way round.
        """
        if (edge_attr is None) != (self.edge_encoder is None):
            found = "none" if edge_attr is None else f"some of width {edge_attr.shape[-1]}"
            raise ValueError(f"expected edge_attr of edge_dim {self.edge_dim}, given {found}")
        layer, node_fts = self.layer, self.node_encoder(x)
        state, argument = layer.states(torch.zeros_like(node_fts) if hidden is None else hidden)
        sent = layer.sender_argument(argument) + layer.sender_node(node_fts)
        heard = layer.receiver_node(node_fts) + layer.graph(node_fts.new_zeros(self.out_channels))
        if layer.receiver_argument is not None:
            heard = heard + layer.receiver_argument(argument)
        edge = layer.edge(node_fts.new_zeros(1, self.out_channels))
        if self.edge_encoder is not None:
            edge = layer.edge(self.edge_encoder(edge_attr))
        edge = edge.expand(edge_index.shape[1], -1)
        received = self.propagate(edge_index, sent=sent, heard=heard, edge=edge, size=(len(x), len(x)))
        new_state = layer.update(state, received, node_fts)
        if layer.sends_state:
            return new_state
        return torch.cat([new_state, layer.arguments(state, received, node_fts)], dim=-1)

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

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.in_channels}, {self.out_channels})"
