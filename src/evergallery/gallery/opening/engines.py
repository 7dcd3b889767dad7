"""The engine of a gallery: a directory is Qdrant Edge's, a URL names another."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from evergallery.errors import InputError
from evergallery.gallery.adopted import Adoptable
from evergallery.gallery.items import EVERYTHING, Precision, View
from evergallery.gallery.places import is_url
from evergallery.gallery.store import GalleryStore


class Opener(Protocol):
    """A function that opens a gallery of one engine."""

    def __call__(
        self, place: str, view: Callable[[], View], /, *, precision: Precision | None, create: bool
    ) -> GalleryStore:
        """Open a gallery of this engine; see ``open_store``."""


def open_store(
    place: str | Path,
    view: Callable[[], View] = lambda: EVERYTHING,
    *,
    precision: Precision | None = None,
    create: bool = True,
) -> GalleryStore:
    """The gallery in a directory, or of a URL ``postgresql://…`` or ``qdrant://…``.

    Args:
        place: where it is; ``docs/engines.md`` says more of URLs.
        view: asked by every reading method at its start which versions are seen.
        precision: of the vectors of a new gallery.
        create: whether it is made where it is missing.

    Raises:
        InputError: the URL is of no engine, or the engine has no such precision.
        NotFoundError: it is missing, or its server does not answer.
        BusyError: another process has it open, where the engine serves one.
        DamagedError: it is not what was made.
    """
    scheme = str(place).partition("://")[0] if is_url(place) else None
    if scheme not in ENGINES:
        raise InputError(
            f"No engine of galleries is called by {scheme}://: give a directory, or a URL postgresql://… or qdrant://…"
        )
    return ENGINES[scheme]()(str(place), view, precision=precision, create=create)


def _edge() -> Opener:
    from evergallery.gallery.edge.adopted import open_edge

    return open_edge


def _postgres() -> Opener:
    from evergallery.gallery.postgres.adopted import open_postgres

    return open_postgres


def _qdrant() -> Opener:
    from evergallery.gallery.qdrant.adopted import open_qdrant

    return open_qdrant


def look_at(place: str, directory: Path, ids: str | Path | None = None) -> Adoptable:
    """The collection of somebody else's that a URL names, or that is in a file.

    Args:
        place: a URL, or a path.
        directory: of the workspace that would adopt it.
        ids: a file of ids for the vectors of a file.

    Raises:
        InputError: the URL is of no engine, or names no collection that can be adopted.
        NotFoundError: there is none, or its server does not answer.
        RefusedError: it may not be read.
    """
    if not is_url(place):
        from evergallery.gallery.edge.adopted import AdoptableFile

        return AdoptableFile(place, directory, ids)
    if ids is not None:
        raise InputError("A file of ids is for the vectors of a file alone: name the column of ids with id=COLUMN.")
    scheme = place.partition("://")[0]
    if scheme not in COLLECTIONS:
        raise InputError(
            f"{place} is no collection that can be adopted: name one by  postgresql://…?table=TABLE  or  "
            f"qdrant://host:6333/COLLECTION"
        )
    return COLLECTIONS[scheme]()(place)


def _collection() -> Callable[[str], Adoptable]:
    from evergallery.gallery.qdrant.adopting import AdoptableQdrantCollection

    return AdoptableQdrantCollection


def _table() -> Callable[[str], Adoptable]:
    from evergallery.gallery.postgres.adopting import AdoptablePostgresTable

    return AdoptablePostgresTable


ENGINES: dict[str | None, Callable[[], Opener]] = {
    None: _edge,
    "postgresql": _postgres,
    "postgres": _postgres,
    "qdrant": _qdrant,
    "qdrant+https": _qdrant,
}
"""Engines by the scheme of their URLs; directories have none. An engine is loaded when its first gallery is opened."""
COLLECTIONS: dict[str, Callable[[], Callable[[str], Adoptable]]] = {
    "postgresql": _table,
    "postgres": _table,
    "qdrant": _collection,
    "qdrant+https": _collection,
}
"""The functions that look at collections that may be adopted, by the scheme of their URLs."""
