"""The interface that every engine of the gallery offers."""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Literal, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from evergallery.gallery.items import Filter, Item, Match, Precision, PutCounts, View

if TYPE_CHECKING:
    from evergallery.gallery.recall import Index

Answer = TypeVar("Answer")

NO_FILTER = Filter()
EVERYTHING = View()


class GalleryStore(Protocol):
    """Items of several generations, each of its own dimension; an id is one item.

    What a call has returned from is durable: neither a process that is killed, at any moment, nor a machine that loses its
    power loses anything of it or leaves half an item. Threads may share a store; whether several processes may have the same
    gallery open is said by its engine.

    While a refresh is not settled, its items have two versions, of two generations. A ``View`` says which of them is seen: a
    store is opened with a function that tells it, and reading methods take another one as ``view``. So a refresh is shown, or
    hidden again, by what that function says, and nothing is written here. A view that names every unsettled refresh sees an
    item once; where it names one of them neither as shown nor as hidden, it sees both versions: counts count them, and every
    other method answers with one of them. What a call sees, it sees as it is between two writes: an item that another thread
    refreshes or puts meanwhile is neither missed nor met twice.
    """

    @property
    def precision(self) -> Precision:
        """How the vectors are kept; one that is read is the nearest to what was stored that this can express."""

    def put(self, items: Sequence[Item], *, relabel: bool = False) -> PutCounts:
        """Add items, or replace those of the same id, whatever generation had made them, with all their versions.

        What is known of an item stays where the new one says nothing of it: its label, its address, what it has in its metadata.
        An item of which nothing new is said is left as it is, but for ``added``. Marks of refreshes are not taken over.

        Args:
            items: one of each id.
            relabel: whether a label takes the place of another one that is known; otherwise that stays, which is counted.

        Raises:
            InputError: an item that cannot be stored; then none of them is.
        """

    def refresh(self, items: Sequence[Item], refresh: str) -> int:
        """Store newer versions, by other generations, beside the ones that are there; returns how many.

        The old version stays, superseded; the new one is stored as it is given. Left alone is an item that is no longer there,
        whose content hash is another by now, that this generation has made already, or that has a version of this refresh:
        so the same call may be made again.

        Args:
            items: at most one version of each item.
            refresh: name of the refresh, never used before for another.

        Raises:
            InputError: an item that cannot be stored, or that has two versions already, of a refresh that must be settled
                first; then none of them is.
        """

    def settle(
        self,
        refresh: str,
        keep: Literal["new", "old"],
        *,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> int:
        """End a refresh: delete one version of each of its items for good, and unmark the other; returns how many went.

        Show the refresh before its new versions are kept, hide it before the old ones are, and forget it once this has
        returned. After an interruption the same call goes on where it stopped. An item's only version is never deleted.

        Args:
            refresh: which; one that is not known, or is settled, has nothing to delete.
            keep: which versions stay.
            on_progress: hears after each batch how many versions are done, and of how many.
        """

    def get(self, identifier: str, *, view: View | None = None) -> Item | None:
        """The item of this id, or ``None``."""

    def get_many(
        self, identifiers: Sequence[str], *, with_embeddings: bool = True, view: View | None = None
    ) -> dict[str, Item]:
        """The items of these ids that are there, by id; without embeddings it is faster."""

    def delete(self, identifiers: Sequence[str]) -> int:
        """Delete items with all their versions; returns how many items were seen."""

    def contains(self, identifiers: Sequence[str], *, view: View | None = None) -> set[str]:
        """Which of these ids are there."""

    def known_content(
        self, content_hashes: Sequence[str], where: Filter = NO_FILTER, *, view: View | None = None
    ) -> set[str]:
        """Which of these hashes are the content of an item, so that nothing is extracted twice."""

    def count(self, where: Filter = NO_FILTER, *, view: View | None = None) -> int:
        """How many items there are."""

    def generations(self, *, view: View | None = None) -> set[str]:
        """Which generations have made an item that is seen, by fingerprint; far cheaper than counting them."""

    def count_by_generation(self, *, view: View | None = None) -> dict[str, int]:
        """How many items each generation has made, by fingerprint; generations without items are left out."""

    def count_by_label(self, where: Filter = NO_FILTER, *, view: View | None = None) -> dict[str, int]:
        """How many items each label has; items without a label are left out."""

    def iterate(
        self,
        where: Filter = NO_FILTER,
        *,
        batch_size: int = 1000,
        with_embeddings: bool = True,
        after: str | None = None,
        view: View | None = None,
    ) -> Iterator[list[Item]]:
        """All items, in batches, in a fixed order; without embeddings it is faster.

        Items may be put, refreshed and deleted meanwhile: one that is there all the time is met once, whether it moves or not.
        The place of an item in the order depends on its id alone, and is the same in every engine.

        Args:
            where: which items.
            batch_size: at most so many at once.
            with_embeddings: whether to read the vectors.
            after: begin behind the place of this id, whether an item has it or not.
            view: which versions.
        """

    def identifiers(
        self,
        where: Filter = NO_FILTER,
        *,
        batch_size: int = 10_000,
        after: str | None = None,
        view: View | None = None,
    ) -> Iterator[list[str]]:
        """The ids of all items, in batches, in the order of ``iterate`` and as it begins."""

    def versions(self, *, batch_size: int = 1000, after: str | None = None) -> Iterator[list[Item]]:
        """Every version of every item with its marks, in batches, in the order of ``iterate``, then by generation.

        The versions of one item come in one batch. To copy a gallery that nobody changes.

        Args:
            batch_size: about so many at once.
            after: begin behind the place of this id.
        """

    def put_versions(self, versions: Sequence[Item]) -> None:
        """Store versions exactly as they are given, with their marks and times, beside other versions of their items.

        A version of the same item and generation is replaced. The same call may be made again.

        Args:
            versions: at most one of each item and generation.

        Raises:
            InputError: a version that cannot be stored; then none of them is.
        """

    def search(
        self,
        queries: NDArray[np.float32],
        k: int,
        *,
        where: Filter = NO_FILTER,
        minimum_score: float | None = None,
        exact: bool | None = True,
        with_embeddings: bool = False,
        view: View | None = None,
    ) -> list[list[Match]]:
        """The k items with the largest cosine for each query, best first; equal scores in order of ids.

        Args:
            queries: (Q, D) unit rows.
            k: at least 1.
            where: which items.
            minimum_score: leave out items below it.
            exact: compare with every item; ``False``: an index that ``compact`` has built may answer, faster, and may miss
                some; ``None``: an index may answer where it has been measured to miss few, see ``indexes``.
            with_embeddings: whether the items that are found come with their vectors, which takes longer.
            view: which versions.

        Raises:
            InputError: rows that are not finite unit vectors, or of a dimension that the searched items do not have.
        """

    def at_one_moment(self, ask: Callable[[], Answer]) -> Answer:
        """What ``ask`` returns, which asks this store several times while no item moves from one generation to another.

        ``ask`` may be called more than once; it only reads.
        """

    def verify(self) -> list[str]:
        """Read every version and say what is wrong, a sentence each: also of an item that is seen twice."""

    def compact(self) -> None:
        """Give back the room of what was deleted, index what is large for approximate search, and measure what the indexes
        find; may take minutes."""

    def indexes(self) -> "dict[str, Index]":
        """The indexes that there are, by generation, each with the recall that was measured when it was built."""

    def close(self) -> None:
        """Release it for other processes."""
