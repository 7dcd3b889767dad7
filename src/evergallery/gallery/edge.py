"""The embedded engine: Qdrant Edge in this process, one shard per generation, so that each has its own dimension.

``contents.json`` says which generations the directory must hold and, while nobody writes, how many vectors of each: the
engine would forget some kinds of lost files in silence. ``moving.json`` exists while items change in two generations at once:
only each alone is atomic, so what is meant is written down first, and finished by the next opening or the next write.

An item has one version, or two while a refresh is not settled: the old one is marked ``superseded`` by it, the new one, in
another generation's shard, bears its name as ``refresh``. A ``View`` says which of the two is seen, so that taking one in place
of the other changes nothing here.
"""

import heapq
import itertools
import shutil
import tempfile
import threading
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

import numpy as np
import qdrant_edge as engine
from numpy.typing import NDArray

from evergallery.errors import DamagedError, InputError, NotFoundError, ReadOnlyError
from evergallery.files import (
    TEMPORARY_PREFIX,
    copy_hashed,
    lock,
    read_json,
    require_room,
    shared_lock,
    sync_directory,
    write_json,
)
from evergallery.gallery.items import Filter, Item, Match, Precision, PutCounts, View, check_items, check_queries
from evergallery.gallery.points import MARKS, marked, problem_of, seen
from evergallery.gallery.points import condition as _condition
from evergallery.gallery.points import item_of as _item
from evergallery.gallery.points import payload as _payload
from evergallery.gallery.points import point_id as _point_id
from evergallery.gallery.recall import Index, measured_recall
from evergallery.gallery.shard import Shard, precision_of, search_parameters
from evergallery.gallery.store import EVERYTHING, NO_FILTER
from evergallery.gallery.versions import (
    awaited_by,
    best_of,
    by_generation,
    changed_by,
    check_dimensions,
    check_versions,
    place,
    rounded,
    seen_of,
)
from evergallery.gallery.windows import shares, window

CONTENTS = "contents.json"
MOVING = "moving.json"
PRECISION = "precision.json"
# Large enough that forcing a batch to disk is a small part of it.
BATCH = 1000
# A search that has met so many moves waits for the writer instead.
HASTY_READS = 3

Answer = TypeVar("Answer")


