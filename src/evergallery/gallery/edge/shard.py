"""One generation's vectors on disk: a Qdrant Edge shard, and the file that says which space it holds.

What was found out about Qdrant Edge 0.9, and is built on here:

- One process at a time opens a shard, to read as to write: the write-ahead log is locked.
- An update is written to the log before it is applied, but not forced to disk: it survives the end of the process and not
  that of the machine. ``flush`` forces log, vectors, payload and indexes to disk, for some 20 ms a batch of 1000.
- Without ``optimize`` no index is built and every search is exhaustive. It lets no other Python thread run, for minutes;
  ``flush`` does neither, for as long as the disk takes.
- A filter that admits a large part of the points makes the index miss many: of half of them, a sixth of the neighbours.
- Without a filter ``info`` knows how many points there are; ``count`` looks at each.
- Files that are cut short or gone mostly make it fail, at opening or at reading, with plain exceptions or panics; the file
  of its point ids is an exception, whose points it forgets in silence.
"""

import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeVar, cast, get_args

import numpy as np
import qdrant_edge as engine
from numpy.typing import NDArray

from evergallery.errors import DamagedError, EvergalleryError, StoredFileError
from evergallery.files import (
    copy_sparse,
    new_directory,
    read_json,
    read_object,
    require_room,
    sync_directory,
    write_json,
)
from evergallery.gallery.edge.compacting import compact_elsewhere
from evergallery.gallery.edge.points import MARKS, PointContent, floats, item_of, point_of
from evergallery.gallery.items import Index, Match, Precision, Search

SPACE = "space.json"
INDEX = "index.json"
INDEX_FROM = 50_000
"""Vectors from which on an index is built."""
INDEXED = ("label", "content_hash", "metadata_terms")
NEW_SHARD = 32 << 20
"""Bytes that an empty one takes, and what comes first."""
WRITTEN = 4
"""The number of times that what is stored is written: to the log, to the vectors or the payload, to indexes."""
MARGIN = 4 << 20

Answer = TypeVar("Answer")
Vector = NDArray[np.float32]


