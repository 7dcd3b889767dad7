"""The engine for many processes: PostgreSQL with pgvector."""

from evergallery.gallery.postgres.store import PostgresStore

__all__ = ["PostgresStore"]
