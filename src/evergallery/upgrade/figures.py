"""Shares, differences of shares, and their intervals, as people read them."""

from evergallery.retrieval.bootstrap import Interval


def percent(share: float) -> str:
    """``61.7 %``, a share in [0, 1]."""
    return f"{100 * share:.1f} %"


def points(difference: float) -> str:
    """``+1.1``, a difference of two shares in percentage points."""
    return f"{100 * difference:+.1f}"


def interval_in_percent(value: Interval | None) -> str:
    """``61.7 (59.8–63.5)``, a mean share and its interval in percent; a dash where there is none."""
    if value is None:
        return "–"
    return f"{100 * value.mean:.1f} ({100 * value.low:.1f}–{100 * value.high:.1f})"


def interval_in_points(value: Interval) -> str:
    """``+1.1 (-0.4 to +2.6)``, a mean difference and its interval in percentage points."""
    return f"{points(value.mean)} ({points(value.low)} to {points(value.high)})"
