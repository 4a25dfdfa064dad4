"""Training and evaluation with Lightning, and what is kept of it."""
