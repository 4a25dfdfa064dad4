"""Importing Lightning without what only parts of it use that no command needs."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lightning_utilities.core import imports


@contextmanager
def taken_for_missing(*packages: str) -> Iterator[None]:
    """While this holds, these packages are not found by libraries that ask lightning-utilities for them.

    torchmetrics, which Lightning imports, imports transformers, matplotlib and scipy.signal if they are there, which
    takes longer than all else that it does. An answer is not kept: who asks again later, as Lightning does before it
    draws something, is told the truth. In this process torchmetrics then has no metrics that need them. `import` itself
    is left alone.
    """
    module: Any = imports
    kind: Any = imports.RequirementCache
    answered: list[Any] = []
    hidden = {*packages}
    is_met, is_there = kind._check_available, module.package_available

    def check(requirement: Any) -> None:
        name = re.split(r"[^\w-]", requirement.requirement or requirement.module)[0]
        if name in hidden and not hasattr(requirement, "available"):
            requirement.available, requirement.message = False, f"{name} is taken for missing"
            answered.append(requirement)
        else:
            is_met(requirement)

    def check_package(name: str) -> bool:
        return name not in hidden and bool(is_there(name))

    kind._check_available, module.package_available = check, check_package
    try:
        yield
    finally:
        kind._check_available, module.package_available = is_met, is_there
        hidden.clear()  # for who has kept one of these functions
        for requirement in answered:
            del requirement.available
