"""The pace of a refresh: its rate, the time that it has, and batches small enough to keep both."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from evergallery.errors import require_positive
from evergallery.gallery.items import Item

FIRST_BATCH = 16
"""Items of the first batch of a refresh with a budget, which tells the pace of the others."""


class TimeBudget:
    """The time of a refresh, and batches small enough to keep it.

    Args:
        started: when the call began, in seconds of ``time.monotonic``.
        seconds: from then on; ``None`` for as many as it takes.

    Attributes:
        done: items so far.

    Raises:
        InputError: no time above 0.
    """

    def __init__(self, started: float, seconds: float | None) -> None:
        require_positive("budget", seconds)
        self.end = None if seconds is None else started + seconds
        self.started = self.began = started
        self.done = 0

    def begin(self) -> None:
        """Measure the pace from now on."""
        self.began = time.monotonic()

    @property
    def spent(self) -> float:
        """Seconds since the call began."""
        return time.monotonic() - self.started

    @property
    def is_spent(self) -> bool:
        """Return whether no time is left."""
        return self.end is not None and time.monotonic() >= self.end

    def batch(self, most: int) -> int:
        """Return how many items the next batch may have: a quarter of the time left, as the one after it is read meanwhile."""
        if self.end is None:
            return most
        if not self.done:
            return min(most, FIRST_BATCH)
        now = time.monotonic()
        pace = max(now - self.began, 1e-9) / self.done
        return max(1, min(most, int((self.end - now) / (4 * pace))))


@dataclass(frozen=True)
class Pace:
    """The speed of a refresh, and its time.

    Attributes:
        rate: items a second, at most; ``None`` for as many as it can.
        budget: the time that it has.
        batch: items that are stored together, at most; ``None`` for as many as is usual.

    Raises:
        InputError: a rate or a batch that is not above 0.
    """

    rate: float | None
    budget: TimeBudget
    batch: int | None

    def __post_init__(self) -> None:
        require_positive("rate", self.rate)
        require_positive("batch", self.batch)

    def batches(self, items: Sequence[Item], usual: int) -> Iterator[Sequence[Item]]:
        """Items in batches that keep the time, of as many as is usual at most."""
        most = self.batch or usual
        if self.rate is not None:
            # A limit of a few images a second would otherwise work for seconds and sleep for minutes.
            most = max(1, min(most, int(self.rate)))
        start = 0
        while start < len(items):
            batch = items[start : start + self.budget.batch(most)]
            yield batch
            start += len(batch)

    def wait(self, items: int, began: float) -> None:
        """Sleep as long as so many items should have taken and have not, since a moment of ``time.monotonic``."""
        if self.rate is not None:
            time.sleep(max(0.0, items / self.rate - (time.monotonic() - began)))
