"""Files that could not be read: counted, named, and where they are many in a table."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from evergallery.data.images import UnreadableImage
from evergallery.strings.redaction import redacted, redacted_text

SKIPPED_KEPT = 1000
"""The number of skipped files whose names are returned; where there are more, all are in a file."""


class SkippedNames:
    """Bad files: counted, the first of them by name, and where they are many all of them in a table on disk.

    Args:
        path: of the table, ``uri,reason``; an earlier one is replaced when this one begins.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.count = 0
        self.first: list[UnreadableImage] = []
        self._file: IO[str] | None = None

    @property
    def is_written(self) -> bool:
        """Return whether the table was needed."""
        return self._file is not None

    def add(self, skipped: Sequence[UnreadableImage]) -> None:
        """Write down more files that were skipped."""
        for file in skipped:
            self.count += 1
            if self.count <= SKIPPED_KEPT:
                self.first.append(file)
            else:
                self._write(file)

    def close(self) -> None:
        """Close the table: nothing more comes."""
        if self._file is not None:
            self._file.close()

    def _write(self, file: UnreadableImage) -> None:
        if self._file is None:
            self._file = self.path.open("w", newline="", encoding="utf-8")
            rows = [("uri", "reason"), *map(_redacted, self.first)]
            csv.writer(self._file).writerows(rows)
        csv.writer(self._file).writerow(_redacted(file))


def _redacted(file: UnreadableImage) -> tuple[str, str]:
    return redacted(file.uri), redacted_text(file.reason)
