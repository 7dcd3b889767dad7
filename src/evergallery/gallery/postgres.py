"""The engine for many processes: PostgreSQL with pgvector, one table for the versions of all items.

A gallery is a schema of its own in a database, so that several workspaces may share one. Its rows are versions; the vectors
have no fixed dimension, because generations differ in theirs. Every write is one transaction, and writers take turns by a
lock that readers never meet; every read sees the rows of one moment.

Exact search reads all rows of a generation: it orders by an expression that no index has. The index that ``compact`` builds
for a large generation is on that generation's rows alone, where all vectors have one dimension.
"""

import json
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from evergallery.errors import InputError
from evergallery.gallery.database import TYPES, Database
from evergallery.gallery.items import (
    Filter,
    Item,
    Match,
    Precision,
    PutCounts,
    Scalar,
    View,
    check_items,
    check_queries,
    metadata_terms,
)
from evergallery.gallery.points import point_id
from evergallery.gallery.recall import Index, measured_recall
from evergallery.gallery.store import EVERYTHING, NO_FILTER
from evergallery.gallery.versions import (
    awaited_by,
    best_of,
    by_generation,
    changed_by,
    check_dimensions,
    check_versions,
    place,
    problem_of,
    rounded,
    seen_of,
)

if TYPE_CHECKING:
    from psycopg import Cursor

BATCH = 1000
# From here on an index is several times as fast as reading every row; see docs/engines.md.
INDEXED_FROM = 10_000
# pgvector's index holds no wider vectors.
WIDEST_INDEXED: dict[Precision, int] = {"float32": 2000, "float16": 4000}
# How many candidates a search through an index keeps at least.
CANDIDATES = 100

ATTRIBUTES = tuple(field.name for field in fields(Item))
COLUMNS = ", ".join(ATTRIBUTES)
WITHOUT_EMBEDDING = COLUMNS.replace("embedding", "NULL")
NEWER_FIRST = "point, superseded IS NOT NULL"

Answer = TypeVar("Answer")
Parameters = dict[str, Any]


