"""The embedded engine: Qdrant Edge in this process, one shard per generation, so that each has its own dimension.

``contents.json`` says which generations the directory must hold and, while nobody writes, how many vectors of each: the
engine would forget some kinds of lost files in silence.

An item has one version, or two while a refresh is not settled: the old one is marked ``superseded`` by it, the new one, in
another generation's shard, bears its name as ``refresh``. A ``View`` says which of the two is seen, so that taking one in place
of the other changes nothing here.
"""

import shutil
import tempfile
import threading
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import qdrant_edge as engine
from numpy.typing import NDArray

from evergallery.errors import NotFoundError, ReadOnlyError, RefusedError, StoredFileError
from evergallery.files import (
    TEMPORARY_PREFIX,
    creation_of,
    lock,
)
from evergallery.gallery.edge.directory import (
    CONTENTS,
    copy_gallery_files,
    engine_version,
    kept_precision,
    next_directory,
    opened_shards,
    write_contents,
)
from evergallery.gallery.edge.moves import Moves, intended
from evergallery.gallery.edge.points import (
    ID_ALONE,
    MARKS,
    WHOLE,
    PointContent,
    condition,
    identifier_of,
    item_of,
    marked,
    new_point,
    point_of,
    problem_of,
    seen,
)
from evergallery.gallery.edge.shard import Shard
from evergallery.gallery.edge.windows import shares, window
from evergallery.gallery.engine import RefreshMark
from evergallery.gallery.items import (
    EVERYTHING,
    NO_FILTER,
    Filter,
    Index,
    Item,
    Match,
    Precision,
    Search,
    View,
    point_id,
)
from evergallery.gallery.recall import measured_recall
from evergallery.gallery.snapshot import GalleryFiles, Snapshot, take
from evergallery.gallery.store import BATCH, GalleryStore
from evergallery.gallery.versions import by_generation

Answer = TypeVar("Answer")


