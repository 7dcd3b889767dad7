"""The directory of an embedded gallery: which shards there are, what they must hold, and in which precision.

``contents.json`` says which generations the directory must hold and, while nobody writes, how many vectors of each: the
engine would forget some kinds of lost files in silence.
"""

import re
import shutil
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import get_args

from evergallery.errors import DamagedError, InputError
from evergallery.files import (
    TEMPORARY_PREFIX,
    copy_sparse,
    read_json,
    read_object,
    require_room,
    shared_lock,
    write_json,
)
from evergallery.gallery.edge.shard import SPACE, Shard, precision_of
from evergallery.gallery.items import Precision

CONTENTS = "contents.json"
PRECISION = "precision.json"


def opened_shards(directory: Path) -> dict[str, Shard]:
    """The shards by generation, once what a kill has left is deleted.

    Raises:
        DamagedError: a file is missing or unreadable.
    """
    shards: dict[str, Shard] = {}
    try:
        for path in _shard_directories(directory):
            shard = Shard(path)
            shards[shard.generation] = shard
        _check_contents(directory, shards)
    except BaseException:
        for shard in shards.values():
            shard.close()
        raise
    return shards


def _shard_directories(directory: Path) -> list[Path]:
    """The directories of the shards, without what a kill has left: of two of one generation the compacted one is whole.

    What else lies there, such as the ``lost+found`` of a disk of its own, is left alone.
    """
    newest: dict[str, Path] = {}
    for path in sorted((path for path in directory.iterdir() if path.is_dir()), key=_number):
        if path.name.startswith(TEMPORARY_PREFIX):
            shutil.rmtree(path)
            continue
        if not re.fullmatch(r"[0-9a-f]+(-[0-9]+)?", path.name):
            continue
        generation = path.name.partition("-")[0]
        if generation in newest:
            shutil.rmtree(newest[generation])
        newest[generation] = path
    return sorted(newest.values())


def holds_no_gallery(directory: Path) -> bool:
    """Return whether there is something in a directory, and nothing of a gallery; an empty one may become a gallery."""
    names = {path.name for path in directory.iterdir()} - {".lock", "lost+found"}
    is_ours = names & {CONTENTS, PRECISION} or any((directory / name / SPACE).is_file() for name in names)
    return bool(names) and not is_ours


def _number(path: Path) -> int:
    """Return how many times a shard was compacted into a new directory, and one."""
    number = path.name.partition("-")[2]
    return int(number) if number.isdecimal() else 1


def copy_gallery_files(directory: Path, copy: Path) -> None:
    """Copy the files of a gallery that cannot be written to a directory that can.

    Raises:
        BusyError: another process writes to it.
        FullError: there is no room for the copy.
    """
    with shared_lock(directory / ".lock"):
        files = [path for path in directory.rglob("*") if path.is_file() and path.name != ".lock"]
        require_room(
            copy, sum(512 * path.stat().st_blocks for path in files), "a copy of the gallery, which is read-only,"
        )
        for path in files:
            target = copy / path.relative_to(directory)
            target.parent.mkdir(parents=True, exist_ok=True)
            copy_sparse(path, target)


def next_directory(path: Path) -> Path:
    """Return where a shard is compacted to."""
    return path.with_name(f"{path.name.partition('-')[0]}-{_number(path) + 1}")


def write_contents(directory: Path, counts: Mapping[str, int | None]) -> None:
    """Note which generations there are, with how many vectors where nobody writes."""
    write_json(directory / CONTENTS, dict(counts))


def _check_contents(directory: Path, shards: Mapping[str, Shard]) -> None:
    path = directory / CONTENTS
    counts: dict[str, int | None] = read_object(path) if path.is_file() else {}
    for generation, count in counts.items():
        held = shards[generation].count() if generation in shards else None
        if held is None or count not in (None, held):
            raise DamagedError(
                f"The gallery {directory} has lost vectors of {generation[:12]} ({held or 0} of "
                f"{'some' if count is None else count} are left): restore it from a backup, or delete {path} to go on "
                f"with what is left."
            )


def kept_precision(directory: Path, asked: Precision | None) -> Precision:
    """The precision of a gallery, of a new one the one that is asked for.

    Raises:
        InputError: there is no such precision, or the gallery has another.
    """
    path = directory / PRECISION
    if asked is not None and asked not in get_args(Precision):
        raise InputError(f"There is no precision {asked!r}: give {', '.join(get_args(Precision))}.")
    kept = precision_of(read_json(path), path) if path.is_file() else "float32"
    if asked is not None and asked != kept:
        if path.is_file() or any(entry.is_dir() for entry in directory.iterdir()):
            raise InputError(
                f"The gallery {directory} keeps its vectors in {kept}, not {asked}: open it as it is, or copy it to "
                f"a new one of {asked}."
            )
        write_json(path, {"precision": asked})
    return asked or kept


def engine_version() -> str:
    """Return what reads these files, with its version."""
    return f"qdrant-edge {version('qdrant-edge-py')}"
