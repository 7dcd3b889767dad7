"""The journal of a workspace: who, when, what, with which figures; appended, never changed."""

import fcntl
import getpass
import json
import os
import platform
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

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
        """Every entry, oldest first; a line that is none is left out."""
        return _parsed(self.path.read_bytes().splitlines()) if self.path.is_file() else []

    def last(self, count: int) -> list[dict[str, Any]]:
        """The newest entries, oldest first; reads no more of the file than they take."""
        if not self.path.is_file():
            return []
        with self.path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            reach = BLOCK
            while True:
                start = max(0, size - reach)
                file.seek(start)
                lines = file.read(size - start).splitlines()
                # The first line began before what was read.
                found = _parsed(lines[1:] if start else lines)
                if start == 0 or len(found) >= count:
                    return found[-count:]
                reach *= 2


def append_line(path: Path, entry: Mapping[str, Any]) -> None:
    """Append a JSON object to a file of one a line, durable on return; several processes may append at once."""
    with path.open("a+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        # A process that was killed while writing left half a line: end it, so that this one can be read.
        if file.seek(0, os.SEEK_END) and not _ends_with_newline(file):
            file.write(b"\n")
        file.write(json.dumps(entry, ensure_ascii=False).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The JSON objects of such a file, oldest first; a line that is none is left out."""
    return list(_objects(path.read_bytes().splitlines())) if path.is_file() else []


def _objects(lines: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    for line in lines:
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict):
            yield entry


def _parsed(lines: Iterable[bytes]) -> list[dict[str, Any]]:
    told = ("time", "who", "operation")
    return [entry for entry in _objects(lines) if all(isinstance(entry.get(name), str) for name in told)]


def _ends_with_newline(file: Any) -> bool:
    file.seek(-1, os.SEEK_END)
    return bool(file.read(1) == b"\n")


def _user() -> str:
    try:
        name = getpass.getuser()
    except (OSError, KeyError):
        name = "unknown"
    return f"{name}@{platform.node()}"
