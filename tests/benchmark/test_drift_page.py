"""The alarm on drift of queries in small, and the page that says what the committed results say."""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def drift(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import drift

    yield drift
    for name in ("drift", "common"):
        sys.modules.pop(name, None)


def test_usual_queries_raise_no_alarm_and_strange_ones_do(drift: ModuleType) -> None:
    world = drift.QueryModel.draw(0, pool=20_000)
    draw = np.random.default_rng(0)
    alarms = {
        kind: [drift.life(world, kind, 6, draw, size=800) for _ in range(5)]
        for kind in ("usual", "strange 40", "noisier")
    }
    assert alarms["usual"] == [None] * 5
    assert all(window is not None for window in alarms["strange 40"] + alarms["noisier"])


def test_page_says_what_the_results_say(drift: ModuleType) -> None:
    page = drift.PAGE.read_text()
    written = page.partition("<!-- drift -->")[2].partition("<!-- end of drift -->")[0].strip()
    assert written == drift.written(drift.recorded("drift"))


def test_false_alarms_are_as_rare_as_is_promised(drift: ModuleType) -> None:
    rows = {row["kind"]: row for row in drift.recorded("drift")["rows"]}
    assert rows["usual"]["alarms"] <= 0.01 * rows["usual"]["lives"]
