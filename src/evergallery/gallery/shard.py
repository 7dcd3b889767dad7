"""One generation's vectors on disk: a Qdrant Edge shard, and the file that says which space it holds.

What was found out about Qdrant Edge 0.9, and is built on here:

- One process at a time opens a shard, to read as to write: the write-ahead log is locked.
- An update is written to the log before it is applied, but not forced to disk: it survives the end of the process and not
  that of the machine. ``flush`` forces log, vectors, payload and indexes to disk, for some 20 ms a batch of 1000.
- Without ``optimize`` no index is built and every search is exhaustive.
- Files that are cut short or gone mostly make it fail, at opening or at reading, with plain exceptions or panics; the file
  of its point ids is an exception, whose points it forgets in silence.
"""

import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar, cast

import qdrant_edge as engine

from evergallery.errors import DamagedError, EvergalleryError
from evergallery.files import new_directory, read_json, write_json
from evergallery.gallery.points import MARKS

SPACE = "space.json"
INDEXED = ("label", "content_hash", "metadata_terms")

Answer = TypeVar("Answer")


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
        self._engine = self._ask("opened", lambda: engine.EdgeShard.load(str(path / "shard")))
        try:
            self.count()
        except DamagedError:
            self.close()
            raise

    @staticmethod
    def create(path: Path, generation: str, dimension: int) -> "Shard":
        """Make an empty one; it is there whole or not at all."""
        configuration = engine.EdgeConfig(vectors=engine.EdgeVectorParams(size=dimension, distance=engine.Distance.Dot))
        with new_directory(path) as temporary:
            shard = engine.EdgeShard.create(str(temporary / "shard"), configuration)
            for name in INDEXED:
                shard.update(engine.UpdateOperation.create_field_index(name, engine.PayloadSchemaType.Keyword))
            shard.flush()
            shard.close()
            write_json(temporary / SPACE, {"generation": generation, "dimension": dimension})
        return Shard(path)

    def update(self, operation: engine.UpdateOperation) -> None:
        """Apply an operation, whole or not at all; durable on return."""
        self._ask("written", lambda: self._engine.update(operation))
        self.flush()

    def flush(self) -> None:
        """Force everything to disk."""
        self._ask("written", self._engine.flush)

    def optimize(self) -> None:
        """Drop deleted vectors, and index large segments for approximate search."""
        self._ask("written", self._engine.optimize)
        self.flush()

    def count(self, condition: engine.Filter | None = None) -> int:
        """How many points satisfy a condition, exactly."""
        return self._ask("read", lambda: self._engine.count(engine.CountRequest(exact=True, filter=condition)))

    def count_by(self, field: str, condition: engine.Filter | None) -> dict[str, int]:
        """How many points have each value of an indexed field."""
        request = engine.FacetRequest(field, limit=max(1, self.count(condition)), exact=True, filter=condition)
        return {str(hit.value): hit.count for hit in self._ask("read", lambda: self._engine.facet(request)).hits}

    def retrieve(
        self, points: Sequence[uuid.UUID], *, with_vector: bool = True, fields: Sequence[str] | None = None
    ) -> list[engine.Record]:
        """Those of these points that are here, with all or some fields of their payload."""
        content = True if fields is None else list(fields)
        return self._ask("read", lambda: self._engine.retrieve(list(points), content, with_vector))

    def holds(self, points: Sequence[uuid.UUID]) -> list[uuid.UUID]:
        """Which of these points are here."""
        records = self._ask("read", lambda: self._engine.retrieve(list(points), False, False))
        return [cast(uuid.UUID, record.id) for record in records]

    def query(self, requests: Sequence[engine.QueryRequest]) -> list[list[engine.ScoredPoint]]:
        """Answer queries together, which shares one pass over the vectors."""
        batch = engine.QueryBatchRequest(list(requests))
        return self._ask("read", lambda: self._engine.query_batch(batch))

    def pages(
        self, condition: engine.Filter | None, size: int, *, with_vector: bool, fields: Sequence[str] | None = None
    ) -> Iterator[list[engine.Record]]:
        """All points that satisfy a condition, in order of their ids, with all or some fields of their payload."""
        start: uuid.UUID | None = None
        while True:
            records, start = self.page(condition, start, size, with_vector=with_vector, fields=fields)
            if records:
                yield records
            if start is None:
                return

    def page(
        self,
        condition: engine.Filter | None,
        start: uuid.UUID | None,
        size: int,
        *,
        with_vector: bool,
        fields: Sequence[str] | None = None,
    ) -> tuple[list[engine.Record], uuid.UUID | None]:
        """The first points from an id on that satisfy a condition, in order of their ids; and where the next page starts."""
        request = engine.ScrollRequest(
            offset=start,
            limit=size,
            filter=condition,
            with_payload=True if fields is None else list(fields),
            with_vector=with_vector,
        )
        records, following = self._ask("read", lambda: self._engine.scroll(request))
        return records, cast("uuid.UUID | None", following)

    def index_marks(self) -> None:
        """Index the marks of versions, once there are any."""
        self.index(MARKS)

    def index(self, fields: Sequence[str]) -> None:
        """Index fields that are not yet."""
        known = self._ask("read", self._engine.info).payload_schema
        for name in (name for name in fields if name not in known):
            self.update(engine.UpdateOperation.create_field_index(name, engine.PayloadSchemaType.Keyword))

    def close(self) -> None:
        """Release it for other processes."""
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
