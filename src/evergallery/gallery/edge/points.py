"""Items as points of Qdrant Edge, and back."""

import json
import struct
import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import qdrant_edge as engine
from numpy.typing import NDArray

from evergallery.data.metadata import metadata_terms, term_forms, to_json
from evergallery.data.unit_vectors import UNIT_TOLERANCE
from evergallery.errors import DamagedError
from evergallery.gallery.items import Filter, Item, View, point_id

FIELDS = ("id", "generation", "label", "uri", "content_hash", "added", "metadata")
# A search reads so many metadata that what json.loads does besides is felt.
DECODER = json.JSONDecoder()
NO_VECTOR = np.empty(0, np.float32)
# Which refresh a version belongs to; an item that no unsettled refresh has touched has neither.
MARKS = ("refresh", "superseded")


@dataclass(frozen=True)
class PointContent:
    """The content of a point that is read of it.

    Attributes:
        vector: whether its vector is.
        fields: of its payload; ``None`` for all.
    """

    vector: bool
    fields: Sequence[str] | None = None


WHOLE = PointContent(vector=True)
ID_ALONE = PointContent(vector=False, fields=())


def payload(item: Item) -> dict[str, Any]:
    """Everything but the vector.

    The terms of the metadata are there to be filtered by: the engine takes ``True`` for 1. The metadata themselves are text
    because the engine reads some floats back with another last digit.
    """
    return {
        "id": item.id,
        "generation": item.generation,
        "label": item.label,
        "uri": item.uri,
        "content_hash": item.content_hash,
        "added": item.added,
        "metadata": to_json(item.metadata),
        "metadata_terms": metadata_terms(item.metadata),
        **{name: mark for name in MARKS if (mark := getattr(item, name)) is not None},
    }


def new_point(item: Item) -> engine.Point:
    """The point that holds an item."""
    return engine.Point(point_id(item.id), floats(item.embedding), payload(item))


def floats(vector: NDArray[np.float32]) -> list[float]:
    """A vector (D,) as the engine takes it: it reads the floats where they are, in half the time of making a list first."""
    # In the byte order of this machine; those of a file may be in another.
    return cast("list[float]", np.asarray(vector, dtype=np.float32).data)


def item_of(record: engine.Record | engine.ScoredPoint) -> Item:
    """The item that a point holds; without a vector its embedding is empty.

    Raises:
        DamagedError: a part of it is missing.
    """
    # The engine converts these anew whenever they are asked for.
    content: dict[str, Any] = record.payload or {}
    vector = record.vector
    try:
        fields = {
            "id": content["id"],
            "embedding": NO_VECTOR if vector is None else _float32(cast("Sequence[float]", vector)),
            "generation": content["generation"],
            "label": content["label"],
            "uri": content["uri"],
            "content_hash": content["content_hash"],
            "added": content["added"],
            "metadata": {} if content["metadata"] == "{}" else DECODER.raw_decode(content["metadata"])[0],
            "refresh": content.get("refresh"),
            "superseded": content.get("superseded"),
        }
    except (KeyError, TypeError, ValueError, struct.error) as error:
        raise DamagedError(
            f"The gallery holds only a part of {content.get('id', record.id)!r} ({error!r}): list all damage with  "
            f"evergallery doctor"
        ) from error
    return Item.of(fields)


def _float32(numbers: Sequence[float]) -> NDArray[np.float32]:
    """(D,) numbers that the engine has made of float32; NumPy would take three times as long."""
    stored = bytearray(4 * len(numbers))
    struct.pack_into(f"{len(numbers)}f", stored, 0, *numbers)
    return np.frombuffer(stored, dtype=np.float32)


def point_of(record: engine.Record | engine.ScoredPoint) -> uuid.UUID:
    """The id of a point."""
    return cast(uuid.UUID, record.id)


def identifier_of(record: engine.Record) -> str:
    """The id of the item that a point holds.

    Raises:
        DamagedError: it has none.
    """
    identifier = (record.payload or {}).get("id")
    if not isinstance(identifier, str):
        raise DamagedError(
            f"The gallery holds an item without an id ({record.id}): list all damage with  evergallery doctor"
        )
    return identifier


def seen(record: engine.Record, view: View) -> bool:
    """Return whether a view sees the version that a point holds; its marks suffice."""
    content = record.payload or {}
    return view.sees(content.get("refresh"), content.get("superseded"))


def marked(name: str, refreshes: Collection[str]) -> engine.FieldCondition:
    """The condition that the mark of this name is one of these refreshes."""
    return _any_of(name, sorted(refreshes))


def _any_of(name: str, values: Sequence[str]) -> engine.FieldCondition:
    # A set of one costs the engine a third of a search with a label.
    match = engine.MatchValue(values[0]) if len(values) == 1 else engine.MatchAny(list(values))
    return engine.FieldCondition(name, match=match)


def condition(where: Filter, view: View) -> engine.Filter | None:
    """Return what a filter and a view ask of the points of an admitted generation."""
    # One after the other: a query waits for this, and most name a label or nothing.
    must: list[Any] = []
    must_not: list[Any] = []
    if where.labels is not None:
        must.append(_any_of("label", where.labels))
    if where.uris is not None:
        must.append(_any_of("uri", where.uris))
    if where.content_hashes is not None:
        must.append(_any_of("content_hash", where.content_hashes))
    if where.metadata:
        must += [_any_of("metadata_terms", terms) for terms in term_forms(where.metadata)]
    if view.hidden:
        must_not.append(marked("refresh", view.hidden))
    if view.shown:
        must_not.append(marked("superseded", view.shown))
    return engine.Filter(must=must, must_not=must_not) if must or must_not else None


def problem_of(record: engine.Record, generation: str, dimension: int) -> str | None:
    """Return what is wrong with a stored point, if anything."""
    content: dict[str, Any] = record.payload or {}
    missing = [name for name in FIELDS if name not in content]
    if missing:
        return f"a vector of {generation[:12]} has no {missing[0]}"
    identifier = content["id"]
    if content["generation"] != generation or record.id != point_id(identifier):
        return f"the item {identifier!r} lies among the vectors of another generation or under another id"
    try:
        whole = content["metadata_terms"] == metadata_terms(json.loads(content["metadata"]))
    except (KeyError, TypeError, ValueError, AttributeError):
        whole = False
    if not whole:
        return f"the metadata of {identifier!r} are not what was stored"
    vector = np.asarray(record.vector if isinstance(record.vector, list) else [], dtype=np.float32)
    if vector.shape != (dimension,) or not abs(float(np.linalg.norm(vector)) - 1) <= UNIT_TOLERANCE:
        return f"the vector of {identifier!r} is not a unit vector of {dimension} dimensions"
    return None
