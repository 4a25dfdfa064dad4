"""CLRS-Text: trajectories as texts for language models."""

from nar.datasets.text.format import Scores, Text, parse, render, scores, texts
from nar.datasets.text.graphs import graph_of, text_sample
from nar.datasets.text.stream import TextSample, text_samples

__all__ = [
    "Scores",
    "Text",
    "TextSample",
    "graph_of",
    "parse",
    "render",
    "scores",
    "text_sample",
    "text_samples",
    "texts",
]
