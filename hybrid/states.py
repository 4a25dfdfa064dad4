"""What a reasoner makes of the graphs of a batch of texts, for each block of a language model."""
# Axes: B texts, G graphs of one group, N nodes, H hidden.

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from nar.batch import AnyGraphs, num_steps_of, size_of
from nar.errors import UserError
from nar.model.heads import Heads
from nar.model.unroll import EncodeProcessDecode, Step
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
    model: EncodeProcessDecode, graphs: Sequence[AnyGraphs], num_texts: int, by_block: Callable[[AnyGraphs], ByBlock]
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
    model: EncodeProcessDecode,
    group: AnyGraphs,
    num_blocks: int,
    steps_per_block: int | None,
    num_steps: int | None = None,
) -> ByBlock:
    """The states of a group's graphs that every block reads, after ever more of the model's steps.

    Of a graph that takes T steps, block b, counted from 1, reads those after step `steps_per_block` · b, or after the
    last, T, if there are fewer.

    Args:
        model: The reasoner.
        group: AnyGraphs of one algorithm and size.
        num_blocks: How many blocks there are.
        steps_per_block: How many steps the model takes from one block to the next; None for T / `num_blocks` of each
            graph's own, rounded up: the first blocks then read early steps and the last block the last one.
        num_steps: How many steps to run all graphs for, at least as many as are read of any. No shape then depends on
            the data, which a GPU need not be waited for. If None, graphs leave the batch when they end, and no more
            steps are taken than are read.
    """
    own = num_steps_of(group.features.lengths)
    block = torch.arange(1, num_blocks + 1, device=own.device)[:, None]
    read_at = -(-own * block // num_blocks) if steps_per_block is None else own.minimum(steps_per_block * block)
    steps = model.steps(group.algorithm, group.features, num_steps)
    if num_steps is None:
        return _where_they_are_read(model, steps, read_at)
    blocks: ByBlock = []
    for number, step in enumerate(islice(steps, num_steps), start=1):
        states = _states_of(model, step)
        blocks = blocks or [states] * num_blocks
        is_read = (read_at == number).unbind()
        blocks = [_chosen(*both) for both in zip(is_read, [states] * num_blocks, blocks, strict=True)]
    return blocks


def _where_they_are_read(model: EncodeProcessDecode, steps: Iterator[Step], read_at: Tensor) -> ByBlock:
    """The states that blocks read after the steps `read_at`, [K, G]; edge states of no other steps are computed."""
    rows = read_at.tolist()
    parts: list[list[tuple[Tensor, Tensor | None]]] = [[] for _ in rows]
    order: list[list[int]] = [[] for _ in rows]
    for number, step in enumerate(islice(steps, max(map(max, rows))), start=1):
        graphs = step.graphs.tolist()
        of_step: tuple[Tensor, Tensor | None] | None = None
        for block, row in enumerate(rows):
            places = [place for place, graph in enumerate(graphs) if row[graph] == number]
            if places:
                node, edge = of_step = of_step or _states_of(model, step)
                is_all = len(places) == len(graphs)
                parts[block].append((node, edge) if is_all else (node[places], None if edge is None else edge[places]))
                order[block] += [graphs[place] for place in places]
    blocks = []
    for of_block, graphs in zip(parts, order, strict=True):
        by_graph = torch.tensor(graphs, device=read_at.device).argsort()
        nodes, edges = zip(*of_block, strict=True)
        blocks.append((torch.cat(nodes)[by_graph], None if edges[0] is None else torch.cat(edges)[by_graph]))
    return blocks


def _states_of(model: EncodeProcessDecode, step: Step) -> tuple[Tensor, Tensor | None]:
    """The states of nodes and edges after a step."""
    if not model.processor.has_edge_states:
        return step.node_states, None
    return step.node_states, as_tensor(step.states.edge)[..., step.node_states.shape[-1] :]


def _chosen(
    is_new: Tensor, new: tuple[Tensor, Tensor | None], old: tuple[Tensor, Tensor | None]
) -> tuple[Tensor, Tensor | None]:
    """The new states of graphs where `is_new` [G] is True, and the old ones of others."""
    node, edge = (
        None if x is None or y is None else torch.where(is_new.view(-1, *[1] * (x.dim() - 1)), x, y)
        for x, y in zip(new, old, strict=True)
    )
    assert node is not None
    return node, edge


def _padded(states: Tensor, num_nodes: int, num_axes: int) -> Tensor:
    """The states with zeros up to `num_nodes` along each of so many axes after the first."""
    return functional.pad(states, (0, 0, *[0, num_nodes - states.shape[1]] * num_axes))


def exchanged(graphs: Sequence[AnyGraphs]) -> list[AnyGraphs]:
    """The graphs of a batch of texts, every text with that of another one of its algorithm and size.

    What a model reads of them is of the same distribution, and tells nothing of the text's own instance. (Nodes in
    another order would not do: states tell which node each of them is of, and attention has no order.)

    Raises:
        UserError: If a text is the only one of its algorithm and size.
    """
    for group in graphs:
        if len(group.rows) < 2:
            expected = "two or more texts of each algorithm and size in a batch, to exchange their graphs"
            raise UserError(f"expected {expected}, given one of {group.algorithm}")
    return [group._replace(rows=(*group.rows[1:], group.rows[0])) for group in graphs]


def check_graphs(model: EncodeProcessDecode, graphs: Sequence[AnyGraphs], num_texts: int) -> None:
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


def _check_group(model: EncodeProcessDecode, group: AnyGraphs) -> None:
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
