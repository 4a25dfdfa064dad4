"""Encode-process-decode models on sparse graphs."""

from nar.sparse.batch import SparseBatch
from nar.sparse.model import SparseEncodeProcessDecode

__all__ = ["SparseBatch", "SparseEncodeProcessDecode"]
