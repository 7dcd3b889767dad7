"""The interface that every engine of the gallery offers."""

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from evergallery.gallery.items import Filter, Item, Match, PutCounts

NO_FILTER = Filter()


class GalleryStore(Protocol):
    """Items of several generations, each of its own dimension; an id is in exactly one generation.

    What a call has returned from is durable: neither a process that is killed, at any moment, nor a machine that loses its
    power loses anything of it or leaves half an item. One process at a time has a gallery open; its threads may share it.
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

    def contains(self, identifiers: Sequence[str]) -> set[str]:
        """Which of these ids are there."""

    def known_content(self, content_hashes: Sequence[str], where: Filter = NO_FILTER) -> set[str]:
        """Which of these hashes are the content of an item, so that nothing is extracted twice."""

    def count(self, where: Filter = NO_FILTER) -> int:
        """How many items there are."""

    def count_by_generation(self) -> dict[str, int]:
        """How many items each generation has made, by fingerprint; generations without items are left out."""

    def count_by_label(self, where: Filter = NO_FILTER) -> dict[str, int]:
        """How many items each label has; items without a label are left out."""

    def iterate(
        self, where: Filter = NO_FILTER, *, batch_size: int = 1000, with_embeddings: bool = True
    ) -> Iterator[list[Item]]:
        """All items, in batches, in a fixed order; without embeddings it is faster.

        Items may be put and deleted meanwhile: one that moves to a generation that is still to come is met again, so a
        refresh names the generation that it reads.
        """

    def search(
        self,
        queries: NDArray[np.float32],
        k: int,
        *,
        where: Filter = NO_FILTER,
        minimum_score: float | None = None,
        exact: bool = True,
    ) -> list[list[Match]]:
        """The k items with the largest cosine for each query, best first; equal scores in order of ids.

        Args:
            queries: (Q, D) unit rows.
            k: at least 1.
            where: which items.
            minimum_score: leave out items below it.
            exact: compare with every item; otherwise an index that ``compact`` has built may answer, faster, and may
                miss some.

        Raises:
            InputError: rows that are not finite unit vectors, or of a dimension that the searched items do not have.
        """

    def verify(self) -> list[str]:
        """Read every item and say what is wrong, a sentence each."""

    def compact(self) -> None:
        """Give back the room of what was deleted and index what is large for approximate search; may take minutes."""

    def close(self) -> None:
        """Release it for other processes."""
