"""CLRS-Text: trajectories as texts for language models."""

from nar.datasets.text.format import Scores, Text, parse, render, scores, texts
from nar.datasets.text.graphs import graph_of, text_sample
from nar.datasets.text.published import Row, clrs_text_dataset, read_texts, samples_of, write_texts
from nar.datasets.text.stream import TextSample, text_samples

__all__ = [
    "Row",
    "Scores",
    "Text",
    "TextSample",
    "clrs_text_dataset",
    "graph_of",
    "parse",
    "read_texts",
    "render",
    "samples_of",
    "scores",
    "text_sample",
    "text_samples",
    "texts",
    "write_texts",
]
