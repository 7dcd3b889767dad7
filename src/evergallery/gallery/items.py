"""The contents of a gallery, and the questions to it."""

import math
import re
import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from evergallery.arguments.checking import check_fields
from evergallery.data.metadata import Scalar, metadata_terms, unstorable
from evergallery.data.unit_vectors import UNIT_TOLERANCE
from evergallery.errors import InputError
from evergallery.strings.names import forms

Precision = Literal["float32", "float16", "int8"]
"""The precision of kept vectors: ``float32`` as they are; ``float16`` rounded to half the bytes; ``int8`` rounded as well, and
large galleries are searched by a quarter of the bytes. docs/storage.md says what each costs."""

CONFLICTS_KEPT = 100
FLOOR = 0.95
"""Smallest recall@10 with which an index answers unasked."""
LARGEST_CHANGE = 0.2
"""Share of an index's vectors that may go before its recall has to be measured anew: the engine rebuilds it from there on."""
TEXTS = ("id", "generation", "added", "label", "uri", "content_hash", "refresh", "superseded")
NEEDED = TEXTS[:3]
"""Fields of an item that are strings, and those that are never left out."""
NAMESPACE = uuid.UUID("6f2c3b1e-8a57-5d0b-9b3e-3f1f2a6f9c11")


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

    @classmethod
    def of(cls, fields: dict[str, Any]) -> "Item":
        """Return the item that has all these fields, which become its own: a frozen dataclass sets them one by one, for three
        times as long."""
        item = cls.__new__(cls)
        object.__setattr__(item, "__dict__", fields)
        return item

    def renewed(self, embedding: NDArray[np.float32], generation: str, refresh: str | None = None) -> "Item":
        """Return the item with a vector (D,) of another generation, and with the mark of the refresh that made it."""
        made = {"embedding": embedding, "generation": generation, "refresh": refresh, "superseded": None}
        return Item.of({**self.__dict__, **made})

    def keeping(self, known: "Item") -> "Item":
        """The item with what is known of it already, wherever it says nothing itself: label, address, content, metadata.

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
        """Return whether both say the same of the same content; embeddings are compared only where no hash tells."""
        described = all(
            getattr(self, name) == getattr(other, name) for name in ("id", "generation", "label", "uri", "content_hash")
        ) and metadata_terms(self.metadata) == metadata_terms(other.metadata)
        return described and (self.content_hash is not None or np.array_equal(self.embedding, other.embedding))


@dataclass(frozen=True)
class View:
    """The versions of the items that are to be seen while refreshes are not settled.

    A refresh gives an item a second version. A view that names each unsettled refresh, as shown or as hidden, sees one
    version of every item. Ids of refreshes that the gallery does not know, or no longer, hide nothing.

    Attributes:
        shown: refreshes whose new versions have taken the place of the old ones: the old ones are not seen.
        hidden: refreshes whose new versions are not seen.
    """

    shown: frozenset[str] = frozenset()
    hidden: frozenset[str] = frozenset()

    def before(self, refresh: str) -> "View":
        """The view that hides the new versions of a refresh, and is otherwise this one."""
        return View(self.shown - {refresh}, self.hidden | {refresh})

    def after(self, refresh: str) -> "View":
        """The view that shows the new versions of a refresh, and is otherwise this one."""
        return View(self.shown | {refresh}, self.hidden - {refresh})

    def remaining(self, refresh: str) -> "View":
        """The view of what a refresh still has to do: what this one sees without it and has no version by it yet."""
        return View(self.shown | {refresh}, self.hidden | {refresh})

    def sees(self, refresh: str | None, superseded: str | None) -> bool:
        """Return whether a version of these marks is seen."""
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
    """The result of putting items.

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
    """A filter of items: those that satisfy every condition given.

    Attributes:
        labels: one of these labels, in whatever normal form of Unicode they were stored.
        generations: made by one of these fingerprints.
        metadata: these values under these names, texts in whatever form they were stored; 1 equals 1.0, and neither ``True``.
        uris: one of these URIs.
        content_hashes: one of these is the hash of its content.

    Raises:
        InputError: a condition of another type, such as one label where labels are meant.
    """

    labels: tuple[str, ...] | None = None
    generations: tuple[str, ...] | None = None
    metadata: Mapping[str, Scalar] | None = None
    uris: tuple[str, ...] | None = None
    content_hashes: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        if self.labels is not None:
            found = dict.fromkeys(form for label in self.labels for form in forms(label))
            object.__setattr__(self, "labels", tuple(found))

    @property
    def narrows(self) -> bool:
        """Return whether the filter leaves out some of the items of a generation that it admits."""
        return bool(self.metadata) or any(
            values is not None for values in (self.labels, self.uris, self.content_hashes)
        )


