"""Evergallery: visual search whose gallery outlives its model.

>>> import evergallery as eg
>>> shop = eg.Workspace.create("shop")
>>> shop.learn("photos/spring")
>>> shop.index("photos/catalogue")
>>> shop.learn("photos/summer", method=eg.methods.CSD())
>>> shop.search("query.jpg", k=10)

Names load when they are first used, so that importing the package costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from evergallery._version import __version__

if TYPE_CHECKING:
    from evergallery import data, errors, losses, methods, network, retrieval
    from evergallery.generations.generation import Generation
    from evergallery.network.endpoint import Endpoint
    from evergallery.training import Settings
    from evergallery.workspace import Workspace

__all__ = [
    "Endpoint",
    "Generation",
    "Settings",
    "Workspace",
    "__version__",
    "data",
    "errors",
    "losses",
    "methods",
    "network",
    "retrieval",
]

_HOMES = {
    "Endpoint": "evergallery.network.endpoint",
    "Generation": "evergallery.generations.generation",
    "Settings": "evergallery.training",
    "Workspace": "evergallery.workspace",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    if name in __all__:
        return import_module(f"evergallery.{name}")
    raise AttributeError(f"module 'evergallery' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
