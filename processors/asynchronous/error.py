"""How far any layer's result depends on when its messages arrive.

Source: Dudzik et al., "Asynchronous Algorithmic Alignment with Cocycles", LoG 2023.
"""
# Axes: B graphs, N nodes, S sender, R receiver, H hidden, D width of states.

import functools
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from nar.processor import Processor, aligned
from nar.processors.asynchronous.laws import Pieces, deliver, multimorphism_gaps


class Inputs(NamedTuple):
    """The five arguments of :meth:`nar.processor.Processor.forward`."""

    node_fts: Tensor
    edge_fts: Tensor
    graph_fts: Tensor
    adj: Tensor
    hidden: Tensor


@torch.no_grad()
def asynchrony_error(
    layer: Processor,
    level: int,
    node_fts: Tensor,
    edge_fts: Tensor,
    graph_fts: Tensor,
    adj: Tensor,
    hidden: Tensor,
    *,
    generator: Generator | None = None,
    num_schedules: int = 8,
) -> float:
    """By how much a layer's result depends on when its messages arrive: the largest absolute difference.

    The messages of one step are delivered by random schedules. If the layer shows its :class:`Pieces`, every message
    arrives at a random time, and a node is active whenever some do:

    1. The messages of every time are put together, and these in a random order: compared with ⊕ of all.
    2. A node updates at each time: compared with one update (``φ(s, m ⊕ n) = φ(φ(s, m), n)``).
    3. What a node sends on at each time is put together: compared with what it sends after one update
       (``δ(s, m ⊕ n) = δ(s, m) ⊕ δ(φ(s, m), n)``); and its arguments arrive in two parts: compared with the messages
       from the whole (``ψ(a ⊕ a', b) = ψ(a, b) ⊕ ψ(a', b)``, and so for b).

    Of any other processor only `forward` is known. A random node is active; the others send to it, and are heard by it
    if they are delivered, whatever `adj` says; only its own state is fed back:

    1. The others come in a random order.
    2. A random part of the others is delivered, then the rest. The message is made anew at each delivery: where it
       depends on the receiver's own state this counts as an error, and a layer that hears itself even without a
       self-loop (an :class:`nar.processors.MPNN`) hears itself at both.
    3. The others send twice, from two states: compared with sending once from their elementwise maximum, ⊕ being
       unknown. Whether δ is a cocycle cannot be told from `forward`.

    Args:
        layer: The processor, in the mode in which it is to be measured.
        level: 1, 2 or 3; of each level its own law alone.
        node_fts: As of :meth:`nar.processor.Processor.forward`; so are the others.
        edge_fts: [B, S, R, H].
        graph_fts: [B, H].
        adj: [B, S, R].
        hidden: [B, N, H].
        generator: Of the schedules.
        num_schedules: How many are tried.

    Raises:
        ValueError: If there is no such level, or there are not three nodes.
    """
    inputs = Inputs(*aligned(layer, node_fts, edge_fts, graph_fts, adj, hidden))
    num_nodes = inputs.hidden.shape[1]
    if level not in (1, 2, 3):
        raise ValueError(f"expected a level of 1, 2 or 3, given {level!r}")
    if num_nodes < 3 or num_schedules < 1:
        raise ValueError(f"expected 3 nodes and 1 schedule or more, given {num_nodes} and {num_schedules}")
    if isinstance(layer, Pieces):
        errors = [_error_of_pieces(layer, level, inputs, generator) for _ in range(num_schedules)]
    else:
        errors = [_error_of_forward(layer, level, inputs, generator) for _ in range(num_schedules)]
    return max(errors)


def _error_of_pieces(layer: Pieces, level: int, inputs: Inputs, generator: Generator | None) -> float:
    """The largest difference that one random schedule of all messages makes to a layer that shows its pieces."""
    state, arguments = layer.states(inputs.hidden)
    terms = layer.inputs(inputs.node_fts, inputs.edge_fts, inputs.graph_fts)
    messages = layer.message(arguments[:, :, None], arguments[:, None], terms)
    heard = layer.heard(inputs.adj)
    num_nodes = state.shape[1]
    num_times = int(_random(2, num_nodes + 1, (), generator))
    arrival = _random(0, num_times, heard.shape, generator).to(heard.device)
    senders = _order(num_nodes, generator)
    at_once = layer.reduce(messages, heard)
    masks = [heard & (arrival == time) for time in range(num_times)]
    in_turn = [layer.reduce(messages[:, senders], mask[:, senders]) for mask in masks]
    if level == 1:
        together = functools.reduce(layer.combine, [in_turn[time] for time in _order(num_times, generator)])
        return _largest(at_once - together)
    expected, found = (
        deliver(layer, inputs.node_fts, state, [(x, mask.any(dim=1)[..., None]) for x, mask in arrivals])
        for arrivals in ([(at_once, heard)], zip(in_turn, masks, strict=True))
    )
    if level == 2:
        return _largest(expected[0] - found[0])
    others = arguments[:, _order(num_nodes, generator)]
    return _largest(expected[1] - found[1], *multimorphism_gaps(layer, terms, arguments, others))


def _error_of_forward(layer: Processor, level: int, inputs: Inputs, generator: Generator | None) -> float:
    """The largest difference that one schedule of the others makes to one active node of any processor."""
    hidden, num_nodes = inputs.hidden, inputs.hidden.shape[1]
    order = _order(num_nodes, generator)
    active, others = order[:1], order[1:]
    own = hidden[:, active]

    def after(own: Tensor, senders: Tensor, hidden: Tensor = hidden) -> Tensor:
        """The active node's state, once it has heard some others, [B, 1, H]."""
        nodes = torch.cat([active, senders])
        heard = inputs.adj.new_ones(len(own), len(nodes), len(nodes))
        heard[:, 0, 0] = 0
        node_fts, edge_fts = inputs.node_fts[:, nodes], inputs.edge_fts[:, nodes][:, :, nodes]
        states: Tensor = layer(
            node_fts, edge_fts, inputs.graph_fts, heard, torch.cat([own, hidden[:, senders]], dim=1)
        )[0]
        return states[:, :1]

    if level == 1:
        return _largest(after(own, others) - after(own, others[_order(num_nodes - 1, generator)]))
    if level == 2:
        number = int(_random(1, num_nodes - 1, (), generator))
        return _largest(after(own, others) - after(after(own, others[:number]), others[number:]))
    again = hidden[:, _order(num_nodes, generator)]
    both = after(own, others, torch.maximum(hidden, again))
    return _largest(both - after(after(own, others), others, again))


def _largest(*gaps: Tensor) -> float:
    return max(float(gap.abs().max()) for gap in gaps)


def _order(number: int, generator: Generator | None) -> Tensor:
    return torch.randperm(number, generator=generator, device=_device(generator)).cpu()


def _random(low: int, high: int, shape: tuple[int, ...], generator: Generator | None) -> Tensor:
    return torch.randint(low, high, shape, generator=generator, device=_device(generator))


def _device(generator: Generator | None) -> torch.device:
    return torch.device("cpu") if generator is None else generator.device
