"""What a gallery holds, and how it is asked."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from evergallery.errors import InputError
from evergallery.names import forms

Precision = Literal["float32", "float16", "int8"]
"""How vectors are kept: as they are; rounded to half the bytes; or rounded, with an index that searches them as bytes."""

Scalar = str | int | float | bool | None

UNIT_TOLERANCE = 1e-3
CONFLICTS_KEPT = 100

# What every engine can hold as a whole number.
LARGEST_INTEGER = 2**63 - 1


@dataclass(frozen=True, eq=False)
class Item:
    """One stored image.

    Attributes:
        id: unique in the gallery.
        embedding: (D,) float32, unit length; empty where it was not asked for. One that was kept in half precision has come
            back rounded, its length within 5e-4 of 1.
        generation: fingerprint of the generation that made the embedding.
        label: its class, where known.
        uri: where the image is.
        content_hash: SHA-256 of the image's content.
        added: ISO 8601, UTC; kept when the item is replaced.
        metadata: free, JSON scalars by name.
        refresh: the refresh that made this version of the item, where one did and is not settled.
        superseded: the refresh that made a newer version of it, where one did and is not settled.
    """

    id: str
    embedding: NDArray[np.float32] = field(repr=False)
    generation: str
    label: str | None
    uri: str | None
    content_hash: str | None
    added: str
    metadata: Mapping[str, Scalar] = field(default_factory=dict)
    refresh: str | None = None
    superseded: str | None = None

    def keeping(self, known: "Item") -> "Item":
        """This item with what is known of it already, wherever this one says nothing: label, address, content, metadata.

        An empty text and a null in the metadata say nothing. The content is that of the known item only where neither another
        address nor another vector of the same space says that it may have changed.
        """
        said = {name: value for name, value in self.metadata.items() if value is not None and value != ""}
        may_differ = self.uri not in (None, "", known.uri) or (
            self.generation == known.generation
            and len(known.embedding) > 0
            and not np.array_equal(self.embedding, known.embedding)
        )
        return replace(
            self,
            label=self.label or known.label,
            uri=self.uri or known.uri,
            content_hash=self.content_hash or (None if may_differ else known.content_hash),
            metadata={**self.metadata, **known.metadata, **said},
        )

    def same_but_for_time(self, other: "Item") -> bool:
        """Whether both say the same of the same content; embeddings are compared only where no hash tells."""
        described = all(
            getattr(self, name) == getattr(other, name) for name in ("id", "generation", "label", "uri", "content_hash")
        ) and metadata_terms(self.metadata) == metadata_terms(other.metadata)
        return described and (self.content_hash is not None or np.array_equal(self.embedding, other.embedding))


@dataclass(frozen=True)
class View:
    """Which versions of the items are to be seen while refreshes are not settled.

    A refresh gives an item a second version. A view that names each unsettled refresh, as shown or as hidden, sees one
    version of every item. Ids of refreshes that the gallery does not know, or no longer, hide nothing.

    Attributes:
        shown: refreshes whose new versions have taken the place of the old ones: the old ones are not seen.
        hidden: refreshes whose new versions are not seen.
    """

    shown: frozenset[str] = frozenset()
    hidden: frozenset[str] = frozenset()

    def before(self, refresh: str) -> "View":
        """This view as it is without a refresh."""
        return View(self.shown - {refresh}, self.hidden | {refresh})

    def after(self, refresh: str) -> "View":
        """This view as it is with a refresh."""
        return View(self.shown | {refresh}, self.hidden - {refresh})

    def remaining(self, refresh: str) -> "View":
        """Of what this view sees without a refresh, what has no version by it yet."""
        return View(self.shown | {refresh}, self.hidden | {refresh})

    def sees(self, refresh: str | None, superseded: str | None) -> bool:
        """Whether a version of these marks is seen."""
        return refresh not in self.hidden and superseded not in self.shown


@dataclass(frozen=True)
class Match:
    """An item that a search found, with the cosine of its embedding and the query's."""

    item: Item
    score: float


@dataclass(frozen=True)
class LabelConflict:
    """An item that has a label, at its address, and was said to have another one."""

    item: str
    uri: str | None
    known: str
    said: str


@dataclass(frozen=True)
class PutCounts:
    """What putting items did.

    Attributes:
        added: items.
        replaced: items of which something is known now that was not, or that have another content.
        unchanged: items of which nothing new was said.
        conflicts: items that were said to have another label than theirs; the first 100.
        conflict_count: how many those are in all.
    """

    added: int
    replaced: int
    unchanged: int
    conflicts: tuple[LabelConflict, ...] = ()
    conflict_count: int = 0

    def __add__(self, other: "PutCounts") -> "PutCounts":
        return PutCounts(
            self.added + other.added,
            self.replaced + other.replaced,
            self.unchanged + other.unchanged,
            (*self.conflicts, *other.conflicts)[:CONFLICTS_KEPT],
            self.conflict_count + other.conflict_count,
        )


