"""The interface that every engine of the gallery offers."""

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from evergallery.gallery.items import Filter, Item, Match, PutCounts

NO_FILTER = Filter()


class GalleryStore(Protocol):
    """Items of several generations, each of its own dimension; an id is in exactly one generation.

    What a call has returned from is durable: a process that is killed, at any moment, loses nothing of it and leaves no
    half item.
    """

    def put(self, items: Sequence[Item]) -> PutCounts:
        """Add items, or replace those of the same id, whatever generation had made them.

        An item that is already there in every particular but ``added`` is left as it is.

        Raises:
            InputError: an item that cannot be stored; then none of them is.
        """

    def get(self, identifier: str) -> Item | None:
        """The item of this id, or ``None``."""

    def delete(self, identifiers: Sequence[str]) -> int:
        """Delete items; returns how many of them were there."""

    def count(self, where: Filter = NO_FILTER) -> int:
        """How many items there are."""

    def count_by_generation(self) -> dict[str, int]:
        """How many items each generation has made, by fingerprint; generations without items are left out."""

    def count_by_label(self) -> dict[str, int]:
        """How many items each label has."""

    def iterate(self, where: Filter = NO_FILTER, *, batch_size: int = 1000) -> Iterator[list[Item]]:
        """All items, in batches, in a fixed order."""

    def search(
        self, queries: NDArray[np.float32], k: int, *, where: Filter = NO_FILTER, minimum_score: float | None = None
    ) -> list[list[Match]]:
        """The k items with the largest cosine for each query, best first; exact; equal scores in order of ids.

        Args:
            queries: (Q, D) unit rows.
            k: at least 1.
            where: which items.
            minimum_score: leave out items below it.

        Raises:
            InputError: a dimension that the searched items do not have.
        """

    def verify(self) -> list[str]:
        """Read every item and say what is wrong, a sentence each."""

    def close(self) -> None:
        """Release it for other processes."""
