"""What an interval holds, in small, and the page that says what the committed results say."""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def intervals(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import intervals

    yield intervals
    for name in ("intervals", "gate", "common"):
        sys.modules.pop(name, None)


def test_the_first_of_the_items_that_were_drawn(intervals: ModuleType) -> None:
    old = np.array([[3, 4, 5], [4, 5, 3]]), np.array([[True, False, True], [False, False, True]])
    new = np.array([[4, 3, 5], [3, 4, 5]]), np.array([[False, True, True], [True, False, False]])
    np.testing.assert_array_equal(intervals.difference(old, new), [-1, 1])
    drawn = np.array([0, 0, 0, 2, 0, 1])
    np.testing.assert_array_equal(intervals.difference(old, new, drawn), [0, 1])


def test_page_says_what_the_results_say(intervals: ModuleType) -> None:
    page = intervals.PAGE.read_text()
    written = page.partition("<!-- intervals -->")[2].partition("<!-- end of intervals -->")[0].strip()
    assert written == intervals.written(intervals.recorded("intervals"))


def test_queries_beside_a_gallery_are_covered(intervals: ModuleType) -> None:
    rows = intervals.recorded("intervals")["rows"]
    assert all(row["queries"]["coverage"] >= 0.92 for row in rows if row["case"].startswith("queries beside"))
