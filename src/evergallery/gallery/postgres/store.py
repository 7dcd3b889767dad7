"""The engine for many processes: PostgreSQL with pgvector, one table for the versions of all items.

A gallery is a schema of its own in a database, so that several workspaces may share one. Its rows are versions; the vectors
have no fixed dimension, because generations differ in theirs. Every write is one transaction, and writers take turns by a
lock that readers never meet; every read sees the rows of one moment.

Exact search reads all rows of a generation: it orders by an expression that no index has. The index that ``compact`` builds
for a large generation is on that generation's rows alone, where all vectors have one dimension.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from itertools import groupby
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from evergallery.data.metadata import metadata_terms, to_json
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
from evergallery.gallery.postgres.database import TYPES, Database
from evergallery.gallery.postgres.rows import (
    ATTRIBUTES,
    COLUMNS,
    WITHOUT_EMBEDDING,
    Parameters,
    condition,
    item_of,
    problem_of,
    refuse_nul,
    vector_of,
)
from evergallery.gallery.recall import measured_recall
from evergallery.gallery.store import BATCH, GalleryStore
from evergallery.gallery.versions import by_generation

if TYPE_CHECKING:
    from psycopg import Cursor

# From here on an index is several times as fast as reading every row; see docs/engines.md.
INDEXED_FROM = 10_000
# pgvector's index holds no wider vectors.
WIDEST_INDEXED: dict[Precision, int] = {"float32": 2000, "float16": 4000}
# How many candidates a search through an index keeps at least.
CANDIDATES = 100
MARKED = "(refresh = %(refresh)s OR superseded = %(refresh)s)"

Answer = TypeVar("Answer")


class PostgresStore(GalleryStore):
    """A gallery in a database; see ``GalleryStore`` for what its methods promise.

    Several processes may have it open, read and write at once: what one call has returned from, the next call of every other
    process sees. Text that holds the character NUL cannot be stored.

    Args:
        url: ``postgresql://user@host:5432/database?gallery=NAME``. The name of the gallery, ``evergallery`` by default, is
            that of its schema; all else means what it means to PostgreSQL's own tools. The password comes from
            ``PGPASSWORD`` or from ``~/.pgpass``; one in the URL is left out. Or a place that is open already.
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

    _remedy = "delete it and index it again"

    def __init__(
        self,
        url: str | Database,
        view: Callable[[], View] = lambda: EVERYTHING,
        *,
        precision: Precision | None = None,
        create: bool = True,
    ) -> None:
        super().__init__(view)
        self._database = url if isinstance(url, Database) else Database(url, precision, create)
        self._stored, self._spaces = (f'"{self._database.schema}".{table}' for table in ("versions", "spaces"))
        # What is read as the table of versions.
        self._versions = self._stored
        self._type = TYPES[self.precision]
        # Within a write it is the write's own cursor.
        self._reading = self._database.reading

    def close(self) -> None:
        """End the connections."""
        self._database.close()

    @property
    def precision(self) -> Precision:
        """Return how the vectors are kept."""
        return self._database.precision

    # The whole

    def at_one_moment(self, ask: Callable[[], Answer], view: View = EVERYTHING) -> Answer:
        """Return what ``ask`` returns, in one transaction that sees the rows of its beginning."""
        with self._reading():
            return ask()

    def compact(self) -> None:
        """Give back room and index what is large; see ``GalleryStore.compact``. Writers wait for an index, readers do not."""
        with self._database.connection() as connection:
            connection.execute(f"VACUUM (ANALYZE) {self._stored}")
        for generation, dimension in self._dimensions().items():
            vectors = self.count(Filter(generations=(generation,)), view=EVERYTHING)
            large = vectors >= INDEXED_FROM and self._may_index(generation, dimension)
            with self._database.writing() as cursor:
                self._index(cursor, generation, dimension, large)
            if large:
                measured = [vectors, measured_recall(self, generation), datetime.now(UTC).isoformat(timespec="seconds")]
                with self._database.writing() as cursor:
                    cursor.execute(
                        f"UPDATE {self._spaces} SET indexed = %s, recall = %s, measured = %s, changed = 0 WHERE generation = %s",
                        [*measured, generation],
                    )

    def _may_index(self, generation: str, dimension: int) -> bool:
        return dimension <= WIDEST_INDEXED[self.precision]

    def _index(self, cursor: "Cursor[Any]", generation: str, dimension: int, wanted: bool) -> None:
        """Build the index of a generation where there is none yet, or drop it."""
        name = f"nearest_{generation[:16]}"
        if wanted:
            cursor.execute(
                f'CREATE INDEX IF NOT EXISTS "{name}" ON {self._stored} USING hnsw '
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

    def verify(self) -> list[str]:
        """Read every version and say what is wrong, a sentence each."""
        problems = []
        dimensions = self._dimensions()
        for rows in self._rows(f"{COLUMNS}, point, metadata_terms", NO_FILTER, EVERYTHING, None, BATCH):
            for row in rows:
                problem = problem_of(row, dimensions)
                if problem:
                    problems.append(f"In the gallery, {problem}: {self._remedy}.")
        having, values = condition(NO_FILTER, self._view())
        twice = self._column("id", f"{having} GROUP BY point, id HAVING count(*) > 1", values)
        return problems + [f"In the gallery, {name!r} is in two generations: index it again." for name in twice]

    # Writing

    @contextmanager
    def _writing(self) -> Iterator[None]:
        with self._database.writing():
            yield

    def _admit(self, dimensions: Mapping[str, int]) -> None:
        with self._reading() as cursor:
            cursor.executemany(
                f"INSERT INTO {self._spaces} (generation, dimension) VALUES (%s, %s)", sorted(dimensions.items())
            )

    def _replace(self, items: Sequence[Item], held: Mapping[str, Sequence[Item]]) -> None:
        self._delete({item.id: () for item in items})
        self._insert(items)

    def _supersede(self, items: Sequence[Item], refresh: str) -> None:
        with self._reading() as cursor:
            cursor.execute(
                f"UPDATE {self._stored} SET superseded = %(refresh)s WHERE point = ANY(%(points)s)",
                {"refresh": refresh, "points": [point_id(item.id) for item in items]},
            )
        self._insert(items)

    def _add(self, versions: Sequence[Item]) -> None:
        for generation, group in by_generation(versions):
            points = [point_id(version.id) for version in group]
            self._delete_where(
                "generation = %(generation)s AND point = ANY(%(points)s)", {"generation": generation, "points": points}
            )
            self._insert(group)

    def _delete(self, held: Mapping[str, Sequence[Item]]) -> None:
        self._delete_where("point = ANY(%(points)s)", {"points": [point_id(identifier) for identifier in held]})

    def _count_marked(self, refresh: str) -> int:
        (total,) = self._column("count(*)", MARKED, {"refresh": refresh})
        return int(total)

    def _settle_some(self, refresh: str, losing: RefreshMark) -> tuple[int, int]:
        with self._reading() as cursor:
            # An item of one version has lost the other, whichever mark it bears.
            cursor.execute(
                f"SELECT DISTINCT point FROM {self._versions} WHERE {MARKED} ORDER BY point LIMIT {BATCH}",
                {"refresh": refresh},
            )
            values = {"refresh": refresh, "points": [point for (point,) in cursor]}
            if not values["points"]:
                return 0, 0
            gone = self._delete_where(
                f"point = ANY(%(points)s) AND {losing} = %(refresh)s AND EXISTS (SELECT FROM {self._stored} other "
                f"WHERE other.point = version.point AND other.generation <> version.generation)",
                values,
            )
            cursor.execute(
                f"UPDATE {self._stored} SET refresh = nullif(refresh, %(refresh)s), "
                f"superseded = nullif(superseded, %(refresh)s) WHERE point = ANY(%(points)s)",
                values,
            )
            return gone + cursor.rowcount, gone

    def _insert(self, items: Sequence[Item]) -> None:
        refuse_nul(items)
        columns = f"point, metadata_terms, {COLUMNS}"
        with (
            self._reading() as cursor,
            cursor.copy(f"COPY {self._stored} ({columns}) FROM STDIN (FORMAT BINARY)") as copy,
        ):
            copy.set_types(["uuid", "text[]", "text", self._type, *["text"] * 8])
            for item in items:
                written = {
                    "embedding": vector_of(item.embedding, self.precision),
                    "metadata": to_json(item.metadata),
                }
                values = (written.get(name, getattr(item, name)) for name in ATTRIBUTES)
                copy.write_row((point_id(item.id), metadata_terms(item.metadata), *values))

    def _delete_where(self, which: str, values: Parameters) -> int:
        """Delete versions, and note what their indexes have lost."""
        with self._reading() as cursor:
            cursor.execute(f"DELETE FROM {self._stored} version WHERE {which} RETURNING generation", values)
            gone = Counter(generation for (generation,) in cursor)
            cursor.executemany(
                f"UPDATE {self._spaces} SET changed = changed + %s WHERE generation = %s AND indexed IS NOT NULL",
                [(count, generation) for generation, count in gone.items()],
            )
        return gone.total()

    # Reading

    def _dimensions(self) -> dict[str, int]:
        with self._reading() as cursor:
            cursor.execute(f"SELECT generation, dimension FROM {self._spaces} ORDER BY generation")
            return dict(cursor.fetchall())

    def _held(
        self, identifiers: Sequence[str], with_embeddings: bool = True, view: View = EVERYTHING
    ) -> dict[str, list[Item]]:
        columns = COLUMNS if with_embeddings else WITHOUT_EMBEDDING
        points = [point_id(identifier) for identifier in identifiers]
        held: dict[str, list[Item]] = {}
        with self._reading() as cursor:
            cursor.execute(f"SELECT {columns} FROM {self._versions} WHERE point = ANY(%s)", [points])
            for row in cursor:
                held.setdefault(row[0], []).append(item_of(row))
        return held

    def _counts(self, where: Filter, view: View) -> dict[str, int]:
        return self._count_by("generation", where, view)

    def count_by_label(self, where: Filter = NO_FILTER, *, view: View | None = None) -> dict[str, int]:
        """Return how many items each label has."""
        return self._count_by("label", where, view or self._view())

    def _count_by(self, column: str, where: Filter, view: View) -> dict[str, int]:
        having, values = condition(where, view)
        with self._reading() as cursor:
            cursor.execute(
                f"SELECT {column}, count(*) FROM {self._versions} WHERE {having} AND {column} IS NOT NULL GROUP BY 1",
                values,
            )
            return dict(cursor.fetchall())

    def _holds(self, generation: str, view: View) -> bool:
        having, values = condition(Filter(generations=(generation,)), view)
        with self._reading() as cursor:
            cursor.execute(f"SELECT EXISTS (SELECT FROM {self._versions} WHERE {having})", values)
            row = cursor.fetchone()
        return bool(row and row[0])

    def _pages(
        self, where: Filter, view: View, after: str | None, size: int, *, with_embeddings: bool
    ) -> Iterator[list[list[Item]]]:
        columns = COLUMNS if with_embeddings else WITHOUT_EMBEDDING
        for rows in self._rows(columns, where, view, after, size):
            yield [[item_of(row) for row in versions] for _, versions in groupby(rows, key=lambda row: row[0])]

    def _rows(
        self, columns: str, where: Filter, view: View, after: str | None, size: int
    ) -> Iterator[list[tuple[Any, ...]]]:
        """Rows in order of their points, all those of a point together; each page as of its own moment."""
        having, values = condition(where, view)
        start = UUID(int=0) if after is None else point_id(after)
        while True:
            with self._reading() as cursor:
                cursor.execute(
                    f"SELECT {columns} FROM {self._versions} WHERE point > %(start)s AND {having} "
                    f"ORDER BY point FETCH FIRST {size} ROWS WITH TIES",
                    {**values, "start": start},
                )
                rows = cursor.fetchall()
            if rows:
                yield rows
            if len(rows) < size:
                return
            start = point_id(rows[-1][0])

    def _nearest(self, generation: str, queries: NDArray[np.float32], search: Search) -> list[list[Match]]:
        # Spelt as in the index, the generation as text, or the planner does not know that the index serves.
        having, values = condition(replace(search.where, generations=None), search.view)
        columns = COLUMNS if search.with_embeddings else WITHOUT_EMBEDDING
        distance = f"embedding::{self._type}({queries.shape[1]}) <#> %(query)b"
        limit, order = (search.k, "score DESC, id") if search.exact else (2 * search.k, distance)
        statement = (
            f"SELECT {columns}, -({distance}) AS score FROM {self._versions} "
            f"WHERE generation = '{generation}' AND {having} ORDER BY {order} LIMIT {limit}"
        )
        with self._reading() as cursor:
            if not search.exact:
                set_candidates(cursor, limit)
            found = []
            for query in queries:
                cursor.execute(statement, {**values, "query": vector_of(query, self.precision)})
                found.append([Match(item_of(row), row[-1]) for row in cursor])
            return found

    def _column(self, expression: str, having: str, values: Parameters) -> list[Any]:
        with self._reading() as cursor:
            cursor.execute(f"SELECT {expression} FROM {self._versions} WHERE {having}", values)
            return [row[0] for row in cursor]


def set_candidates(cursor: "Cursor[Any]", limit: int) -> None:
    """Let an index answer in order, with enough candidates, and go on until the conditions have let enough through."""
    cursor.execute("SET LOCAL hnsw.iterative_scan = strict_order")
    cursor.execute(f"SET LOCAL hnsw.ef_search = {min(1000, max(CANDIDATES, limit))}")
