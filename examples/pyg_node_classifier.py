"""Train a node classifier of PyTorch Geometric with sparse layers of the library, and test it on larger graphs.

Which nodes of a random graph have a marked one at most three edges away? Maxima over neighbours can tell at any size.

python pyg_node_classifier.py
"""

import torch
from jsonargparse import auto_cli
from torch import nn
from torch.nn import functional
from torch_geometric.data import Data
from torch_geometric.loader import DataLoader
from torch_geometric.nn import Sequential
from torch_geometric.utils import erdos_renyi_graph, to_dense_adj

from nar.processors.sparse import PGNConv


def graph(num_nodes: int) -> Data:
    """A random graph of mean degree 3, a node in 20 of which is marked; of class 1 is who has one near by."""
    edge_index, marked = erdos_renyi_graph(num_nodes, 3 / num_nodes), (torch.rand(num_nodes, 1) < 0.05).float()
    adj, near = to_dense_adj(edge_index, max_num_nodes=num_nodes)[0], marked
    for _ in range(3):
        near = torch.maximum(near, (adj @ near).clamp(max=1))
    return Data(x=marked, edge_index=edge_index, y=near[:, 0].long())


def classifier(hidden_dim: int = 32) -> nn.Module:
    """Three layers, and the logits of two classes."""
    layers = [PGNConv(width, hidden_dim, aggr="max") for width in (1, hidden_dim, hidden_dim)]
    return Sequential(
        "x, edge_index",
        [*((layer, "x, edge_index -> x") for layer in layers), nn.Linear(hidden_dim, 2)],
    )


@torch.no_grad()
def accuracy(model: nn.Module, data: Data) -> float:
    """The share of nodes whose class is right."""
    return (model(data.x, data.edge_index).argmax(dim=-1) == data.y).float().mean().item()


def main(steps: int = 200) -> None:
    """Train on graphs of 32 nodes for so many steps, and print the accuracy on larger ones."""
    torch.manual_seed(0)
    model = classifier()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for batch in DataLoader([graph(32) for _ in range(16 * steps)], batch_size=16):
        loss = functional.cross_entropy(model(batch.x, batch.edge_index), batch.y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    for num_nodes in (64, 512, 2048):
        print(f"n = {num_nodes}: {accuracy(model, graph(num_nodes)):.1%} right")


if __name__ == "__main__":
    auto_cli(main)
