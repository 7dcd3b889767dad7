"""Which engine a gallery has: a directory is Qdrant Edge's, a URL names another."""

from collections.abc import Callable
from pathlib import Path

from evergallery.errors import InputError
from evergallery.gallery.edge import EdgeStore
from evergallery.gallery.items import Precision, View
from evergallery.gallery.store import EVERYTHING, GalleryStore


def open_store(
    place: str | Path, view: Callable[[], View] = lambda: EVERYTHING, *, precision: Precision | None = None
) -> GalleryStore:
    """The gallery in a directory, or of a URL ``postgresql://…``; made where it is missing.

    Args:
        place: where it is; a URL says more in ``docs/engines.md``.
        view: asked by every reading method at its start which versions are seen.
        precision: of the vectors of a new gallery.

    Raises:
        InputError: the URL is of no engine, or the engine has no such precision.
    """
    scheme, separator, _ = str(place).partition("://")
    if not separator:
        return EdgeStore(Path(place), view)
    if scheme in ("postgresql", "postgres"):
        from evergallery.gallery.postgres import PostgresStore

        return PostgresStore(str(place), view, precision=precision)
    raise InputError(f"No engine of galleries is called by {scheme}://: give a directory or a URL postgresql://…")


def is_url(place: str | Path) -> bool:
    """Whether a gallery is named by a URL, rather than by a directory."""
    return "://" in str(place)
