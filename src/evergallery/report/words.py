"""Figures as a report writes them."""

from collections.abc import Sequence

import numpy as np

from evergallery.retrieval.bootstrap import Interval, interval_of_counts


def interval_of(share: float, queries: int, confidence: float) -> Interval:
    """The confidence interval of a recall that is known as a share of Q queries.

    A hit is 1 and a miss 0, so that the share and Q say how many there are of each: all that resampling needs.
    """
    hits = round(share * queries)
    counts = np.array([queries - hits, hits])
    return interval_of_counts(np.array([0.0, 1.0])[counts > 0], counts[counts > 0], confidence=confidence)


def direction(value: Interval) -> str:
    """Return what an interval of a difference allows to say."""
    if value.low > 0:
        return "better"
    return "worse" if value.high < 0 else "no difference that could be told from chance"


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """``1 class``, ``2 classes``."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"


def listed(names: Sequence[str], most: int = 5) -> str:
    """``a, b and c``; the first few of many."""
    if len(names) > most:
        return f"{', '.join(names[:most])} and {len(names) - most} more"
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def duration(seconds: float) -> str:
    """``45 s``, ``12 min``, ``3.5 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def size(count: float) -> str:
    """``512 B``, ``3 MiB``."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def moment(time: str) -> str:
    """``2026-11-21 12:30:46 UTC``, from ISO 8601 in UTC."""
    return time.replace("T", " ").replace("+00:00", " UTC")
