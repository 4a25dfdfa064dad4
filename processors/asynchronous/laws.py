"""The laws under which a layer's result does not depend on when its messages arrive, and penalties for breaking them.

Source: Dudzik et al., "Asynchronous Algorithmic Alignment with Cocycles", LoG 2023; the penalties: Monteagudo-Lago et
al., PMLR 251:65-77, 2024.
"""
# Axes: B graphs, N nodes, S sender, R receiver, H hidden, D width of states.

from collections.abc import Iterable
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from nar.ops.channels import Channels

NUM_SAMPLES = 8  # nodes between which the penalty of multimorphisms sends messages


@runtime_checkable
class Pieces(Protocol):
    """A layer that shows what it is made of; :class:`nar.processors.Asynchronous` is one.

    Attributes:
        hears_receiver: Whether the message depends on the receiver's argument too.
    """

    hears_receiver: bool

    def states(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """The states s and the arguments a that nodes have sent, [B, N, D] each, from [B, N, H]."""

    def heard(self, adj: Tensor) -> Tensor:
        """True where the receiver hears the sender, [B, S, R]."""

    def inputs(self, node_fts: Tensor | Channels, edge_fts: Tensor | Channels, graph_fts: Tensor) -> Tensor:
        """What the messages take from the inputs, [B, S, R, D]."""

    def message(self, sender: Tensor, receiver: Tensor, inputs: Tensor) -> Tensor:
        """ψ: the message from two arguments, [..., D] each."""

    def combine(self, one: Tensor, other: Tensor) -> Tensor:
        """⊕ of two tensors, elementwise."""

    def reduce(self, messages: Tensor, heard: Tensor) -> Tensor:
        """⊕ over those senders that are heard, [B, R, D]; the unit, where there are none."""

    def update(self, state: Tensor, received: Tensor, node_fts: Tensor | Channels) -> Tensor:
        """φ: the next state, [B, N, D]."""

    def arguments(self, state: Tensor, received: Tensor, node_fts: Tensor | Channels) -> Tensor:
        """δ: the arguments that the node sends on, [B, N, D]."""


def penalties(
    layer: Pieces,
    node_fts: Tensor | Channels,
    edge_fts: Tensor | Channels,
    graph_fts: Tensor,
    adj: Tensor,
    hidden: Tensor,
) -> dict[str, Tensor]:
    """By how much a step breaks each law, as losses: mean squares, on messages drawn from torch's generator.

    ``action`` and ``cocycle`` compare what becomes of two messages that every node receives together and one after the
    other; ``multimorphism``, the messages between at most 8 nodes whose arguments arrive whole and in two parts.

    Args:
        layer: What is measured.
        node_fts: As of :meth:`nar.processor.Processor.forward`; so are the others.
        edge_fts: [B, S, R, H].
        graph_fts: [B, H].
        adj: [B, S, R].
        hidden: [B, N, H].
    """
    state, arguments = layer.states(hidden)
    inputs = layer.inputs(node_fts, edge_fts, graph_fts)
    messages = layer.message(arguments[:, :, None], arguments[:, None], inputs)
    senders = torch.multinomial(layer.heard(adj).mT.flatten(0, 1).float(), 2, replacement=True)  # of each receiver
    two = [torch.take_along_dim(messages, x.view(len(adj), 1, -1, 1), dim=1)[:, 0] for x in senders.unbind(dim=1)]
    everywhere = torch.ones_like(state[..., :1], dtype=torch.bool)
    at_once = deliver(layer, node_fts, state, [(layer.combine(*two), everywhere)])
    in_turn = deliver(layer, node_fts, state, [(message, everywhere) for message in two])
    action, cocycle = ((one - other).square().mean() for one, other in zip(at_once, in_turn, strict=True))
    nodes = torch.randperm(state.shape[1], device=state.device)[:NUM_SAMPLES]
    slots = multimorphism_gaps(layer, inputs[:, nodes][:, :, nodes], arguments[:, nodes], arguments[:, nodes.roll(1)])
    multimorphism = torch.stack([gap.square().mean() for gap in slots]).mean()
    return {"action": action, "cocycle": cocycle, "multimorphism": multimorphism}


def deliver(
    layer: Pieces, node_fts: Tensor | Channels, state: Tensor, arrivals: Iterable[tuple[Tensor, Tensor]]
) -> tuple[Tensor, Tensor]:
    """The states, and all that the nodes sent on, once messages arrived one after the other, [B, N, D] each.

    Args:
        layer: Whose φ and δ are applied at each arrival.
        node_fts: [B, N, H].
        state: Before the first arrival, [B, N, D].
        arrivals: Of each, the messages [B, N, D] and whether the node received any, [B, N, 1].
    """
    sent = layer.reduce(state[:, None], torch.zeros_like(state[:, None, :, 0], dtype=torch.bool))  # the unit of ⊕
    for received, is_active in arrivals:
        argument = layer.arguments(state, received, node_fts)
        sent = torch.where(is_active, layer.combine(sent, argument), sent)
        state = torch.where(is_active, layer.update(state, received, node_fts), state)
    return state, sent


def multimorphism_gaps(layer: Pieces, inputs: Tensor, one: Tensor, other: Tensor) -> list[Tensor]:
    """``ψ(a ⊕ a', b) - (ψ(a, b) ⊕ ψ(a', b))``, and the same of the receiver's argument if it has a part in ψ.

    Args:
        layer: Whose ψ it is.
        inputs: [B, N, N, D].
        one: a, and b too, [B, N, D].
        other: a', [B, N, D].
    """
    both = layer.combine(one, other)

    def gap(slot: int) -> Tensor:
        def message(argument: Tensor) -> Tensor:
            sender, receiver = (argument, one) if slot == 0 else (one, argument)
            return layer.message(sender[:, :, None], receiver[:, None], inputs)

        return message(both) - layer.combine(message(one), message(other))

    return [gap(slot) for slot in range(1 + layer.hears_receiver)]
