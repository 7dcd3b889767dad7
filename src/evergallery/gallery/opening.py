"""Which engine a gallery has: a directory is Qdrant Edge's, a URL names another."""

from collections.abc import Callable
from pathlib import Path

from evergallery.errors import InputError, NotFoundError
from evergallery.gallery.edge import EdgeStore
from evergallery.gallery.items import Precision, View
from evergallery.gallery.places import is_url
from evergallery.gallery.store import EVERYTHING, GalleryStore


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
    if not is_url(place):
        if not create and not Path(place).is_dir():
            raise NotFoundError(f"There is no gallery {place}: name its directory or its URL.")
        return EdgeStore(Path(place), view, precision)
    scheme = str(place).partition("://")[0]
    if scheme in ("postgresql", "postgres"):
        from evergallery.gallery.postgres import PostgresStore

        return PostgresStore(str(place), view, precision=precision, create=create)
    if scheme in ("qdrant", "qdrant+https"):
        from evergallery.gallery.qdrant import QdrantStore

        return QdrantStore(str(place), view, precision=precision, create=create)
    raise InputError(
        f"No engine of galleries is called by {scheme}://: give a directory, or a URL postgresql://… or qdrant://…"
    )
