"""A gallery over a table that somebody else keeps.

Beside the tables of every gallery, its schema has ``notes``: a row for each of the collection's, by its key. What is read as the
table of versions is a query that joins the notes to the vectors where they are, and appends ours; a row that is deleted there is
gone here in the same moment. What a refresh does to an item is written into the notes, and into our own table of versions.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from evergallery.data.columns import scalar_of
from evergallery.data.metadata import finite_values, metadata_terms, normalised, to_json
from evergallery.data.unit_vectors import UNIT_TOLERANCE
from evergallery.errors import NotFoundError, RefusedError
from evergallery.gallery.adopted import EXAMPLES, AdoptedCollection, Changes, Rows
from evergallery.gallery.engine import RefreshMark
from evergallery.gallery.items import EVERYTHING, Item, Match, Precision, Search, View, check_items, point_id
from evergallery.gallery.postgres.database import (
    Database,
)
from evergallery.gallery.postgres.rows import ATTRIBUTES, COLUMNS, WITHOUT_EMBEDDING, condition, item_of, vector_of
from evergallery.gallery.postgres.store import PostgresStore, set_candidates
from evergallery.gallery.store import BATCH
from evergallery.strings.names import normal
from evergallery.watching import Watcher

if TYPE_CHECKING:
    from psycopg import Cursor

NOTED = ("id", "label", "uri", "content_hash", "added", "metadata", "metadata_terms")
"""The columns of a note, as the version of an item has them."""


class AdoptedPostgresStore(PostgresStore, AdoptedCollection):
    """The gallery that ``adopt`` makes; see ``GalleryStore`` and ``AdoptedCollection`` for what its methods promise.

    Items are the rows of the collection: they are added, replaced and deleted there, and refreshed and settled here.

    Args:
        url: of the gallery, or its place that is open already.
        view: asked by every reading method at its start which versions are seen.

    Raises:
        NotFoundError: there is none, or its server does not answer.
    """

    _remedy = "correct its row and run  evergallery adopt"

    def __init__(self, url: str | Database, view: Callable[[], View] = lambda: EVERYTHING) -> None:
        super().__init__(url, view, create=False)
        if self._database.collection is None:
            raise NotFoundError(f"{self._database.url} is no adopted table: adopt it with  evergallery adopt")
        self._table = self._database.collection
        self._notes = f'"{self._database.schema}".notes'
        with self._reading() as cursor:
            cursor.execute(f'SELECT generation FROM "{self._database.schema}".adopted')
            self._generation: str = (cursor.fetchone() or ("",))[0]
        noted = ", ".join(f"note.{name}" for name in NOTED)
        self._joined = f"JOIN {self._table.relation} ON {self._table.joined} = note.key"
        self._of_theirs = (
            f"note.point, {noted}, '{self._generation}'::text AS generation, NULL::text AS refresh, note.superseded, "
            f"{self._table.embedding} AS embedding"
        )
        self._versions = (
            f"(SELECT {self._of_theirs} FROM {self._notes} note {self._joined} WHERE NOT note.hidden AND {self._table.fits} "
            f"UNION ALL SELECT note.point, {noted}, ours.generation, ours.refresh, ours.superseded, ours.embedding "
            f"FROM {self._stored} ours JOIN {self._notes} note USING (point) {self._joined}) AS versions"
        )

    @property
    def collection(self) -> str:
        """Return what is adopted, in words."""
        return str(self._table)

    @property
    def described(self) -> str:
        """Return what is read, exactly."""
        return self._table.to_json()

    @property
    def generation(self) -> str:
        """Fingerprint of the generation whose vectors the collection has."""
        return self._generation

    def refuse_items(self) -> None:
        """Refuse to add, replace or delete items, which are the collection's."""
        raise RefusedError(
            f"The items of this gallery are the rows of {self._table}, which is only read: change them there, then run  "
            f"evergallery adopt  to take up what has changed."
        )

    # What has changed

    def changes(self) -> Changes:
        """Return what has become of the rows since they were last taken up; writes nothing."""
        pending = f"SELECT note.key IS NULL, {self._table.joined}::text AS id {self._pending}"
        with self._reading() as cursor:
            cursor.execute(f"SELECT count(*) FROM {self._table.relation} WHERE {self._table.flaw} IS NULL", [])
            ((rows,),) = cursor.fetchall()
            added, changed = (
                self._rows_found(f"SELECT id FROM ({pending}) AS pending (is_new, id) WHERE {which}")
                for which in ("is_new", "NOT is_new")
            )
            gone = self._rows_found(f"SELECT id FROM {self._notes} note WHERE {self._is_gone}")
            cursor.execute(
                f"SELECT count(*) FROM {self._stored} ours JOIN {self._notes} note USING (point) "
                f"LEFT JOIN {self._table.relation} ON {self._table.joined} = note.key "
                f"WHERE {self._is_gone} OR note.pictured <> {self._table.pictured}",
                [],
            )
            ((dropped,),) = cursor.fetchall()
            return Changes(int(rows), added, changed, gone, int(dropped), self._unusable())

    def lengths(self) -> tuple[Rows, Rows]:
        """The rows whose vectors have length 1, and those whose vectors have not."""
        table = self._table
        unit, other = (
            self._rows_found(
                f"SELECT note.id FROM {self._notes} note JOIN {table.relation} ON {table.joined} = note.key "
                f"WHERE {table.fits} AND abs({table.norm} - 1) {sign} {UNIT_TOLERANCE}"
            )
            for sign in ("<=", ">")
        )
        return unit, other

    def reconcile(self, watcher: Watcher, *, behind: str | None = None, hidden: bool = False) -> Changes:
        """Take up what has changed; see ``AdoptedCollection``."""
        with self._reading() as cursor:
            self._table.require_unique(cursor)
        found = self.changes()
        done, total = 0, found.added.count + found.changed.count
        for rows in self._changed_rows():
            with self._database.writing():
                self._note(rows, behind, hidden)
            done += len(rows)
            watcher.counted("taking up rows", done, max(done, total))
        with self._database.writing() as cursor:
            cursor.execute(f"SELECT point FROM {self._notes} note WHERE {self._is_gone}", [])
            gone = [point for (point,) in cursor]
            for start in range(0, len(gone), BATCH):
                values = {"points": gone[start : start + BATCH]}
                self._delete_where("point = ANY(%(points)s)", values)
                cursor.execute(f"DELETE FROM {self._notes} WHERE point = ANY(%(points)s)", values)
        with self._database.connection() as connection:
            connection.execute(f"ANALYZE {self._notes}")
        return found

    @property
    def _pending(self) -> str:
        """SQL of the rows that can be used and nobody has noted as they are."""
        table = self._table
        return (
            f"FROM {table.relation} LEFT JOIN {self._notes} note ON note.key = {table.joined} WHERE {table.flaw} IS NULL "
            f"AND (note.key IS NULL OR note.said <> {table.said} OR note.pictured <> {table.pictured})"
        )

    @property
    def _is_gone(self) -> str:
        """SQL of the condition that the row of a note is not there, or cannot be used."""
        table = self._table
        return f"NOT EXISTS (SELECT FROM {table.relation} WHERE {table.joined} = note.key AND {table.flaw} IS NULL)"

    def _rows_found(self, query: str) -> Rows:
        with self._reading() as cursor:
            cursor.execute(f"SELECT id, count(*) OVER () FROM ({query}) AS found ORDER BY id LIMIT {EXAMPLES}", [])
            rows = cursor.fetchall()
        return Rows(int(rows[0][1]) if rows else 0, tuple(str(identifier) for identifier, _ in rows))

    def _unusable(self) -> dict[str, Rows]:
        table = self._table
        with self._reading() as cursor:
            cursor.execute(
                f"SELECT flaw, count(*), (array_agg(id ORDER BY id) FILTER (WHERE id <> ''))[1:{EXAMPLES}] "
                f"FROM (SELECT {table.flaw} AS flaw, {table.joined}::text AS id FROM {table.relation}) AS rows "
                f"WHERE flaw IS NOT NULL GROUP BY flaw ORDER BY flaw",
                [],
            )
            return {flaw: Rows(int(count), tuple(ids or ())) for flaw, count, ids in cursor}

    def _changed_rows(self) -> Iterator[list[tuple[Any, ...]]]:
        """Rows to be noted, in batches, as they were when the first was asked for."""
        table = self._table
        columns = ", ".join([table.joined, f"{table.joined}::text", table.said, table.pictured, *table.described])
        with (
            self._database.connection() as connection,
            connection.transaction(),
            connection.cursor(name="changed") as cursor,
        ):
            cursor.execute(f"SELECT {columns} {self._pending}", [])
            while rows := cursor.fetchmany(BATCH):
                yield rows

    def _note(self, rows: Sequence[tuple[Any, ...]], behind: str | None, hidden: bool) -> None:
        """Write down rows of the collection in place of what was noted of them, and give up vectors of earlier pictures."""
        time = datetime.now(UTC).isoformat(timespec="seconds")
        with self._reading() as cursor:
            points = [point_id(row[1]) for row in rows]
            cursor.execute(
                f"SELECT point, pictured, added FROM {self._notes} WHERE point = ANY(%(points)s)", {"points": points}
            )
            known = {point: (pictured, added) for point, pictured, added in cursor}
            redrawn = [
                point
                for point, (_, _, _, pictured, *_) in zip(points, rows, strict=True)
                if point in known and known[point][0] != pictured
            ]
            self._delete_where("point = ANY(%(points)s)", {"points": redrawn})
            anew = "notes.pictured <> excluded.pictured"
            cursor.executemany(
                f"INSERT INTO {self._notes} AS notes (point, key, said, pictured, superseded, hidden, {', '.join(NOTED)}) "
                f"VALUES ({', '.join(['%s'] * (6 + len(NOTED)))}) ON CONFLICT (point) DO UPDATE SET "
                f"said = excluded.said, pictured = excluded.pictured, "
                f"superseded = CASE WHEN {anew} THEN excluded.superseded ELSE notes.superseded END, "
                f"hidden = CASE WHEN {anew} THEN excluded.hidden ELSE notes.hidden END, "
                + ", ".join(f"{name} = excluded.{name}" for name in NOTED),
                [
                    (
                        point,
                        key,
                        said,
                        pictured,
                        behind,
                        hidden,
                        identifier,
                        None if label is None else normal(label),
                        uri,
                        content,
                        known[point][1] if point in known else time,
                        to_json(metadata),
                        metadata_terms(metadata),
                    )
                    for point, (key, identifier, said, pictured, label, uri, content, *values) in zip(
                        points, rows, strict=True
                    )
                    for metadata in [self._metadata(values)]
                ],
            )

    def _metadata(self, values: Sequence[Any]) -> Mapping[str, Any]:
        named = zip(self._table.metadata, map(scalar_of, values), strict=True)
        return normalised(finite_values({name: value for name, value in named if value is not None}))

    # What waits

    def waiting(self) -> Iterator[list[Item]]:
        """Items that no view sees, with the collection's own vectors."""
        columns = ", ".join(
            {"embedding": self._table.embedding, "generation": "%(generation)s::text", "refresh": "NULL"}.get(
                name, f"note.{name}"
            )
            for name in ATTRIBUTES
        )
        start = UUID(int=0)
        while True:
            with self._reading() as cursor:
                cursor.execute(
                    f"SELECT {columns} FROM {self._notes} note JOIN {self._table.relation} ON {self._table.joined} = note.key "
                    f"WHERE (note.hidden OR note.superseded IS NOT NULL) AND {self._table.fits} AND note.point > %(start)s "
                    f"AND NOT EXISTS (SELECT FROM {self._stored} ours WHERE ours.point = note.point) "
                    f"ORDER BY note.point LIMIT {BATCH}",
                    {"generation": self._generation, "start": start},
                )
                items = [item_of(row) for row in cursor]
            if not items:
                return
            yield items
            start = point_id(items[-1].id)

    def end_waiting(self, items: Sequence[Item]) -> None:
        """Store newer vectors of items that have waited."""
        check_items(items)
        with self._writing():
            self._make_room(items)
            with self._reading() as cursor:
                cursor.execute(
                    f"SELECT note.point, note.superseded FROM {self._notes} note WHERE note.point = ANY(%(points)s) "
                    f"AND (note.hidden OR note.superseded IS NOT NULL) "
                    f"AND NOT EXISTS (SELECT FROM {self._stored} ours WHERE ours.point = note.point)",
                    {"points": [point_id(item.id) for item in items]},
                )
                marks = dict(cursor.fetchall())
            still = [item for item in items if point_id(item.id) in marks]
            self._insert([replace(item, refresh=marks[point_id(item.id)], superseded=None) for item in still])

    # Writing

    def _may_index(self, generation: str, dimension: int) -> bool:
        # The collection's own vectors have the indexes that their owners gave them: one of cosines serves as it is.
        if generation != self._generation:
            return super()._may_index(generation, dimension)
        with self._reading() as cursor:
            return self._table.has_index(cursor)

    def _index(self, cursor: "Cursor[Any]", generation: str, dimension: int, wanted: bool) -> None:
        if generation != self._generation:
            super()._index(cursor, generation, dimension, wanted)
        elif not wanted:
            cursor.execute(f"UPDATE {self._spaces} SET indexed = NULL WHERE generation = %s", [generation])

    def _nearest(self, generation: str, queries: NDArray[np.float32], search: Search) -> list[list[Match]]:
        if search.exact or generation != self._generation:
            return super()._nearest(generation, queries, search)
        # Spelt as their index is, so that it serves.
        versions = (
            f"(SELECT {self._of_theirs}, {self._table.raw} <=> %(query)b AS distance FROM {self._notes} note {self._joined} "
            f"WHERE NOT note.hidden AND {self._table.fits}) AS versions"
        )
        having, values = condition(replace(search.where, generations=None), search.view)
        columns, limit = COLUMNS if search.with_embeddings else WITHOUT_EMBEDDING, 2 * search.k
        found = []
        with self._reading() as cursor:
            set_candidates(cursor, limit)
            for query in queries:
                cursor.execute(
                    f"SELECT {columns}, 1 - distance FROM {versions} WHERE {having} ORDER BY distance LIMIT {limit}",
                    {**values, "query": vector_of(query, self.precision)},
                )
                found.append([Match(item_of(row), row[-1]) for row in cursor])
        return found

    def _supersede(self, items: Sequence[Item], refresh: str) -> None:
        with self._reading() as cursor:
            cursor.execute(
                f"UPDATE {self._notes} SET superseded = %(refresh)s WHERE point = ANY(%(points)s) AND NOT hidden",
                {"refresh": refresh, "points": [point_id(item.id) for item in items]},
            )
        super()._supersede(items, refresh)

    def _count_marked(self, refresh: str) -> int:
        with self._reading() as cursor:
            cursor.execute(f"SELECT count(*) FROM ({self._marked}) AS marked", {"refresh": refresh})
            ((total,),) = cursor.fetchall()
        return int(total)

    @property
    def _marked(self) -> str:
        return (
            f"SELECT point FROM {self._stored} WHERE refresh = %(refresh)s OR superseded = %(refresh)s "
            f"UNION SELECT point FROM {self._notes} WHERE superseded = %(refresh)s"
        )

    def _settle_some(self, refresh: str, losing: RefreshMark) -> tuple[int, int]:
        with self._reading() as cursor:
            cursor.execute(f"{self._marked} ORDER BY point LIMIT {BATCH}", {"refresh": refresh})
            values = {"refresh": refresh, "points": [point for (point,) in cursor]}
            if not values["points"]:
                return 0, 0
            # An item's only version stays: beside another of ours, or the collection's own where that is seen.
            gone = self._delete_where(
                f"point = ANY(%(points)s) AND {losing} = %(refresh)s AND (EXISTS (SELECT FROM {self._stored} other "
                f"WHERE other.point = version.point AND other.generation <> version.generation) "
                f"OR EXISTS (SELECT FROM {self._notes} note WHERE note.point = version.point AND NOT note.hidden))",
                values,
            )
            if losing == "superseded":
                cursor.execute(
                    f"UPDATE {self._notes} SET hidden = true WHERE point = ANY(%(points)s) AND superseded = %(refresh)s",
                    values,
                )
                gone += cursor.rowcount
            for table, marks in ((self._stored, ("refresh", "superseded")), (self._notes, ("superseded",))):
                cleared = ", ".join(f"{mark} = nullif({mark}, %(refresh)s)" for mark in marks)
                cursor.execute(f"UPDATE {table} SET {cleared} WHERE point = ANY(%(points)s)", values)
        return len(values["points"]), gone

    # The whole

    def newer(self) -> dict[str, int]:
        """Return how many vectors of ours there are, by generation, whatever has become of the collection."""
        with self._reading() as cursor:
            cursor.execute(f"SELECT generation, count(*) FROM {self._stored} GROUP BY 1 ORDER BY 1")
            return dict(cursor.fetchall())

    def release(self) -> None:
        """Take away all that was added, and close; the collection stays as it is."""
        schema = self._database.schema
        with self._database.writing() as cursor:
            for table in ("adopted", "notes", "versions", "spaces", "gallery"):
                cursor.execute(f'DROP TABLE "{schema}".{table}')
            cursor.execute(
                "SELECT pg_get_userbyid(nspowner) = current_user FROM pg_namespace WHERE nspname = %s", [schema]
            )
            # A schema that somebody has made for us, or put something into, is not ours to drop.
            if cursor.fetchone() == (True,):
                cursor.execute(
                    "SELECT EXISTS (SELECT FROM pg_depend WHERE refclassid = 'pg_namespace'::regclass "
                    "AND refobjid = (SELECT oid FROM pg_namespace WHERE nspname = %s))",
                    [schema],
                )
                if cursor.fetchone() == (False,):
                    cursor.execute(f'DROP SCHEMA "{schema}"')
        self.close()


def open_postgres(
    place: str, view: Callable[[], View], /, *, precision: Precision | None, create: bool
) -> PostgresStore:
    """A gallery of its own, or one over a table that was adopted; see ``PostgresStore``."""
    database = Database(place, precision, create)
    return PostgresStore(database, view) if database.collection is None else AdoptedPostgresStore(database, view)
