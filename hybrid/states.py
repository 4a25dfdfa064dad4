"""What a reasoner makes of the graphs of a batch of texts, for each block of a language model."""
# Axes: B texts, G graphs of one group, N nodes, H hidden.

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import islice
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from nar.batch import Graphs, num_steps_of, size_of
from nar.model.unroll import EncodeProcessDecode, Heads
from nar.ops.channels import as_tensor
from nar.specs import Location, Spec, Type

_NUM_AXES = {Location.NODE: 1, Location.EDGE: 2, Location.GRAPH: 0}


class GraphStates(NamedTuple):
    """The states of the graphs of a batch of texts, padded to the largest.

    Attributes:
        node: [B, N, H].
        edge: [B, N, N, H], or None if the processor has none.
        mask: True at a graph's own nodes, [B, N].
    """

    node: Tensor
    edge: Tensor | None
    mask: Tensor


ByBlock = list[tuple[Tensor, Tensor | None]]
"""The states of nodes [G, N, H] and edges [G, N, N, H] of one group for every block."""


def graph_states(
    model: EncodeProcessDecode, graphs: Sequence[Graphs], num_texts: int, by_block: Callable[[Graphs], ByBlock]
) -> list[GraphStates]:
    """The states that each block of a language model is given.

    Args:
        model: The reasoner.
        graphs: The graph of each text.
        num_texts: B.
        by_block: The states of one group, see :func:`states_by_block`.

    Raises:
        ValueError: If a text has no graph, or several, or a graph is not what its algorithm is given.
    """
    check_graphs(model, graphs, num_texts)
    groups = [by_block(group) for group in graphs]
    sizes = [group[0][0].shape[1] for group in groups]
    rows = [row for group in graphs for row in group.rows]
    by_text = torch.tensor(rows).argsort().to(groups[0][0][0].device, non_blocking=True)
    is_node = [
        torch.arange(max(sizes), device=by_text.device).expand(len(group.rows), -1) < size
        for group, size in zip(graphs, sizes, strict=True)
    ]
    mask = torch.cat(is_node)[by_text]
    blocks = []
    for states in zip(*groups, strict=True):
        node = torch.cat([_padded(node, max(sizes), 1) for node, _ in states])[by_text]
        edges = [_padded(edge, max(sizes), 2) for _, edge in states if edge is not None]
        blocks.append(GraphStates(node, torch.cat(edges)[by_text] if edges else None, mask))
    return blocks


def states_by_block(
    model: EncodeProcessDecode, group: Graphs, num_blocks: int, steps_per_block: int, *, keep_all: bool
) -> ByBlock:
    """The states of a group's graphs after so many further steps of the model for every block.

    A graph that has no more steps to take keeps its last states.

    Args:
        model: The reasoner.
        group: Graphs of one algorithm and size.
        num_blocks: How many blocks there are.
        steps_per_block: How many steps the model takes from one block to the next.
        keep_all: Whether graphs stay in the batch when they end. No shape then depends on the data, which a GPU needs
            not be waited for.
    """
    blocks: ByBlock = []
    node: Tensor | None = None
    edge: Tensor | None = None
    steps = model.steps(group.algorithm, group.features, num_blocks * steps_per_block if keep_all else None)
    for block in range(num_blocks):
        for number, step in enumerate(islice(steps, steps_per_block), start=block * steps_per_block + 1):
            has_ended = num_steps_of(group.features.lengths) < number if keep_all else None
            hidden_dim = step.node_states.shape[-1]
            node = _updated(node, step.graphs, step.node_states, has_ended)
            if model.processor.has_edge_states:
                edge = _updated(edge, step.graphs, as_tensor(step.states.edge)[..., hidden_dim:], has_ended)
        assert node is not None
        blocks.append((node, edge))
    return blocks


def _updated(states: Tensor | None, graphs: Tensor, new: Tensor, has_ended: Tensor | None) -> Tensor:
    """The states of all graphs, of which some have new ones; the first time all have."""
    if states is None:
        return new if has_ended is not None else torch.zeros_like(new).index_copy(0, graphs, new)
    if has_ended is not None:
        return torch.where(has_ended.view(-1, *[1] * (new.dim() - 1)), states, new)
    return states.index_copy(0, graphs, new)


def _padded(states: Tensor, num_nodes: int, num_axes: int) -> Tensor:
    """The states with zeros up to `num_nodes` along each of so many axes after the first."""
    return functional.pad(states, (0, 0, *[0, num_nodes - states.shape[1]] * num_axes))


def check_graphs(model: EncodeProcessDecode, graphs: Sequence[Graphs], num_texts: int) -> None:
    """Refuse graphs that do not fit the texts, or that are not what their algorithms are given.

    Raises:
        ValueError: With the text or the probe that does not fit.
    """
    counts = Counter(row for group in graphs for row in group.rows)
    for text in {**counts, **dict.fromkeys(range(num_texts))}:
        if not 0 <= text < num_texts:
            raise ValueError(f"expected graphs of texts 0 to {num_texts - 1}, given one of text {text}")
        if counts[text] != 1:
            raise ValueError(f"expected one graph for each of {num_texts} texts, given {counts[text]} for text {text}")
    for group in graphs:
        _check_group(model, group)


def _check_group(model: EncodeProcessDecode, group: Graphs) -> None:
    if group.algorithm not in model.heads:
        raise ValueError(f"expected an algorithm of the reasoner ({', '.join(model.heads)}), given {group.algorithm}")
    heads = model.heads[group.algorithm]
    assert isinstance(heads, Heads)
    first_hints = {name: hint[0] for name, hint in group.features.hints.items()}
    num_graphs, data = len(group.rows), {**group.features.inputs, **first_hints}
    spec: Spec = heads.inputs | (heads.hints if model.encodes_hints else {})
    for name in spec:
        if name not in data:
            raise ValueError(
                f"expected graphs of {group.algorithm} with {name!r}, given {', '.join(data) or 'nothing'}"
            )
    num_nodes = size_of(heads.inputs, group.features.inputs)
    for name, probe in spec.items():
        num_axes = 0 if probe.type is Type.MASK_ONE else _NUM_AXES[probe.location]
        expected = (num_graphs, *[num_nodes] * num_axes)
        if data[name].shape != expected:
            raise ValueError(
                f"expected {name!r} of {num_graphs} graphs of {group.algorithm} with {num_nodes} nodes as "
                f"{list(expected)}, given {list(data[name].shape)}"
            )