class EdgeStore(GalleryStore):
    """A gallery in a directory; see ``GalleryStore`` for what its methods promise.

    Args:
        directory: made where it is missing.
        view: asked by every reading method at its start which versions are seen.
        precision: that vectors are kept in; by default as the gallery has it, ``float32`` for a new one.
        create: whether it is made where it is missing.

    Raises:
        NotFoundError: it is missing.
        InputError: the gallery keeps its vectors in another precision.
        BusyError: another process has it open; the message names that process.
        DamagedError: a file is missing or unreadable.
    """

    # Forcing them to disk takes about as long however many they are, and would be most of the work of a thousand.
    together = 4096

    def __init__(
        self,
        directory: str | Path,
        view: Callable[[], View] = lambda: EVERYTHING,
        precision: Precision | None = None,
        create: bool = True,
    ) -> None:
        super().__init__(view)
        directory = Path(directory)
        if not create and not directory.is_dir():
            raise NotFoundError(f"There is no gallery {directory}: name its directory or its URL.")
        if not directory.is_dir():
            with creation_of(directory):
                directory.mkdir(parents=True)
        self._opened = ExitStack()
        self._read_only: str | None = None
        try:
            self._opened.enter_context(lock(directory / ".lock", "using the gallery"))
        except ReadOnlyError as error:
            # The engine writes to what it reads; the copy goes with this store.
            copy = Path(self._opened.enter_context(tempfile.TemporaryDirectory(prefix="evergallery-")))
            copy_gallery_files(directory, copy)
            directory, self._read_only = copy, str(error)
        self.directory = directory
        self._kept: dict[str, Shard] | None = {}
        self._noted = False
        self._one_writer = threading.RLock()
        self._moves = Moves(directory, self._one_writer)
        try:
            self._precision = kept_precision(directory, precision)
            self._kept = opened_shards(directory)
            self._finish_moving()
        except BaseException:
            self.close()
            raise

    @property
    def precision(self) -> Precision:
        """Return how the vectors are kept."""
        return self._precision

    def close(self) -> None:
        """Release the gallery for other processes."""
        with self._one_writer, self._opened:
            shards = self._kept or {}
            try:
                if self._noted:
                    write_contents(self.directory, {name: shard.count() for name, shard in shards.items()})
                    self._noted = False
            finally:
                self._kept = None
                for shard in shards.values():
                    shard.close()

    @property
    def _shards(self) -> dict[str, Shard]:
        if self._kept is None:
            raise RefusedError(f"The gallery {self.directory} was closed here: open it, or its workspace, again.")
        return self._kept

    def _require_writable(self) -> None:
        if self._read_only is not None:
            raise ReadOnlyError(self._read_only)
        if not self.directory.is_dir():
            raise NotFoundError(f"The gallery {self.directory} is gone: put its directory back, and open it again.")

    # The whole

    def is_blank(self) -> bool:
        """Return whether nothing was ever stored here."""
        return not self._shards and not (self.directory / CONTENTS).is_file()

    def at_one_moment(self, ask: Callable[[], Answer], view: View = EVERYTHING) -> Answer:
        """Ask all shards as they are at one moment as far as moves go: an item that moves is in none twice, and in one."""
        return self._moves.undisturbed(ask, view)

    def compact(self) -> None:
        """Give back room and index what is large; see ``GalleryStore.compact``."""
        self._require_writable()
        self._drop_empty()
        with self._one_writer:
            for generation, shard in self._shards.items():
                if shard.is_large():
                    # The engine lets no other thread run while it works, for minutes then.
                    self._shards[generation] = compacted = shard.compacted(next_directory(shard.path))
                    shutil.rmtree(shard.path)
                    shard = compacted
                else:
                    shard.optimize()
                if vectors := shard.indexed():
                    recall = measured_recall(self, generation)
                    shard.keep_index(Index(vectors, recall, datetime.now(UTC).isoformat(timespec="seconds")))

    def _drop_empty(self) -> None:
        """Give up the shards of generations that have no vector left: each has threads, open files and room on disk."""
        with self._one_writer:
            self._finish_moving()
            for generation, shard in list(self._shards.items()):
                if shard.count():
                    continue
                # First it need not be there, then it is not found any more: a kill in between leaves an empty shard or none.
                write_contents(self.directory, dict.fromkeys(other for other in self._shards if other != generation))
                self._noted = True
                gone = shard.path.rename(shard.path.with_name(TEMPORARY_PREFIX + shard.path.name))
                # Not closed: it ends with the last search that is going on in it.
                del self._shards[generation], shard
                shutil.rmtree(gone)

    def indexes(self) -> dict[str, Index]:
        """The indexes that ``compact`` has built, by generation."""
        return {generation: shard.index for generation, shard in list(self._shards.items()) if shard.index is not None}

    def snapshot(
        self,
        path: Path,
        state: Callable[[], dict[str, Any]] = dict,
        *,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> Snapshot:
        """Copy its files, once everything is on disk; see ``GalleryStore.snapshot``."""
        with self._writing():
            for shard in self._shards.values():
                shard.flush()
            counts = {generation: shard.count() for generation, shard in self._shards.items()}
            # While it is written to, the gallery itself does not say how much it holds.
            files = GalleryFiles(self.directory, engine_version(), counts, instead={CONTENTS: counts})
            return take(files, path, state, on_progress)

    def verify(self) -> list[str]:
        """Read every item and say what is wrong, a sentence each."""
        view = self._view()
        problems = []
        shards = list(self._shards.values())
        for index, shard in enumerate(shards):
            read = 0
            try:
                for records in shard.pages(None, 1000, WHOLE):
                    read += len(records)
                    for record in records:
                        problem = problem_of(record, shard.generation, shard.dimension)
                        if problem:
                            problems.append(f"In the gallery, {problem}: delete it and index it again.")
                    here = {point_of(record): record for record in records if seen(record, view)}
                    problems += [
                        f"In the gallery, {_name(here[point_of(twin)])} is in two generations: index it again."
                        for other in shards[index + 1 :]
                        for twin in other.retrieve(list(here), with_vector=False, fields=MARKS)
                        if seen(twin, view)
                    ]
                counted = shard.count()
                if read != counted:
                    problems.append(
                        f"The gallery counts {counted} vectors of {shard.generation[:12]} and holds {read}."
                    )
            except StoredFileError as error:
                problems.append(str(error))
        return problems

    # Writing

    @contextmanager
    def _writing(self) -> Iterator[None]:
        with self._one_writer:
            self._finish_moving()
            yield

    def _admit(self, dimensions: Mapping[str, int]) -> None:
        """A shard is made when its first vector comes."""

    def _replace(self, items: Sequence[Item], held: Mapping[str, Sequence[Item]]) -> None:
        for generation, group in by_generation(items):
            makers = [{version.generation for version in held.get(item.id, ())} for item in group]
            elsewhere = [item for item, others in zip(group, makers, strict=True) if others - {generation}]
            self._write(generation, group, elsewhere, replaced=sum(generation in others for others in makers))

    def _supersede(self, items: Sequence[Item], refresh: str) -> None:
        for generation, group in by_generation(items):
            self._write(generation, group, group, refresh)

    def _add(self, versions: Sequence[Item]) -> None:
        for generation, group in by_generation(versions):
            self._write(generation, group, [])

    def _delete(self, held: Mapping[str, Sequence[Item]]) -> None:
        intent = {"ids": list(held)}
        if any(len(versions) > 1 for versions in held.values()):
            with self._moves.moving(intent):
                self._complete(intent, intended(intent))
        else:
            self._complete(intent, intended(intent))

    def _count_marked(self, refresh: str) -> int:
        conditions = [engine.Filter(must=[marked(mark, [refresh])]) for mark in MARKS]
        return sum(shard.count(having) for having in conditions for shard in list(self._shards.values()))

    def _settle_some(self, refresh: str, losing: RefreshMark) -> tuple[int, int]:
        # All losers first: an item bears the marks of both until it has one version.
        for mark in sorted(MARKS, key=lambda mark: mark != losing):
            for shard in self._shards.values():
                having = engine.Filter(must=[marked(mark, [refresh])])
                records, _ = shard.page(having, None, BATCH, ID_ALONE)
                if not records:
                    continue
                points = list(map(point_of, records))
                twins = self._elsewhere(shard, points) if mark == losing else set()
                gone = [point for point in points if point in twins]
                kept = [point for point in points if point not in twins]
                if gone:
                    self._update(shard.generation, _deletion(gone), len(gone))
                if kept:
                    unmarking = engine.UpdateOperation.delete_payload([*kept], [mark])
                    self._update(shard.generation, unmarking, len(kept))
                return len(points), len(gone)
        self._drop_empty()
        return 0, 0

    def _write(
        self,
        generation: str,
        items: list[Item],
        elsewhere: list[Item],
        refresh: str | None = None,
        *,
        replaced: int = 0,
    ) -> None:
        """Store versions of items, some of which have others elsewhere: those are deleted, or superseded by a refresh."""
        self._require_writable()
        if generation not in self._shards:
            self._shards[generation] = Shard.create(
                self.directory / generation[:16], generation, len(items[0].embedding), self.precision
            )
            self._begin_writing()
        if any(item.refresh or item.superseded for item in items):
            for shard in self._shards.values():
                shard.index_marks()
        intent = {"to": generation, "ids": [item.id for item in elsewhere]} | ({"refresh": refresh} if refresh else {})
        with self._moves.moving(intent) if elsewhere else nullcontext():
            size = sum(item.embedding.nbytes + 512 + len(str(item.metadata)) for item in items)
            self._update(generation, engine.UpdateOperation.upsert_points(list(map(new_point, items))), replaced, size)
            if elsewhere:
                self._complete(intent, intended(intent))

    def _finish_moving(self) -> None:
        """Finish a move that was interrupted."""
        intent = self._moves.interrupted()
        if intent is not None:
            self._complete(intent, self._arrived(intent) if "to" in intent else intended(intent))
            self._moves.forget()

    def _arrived(self, intent: dict[str, Any]) -> list[uuid.UUID]:
        """The points of an interrupted move that have come to where they were to go.

        A version that was there before the move bears other marks than the one that was to arrive.
        """
        target = self._shards.get(intent["to"])
        there = target.retrieve(intended(intent), with_vector=False, fields=MARKS) if target else []
        return [point_of(record) for record in there if (record.payload or {}) == _marks(intent.get("refresh"))]

    def _complete(self, intent: dict[str, Any], points: Sequence[uuid.UUID]) -> None:
        """Delete the versions that these points have elsewhere, or supersede them."""
        refresh, target = intent.get("refresh"), self._shards.get(intent.get("to", ""))
        for generation, shard in self._shards.items():
            mine = shard.holds(points) if shard is not target else []
            if mine and refresh is not None:
                # A point whose indexed payload changes leaves the index.
                marking = engine.UpdateOperation.set_payload([*mine], {"superseded": refresh})
                self._update(generation, marking, len(mine))
            elif mine:
                self._update(generation, _deletion(mine), len(mine))

    def _begin_writing(self) -> None:
        write_contents(self.directory, dict.fromkeys(self._shards))
        self._noted = True

    def _update(self, generation: str, operation: engine.UpdateOperation, changed: int = 0, size: int = 0) -> None:
        self._require_writable()
        if not self._noted:
            self._begin_writing()
        self._shards[generation].update(operation, changed, size)

    # Reading

    def _dimensions(self) -> dict[str, int]:
        return {generation: shard.dimension for generation, shard in list(self._shards.items())}

    def _held(
        self, identifiers: Sequence[str], with_embeddings: bool = True, view: View = EVERYTHING
    ) -> dict[str, list[Item]]:
        points: list[uuid.UUID] = [point_id(identifier) for identifier in identifiers]

        def ask() -> dict[str, list[Item]]:
            held: defaultdict[str, list[Item]] = defaultdict(list)
            for shard in list(self._shards.values()):
                for record in shard.retrieve(points, with_vector=with_embeddings):
                    item = item_of(record)
                    held[item.id].append(item)
            return dict(held)

        return self.at_one_moment(ask, view)

    def _counts(self, where: Filter, view: View) -> dict[str, int]:
        having = self._condition(where, view)

        def ask() -> dict[str, int]:
            return {shard.generation: shard.count(having) for shard in self._admitted(where)}

        return self.at_one_moment(ask, view)

    def _holds(self, generation: str, view: View) -> bool:
        shard = self._shards.get(generation)
        if shard is None or not shard.count():
            return False
        having = condition(NO_FILTER, view)
        return having is None or bool(shard.page(having, None, 1, ID_ALONE)[0])

    def count_by_label(self, where: Filter = NO_FILTER, *, view: View | None = None) -> dict[str, int]:
        """Return how many items each label has."""
        view = view or self._view()
        having = self._condition(where, view)
        counted = self.at_one_moment(lambda: [shard.count_by("label", having) for shard in self._admitted(where)], view)
        return dict(sum(map(Counter, counted), Counter[str]()))

    def _pages(
        self, where: Filter, view: View, after: str | None, size: int, *, with_embeddings: bool
    ) -> Iterator[list[list[Item]]]:
        windows = self._windows(where, view, after, size, PointContent(vector=with_embeddings))
        return ([list(map(item_of, records)) for records in points] for points in windows)

    def identifiers(
        self,
        where: Filter = NO_FILTER,
        *,
        batch_size: int = 10_000,
        after: str | None = None,
        view: View | None = None,
    ) -> Iterator[list[str]]:
        """The ids of all items; see ``GalleryStore.identifiers``."""
        windows = self._windows(where, view or self._view(), after, batch_size, PointContent(False, ("id",)))
        return ([identifier_of(records[0]) for records in points] for points in windows)

    def _windows(
        self,
        where: Filter,
        view: View,
        after: str | None,
        size: int,
        content: PointContent,
    ) -> Iterator[list[list[engine.Record]]]:
        """The points of the versions that are asked for, together those of one item; see ``_pages``."""
        having = self._condition(where, view)
        # Pages begin with their first point: that is the next one there could be.
        start = None if after is None else uuid.UUID(int=point_id(after).int + 1)

        def read() -> tuple[list[list[engine.Record]], uuid.UUID | None]:
            shards = self._admitted(where)
            # A shard that is newer than the counts has the margin as its share.
            parts = shares([counts[shard.generation] for shard in shards], size)
            parts_of = list(zip(shards, parts, strict=True))
            return window(parts_of, having, start, size, content)

        counts = defaultdict(int, {shard.generation: shard.count(having) for shard in self._admitted(where)})
        while True:
            points, start = self.at_one_moment(read, view)
            if points:
                yield points
            if start is None:
                return

    def _nearest(self, generation: str, queries: NDArray[np.float32], search: Search) -> list[list[Match]]:
        shard = self._shards.get(generation)
        if shard is None:
            return [[] for _ in queries]
        return shard.nearest(queries, search, self._condition(search.where, search.view))

    def _admitted(self, where: Filter) -> list[Shard]:
        shards = list(self._shards.values())
        return [shard for shard in shards if where.generations is None or shard.generation in where.generations]

    def _condition(self, where: Filter, view: View) -> engine.Filter | None:
        if where.uris is not None:
            # Few are ever asked for by URI, so that the index is made when the first one is.
            with self._one_writer:
                for shard in self._shards.values():
                    shard.index_fields(("uri",))
        return condition(where, view)

    def _elsewhere(self, shard: Shard, points: Sequence[uuid.UUID]) -> set[uuid.UUID]:
        """The points of a shard that other shards hold, too."""
        return {point for other in self._shards.values() if other is not shard for point in other.holds(points)}


def _marks(refresh: str | None) -> dict[str, str]:
    return {} if refresh is None else {"refresh": refresh}


def _deletion(points: Sequence[uuid.UUID]) -> engine.UpdateOperation:
    return engine.UpdateOperation.delete_points(list(points))


def _name(record: engine.Record) -> str:
    return repr((record.payload or {}).get("id"))