class Shard:
    """The vectors of one generation, all of one dimension.

    Args:
        path: as ``create`` made it.

    Raises:
        DamagedError: a file is missing or unreadable; so does every method.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        space = read_json(path / SPACE)
        try:
            self.generation, self.dimension = str(space["generation"]), int(space["dimension"])
        except (KeyError, TypeError, ValueError) as error:
            raise DamagedError(
                f"{path / SPACE} does not name a space ({error!r}): restore it from a backup."
            ) from error
        self.index: Index | None = None
        # Odd while one is going on.
        self._writes = 0
        self.precision = precision_of(space, path / SPACE)
        configuration = _configuration(self.dimension, self.precision)
        self._require_room(0)
        self._engine = self._ask("opened", lambda: engine.EdgeShard.load(str(path / "shard"), configuration))
        try:
            self.count()
            self.index = self._kept_index()
        except StoredFileError:
            self.close()
            raise

    @staticmethod
    def create(path: Path, generation: str, dimension: int, precision: Precision = "float32") -> "Shard":
        """Make an empty one; it is there whole or not at all."""
        configuration = _configuration(dimension, precision)
        require_room(path.parent, NEW_SHARD, "a gallery of a new generation")
        with new_directory(path) as temporary:
            shard = engine.EdgeShard.create(str(temporary / "shard"), configuration)
            for name in INDEXED:
                shard.update(engine.UpdateOperation.create_field_index(name, engine.PayloadSchemaType.Keyword))
            shard.flush()
            shard.close()
            write_json(temporary / SPACE, {"generation": generation, "dimension": dimension, "precision": precision})
        return Shard(path)

    def update(self, operation: engine.UpdateOperation, changed: int = 0, size: int = 0) -> None:
        """Apply an operation, whole or not at all; durable on return.

        Args:
            operation: to apply.
            changed: how many points that are here it deletes or replaces, at most.
            size: bytes of what it stores; none of what deletes, which a full disk lets do.

        Raises:
            FullError: the disk has no room for it; nothing is written.
        """
        if size:
            self._require_room(WRITTEN * size + MARGIN)
        if changed and self.index is not None:
            self._note_changes(self.index, changed)
        self._writes += 1
        try:
            self._ask("written", lambda: self._engine.update(operation))
        finally:
            self._writes += 1
        self.flush()

    def _require_room(self, size: int) -> None:
        """Refuse what would reach holes of the engine's files, which it fills at the next opening, with the disk full."""
        vectors = self.path.glob("shard/segments/*/vector_storage/**/*")
        holes = sum(max(0, status.st_size - 512 * status.st_blocks) for status in map(Path.stat, vectors))
        if holes or size:
            require_room(self.path, holes + size, "the gallery")

    def flush(self) -> None:
        """Force everything to disk."""
        self._ask("written", self._engine.flush)

    def optimize(self) -> None:
        """Drop deleted vectors, and index large segments for approximate search, which leaves nothing known of the index."""
        (self.path / INDEX).unlink(missing_ok=True)
        sync_directory(self.path)
        self.index = None
        self._ask("written", self._engine.optimize)
        self.flush()

    def is_large(self) -> bool:
        """Return whether the shard has so many vectors that an index is built."""
        return self.count() >= INDEX_FROM

    def compacted(self, path: Path) -> "Shard":
        """A compacted copy in a new directory, which takes the place of this one from the moment it is there.

        Nobody may write to this one meanwhile; searches go on, and those that began here end here.
        """
        self.flush()
        with new_directory(path) as temporary:
            for source in (source for source in self.path.rglob("*") if source.is_file() and source.name != INDEX):
                target = temporary / source.relative_to(self.path)
                target.parent.mkdir(parents=True, exist_ok=True)
                copy_sparse(source, target)
            compact_elsewhere(temporary / "shard")
            copy = Shard(temporary)
            counted = copy.count()
            copy.close()
            if counted != self.count():
                raise DamagedError(
                    f"Of {self.count()} vectors in {self.path} compacting kept {counted}: run  evergallery doctor"
                )
        return Shard(path)

    def indexed(self) -> int:
        """Return how many vectors the index held when it was built; 0 without one."""
        return self._ask("read", self._engine.info).indexed_vectors_count

    def keep_index(self, index: Index) -> None:
        """Remember what the index was found to be worth."""
        write_json(self.path / INDEX, asdict(index))
        self.index = index

    @property
    def index_serves(self) -> bool:
        """Return whether there is an index that answers where nobody asks for exact search."""
        return self.index is not None and self.index.serves

    def _kept_index(self) -> Index | None:
        path = self.path / INDEX
        if not path.is_file():
            return None
        try:
            return Index(**read_object(path, vectors=int, recall=(float, int), measured=str))
        except (TypeError, DamagedError) as error:
            raise DamagedError(
                f"{path} does not describe an index ({error}): delete it and run  evergallery gallery compact"
            ) from error

    def _note_changes(self, index: Index, changed: int) -> None:
        """Count changes before they are made; a kill forgets a hundredth of the index's vectors at most."""
        self.index = replace(index, changed=index.changed + changed)
        step = max(1, index.vectors // 100)
        if self.index.changed // step != index.changed // step:
            write_json(self.path / INDEX, asdict(self.index))

    def count(self, condition: engine.Filter | None = None) -> int:
        """Return how many points satisfy a condition, exactly."""
        if condition is None:
            # Known without looking at every point.
            return self._ask("read", self._engine.info).points_count
        return self._ask("read", lambda: self._engine.count(engine.CountRequest(exact=True, filter=condition)))

    def count_by(self, field: str, condition: engine.Filter | None) -> dict[str, int]:
        """Return how many points have each value of an indexed field."""
        request = engine.FacetRequest(field, limit=max(1, self.count(condition)), exact=True, filter=condition)
        return {str(hit.value): hit.count for hit in self._ask("read", lambda: self._engine.facet(request)).hits}

    def retrieve(
        self, points: Sequence[uuid.UUID], *, with_vector: bool = True, fields: Sequence[str] | None = None
    ) -> list[engine.Record]:
        """The points among these that are here, with all or some fields of their payload."""
        content = True if fields is None else list(fields)
        return self._ask("read", lambda: self._engine.retrieve(list(points), content, with_vector))

    def holds(self, points: Sequence[uuid.UUID]) -> list[uuid.UUID]:
        """The points among these that are here, by their ids alone."""
        records = self._ask("read", lambda: self._engine.retrieve(list(points), False, False))
        return list(map(point_of, records))

    def search(self, request: engine.SearchRequest) -> list[engine.ScoredPoint]:
        """Answer one query, in less than ``query`` takes for one: the engine plans no steps for it."""
        return self._ask("read", lambda: self._engine.search(request))

    def query(self, requests: Sequence[engine.QueryRequest]) -> list[list[engine.ScoredPoint]]:
        """Answer queries together, which shares one pass over the vectors."""
        batch = engine.QueryBatchRequest(list(requests))
        return self._ask("read", lambda: self._engine.query_batch(batch))

    def nearest(
        self, queries: NDArray[np.float32], search: Search, condition: engine.Filter | None
    ) -> list[list[Match]]:
        """The nearest points of each query (Q, D) that satisfy a condition, as ``Engine._nearest`` promises them.

        Args:
            queries: (Q, D) unit rows.
            search: how many are wanted, and how.
            condition: what its filter and its view ask of points.
        """
        found = self._nearest_read_once(queries, search, condition) if len(queries) > 1 else None
        if found is not None:
            return found
        best = self._best(queries, search, condition, with_items=True)
        return [[Match(item_of(point), point.score) for point in points] for points in best]

    def _nearest_read_once(
        self, queries: NDArray[np.float32], search: Search, condition: engine.Filter | None
    ) -> list[list[Match]] | None:
        """The nearest of several queries, each item read once, however many find it; ``None`` where somebody writes meanwhile."""
        writes = self._writes
        if writes % 2:
            return None
        best = self._best(queries, search, condition, with_items=False)
        scores = [[(point_of(point), point.score) for point in points] for points in best]
        points = {point for row in scores for point, _ in row}
        records = self.retrieve(list(points), with_vector=search.with_embeddings)
        if writes != self._writes:
            return None
        items = {point_of(record): item_of(record) for record in records}
        return [[Match(items[point], score) for point, score in row] for row in scores]

    def _best(
        self, queries: NDArray[np.float32], search: Search, condition: engine.Filter | None, *, with_items: bool
    ) -> list[list[engine.ScoredPoint]]:
        """The points that ``nearest`` makes matches of, with what they hold or by their ids alone."""
        options: dict[str, Any] = {
            "with_payload": with_items,
            "with_vector": with_items and search.with_embeddings,
            "filter": condition,
            "score_threshold": _threshold(search.minimum_score),
            "params": _parameters(search.exact, self.precision),
        }
        nearest = [engine.Query.Nearest(floats(query)) for query in queries]
        # One more than asked for tells whether equal scores were cut apart; an index may have missed some of them anyway.
        k = search.k
        limit = k + 1 if search.exact else k
        if len(nearest) == 1:
            answers = [self.search(engine.SearchRequest(nearest[0], limit, **options))]
        else:
            answers = self.query([engine.QueryRequest(limit, query=query, **options) for query in nearest])
        found = []
        for query, points in zip(nearest, answers, strict=True):
            limit = k + 1
            while search.exact and len(points) == limit and points[k - 1].score == points[-1].score:
                limit *= 2
                points = self.search(engine.SearchRequest(query, limit, **options))
            # Whole only where equal scores have to be put in order.
            found.append(points if limit > k + 1 else points[:k])
        return found

    def pages(self, condition: engine.Filter | None, size: int, content: PointContent) -> Iterator[list[engine.Record]]:
        """All points that satisfy a condition, in order of their ids."""
        start: uuid.UUID | None = None
        while True:
            records, start = self.page(condition, start, size, content)
            if records:
                yield records
            if start is None:
                return

    def page(
        self,
        condition: engine.Filter | None,
        start: uuid.UUID | None,
        size: int,
        content: PointContent,
    ) -> tuple[list[engine.Record], uuid.UUID | None]:
        """The first points from an id on that satisfy a condition, in order of their ids; and where the next page starts."""
        request = engine.ScrollRequest(
            offset=start,
            limit=size,
            filter=condition,
            with_payload=True if content.fields is None else list(content.fields),
            with_vector=content.vector,
        )
        records, following = self._ask("read", lambda: self._engine.scroll(request))
        return records, cast("uuid.UUID | None", following)

    def index_marks(self) -> None:
        """Index the marks of versions, once there are any."""
        self.index_fields(MARKS)

    def index_fields(self, fields: Sequence[str]) -> None:
        """Index fields that are not yet."""
        known = self._ask("read", self._engine.info).payload_schema
        for name in (name for name in fields if name not in known):
            self.update(engine.UpdateOperation.create_field_index(name, engine.PayloadSchemaType.Keyword))

    def close(self) -> None:
        """Release it for other processes."""
        if self.index is not None and self.index.changed:
            with suppress(OSError):
                write_json(self.path / INDEX, asdict(self.index))
        # After damage there may be nothing left to release.
        with suppress(Exception):
            self._engine.close()

    def _ask(self, done: str, ask: Callable[[], Answer]) -> Answer:
        try:
            return ask()
        # The engine raises plain exceptions, and its own panics, which derive from BaseException.
        except BaseException as error:
            if isinstance(error, (EvergalleryError, KeyboardInterrupt, SystemExit, MemoryError)):
                raise
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            if "No space left" in reason:
                raise OSError(28, f"No space left on device for the gallery in {self.path}") from error
            raise DamagedError(
                f"The gallery's files in {self.path} cannot be {done} ({reason}): restore them from a backup, or move them "
                f"away and index the images again."
            ) from error


def _parameters(exact: bool, precision: Precision) -> engine.SearchParams:
    """Return how a search compares: of twice as many as are asked for by their bytes, the best by the vectors that are kept."""
    if precision != "int8":
        return engine.SearchParams(exact=exact)
    # Bytes alone find less, and their scores are wrong by hundredths.
    rescoring = engine.QuantizationSearchParams(rescore=True, oversampling=2.0)
    return engine.SearchParams(exact=exact, quantization=rescoring)


def _threshold(minimum_score: float | None) -> float | None:
    # The engine leaves out what equals its threshold, and compares in float32.
    return None if minimum_score is None else float(np.nextafter(np.float32(minimum_score), np.float32(-np.inf)))


def precision_of(content: Any, path: Path) -> Precision:
    """The precision that a file names; ``float32`` where it names none.

    Raises:
        DamagedError: there is no such precision.
    """
    kept = content.get("precision", "float32") if isinstance(content, dict) else None
    if kept not in get_args(Precision):
        raise DamagedError(f"{path} names a precision {kept!r} that is not known: restore it from a backup.")
    return cast(Precision, kept)


def _configuration(dimension: int, precision: Precision) -> engine.EdgeConfig:
    half = None if precision == "float32" else engine.VectorStorageDatatype.Float16
    whole_bytes = engine.ScalarQuantizationConfig(engine.ScalarType.Int8, quantile=0.99, memory=engine.Memory.Pinned)
    return engine.EdgeConfig(
        vectors=engine.EdgeVectorParams(size=dimension, distance=engine.Distance.Dot, datatype=half),
        # In units of 1024 bytes of float32.
        optimizers=engine.EdgeOptimizersConfig(indexing_threshold=max(1, INDEX_FROM * dimension * 4 // 1024)),
        quantization_config=whole_bytes if precision == "int8" else None,
    )
