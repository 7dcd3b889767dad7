"""The page on performance says what the committed results say."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_page_says_what_the_results_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import performance

    page = performance.PAGE.read_text()
    for name, text in performance.tables().items():
        assert page.partition(f"<!-- {name} -->")[2].partition(f"<!-- end of {name} -->")[0].strip() == text
    for name in ("performance", "common"):
        sys.modules.pop(name, None)
