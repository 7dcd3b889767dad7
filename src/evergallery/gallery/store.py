"""The interface of every engine of the gallery, written once over the few primitives that an engine is made of."""

from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from evergallery.data.metadata import normalised
from evergallery.errors import InputError, RefusedError
from evergallery.gallery.engine import Engine, RefreshMark
from evergallery.gallery.items import (
    EVERYTHING,
    NO_FILTER,
    Filter,
    Index,
    Item,
    Match,
    PutCounts,
    Search,
    View,
    check_items,
    check_queries,
)
from evergallery.gallery.snapshot import Snapshot
from evergallery.gallery.versions import (
    awaited_by,
    best_of,
    changed_by,
    check_dimensions,
    check_versions,
    newest,
    place,
    rounded,
    seen_of,
)

BATCH = 1000
"""Items that are read or written together: large enough that forcing them to disk is a small part of it."""


class GalleryStore(Engine):
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

    An engine gives the primitives of ``Engine``, and overrides what it does faster.

    Args:
        view: asked by every reading method at its start which versions are seen.
    """

    # Writing

    def put(self, items: Sequence[Item], *, relabel: bool = False) -> PutCounts:
        """Add items, or replace those of the same id, whatever generation had made them, with all their versions.

        An id is known by its exact letters. A text in the metadata means the same in every normal form of Unicode.
        What is known of an item stays where the new one says nothing of it: its label, its address, what it has in its metadata.
        An item of which nothing new is said is left as it is, but for ``added``. Marks of refreshes are not taken over.

        Args:
            items: one of each id.
            relabel: whether a label takes the place of another one that is known; otherwise that stays, which is counted.

        Raises:
            InputError: an item that cannot be stored; then none of them is.
        """
        self.refuse_items()
        items = [_normalised(item) for item in items]
        check_items(items)
        with self._writing():
            self._make_room(items)
            held = self._held([item.id for item in items])
            changed, counts = changed_by(rounded(items, self.precision), held, self._view(), relabel)
            self._replace(changed, held)
        return counts

    def refresh(self, items: Sequence[Item], refresh: str) -> int:
        """Store newer versions, by other generations, beside the ones that are there; returns how many.

        The old version stays, superseded; the new one has its vector from here, and all else from the old one, so that what has
        been said of an item meanwhile is not lost. Left alone is an item that is no longer there, whose content hash is another
        by now, that this generation has made already, or that has a version of this refresh: so the same call may be made again.

        Args:
            items: at most one version of each item.
            refresh: name of the refresh, never used before for another.

        Raises:
            InputError: an item that cannot be stored, or that has two versions already, of a refresh that must be settled
                first; then none of them is.
        """
        check_items(items)
        with self._writing():
            self._make_room(items)
            held = self._held([item.id for item in items], with_embeddings=False)
            awaited = awaited_by(refresh, items, held, self._view())
            self._supersede(awaited, refresh)
        return len(awaited)

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
        losing: RefreshMark = "superseded" if keep == "new" else "refresh"
        total = self._count_marked(refresh)
        deleted = done = 0
        while True:
            with self._writing():
                settled, gone = self._settle_some(refresh, losing)
            if not settled:
                return deleted
            deleted += gone
            done += settled
            if on_progress is not None:
                on_progress(done, max(done, total))

    def delete(self, identifiers: Sequence[str]) -> int:
        """Delete items with all their versions; returns how many items were seen."""
        self.refuse_items()
        with self._writing():
            held = self._held(identifiers, with_embeddings=False)
            if held:
                self._delete(held)
        return sum(seen_of(versions, self._view()) is not None for versions in held.values())

    def put_versions(self, versions: Sequence[Item]) -> None:
        """Store versions exactly as they are given, with their marks and times, beside other versions of their items.

        A version of the same item and generation is replaced. The same call may be made again.

        Args:
            versions: at most one of each item and generation.

        Raises:
            InputError: a version that cannot be stored; then none of them is.
        """
        self.refuse_items()
        check_versions(versions)
        with self._writing():
            self._make_room(versions)
            self._add(versions)

    def _make_room(self, items: Sequence[Item]) -> None:
        """Refuse vectors of a wrong dimension, and let the engine know the generations that are new."""
        known = self._dimensions()
        self._admit(dict(check_dimensions(items, known).items() - known.items()))

    # Reading

    def get(self, identifier: str, *, view: View | None = None) -> Item | None:
        """The item of this id, or ``None``."""
        return self.get_many([identifier], view=view).get(identifier)

    def get_many(
        self, identifiers: Sequence[str], *, with_embeddings: bool = True, view: View | None = None
    ) -> dict[str, Item]:
        """The items of these ids that are there, by id; without embeddings it is faster."""
        view = view or self._view()
        found = self._held(identifiers, with_embeddings, view)
        return {name: item for name, versions in found.items() if (item := seen_of(versions, view))}

    def contains(self, identifiers: Sequence[str], *, view: View | None = None) -> set[str]:
        """Return which of the ids an item has."""
        return set(self.get_many(identifiers, with_embeddings=False, view=view))

    def known_content(
        self, content_hashes: Sequence[str], where: Filter = NO_FILTER, *, view: View | None = None
    ) -> set[str]:
        """Return which of these hashes are the content of an item, so that nothing is extracted twice."""
        pages = self.iterate(replace(where, content_hashes=tuple(content_hashes)), with_embeddings=False, view=view)
        return {item.content_hash for page in pages for item in page if item.content_hash is not None}

    def count(self, where: Filter = NO_FILTER, *, view: View | None = None) -> int:
        """Return how many items the gallery has."""
        return sum(self._counts(where, view or self._view()).values())

    def generations(self, *, view: View | None = None) -> set[str]:
        """Return which generations have made an item that is seen, by fingerprint; far cheaper than counting them."""
        view = view or self._view()
        return self.at_one_moment(lambda: {name for name in self._dimensions() if self._holds(name, view)}, view)

    def dimensions(self) -> dict[str, int]:
        """The dimension of every generation that has, or had, vectors, by fingerprint."""
        return self._dimensions()

    def count_by_generation(self, *, view: View | None = None) -> dict[str, int]:
        """Return how many items each generation has made, by fingerprint; generations without items are left out."""
        counts = self._counts(NO_FILTER, view or self._view())
        return {generation: count for generation, count in counts.items() if count}

    def count_by_label(self, where: Filter = NO_FILTER, *, view: View | None = None) -> dict[str, int]:
        """Return how many items each label has; items without a label are left out."""
        pages = self._pages(where, view or self._view(), None, BATCH, with_embeddings=False)
        labels = (version.label for page in pages for versions in page for version in versions)
        return dict(Counter(label for label in labels if label is not None))

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
        pages = self._pages(where, view or self._view(), after, batch_size, with_embeddings=with_embeddings)
        return ([newest(versions) for versions in page] for page in pages)

    def identifiers(
        self,
        where: Filter = NO_FILTER,
        *,
        batch_size: int = 10_000,
        after: str | None = None,
        view: View | None = None,
    ) -> Iterator[list[str]]:
        """The ids of all items, in batches, in the order of ``iterate`` and as it begins."""
        pages = self._pages(where, view or self._view(), after, batch_size, with_embeddings=False)
        return ([versions[0].id for versions in page] for page in pages)

    def versions(self, *, batch_size: int = 1000, after: str | None = None) -> Iterator[list[Item]]:
        """Every version of every item with its marks, in batches, in the order of ``iterate``, then by generation.

        The versions of one item come in one batch. To copy a gallery that nobody changes.

        Args:
            batch_size: about so many at once.
            after: begin behind the place of this id.
        """
        pages = self._pages(NO_FILTER, EVERYTHING, after, batch_size, with_embeddings=True)
        return ([version for versions in page for version in sorted(versions, key=place)] for page in pages)

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
        check_queries(queries, k)
        view = view or self._view()
        least = -np.inf if minimum_score is None else minimum_score

        def ask() -> list[list[Match]]:
            found: list[list[Match]] | None = None
            for generation, is_exact in self._ways(exact, where, view, queries.shape[1]).items():
                asked = Search(k, where, view, is_exact, minimum_score, with_embeddings)
                more = self._nearest(generation, queries, asked)
                found = more if found is None else [[*some, *others] for some, others in zip(found, more, strict=True)]
            if found is None:
                return [[] for _ in queries]
            return [[match for match in best_of(matches)[:k] if match.score >= least] for matches in found]

        return self.at_one_moment(ask, view)

    def is_exact(self, exact: bool | None, where: Filter = NO_FILTER, *, view: View | None = None) -> bool:
        """Return whether a search that is asked for in this way compares with every vector, and no index answers.

        Args:
            exact: as ``search`` takes it.
            where: which items are searched.
            view: which versions.
        """
        view = view or self._view()
        return exact is True or self.at_one_moment(
            lambda: all(
                is_exact or not self._holds(generation, view)
                for generation, is_exact in self._ways(exact, where, view).items()
            ),
            view,
        )

    def _ways(self, exact: bool | None, where: Filter, view: View, dimension: int | None = None) -> dict[str, bool]:
        """Return which generations are searched, and whether by comparing with every vector of theirs.

        Args:
            exact: as ``search`` takes it.
            where: which items.
            view: which versions.
            dimension: of the queries; those of other generations must then have no item that is seen.
        """
        searched = []
        for generation, size in self._dimensions().items():
            if where.generations is not None and generation not in where.generations:
                continue
            if dimension in (None, size):
                searched.append(generation)
            elif self._holds(generation, view):
                raise InputError(
                    f"The queries have {dimension} dimensions and the vectors of {generation[:12]} have {size}: they come "
                    f"from different embedding spaces."
                )
        if exact:
            return dict.fromkeys(searched, True)
        narrows = where.narrows or bool(view.hidden or view.shown)
        served = self._served_by_index(asked=exact is False, narrows=narrows)
        return {generation: generation not in served for generation in searched}

    def _served_by_index(self, *, asked: bool, narrows: bool) -> set[str]:
        """The generations in which an index answers a search that need not be exact.

        Args:
            asked: whether approximate search was asked for, rather than left to what was measured.
            narrows: whether a filter or a view leaves out some of the vectors.
        """
        indexes = self.indexes()
        if asked:
            return set(indexes)
        # The recall of an index is measured without a filter, and holds without one.
        return set() if narrows else {generation for generation, index in indexes.items() if index.serves}

    # The whole

    def is_blank(self) -> bool:
        """Return whether nothing was ever stored here, as in a gallery that has just been made."""
        return not self._dimensions()

    @abstractmethod
    def verify(self) -> list[str]:
        """Read every version and say what is wrong, a sentence each: also of an item that is seen twice."""

    @abstractmethod
    def compact(self) -> None:
        """Give back the room of what was deleted, index what is large for approximate search, and measure what the indexes
        find; may take minutes."""

    def indexes(self) -> dict[str, Index]:
        """The indexes whose recall is known, by generation, as it was measured when they were built."""
        return {}

    def snapshot(
        self,
        path: Path,
        state: Callable[[], dict[str, Any]] = dict,
        *,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> Snapshot:
        """Copy it to a new directory; searches go on meanwhile, and what is written waits.

        Args:
            path: must not exist.
            state: asked once nobody writes, kept beside the vectors.
            on_progress: hears after each file how many bytes are copied, and of how many.

        Raises:
            InputError: the path exists, or its directory does not.
            RefusedError: the gallery is in a database, which has its own ways to be backed up.
            OSError: the disk is full; nothing is left behind.
        """
        raise RefusedError("The gallery is in a database: back it up with the database's own tools.")


def _normalised(item: Item) -> Item:
    metadata = normalised(item.metadata)
    return item if metadata is item.metadata else replace(item, metadata=metadata)
