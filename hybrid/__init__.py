"""Language models that read the states of a neural algorithmic reasoner."""

from nar.hybrid.cross_attention import GatedCrossAttention
from nar.hybrid.language_model import make_language_model
from nar.hybrid.transnar import TransNAR

__all__ = ["GatedCrossAttention", "TransNAR", "make_language_model"]