class PostgresStore:
    """A gallery in a database; see ``GalleryStore`` for what its methods promise.

    Several processes may have it open, read and write at once: what one call has returned from, the next call of every other
    process sees. Text that holds the character NUL cannot be stored.

    Args:
        url: ``postgresql://user@host:5432/database?gallery=NAME``. The name of the gallery, ``evergallery`` by default, is
            that of its schema; all else means what it means to PostgreSQL's own tools. The password comes from
            ``PGPASSWORD`` or from ``~/.pgpass``; one in the URL is left out.
        view: asked by every reading method at its start which versions are seen.
        precision: of the vectors of a new gallery, ``float32`` by default, or ``float16``; an older one must have it.
        create: whether the gallery is made where it is missing.

    Raises:
        MissingExtraError: the extra ``postgres`` is not installed.
        InputError: the URL cannot be used, or the gallery has another precision.
        NotFoundError: the server does not answer, or has no such database, gallery or pgvector.
        RefusedError: the user may not make the gallery.
        DamagedError: the gallery is of a newer format, or parts of it are missing.
    """

    def __init__(
        self,
        url: str,
        view: Callable[[], View] = lambda: EVERYTHING,
        *,
        precision: Precision | None = None,
        create: bool = True,
    ) -> None:
        self._database = Database(url, precision, create)
        self._view = view
        self._versions, self._spaces = (f'"{self._database.schema}".{table}' for table in ("versions", "spaces"))
        self._type = TYPES[self.precision]
        self._reading, self._writing = self._database.reading, self._database.writing

    def close(self) -> None:
        """End the connections."""
        self._database.close()

    @property
    def precision(self) -> Precision:
        """How the vectors are kept."""
        return self._database.precision

    def __enter__(self) -> "PostgresStore":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Writing

    def put(self, items: Sequence[Item], *, relabel: bool = False) -> PutCounts:
        """Add or replace items; see ``GalleryStore.put``."""
        check_items(items)
        _refuse_nul(items)
        with self._writing() as cursor:
            self._admit(cursor, items)
            versions = self._held(cursor, [item.id for item in items])
            changed, counts = changed_by(rounded(items, self.precision), versions, self._view(), relabel)
            self._delete(cursor, [item.id for item in changed])
            self._insert(cursor, changed)
        return counts

    def refresh(self, items: Sequence[Item], refresh: str) -> int:
        """Store newer versions beside the ones that are there; see ``GalleryStore.refresh``."""
        check_items(items)
        _refuse_nul(items)
        with self._writing() as cursor:
            self._admit(cursor, items)
            versions = self._held(cursor, [item.id for item in items], with_embeddings=False)
            awaited = awaited_by(refresh, items, versions, self._view())
            cursor.execute(
                f"UPDATE {self._versions} SET superseded = %(refresh)s WHERE point = ANY(%(points)s)",
                {"refresh": refresh, "points": [point_id(item.id) for item in awaited]},
            )
            self._insert(cursor, awaited)
        return len(awaited)

    def settle(
        self,
        refresh: str,
        keep: Literal["new", "old"],
        *,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> int:
        """Delete one of the two versions of every item of a refresh for good; see ``GalleryStore.settle``."""
        losing = "superseded" if keep == "new" else "refresh"
        marked = "(refresh = %(refresh)s OR superseded = %(refresh)s)"
        with self._reading() as cursor:
            cursor.execute(f"SELECT count(*) FROM {self._versions} WHERE {marked}", {"refresh": refresh})
            total = _number(cursor)
        deleted = done = 0
        while True:
            with self._writing() as cursor:
                # An item of one version has lost the other, whichever mark it bears.
                cursor.execute(
                    f"SELECT DISTINCT point FROM {self._versions} WHERE {marked} ORDER BY point LIMIT {BATCH}",
                    {"refresh": refresh},
                )
                values = {"refresh": refresh, "points": [point for (point,) in cursor]}
                if not values["points"]:
                    return deleted
                gone = self._delete_where(
                    cursor,
                    f"point = ANY(%(points)s) AND {losing} = %(refresh)s AND EXISTS (SELECT FROM {self._versions} other "
                    f"WHERE other.point = one.point AND other.generation <> one.generation)",
                    values,
                )
                cursor.execute(
                    f"UPDATE {self._versions} SET refresh = nullif(refresh, %(refresh)s), "
                    f"superseded = nullif(superseded, %(refresh)s) WHERE point = ANY(%(points)s)",
                    values,
                )
                done += gone + cursor.rowcount
            deleted += gone
            if on_progress is not None:
                on_progress(done, max(done, total))

    def delete(self, identifiers: Sequence[str]) -> int:
        """Delete items with all their versions; returns how many items were seen."""
        with self._writing() as cursor:
            versions = self._held(cursor, identifiers, with_embeddings=False)
            self._delete(cursor, identifiers)
        return sum(seen_of(held, self._view()) is not None for held in versions.values())

    def put_versions(self, versions: Sequence[Item]) -> None:
        """Store versions as they are; see ``GalleryStore.put_versions``."""
        check_versions(versions)
        _refuse_nul(versions)
        with self._writing() as cursor:
            self._admit(cursor, versions)
            for generation, group in by_generation(versions):
                points = [point_id(one.id) for one in group]
                self._delete_where(
                    cursor, "generation = %(generation)s AND point = ANY(%(points)s)",
                    {"generation": generation, "points": points},
                )  # fmt: skip
                self._insert(cursor, group)

    def compact(self) -> None:
        """Give back room and index what is large; see ``GalleryStore.compact``. Writers wait for an index, readers do not."""
        with self._database.connection() as connection:
            connection.execute(f"VACUUM (ANALYZE) {self._versions}")
        with self._reading() as cursor:
            dimensions = self._dimensions(cursor)
        for generation, dimension in dimensions.items():
            vectors = self.count(Filter(generations=(generation,)), view=EVERYTHING)
            large = vectors >= INDEXED_FROM and dimension <= WIDEST_INDEXED[self.precision]
            with self._writing() as cursor:
                self._index(cursor, generation, dimension, large)
            if large:
                measured = [vectors, measured_recall(self, generation), datetime.now(UTC).isoformat(timespec="seconds")]
                with self._writing() as cursor:
                    cursor.execute(
                        f"UPDATE {self._spaces} SET indexed = %s, recall = %s, measured = %s, changed = 0 WHERE generation = %s",
                        [*measured, generation],
                    )

    def _index(self, cursor: "Cursor[Any]", generation: str, dimension: int, wanted: bool) -> None:
        """Build the index of a generation where there is none yet, or drop it."""
        name = f"nearest_{generation[:16]}"
        if wanted:
            cursor.execute(
                f'CREATE INDEX IF NOT EXISTS "{name}" ON {self._versions} USING hnsw '
                f"((embedding::{self._type}({dimension})) {self._type}_ip_ops) WHERE generation = '{generation}'"
            )
        else:
            cursor.execute(f'DROP INDEX IF EXISTS "{self._database.schema}"."{name}"')
            cursor.execute(f"UPDATE {self._spaces} SET indexed = NULL WHERE generation = %s", [generation])

    def indexes(self) -> dict[str, Index]:
        """The indexes that ``compact`` has built, by generation."""
        with self._reading() as cursor:
            cursor.execute(
                f"SELECT generation, indexed, recall, measured, changed FROM {self._spaces} WHERE indexed IS NOT NULL"
            )
            return {generation: Index(*measured) for generation, *measured in cursor}

    def _admit(self, cursor: "Cursor[Any]", items: Sequence[Item]) -> None:
        """Refuse vectors of a wrong dimension, and note that of new generations."""
        known = self._dimensions(cursor)
        new = check_dimensions(items, known).items() - known.items()
        cursor.executemany(f"INSERT INTO {self._spaces} (generation, dimension) VALUES (%s, %s)", sorted(new))

    def _insert(self, cursor: "Cursor[Any]", items: Sequence[Item]) -> None:
        columns = f"point, metadata_terms, {COLUMNS}"
        with cursor.copy(f"COPY {self._versions} ({columns}) FROM STDIN (FORMAT BINARY)") as copy:
            copy.set_types(["uuid", "text[]", "text", self._type, *["text"] * 8])
            for item in items:
                written = {"embedding": self._vector(item.embedding), "metadata": _json(item.metadata)}
                values = (written.get(name, getattr(item, name)) for name in ATTRIBUTES)
                copy.write_row((point_id(item.id), metadata_terms(item.metadata), *values))

    def _delete(self, cursor: "Cursor[Any]", identifiers: Sequence[str]) -> None:
        points = [point_id(identifier) for identifier in identifiers]
        self._delete_where(cursor, "point = ANY(%(points)s)", {"points": points})

    def _delete_where(self, cursor: "Cursor[Any]", condition: str, values: Parameters) -> int:
        """Delete versions, and note what their indexes have lost."""
        cursor.execute(f"DELETE FROM {self._versions} one WHERE {condition} RETURNING generation", values)
        gone = Counter(generation for (generation,) in cursor)
        cursor.executemany(
            f"UPDATE {self._spaces} SET changed = changed + %s WHERE generation = %s AND indexed IS NOT NULL",
            [(count, generation) for generation, count in gone.items()],
        )
        return gone.total()

    # Reading

    def get(self, identifier: str, *, view: View | None = None) -> Item | None:
        """The item of this id, or ``None``."""
        view = view or self._view()
        with self._reading() as cursor:
            return seen_of(self._held(cursor, [identifier]).get(identifier, ()), view)

    def get_many(
        self, identifiers: Sequence[str], *, with_embeddings: bool = True, view: View | None = None
    ) -> dict[str, Item]:
        """The items of these ids that are there, by id."""
        view = view or self._view()
        with self._reading() as cursor:
            versions = self._held(cursor, identifiers, with_embeddings)
        return {name: one for name, held in versions.items() if (one := seen_of(held, view))}

    def contains(self, identifiers: Sequence[str], *, view: View | None = None) -> set[str]:
        """Which of these ids are there."""
        condition, values = _condition(NO_FILTER, view or self._view())
        values["points"] = [point_id(identifier) for identifier in identifiers]
        return set(self._column("id", f"{condition} AND point = ANY(%(points)s)", values))

    def known_content(
        self, content_hashes: Sequence[str], where: Filter = NO_FILTER, *, view: View | None = None
    ) -> set[str]:
        """Which of these hashes are the content of an item."""
        condition, values = _condition(where, view or self._view())
        values["hashes"] = list(content_hashes)
        return set(self._column("content_hash", f"{condition} AND content_hash = ANY(%(hashes)s)", values))

    def count(self, where: Filter = NO_FILTER, *, view: View | None = None) -> int:
        """How many items there are."""
        condition, values = _condition(where, view or self._view())
        (count,) = self._column("count(*)", condition, values)
        return int(count)

    def generations(self, *, view: View | None = None) -> set[str]:
        """Which generations have made an item that is seen."""
        view = view or self._view()
        with self._reading() as cursor:
            return {generation for generation in self._dimensions(cursor) if self._holds(cursor, generation, view)}

    def count_by_generation(self, *, view: View | None = None) -> dict[str, int]:
        """How many items each generation has made, by fingerprint."""
        return self._count_by("generation", NO_FILTER, view)

    def count_by_label(self, where: Filter = NO_FILTER, *, view: View | None = None) -> dict[str, int]:
        """How many items each label has."""
        return self._count_by("label", where, view)

    def _count_by(self, column: str, where: Filter, view: View | None) -> dict[str, int]:
        condition, values = _condition(where, view or self._view())
        with self._reading() as cursor:
            cursor.execute(
                f"SELECT {column}, count(*) FROM {self._versions} WHERE {condition} AND {column} IS NOT NULL GROUP BY 1",
                values,
            )
            return dict(cursor.fetchall())

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
        columns = COLUMNS if with_embeddings else WITHOUT_EMBEDDING
        columns = f"DISTINCT ON (point) {columns}"
        for rows in self._pages(columns, NEWER_FIRST, where, view or self._view(), after, batch_size):
            yield [_item(row) for row in rows]

    def identifiers(
        self,
        where: Filter = NO_FILTER,
        *,
        batch_size: int = 10_000,
        after: str | None = None,
        view: View | None = None,
    ) -> Iterator[list[str]]:
        """The ids of all items, in batches, in the order of ``iterate``."""
        for rows in self._pages("DISTINCT ON (point) id", NEWER_FIRST, where, view or self._view(), after, batch_size):
            yield [row[0] for row in rows]

    def versions(self, *, batch_size: int = 1000, after: str | None = None) -> Iterator[list[Item]]:
        """Every version of every item; see ``GalleryStore.versions``."""
        for rows in self._pages(COLUMNS, "point", NO_FILTER, EVERYTHING, after, batch_size):
            yield sorted(map(_item, rows), key=place)

    def _pages(
        self, columns: str, order: str, where: Filter, view: View, after: str | None, size: int
    ) -> Iterator[list[tuple[Any, ...]]]:
        """Rows in order of their points, all those of a point together; each page as of its own moment."""
        condition, values = _condition(where, view)
        start = uuid.UUID(int=0) if after is None else point_id(after)
        while True:
            with self._reading() as cursor:
                cursor.execute(
                    f"SELECT {columns} FROM {self._versions} WHERE point > %(start)s AND {condition} "
                    f"ORDER BY {order} FETCH FIRST {size} ROWS WITH TIES",
                    {**values, "start": start},
                )
                rows = cursor.fetchall()
            if rows:
                yield rows
            if len(rows) < size:
                return
            start = point_id(rows[-1][0])

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
        least = -np.inf if minimum_score is None else minimum_score
        columns = COLUMNS if with_embeddings else WITHOUT_EMBEDDING
        with self._reading() as cursor:
            generations = self._searched(cursor, queries.shape[1], where, view)
            by_index = self._by_index(generations, where, view, exact)
            asked = replace(where, generations=tuple(name for name in generations if name not in by_index))
            found = []
            for query in queries:
                vector = self._vector(query)
                # Of an item whose versions are both seen there are two, of which one counts.
                matches = self._nearest(cursor, columns, vector, 2 * k, asked, view)
                for generation in by_index:
                    matches += self._nearest_by_index(cursor, columns, vector, 2 * k, where, view, generation)
                found.append([match for match in best_of(matches)[:k] if match.score >= least])
        return found

    def _by_index(self, generations: Sequence[str], where: Filter, view: View, exact: bool | None) -> list[str]:
        """In which of these generations an index may answer."""
        if exact is not None:
            return [] if exact else list(generations)
        # The recall of an index is measured without a filter, and holds without one.
        if where.labels is not None or where.uris is not None or where.metadata or view.hidden or view.shown:
            return []
        indexes = self.indexes()
        return [name for name in generations if name in indexes and indexes[name].serves]

    def _searched(self, cursor: "Cursor[Any]", dimension: int, where: Filter, view: View) -> list[str]:
        """The generations whose vectors queries of this dimension are compared with."""
        dimensions = self._dimensions(cursor)
        admitted = [name for name in dimensions if where.generations is None or name in where.generations]
        for generation in admitted:
            if dimensions[generation] != dimension and self._holds(cursor, generation, view):
                raise InputError(
                    f"The queries have {dimension} dimensions and the vectors of {generation[:12]} have "
                    f"{dimensions[generation]}: they come from different embedding spaces."
                )
        return [name for name in admitted if dimensions[name] == dimension]

    def _holds(self, cursor: "Cursor[Any]", generation: str, view: View) -> bool:
        condition, values = _condition(Filter(generations=(generation,)), view)
        cursor.execute(f"SELECT EXISTS (SELECT FROM {self._versions} WHERE {condition})", values)
        return bool(_number(cursor))

    def _nearest(
        self, cursor: "Cursor[Any]", columns: str, query: Any, limit: int, where: Filter, view: View
    ) -> list[Match]:
        condition, values = _condition(where, view)
        cursor.execute(
            f"SELECT {columns}, -(embedding <#> %(query)b) AS score FROM {self._versions} WHERE {condition} "
            f"ORDER BY score DESC, id LIMIT {limit}",
            {**values, "query": query},
        )
        return _matches(cursor)

    def _nearest_by_index(
        self, cursor: "Cursor[Any]", columns: str, query: Any, limit: int, where: Filter, view: View, generation: str
    ) -> list[Match]:
        # In order, and on until the conditions have let enough through.
        cursor.execute("SET LOCAL hnsw.iterative_scan = strict_order")
        cursor.execute(f"SET LOCAL hnsw.ef_search = {min(1000, max(CANDIDATES, limit))}")
        condition, values = _condition(replace(where, generations=None), view)
        # Spelt as in the index, the generation as text, or the planner does not know that the index serves.
        distance = f"embedding::{self._type}({query.dimensions()}) <#> %(query)b"
        cursor.execute(
            f"SELECT {columns}, -({distance}) AS score FROM {self._versions} "
            f"WHERE generation = '{generation}' AND {condition} ORDER BY {distance} LIMIT {limit}",
            {**values, "query": query},
        )
        return _matches(cursor)

    def at_one_moment(self, ask: Callable[[], Answer]) -> Answer:
        """Several questions as of one moment; see ``GalleryStore.at_one_moment``."""
        with self._reading():
            return ask()

    def verify(self) -> list[str]:
        """Read every version and say what is wrong, a sentence each."""
        problems = []
        dimensions = self._dimensions()
        for rows in self._pages(f"{COLUMNS}, point, metadata_terms", "point", NO_FILTER, EVERYTHING, None, BATCH):
            for row in rows:
                problem = _problem_of(row, dimensions)
                if problem:
                    problems.append(f"In the gallery, {problem}: delete it and index it again.")
        condition, values = _condition(NO_FILTER, self._view())
        twice = self._column("id", f"{condition} GROUP BY point, id HAVING count(*) > 1", values)
        return problems + [f"In the gallery, {name!r} is in two generations: index it again." for name in twice]

    # Inside

    def _column(self, expression: str, condition: str, values: Parameters) -> list[Any]:
        with self._reading() as cursor:
            cursor.execute(f"SELECT {expression} FROM {self._versions} WHERE {condition}", values)
            return [row[0] for row in cursor]

    def _held(
        self, cursor: "Cursor[Any]", identifiers: Sequence[str], with_embeddings: bool = True
    ) -> dict[str, list[Item]]:
        """Every version of these items, by id."""
        columns = COLUMNS if with_embeddings else WITHOUT_EMBEDDING
        points = [point_id(identifier) for identifier in identifiers]
        cursor.execute(f"SELECT {columns} FROM {self._versions} WHERE point = ANY(%s)", [points])
        held: dict[str, list[Item]] = {}
        for row in cursor:
            held.setdefault(row[0], []).append(_item(row))
        return held

    def _dimensions(self, cursor: "Cursor[Any] | None" = None) -> dict[str, int]:
        """The dimension of every generation."""
        if cursor is None:
            with self._reading() as reading:
                return self._dimensions(reading)
        cursor.execute(f"SELECT generation, dimension FROM {self._spaces} ORDER BY generation")
        return dict(cursor.fetchall())

    def _vector(self, embedding: NDArray[np.float32]) -> Any:
        from pgvector import HalfVector, Vector

        return (HalfVector if self.precision == "float16" else Vector)(embedding)


def _refuse_nul(items: Sequence[Item]) -> None:
    for item in items:
        if "\0" in "".join(map(str, (item.id, item.label, item.uri, item.content_hash))):
            raise InputError(f"The item {item.id!r} has text with the character NUL, which PostgreSQL does not store.")


def _condition(where: Filter, view: View) -> tuple[str, Parameters]:
    """What a filter and a view ask of rows, and the values in it."""
    conditions, values = ["true"], Parameters()
    if where.labels is not None:
        conditions.append("label = ANY(%(labels)s)")
        values["labels"] = list(where.labels)
    if where.generations is not None:
        conditions.append("generation = ANY(%(generations)s)")
        values["generations"] = list(where.generations)
    if where.uris is not None:
        conditions.append("uri = ANY(%(uris)s)")
        values["uris"] = list(where.uris)
    if where.metadata:
        conditions.append("metadata_terms @> %(terms)s")
        values["terms"] = metadata_terms(where.metadata)
    if view.hidden:
        conditions.append("(refresh = ANY(%(hidden)s)) IS NOT TRUE")
        values["hidden"] = sorted(view.hidden)
    if view.shown:
        conditions.append("(superseded = ANY(%(shown)s)) IS NOT TRUE")
        values["shown"] = sorted(view.shown)
    return " AND ".join(conditions), values


def _item(row: Sequence[Any]) -> Item:
    values = dict(zip(ATTRIBUTES, row, strict=False))
    embedding = np.empty(0, np.float32) if values["embedding"] is None else values["embedding"].to_numpy()
    described = {"embedding": embedding.astype(np.float32, copy=False), "metadata": json.loads(values["metadata"])}
    return Item(**(values | described))


def _json(metadata: Mapping[str, Scalar]) -> str:
    return json.dumps(dict(metadata), ensure_ascii=False)


def _matches(cursor: "Cursor[Any]") -> list[Match]:
    return [Match(_item(row), row[-1]) for row in cursor]


def _number(cursor: "Cursor[Any]") -> int:
    row = cursor.fetchone()
    return int(row[0]) if row else 0


def _problem_of(row: Sequence[Any], dimensions: dict[str, int]) -> str | None:
    """What is wrong with a version, if anything."""
    point, terms = row[-2:]
    try:
        item = _item(row)
    except (ValueError, AttributeError):
        return f"the metadata of {row[0]!r} are not what was stored"
    if point != point_id(item.id):
        return f"the item {item.id!r} lies under another id"
    return problem_of(item, terms, dimensions.get(item.generation))
