"""Graph neural network layers for algorithmic reasoning, usable in any PyTorch model."""

from nar.processors.asynchronous.error import asynchrony_error
from nar.processors.asynchronous.layer import Asynchronous
from nar.processors.gat import GAT, GATv2
from nar.processors.memnet import MemNet
from nar.processors.pgn import MPNN, PGN, DeepSets, TripletGMPNN

__all__ = ["GAT", "MPNN", "PGN", "Asynchronous", "DeepSets", "GATv2", "MemNet", "TripletGMPNN", "asynchrony_error"]
