"""Names of stored items: labels, ids and metadata, to be found by their letters as somebody types."""

import threading
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from evergallery.data.metadata import Scalar
from evergallery.holdings.holdings import Holdings
from evergallery.serving import schemas
from evergallery.serving.pictures import GIVEN_URI
from evergallery.strings.redaction import redacted_values

Key = TypeVar("Key")
MOST_ITEMS = 200_000
"""Items whose names are looked through; of a larger gallery, ids are found whole."""
MOST_VALUES = 200
"""Values of a name that are told, those of most items."""
LASTING = 300.0
"""Seconds for which names are good enough to be proposed, where another process may have changed them."""


@dataclass(frozen=True)
class _NameCounts:
    """Names as they were at one time.

    Attributes:
        ids: sorted.
        labels: items of each.
        metadata: items of each name and value.
        complete: whether every item was looked at.
    """

    ids: list[str]
    labels: Counter[str]
    metadata: Counter[tuple[str, Scalar, str]]
    complete: bool


class Names:
    """The names of a workspace's items, read when they are asked for and kept for a while.

    Args:
        holdings: of the workspace, with its gallery open.
    """

    def __init__(self, holdings: Holdings) -> None:
        self._holdings = holdings
        self._known: _NameCounts | None = None
        self._read = 0.0
        self._changes = 0
        self._one_reader = threading.Lock()

    def forget(self) -> None:
        """Read anew: something was stored or deleted."""
        self._changes += 1
        self._known = None

    def metadata(self) -> schemas.MetadataValues:
        """The values of each name of the metadata, those of most items first."""
        found: dict[str, list[schemas.ValueCount]] = {}
        known = self._now()
        for (name, value, _), items in known.metadata.most_common():
            values = found.setdefault(name, [])
            if len(values) < MOST_VALUES:
                values.append(schemas.ValueCount(value=value, items=items))
        return schemas.MetadataValues(names=found, complete=known.complete)

    def suggest(self, text: str, limit: int) -> schemas.Suggestions:
        """Labels and metadata that hold a text, in whatever case, and ids that begin with it; what begins with it comes first."""
        known, letters = self._now(), text.strip().casefold()
        labels = _best(known.labels, letters, limit, str)
        values = _best(known.metadata, letters, limit, lambda key: key[2])
        start = bisect_left(known.ids, text)
        ids = [identifier for identifier in known.ids[start : start + limit] if identifier.startswith(text)]
        return schemas.Suggestions(
            labels=[schemas.LabelCount(label=label, items=items) for label, items in labels],
            metadata=[schemas.MetadataCount(name=name, value=value, items=items) for (name, value, _), items in values],
            ids=ids,
            complete=known.complete,
        )

    def _now(self) -> _NameCounts:
        known = self._known
        if known is not None and time.monotonic() - self._read < LASTING:
            return known
        # One thread reads; others have what was read before, or nothing yet, and do not wait.
        if not self._one_reader.acquire(blocking=False):
            return known or _NameCounts([], Counter(), Counter(), complete=False)
        try:
            changes = self._changes
            found = self._look()
            if changes == self._changes:
                self._known, self._read = found, time.monotonic()
            return found
        finally:
            self._one_reader.release()

    def _look(self) -> _NameCounts:
        ids: list[str] = []
        labels: Counter[str] = Counter()
        metadata: Counter[tuple[str, Scalar, str]] = Counter()
        for page in self._holdings.gallery.iterate(with_embeddings=False):
            for item in page:
                ids.append(item.id)
                if item.label is not None:
                    labels[item.label] += 1
                for name, value in redacted_values(dict(item.metadata)).items():
                    if name != GIVEN_URI and value is not None:
                        # The text tells 1 and True apart, which are one key otherwise.
                        metadata[name, value, f"{name}: {value}"] += 1
            if len(ids) >= MOST_ITEMS:
                return _NameCounts(sorted(ids), labels, metadata, complete=False)
        return _NameCounts(sorted(ids), labels, metadata, complete=True)


def _best(counts: Counter[Key], letters: str, limit: int, text_of: Callable[[Key], str]) -> list[tuple[Key, int]]:
    found = [(key, items) for key, items in counts.items() if letters in text_of(key).casefold()]

    def place(counted: tuple[Key, int]) -> tuple[bool, int, str]:
        text = text_of(counted[0])
        return not text.casefold().startswith(letters), -counted[1], text

    return sorted(found, key=place)[:limit]
