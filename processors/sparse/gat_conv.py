"""Graph attention along the edges of sparse graphs: the equations of :class:`nar.processors.GAT` and of its version 2.

They are not those of PyG's layers of these names: features of edges and of graphs have a part in the logits and not in
what is heard, the leak is 0.01, and there is a skip of its own. As in PyG a node hears those that send to it, where in
dm-clrs, and so in :class:`nar.processors.GAT`, it hears those that it sends to: ``flow="target_to_source"``.

Sources: Veličković et al., "Graph Attention Networks", ICLR 2018; Brody et al., "How Attentive are Graph Attention
Networks?", ICLR 2022; ``GAT`` and ``GATv2`` in ``clrs/_src/processors.py`` of dm-clrs 2.0.3.
"""
# Axes: N nodes and E edges of all graphs together, B graphs, H channels out, A attention heads.

from torch import Tensor, nn

from nar.ops.linear import Linear
from nar.ops.scatter import scatter_softmax
from nar.processor import MessagePoint
from nar.processors.gat import check_heads, leaky_relu, score_heads
from nar.processors.sparse.conv import Flow, Nodes, Size, SparseConv, Width, linear


class AttentionConv(SparseConv):
    """The base of :class:`GATConv` and :class:`GATv2Conv`, which score edges differently.

    Args:
        in_channels: Width of x, or those of x_src and x_dst; -1 for what the first call is given.
        out_channels: H.
        num_heads: A, a divisor of H.
        edge_dim: Width of the edges' features; None for none.
        graph_dim: Width of the graphs' features; None for none.
        layer_norm: Whether states are normalised.
        flow: ``"target_to_source"`` lets a node hear those that it sends to, as in dm-clrs.
    """

    mixes_features = False  # before an edge is scored

    def __init__(
        self,
        in_channels: Width,
        out_channels: int,
        num_heads: int = 1,
        edge_dim: int | None = None,
        graph_dim: int | None = None,
        layer_norm: bool = True,
        flow: Flow = "source_to_target",
    ) -> None:
        check_heads("out_channels", out_channels, num_heads)
        super().__init__(in_channels, out_channels, edge_dim, graph_dim, aggr="sum", flow=flow)
        self.num_heads = num_heads
        sender_dim, receiver_dim = self.widths
        width = out_channels if self.mixes_features else num_heads
        self.value = linear(sender_dim, out_channels)
        self.skip = linear(receiver_dim, out_channels)
        self.query = linear(receiver_dim, width)
        self.key = linear(sender_dim, width)
        self.edge = None if edge_dim is None else linear(edge_dim, width)
        self.graph = None if graph_dim is None else linear(graph_dim, width)
        self.message_point = MessagePoint()
        self.norm = nn.LayerNorm(out_channels) if layer_norm else nn.Identity()
        if self.mixes_features:
            self.scores = nn.ModuleList(Linear(out_channels // num_heads, 1) for _ in range(num_heads))

    def forward(
        self,
        x: Nodes,
        edge_index: Tensor,
        edge_attr: Tensor | None = None,
        graph_attr: Tensor | None = None,
        batch: Tensor | None = None,
        size: Size | None = None,
    ) -> Tensor:
        """The new node states, [N, H].

        Args:
            x: [N, in_channels]; or of a bipartite graph x_src and x_dst, or x_src and None, where nodes that have no
                features ask for nothing and skip nothing.
            edge_index: [2, E]. Or adj_t, a sparse matrix, whose values are the `edge_attr` if there is an `edge_dim`
                and none are given.
            edge_attr: [E, edge_dim].
            graph_attr: [B, graph_dim].
            batch: The graph of each node (that hears), [N]; None if there is one graph.
            size: The numbers of nodes on both sides of a bipartite graph; None for what x says.

        Raises:
            IndexError, TypeError, ValueError: If they do not fit.
        """
        given = self.given(x, edge_index, edge_attr, graph_attr, batch, size)
        pairs = self.key(given.sending).index_select(0, given.senders)
        query = None if given.hearing is None else self.query(given.hearing)
        if self.graph is not None:
            of_graphs = self.graph(given.graph_attr)
            query = of_graphs if query is None else query + of_graphs
        if query is not None:
            pairs = query.index_select(0, given.receivers) + pairs
        if self.edge is not None:
            pairs = pairs + self.edge(given.edge_attr)
        logits = leaky_relu(pairs)
        if self.mixes_features:
            logits = score_heads(self.scores, logits)
        alpha = scatter_softmax(logits, given.receivers, given.num_receivers)
        value = self.value(given.sending)
        attended: Tensor = self.message_point(self.pass_on(given, value=value, alpha=alpha))
        if given.hearing is not None:
            attended = attended + self.skip(given.hearing)
        states: Tensor = self.norm(attended.relu())
        return states

    def message(self, value_j: Tensor, alpha: Tensor) -> Tensor:
        """The weighted value that every edge brings, [E, H]; in PyG's names i hears j, and weights are `alpha`."""
        parts = value_j.view(-1, self.num_heads, self.out_channels // self.num_heads) * alpha[..., None]
        return parts.flatten(1)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.in_channels}, {self.out_channels}, num_heads={self.num_heads})"


class GATConv(AttentionConv):
    """Every node takes a weighted mean of the values of those that send to it; dm-clrs takes those that it sends to::

        x'_i = LayerNorm(ReLU(Σ_j a_ij V x_j + S x_i))
        a_ij = softmax_j LeakyReLU(q x_i + k x_j + e e_ij + g g)      over those j that send to i, for each head

    With ``flow="target_to_source"``, over those j that i sends to, it is :class:`nar.processors.GAT`, whose weights it
    has: ``conv.load_state_dict(gat.state_dict())``. A node that hears no one takes its skip alone, where that one takes
    the mean of all nodes.

    Args: As in :class:`AttentionConv`.
    """


class GATv2Conv(AttentionConv):
    """A :class:`GATConv`, so a node hears those that send to it, where in dm-clrs it hears those that it sends to::

        a_ij = softmax_j (w LeakyReLU(Q x_i + K x_j + E e_ij + G g) + c)      over those j that send to i, for each head

    Features meet before they are scored. With ``flow="target_to_source"`` it is the one layer in
    :class:`nar.processors.GATv2`, whose weights it has: ``conv.load_state_dict(gatv2.attention.state_dict())``.

    Args: As in :class:`AttentionConv`.
    """

    mixes_features = True
