"""Stored items that show nearly the same: groups of them, by their stored vectors."""

from dataclasses import dataclass

import numpy as np

from evergallery.errors import InputError, require_count
from evergallery.gallery.items import Filter
from evergallery.holdings.holdings import Holdings
from evergallery.watching import SILENT, Watcher

NEAR = 0.98
"""The cosine by default: one at which most models see the same picture, cut or saved otherwise."""
MOST_ITEMS = 50_000
NEIGHBOURS = 10
BATCH = 256


@dataclass(frozen=True)
class Group:
    """Items that are linked by a cosine of at least so much, each to another one.

    Attributes:
        items: ids, in order.
        least: the smallest cosine that links them.
    """

    items: tuple[str, ...]
    least: float


@dataclass(frozen=True)
class NearDuplicates:
    """The near duplicates that were found.

    Attributes:
        groups: the largest first.
        looked: items that were looked at.
        left: items that were not, because there are too many.
    """

    groups: tuple[Group, ...]
    looked: int
    left: int


def near_duplicates(
    holdings: Holdings, *, at_least: float = NEAR, most: int = MOST_ITEMS, watcher: Watcher = SILENT
) -> NearDuplicates:
    """Groups of stored items whose vectors lie nearly in one direction; items are compared with those of their own space.

    Args:
        at_least: cosine that links two items, in (0, 1].
        most: items to look at, in the gallery's order.
        watcher: hears of progress.

    Raises:
        InputError: a cosine out of range, or nothing to look at.
    """
    require_count("most", most)
    if not 0 < at_least <= 1:
        raise InputError(f"A cosine of {at_least:g} links nothing, or everything: give one above 0 and up to 1.")
    gallery, view = holdings.gallery, holdings.state.view()
    total = gallery.count(view=view)
    links = _Links()
    looked = 0
    for batch in gallery.iterate(batch_size=BATCH, view=view):
        batch = batch[: most - looked]
        for space in dict.fromkeys(item.generation for item in batch):
            items = [item for item in batch if item.generation == space]
            found = gallery.search(
                np.stack([item.embedding for item in items]),
                NEIGHBOURS + 1,
                where=Filter(generations=(space,)),
                minimum_score=at_least,
                exact=None,
                view=view,
            )
            for item, matches in zip(items, found, strict=True):
                for match in matches:
                    if match.item.id != item.id:
                        links.link(item.id, match.item.id, match.score)
        looked += len(batch)
        watcher.counted("looking for near duplicates", looked, min(most, total))
        if looked >= most:
            break
    return NearDuplicates(links.groups(), looked, max(0, total - looked))


class _Links:
    """Groups of items that are linked, directly or over others: a forest whose trees are the groups."""

    def __init__(self) -> None:
        self._above: dict[str, str] = {}
        self._least: dict[str, float] = {}

    def link(self, first: str, second: str, score: float) -> None:
        first, second = self._top(first), self._top(second)
        least = min(score, self._least.get(first, 1.0), self._least.get(second, 1.0))
        self._above[second] = first
        self._least[first] = least

    def groups(self) -> tuple[Group, ...]:
        together: dict[str, list[str]] = {}
        for item in self._above:
            together.setdefault(self._top(item), []).append(item)
        found = [Group(tuple(sorted(items)), self._least[top]) for top, items in together.items()]
        return tuple(sorted(found, key=lambda group: (-len(group.items), -group.least, group.items)))

    def _top(self, item: str) -> str:
        while (above := self._above.setdefault(item, item)) != item:
            self._above[item] = item = self._above.setdefault(above, above)
        return item
