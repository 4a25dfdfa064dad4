"""From a user's own graph, keys, strings or points to the answer of a trained model."""

from nar.inference.answers import Answer, Check, Prediction
from nar.inference.reasoning import run, trace
from nar.inference.tracing import Place, Trace

__all__ = ["Answer", "Check", "Place", "Prediction", "Trace", "run", "trace"]
