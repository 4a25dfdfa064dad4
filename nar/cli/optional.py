"""Importing Lightning without what only parts of it use that no command needs."""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from lightning_utilities.core import imports

COMPILER = "torch._dynamo"
"""The front end of ``torch.compile``, whose import takes as long as that of all else of torch."""


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


class _KindOfCompiled(type):
    """Has ``isinstance`` ask the compiler, if it has been imported: without it nothing has been compiled."""

    def __instancecheck__(cls, instance: object) -> bool:
        compiler: Any = sys.modules.get(COMPILER)
        return compiler is not None and isinstance(instance, compiler.OptimizedModule)


class Compiled(metaclass=_KindOfCompiled):
    """Stands for ``torch._dynamo.OptimizedModule``, the class of compiled modules, where ``isinstance`` asks for it."""


class _PutOff(ModuleType):
    """Stands for the compiler: imports it as soon as more of it is asked for than can be had without."""

    OptimizedModule = Compiled

    @staticmethod
    def disable(function: Any, recursive: bool = True, **_: Any) -> Any:
        """A function that is never compiled, as torch's own are: who calls it first imports the compiler.

        (What the decorator takes besides is for messages of the compiler.)
        """
        return import_module("torch._compile")._disable_dynamo(function, recursive)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # what an import looks for
            raise AttributeError(name)
        if sys.modules.get(COMPILER) is self:
            del sys.modules[COMPILER]
        return getattr(import_module(COMPILER), name)


@contextmanager
def compiler_put_off() -> Iterator[None]:
    """While this holds, a library that imports of the compiler what Lightning does is given it without the compiler.

    That is the class of compiled modules, of which it asks whether something is one, and the decorator of functions
    that are not to be compiled. Afterwards the compiler is imported as ever, by who needs it.
    """
    spec = None if COMPILER in sys.modules else find_spec(COMPILER)
    if spec is None:
        yield
        return
    sys.modules[COMPILER] = stand_in = _PutOff(COMPILER)
    stand_in.__path__ = list(spec.submodule_search_locations or ())  # parts of it can be imported all the same
    try:
        yield
    finally:
        if sys.modules.get(COMPILER) is stand_in:
            del sys.modules[COMPILER]
