"""What decoders make of pairs of nodes, of all of them at once."""
# Axes: B graphs, N nodes, C columns.

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from nar.ops.affine import plus
from nar.ops.channels import Channels, NodeSum, products
from nar.ops.linear import Linear, operands
from nar.ops.pair_logits import pair_logits


class PairLayers(NamedTuple):
    """The layers of a decoder on pairs of nodes, as :func:`nar.ops.pair_logits.pair_logits` has them.

    Attributes:
        receiver: On the nodes that edges go to.
        sender: On the nodes that edges come from.
        edge: On the edges.
        output: On the maximum, if the probe is a pointer.
    """

    receiver: Linear
    sender: Linear
    edge: Linear
    output: Linear | None = None


def with_logits_on_pairs(
    node: Channels, edge: Channels, decoders: Mapping[nn.Module, PairLayers], linears: Sequence[Linear]
) -> tuple[Channels, Channels]:
    """Features of nodes with the results of layers, and of edges with the logits of decoders.

    All that is made of the nodes takes one product. Logits are [B, N, N], or [B, N, N, C] of C classes.

    Args:
        node: [B, N, ...].
        edge: [B, N, N, ...].
        decoders: The layers of each.
        linears: Further layers on the nodes.
    """
    pointers_first = sorted(decoders.items(), key=lambda item: item[1].output is None)
    layers = [of_decoder for _, of_decoder in pointers_first]
    of_pairs = [each.receiver for each in layers], [each.sender for each in layers]
    receiver, sender, *results = products(node, [*of_pairs, *([linear] for linear in linears)])
    x, x_weight, x_bias, *of_states = operands(edge, [each.edge for each in layers])
    weight, bias = edge.map.rows_of(tuple(each.output for each in layers if each.output is not None))
    logits = pair_logits(receiver, plus(sender, x_bias), weight, bias, x, x_weight, *of_states)
    # The gradient of `unbind` is one stack, where that of every slice would be zeros with the slice copied into them.
    parts, by_decoder = iter(logits.unbind()), dict[nn.Module | NodeSum, Tensor]()
    for decoder, each in pointers_first:
        own = [next(parts) for _ in range(each.edge.out_features if each.output is None else 1)]
        by_decoder[decoder] = own[0] if len(own) == 1 else torch.stack(own, dim=-1)
    return (
        replace(node, results=dict(zip(linears, results, strict=True))),
        replace(edge, results=by_decoder),
    )
