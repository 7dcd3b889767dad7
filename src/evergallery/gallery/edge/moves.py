"""Moves of items between the shards of an embedded gallery, of which only each alone is atomic.

``moving.json`` exists while items change in two generations at once: what is meant is written down first, and finished by the
next opening or the next write.
"""

import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, TypeVar

from evergallery.errors import DamagedError
from evergallery.files import read_object, sync_directory, write_json
from evergallery.gallery.items import View, point_id

MOVING = "moving.json"
# A search that has met so many moves waits for the writer instead.
HASTY_READS = 3

Answer = TypeVar("Answer")


class Moves:
    """The moves of one gallery, of which at most one is going on.

    Args:
        directory: of the gallery.
        one_writer: held by whoever writes to it.
    """

    def __init__(self, directory: Path, one_writer: AbstractContextManager[object]) -> None:
        self.path = directory / MOVING
        self._one_writer = one_writer
        # By refresh, or none: odd while items move.
        self._counts: Counter[str | None] = Counter()

    @contextmanager
    def moving(self, intent: dict[str, Any]) -> Iterator[None]:
        """Note what is meant, and forget it once it is done."""
        write_json(self.path, intent)
        refresh = intent.get("refresh")
        self._counts[refresh] += 1
        try:
            yield
            self.forget()
        finally:
            self._counts[refresh] += 1

    def interrupted(self) -> dict[str, Any] | None:
        """Return what was meant by a move that a kill or a full disk has interrupted."""
        if not self.path.is_file():
            return None
        intent = read_object(self.path, ids=list)
        if not all(isinstance(identifier, str) for identifier in intent["ids"]):
            raise DamagedError(f"{self.path} does not say which items move: restore the gallery from a backup.")
        return intent

    def forget(self) -> None:
        """Note that the move is done."""
        self.path.unlink()
        # Come back after a loss of power, it would undo what was written since.
        sync_directory(self.path.parent)

    def undisturbed(self, ask: Callable[[], Answer], view: View) -> Answer:
        """Return what ``ask`` returns while nothing moves that a view would see."""
        for _ in range(HASTY_READS):
            count = self._seen(view)
            answer = ask()
            if count == self._seen(view) and count % 2 == 0:
                return answer
        with self._one_writer:
            return ask()

    def _seen(self, view: View) -> int:
        if not self._counts:
            return 0
        # Where new versions are hidden, an old one is seen alike before it is superseded and after.
        return sum(count for refresh, count in list(self._counts.items()) if refresh not in view.hidden)


def intended(intent: Mapping[str, Any]) -> list[uuid.UUID]:
    """The points that a move is about."""
    return [point_id(identifier) for identifier in intent["ids"]]
