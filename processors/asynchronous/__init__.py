"""Layers whose result does not depend on when messages arrive, and how far any layer's does."""

from nar.processors.asynchronous.error import asynchrony_error
from nar.processors.asynchronous.layer import Asynchronous

__all__ = ["Asynchronous", "asynchrony_error"]
