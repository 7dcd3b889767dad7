"""Putting a snapshot in the place of a workspace's gallery: beside it first, then by one rename of ``workspace.json``."""

import shutil
from contextlib import suppress
from itertools import chain, count
from pathlib import Path
from shlex import quote

from evergallery.errors import DamagedError, RefusedError
from evergallery.files import lock
from evergallery.gallery import snapshot as snapshots
from evergallery.gallery.items import EVERYTHING
from evergallery.gallery.opening import open_store
from evergallery.gallery.opening.restoring import restore as made_of
from evergallery.gallery.places import is_url
from evergallery.holdings.comparing import answers_from_refresh, space_of
from evergallery.holdings.holdings import HELD, Holdings, changing
from evergallery.holdings.state import State
from evergallery.watching import SILENT, Watcher


def restore(
    holdings: Holdings, path: str | Path, *, force: bool = False, watcher: Watcher = SILENT
) -> snapshots.Snapshot:
    """Search the gallery of a snapshot from now on, as it was searched then; one atomic change, after verification.

    The generation that answers queries stays. An earlier gallery that holds anything stays on disk, where it was.

    Raises:
        RefusedError: the gallery holds vectors and ``force`` is not given; or the snapshot holds vectors of a space that
            is not here.
        InputError: there is no snapshot, or it is of another format or engine.
        DamagedError: the snapshot is not what was written.
        BusyError: another process has the gallery.
    """
    path = Path(path)
    snapshot = snapshots.read(path)
    state = State.model_validate(snapshot.state)
    _require_known(holdings, snapshot)
    place = holdings.state.store
    if is_url(place):
        raise RefusedError(
            f"The gallery is {place}: copy the snapshot's into another one with  evergallery gallery copy "
            f"{quote(str(path / 'gallery'))} URL  and then use that with  evergallery gallery use URL"
        )
    holdings.close()
    earlier = holdings.directory / holdings.state.store
    earlier.mkdir(exist_ok=True)
    held = _vectors(earlier)
    if held and not force:
        raise RefusedError(
            f"The gallery {earlier} holds {held} vectors: give --force to search the snapshot's {snapshot.vectors} instead; "
            f"the others stay where they are."
        )
    # Nobody fills a gallery that is about to be left.
    with lock(earlier / ".lock", "restoring a snapshot"):
        directory = _free_name(holdings.directory / "gallery")
        made_of(
            path,
            directory,
            on_progress=lambda done, total: watcher.counted("copying the gallery, MiB", done >> 20, total >> 20),
        )
        with changing(holdings, "restoring a snapshot") as now:
            now.store = directory.name
            # Marks on the vectors are of the refreshes of that moment; what was promoted since shows its own.
            now.refreshes = max(now.refreshes, state.refreshes)
            now.committed, now.discarded = state.committed, state.discarded
            now.refresh = state.refresh
            if answers_from_refresh(holdings, now):
                now.show_refresh()
        if held == 0:
            shutil.rmtree(earlier)
    (holdings.directory / HELD).unlink(missing_ok=True)
    holdings.journal.record("restore", path=str(path), vectors=snapshot.vectors, made=snapshot.made)
    return snapshot


def _require_known(holdings: Holdings, snapshot: snapshots.Snapshot) -> None:
    for fingerprint, vectors in snapshot.generations.items():
        if vectors:
            try:
                space_of(holdings, fingerprint)
            except RefusedError:
                raise RefusedError(
                    f"The snapshot holds {vectors} vectors of a generation or adapter {fingerprint[:12]} that is not in "
                    f"{holdings.directory}: put its directory back under generations/ or adapters/ first."
                ) from None


def _vectors(directory: Path) -> int | None:
    """Return how many vectors a gallery holds, all versions counted; ``None`` where it is damaged."""
    with suppress(DamagedError), open_store(directory) as store:
        return sum(store.count_by_generation(view=EVERYTHING).values())
    return None


def _free_name(directory: Path) -> Path:
    numbered = (directory.with_name(f"{directory.name}-{number}") for number in count(2))
    return next(name for name in chain([directory], numbered) if not name.exists())
