"""What loads when it is first used, so that nobody who reads a card waits for a network: names of packages, verbs of a class."""

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any


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


class LateMethod:
    """A function of a module as a method of a class; the module loads when the method is first asked for."""

    def __init__(self, module: str, name: str) -> None:
        self.module = module
        self.name = name

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        return getattr(import_module(self.module), self.name).__get__(instance, owner)


class LateModule:
    """A module whose functions become methods of a class without loading it.

    >>> learning = LateModule("evergallery.learning.learning")
    >>> class Workspace:
    ...     learn = learning.learn
    """

    def __init__(self, module: str) -> None:
        self._module = module

    @classmethod
    def of(cls, package: str, *names: str) -> list["LateModule"]:
        """Modules of a package."""
        return [cls(f"{package}.{name}") for name in names]

    def __getattr__(self, name: str) -> LateMethod:
        return LateMethod(self._module, name)
