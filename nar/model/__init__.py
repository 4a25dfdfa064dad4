"""Encode-process-decode models on dense graphs."""

from nar.model.heads import HintMode
from nar.model.reconstruction import Reconstruction
from nar.model.unroll import DecayTo, EncodeProcessDecode, HintFeedback, Predictions

__all__ = ["DecayTo", "EncodeProcessDecode", "HintFeedback", "HintMode", "Predictions", "Reconstruction"]
