"""A gallery over a collection of Qdrant that somebody else keeps.

Beside it lies a collection of ours, whose points are the items: each says what theirs says of itself, with digests, and has our
vectors of it. Its description of the version that they have has no vector here; that is read where it is. So theirs is asked for
its vectors alone, by a key that need not be allowed to write.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evergallery.data.unit_vectors import unit_rows
from evergallery.errors import RefusedError
from evergallery.gallery.adopted import EXAMPLES, AdoptedCollection, Changes, Rows
from evergallery.gallery.engine import RefreshMark
from evergallery.gallery.items import EVERYTHING, Filter, Item, Match, Precision, Search, View, check_items, point_id
from evergallery.gallery.qdrant.client import explained
from evergallery.gallery.qdrant.collection import Note, Source, SourceCollection, notes_of
from evergallery.gallery.qdrant.points import condition, described, is_asked, marked_by, unmarked, versions_of
from evergallery.gallery.qdrant.store import ADOPTED, QdrantStore
from evergallery.gallery.store import BATCH
from evergallery.gallery.versions import problem_of
from evergallery.watching import SILENT, Watcher

NAMED_AT_ONCE = 10_000
"""Up to so many items that a filter admits are named to their collection; of more, what it finds is looked through."""
FIRST_LIMIT = 64


class AdoptedQdrantStore(QdrantStore, AdoptedCollection):
    """The gallery that ``adopt`` makes; see ``GalleryStore`` and ``AdoptedCollection`` for what its methods promise.

    Points that were deleted in their collection are found and listed no more; counts have them until they are taken up.
    """

    def __init__(self, url: str, view: Callable[[], View] = lambda: EVERYTHING) -> None:
        super().__init__(url, view, create=False)
        with explained(self.url):
            about = self._client.get_collection(self._collection).config.metadata or {}
        known = json.loads(about[ADOPTED])
        self._source = Source(**{**known, "metadata": tuple(known["metadata"])})
        self._theirs = SourceCollection(self._client, self._source)

    @property
    def collection(self) -> str:
        """Return what is adopted, in words."""
        return str(self._source)

    @property
    def described(self) -> str:
        """Return what is read, exactly."""
        return self._source.described

    @property
    def generation(self) -> str:
        """Fingerprint of the generation whose vectors the collection has."""
        return self._source.generation

    def refuse_items(self) -> None:
        """Refuse to add, replace or delete items, which are the collection's."""
        raise RefusedError(
            f"The items of this gallery are the points of {self._source}, which is only read: change them there, then run  "
            f"evergallery adopt  to take up what has changed."
        )

    # What has changed

    def changes(self) -> Changes:
        """Return what has become of the points since they were last taken up; writes nothing."""
        return self._take_up(SILENT, None)

    def reconcile(self, watcher: Watcher, *, behind: str | None = None, hidden: bool = False) -> Changes:
        """Take up what has changed; see ``AdoptedCollection``."""

        def write(notes: Sequence[Note], known: Mapping[str, Any]) -> None:
            with self._writing():
                self._note(notes, known, behind, hidden)

        return self._take_up(watcher, write)

    def _take_up(self, watcher: Watcher, write: Callable[[Sequence[Note], Mapping[str, Any]], None] | None) -> Changes:
        """Compare every point with its note, and write the notes of those that have changed where that is asked for."""
        found: dict[str, list[str]] = {"added": [], "changed": [], "gone": []}
        unusable: dict[str, list[str]] = {}
        rows = dropped = done = 0
        with explained(self.url):
            total = self._theirs.count()
            for records in self._theirs.batches():
                notes, bad = notes_of(records, self._source)
                for reason, identifier in bad:
                    unusable.setdefault(reason, []).append(identifier)
                rows += len(notes)
                known = self._payloads([note.version.id for note in notes])
                pending = []
                for note in notes:
                    before = known.get(note.version.id)
                    if before is None:
                        found["added"].append(note.version.id)
                    elif not note.has_picture_of(before):
                        found["changed"].append(note.version.id)
                        dropped += len(self._our_versions(before))
                    elif before["said"] != note.said:
                        found["changed"].append(note.version.id)
                    else:
                        continue
                    pending.append(note)
                if write is not None and pending:
                    write(pending, known)
                done += len(records)
                watcher.counted("taking up points", done, max(done, total))
            for payloads in self._notes_without_points({identifier for ids in unusable.values() for identifier in ids}):
                found["gone"] += [payload["id"] for payload in payloads]
                dropped += sum(len(self._our_versions(payload)) for payload in payloads)
                if write is not None:
                    with self._writing():
                        self._delete({payload["id"]: () for payload in payloads})
        some = {name: _rows(ids) for name, ids in found.items()}
        return Changes(rows, dropped=dropped, unusable={name: _rows(ids) for name, ids in unusable.items()}, **some)

    def _our_versions(self, payload: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        """Return what a note says of versions of ours."""
        return [version for version in payload["versions"] if version["generation"] != self._source.generation]

    def _notes_without_points(self, unusable: set[str]) -> Iterator[list[dict[str, Any]]]:
        """Payloads of notes whose point is not there, or cannot be used."""
        start: Any = None
        while True:
            records, following = self._client.scroll(self._collection, limit=BATCH, offset=start)
            payloads = [record.payload for record in records if record.payload]
            keys = [payload["key"] for payload in payloads]
            there = {record.id for record in self._theirs.retrieve(keys, vectors=False)}
            gone = [payload for payload in payloads if payload["key"] not in there or payload["id"] in unusable]
            if gone:
                yield gone
            if following is None:
                return
            start = following

    def _payloads(self, identifiers: Sequence[str]) -> dict[str, Any]:
        """The notes of items, by id."""
        points = [str(point_id(identifier)) for identifier in identifiers]
        records = self._client.retrieve(self._collection, points) if points else []
        return {record.payload["id"]: record.payload for record in records if record.payload}

    def _note(self, notes: Sequence[Note], known: Mapping[str, Any], behind: str | None, hidden: bool) -> None:
        """Write down points in place of what was noted of them, and give up vectors of earlier pictures."""
        from qdrant_client import models

        time = datetime.now(UTC).isoformat(timespec="seconds")
        identifiers = [note.version.id for note in notes]
        same = [
            str(point_id(identifier))
            for identifier, note in zip(identifiers, notes, strict=True)
            if identifier in known and note.has_picture_of(known[identifier])
        ]
        records = self._client.retrieve(self._collection, same, with_vectors=True)
        vectors = {record.payload["id"]: versions_of(record) for record in records if record.payload}
        points = []
        for note in notes:
            before = known.get(note.version.id)
            version = replace(note.version, added=before["theirs"]["added"] if before else time)
            versions = [replace(version, superseded=behind)] if not hidden else []
            if note.version.id in vectors:
                versions = [
                    replace(
                        version,
                        generation=stored.generation,
                        embedding=stored.embedding,
                        refresh=stored.refresh,
                        superseded=stored.superseded,
                    )
                    for stored in vectors[note.version.id]
                ]
            content = {
                "id": version.id,
                "key": note.key,
                "said": note.said,
                "pictured": note.pictured,
                "sketch": note.sketch,
                "theirs": described(version),
                "versions": [described(stored) for stored in versions],
            }
            points.append(models.PointStruct(id=str(point_id(version.id)), vector=_vectors(versions), payload=content))
        self._client.upsert(self._collection, points)

    # What waits

    def waiting(self) -> Iterator[list[Item]]:
        """Items that no view sees, with the collection's own vectors."""
        start: Any = None
        while True:
            with explained(self.url):
                records, start = self._client.scroll(self._collection, limit=BATCH, offset=start)
                payloads = [record.payload for record in records if record.payload and self._is_waiting(record.payload)]
                theirs = [_item(payload, payload["theirs"]) for payload in payloads]
                marks = {payload["id"]: _mark(payload) for payload in payloads}
                keys = {payload["id"]: payload["key"] for payload in payloads}
                found = self._with_vectors([[item] for item in theirs], keys)
            items = [replace(item, superseded=marks[item.id]) for (item,) in found]
            if items:
                yield items
            if start is None:
                return

    def _is_waiting(self, payload: Mapping[str, Any]) -> bool:
        return not self._our_versions(payload) and (not payload["versions"] or _mark(payload) is not None)

    def end_waiting(self, items: Sequence[Item]) -> None:
        """Store newer vectors of items that have waited."""
        check_items(items)
        with self._writing():
            self._make_room(items)
            known = self._payloads([item.id for item in items])
            ending = []
            for item in items:
                payload = known.get(item.id)
                if payload is not None and self._is_waiting(payload):
                    old = [_item(payload, description) for description in payload["versions"]]
                    ending.append([*old, replace(item, refresh=_mark(payload), superseded=None)])
            self._store(ending)

    # Writing

    def _store(self, items: Sequence[Sequence[Item]]) -> None:
        from qdrant_client import models

        known = self._payloads([versions[0].id for versions in items])
        points = [
            models.PointStruct(
                id=str(point_id(identifier)),
                vector=_vectors([version for version in versions if version.generation != self._source.generation]),
                payload={**known[identifier], "versions": [described(version) for version in versions]},
            )
            for versions in items
            if (identifier := versions[0].id) in known
        ]
        if points:
            self._client.upsert(self._collection, points)

    def _settle_some(self, refresh: str, losing: RefreshMark) -> tuple[int, int]:
        from qdrant_client import models

        records, _ = self._client.scroll(self._collection, marked_by(refresh), limit=BATCH, with_vectors=True)
        gone, points = 0, []
        for record in records:
            versions = versions_of(record)
            kept = [version for version in versions if getattr(version, losing) != refresh]
            if not kept and versions[0].generation != self._source.generation:
                kept = versions
            gone += len(versions) - len(kept)
            kept = [unmarked(version, refresh) for version in kept]
            points.append(
                models.PointStruct(
                    id=record.id,
                    vector=_vectors([version for version in kept if version.generation != self._source.generation]),
                    payload={**(record.payload or {}), "versions": [described(version) for version in kept]},
                )
            )
        if points:
            self._client.upsert(self._collection, points)
        return len(records), gone

    def newer(self) -> dict[str, int]:
        """Return how many vectors of ours there are, by generation, whatever has become of the collection."""
        counts = self._counts(Filter(), EVERYTHING)
        return {name: count for name, count in counts.items() if count and name != self._source.generation}

    # Reading

    def _dimensions(self) -> dict[str, int]:
        return dict(sorted({**super()._dimensions(), self._source.generation: self._source.dimension}.items()))

    def _present(self, records: Sequence[Any], with_embeddings: bool) -> list[list[Item]]:
        """The versions of items whose points are in their collection, with its vectors where they are asked for."""
        keys = {record.payload["id"]: record.payload["key"] for record in records}
        versions = [made for record in records if (made := versions_of(record))]
        if with_embeddings:
            return self._with_vectors(versions, keys)
        there = {record.id for record in self._theirs.retrieve(keys.values(), vectors=False)}
        return [stored for stored in versions if keys[stored[0].id] in there]

    def _with_vectors(self, items: Sequence[list[Item]], keys: Mapping[str, int | str]) -> list[list[Item]]:
        records = self._theirs.retrieve(keys.values(), vectors=True)
        vectors = {record.id: vector for record in records if (vector := self._source.vector_of(record)) is not None}
        found = []
        for versions in items:
            vector = vectors.get(keys[versions[0].id])
            if vector is None or len(vector) != self._source.dimension or not vector.any():
                continue
            found.append(
                [
                    replace(version, embedding=unit_rows(vector[None])[0])
                    if version.generation == self._source.generation
                    else version
                    for version in versions
                ]
            )
        return found

    def _nearest(self, generation: str, queries: NDArray[np.float32], search: Search) -> list[list[Match]]:
        if generation == self._source.generation:
            where = replace(search.where, generations=(generation,))
            return self._nearest_of_theirs(queries, replace(search, where=where))
        gone = 0
        while True:
            found = super()._nearest(generation, queries, replace(search, k=search.k + gone))
            there = self._held(list({match.item.id for matches in found for match in matches}), with_embeddings=False)
            missing = max((sum(match.item.id not in there for match in matches) for matches in found), default=0)
            if missing <= gone:
                return [[match for match in matches if match.item.id in there] for matches in found]
            gone = 2 * missing

    def _nearest_of_theirs(self, queries: NDArray[np.float32], search: Search) -> list[list[Match]]:
        """Candidates of their collection, looked through until k of them are asked for and seen."""
        named = self._named(search.where, search.view) if search.where.narrows else None
        ask = partial(self._theirs.nearest, named=named, exact=search.exact, vectors=search.with_embeddings)
        k, least, found = search.k, search.minimum_score, []
        for query in queries:
            limit = max(FIRST_LIMIT, k + 1)
            while True:
                points = ask(query, limit)
                matches = self._matches(points, search.where, search.view)
                is_all = len(points) < limit
                if (
                    is_all
                    or (len(matches) > k and matches[k - 1].score > matches[-1].score)
                    or (least is not None and points[-1].score < least)
                ):
                    break
                limit *= 4
            found.append(matches)
        return found

    def _named(self, where: Filter, view: View) -> Any:
        """A filter that names the points of theirs that a condition admits; ``None`` where they are too many."""
        from qdrant_client import models

        having = condition(where, view)
        if self._client.count(self._collection, having).count > NAMED_AT_ONCE:
            return None
        records, _ = self._client.scroll(
            self._collection, having, limit=NAMED_AT_ONCE, with_payload=["key"], with_vectors=False
        )
        keys = [record.payload["key"] for record in records if record.payload]
        return models.Filter(must=[models.HasIdCondition(has_id=keys)])

    def _matches(self, points: Sequence[Any], where: Filter, view: View) -> list[Match]:
        """The points of theirs whose notes are asked for and seen, in their order."""
        payloads: dict[str, Any] = {}
        for start in range(0, len(points), BATCH):
            payloads |= self._payloads([str(point.id) for point in points[start : start + BATCH]])
        matches = []
        for point in points:
            payload = payloads.get(str(point.id))
            if payload is None:
                continue
            vector = self._source.vector_of(point) if point.vector is not None else None
            for description in payload["versions"]:
                version = _item(payload, description)
                if vector is not None and vector.any():
                    version = replace(version, embedding=unit_rows(vector[None])[0])
                if description["generation"] == self._source.generation and is_asked(version, where, view):
                    matches.append(Match(version, point.score))
        return matches

    # The whole

    def verify(self) -> list[str]:
        """Read every version and say what is wrong, a sentence each."""
        dimensions, view = self._dimensions(), self._view()
        problems = []
        for page in self._pages(Filter(), EVERYTHING, None, BATCH, with_embeddings=True):
            for versions in page:
                found = [
                    problem_of(version, described(version)["metadata_terms"], dimensions.get(version.generation))
                    for version in versions
                ]
                problems += [
                    f"In the gallery, {problem}: correct its point and run  evergallery adopt"
                    for problem in found
                    if problem
                ]
                if sum(view.sees(version.refresh, version.superseded) for version in versions) > 1:
                    problems.append(f"In the gallery, {versions[0].id!r} is in two generations: discard the refresh.")
        return problems

    def release(self) -> None:
        """Take away all that was added, and close; the collection stays as it is."""
        with explained(self.url):
            self._client.delete_collection(self._collection)
        self.close()


def open_qdrant(place: str, view: Callable[[], View], /, *, precision: Precision | None, create: bool) -> QdrantStore:
    """A gallery of its own, or one over a collection that was adopted; see ``QdrantStore``."""
    opened = QdrantStore(place, view, precision=precision, create=create)
    if not opened.is_adopted:
        return opened
    opened.close()
    return AdoptedQdrantStore(place, view)


def _item(payload: Mapping[str, Any], description: Mapping[str, Any]) -> Item:
    """A version as a note describes it, without its vector."""
    names = ("generation", "label", "uri", "content_hash", "added", "refresh", "superseded")
    return Item(
        id=payload["id"],
        embedding=np.empty(0, np.float32),
        metadata=json.loads(description["metadata"]),
        **{name: description[name] for name in names},
    )


def _mark(payload: Mapping[str, Any]) -> str | None:
    """The refresh behind whose vectors the collection's own waits, if any."""
    return next((description["superseded"] for description in payload["versions"]), None)


def _vectors(versions: Sequence[Item]) -> dict[str, Any]:
    return {version.generation: version.embedding.tolist() for version in versions if len(version.embedding)}


def _rows(identifiers: Sequence[str]) -> Rows:
    return Rows(len(identifiers), tuple(sorted(identifiers)[:EXAMPLES]))
