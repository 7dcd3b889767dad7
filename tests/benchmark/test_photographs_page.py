"""README, the page on pretrained networks and the method's card say what the committed results say."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_pages_say_what_the_result_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import photographs

    wanted = photographs.table(photographs.recorded(photographs.RESULT))
    for page in photographs.PAGES:
        between = page.read_text().partition("<!-- photographs -->")[2].partition("<!-- end of photographs -->")[0]
        assert between.strip() == wanted, page
    between = (
        photographs.PAGES[1].read_text().partition("<!-- long life -->")[2].partition("<!-- end of long life -->")[0]
    )
    assert between.strip() == photographs.long_life(photographs.recorded(photographs.LONG))
    for name in ("photographs", "common"):
        sys.modules.pop(name, None)


def test_the_card_says_what_two_parts_give(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import expansion

    wanted = expansion.page([expansion.recorded(path.stem) for path in expansion.committed()])
    between = expansion.PAGE.read_text().partition("<!-- expansion -->")[2].partition("<!-- end of expansion -->")[0]
    assert between.strip() == wanted
    for name in ("expansion", "photographs", "common"):
        sys.modules.pop(name, None)
