"""A table that somebody else keeps: which of its columns are read, and the SQL that reads them.

It is only read. Nothing of ours depends on it either, neither a view nor a foreign key, so that its owners may change it, or
drop it, as if nobody had looked.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from evergallery.data.metadata import is_name
from evergallery.errors import InputError, NotFoundError, did_you_mean
from evergallery.gallery.adopted import EXAMPLES
from evergallery.gallery.items import Precision
from evergallery.gallery.places import options_of, with_options

if TYPE_CHECKING:
    from psycopg import Connection, Cursor

PRECISIONS: dict[str, Precision] = {"vector": "float32", "halfvec": "float16"}
TEXTS = ("label", "uri", "content_hash")
OPTIONS = ("table", "id", "vector", "metadata", "base", *TEXTS)
"""The options in the URL of a table beside PostgreSQL's own."""
KEPT_AS_THEY_ARE = {"int2", "int4", "int8", "float4", "float8", "bool"}
"""Types of metadata that are numbers or truth values; any other is read as text."""


@dataclass(frozen=True)
class CatalogueColumn:
    """A column as the catalogue has it."""

    name: str
    type: str
    is_builtin: bool
    collation: str | None
    size: int
    is_unique: bool


@dataclass(frozen=True)
class Collection:
    """The columns of a table that are read.

    Attributes:
        schema: where the table is.
        table: its name; a view or a partitioned table serves as well.
        id: column of the ids, each of one row.
        vector: column of the vectors.
        texts: columns of label, address of the image and hash of its content, by what they are.
        metadata: columns that become metadata, with their types.
        base: what is put before each address, such as ``/photos/`` or ``s3://bucket/``.
        key: SQL type that their ids are kept in beside our vectors.
        casts: whether ids are compared as text, since their type is none of PostgreSQL's own.
        kind: ``vector`` or ``halfvec``.
        dimension: of the vectors.
        mixes: whether the column admits vectors of any dimension.
    """

    schema: str
    table: str
    id: str
    vector: str
    texts: Mapping[str, str]
    metadata: Mapping[str, str]
    base: str
    key: str
    casts: bool
    kind: str
    dimension: int
    mixes: bool

    def __str__(self) -> str:
        return f"the table {self.schema}.{self.table}"

    @property
    def precision(self) -> Precision:
        """Return how its vectors are kept."""
        return PRECISIONS[self.kind]

    @property
    def relation(self) -> str:
        """The table in SQL, as ``theirs``."""
        return f"{quoted(self.schema)}.{quoted(self.table)} AS theirs"

    @property
    def joined(self) -> str:
        """The id of a row, as it is compared with a key."""
        return f"theirs.{quoted(self.id)}" + ("::text" if self.casts else "")

    @property
    def raw(self) -> str:
        """The vector of a row."""
        return f"theirs.{quoted(self.vector)}"

    @property
    def embedding(self) -> str:
        """The vector of a row at unit length."""
        return f"l2_normalize({self.raw})::{self.kind}"

    @property
    def norm(self) -> str:
        """The length of a row's vector."""
        return f"{'vector_norm' if self.kind == 'vector' else 'l2_norm'}({self.raw})"

    @property
    def fits(self) -> str:
        """Return whether a row has a vector of the collection's dimension."""
        # Asked where it need not be, the planner would take it for rare, and leave an index of the vectors alone.
        dimension = f" AND vector_dims({self.raw}) = {self.dimension}" if self.mixes else ""
        return f"{self.raw} IS NOT NULL{dimension}"

    @property
    def flaw(self) -> str:
        """Return what is wrong with a row, ``NULL`` where nothing is."""
        return (
            f"CASE WHEN nullif({self.joined}::text, '') IS NULL THEN 'no id' "
            f"WHEN {self.raw} IS NULL THEN 'no vector' "
            f"WHEN vector_dims({self.raw}) <> {self.dimension} "
            f"THEN 'a vector of ' || vector_dims({self.raw}) || ' dimensions, not {self.dimension}' "
            f"WHEN {self.norm} = 0 THEN 'a vector of zeros' END"
        )

    @property
    def described(self) -> list[str]:
        """Return what a row says of itself: label, address, content hash, then metadata."""
        texts = {
            name: f"nullif(theirs.{quoted(self.texts[name])}::text, '')" if name in self.texts else "NULL::text"
            for name in TEXTS
        }
        texts["uri"] = f"{_literal(self.base)} || {texts['uri']}"
        return list(texts.values()) + [
            f"theirs.{quoted(name)}" + ("" if kind in KEPT_AS_THEY_ARE else "::text")
            for name, kind in self.metadata.items()
        ]

    @property
    def said(self) -> str:
        """SQL of a digest of what a row says of itself."""
        return f"md5(ROW({', '.join(self.described)})::text)"

    @property
    def pictured(self) -> str:
        """SQL of a digest of what tells a row's picture: its vector, address and content hash."""
        _, uri, content, *_ = self.described
        return f"md5(md5({self.kind}_send({self.raw})) || ROW({uri}, {content})::text)"

    def to_json(self) -> str:
        """The collection as JSON, as it is kept beside the gallery."""
        return json.dumps(asdict(self))

    @classmethod
    def of_json(cls, text: str) -> "Collection":
        """The collection that ``to_json`` has written."""
        return cls(**json.loads(text))

    def space(self, url: str) -> str:
        """SHA-256 of the place of the vectors, which tells their space from others where nobody names the model."""
        parts = urlsplit(url)
        hosts = [option for option in options_of(url) if option.startswith(("host=", "port=", "dbname="))]
        place = [parts.netloc.rpartition("@")[2], parts.path, *hosts, self.schema, self.table, self.vector]
        return hashlib.sha256(json.dumps(place).encode()).hexdigest()

    def has_index(self, cursor: "Cursor[Any]") -> bool:
        """Return whether its owners have an index of all vectors by their cosines."""
        cursor.execute(
            "SELECT EXISTS (SELECT FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid JOIN pg_am ON pg_am.oid = relam "
            "JOIN pg_opclass ON pg_opclass.oid = indclass[0] JOIN pg_attribute ON attrelid = indrelid AND attnum = indkey[0] "
            "WHERE indrelid = to_regclass(%s) AND indisvalid AND indpred IS NULL AND amname IN ('hnsw', 'ivfflat') "
            "AND opcname = %s AND attname = %s)",
            [f"{_plain(self.schema)}.{_plain(self.table)}", f"{self.kind}_cosine_ops", self.vector],
        )
        return cursor.fetchone() == (True,)

    def require_unique(self, cursor: "Cursor[Any]") -> None:
        """Refuse ids that more than one row has.

        Raises:
            InputError: there are such.
        """
        cursor.execute(
            f"SELECT {self.joined}::text, count(*) OVER () FROM {self.relation} WHERE {self.joined} IS NOT NULL "
            f"GROUP BY {self.joined} HAVING count(*) > 1 LIMIT %s",
            [EXAMPLES],
        )
        twice = cursor.fetchall()
        if twice:
            raise InputError(
                f"The column {self.id} of {self} has {twice[0][1]} values that several rows share, such as {twice[0][0]!r}: "
                f"name a column whose values are unique, with id=COLUMN."
            )

    def require_usable(self, cursor: "Cursor[Any]") -> None:
        """Refuse a table that this user may not read, or none of whose rows can be used, before anything is made.

        Raises:
            InputError: no row has an id and a vector.
        """
        cursor.execute(f"SELECT EXISTS (SELECT FROM {self.relation} WHERE {self.flaw} IS NULL)", [])
        if cursor.fetchone() != (True,):
            raise InputError(
                f"The table {self.schema}.{self.table} has no row with an id and a vector that can be used in {self.vector}."
            )


