"""Tables that somebody else keeps in PostgreSQL, and everything about them that may be told from outside."""

import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Table:
    """A table of a database that ends with its test.

    Attributes:
        server: URL of the database.
        url: which names the table too, and a gallery of its own for what is ours.
        schema: where the table is.
        gallery: the schema that is ours.
    """

    server: str
    url: str
    schema: str
    gallery: str

    def sql(self, command: str, values: Sequence[Any] | None = None) -> list[tuple[Any, ...]]:
        """Run a command as the table's owner; ``{items}`` is the table."""
        import psycopg

        with psycopg.connect(self.server) as connection:
            done = connection.execute(command.replace("{items}", f"{self.schema}.items"), values)
            return done.fetchall() if done.description else []

    def traces(self) -> list[tuple[Any, ...]]:
        """Rows with where and when they were written, and what the catalogue knows of the table and of its database."""
        oid = f"'{self.schema}.items'::regclass"
        return [
            *self.sql("SELECT xmin::text, xmax::text, ctid::text, t::text FROM {items} t ORDER BY ctid"),
            *self.sql(f"SELECT to_jsonb(c) - 'relpages' - 'reltuples' - 'relallvisible' - 'relallfrozen' - 'relfrozenxid' "
                      f"- 'relminmxid' FROM pg_class c WHERE oid = {oid}"),
            *self.sql(f"SELECT to_jsonb(a) FROM pg_attribute a WHERE attrelid = {oid} ORDER BY attnum"),
            *self.sql(f"SELECT indexrelid FROM pg_index WHERE indrelid = {oid} ORDER BY 1"),
            *self.sql(f"SELECT oid FROM pg_trigger WHERE tgrelid = {oid} ORDER BY 1"),
            *self.sql(f"SELECT oid FROM pg_constraint WHERE conrelid = {oid} OR confrelid = {oid} ORDER BY 1"),
            *self.sql(f"SELECT to_jsonb(d) FROM pg_depend d WHERE refobjid = {oid} OR objid = {oid} ORDER BY 1::text"),
        ]  # fmt: skip

    def everything(self) -> list[tuple[Any, ...]]:
        """What there is in the database, of anybody's."""
        return self.sql(
            "SELECT 'schema', nspname::text FROM pg_namespace WHERE nspname !~ '^pg_(toast_)?temp' UNION ALL "
            "SELECT 'relation', c.oid::regclass::text FROM pg_class c WHERE relnamespace <> 'pg_toast'::regnamespace "
            "UNION ALL SELECT 'type', oid::regtype::text FROM pg_type UNION ALL SELECT 'function', oid::text FROM pg_proc "
            "UNION ALL SELECT 'extension', extname::text FROM pg_extension ORDER BY 1, 2"
        )


@contextmanager
def foreign_table(
    server: str,
    vectors: NDArray[np.float32],
    *,
    ids: Sequence[str] | None = None,
    labels: Sequence[str | None] | None = None,
    uris: Sequence[str | None] | None = None,
    kind: str = "vector",
) -> Iterator[Table]:
    """A table ``items`` of N vectors (N, D) with the columns sku, class, photo, price, embedding."""
    import psycopg

    name = f"shop_{uuid.uuid4().hex}"
    count, dimension = vectors.shape
    ids = ids or [f"sku {number}" for number in range(count)]
    rows = zip(ids, labels or [None] * count, uris or [None] * count, range(count), vectors.tolist(), strict=True)
    with psycopg.connect(server) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE EXTENSION IF NOT EXISTS vector")
        cursor.execute(f"CREATE SCHEMA {name}")
        cursor.execute(
            f"CREATE TABLE {name}.items (sku text PRIMARY KEY, class text, photo text, price integer, "
            f"embedding {kind}({dimension}))"
        )
        cursor.executemany(
            f"INSERT INTO {name}.items VALUES (%s, %s, %s, %s, %s::{kind})",
            [(*row, str(vector)) for *row, vector in rows],
        )
    gallery = f"ours_{name}"
    options = f"table={name}.items&id=sku&label=class&uri=photo&metadata=price&gallery={gallery}"
    try:
        yield Table(server, f"{server}&{options}", name, gallery)
    finally:
        with psycopg.connect(server) as connection:
            connection.execute(f"DROP SCHEMA IF EXISTS {gallery} CASCADE")
            connection.execute(f"DROP SCHEMA {name} CASCADE")
