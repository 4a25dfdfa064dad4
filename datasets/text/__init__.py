"""CLRS-Text: trajectories as texts for language models."""

from nar.datasets.text.format import Scores, Text, parse, render, scores, texts
from nar.datasets.text.stream import TextSample, text_samples

__all__ = ["Scores", "Text", "TextSample", "parse", "render", "scores", "text_samples", "texts"]
