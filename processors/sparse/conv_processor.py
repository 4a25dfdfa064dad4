"""A layer of PyTorch Geometric as the processor of a model."""
# Axes: B graphs, N nodes, H hidden, E edges of all graphs together. What belongs to an edge is [B, S, R, ...].

import inspect
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn
from torch_geometric.nn import MessagePassing

from nar.ops.border import check_index, check_shapes
from nar.ops.channels import Channels, as_tensor
from nar.processor import SparseProcessor
from nar.processors.sparse.conv import SparseConv


class ConvProcessor(SparseProcessor):
    """Every step is one pass of a convolution along the edges of `adj`, self-loops included.

    The convolution is given ``x_i ‖ h_i``, 2H channels, and gives H. If it takes ``edge_attr`` (and, where it has an
    ``edge_dim``, this is not None) it is given the features of the edges, H channels; if it takes ``graph_attr``, those
    of the graphs, H channels, which are otherwise added to x.

    Args:
        conv: A module with ``forward(x, edge_index, ...)``, such as those of :mod:`nar.processors.sparse` and of
            ``torch_geometric.nn``.
        hidden_dim: H.
        normalised: Whether ReLU and a layer normalisation follow, as most of PyG's layers leave to others.
    """

    takes_channels = True

    def __init__(self, conv: nn.Module, hidden_dim: int = 128, *, normalised: bool = False) -> None:
        super().__init__()
        if hidden_dim < 1:
            raise ValueError(f"expected hidden_dim ≥ 1, given {hidden_dim}")
        taken = inspect.signature(conv.forward).parameters
        if "edge_index" not in taken:
            raise ValueError(f"expected a conv whose forward takes edge_index, given one that takes {', '.join(taken)}")
        self.conv = conv
        self.hidden_dim = hidden_dim
        self.has_edge_states = bool(getattr(conv, "has_edge_states", False))
        self.takes_edges = "edge_attr" in taken and getattr(conv, "edge_dim", 1) is not None
        self.takes_graphs = "graph_attr" in taken and getattr(conv, "graph_dim", 1) is not None
        self.norm = nn.Sequential(nn.ReLU(), nn.LayerNorm(hidden_dim)) if normalised else nn.Identity()
        self.draw_widths()

    @torch.no_grad()
    def draw_widths(self) -> None:
        """Do a step on one node that hears itself: a conv may take its widths, which are left to its first call.

        Raises:
            ValueError: If the conv cannot do it.
        """
        own = next(self.conv.parameters(), torch.empty(0))
        was_training, fts = self.conv.training, torch.zeros(1, self.hidden_dim, dtype=own.dtype, device=own.device)
        loop = torch.zeros(2, 1, dtype=torch.int64, device=own.device)
        self.conv.eval()
        try:
            self.along_edges(fts, fts, fts, loop, loop[0], fts)
        except (RuntimeError, TypeError, ValueError, IndexError, AttributeError) as error:
            width = self.hidden_dim
            expected = f"a conv that makes {width} channels (hidden_dim) of {2 * width}"
            raise ValueError(f"expected {expected}, given {self.conv}, which fails: {error}") from error
        finally:
            self.conv.train(was_training)

    def forward(
        self,
        node_fts: Tensor | Channels,
        edge_fts: Tensor | Channels,
        graph_fts: Tensor,
        adj: Tensor,
        hidden: Tensor,
    ) -> tuple[Tensor, Tensor | None]:
        """See :meth:`nar.processor.Processor.forward`."""
        num_graphs, num_nodes, _ = hidden.shape
        if adj.shape not in ((num_graphs, num_nodes, num_nodes), (1, num_nodes, num_nodes)):
            expected = [num_graphs, num_nodes, num_nodes]
            raise ValueError(f"ConvProcessor: expected adj {expected}, given {list(adj.shape)}")
        is_edge = adj.bool().expand(num_graphs, -1, -1)
        graph, sender, receiver = is_edge.nonzero(as_tuple=True)
        edge_index = torch.stack([sender, receiver]) + graph * num_nodes
        of_node = torch.arange(num_graphs, device=adj.device).repeat_interleave(num_nodes)
        edges = as_tensor(edge_fts[is_edge]) if self.takes_edges else hidden.new_empty(graph.shape[0], 0)
        nodes = as_tensor(node_fts).flatten(0, 1)
        states, edge_states = self.along_edges(nodes, edges, graph_fts, edge_index, of_node, hidden.flatten(0, 1))
        if edge_states is not None:
            everywhere = edge_states.new_zeros(*is_edge.shape, self.hidden_dim)
            edge_states = everywhere.index_put((graph, sender, receiver), edge_states)
        return states.view_as(hidden), edge_states

    def along_edges(
        self,
        node_fts: Tensor,
        edge_fts: Tensor,
        graph_fts: Tensor,
        edge_index: Tensor,
        graph: Tensor,
        hidden: Tensor,
    ) -> tuple[Tensor, Tensor | None]:
        """See :meth:`nar.processor.SparseProcessor.along_edges`."""
        name = "ConvProcessor"
        edge_index = check_index(name, "edge_index", edge_index, hidden.shape[0])
        graph = check_index(name, "graph", graph, graph_fts.shape[0])
        check_shapes(
            name,
            hidden=(hidden, "N H"),
            node_fts=(node_fts, "N H"),
            graph_fts=(graph_fts, "B H"),
            graph=(graph, "N", torch.int64),
            edge_index=(edge_index, "two E", torch.int64),
            edge_fts=(edge_fts if self.takes_edges else None, "E H"),
        )
        given: dict[str, Tensor] = {}
        if self.takes_edges:
            given["edge_attr"] = edge_fts
        if self.takes_graphs:
            given |= {"graph_attr": graph_fts, "batch": graph}
        else:
            node_fts = node_fts + graph_fts.index_select(0, graph)
        made = self.conv(torch.cat([node_fts, hidden], dim=-1), edge_index, **given)
        states, edge_states = made if self.has_edge_states else (made, None)
        if states.shape != hidden.shape:
            raise ValueError(
                f"expected a conv that gives {self.hidden_dim} channels (hidden_dim), given one that gives "
                f"{list(states.shape)} for {len(hidden)} nodes"
            )
        return self.norm(states), edge_states

    @contextmanager
    def watching_messages(self, watch: Callable[[Tensor], Tensor]) -> Iterator[None]:
        """See :meth:`nar.processor.Processor.watching_messages`; what PyG's layers aggregate goes through it."""
        with super().watching_messages(watch), ExitStack() as stack:
            for layer in self.conv.modules():
                if isinstance(layer, MessagePassing) and not isinstance(layer, SparseConv):
                    hook = layer.register_aggregate_forward_hook(lambda _, given, received: watch(received))
                    stack.callback(hook.remove)
            yield
