"""Leftovers of processes that were killed: half-written files and directories, and pictures that no item has."""

import shutil
from contextlib import ExitStack
from pathlib import Path

from evergallery.files import TEMPORARY_PREFIX, lock, was_killed
from evergallery.gallery.store import GalleryStore

LOCKED = ("", "generations", "images")
"""The folders whose locks are held by whoever writes there."""


def somebody_was_killed(directory: Path, gallery: Path | None) -> bool:
    """Return whether a process ended without giving back a lock of the workspace; asked before the gallery is opened.

    Args:
        directory: of the workspace.
        gallery: its directory, where it has one.
    """
    folders = [directory / name for name in LOCKED] + ([gallery] if gallery is not None else [])
    return any(was_killed(folder / ".lock") for folder in folders)


def sweep(directory: Path, gallery: GalleryStore) -> list[Path]:
    """Delete what killed processes have left, and pictures that clients have added and no item has any more.

    Raises:
        BusyError: another process is changing the workspace.
        DamagedError: the gallery cannot be read: then no picture is deleted.
    """
    gone: list[Path] = []
    with ExitStack() as held:
        for folder in (directory / name for name in LOCKED):
            if folder.is_dir():
                held.enter_context(lock(folder / ".lock", "mending"))
        for path in [*left(directory), *pictures_of_nobody(directory, gallery)]:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
            gone.append(path)
    return gone


def left(directory: Path) -> list[Path]:
    """The files and folders that killed processes have left."""
    folders = (directory, *(directory / name for name in ("generations", "adapters", "checks", "images", "backups")))
    return [path for folder in folders for path in sorted(folder.glob(TEMPORARY_PREFIX + "*"))]


def pictures_of_nobody(directory: Path, gallery: GalleryStore) -> list[Path]:
    """Pictures that clients of the server have added and no version of an item has any more."""
    kept = {path.name: path for path in (directory / "images").glob("[!.]*") if path.is_file()}
    for versions in gallery.versions() if kept else ():
        for version in versions:
            if version.uri is not None:
                kept.pop(Path(version.uri).name, None)
    return sorted(kept.values())
