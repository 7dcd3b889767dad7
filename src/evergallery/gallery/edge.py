"""The embedded engine: Qdrant Edge in this process, one shard per generation.

A shard of its own gives every generation its own dimension. Qdrant Edge locks a shard for the process that has it open, for
readers as for writers; the gallery's own lock says who that is. An update is written to the shard's write-ahead log, which
survives the end of the process, and flushed to disk before the call returns, which survives the end of the machine.
"""

import itertools
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import qdrant_edge as engine
from numpy.typing import NDArray

from evergallery.errors import DamagedError, InputError
from evergallery.files import TEMPORARY_PREFIX, lock, new_directory, read_json, write_json
from evergallery.gallery.items import UNIT_TOLERANCE, Filter, Item, Match, PutCounts, check_items
from evergallery.gallery.store import NO_FILTER

SPACE = "space.json"
MOVING = "moving.json"
NAMESPACE = uuid.UUID("6f2c3b1e-8a57-5d0b-9b3e-3f1f2a6f9c11")
EXACT = engine.SearchParams(exact=True)


class EdgeStore:
    """A gallery in a directory; see ``GalleryStore`` for what its methods promise.

    Args:
        directory: made where it is missing.

    Raises:
        BusyError: another process has it open; the message names that process.
        DamagedError: a file is missing or unreadable.
    """

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self._shards: dict[str, engine.EdgeShard] = {}
        self._dimensions: dict[str, int] = {}
        self._opened = ExitStack()
        self._opened.enter_context(lock(directory / ".lock", "using the gallery"))
        try:
            for path in sorted(directory.iterdir()):
                if path.is_dir() and not path.name.startswith(TEMPORARY_PREFIX):
                    self._open_shard(path)
            self._finish_moving()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Release it for other processes."""
        for shard in self._shards.values():
            shard.close()
        self._shards.clear()
        self._opened.close()

    def __enter__(self) -> "EdgeStore":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Writing

    def put(self, items: Sequence[Item]) -> PutCounts:
        """Add or replace items; see ``GalleryStore.put``."""
        check_items(items)
        self._check_dimensions(items)
        stored = self._retrieve([item.id for item in items])
        changed = [item for item in items if item.id not in stored or not item.same_but_for_time(stored[item.id])]
        replaced = sum(item.id in stored for item in changed)
        for generation, group in itertools.groupby(
            sorted(changed, key=lambda item: item.generation), key=lambda item: item.generation
        ):
            self._put_generation(generation, list(group), stored)
        return PutCounts(len(changed) - replaced, replaced, len(items) - len(changed))

    def delete(self, identifiers: Sequence[str]) -> int:
        """Delete items; returns how many of them were there."""
        stored = self._retrieve(identifiers)
        for generation in {item.generation for item in stored.values()}:
            mine = [identifier for identifier, item in stored.items() if item.generation == generation]
            self._update(generation, engine.UpdateOperation.delete_points([_point_id(one) for one in mine]))
        return len(stored)

    def _put_generation(self, generation: str, items: list[Item], stored: dict[str, Item]) -> None:
        if generation not in self._shards:
            self._create_shard(generation, len(items[0].embedding))
        moving = [item.id for item in items if item.id in stored and stored[item.id].generation != generation]
        if moving:
            # Two shards change and only each alone is atomic, so what is meant is written down first.
            write_json(self.directory / MOVING, {"to": generation, "ids": moving})
        points = []
        for item in items:
            before = stored.get(item.id)
            points.append(
                engine.Point(
                    _point_id(item.id), item.embedding.tolist(), _payload(item, before.added if before else item.added)
                )
            )
        self._update(generation, engine.UpdateOperation.upsert_points(points))
        if moving:
            self._finish_moving()

    def _finish_moving(self) -> None:
        path = self.directory / MOVING
        if not path.is_file():
            return
        intent = read_json(path)
        target = self._shards.get(intent["to"])
        if target is not None:
            arrived = [record.id for record in target.retrieve([_point_id(one) for one in intent["ids"]], False, False)]
            for generation in self._shards:
                if generation != intent["to"] and arrived:
                    self._update(generation, engine.UpdateOperation.delete_points(arrived))
        path.unlink()

    def _update(self, generation: str, operation: engine.UpdateOperation) -> None:
        self._shards[generation].update(operation)
        self._shards[generation].flush()

    # Reading

    def get(self, identifier: str) -> Item | None:
        """The item of this id, or ``None``."""
        return self._retrieve([identifier]).get(identifier)

    def count(self, where: Filter = NO_FILTER) -> int:
        """How many items there are."""
        request = engine.CountRequest(exact=True, filter=_condition(where))
        return sum(self._shards[generation].count(request) for generation in self._admitted(where))

    def count_by_generation(self) -> dict[str, int]:
        """How many items each generation has made, by fingerprint."""
        counts = {generation: shard.count(engine.CountRequest()) for generation, shard in self._shards.items()}
        return {generation: count for generation, count in counts.items() if count}

    def count_by_label(self) -> dict[str, int]:
        """How many items each label has."""
        counts: dict[str, int] = {}
        for items in self._scroll(NO_FILTER, 10_000, with_vector=False):
            for item in items:
                if item.label is not None:
                    counts[item.label] = counts.get(item.label, 0) + 1
        return counts

    def iterate(self, where: Filter = NO_FILTER, *, batch_size: int = 1000) -> Iterator[list[Item]]:
        """All items, in batches, in a fixed order."""
        return self._scroll(where, batch_size, with_vector=True)

    def search(
        self, queries: NDArray[np.float32], k: int, *, where: Filter = NO_FILTER, minimum_score: float | None = None
    ) -> list[list[Match]]:
        """The k items with the largest cosine for each query; see ``GalleryStore.search``."""
        if k < 1:
            raise InputError(f"k is {k}: search for at least 1 item.")
        if queries.ndim != 2 or not np.isfinite(queries).all():
            raise InputError(f"The queries have shape {queries.shape}: they must be (Q, D) and finite.")
        found: list[list[Match]] = [[] for _ in queries]
        for generation in self._admitted(where):
            if self._shards[generation].count(engine.CountRequest()) == 0:
                continue
            if queries.shape[1] != self._dimensions[generation]:
                raise InputError(
                    f"The queries have {queries.shape[1]} dimensions and the vectors of {generation[:12]} have "
                    f"{self._dimensions[generation]}: they come from different embedding spaces."
                )
            for matches, more in zip(
                found, self._search_shard(generation, queries, k, where, minimum_score), strict=True
            ):
                matches += more
        return [sorted(matches, key=lambda match: (-match.score, match.item.id))[:k] for matches in found]

    def _search_shard(
        self, generation: str, queries: NDArray[np.float32], k: int, where: Filter, minimum_score: float | None
    ) -> list[list[Match]]:
        def request(query: NDArray[np.float32], limit: int) -> engine.QueryRequest:
            return engine.QueryRequest(
                limit=limit,
                query=engine.Query.Nearest(query.tolist()),
                with_payload=True,
                with_vector=True,
                filter=_condition(where),
                score_threshold=minimum_score,
                params=EXACT,
            )

        shard = self._shards[generation]
        # One more than asked for tells whether equal scores were cut apart.
        answers = shard.query_batch(engine.QueryBatchRequest([request(query, k + 1) for query in queries]))
        found = []
        for query, points in zip(queries, answers, strict=True):
            limit = k + 1
            while len(points) == limit and points[k - 1].score == points[-1].score:
                limit *= 2
                points = shard.query(request(query, limit))
            found.append([Match(_item(point), point.score) for point in points])
        return found

    def verify(self) -> list[str]:
        """Read every item and say what is wrong, a sentence each."""
        problems = []
        for generation, shard in self._shards.items():
            seen = 0
            for records in _pages(shard, None, 1000, with_vector=True):
                seen += len(records)
                for record in records:
                    problem = _problem(record, generation, self._dimensions[generation])
                    if problem:
                        problems.append(f"In the gallery, {problem}: delete it and index it again.")
            counted = shard.count(engine.CountRequest())
            if seen != counted:
                problems.append(f"The gallery counts {counted} vectors of {generation[:12]} and holds {seen}.")
        return problems

    # Inside

    def _admitted(self, where: Filter) -> list[str]:
        return [name for name in self._shards if where.generations is None or name in where.generations]

    def _scroll(self, where: Filter, batch_size: int, *, with_vector: bool) -> Iterator[list[Item]]:
        for generation in self._admitted(where):
            for records in _pages(self._shards[generation], _condition(where), batch_size, with_vector=with_vector):
                yield [_item(record) for record in records]

    def _retrieve(self, identifiers: Sequence[str]) -> dict[str, Item]:
        points: list[Any] = [_point_id(identifier) for identifier in identifiers]
        items = [_item(record) for shard in self._shards.values() for record in shard.retrieve(points, True, True)]
        return {item.id: item for item in items}

    def _check_dimensions(self, items: Sequence[Item]) -> None:
        expected = dict(self._dimensions)
        for item in items:
            dimension = expected.setdefault(item.generation, len(item.embedding))
            if len(item.embedding) != dimension:
                raise InputError(
                    f"The embedding of {item.id!r} has {len(item.embedding)} dimensions and those of its generation "
                    f"{item.generation[:12]} have {dimension}: it was made by another generation."
                )

    def _create_shard(self, generation: str, dimension: int) -> None:
        path = self.directory / generation[:16]
        configuration = engine.EdgeConfig(vectors=engine.EdgeVectorParams(size=dimension, distance=engine.Distance.Dot))
        with new_directory(path) as temporary:
            shard = engine.EdgeShard.create(str(temporary / "shard"), configuration)
            for name in ("label", "content_hash"):
                shard.update(engine.UpdateOperation.create_field_index(name, engine.PayloadSchemaType.Keyword))
            shard.flush()
            shard.close()
            write_json(temporary / SPACE, {"generation": generation, "dimension": dimension})
        self._open_shard(path)

    def _open_shard(self, path: Path) -> None:
        space = read_json(path / SPACE)
        try:
            shard = engine.EdgeShard.load(str(path / "shard"))
            shard.count(engine.CountRequest())
        # The engine raises plain exceptions, and its own panics where a file is cut short.
        except BaseException as error:
            if isinstance(error, (KeyboardInterrupt, SystemExit, MemoryError)):
                raise
            raise DamagedError(
                f"The gallery's files in {path} cannot be opened ({str(error).splitlines()[0]}): restore them from a backup, "
                f"or move them away and index the images again."
            ) from error
        self._shards[space["generation"]] = shard
        self._dimensions[space["generation"]] = space["dimension"]


def _pages(
    shard: engine.EdgeShard, condition: engine.Filter | None, batch_size: int, *, with_vector: bool
) -> Iterator[list[engine.Record]]:
    offset: Any = None
    while True:
        records, offset = shard.scroll(
            engine.ScrollRequest(
                offset=offset, limit=batch_size, filter=condition, with_payload=True, with_vector=with_vector
            )
        )
        if records:
            yield records
        if offset is None:
            return


def _point_id(identifier: str) -> uuid.UUID:
    return uuid.uuid5(NAMESPACE, identifier)


def _payload(item: Item, added: str) -> dict[str, Any]:
    return {
        "id": item.id,
        "generation": item.generation,
        "label": item.label,
        "uri": item.uri,
        "content_hash": item.content_hash,
        "added": added,
        "metadata": dict(item.metadata),
    }


def _item(record: Any) -> Item:
    payload = record.payload
    vector = np.asarray(record.vector if record.vector is not None else (), dtype=np.float32)
    return Item(embedding=vector, **{name: payload[name] for name in _PAYLOAD})


_PAYLOAD = ("id", "generation", "label", "uri", "content_hash", "added", "metadata")


def _condition(where: Filter) -> engine.Filter | None:
    must: list[Any] = []
    if where.labels is not None:
        must.append(engine.FieldCondition("label", match=engine.MatchAny(list(where.labels))))
    for name, value in (where.metadata or {}).items():
        must.append(engine.FieldCondition(f"metadata.{name}", match=engine.MatchValue(value)))
    return engine.Filter(must=must) if must else None


def _problem(record: Any, generation: str, dimension: int) -> str | None:
    payload = record.payload or {}
    missing = [name for name in _PAYLOAD if name not in payload]
    if missing:
        return f"a vector of {generation[:12]} has no {missing[0]}"
    identifier = payload["id"]
    if payload["generation"] != generation or record.id != _point_id(identifier):
        return f"the item {identifier!r} lies among the vectors of another generation or under another id"
    vector = np.asarray(record.vector, dtype=np.float32)
    if vector.shape != (dimension,) or not abs(float(np.linalg.norm(vector)) - 1) <= UNIT_TOLERANCE:
        return f"the vector of {identifier!r} is not a unit vector of {dimension} dimensions"
    return None