@dataclass(frozen=True)
class Filter:
    """Which items: those that satisfy every condition given.

    Attributes:
        labels: one of these labels, in whatever normal form of Unicode they were stored.
        generations: made by one of these fingerprints.
        metadata: these values under these names; 1 equals 1.0, and neither equals ``True``.
        uris: one of these URIs.
    """

    labels: tuple[str, ...] | None = None
    generations: tuple[str, ...] | None = None
    metadata: Mapping[str, Scalar] | None = None
    uris: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.labels is not None:
            found = dict.fromkeys(form for label in self.labels for form in forms(label))
            object.__setattr__(self, "labels", tuple(found))


def metadata_terms(metadata: Mapping[str, Scalar]) -> list[str]:
    """One text for each name and value, sorted: metadata are equal where these are, as in JSON."""
    return sorted(
        json.dumps([name, int(value) if isinstance(value, float) and value.is_integer() else value], ensure_ascii=False)
        for name, value in metadata.items()
    )


def check_items(items: Sequence[Item]) -> None:
    """Refuse items that cannot be stored, before any of them is.

    Raises:
        InputError: an empty or repeated id, a generation that is not a fingerprint, text that is not Unicode, metadata
            that is not JSON scalars, or an embedding that is not a finite unit vector.
    """
    for generation in {item.generation for item in items}:
        if not re.fullmatch("[0-9a-f]+", generation):
            raise InputError(f"The generation {generation!r} is not a fingerprint: give its hexadecimal digits.")
    seen: set[str] = set()
    for item in items:
        if not item.id:
            raise InputError("An item has an empty id: give every item an id.")
        if item.id in seen:
            raise InputError(f"The id {item.id!r} occurs twice among the items: an id names one item.")
        seen.add(item.id)
        if item.embedding.ndim != 1 or item.embedding.dtype != np.float32:
            raise InputError(
                f"The embedding of {item.id!r} has shape {item.embedding.shape} and type {item.embedding.dtype}: "
                f"it must be (D,), float32."
            )
        for name, value in item.metadata.items():
            if not re.fullmatch(r"[A-Za-z0-9_-]+", name) or not _storable(value):
                raise InputError(
                    f"The metadata {name!r} of {item.id!r} cannot be stored: names are letters, digits, _ and -, values "
                    f"are strings, finite numbers of up to 64 bits, booleans or null."
                )
        try:
            "".join(map(str, (item.id, item.label, item.uri, item.content_hash, *item.metadata.values()))).encode()
        except UnicodeEncodeError:
            # File names that are no text in the file system's encoding come as lone surrogates.
            raise InputError(f"The item {item.id!r} has text that is not Unicode: rename its file.") from None
    # The length of what is far too long is infinite, which is no less wrong.
    with np.errstate(over="ignore"):
        if items and len({len(item.embedding) for item in items}) == 1:
            norms = np.linalg.norm(np.stack([item.embedding for item in items]), axis=1)
        else:
            norms = np.array([np.linalg.norm(item.embedding) for item in items])
    wrong = np.flatnonzero(~(np.abs(norms - 1) <= UNIT_TOLERANCE))
    if len(wrong):
        item, norm = items[int(wrong[0])], norms[wrong[0]]
        what = "is not finite" if not np.isfinite(norm) else f"has length {norm:.4g}, not 1"
        raise InputError(f"The embedding of {item.id!r} {what}: store finite vectors of unit length.")


def _storable(value: object) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, int):
        return abs(value) <= LARGEST_INTEGER
    return value is None or isinstance(value, str)


def check_queries(queries: NDArray[np.float32], k: int) -> None:
    """Refuse queries that are not finite unit rows (Q, D), and a search for nothing.

    Raises:
        InputError: they are not.
    """
    if k < 1:
        raise InputError(f"k is {k}: search for at least 1 item.")
    if queries.ndim != 2:
        raise InputError(f"The queries have shape {queries.shape}: they must be (Q, D).")
    # Every query passes here, and most are as they should be: one operation of NumPy tells.
    for row, square in enumerate(np.vecdot(queries, queries).tolist()):
        if not abs(square - 1) <= 2 * UNIT_TOLERANCE:
            raise InputError(
                f"Query {row} has length {math.sqrt(square):.4g}, not 1: search with finite vectors of unit length."
            )
