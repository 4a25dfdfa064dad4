"""Evaluation of trained reasoners: scores with intervals at many sizes, tables, pictures, and comparisons of two."""

from nar.evaluation.compare import Difference, compare
from nar.evaluation.run import Evaluation, evaluate
from nar.evaluation.statistics import Estimate

__all__ = ["Difference", "Estimate", "Evaluation", "compare", "evaluate"]
