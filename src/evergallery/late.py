"""Late imports, so that nobody who reads a card waits for a network: names of packages, verbs of a class."""

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any, ParamSpec, TypeVar

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
    """A module whose functions may be named without loading it.

    >>> learning = LateModule("evergallery.learning.learning")
    >>> class Workspace:
    ...     learn = Verb(learning.learn)
    """

    def __init__(self, module: str) -> None:
        self._module = module

    @classmethod
    def of(cls, package: str, *names: str) -> list["LateModule"]:
        """Modules of a package."""
        return [cls(f"{package}.{name}") for name in names]

    def __getattr__(self, name: str) -> LateFunction:
        return LateFunction(self._module, name)
