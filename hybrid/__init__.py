"""Language models that read the states of a neural algorithmic reasoner."""

from nar.hybrid.cross_attention import GatedCrossAttention
from nar.hybrid.language_model import make_language_model
from nar.hybrid.module import LanguageReasoner, load_transnar
from nar.hybrid.pretrained import TransNARConfig, TransNARModel
from nar.hybrid.transnar import TransNAR

__all__ = [
    "GatedCrossAttention",
    "LanguageReasoner",
    "TransNAR",
    "TransNARConfig",
    "TransNARModel",
    "load_transnar",
    "make_language_model",
]
