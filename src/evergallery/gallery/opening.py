"""Which engine a gallery has: a directory is Qdrant Edge's, a URL names another."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from evergallery.errors import InputError
from evergallery.gallery.items import EVERYTHING, Precision, View
from evergallery.gallery.places import is_url
from evergallery.gallery.store import GalleryStore


class Opener(Protocol):
    """What opens a gallery of one engine."""

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
    from evergallery.gallery.edge import EdgeStore

    return EdgeStore


def _postgres() -> Opener:
    from evergallery.gallery.postgres import PostgresStore

    return PostgresStore


def _qdrant() -> Opener:
    from evergallery.gallery.qdrant import QdrantStore

    return QdrantStore


ENGINES: dict[str | None, Callable[[], Opener]] = {
    None: _edge,
    "postgresql": _postgres,
    "postgres": _postgres,
    "qdrant": _qdrant,
    "qdrant+https": _qdrant,
}
"""By the scheme of its URLs; that of directories has none. An engine is loaded when its first gallery is opened."""
