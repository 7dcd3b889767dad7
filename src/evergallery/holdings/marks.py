"""Marks of results by people: this item is right for this query, or wrong; appended, and never lost with a cache."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from evergallery.holdings.journal import append_line, read_lines
from evergallery.holdings.state import now

FOLDER = "marked"
"""Pictures that were searched with and marked, ``<SHA-256>.<ext>``."""


@dataclass(frozen=True)
class Mark:
    """A mark of one result.

    Attributes:
        query: id of a stored item, or SHA-256 of a picture that is kept in the folder.
        item: id of a stored item.
        right: whether it is right for the query.
    """

    query: str
    item: str
    right: bool


class Marks:
    """One JSON object a line; the last one of a query and an item holds.

    Args:
        path: of the file; made with the first mark.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def pictures(self) -> Path:
        """Return where pictures are that were searched with."""
        return self.path.parent / FOLDER

    def say(self, query: str, item: str, right: bool | None) -> None:
        """Mark a result, durably; ``None`` takes back what was said."""
        append_line(self.path, {"time": now(), "query": query, "item": item, "right": right})

    def all(self) -> list[Mark]:
        """Return what holds, in the order in which it was first said."""
        held: dict[tuple[str, str], bool] = {}
        for entry in read_lines(self.path):
            query, item, right = (entry.get(name) for name in ("query", "item", "right"))
            if not isinstance(query, str) or not isinstance(item, str):
                continue
            if isinstance(right, bool):
                held[query, item] = right
            else:
                held.pop((query, item), None)
        return [Mark(query, item, right) for (query, item), right in held.items()]

    def of(self, queries: Iterable[str]) -> dict[tuple[str, str], bool]:
        """Return what holds of some queries, by query and item."""
        wanted = set(queries)
        return {(mark.query, mark.item): mark.right for mark in self.all() if mark.query in wanted}
