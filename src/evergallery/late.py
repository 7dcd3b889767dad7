"""Late imports, so that nobody who reads a card waits for a network: names of packages, verbs of a class."""

import builtins
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from threading import get_ident
from types import SimpleNamespace
from typing import Any, ParamSpec, TypeVar, cast

P = ParamSpec("P")
R = TypeVar("R")


def late_names(package: str, modules: Mapping[str, Sequence[str]]) -> Callable[[str], Any]:
    """The ``__getattr__`` of a package (PEP 562) whose names load their modules when they are first used.

    Args:
        package: its dotted name.
        modules: by the name of a module in it, the names that it defines.
    """
    homes = {name: module for module, names in modules.items() for name in names}

    def find(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(f"{package}.{homes[name]}"), name)

    return find


class LateFunction:
    """A function whose module loads when it is asked for."""

    def __init__(self, module: str, name: str) -> None:
        self._module = module
        self._name = name

    def load(self) -> Callable[..., Any]:
        """The function itself."""
        function: Callable[..., Any] = getattr(import_module(self._module), self._name)
        return function


def loaded(function: Callable[P, R]) -> Callable[P, R]:
    """A function, loaded where it is late."""
    return function.load() if isinstance(function, LateFunction) else function


class LateModule:
    """A module whose functions may be named without loading it."""

    def __init__(self, module: str) -> None:
        self._module = module

    def __getattr__(self, name: str) -> LateFunction:
        return LateFunction(self._module, name)


@contextmanager
def late_imports() -> Iterator[None]:
    """Make ``from package import module`` name modules that load when they are first used, as ``lazy`` does in PEP 810.

    >>> with late_imports():
    ...     from evergallery.learning import learning
    >>> class Workspace:
    ...     learn = Verb(learning.learn)

    For this thread alone, and for nothing but modules of packages.
    """
    really, here = builtins.__import__, get_ident()

    def named(package: str, *others: Any) -> Any:
        if get_ident() != here:
            return really(package, *others)
        _, _, modules, _ = others
        return SimpleNamespace(**{module: LateModule(f"{package}.{module}") for module in modules})

    builtins.__import__ = cast("Any", named)
    try:
        yield
    finally:
        builtins.__import__ = really
