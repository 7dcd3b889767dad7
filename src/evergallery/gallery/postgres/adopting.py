"""Looking at a table that is to be adopted, and making the tables beside it that are ours."""

import re

from evergallery.errors import RefusedError, extra
from evergallery.gallery.adopted import Adoptable
from evergallery.gallery.places import options_of, with_options, without_password
from evergallery.gallery.postgres.collection import Collection, collection_at, split_url
from evergallery.gallery.postgres.database import (
    FORMAT,
    GALLERY,
    SECONDS_TO_CONNECT,
    explained,
    make_gallery,
    require_pgvector,
    server_and_schema,
)

LONGEST_NAME = 63


class AdoptablePostgresTable(Adoptable):
    """A table that a URL names, looked at.

    Args:
        url: ``postgresql://user@host:5432/database?table=TABLE&id=COLUMN&vector=COLUMN``, with what else is read: ``label``,
            ``uri``, ``content_hash``, ``metadata=COLUMN,COLUMN``; and ``gallery=NAME``, the schema that is made for what is
            ours, ``evergallery_TABLE`` by default. All else means what it means to PostgreSQL's own tools.

    Raises:
        MissingExtraError: the extra ``postgres`` is not installed.
        InputError: the URL cannot be used, or the table has no such columns.
        NotFoundError: the server does not answer, or has no such database, table or pgvector.
        RefusedError: the user may not read the table.
    """

    def __init__(self, url: str) -> None:
        with extra("A collection in PostgreSQL", "postgres"):
            import pgvector  # noqa: F401
            import psycopg
        without, named = split_url(without_password(url))
        options = options_of(without)
        if not any(option.startswith("gallery=") for option in options):
            table = re.sub("[^a-z0-9_]", "_", named["table"].rpartition(".")[2].lower())
            options.append(f"gallery={GALLERY}_{table}"[: len("gallery=") + LONGEST_NAME])
        self.place = with_options(without, options)
        self._server, self._schema = server_and_schema(self.place)
        with (
            explained(self.place),
            psycopg.connect(self._server, connect_timeout=SECONDS_TO_CONNECT) as connection,
        ):
            require_pgvector(connection, self.place, make=False)
            self._collection = collection_at(connection, named)
        self.collection, self.dimension = str(self._collection), self._collection.dimension
        self.space = self._collection.space(self.place)

    @property
    def described(self) -> str:
        """Return what would be read, exactly."""
        return self._collection.to_json()

    def make(self, generation: str, owner: str) -> None:
        """Make the tables that are ours, where they are missing; see ``Adoptable``."""
        import psycopg

        described = [self._collection.to_json(), generation]
        with (
            explained(self.place),
            psycopg.connect(self._server, connect_timeout=SECONDS_TO_CONNECT) as connection,
        ):
            connection.execute("SELECT pg_advisory_xact_lock(hashtext('evergallery'))")
            if connection.execute("SELECT to_regclass(%s)", [f'"{self._schema}".gallery']).fetchone() == (None,):
                make_gallery(connection, self._schema, self._collection.precision, FORMAT)
                connection.execute(_tables(self._schema, self._collection))
                connection.execute(f'INSERT INTO "{self._schema}".adopted VALUES (%s, %s, %s)', [*described, owner])
                connection.execute(
                    f'INSERT INTO "{self._schema}".spaces (generation, dimension) VALUES (%s, %s)',
                    [generation, self.dimension],
                )
                return
            if connection.execute("SELECT to_regclass(%s)", [f'"{self._schema}".adopted']).fetchone() == (None,):
                raise RefusedError(
                    f"{self.place} is a gallery already: name another one, with gallery=NAME in the URL."
                )
            found = connection.execute(f'SELECT collection, generation, owner FROM "{self._schema}".adopted').fetchone()
        if found != (*described, owner):
            whose = "with other columns" if found and found[2] == owner else f"by the workspace {found and found[2]}"
            raise RefusedError(
                f"{self.collection} was adopted {whose} as {self.place}: release it there first, with  evergallery release"
                f"  or name another gallery for what is ours, with gallery=NAME in the URL."
            )


def _tables(schema: str, collection: Collection) -> str:
    """Return what the schema of an adopted table has beside the tables of every gallery."""
    return f"""
        CREATE TABLE "{schema}".adopted (collection text NOT NULL, generation text NOT NULL, owner text NOT NULL);
        CREATE TABLE "{schema}".notes (
            point uuid PRIMARY KEY,
            key {collection.key} NOT NULL UNIQUE,
            said text NOT NULL,
            pictured text NOT NULL,
            superseded text,
            hidden boolean NOT NULL,
            id text COLLATE "C" NOT NULL,
            label text,
            uri text,
            content_hash text,
            added text NOT NULL,
            metadata text NOT NULL,
            metadata_terms text[] NOT NULL
        );
        CREATE INDEX ON "{schema}".notes (label);
        CREATE INDEX ON "{schema}".notes (content_hash);
        CREATE INDEX ON "{schema}".notes USING hash (uri);
        CREATE INDEX ON "{schema}".notes USING gin (metadata_terms);
        CREATE INDEX ON "{schema}".notes (superseded, point) WHERE superseded IS NOT NULL;
    """
