"""Graph neural network layers for algorithmic reasoning, usable in any PyTorch model."""

from nar.processors.asynchronous.error import asynchrony_error
from nar.processors.asynchronous.layer import Asynchronous
from nar.processors.deep_sets import DeepSets
from nar.processors.gat import GAT
from nar.processors.gatv2 import GATv2
from nar.processors.memnet import MemNet
from nar.processors.mpnn import MPNN
from nar.processors.pgn import PGN
from nar.processors.triplet_gmpnn import TripletGMPNN

__all__ = ["GAT", "MPNN", "PGN", "Asynchronous", "DeepSets", "GATv2", "MemNet", "TripletGMPNN", "asynchrony_error"]
