"""The gallery kept: compacted, copied, or exchanged for another."""

from contextlib import closing
from pathlib import Path

from evergallery.gallery.copying import require_same
from evergallery.gallery.items import Index
from evergallery.gallery.opening import open_store
from evergallery.gallery.places import is_url, without_password
from evergallery.gallery.snapshot import Snapshot
from evergallery.holdings.comparing import space_of
from evergallery.holdings.holdings import HELD, Holdings, changing
from evergallery.watching import SILENT, Watcher


def use_gallery(holdings: Holdings, place: str | Path, *, force: bool = False, watcher: Watcher = SILENT) -> None:
    """Take another gallery in place of this one, which is left as it is; one atomic change, once both are the same.

    Args:
        place: a directory, or a URL, whose password is not written down.
        force: do not compare them, for instance because this one is lost.
        watcher: hears of progress.

    Raises:
        NotFoundError: there is none.
        RefusedError: it does not hold what this one holds.
    """
    place = without_password(str(place))
    with closing(open_store(place, create=False)) as other:
        if not force:
            require_same(holdings.gallery, other, watcher)
        written = place if is_url(place) else _inside(Path(place), holdings.directory)
        with changing(holdings, "taking another gallery") as state:
            state.store = written
    holdings.journal.record("use", gallery=written, compared=not force)
    holdings.close()
    # What the gallery before held is nothing that this one could have lost.
    (holdings.directory / HELD).unlink(missing_ok=True)


def compact(holdings: Holdings) -> dict[str, Index]:
    """Give back the room of what was deleted, and index what is large; returns the indexes by the name of their space.

    An index answers searches from then on where its recall, measured on stored vectors, suffices and nothing filters.
    """
    holdings.gallery.compact()
    indexes = {space_of(holdings, fingerprint).name: index for fingerprint, index in holdings.gallery.indexes().items()}
    holdings.journal.record("compact", recall={name: round(index.recall, 4) for name, index in indexes.items()})
    return indexes


def snapshot(holdings: Holdings, path: str | Path, *, watcher: Watcher = SILENT) -> Snapshot:
    """Copy the gallery to a new directory while this process goes on searching; what is written waits meanwhile.

    The state of the workspace is kept beside the vectors. Generations and adapters are not: they are plain files that
    never change.

    Raises:
        InputError: the path exists, or its directory does not.
        RefusedError: the gallery is in a database, which has its own ways to be backed up.
    """
    taken = holdings.gallery.snapshot(
        Path(path),
        lambda: holdings.state.model_dump(mode="json"),
        on_progress=lambda done, total: watcher.counted("copying the gallery, MiB", done >> 20, total >> 20),
    )
    holdings.journal.record("snapshot", path=str(path), vectors=taken.vectors)
    return taken


def _inside(path: Path, directory: Path) -> str:
    """A path as the workspace's state names it: relative where it lies inside, so that the workspace may be moved."""
    path, directory = path.resolve(), directory.resolve()
    return str(path.relative_to(directory) if path.is_relative_to(directory) else path)
