"""Graph neural network layers for algorithmic reasoning, usable in any PyTorch model."""

from nar.processors.mpnn import MPNN
from nar.processors.pgn import PGN
from nar.processors.triplet_gmpnn import TripletGMPNN

__all__ = ["MPNN", "PGN", "TripletGMPNN"]
