"""The primitives that an engine of the gallery is made of; ``store.py`` has what they make together."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Literal, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from evergallery.gallery.items import EVERYTHING, Filter, Item, Match, Precision, Search, View

Answer = TypeVar("Answer")
RefreshMark = Literal["refresh", "superseded"]
"""The marks that an open refresh leaves on versions: on what it has made, and on what that supersedes."""


class Engine(ABC):
    """Versions of items, each of one generation, kept somewhere.

    Args:
        view: asked by every reading method at its start which versions are seen.
    """

    together = 256
    """Versions that are best stored in one call, where they are at hand and nobody waits."""

    def __init__(self, view: Callable[[], View]) -> None:
        self._view = view

    @property
    @abstractmethod
    def precision(self) -> Precision:
        """Return how the vectors are kept; one that is read is the nearest to what was stored that this can express."""

    @abstractmethod
    def close(self) -> None:
        """Release the gallery for other processes."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Reading

    @abstractmethod
    def at_one_moment(self, ask: Callable[[], Answer], view: View = EVERYTHING) -> Answer:
        """Return what ``ask`` returns, which asks this store several times while no item moves from one generation to another.

        Args:
            ask: may be called more than once; it only reads.
            view: that it reads with. A refresh that it hides moves nothing that it sees.
        """

    @abstractmethod
    def _dimensions(self) -> dict[str, int]:
        """The dimension of every generation that has, or had, vectors."""

    @abstractmethod
    def _held(
        self, identifiers: Sequence[str], with_embeddings: bool = True, view: View = EVERYTHING
    ) -> dict[str, list[Item]]:
        """Every version of these items, by id, as of one moment for whoever looks at them with a view."""

    @abstractmethod
    def _pages(
        self, where: Filter, view: View, after: str | None, size: int, *, with_embeddings: bool
    ) -> Iterator[list[list[Item]]]:
        """The versions of each item that are asked for and seen, at most ``size`` items a page, in the order of ``place``.

        Each page is as of its own moment, and holds all there is between its first item and its last.
        """

    @abstractmethod
    def _counts(self, where: Filter, view: View) -> dict[str, int]:
        """Return how many versions are asked for and seen, by generation, as of one moment."""

    @abstractmethod
    def _holds(self, generation: str, view: View) -> bool:
        """Return whether any version of a generation is seen; far cheaper than counting them."""

    @abstractmethod
    def _nearest(self, generation: str, queries: NDArray[np.float32], search: Search) -> list[list[Match]]:
        """The nearest versions of one generation for each query (Q, D), in any order, some below ``minimum_score`` perhaps.

        The k nearest, where ``exact`` is asked for: those with the largest scores, of equal ones those with the first ids.
        """

    # Writing

    def refuse_items(self) -> None:  # noqa: B027
        """Refuse to add, replace or delete items, where they are somebody else's.

        Raises:
            RefusedError: they are.
        """

    @abstractmethod
    def _writing(self) -> AbstractContextManager[object]:
        """One writer at a time; what is read within is what the writes meet."""

    @abstractmethod
    def _admit(self, dimensions: Mapping[str, int]) -> None:
        """Note the dimensions of new generations, whose vectors may come."""

    @abstractmethod
    def _replace(self, items: Sequence[Item], held: Mapping[str, Sequence[Item]]) -> None:
        """Store items, each in place of all its versions, which are ``held`` by id."""

    @abstractmethod
    def _supersede(self, items: Sequence[Item], refresh: str) -> None:
        """Store versions that a refresh has made, and mark the one that each of their items has as superseded by it."""

    @abstractmethod
    def _add(self, versions: Sequence[Item]) -> None:
        """Store versions as they are, in place of those of the same item and generation."""

    @abstractmethod
    def _delete(self, held: Mapping[str, Sequence[Item]]) -> None:
        """Delete items with all their versions, which are ``held`` by id."""

    @abstractmethod
    def _count_marked(self, refresh: str) -> int:
        """Return how many steps settling a refresh has before it."""

    @abstractmethod
    def _settle_some(self, refresh: str, losing: RefreshMark) -> tuple[int, int]:
        """Settle a batch of items: delete the version with the losing mark, unless it is the only one, and unmark the other.

        Returns how many steps were done, none where nothing was left, and how many versions were deleted.
        """
