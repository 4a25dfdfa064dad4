"""A processor of a user's own, found by its import path."""

from torch import Tensor, nn

from nar.processor import Processor


class MeanProcessor(Processor):
    """The mean of all senders, through one linear layer.

    Args:
        hidden_dim: Width of every feature and state.
    """

    def __init__(self, hidden_dim: int = 4) -> None:
        super().__init__()
        self.hidden_dim = hidden_dim
        self.linear = nn.Linear(hidden_dim, hidden_dim)

    def forward(
        self, node_fts: Tensor, edge_fts: Tensor, graph_fts: Tensor, adj: Tensor, hidden: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        return self.linear(node_fts + hidden + edge_fts.mean(dim=1) + graph_fts[:, None]).relu(), None
