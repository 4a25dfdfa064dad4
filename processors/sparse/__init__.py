"""Layers on sparse graphs, for PyTorch Geometric and of it."""

try:
    import torch_geometric  # noqa: F401
except ModuleNotFoundError as error:
    raise ImportError('nar.processors.sparse needs PyTorch Geometric: pip install "torch-geometric>=2.8"') from error

from nar.ops.scatter import scatter, scatter_softmax
from nar.processors.sparse.aggregations import (
    AdaptiveSoftmaxAggregation,
    LSTMAggregation,
    MaxAggregation,
    RecurrentAggregation,
)
from nar.processors.sparse.conv_processor import ConvProcessor
from nar.processors.sparse.gat_conv import GATConv, GATv2Conv
from nar.processors.sparse.path_triplets import PathTriplets
from nar.processors.sparse.pgn_conv import PGNConv

__all__ = [
    "AdaptiveSoftmaxAggregation",
    "ConvProcessor",
    "GATConv",
    "GATv2Conv",
    "LSTMAggregation",
    "MaxAggregation",
    "PGNConv",
    "PathTriplets",
    "RecurrentAggregation",
    "scatter",
    "scatter_softmax",
]
