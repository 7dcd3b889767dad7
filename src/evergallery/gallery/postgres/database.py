"""A gallery's place in PostgreSQL: its URL, its tables, and transactions that read one moment or write in turn."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from evergallery.errors import DamagedError, InputError, MissingExtraError, NotFoundError, RefusedError
from evergallery.gallery.items import Precision, require_precision
from evergallery.gallery.places import options_of, with_options, without_password
from evergallery.gallery.postgres.collection import Collection

if TYPE_CHECKING:
    from psycopg import Connection, Cursor

FORMAT = 2
"""The newest that is read; a gallery has the oldest that can hold it."""
PLAIN = 1
GALLERY = "evergallery"
TYPES: dict[Precision, str] = {"float32": "vector", "float16": "halfvec"}
# Iterative scans go on through an index until a filter has let enough through; before, they lost most of the answer.
LEAST_PGVECTOR = (0, 8)
SECONDS_TO_CONNECT = 10


class Database:
    """The schema of one gallery, made where it is missing; see ``PostgresStore`` for the arguments and what is raised.

    Attributes:
        url: without a password.
        schema: name of the gallery's schema.
        precision: of its vectors.
        collection: the table of somebody else's that it is over, where it is.
    """

    def __init__(self, url: str, precision: Precision | None, create: bool) -> None:
        try:
            import pgvector  # noqa: F401
            from psycopg_pool import ConnectionPool
        except ImportError:
            raise MissingExtraError("A gallery in PostgreSQL", "postgres") from None
        self.url = without_password(url)
        server, self.schema = server_and_schema(self.url)
        self._transaction = threading.local()
        self.collection: Collection | None = None
        with explained(self.url):
            self.precision = self._prepare(server, precision, create)
            self._pool = ConnectionPool(
                server,
                kwargs={"autocommit": True, "connect_timeout": SECONDS_TO_CONNECT},
                min_size=1,
                max_size=16,
                timeout=SECONDS_TO_CONNECT,
                configure=_with_vectors,
                check=ConnectionPool.check_connection,
                open=True,
            )

    def close(self) -> None:
        """End the connections."""
        self._pool.close()

    @contextmanager
    def reading(self) -> Iterator["Cursor[Any]"]:
        """Ask the rows as they are at one moment, of all questions that this thread asks within, or within a write of its."""
        held: Cursor[Any] | None = getattr(self._transaction, "cursor", None)
        if held is not None:
            yield held
            return
        with self._beginning(reads=True) as cursor:
            yield cursor

    @contextmanager
    def writing(self) -> Iterator["Cursor[Any]"]:
        """Change the rows, all at once when the block ends; one process at a time, while readers go on."""
        with self._beginning(reads=False) as cursor:
            cursor.execute(f'LOCK TABLE "{self.schema}".spaces IN SHARE ROW EXCLUSIVE MODE')
            yield cursor

    @contextmanager
    def _beginning(self, *, reads: bool) -> Iterator["Cursor[Any]"]:
        """A transaction, which is this thread's until it ends."""
        from psycopg import IsolationLevel

        with self.connection() as connection:
            if reads:
                # They are said as the transaction begins, and not in a question to the server of their own.
                connection.isolation_level, connection.read_only = IsolationLevel.REPEATABLE_READ, True
            with connection.transaction(), connection.cursor(binary=True) as cursor:
                self._transaction.cursor = cursor
                try:
                    yield cursor
                finally:
                    self._transaction.cursor = None

    @contextmanager
    def connection(self) -> Iterator["Connection[Any]"]:
        """A connection outside of any transaction."""
        with explained(self.url, self.collection), self._pool.connection() as connection:
            # Whoever had it last may have only read.
            connection.isolation_level = connection.read_only = None
            yield connection

    def _prepare(self, server: str, precision: Precision | None, create: bool) -> Precision:
        """Make what is missing in the database; returns the precision of the gallery."""
        import psycopg

        schema = self.schema
        with psycopg.connect(server, connect_timeout=SECONDS_TO_CONNECT) as connection:
            # Of processes that find nothing at the same time one makes it.
            connection.execute("SELECT pg_advisory_xact_lock(hashtext('evergallery'))")
            if connection.execute("SELECT to_regclass(%s)", [f'"{schema}".gallery']).fetchone() == (None,):
                if not create:
                    raise NotFoundError(
                        f"There is no gallery {self.url}: make one with  evergallery init DIRECTORY --store {self.url}  or "
                        f" evergallery gallery copy FROM {self.url}"
                    )
                require_pgvector(connection, self.url)
                precision = precision or "float32"
                require_precision("PostgreSQL", precision, TYPES)
                make_gallery(connection, schema, precision, PLAIN)
            row = connection.execute(f'SELECT format, precision FROM "{schema}".gallery').fetchone()
            if row is None or row[0] > FORMAT:
                raise DamagedError(
                    f"The gallery {self.url} has format {row and row[0]} and this version of Evergallery reads up to {FORMAT}: "
                    f"install a newer Evergallery."
                )
            if row[0] > PLAIN:
                adopted = connection.execute(f'SELECT collection FROM "{schema}".adopted').fetchone()
                if adopted is None:
                    raise DamagedError(
                        f"The gallery {self.url} does not say what it is over: restore it from a backup."
                    )
                self.collection = Collection.of_json(adopted[0])
        held: Precision = row[1]
        if precision not in (None, held):
            raise InputError(
                f"The gallery {self.url} keeps vectors as {held}, not as {precision}: copy it into another one with  "
                f"evergallery gallery copy {self.url} TO --precision {precision}"
            )
        return held