class EdgeStore:
    """A gallery in a directory; see ``GalleryStore`` for what its methods promise.

    Args:
        directory: made where it is missing.
        view: asked by every reading method at its start which versions are seen.
        precision: that vectors are kept in; by default as the gallery has it, ``float32`` for a new one.

    Raises:
        InputError: the gallery keeps its vectors in another precision.
        BusyError: another process has it open; the message names that process.
        DamagedError: a file is missing or unreadable.
    """

    def __init__(
        self, directory: Path, view: Callable[[], View] = lambda: EVERYTHING, precision: Precision | None = None
    ) -> None:
        if not directory.is_dir():
            directory.mkdir(parents=True)
        self._opened = ExitStack()
        self._read_only: str | None = None
        try:
            self._opened.enter_context(lock(directory / ".lock", "using the gallery"))
        except ReadOnlyError as error:
            directory, self._read_only = self._copied(directory), str(error)
        self.directory = directory
        self._view = view
        self._shards: dict[str, Shard] = {}
        self._writing = False
        self._one_writer = threading.RLock()
        # Odd while items move between shards.
        self._moves = 0
        try:
            self.precision = self._kept_precision(precision)
            for path in _shard_directories(directory):
                shard = Shard(path)
                self._shards[shard.generation] = shard
            self._check_contents()
            self._finish_moving()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Release it for other processes."""
        with self._one_writer, self._opened:
            try:
                if self._writing:
                    self._write_contents({name: shard.count() for name, shard in self._shards.items()})
                    self._writing = False
            finally:
                for shard in self._shards.values():
                    shard.close()
                self._shards.clear()

    def __enter__(self) -> "EdgeStore":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _copied(self, directory: Path) -> Path:
        """A copy among the temporary files, which goes with this store: the engine writes to what it reads."""
        copy = Path(self._opened.enter_context(tempfile.TemporaryDirectory(prefix="evergallery-")))
        with shared_lock(directory / ".lock"):
            files = [path for path in directory.rglob("*") if path.is_file() and path.name != ".lock"]
            require_room(
                copy, sum(512 * path.stat().st_blocks for path in files), "a copy of the gallery, which is read-only,"
            )
            for path in files:
                target = copy / path.relative_to(directory)
                target.parent.mkdir(parents=True, exist_ok=True)
                copy_hashed(path, target)
        return copy

    def _require_writable(self) -> None:
        if self._read_only is not None:
            raise ReadOnlyError(self._read_only)
        if not self.directory.is_dir():
            raise NotFoundError(f"The gallery {self.directory} is gone: put its directory back, and open it again.")

    # Writing

    def put(self, items: Sequence[Item], *, relabel: bool = False) -> PutCounts:
        """Add or replace items; see ``GalleryStore.put``."""
        check_items(items)
        items = rounded(items, self.precision)
        with self._one_writer:
            self._check_dimensions(items)
            self._finish_moving()
            versions = self._versions([item.id for item in items])
            changed, counts = changed_by(items, versions, self._view(), relabel)
            for generation, group in by_generation(changed):
                makers = [{one.generation for one in versions[item.id]} for item in group]
                elsewhere = [item for item, held in zip(group, makers, strict=True) if held - {generation}]
                self._write(generation, group, elsewhere, replaced=sum(generation in held for held in makers))
        return counts

    def refresh(self, items: Sequence[Item], refresh: str) -> int:
        """Store newer versions beside the ones that are there; see ``GalleryStore.refresh``."""
        check_items(items)
        with self._one_writer:
            self._check_dimensions(items)
            self._finish_moving()
            versions = self._versions([item.id for item in items], with_embeddings=False)
            awaited = awaited_by(refresh, items, versions, self._view())
            for generation, group in by_generation(awaited):
                self._write(generation, group, group, refresh)
        return len(awaited)

    def settle(
        self,
        refresh: str,
        keep: Literal["new", "old"],
        *,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> int:
        """Delete one of the two versions of every item of a refresh for good; see ``GalleryStore.settle``."""
        losing, winning = ("superseded", "refresh") if keep == "new" else ("refresh", "superseded")
        marks = [(mark, engine.Filter(must=[marked(mark, [refresh])])) for mark in (losing, winning)]
        total = sum(shard.count(condition) for _, condition in marks for shard in self._admitted(NO_FILTER))
        deleted = done = 0
        # All losers first: an item bears the marks of both until it has one version.
        for mark, condition in marks:
            for shard in self._admitted(NO_FILTER):
                while True:
                    with self._one_writer:
                        self._finish_moving()
                        records, _ = shard.page(condition, None, BATCH, with_vector=False, fields=[])
                        if not records:
                            break
                        points = [_point(record) for record in records]
                        twins = self._elsewhere(shard, points) if mark == losing else set()
                        gone = [point for point in points if point in twins]
                        kept = [point for point in points if point not in twins]
                        if gone:
                            self._update(shard.generation, _deletion(gone), len(gone))
                        if kept:
                            unmarking = engine.UpdateOperation.delete_payload([*kept], [mark])
                            self._update(shard.generation, unmarking, len(kept))
                    deleted += len(gone)
                    done += len(points)
                    if on_progress is not None:
                        on_progress(done, max(done, total))
        self._drop_empty()
        return deleted

    def delete(self, identifiers: Sequence[str]) -> int:
        """Delete items; returns how many of them were there."""
        with self._one_writer:
            self._finish_moving()
            versions = self._versions(identifiers, with_embeddings=False)
            deleted = sum(seen_of(held, self._view()) is not None for held in versions.values())
            if any(len(held) > 1 for held in versions.values()):
                with self._moving({"ids": list(versions)}):
                    self._finish_moving()
            elif versions:
                self._complete({"ids": list(versions)})
        return deleted

    def put_versions(self, versions: Sequence[Item]) -> None:
        """Store versions as they are; see ``GalleryStore.put_versions``."""
        check_versions(versions)
        with self._one_writer:
            self._check_dimensions(versions)
            self._finish_moving()
            for generation, group in by_generation(versions):
                self._write(generation, group, [])

    def compact(self) -> None:
        """Give back room and index what is large; see ``GalleryStore.compact``."""
        self._require_writable()
        self._drop_empty()
        with self._one_writer:
            for generation, shard in self._shards.items():
                if shard.is_large():
                    # The engine lets no other thread run while it works, for minutes then.
                    self._shards[generation] = compacted = shard.compacted(_next_directory(shard.path))
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
                self._write_contents(dict.fromkeys(other for other in self._shards if other != generation))
                self._writing = True
                gone = shard.path.rename(shard.path.with_name(TEMPORARY_PREFIX + shard.path.name))
                # Not closed: it ends with the last search that is going on in it.
                del self._shards[generation], shard
                shutil.rmtree(gone)

    def indexes(self) -> dict[str, Index]:
        """The indexes that ``compact`` has built, by generation."""
        return {generation: shard.index for generation, shard in list(self._shards.items()) if shard.index is not None}

    @contextmanager
    def at_rest(self) -> Iterator[dict[str, int]]:
        """Hold back who writes, with everything on disk: meanwhile the files in ``directory`` are a whole gallery.

        Yields how many vectors there are of each generation.
        """
        with self._one_writer:
            self._finish_moving()
            for shard in self._shards.values():
                shard.flush()
            yield {generation: shard.count() for generation, shard in self._shards.items()}

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
        points = [
            engine.Point(_point_id(item.id), item.embedding.tolist(), _payload(item, item.added)) for item in items
        ]
        intent = {"to": generation, "ids": [item.id for item in elsewhere]} | ({"refresh": refresh} if refresh else {})
        with self._moving(intent) if elsewhere else nullcontext():
            size = sum(item.embedding.nbytes + 512 + len(str(item.metadata)) for item in items)
            self._update(generation, engine.UpdateOperation.upsert_points(points), replaced, size)
            if elsewhere:
                self._finish_moving()

    @contextmanager
    def _moving(self, intent: dict[str, Any]) -> Iterator[None]:
        write_json(self.directory / MOVING, intent)
        self._moves += 1
        try:
            yield
        finally:
            self._moves += 1

    def _finish_moving(self) -> None:
        path = self.directory / MOVING
        if path.is_file():
            self._complete(read_json(path))
            path.unlink()
            # Come back after a loss of power, it would undo what was written since.
            sync_directory(self.directory)

    def _complete(self, intent: dict[str, Any]) -> None:
        points: list[uuid.UUID] = [_point_id(identifier) for identifier in intent["ids"]]
        refresh, target = intent.get("refresh"), self._shards.get(intent.get("to", ""))
        if "to" in intent:
            # A version that was there before the move bears other marks than the one that was to arrive.
            arrived = target.retrieve(points, with_vector=False, fields=MARKS) if target else []
            points = [_point(record) for record in arrived if (record.payload or {}) == _marks(refresh)]
        for generation, shard in self._shards.items():
            mine = shard.holds(points) if shard is not target else []
            if mine and refresh is not None:
                # A point whose indexed payload changes leaves the index.
                marking = engine.UpdateOperation.set_payload([*mine], {"superseded": refresh})
                self._update(generation, marking, len(mine))
            elif mine:
                self._update(generation, _deletion(mine), len(mine))

    def _update(self, generation: str, operation: engine.UpdateOperation, changed: int = 0, size: int = 0) -> None:
        self._require_writable()
        if not self._writing:
            self._begin_writing()
        self._shards[generation].update(operation, changed, size)

    # Reading

    def get(self, identifier: str, *, view: View | None = None) -> Item | None:
        """The item of this id, or ``None``."""
        view = view or self._view()
        return self._read(lambda: seen_of(self._retrieve([identifier]), view))

    def get_many(
        self, identifiers: Sequence[str], *, with_embeddings: bool = True, view: View | None = None
    ) -> dict[str, Item]:
        """The items of these ids that are there, by id."""
        view = view or self._view()
        versions = self._read(lambda: self._versions(identifiers, with_embeddings))
        return {name: one for name, held in versions.items() if (one := seen_of(held, view))}

    def contains(self, identifiers: Sequence[str], *, view: View | None = None) -> set[str]:
        """Which of these ids are there."""
        view = view or self._view()
        names = {_point_id(identifier): identifier for identifier in identifiers}
        return self._read(
            lambda: {
                names[_point(record)]
                for shard in self._admitted(NO_FILTER)
                for record in shard.retrieve(list(names), with_vector=False, fields=MARKS)
                if seen(record, view)
            }
        )

    def known_content(
        self, content_hashes: Sequence[str], where: Filter = NO_FILTER, *, view: View | None = None
    ) -> set[str]:
        """Which of these hashes are the content of an item."""
        known = _condition(where, view or self._view(), content_hashes)
        return self._read(
            lambda: {
                str((record.payload or {})["content_hash"])
                for shard in self._admitted(where)
                for records in shard.pages(known, 1000, with_vector=False, fields=["content_hash"])
                for record in records
            }
        )

    def count(self, where: Filter = NO_FILTER, *, view: View | None = None) -> int:
        """How many items there are."""
        condition = _condition(where, view or self._view())
        return self._read(lambda: sum(shard.count(condition) for shard in self._admitted(where)))

    def generations(self, *, view: View | None = None) -> set[str]:
        """Which generations have made an item that is seen."""
        condition = _condition(NO_FILTER, view or self._view())
        return self._read(
            lambda: {
                shard.generation
                for shard in self._admitted(NO_FILTER)
                if shard.page(condition, None, 1, with_vector=False, fields=[])[0]
            }
        )

    def count_by_generation(self, *, view: View | None = None) -> dict[str, int]:
        """How many items each generation has made, by fingerprint."""
        condition = _condition(NO_FILTER, view or self._view())
        counts = self._read(lambda: {one.generation: one.count(condition) for one in self._admitted(NO_FILTER)})
        return {generation: count for generation, count in counts.items() if count}

    def count_by_label(self, where: Filter = NO_FILTER, *, view: View | None = None) -> dict[str, int]:
        """How many items each label has."""
        condition = _condition(where, view or self._view())
        counted = self._read(lambda: [shard.count_by("label", condition) for shard in self._admitted(where)])
        return dict(sum(map(Counter, counted), Counter[str]()))

    def iterate(
        self,
        where: Filter = NO_FILTER,
        *,
        batch_size: int = 1000,
        with_embeddings: bool = True,
        after: str | None = None,
        view: View | None = None,
    ) -> Iterator[list[Item]]:
        """All items, in batches, in the order of their points."""
        pages = self._pages(where, view or self._view(), after, batch_size, with_vector=with_embeddings)
        return ([_item(record) for record in records] for records in pages)

    def identifiers(
        self,
        where: Filter = NO_FILTER,
        *,
        batch_size: int = 10_000,
        after: str | None = None,
        view: View | None = None,
    ) -> Iterator[list[str]]:
        """The ids of all items, in batches, in the order of ``iterate``."""
        fields = ["id", *MARKS]
        pages = self._pages(where, view or self._view(), after, batch_size, with_vector=False, fields=fields)
        return ([str((record.payload or {})["id"]) for record in records] for records in pages)

    def versions(self, *, batch_size: int = 1000, after: str | None = None) -> Iterator[list[Item]]:
        """Every version of every item; see ``GalleryStore.versions``."""
        start = None if after is None else _following(_point_id(after))
        streams = [_one_by_one(shard, start, batch_size) for shard in self._admitted(NO_FILTER)]
        merged = heapq.merge(*streams, key=place)
        items = itertools.groupby(merged, key=lambda one: one.id)
        while batch := [one for _, held in itertools.islice(items, batch_size) for one in held]:
            yield batch

    def _pages(
        self,
        where: Filter,
        view: View,
        after: str | None,
        size: int,
        *,
        with_vector: bool,
        fields: Sequence[str] | None = None,
    ) -> Iterator[list[engine.Record]]:
        condition = _condition(where, view)
        start = None if after is None else _following(_point_id(after))

        def read() -> tuple[list[engine.Record], uuid.UUID | None]:
            shards = self._admitted(where)
            # A shard that is newer than the counts has the margin as its share.
            parts = shares([counts[shard.generation] for shard in shards], size)
            return window(
                list(zip(shards, parts, strict=True)), condition, start, size, with_vector=with_vector, fields=fields
            )

        counts = defaultdict(int, {shard.generation: shard.count(condition) for shard in self._admitted(where)})
        while True:
            records, start = self._read(read)
            if records:
                yield records
            if start is None:
                return

    def search(
        self,
        queries: NDArray[np.float32],
        k: int,
        *,
        where: Filter = NO_FILTER,
        minimum_score: float | None = None,
        exact: bool | None = True,
        with_embeddings: bool = False,
        view: View | None = None,
    ) -> list[list[Match]]:
        """The k items with the largest cosine for each query; see ``GalleryStore.search``."""
        check_queries(queries, k)
        view = view or self._view()
        return self._read(lambda: self._search(queries, k, where, minimum_score, exact, with_embeddings, view))

    def _search(
        self,
        queries: NDArray[np.float32],
        k: int,
        where: Filter,
        minimum_score: float | None,
        exact: bool | None,
        with_embeddings: bool,
        view: View,
    ) -> list[list[Match]]:
        condition = _condition(where, view)
        found: list[list[Match]] = [[] for _ in queries]
        for shard in self._admitted(where):
            if queries.shape[1] == shard.dimension:
                # The recall of an index is measured without a filter, and holds without one.
                way = condition is not None or not shard.index_serves if exact is None else exact
                more = self._search_shard(shard, queries, k, condition, minimum_score, way, with_embeddings)
                found = [[*matches, *others] for matches, others in zip(found, more, strict=True)]
            elif shard.count() and shard.page(_condition(NO_FILTER, view), None, 1, with_vector=False, fields=[])[0]:
                raise InputError(
                    f"The queries have {queries.shape[1]} dimensions and the vectors of {shard.generation[:12]} have "
                    f"{shard.dimension}: they come from different embedding spaces."
                )
        return [best_of(matches)[:k] for matches in found]

    def _search_shard(
        self,
        shard: Shard,
        queries: NDArray[np.float32],
        k: int,
        condition: engine.Filter | None,
        minimum_score: float | None,
        exact: bool,
        with_embeddings: bool,
    ) -> list[list[Match]]:
        def request(query: NDArray[np.float32], limit: int) -> engine.QueryRequest:
            return engine.QueryRequest(
                limit=limit,
                query=engine.Query.Nearest(query.tolist()),
                with_payload=True,
                with_vector=with_embeddings,
                filter=condition,
                score_threshold=threshold,
                params=parameters,
            )

        parameters = search_parameters(exact, shard.precision)
        # The engine leaves out what equals its threshold, and compares in float32.
        threshold = (
            None if minimum_score is None else float(np.nextafter(np.float32(minimum_score), np.float32(-np.inf)))
        )
        # One more than asked for tells whether equal scores were cut apart; an index may have missed some of them anyway.
        beyond = 1 if exact else 0
        answers = shard.query([request(query, k + beyond) for query in queries])
        found = []
        for query, points in zip(queries, answers, strict=True):
            limit = k + 1
            while exact and len(points) == limit and points[k - 1].score == points[-1].score:
                limit *= 2
                points = shard.query([request(query, limit)])[0]
            # Whole only where equal scores have to be put in order.
            best = points if limit > k + 1 else points[:k]
            found.append(
                [
                    Match(_item(point), point.score)
                    for point in best
                    if minimum_score is None or point.score >= minimum_score
                ]
            )
        return found

    def at_one_moment(self, ask: Callable[[], Answer]) -> Answer:
        """Several questions as of one moment; see ``GalleryStore.at_one_moment``."""
        return self._read(ask)

    def verify(self) -> list[str]:
        """Read every item and say what is wrong, a sentence each."""
        view = self._view()
        problems = []
        shards = self._admitted(NO_FILTER)
        for index, shard in enumerate(shards):
            read = 0
            try:
                for records in shard.pages(None, 1000, with_vector=True):
                    read += len(records)
                    for record in records:
                        problem = problem_of(record, shard.generation, shard.dimension)
                        if problem:
                            problems.append(f"In the gallery, {problem}: delete it and index it again.")
                    here = {_point(record): record for record in records if seen(record, view)}
                    problems += [
                        f"In the gallery, {_name(here[_point(twin)])} is in two generations: index it again."
                        for other in shards[index + 1 :]
                        for twin in other.retrieve(list(here), with_vector=False, fields=MARKS)
                        if seen(twin, view)
                    ]
                counted = shard.count()
                if read != counted:
                    problems.append(
                        f"The gallery counts {counted} vectors of {shard.generation[:12]} and holds {read}."
                    )
            except DamagedError as error:
                problems.append(str(error))
        return problems

    # Inside

    def _admitted(self, where: Filter) -> list[Shard]:
        shards = list(self._shards.values())
        if where.uris is not None:
            # Few are ever asked for by URI, so that the index is made when the first one is.
            with self._one_writer:
                for shard in shards:
                    shard.index_fields(("uri",))
        return [shard for shard in shards if where.generations is None or shard.generation in where.generations]

    def _read(self, ask: Callable[[], Answer]) -> Answer:
        """Ask all shards as they are at one moment as far as moves go: an item that moves is in none twice, and in one."""
        for _ in range(HASTY_READS):
            moves = self._moves
            answer = ask()
            if moves == self._moves and moves % 2 == 0:
                return answer
        with self._one_writer:
            return ask()

    def _retrieve(self, identifiers: Sequence[str], with_embeddings: bool = True) -> list[Item]:
        """Every version of these items."""
        points: list[uuid.UUID] = [_point_id(identifier) for identifier in identifiers]
        shards = self._admitted(NO_FILTER)
        return [_item(record) for shard in shards for record in shard.retrieve(points, with_vector=with_embeddings)]

    def _versions(self, identifiers: Sequence[str], with_embeddings: bool = True) -> defaultdict[str, list[Item]]:
        versions = defaultdict(list)
        for one in self._retrieve(identifiers, with_embeddings):
            versions[one.id].append(one)
        return versions

    def _elsewhere(self, shard: Shard, points: Sequence[uuid.UUID]) -> set[uuid.UUID]:
        """Which of these points other shards hold too."""
        return {point for other in self._shards.values() if other is not shard for point in other.holds(points)}

    def _check_dimensions(self, items: Sequence[Item]) -> None:
        check_dimensions(items, {shard.generation: shard.dimension for shard in self._shards.values()})

    def _kept_precision(self, asked: Precision | None) -> Precision:
        path = self.directory / PRECISION
        if asked is not None and asked not in get_args(Precision):
            raise InputError(f"There is no precision {asked!r}: give {', '.join(get_args(Precision))}.")
        kept = precision_of(read_json(path), path) if path.is_file() else "float32"
        if asked is not None and asked != kept:
            if path.is_file() or any(entry.is_dir() for entry in self.directory.iterdir()):
                raise InputError(
                    f"The gallery {self.directory} keeps its vectors in {kept}, not {asked}: open it as it is, or copy it to "
                    f"a new one of {asked}."
                )
            write_json(path, {"precision": asked})
        return asked or kept

    def _begin_writing(self) -> None:
        self._write_contents(dict.fromkeys(self._shards))
        self._writing = True

    def _write_contents(self, counts: dict[str, int | None]) -> None:
        write_json(self.directory / CONTENTS, counts)

    def _check_contents(self) -> None:
        path = self.directory / CONTENTS
        counts: dict[str, int | None] = read_json(path) if path.is_file() else {}
        for generation, count in counts.items():
            held = self._shards[generation].count() if generation in self._shards else None
            if held is None or count not in (None, held):
                raise DamagedError(
                    f"The gallery {self.directory} has lost vectors of {generation[:12]} ({held or 0} of "
                    f"{'some' if count is None else count} are left): restore it from a backup, or delete {path} to go on "
                    f"with what is left."
                )


def _shard_directories(directory: Path) -> list[Path]:
    """Those of the shards, after what a kill has left is deleted: of two of one generation the compacted one is whole."""
    newest: dict[str, Path] = {}
    for path in sorted((path for path in directory.iterdir() if path.is_dir()), key=_number):
        if path.name.startswith(TEMPORARY_PREFIX):
            shutil.rmtree(path)
            continue
        generation = path.name.partition("-")[0]
        if generation in newest:
            shutil.rmtree(newest[generation])
        newest[generation] = path
    return sorted(newest.values())


def _number(path: Path) -> int:
    """How many times a shard was compacted into a new directory, and one."""
    number = path.name.partition("-")[2]
    return int(number) if number.isdigit() else 1


def _next_directory(path: Path) -> Path:
    return path.with_name(f"{path.name.partition('-')[0]}-{_number(path) + 1}")


def _marks(refresh: str | None) -> dict[str, str]:
    return {} if refresh is None else {"refresh": refresh}


def _deletion(points: Sequence[uuid.UUID]) -> engine.UpdateOperation:
    return engine.UpdateOperation.delete_points(list(points))


def _point(record: engine.Record) -> uuid.UUID:
    return uuid.UUID(str(record.id))


def _one_by_one(shard: Shard, start: uuid.UUID | None, size: int) -> Iterator[Item]:
    while True:
        records, start = shard.page(None, start, size, with_vector=True)
        yield from map(_item, records)
        if start is None:
            return


def _following(point: uuid.UUID) -> uuid.UUID:
    """The next point there could be: pages begin with their first point."""
    return uuid.UUID(int=point.int + 1)


def _name(record: engine.Record) -> str:
    return repr((record.payload or {}).get("id"))
