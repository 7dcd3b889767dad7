"""The README's table of the demo is what its committed result says."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_the_readme_says_what_the_demo_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import common
    import demo

    wanted = demo.table(common.recorded(demo.RESULT))
    between = demo.PAGE.read_text().partition("<!-- demo -->")[2].partition("<!-- end of demo -->")[0]
    assert between.strip() == wanted.strip()
    for name in ("demo", "common"):
        sys.modules.pop(name, None)
