"""Graph neural network layers for algorithmic reasoning, usable in any PyTorch model."""

from nar.processor import Processor
from nar.processors.asynchronous.error import asynchrony_error
from nar.processors.asynchronous.layer import Asynchronous
from nar.processors.gat import GAT, GATv2
from nar.processors.memnet import MemNet
from nar.processors.pairs import PairGMPNN
from nar.processors.pgn import MPNN, PGN, DeepSets, TripletGMPNN

__all__ = [
    "GAT",
    "MPNN",
    "PGN",
    "Asynchronous",
    "DeepSets",
    "GATv2",
    "MemNet",
    "PairGMPNN",
    "TripletGMPNN",
    "asynchrony_error",
    "list_processors",
]


def list_processors() -> dict[str, type[Processor]]:
    """The processors of the library by the short names that the command line takes."""
    named = {name: globals()[name] for name in __all__}
    return {name: kind for name, kind in named.items() if isinstance(kind, type) and issubclass(kind, Processor)}