NO_FILTER = Filter()
EVERYTHING = View()


@dataclass(frozen=True)
class Search:
    """A search among the vectors of one generation, the same for every query.

    Attributes:
        k: how many items are wanted for each query, at least 1.
        where: which items.
        view: which versions of them.
        exact: whether the query is compared with every vector, or an index may answer.
        minimum_score: items below it may be left out; ``None`` for no limit.
        with_embeddings: whether the items that are found come with their vectors.
    """

    k: int
    where: Filter = NO_FILTER
    view: View = EVERYTHING
    exact: bool = True
    minimum_score: float | None = None
    with_embeddings: bool = False


@dataclass(frozen=True)
class Index:
    """An index over the vectors of one generation, as it was found when the gallery was compacted.

    Attributes:
        vectors: how many it holds.
        recall: recall@10 of approximate against exact search without a filter, in [0, 1].
        measured: when, ISO 8601 in UTC.
        changed: how many of its vectors have been deleted or replaced since, at most.
    """

    vectors: int
    recall: float
    measured: str
    changed: int = 0

    @property
    def serves(self) -> bool:
        """Return whether the index answers where nobody asks for exact search."""
        return self.recall >= FLOOR and self.changed <= LARGEST_CHANGE * self.vectors

    def __str__(self) -> str:
        found = f"recall@10 {100 * self.recall:.1f} % over {self.vectors} vectors"
        if self.serves:
            return f"index, {found}"
        reason = "finds too little" if self.recall < FLOOR else f"has lost {self.changed} of them, compact again"
        return f"exact; the index ({found}) {reason}"


# Whoever writes a batch asks several times for each, while the next one is read.
@lru_cache(maxsize=16384)
def point_id(identifier: str) -> uuid.UUID:
    """Return where an item stands in the order that all engines have; Qdrant calls it so. A function of the id alone."""
    return uuid.uuid5(NAMESPACE, identifier)


def check_items(items: Sequence[Item]) -> None:
    """Refuse items that cannot be stored, before any of them is.

    Raises:
        InputError: a value of another type, an empty or repeated id, a generation that is not a fingerprint, text that is
            not Unicode, metadata that is not JSON scalars, or an embedding that is not a finite unit vector.
    """
    for item in items:
        _require_types(item)
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
        wrong = unstorable(item.metadata)
        if wrong is not None:
            raise InputError(
                f"The metadata {wrong!r} of {item.id!r} cannot be stored: names are letters, digits, _ and -, values "
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
    bad = np.flatnonzero(~(np.abs(norms - 1) <= UNIT_TOLERANCE))
    if len(bad):
        item, norm = items[int(bad[0])], norms[bad[0]]
        what = "is not finite" if not np.isfinite(norm) else f"has length {norm:.4g}, not 1"
        raise InputError(f"The embedding of {item.id!r} {what}: store finite vectors of unit length.")


def _require_types(item: Item) -> None:
    """Refuse an item whose values are of other types: an engine would keep them, and nobody could read them.

    Raises:
        InputError: one is.
    """
    for name in TEXTS:
        value = getattr(item, name)
        if not isinstance(value, str) and (value is not None or name in NEEDED):
            raise InputError(f"The {name} of the item {item.id!r} is {value!r}: it must be a string.")
    if not isinstance(item.embedding, np.ndarray):
        kind = type(item.embedding).__name__
        raise InputError(f"The embedding of {item.id!r} is a {kind}: it must be an array of NumPy (D,), float32.")
    if not isinstance(item.metadata, Mapping):
        raise InputError(f"The metadata of {item.id!r} is {item.metadata!r}: it must be a dictionary.")


def require_precision(engine: str, precision: str, kept: Collection[str]) -> None:
    """Refuse a precision that an engine does not keep vectors in.

    Raises:
        InputError: it is not among those that are kept.
    """
    if precision not in kept:
        raise InputError(
            f"A gallery in {engine} keeps vectors as {' or '.join(kept)}, not as {precision}: choose one of these, or the "
            f"embedded engine."
        )


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
