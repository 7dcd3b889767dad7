"""The engine of a gallery: a directory is Qdrant Edge's, a URL names another.

The table is read by help texts, too, so that nothing of an engine is loaded before its first gallery is opened.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from evergallery.errors import InputError
from evergallery.gallery.places import is_url

if TYPE_CHECKING:
    from evergallery.gallery.adopted import Adoptable
    from evergallery.gallery.items import Precision, View
    from evergallery.gallery.store import GalleryStore


class Opener(Protocol):
    """A function that opens a gallery of one engine."""

    def __call__(
        self, place: str, view: "Callable[[], View]", /, *, precision: "Precision | None", create: bool
    ) -> "GalleryStore":
        """Open a gallery of this engine; see ``open_store``."""


@dataclass(frozen=True)
class EngineKind:
    """A kind of engine.

    Attributes:
        opener: loads the engine, and gives the function that opens its galleries.
        gallery: the place of a gallery, as help shows it.
        looker: loads the function that looks at a collection that may be adopted; ``None`` where none may be by its URL.
        collection: the place of such a collection, as help shows it; empty where there is none.
    """

    opener: Callable[[], Opener]
    gallery: str
    looker: "Callable[[], Callable[[str], Adoptable]] | None" = None
    collection: str = ""


def open_store(
    place: str | Path,
    view: "Callable[[], View] | None" = None,
    *,
    precision: "Precision | None" = None,
    create: bool = True,
) -> "GalleryStore":
    """The gallery in a directory, or of the URL of an engine.

    Args:
        place: where it is; ``docs/engines.md`` says more of URLs.
        view: asked by every reading method at its start which versions are seen; all of them by default.
        precision: of the vectors of a new gallery.
        create: whether it is made where it is missing.

    Raises:
        InputError: the URL is of no engine, or the engine has no such precision.
        NotFoundError: it is missing, or its server does not answer.
        BusyError: another process has it open, where the engine serves one.
        DamagedError: it is not what was made.
    """
    from evergallery.gallery.items import EVERYTHING

    scheme = str(place).partition("://")[0] if is_url(place) else None
    if scheme not in ENGINES:
        raise InputError(f"No engine of galleries is called by {scheme}://: give {gallery_places()}")
    opener = ENGINES[scheme].opener()
    return opener(str(place), view or (lambda: EVERYTHING), precision=precision, create=create)


def require_target(source: str, target: str) -> None:
    """Refuse a place that a gallery cannot be copied to, before anything is opened there.

    Args:
        source: the place of the gallery.
        target: the place of its copy, a directory or a URL.

    Raises:
        InputError: both are the same, or the target is a directory that holds something else than a gallery.
    """
    here = not (is_url(source) or is_url(target))
    if source == target or (here and Path(source).resolve() == Path(target).resolve()):
        raise InputError(f"{target} cannot be copied onto itself: name another place.")
    if is_url(target) or not Path(target).is_dir():
        return
    from evergallery.gallery.edge.directory import holds_no_gallery

    if holds_no_gallery(Path(target)):
        raise InputError(f"{target} holds something else than a gallery: name a new directory, or an empty one.")


def _edge() -> Opener:
    from evergallery.gallery.edge.adopted import open_edge

    return open_edge


def _postgres() -> Opener:
    from evergallery.gallery.postgres.adopted import open_postgres

    return open_postgres


def _qdrant() -> Opener:
    from evergallery.gallery.qdrant.adopted import open_qdrant

    return open_qdrant


def look_at(place: str, directory: Path, ids: str | Path | None = None) -> "Adoptable":
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
    engine = ENGINES.get(place.partition("://")[0])
    if engine is None or engine.looker is None:
        raise InputError(f"{place} is no collection that can be adopted: name one by {collection_places()}")
    return engine.looker()(place)


def gallery_places() -> str:
    """The places that a gallery may have, as help shows them."""
    return _listed(engine.gallery for engine in ENGINES.values())


def collection_places() -> str:
    """The URLs of collections that may be adopted, as help shows them."""
    return _listed(engine.collection for engine in ENGINES.values() if engine.collection)


def _listed(places: Iterable[str]) -> str:
    """Places with ``or`` before the last, each once."""
    *others, last = dict.fromkeys(places)
    return f"{', '.join(others)} or {last}" if others else last


def _collection() -> "Callable[[str], Adoptable]":
    from evergallery.gallery.qdrant.adopting import AdoptableQdrantCollection

    return AdoptableQdrantCollection


def _table() -> "Callable[[str], Adoptable]":
    from evergallery.gallery.postgres.adopting import AdoptablePostgresTable

    return AdoptablePostgresTable


EDGE = EngineKind(_edge, "a directory")
POSTGRES = EngineKind(
    _postgres, "postgresql://…", _table, "postgresql://…/database?table=TABLE&id=COLUMN&vector=COLUMN"
)
QDRANT = EngineKind(_qdrant, "qdrant://…", _collection, "qdrant://host:6333/COLLECTION?vector=NAME")
ENGINES: dict[str | None, EngineKind] = {
    None: EDGE,
    "postgresql": POSTGRES,
    "postgres": POSTGRES,
    "qdrant": QDRANT,
    "qdrant+https": QDRANT,
}
"""Engines by the scheme of their URLs; directories have none."""
