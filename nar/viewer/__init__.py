"""A page on which to see, step by step, where a model's predictions part from the algorithm that it executes."""

from nar.viewer.view import HasModel, Page, show, view

__all__ = ["HasModel", "Page", "show", "view"]
