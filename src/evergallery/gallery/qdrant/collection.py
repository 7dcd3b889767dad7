"""A collection of Qdrant that somebody else keeps: what of its points is read, and what is noted of each."""

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from evergallery.data.columns import scalar_of, text_of
from evergallery.data.metadata import finite_values, normalised, unstorable
from evergallery.gallery.items import Item
from evergallery.gallery.store import BATCH
from evergallery.strings.names import normal

if TYPE_CHECKING:
    from qdrant_client import QdrantClient, models

SKETCH = 16


@dataclass(frozen=True)
class Source:
    """A collection of somebody else's, and what of its points is read.

    Attributes:
        name: of the collection.
        vector: name of the vector; ``None`` for the unnamed one.
        texts: keys of the payload for label, address of the image and hash of its content, by what they are.
        metadata: keys of the payload that become metadata.
        base: what is put before each address.
        dimension: of the vectors.
        generation: fingerprint of the one that made them; empty while it is not known.
        owner: the workspace that has adopted it.
    """

    name: str
    vector: str | None
    texts: Mapping[str, str]
    metadata: tuple[str, ...]
    base: str
    dimension: int
    generation: str = ""
    owner: str = ""

    def __str__(self) -> str:
        return f"the collection {self.name}"

    @property
    def described(self) -> str:
        """Return what is read, exactly."""
        return json.dumps(asdict(replace(self, generation="", owner="")), sort_keys=True)

    @property
    def selected(self) -> Any:
        """Return what is asked for as the vectors of points."""
        return True if self.vector is None else [self.vector]

    def vector_of(self, record: Any) -> NDArray[np.float32] | None:
        """The vector (D,) of a point, as it is stored; ``None`` where it has none of numbers."""
        found = record.vector.get(self.vector) if isinstance(record.vector, dict) else record.vector
        return np.asarray(found, np.float32) if found is not None and len(found) else None


class SourceCollection:
    """Somebody's collection on the server: all that is asked of it, and that only reads.

    Args:
        client: of the server.
        source: what of its points is read.
    """

    def __init__(self, client: "QdrantClient", source: Source) -> None:
        self._client, self._source = client, source

    def count(self) -> int:
        """Return how many points it has."""
        return int(self._client.count(self._source.name).count)

    def batches(self) -> Iterator[list[Any]]:
        """All points with their payloads and vectors, in batches."""
        start: Any = None
        while True:
            records, start = self._client.scroll(
                self._source.name, limit=BATCH, offset=start, with_vectors=self._source.selected
            )
            yield records
            if start is None:
                return

    def retrieve(self, keys: Collection[int | str], *, vectors: bool) -> list[Any]:
        """The points with these ids, as far as there are such, without their payloads."""
        if not keys:
            return []
        selected = self._source.selected if vectors else False
        return self._client.retrieve(self._source.name, list(keys), with_payload=False, with_vectors=selected)

    def nearest(
        self, query: NDArray[np.float32], limit: int, named: "models.Filter | None", *, exact: bool, vectors: bool
    ) -> list[Any]:
        """The points nearest to a query (D,), best first, without their payloads.

        Args:
            query: a unit row.
            limit: how many, at most.
            named: which points; ``None`` for all.
            exact: whether it is compared with every vector.
            vectors: whether the points come with theirs.
        """
        from qdrant_client import models

        request = models.QueryRequest(
            query=query.tolist(),
            using=self._source.vector,
            filter=named,
            limit=limit,
            params=models.SearchParams(exact=exact),
            with_payload=False,
            with_vector=self._source.selected if vectors else False,
        )
        (answer,) = self._client.query_batch_points(self._source.name, [request])
        return list(answer.points)


@dataclass(frozen=True)
class Note:
    """The note that is kept of a point of theirs.

    Attributes:
        version: the item as theirs says it, without its vector.
        key: id of the point in their collection.
        said: digest of what it says of itself.
        pictured: digest of address and content hash.
        sketch: the first numbers of its vector, which tell it from another one; an engine may return the last digits of a
            number otherwise than it did before.
    """

    version: Item
    key: int | str
    said: str
    pictured: str
    sketch: tuple[float, ...]

    def has_picture_of(self, payload: Mapping[str, Any]) -> bool:
        """Return whether a point has the picture, and the vector, that was noted."""
        return bool(self.pictured == payload["pictured"] and np.allclose(self.sketch, payload["sketch"], atol=1e-5))


def notes_of(records: Sequence[Any], source: Source) -> tuple[list[Note], list[tuple[str, str]]]:
    """Return what is kept of points, and why others cannot be used, with their ids."""
    notes, bad = [], []
    for record in records:
        vector, payload = source.vector_of(record), record.payload or {}
        reason = _flaw(vector, source.dimension)
        if reason is None:
            try:
                texts = {name: text_of(payload.get(key)) for name, key in source.texts.items()}
                metadata = {name: scalar_of(payload.get(name)) for name in source.metadata}
            except ValueError as error:
                reason = f"in their payload {error}"
        if reason is not None:
            bad.append((reason, str(record.id)))
            continue
        assert vector is not None, "no vector is a flaw"
        label, uri = texts.get("label"), texts.get("uri")
        kept = normalised(finite_values({name: value for name, value in metadata.items() if value is not None}))
        wrong = unstorable(kept)
        version = Item(
            id=str(record.id),
            embedding=np.empty(0, np.float32),
            generation=source.generation,
            label=None if label is None else normal(label),
            uri=None if uri is None else source.base + uri,
            content_hash=texts.get("content_hash"),
            added="",
            metadata={name: value for name, value in kept.items() if name != wrong},
        )
        picture = hashlib.sha256(json.dumps([version.uri, version.content_hash]).encode()).hexdigest()
        said = json.dumps([version.label, version.uri, version.content_hash, dict(version.metadata)], sort_keys=True)
        sketch = tuple(vector[:SKETCH].tolist())
        notes.append(Note(version, record.id, hashlib.sha256(said.encode()).hexdigest(), picture, sketch))
    return notes, bad


def _flaw(vector: NDArray[np.float32] | None, dimension: int) -> str | None:
    if vector is None:
        return "no vector"
    if vector.shape != (dimension,):
        return f"a vector of shape {vector.shape}, not ({dimension},)"
    if not np.isfinite(vector).all():
        return "a vector with NaN or infinity"
    return None if vector.any() else "a vector of zeros"
