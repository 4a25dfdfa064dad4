"""From a user's own graph, keys, strings or points to the answer of a trained model."""

from nar.inference.answers import Answer, Check, Prediction
from nar.inference.reasoning import run

__all__ = ["Answer", "Check", "Prediction", "run"]
