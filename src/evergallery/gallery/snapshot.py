"""Snapshots of a gallery in a directory: its files, copied while the process that has it goes on searching.

A snapshot is a directory: the gallery's own files under ``gallery/``, and ``snapshot.json``, which names each with its length
and checksum, and keeps the state of the workspace that the vectors belong to. It is written under another name, synced, and
renamed; what is restored is compared with the checksums as it is copied, and opened, before anything points to it.
"""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from evergallery._version import __version__
from evergallery.errors import DamagedError, InputError, fault_of
from evergallery.files import copy_hashed, new_directory, read_json, require_place, sha256_of, write_json

MANIFEST = "snapshot.json"
FILES = "gallery"
FORMAT = 1


class CopiedFile(BaseModel):
    """A file of a snapshot as it was copied: its length and its checksum."""

    model_config = ConfigDict(frozen=True)

    bytes: int
    sha256: str


class Snapshot(BaseModel):
    """The contents of ``snapshot.json``."""

    model_config = ConfigDict(frozen=True)

    format: int = FORMAT
    engine: str
    evergallery: str
    made: str
    """ISO 8601, UTC."""
    generations: dict[str, int]
    """The number of vectors of each generation, by fingerprint, all versions counted."""
    state: dict[str, Any]
    """``workspace.json`` of the same moment."""
    files: dict[str, CopiedFile]
    """The files by their paths below ``gallery/``."""

    @property
    def vectors(self) -> int:
        """Return how many vectors the snapshot holds in all."""
        return sum(self.generations.values())


@dataclass(frozen=True)
class GalleryFiles:
    """The files of a gallery, while nobody writes to them.

    Attributes:
        directory: that they lie in.
        engine: what reads them, with its version.
        generations: how many vectors there are of each.
        instead: JSON that a copy has in files of these names, in place of what is there.
    """

    directory: Path
    engine: str
    generations: dict[str, int]
    instead: Mapping[str, object]


def take(
    gallery: GalleryFiles,
    path: Path,
    state: Callable[[], dict[str, Any]],
    on_progress: Callable[[int, int], None] | None = None,
) -> Snapshot:
    """Copy the files of a gallery; see ``GalleryStore.snapshot``.

    Args:
        gallery: to be copied.
        path: must not exist.
        state: what is kept beside the vectors.
        on_progress: hears after each file how many bytes are copied, and of how many.

    Raises:
        InputError: the path exists, or its directory does not.
        OSError: the disk is full; nothing is left behind.
    """
    require_place(path, is_new=True)
    directory, sources = gallery.directory, files_of(gallery.directory)
    check_room(sum(source.stat().st_blocks * 512 for source in sources), path.parent)
    with new_directory(path, private=True) as temporary:
        # A gallery that nothing was ever stored in has no files.
        (temporary / FILES).mkdir()
        files = copy_files(
            directory, [str(file.relative_to(directory)) for file in sources], temporary / FILES, on_progress
        )
        for name, content in gallery.instead.items():
            written = temporary / FILES / name
            write_json(written, content)
            files[name] = CopiedFile(bytes=written.stat().st_size, sha256=sha256_of(written))
        snapshot = Snapshot(
            engine=gallery.engine,
            evergallery=__version__,
            made=datetime.now(UTC).isoformat(timespec="seconds"),
            generations=gallery.generations,
            state=state(),
            files=files,
        )
        write_json(temporary / MANIFEST, snapshot.model_dump(mode="json"))
    return snapshot


def read(path: Path) -> Snapshot:
    """Return what a snapshot says of itself.

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
            f"{path / MANIFEST} does not describe a snapshot ({fault_of(error)}): use another snapshot."
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
    found = {str(file.relative_to(path / FILES)) for file in files_of(path / FILES)}
    if found - snapshot.files.keys():
        raise damaged(path, min(found - snapshot.files.keys()), "was not there when it was made")
    for name, entry in snapshot.files.items():
        file = path / FILES / name
        check_length(path, name, entry)
        if sha256_of(file) != entry.sha256:
            raise damaged(path, name, "is not what was written")
    return snapshot


def files_of(directory: Path) -> list[Path]:
    """Every file of a gallery but its lock."""
    return sorted(path for path in directory.rglob("*") if path.is_file() and path.name != ".lock")


def copy_files(
    source: Path, names: list[str], target: Path, on_progress: Callable[[int, int], None] | None
) -> dict[str, CopiedFile]:
    """Copy files of these names below one directory to another; returns what was copied, by name."""
    total, done = sum((source / name).stat().st_size for name in names), 0
    entries = {}
    for name in names:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        length, digest = copy_hashed(source / name, target / name)
        entries[name] = CopiedFile(bytes=length, sha256=digest)
        done += length
        if on_progress is not None:
            on_progress(done, total)
    return entries


def check_length(path: Path, name: str, entry: CopiedFile) -> None:
    """Refuse a snapshot with a file that is missing or has another length than was written."""
    file = path / FILES / name
    if not file.is_file():
        raise damaged(path, name, "is missing")
    if file.stat().st_size != entry.bytes:
        raise damaged(path, name, f"has {file.stat().st_size} bytes of {entry.bytes}")


def check_room(needed: int, directory: Path) -> None:
    """Refuse to begin a copy of so many bytes for which there is no room."""
    free = shutil.disk_usage(directory).free
    if free < needed:
        raise OSError(
            28,
            f"No space left on device: the copy takes {needed / 2**20:.0f} MiB, {free / 2**20:.0f} are free",
            directory,
        )


def damaged(path: Path, name: str, what: str) -> DamagedError:
    """The error that says that a file of a snapshot is not what was written."""
    return DamagedError(f"The snapshot {path} is damaged, {FILES}/{name} {what}: use another snapshot.")
