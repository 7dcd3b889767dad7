"""Snapshots of the embedded gallery: its files, copied while the process that has it goes on searching, and put back whole.

A snapshot is a directory: the gallery's own files under ``gallery/``, and ``snapshot.json``, which names each with its length
and checksum, and keeps the state of the workspace that the vectors belong to. It is written under another name, synced, and
renamed; what is restored is compared with the checksums as it is copied, and opened, before anything points to it.
"""

import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from evergallery._version import __version__
from evergallery.errors import DamagedError, InputError
from evergallery.files import copy_hashed, new_directory, read_json, sha256_of, write_json
from evergallery.gallery.edge import CONTENTS, EdgeStore

MANIFEST = "snapshot.json"
FILES = "gallery"
FORMAT = 1


class Entry(BaseModel):
    """A file as it was copied."""

    model_config = ConfigDict(frozen=True)

    bytes: int
    sha256: str


class Snapshot(BaseModel):
    """What ``snapshot.json`` says."""

    model_config = ConfigDict(frozen=True)

    format: int = FORMAT
    engine: str
    evergallery: str
    made: str
    """ISO 8601, UTC."""
    generations: dict[str, int]
    """How many vectors there are of each generation, by fingerprint, all versions counted."""
    state: dict[str, Any]
    """``workspace.json`` of the same moment."""
    files: dict[str, Entry]
    """By path below ``gallery/``."""

    @property
    def vectors(self) -> int:
        """How many there are in all."""
        return sum(self.generations.values())


def take(
    store: EdgeStore,
    path: Path,
    state: Callable[[], dict[str, Any]] = dict,
    *,
    on_progress: Callable[[int, int], None] | None = None,
) -> Snapshot:
    """Copy a gallery to a new directory; searches go on meanwhile, and what is written waits.

    Args:
        store: to copy.
        path: must not exist.
        state: asked once nobody writes, kept beside the vectors.
        on_progress: hears after each file how many bytes are copied, and of how many.

    Raises:
        InputError: the path exists, or its directory does not.
        OSError: the disk is full; nothing is left behind.
    """
    if path.exists() or not path.parent.is_dir():
        raise InputError(f"A snapshot cannot be written to {path}: name a new directory in one that exists.")
    with store.at_rest() as counts:
        sources = _files(store.directory)
        _check_room(sum(source.stat().st_blocks * 512 for source in sources), path.parent)
        with new_directory(path) as temporary:
            files = _copy(store.directory, [str(one.relative_to(store.directory)) for one in sources], temporary / FILES,
                          on_progress)  # fmt: skip
            # While it is written to, the gallery itself does not say how much it holds.
            write_json(temporary / FILES / CONTENTS, counts)
            written = temporary / FILES / CONTENTS
            files[CONTENTS] = Entry(bytes=written.stat().st_size, sha256=sha256_of(written))
            snapshot = Snapshot(
                engine=_engine(),
                evergallery=__version__,
                made=datetime.now(UTC).isoformat(timespec="seconds"),
                generations=counts,
                state=state(),
                files=files,
            )
            write_json(temporary / MANIFEST, snapshot.model_dump(mode="json"))
    return snapshot


def read(path: Path) -> Snapshot:
    """What a snapshot says of itself.

    Raises:
        InputError: there is none, or it is of a newer format or another version of the engine.
        DamagedError: its description cannot be read.
    """
    if not (path / MANIFEST).is_file():
        raise InputError(
            f"{path} is not a snapshot, it has no {MANIFEST}: name a directory that  gallery snapshot  made."
        )
    content = read_json(path / MANIFEST)
    if isinstance(content, dict) and content.get("format", 0) != FORMAT:
        raise InputError(
            f"The snapshot {path} has format {content.get('format')} and this version of Evergallery reads {FORMAT}: restore "
            f"it with Evergallery {content.get('evergallery')}."
        )
    try:
        snapshot = Snapshot.model_validate(content)
    except ValidationError as error:
        raise DamagedError(
            f"{path / MANIFEST} does not describe a snapshot ({error.errors()[0]['msg']}): use another snapshot."
        ) from error
    outside = [name for name in snapshot.files if Path(name).is_absolute() or ".." in Path(name).parts]
    if outside:
        raise DamagedError(
            f"{path / MANIFEST} names a file outside of the snapshot ({outside[0]}): use another snapshot."
        )
    return snapshot


def verify(path: Path) -> Snapshot:
    """Compare every file of a snapshot with its checksum.

    Raises:
        InputError: see ``read``.
        DamagedError: a file is missing, too many, or not what was written; the message names it.
    """
    snapshot = read(path)
    found = {str(one.relative_to(path / FILES)) for one in _files(path / FILES)}
    if found - snapshot.files.keys():
        raise _damaged(path, min(found - snapshot.files.keys()), "was not there when it was made")
    for name, entry in snapshot.files.items():
        file = path / FILES / name
        _check_length(path, name, entry)
        if sha256_of(file) != entry.sha256:
            raise _damaged(path, name, "is not what was written")
    return snapshot


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
    if _minor(snapshot.engine) != _minor(_engine()):
        raise InputError(
            f"The snapshot {path} is of {snapshot.engine} and {_engine()} is installed: install the earlier one, restore, and "
            f"take the vectors over with  evergallery export  and  import."
        )
    for name, entry in snapshot.files.items():
        _check_length(path, name, entry)
    _check_room(sum((path / FILES / name).stat().st_blocks * 512 for name in snapshot.files), directory.parent)
    with new_directory(directory) as temporary:
        copied = _copy(path / FILES, list(snapshot.files), temporary, on_progress)
        for name, entry in snapshot.files.items():
            if copied[name] != entry:
                raise _damaged(path, name, "is not what was written")
        # Whether the engine can read it, and finds as many vectors as there were.
        EdgeStore(temporary).close()
    return snapshot


def _files(directory: Path) -> list[Path]:
    return sorted(path for path in directory.rglob("*") if path.is_file() and path.name != ".lock")


def _copy(
    source: Path, names: list[str], target: Path, on_progress: Callable[[int, int], None] | None
) -> dict[str, Entry]:
    total, done = sum((source / name).stat().st_size for name in names), 0
    entries = {}
    for name in names:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        length, digest = copy_hashed(source / name, target / name)
        entries[name] = Entry(bytes=length, sha256=digest)
        done += length
        if on_progress is not None:
            on_progress(done, total)
    return entries


def _check_length(path: Path, name: str, entry: Entry) -> None:
    file = path / FILES / name
    if not file.is_file():
        raise _damaged(path, name, "is missing")
    if file.stat().st_size != entry.bytes:
        raise _damaged(path, name, f"has {file.stat().st_size} bytes of {entry.bytes}")


def _check_room(needed: int, directory: Path) -> None:
    free = shutil.disk_usage(directory).free
    if free < needed:
        raise OSError(
            28,
            f"No space left on device: the copy takes {needed / 2**20:.0f} MiB, {free / 2**20:.0f} are free",
            directory,
        )


def _damaged(path: Path, name: str, what: str) -> DamagedError:
    return DamagedError(f"The snapshot {path} is damaged, {FILES}/{name} {what}: use another snapshot.")


def _engine() -> str:
    return f"qdrant-edge {version('qdrant-edge-py')}"


def _minor(engine: str) -> str:
    return engine.rpartition(".")[0]
