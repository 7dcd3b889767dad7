"""The engine for many processes: PostgreSQL with pgvector.

``store.py`` is the engine, ``database.py`` its place, ``rows.py`` makes rows of versions. ``adopted.py`` is a gallery over a
table that somebody else keeps: ``collection.py`` reads it, ``adopting.py`` makes what lies beside it.
"""

from evergallery.gallery.postgres.store import PostgresStore

__all__ = ["PostgresStore"]