@contextmanager
def explained(url: str, collection: Collection | None = None) -> Iterator[None]:
    """Say in a sentence what PostgreSQL has refused.

    Args:
        url: of the gallery, or of the table, without a password.
        collection: the table of somebody else's that is read, if any.
    """
    import psycopg
    from psycopg import errors

    try:
        yield
    except errors.DiskFull as error:
        raise OSError(28, f"No space left on device for the gallery {url}") from error
    except (errors.InsufficientPrivilege, errors.ReadOnlySqlTransaction) as error:
        raise RefusedError(
            f"PostgreSQL does not allow it in the gallery {url} ({_first_line(error)}): grant it to this user, or name another "
            f"one in the URL."
        ) from error
    except psycopg.OperationalError as error:
        raise NotFoundError(
            f"The gallery {url} does not answer ({_first_line(error)}): start its server, or see whether the URL is right and "
            f"the password is in PGPASSWORD or ~/.pgpass."
        ) from error
    except psycopg.DataError as error:
        raise InputError(f"The gallery {url} cannot be asked for that ({_first_line(error)}).") from error
    except psycopg.Error as error:
        if collection is not None and isinstance(error, errors.UndefinedTable | errors.UndefinedColumn):
            raise NotFoundError(
                f"{collection} is no longer what was adopted as {url} ({_first_line(error)}): bring it back, or let go of it "
                f"with  evergallery release"
            ) from error
        raise DamagedError(
            f"The gallery {url} is not what was made ({_first_line(error)}): restore it from a backup."
        ) from error


def make_gallery(connection: "Connection[Any]", schema: str, precision: Precision, number: int) -> None:
    """Make the tables of a gallery, and its schema where that is missing.

    Args:
        connection: within a transaction.
        schema: its name.
        precision: of the vectors.
        number: of its format.
    """
    if connection.execute("SELECT to_regnamespace(%s)", [f'"{schema}"']).fetchone() == (None,):
        connection.execute(f'CREATE SCHEMA "{schema}"')
    connection.execute(_tables(schema, TYPES[precision]))
    connection.execute(f'INSERT INTO "{schema}".gallery VALUES (%s, %s)', [number, precision])


