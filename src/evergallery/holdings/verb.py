"""A verb of the product as a method of the workspace, which lists them."""

from collections.abc import Callable
from functools import wraps
from inspect import signature
from pathlib import Path
from types import MethodType
from typing import Concatenate, Generic, ParamSpec, Protocol, TypeVar, overload

from evergallery.arguments.checking import checked
from evergallery.holdings.holdings import Holdings
from evergallery.late import loaded

P = ParamSpec("P")
R = TypeVar("R")


class HasHoldings(Protocol):
    """A class that lists verbs."""

    @property
    def holdings(self) -> Holdings:
        """Return what the verbs are functions of."""
        ...


class Verb(Generic[P, R]):
    """A function of the holdings as a method: ``shop.learn(images)`` is ``learn(shop.holdings, images)``.

    Args:
        function: takes the holdings first; its docstring is the method's.
    """

    def __init__(self, function: Callable[Concatenate[Holdings, P], R]) -> None:
        self._function = function

    @overload
    def __get__(self, shop: None, owner: type) -> Callable[Concatenate[Holdings, P], R]: ...

    @overload
    def __get__(self, shop: HasHoldings, owner: type) -> Callable[P, R]: ...

    def __get__(self, shop: HasHoldings | None, owner: type) -> Callable[..., R]:
        function = loaded(self._function)
        return function if shop is None else MethodType(checked(function), shop.holdings)


class Creation(Generic[P]):
    """A function that makes holdings as a constructor of the class that lists the verbs.

    Args:
        function: its docstring is the constructor's.
    """

    def __init__(self, function: Callable[P, Holdings]) -> None:
        self._function = function

    def __get__(self, shop: HasHoldings | None, owner: Callable[[Path], R]) -> Callable[P, R]:
        function = loaded(self._function)

        @wraps(function)
        def create(*args: P.args, **kwargs: P.kwargs) -> R:
            return owner(checked(function)(*args, **kwargs).directory)

        vars(create)["__signature__"] = signature(function).replace(return_annotation=owner)
        return create