def quoted(name: str) -> str:
    """A name in SQL; a percent sign is doubled, as psycopg wants it where values are passed."""
    return _plain(name).replace("%", "%%")


def _plain(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''").replace("%", "%%") + "'"


def split_url(url: str) -> tuple[str, dict[str, str]]:
    """A URL without what names the table and its columns, and that, by name.

    Raises:
        InputError: it names no table, or one thing twice.
    """
    named: dict[str, str] = {}
    others = []
    for option in options_of(url):
        name, _, value = option.partition("=")
        if name not in OPTIONS:
            others.append(option)
        elif name in named:
            raise InputError(f"{url} says {name}= twice: name one column.")
        else:
            named[name] = unquote(value)
    if not named.get("table"):
        raise InputError(
            f"{url} names no table: write  postgresql://user@host:5432/database?table=TABLE&id=COLUMN&vector=COLUMN"
        )
    return with_options(url, others), named


def collection_at(connection: "Connection[Any]", named: Mapping[str, str]) -> Collection:
    """The table that options of a URL name, once it was found to have what they say.

    Raises:
        NotFoundError: there is no such table, or the database has no pgvector.
        InputError: a column is missing or of another type, an id occurs twice, or no vector can be used.
    """
    with connection.cursor() as cursor:
        schema, table = _schema_and_table(cursor, named["table"])
        columns = _Columns(f"{schema}.{table}", _columns(cursor, schema, table))
        identifier, vector = columns.named(named.get("id", "id"), "id"), columns.vector(named.get("vector"))
        collation = f" COLLATE {identifier.collation}" if identifier.collation and identifier.is_builtin else ""
        found = Collection(
            schema=schema,
            table=table,
            id=identifier.name,
            vector=vector.name,
            texts={name: columns.named(named[name], name).name for name in TEXTS if named.get(name)},
            metadata={column.name: column.type for column in columns.metadata(named.get("metadata", ""))},
            base=named.get("base", ""),
            key=f"{identifier.type}{collation}" if identifier.is_builtin else "text",
            casts=not identifier.is_builtin,
            kind=vector.type,
            dimension=vector.size if vector.size > 0 else _usual_dimension(cursor, schema, table, vector.name),
            mixes=vector.size <= 0,
        )
        if not identifier.is_unique:
            found.require_unique(cursor)
        found.require_usable(cursor)
        return found


class _Columns:
    """The columns of a table, looked up as the options of a URL name them.

    Args:
        table: its schema and name, for messages.
        columns: all that it has.
    """

    def __init__(self, table: str, columns: Sequence[CatalogueColumn]) -> None:
        self._table = table
        self._columns = {column.name: column for column in columns}

    def named(self, name: str, option: str) -> CatalogueColumn:
        """The column that an option names.

        Raises:
            InputError: the table has none of this name.
        """
        if name not in self._columns:
            raise InputError(
                f"The table {self._table} has no column {name!r} for {option}=; it has {', '.join(self._columns)}."
                f"{did_you_mean(name, self._columns)}"
            )
        return self._columns[name]

    def vector(self, name: str | None) -> CatalogueColumn:
        """The column of vectors of this name, or the only one.

        Raises:
            InputError: the column is of another type, or there is not exactly one.
        """
        vectors = [column for column in self._columns.values() if column.type in PRECISIONS]
        if name is None and len(vectors) != 1:
            names = ", ".join(column.name for column in vectors) or "none"
            raise InputError(
                f"The table {self._table} has {len(vectors)} columns of vectors ({names}): name one with vector=COLUMN."
            )
        vector = vectors[0] if name is None else self.named(name, "vector")
        if vector.type not in PRECISIONS:
            raise InputError(
                f"The column {vector.name} of {self._table} is of type {vector.type}: vectors of pgvector are of type vector "
                f"or halfvec."
            )
        return vector

    def metadata(self, names: str) -> list[CatalogueColumn]:
        """The columns that become metadata, by their names between commas.

        Raises:
            InputError: one is missing, or metadata cannot have its name.
        """
        columns = [self.named(name, "metadata") for name in names.split(",") if name]
        for column in columns:
            if not is_name(column.name):
                raise InputError(
                    f"The column {column.name!r} of {self._table} cannot be metadata: names of metadata are letters, digits, _ "
                    f"and -; adopt a view that calls it otherwise."
                )
        return columns


def _schema_and_table(cursor: "Cursor[Any]", name: str) -> tuple[str, str]:
    """Schema and name of a table: as it is written, or as PostgreSQL reads it without quotes."""
    schema, _, table = name.rpartition(".")
    spelt = [[name], *([[schema, table]] if schema else [])]
    spelt += [[part.lower() for part in parts] for parts in spelt]
    for parts in spelt:
        cursor.execute(
            "SELECT nspname, relname FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace "
            "WHERE pg_class.oid = to_regclass(%s) AND relkind IN ('r', 'p', 'v', 'm', 'f')",
            [".".join(map(_plain, parts))],
        )
        row = cursor.fetchone()
        if row:
            return str(row[0]), str(row[1])
    raise NotFoundError(f"The database has no table {name!r}: name one with table=TABLE or table=SCHEMA.TABLE.")


def _columns(cursor: "Cursor[Any]", schema: str, table: str) -> Sequence[CatalogueColumn]:
    cursor.execute(
        """
        SELECT attname, typname, type_space.nspname = 'pg_catalog' AND typtype = 'b',
            CASE WHEN attcollation NOT IN (0, 100)
                THEN quote_ident(collation_space.nspname) || '.' || quote_ident(collname) END,
            atttypmod,
            EXISTS (SELECT FROM pg_index WHERE indrelid = attrelid AND indisunique AND indisvalid AND indnkeyatts = 1
                AND indpred IS NULL AND indkey[0] = attnum)
        FROM pg_attribute
            JOIN pg_class ON pg_class.oid = attrelid
            JOIN pg_namespace ON pg_namespace.oid = relnamespace
            JOIN pg_type ON pg_type.oid = atttypid
            JOIN pg_namespace type_space ON type_space.oid = typnamespace
            LEFT JOIN pg_collation ON pg_collation.oid = attcollation
            LEFT JOIN pg_namespace collation_space ON collation_space.oid = collnamespace
        WHERE pg_namespace.nspname = %s AND relname = %s AND attnum > 0 AND NOT attisdropped
        ORDER BY attnum
        """,
        [schema, table],
    )
    return [CatalogueColumn(*row) for row in cursor]


def _usual_dimension(cursor: "Cursor[Any]", schema: str, table: str, vector: str) -> int:
    """The dimension that most vectors have, of a column that admits any."""
    cursor.execute(
        f"SELECT vector_dims({quoted(vector)}) FROM {quoted(schema)}.{quoted(table)} WHERE {quoted(vector)} IS NOT NULL "
        f"GROUP BY 1 ORDER BY count(*) DESC, 1 LIMIT 1",
        [],
    )
    row = cursor.fetchone()
    if row is None:
        raise InputError(f"The table {schema}.{table} has no vector in {vector}: adopt it once it has some.")
    return int(row[0])