def require_pgvector(connection: "Connection[Any]", url: str, *, make: bool = True) -> None:
    """Refuse a database without pgvector, or that holds less than all text.

    Args:
        connection: within a transaction.
        url: for messages.
        make: whether the extension is made where it is missing.

    Raises:
        NotFoundError: pgvector is missing and cannot be made, or is too old.
        InputError: the encoding is not UTF8.
    """
    import psycopg

    def version() -> str | None:
        row = connection.execute("SELECT extversion FROM pg_extension WHERE extname = 'vector'").fetchone()
        return row[0] if row else None

    least = ".".join(map(str, LEAST_PGVECTOR))
    if version() is None:
        if not make:
            raise NotFoundError(
                f"The database of {url} has no pgvector, and so no column of vectors: name another one."
            )
        try:
            with connection.transaction():
                connection.execute("CREATE EXTENSION vector")
        except psycopg.Error as error:
            raise NotFoundError(
                f"The database of {url} has no pgvector ({_first_line(error)}): install pgvector {least} or newer on "
                f"the server, then run  CREATE EXTENSION vector  there as its administrator."
            ) from error
    found = version() or ""
    if tuple(map(int, found.split(".")[:2])) < LEAST_PGVECTOR:
        raise NotFoundError(
            f"The database of {url} has pgvector {found}: install {least} or newer, then run  "
            f"ALTER EXTENSION vector UPDATE  there."
        )
    encoding = connection.execute("SHOW server_encoding").fetchone()
    if encoding != ("UTF8",):
        raise InputError(f"The database of {url} has the encoding {encoding and encoding[0]}: make one with UTF8.")


def server_and_schema(url: str) -> tuple[str, str]:
    """The URL that PostgreSQL connects to, and the schema of the gallery in that database.

    Raises:
        InputError: a gallery cannot be called so, or it is no URL of PostgreSQL.
    """
    from psycopg import ProgrammingError
    from psycopg.conninfo import conninfo_to_dict

    named = [option for option in options_of(url) if option.startswith("gallery=")]
    schema = named[-1].removeprefix("gallery=") if named else GALLERY
    # PostgreSQL cuts longer names off.
    if not re.fullmatch("[a-z_][a-z0-9_]{0,62}", schema) or schema.startswith("pg_"):
        raise InputError(
            f"The gallery cannot be called {schema!r}: take small letters, digits and _, at most 63, not pg_ at the beginning."
        )
    server = with_options(url, [option for option in options_of(url) if option not in named])
    try:
        conninfo_to_dict(server)
    except ProgrammingError as error:
        raise InputError(f"{url} is no URL of PostgreSQL ({_first_line(error)}): see docs/engines.md.") from None
    return server, schema


def _tables(schema: str, kind: str) -> str:
    """The tables of a gallery.

    Text is compared byte by byte, which is the order of code points. The metadata themselves are text, because numbers must
    come back as they were; their terms are there to be filtered by. A space says what was measured of its index, where it has
    one, and how many of its vectors have changed since.
    """
    return f"""
        CREATE TABLE "{schema}".gallery (format integer NOT NULL, precision text NOT NULL);
        CREATE TABLE "{schema}".spaces (
            generation text PRIMARY KEY,
            dimension integer NOT NULL,
            indexed integer,
            recall double precision,
            measured text,
            changed integer NOT NULL DEFAULT 0
        );
        CREATE TABLE "{schema}".versions (
            point uuid NOT NULL,
            generation text NOT NULL REFERENCES "{schema}".spaces,
            id text COLLATE "C" NOT NULL,
            label text,
            uri text,
            content_hash text,
            added text NOT NULL,
            metadata text NOT NULL,
            metadata_terms text[] NOT NULL,
            refresh text,
            superseded text,
            embedding {kind} NOT NULL,
            PRIMARY KEY (point, generation)
        );
        CREATE INDEX ON "{schema}".versions (generation);
        CREATE INDEX ON "{schema}".versions (label);
        CREATE INDEX ON "{schema}".versions (content_hash);
        CREATE INDEX ON "{schema}".versions USING hash (uri);
        CREATE INDEX ON "{schema}".versions USING gin (metadata_terms);
        CREATE INDEX ON "{schema}".versions (refresh, point) WHERE refresh IS NOT NULL;
        CREATE INDEX ON "{schema}".versions (superseded, point) WHERE superseded IS NOT NULL;
    """


def _with_vectors(connection: "Connection[Any]") -> None:
    from pgvector.psycopg import register_vector

    register_vector(connection)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
