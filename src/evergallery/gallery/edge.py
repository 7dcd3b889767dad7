"""The embedded engine: Qdrant Edge in this process, one shard per generation, so that each has its own dimension.

``contents.json`` says which generations the directory must hold and, while nobody writes, how many vectors of each: the
engine would forget some kinds of lost files in silence. ``moving.json`` exists while items move between generations.
"""

import itertools
import shutil
import threading
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import qdrant_edge as engine
from numpy.typing import NDArray

from evergallery.errors import DamagedError, InputError
from evergallery.files import TEMPORARY_PREFIX, lock, read_json, write_json
from evergallery.gallery.items import Filter, Item, Match, PutCounts, check_items, check_queries
from evergallery.gallery.points import condition as _condition
from evergallery.gallery.points import item_of as _item
from evergallery.gallery.points import payload as _payload
from evergallery.gallery.points import point_id as _point_id
from evergallery.gallery.points import problem_of
from evergallery.gallery.shard import Shard
from evergallery.gallery.store import NO_FILTER

CONTENTS = "contents.json"
MOVING = "moving.json"


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
        self._shards: dict[str, Shard] = {}
        self._writing = False
        self._one_writer = threading.RLock()
        self._opened = ExitStack()
        self._opened.enter_context(lock(directory / ".lock", "using the gallery"))
        try:
            for path in sorted(path for path in directory.iterdir() if path.is_dir()):
                if path.name.startswith(TEMPORARY_PREFIX):
                    shutil.rmtree(path)
                else:
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

    # Writing

    def put(self, items: Sequence[Item]) -> PutCounts:
        """Add or replace items; see ``GalleryStore.put``."""
        check_items(items)
        with self._one_writer:
            self._check_dimensions(items)
            self._finish_moving()
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
        points = [_point_id(identifier) for identifier in set(identifiers)]
        deleted = 0
        with self._one_writer:
            self._finish_moving()
            for generation, shard in self._shards.items():
                mine = shard.holds(points)
                if mine:
                    self._update(generation, _deletion(mine))
                deleted += len(mine)
        return deleted

    def compact(self) -> None:
        """Give back room and index what is large; see ``GalleryStore.compact``."""
        with self._one_writer:
            for shard in self._shards.values():
                shard.optimize()

    def _put_generation(self, generation: str, items: list[Item], stored: dict[str, Item]) -> None:
        if generation not in self._shards:
            self._shards[generation] = Shard.create(
                self.directory / generation[:16], generation, len(items[0].embedding)
            )
            self._begin_writing()
        moving = [item.id for item in items if item.id in stored and stored[item.id].generation != generation]
        if moving:
            # Two shards change and only each alone is atomic, so what is meant is written down first.
            write_json(self.directory / MOVING, {"to": generation, "ids": moving})
        points = []
        for item in items:
            before = stored.get(item.id)
            content = _payload(item, before.added if before else item.added)
            points.append(engine.Point(_point_id(item.id), item.embedding.tolist(), content))
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
            points = [_point_id(identifier) for identifier in intent["ids"]]
            arrived = target.holds(points)
            for generation in self._shards:
                if generation != intent["to"] and arrived:
                    self._update(generation, _deletion(arrived))
        path.unlink()

    def _update(self, generation: str, operation: engine.UpdateOperation) -> None:
        if not self._writing:
            self._begin_writing()
        self._shards[generation].update(operation)

    # Reading

    def get(self, identifier: str) -> Item | None:
        """The item of this id, or ``None``."""
        return self._retrieve([identifier]).get(identifier)

    def contains(self, identifiers: Sequence[str]) -> set[str]:
        """Which of these ids are there."""
        names = {_point_id(identifier): identifier for identifier in identifiers}
        return {names[point] for shard in self._admitted(NO_FILTER) for point in shard.holds(list(names))}

    def known_content(self, content_hashes: Sequence[str], where: Filter = NO_FILTER) -> set[str]:
        """Which of these hashes are the content of an item."""
        known = _condition(where, content_hashes)
        return {
            str((record.payload or {})["content_hash"])
            for shard in self._admitted(where)
            for records in shard.pages(known, 1000, with_vector=False, fields=["content_hash"])
            for record in records
        }

    def count(self, where: Filter = NO_FILTER) -> int:
        """How many items there are."""
        return sum(shard.count(_condition(where)) for shard in self._admitted(where))

    def count_by_generation(self) -> dict[str, int]:
        """How many items each generation has made, by fingerprint."""
        counts = {shard.generation: shard.count() for shard in self._admitted(NO_FILTER)}
        return {generation: count for generation, count in counts.items() if count}

    def count_by_label(self, where: Filter = NO_FILTER) -> dict[str, int]:
        """How many items each label has."""
        counts: Counter[str] = Counter()
        for shard in self._admitted(where):
            counts.update(shard.count_by("label", _condition(where)))
        return dict(counts)

    def iterate(
        self, where: Filter = NO_FILTER, *, batch_size: int = 1000, with_embeddings: bool = True
    ) -> Iterator[list[Item]]:
        """All items, in batches, in a fixed order."""
        for shard in self._admitted(where):
            for records in shard.pages(_condition(where), batch_size, with_vector=with_embeddings):
                yield [_item(record) for record in records]

    def search(
        self,
        queries: NDArray[np.float32],
        k: int,
        *,
        where: Filter = NO_FILTER,
        minimum_score: float | None = None,
        exact: bool = True,
    ) -> list[list[Match]]:
        """The k items with the largest cosine for each query; see ``GalleryStore.search``."""
        if k < 1:
            raise InputError(f"k is {k}: search for at least 1 item.")
        check_queries(queries)
        searched = [shard for shard in self._admitted(where) if shard.count()]
        for shard in searched:
            if queries.shape[1] != shard.dimension:
                raise InputError(
                    f"The queries have {queries.shape[1]} dimensions and the vectors of {shard.generation[:12]} have "
                    f"{shard.dimension}: they come from different embedding spaces."
                )
        found: list[list[Match]] = [[] for _ in queries]
        for shard in searched:
            more = self._search_shard(shard, queries, k, where, minimum_score, exact)
            found = [[*matches, *others] for matches, others in zip(found, more, strict=True)]
        return [sorted(matches, key=lambda match: (-match.score, match.item.id))[:k] for matches in found]

    def _search_shard(
        self,
        shard: Shard,
        queries: NDArray[np.float32],
        k: int,
        where: Filter,
        minimum_score: float | None,
        exact: bool,
    ) -> list[list[Match]]:
        def request(query: NDArray[np.float32], limit: int) -> engine.QueryRequest:
            return engine.QueryRequest(
                limit=limit,
                query=engine.Query.Nearest(query.tolist()),
                with_payload=True,
                with_vector=True,
                filter=_condition(where),
                score_threshold=threshold,
                params=engine.SearchParams(exact=exact),
            )

        # The engine leaves out what equals its threshold, and compares in float32.
        threshold = (
            None if minimum_score is None else float(np.nextafter(np.float32(minimum_score), np.float32(-np.inf)))
        )
        # One more than asked for tells whether equal scores were cut apart.
        answers = shard.query([request(query, k + 1) for query in queries])
        found = []
        for query, points in zip(queries, answers, strict=True):
            limit = k + 1
            while len(points) == limit and points[k - 1].score == points[-1].score:
                limit *= 2
                points = shard.query([request(query, limit)])[0]
            above = (point for point in points if minimum_score is None or point.score >= minimum_score)
            found.append([Match(_item(point), point.score) for point in above])
        return found

    def verify(self) -> list[str]:
        """Read every item and say what is wrong, a sentence each."""
        problems = []
        shards = self._admitted(NO_FILTER)
        for index, shard in enumerate(shards):
            seen = 0
            try:
                for records in shard.pages(None, 1000, with_vector=True):
                    seen += len(records)
                    for record in records:
                        problem = problem_of(record, shard.generation, shard.dimension)
                        if problem:
                            problems.append(f"In the gallery, {problem}: delete it and index it again.")
                    here = {_point(record): record for record in records}
                    problems += [
                        f"In the gallery, {_name(here[point])} is in two generations: index it again."
                        for other in shards[index + 1 :]
                        for point in other.holds(list(here))
                    ]
                counted = shard.count()
                if seen != counted:
                    problems.append(
                        f"The gallery counts {counted} vectors of {shard.generation[:12]} and holds {seen}."
                    )
            except DamagedError as error:
                problems.append(str(error))
        return problems

    # Inside

    def _admitted(self, where: Filter) -> list[Shard]:
        shards = list(self._shards.values())
        return [shard for shard in shards if where.generations is None or shard.generation in where.generations]

    def _retrieve(self, identifiers: Sequence[str]) -> dict[str, Item]:
        points: list[uuid.UUID] = [_point_id(identifier) for identifier in identifiers]
        items = [_item(record) for shard in self._admitted(NO_FILTER) for record in shard.retrieve(points)]
        return {item.id: item for item in items}

    def _check_dimensions(self, items: Sequence[Item]) -> None:
        expected = {shard.generation: shard.dimension for shard in self._shards.values()}
        for item in items:
            dimension = expected.setdefault(item.generation, len(item.embedding))
            if len(item.embedding) != dimension:
                raise InputError(
                    f"The embedding of {item.id!r} has {len(item.embedding)} dimensions and those of its generation "
                    f"{item.generation[:12]} have {dimension}: it was made by another generation."
                )

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


def _deletion(points: Sequence[uuid.UUID]) -> engine.UpdateOperation:
    return engine.UpdateOperation.delete_points(list(points))


def _point(record: engine.Record) -> uuid.UUID:
    return uuid.UUID(str(record.id))


def _name(record: engine.Record) -> str:
    return repr((record.payload or {}).get("id"))
