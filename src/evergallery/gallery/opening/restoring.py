"""A snapshot as a gallery again: verified as it is copied, and opened before anything points to it."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from evergallery.errors import InputError
from evergallery.files import new_directory
from evergallery.gallery.edge import engine_version
from evergallery.gallery.opening.engines import open_store
from evergallery.gallery.snapshot import FILES, Snapshot, check_length, check_room, copy_files, damaged, read


def restore(path: Path, directory: Path, *, on_progress: Callable[[int, int], None] | None = None) -> Snapshot:
    """Make a gallery in a new directory of a snapshot, verified; it is there whole or not at all.

    Args:
        path: of the snapshot, which stays as it is.
        directory: must not exist.
        on_progress: hears after each file how many bytes are copied, and of how many.

    Raises:
        InputError: see ``read``; or the snapshot is of another version of the engine.
        DamagedError: a file is not what was written; the message names it.
        OSError: the disk is full; nothing is left behind.
    """
    snapshot = read(path)
    if _minor_version(snapshot.engine) != _minor_version(engine_version()):
        raise InputError(
            f"The snapshot {path} is of {snapshot.engine} and {engine_version()} is installed: install the earlier one, "
            f"restore, and take the vectors over with  evergallery export FILE  and  evergallery import FILE"
        )
    for name, entry in snapshot.files.items():
        check_length(path, name, entry)
    check_room(sum((path / FILES / name).stat().st_blocks * 512 for name in snapshot.files), directory.parent)
    with new_directory(directory) as temporary:
        copied = copy_files(path / FILES, list(snapshot.files), temporary, on_progress)
        for name, entry in snapshot.files.items():
            if copied[name] != entry:
                raise damaged(path, name, "is not what was written")
        # Whether the engine can read it, and finds as many vectors as there were.
        with closing(open_store(temporary)):
            pass
    return snapshot


def _minor_version(engine: str) -> str:
    return engine.rpartition(".")[0]
