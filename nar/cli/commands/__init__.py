"""The commands that do not train, validate or test: each a module with a function ``run`` of its arguments."""
