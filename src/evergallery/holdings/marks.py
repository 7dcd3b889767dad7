"""Marks of results by people: this item is right for this query, or wrong; appended, and never lost with a cache."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evergallery.holdings.journal import append_line, damaged_lines, read_lines
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


def is_mark(entry: Mapping[str, Any]) -> bool:
    """Return whether a JSON object is a mark, or takes one back."""
    names = all(isinstance(entry.get(name), str) for name in ("query", "item"))
    return names and "right" in entry and isinstance(entry["right"], bool | None)


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
        for entry in filter(is_mark, read_lines(self.path)):
            query, item, right = (entry[name] for name in ("query", "item", "right"))
            if right is None:
                held.pop((query, item), None)
            else:
                held[query, item] = right
        return [Mark(query, item, right) for (query, item), right in held.items()]

    def damaged(self) -> list[int]:
        """Return the numbers of the lines that are no marks."""
        return damaged_lines(self.path, is_mark)

    def of(self, queries: Iterable[str]) -> dict[tuple[str, str], bool]:
        """Return what holds of some queries, by query and item."""
        wanted = set(queries)
        return {(mark.query, mark.item): mark.right for mark in self.all() if mark.query in wanted}
