"""The journal of a workspace: who, when, what, with which figures; appended, never changed."""

import fcntl
import getpass
import json
import os
import platform
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from evergallery.files import permitted, write_atomic
from evergallery.holdings.state import now
from evergallery.strings.redaction import redacted_values

WHO = "EVERGALLERY_USER"
BLOCK = 2**16


class Journal:
    """One JSON object a line, each durable before the call returns; several processes may append at once.

    Args:
        path: of the file; made with its first entry.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def record(self, operation: str, **figures: Any) -> None:
        """Append an entry; ``who`` is ``$EVERGALLERY_USER``, or the user and machine that run this process."""
        entry = {
            "time": now(),
            "who": os.environ.get(WHO) or _user(),
            "operation": operation,
            **redacted_values(figures),
        }
        append_line(self.path, entry)

    def entries(self) -> list[dict[str, Any]]:
        """Every entry, oldest first; a line that is none is left out, see ``damaged``.

        Raises:
            UnreadableError: the file may not be read.
        """
        return [entry for entry in read_lines(self.path) if is_entry(entry)]

    def damaged(self) -> list[int]:
        """Return the numbers of the lines that are no entries."""
        return damaged_lines(self.path, is_entry)

    def last(self, count: int) -> list[dict[str, Any]]:
        """The newest entries, oldest first; reads no more of the file than they take.

        Raises:
            UnreadableError: the file may not be read.
        """
        if not self.path.is_file():
            return []
        with permitted(self.path), self.path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            reach = BLOCK
            while True:
                start = max(0, size - reach)
                file.seek(start)
                lines = file.read(size - start).splitlines()
                # The first line began before what was read.
                found = [entry for entry in map(_object, lines[1:] if start else lines) if is_entry(entry)]
                if start == 0 or len(found) >= count:
                    return found[-count:]
                reach *= 2


def is_entry(entry: Mapping[str, Any]) -> bool:
    """Return whether a JSON object is an entry of the journal."""
    return all(isinstance(entry.get(name), str) for name in ("time", "who", "operation"))


def append_line(path: Path, entry: Mapping[str, Any]) -> None:
    """Append a JSON object to a file of one a line, durable on return; several processes may append at once."""
    with _locked(path) as file:
        # A process that was killed while writing left half a line: end it, so that this one can be read.
        if file.seek(0, os.SEEK_END) and not _ends_with_newline(file):
            file.write(b"\n")
        file.write(json.dumps(entry, ensure_ascii=False).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The JSON objects of such a file, oldest first; a line that is none is left out.

    Raises:
        UnreadableError: the file may not be read.
    """
    return [entry for line in _lines(path) if (entry := _object(line))]


def damaged_lines(path: Path, is_whole: Callable[[Mapping[str, Any]], bool]) -> list[int]:
    """Numbers of the lines of such a file, from 1, that are not what was written.

    Args:
        path: of the file.
        is_whole: whether a JSON object is what is written there.

    Raises:
        UnreadableError: the file may not be read.
    """
    return [number for number, line in enumerate(_lines(path), 1) if line.strip() and not is_whole(_object(line))]


def lay_aside(path: Path, is_whole: Callable[[Mapping[str, Any]], bool]) -> Path | None:
    """Move the lines that are not what was written to a file ``NAME.damaged`` beside; nobody who appends meanwhile loses a line.

    Returns:
        That file; ``None`` where every line is whole.
    """
    if not path.is_file():
        return None
    with _locked(path):
        damaged, lines = set(damaged_lines(path, is_whole)), _lines(path)
        if not damaged:
            return None
        aside = path.with_name(f"{path.name}.damaged")
        with aside.open("ab") as file:
            file.writelines(line + b"\n" for number, line in enumerate(lines, 1) if number in damaged)
            file.flush()
            os.fsync(file.fileno())
        write_atomic(path, b"".join(line + b"\n" for number, line in enumerate(lines, 1) if number not in damaged))
    return aside


@contextmanager
def _locked(path: Path) -> Iterator[IO[bytes]]:
    """A file to append to, which nobody else changes meanwhile; never one whose place another has taken."""
    while True:
        with path.open("a+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
                yield file
                return


def _lines(path: Path) -> list[bytes]:
    if not path.is_file():
        return []
    with permitted(path):
        return path.read_bytes().splitlines()


def _object(line: bytes) -> dict[str, Any]:
    """The JSON object of a line; an empty one for what is none."""
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return entry if isinstance(entry, dict) else {}


def _ends_with_newline(file: Any) -> bool:
    file.seek(-1, os.SEEK_END)
    return bool(file.read(1) == b"\n")


def _user() -> str:
    try:
        name = getpass.getuser()
    except (OSError, KeyError):
        name = "unknown"
    return f"{name}@{platform.node()}"
