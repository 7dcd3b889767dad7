"""A gallery over a collection that somebody else keeps: its vectors are read where they are, and only ours are written.

What we keep of a row is a note: its key, what it says of itself, and digests of what it said. So it is known which rows have
come, gone or changed since, and which newer vectors no longer hold.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from evergallery.gallery.items import Item
from evergallery.watching import Watcher

EXAMPLES = 5


@dataclass(frozen=True)
class Rows:
    """The number of some rows of a collection, with the first ids of them."""

    count: int = 0
    examples: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return self.count > 0

    def __str__(self) -> str:
        named = ", ".join(map(repr, self.examples))
        return f"{self.count} ({named}{', …' if self.count > len(self.examples) else ''})" if named else str(self.count)


@dataclass(frozen=True)
class Changes:
    """The changes of the rows of a collection since they were last taken up.

    Attributes:
        rows: of the collection that have a vector which can be used.
        added: that nobody had noted.
        changed: that say something else of themselves, or have another vector.
        gone: that were noted, and are no longer there or have no vector that can be used.
        dropped: newer vectors of ours of rows that are gone, or have another picture.
        unusable: rows that cannot be used, by the reason.
    """

    rows: int
    added: Rows = field(default_factory=Rows)
    changed: Rows = field(default_factory=Rows)
    gone: Rows = field(default_factory=Rows)
    dropped: int = 0
    unusable: Mapping[str, Rows] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.added or self.changed or self.gone)

    def problems(self, collection: str) -> list[str]:
        """A sentence for each kind that there is, of a collection that words name."""
        kinds = {"are new": self.added, "have changed": self.changed, "are gone": self.gone}
        found = [
            f"Of {collection} {rows} rows {what} since they were last taken up: take them up with  evergallery adopt"
            for what, rows in kinds.items()
            if rows
        ]
        found += [
            f"In {collection} {rows} rows have {reason}, and are left out: correct them there."
            for reason, rows in self.unusable.items()
        ]
        return found


class AdoptedCollection(ABC):
    """The part of a gallery over somebody else's collection that other galleries do not have."""

    @property
    @abstractmethod
    def collection(self) -> str:
        """Return what is adopted, in words: ``the table public.items``."""

    @property
    @abstractmethod
    def described(self) -> str:
        """Return what is read of it, exactly: as of the ``Adoptable`` that it was made of."""

    @property
    def copied(self) -> int:
        """Bytes of vectors of the collection that had to be copied; none where they are read where they are."""
        return 0

    @property
    @abstractmethod
    def generation(self) -> str:
        """Fingerprint of the generation whose vectors the collection has."""

    @abstractmethod
    def changes(self) -> Changes:
        """Return what has become of the rows since they were last taken up; writes nothing."""

    def lengths(self) -> tuple[Rows, Rows]:
        """The rows whose vectors have length 1 as they are stored, and those whose vectors have not.

        None of either where the collection brings vectors to unit length itself.
        """
        return Rows(), Rows()

    @abstractmethod
    def reconcile(self, watcher: Watcher, *, behind: str | None = None, hidden: bool = False) -> Changes:
        """Take up what has changed; after an interruption the same call goes on.

        Newer vectors of rows that are gone, or have another picture, are given up: the collection's own vectors answer for
        them again.

        Args:
            watcher: hears of progress.
            behind: the open refresh whose new vectors are shown, where the collection's own may not be searched beside them:
                rows that come or change wait until they have a vector of it.
            hidden: the same without an open refresh.

        Raises:
            InputError: an id occurs twice.
            NotFoundError: the collection, or a column of it, is gone.
        """

    @abstractmethod
    def waiting(self) -> Iterator[list[Item]]:
        """Items that no view sees, because they have no vector yet that may be searched; with the collection's own."""

    @abstractmethod
    def end_waiting(self, items: Sequence[Item]) -> None:
        """Store newer vectors of items that have waited, as they were waiting, each by another generation."""

    @abstractmethod
    def newer(self) -> dict[str, int]:
        """Return how many vectors of ours there are, by generation, whatever has become of the collection."""

    @abstractmethod
    def release(self) -> None:
        """Take away all that was added, and close; the collection stays as it is."""


class Adoptable(ABC):
    """A collection of somebody else's that was looked at, and may be adopted.

    Attributes:
        place: of the gallery that is over it, once it is adopted, as the workspace's state names it.
        collection: what it is, in words.
        dimension: D of its vectors.
        space: SHA-256 of the place of its vectors, which tells their space from others where nobody names the model.
    """

    place: str
    collection: str
    dimension: int
    space: str

    @property
    @abstractmethod
    def described(self) -> str:
        """Return what is read of it, exactly."""

    @abstractmethod
    def make(self, generation: str, owner: str) -> None:
        """Make what we need beside the collection; nothing where an earlier call of the same owner has made it.

        Args:
            generation: fingerprint of the generation that made the vectors.
            owner: the workspace that adopts it.

        Raises:
            RefusedError: another workspace has adopted it in the same place, or it was adopted otherwise.
        """
