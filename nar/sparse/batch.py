"""Trajectories on sparse graphs in batches."""
# Axes: B graphs; N nodes, E edges of all graphs together; T time.

from typing import Any, NamedTuple

import torch
from torch import Tensor

from nar.batch import Key
from nar.specs import Location, Probe, Type


class SparseBatch(NamedTuple):
    """A batch of trajectories on sparse graphs, whose nodes and edges are counted from the batch's first.

    A mask_one is the index of a node in each graph, [B]; a pointer of a node is the index of the edge that it sends to
    the node it points at, [N].

    Attributes:
        algorithm: The algorithm's name.
        num_nodes: The size that was asked for.
        edge_index: Senders and receivers, in the order of receivers, [2, E].
        graph: The graph of each node, [N].
        lengths: Each graph's own number of hints, [B].
        inputs: By probe name, [N], [E] or [B]; those that change over time [N, T].
        hints: By probe name, the same with a last axis of time.
        outputs: By probe name.
    """

    algorithm: str
    num_nodes: int
    edge_index: Tensor
    graph: Tensor
    lengths: Tensor
    inputs: dict[str, Tensor]
    hints: dict[str, Tensor]
    outputs: dict[str, Tensor]

    @property
    def key(self) -> Key:
        """The algorithm and the size of the batch, by which scores are kept."""
        return self.algorithm, self.num_nodes

    def to(self, device: torch.device) -> "SparseBatch":
        """The batch on a device."""
        moved: dict[str, Any] = {
            name: {key: x.to(device) for key, x in value.items()} if isinstance(value, dict) else value.to(device)
            for name, value in self._asdict().items()
            if name not in ("algorithm", "num_nodes")
        }
        return self._replace(**moved)

    def groups(self, probe: Probe) -> tuple[Tensor, int]:
        """The group of each entry that a probe chooses among, and the number of groups: senders of edges, or graphs."""
        if probe.type is Type.POINTER:
            return self.edge_index[0], len(self.graph)
        return self.graph, len(self.lengths)

    def graph_of(self, probe: Probe) -> Tensor:
        """The graph of each entry of a probe's data."""
        if probe.location is Location.GRAPH or probe.type is Type.MASK_ONE:
            return torch.arange(len(self.lengths), device=self.graph.device)
        return self.graph if probe.location is Location.NODE else self.graph[self.edge_index[0]]
