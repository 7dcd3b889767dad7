"""README, the page on pretrained networks and the method's card say what the committed results say."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
V1S = "v2 in untouched vectors, all"


def test_pages_say_what_the_result_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import photographs

    for (page, name), wanted in photographs.pages().items():
        between = page.read_text().partition(f"<!-- {name} -->")[2].partition(f"<!-- end of {name} -->")[0]
        assert between.strip() == wanted, (page, name)
    for name in ("photographs", "common"):
        sys.modules.pop(name, None)


def test_no_row_shows_what_another_method_learned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a method begins after fine-tuning, the generation of fine-tuning stands in the row of fine-tuning alone."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import common
    import photographs

    for name in (photographs.RESULT, *photographs.others()):
        result = common.recorded(name)
        tuned = [life["figures"][V1S] for life in result["runs"]["finetune"]]
        for method, lives in result["runs"].items():
            same = [life["figures"][V1S] for life in lives] == tuned
            assert photographs.empty(method, V1S) == (same and method != "finetune"), (name, method)
    for module in ("photographs", "common"):
        sys.modules.pop(module, None)


def test_the_card_says_what_two_parts_give(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import common
    import expansion

    wanted = expansion.page([common.recorded(path.stem) for path in expansion.committed()])
    between = expansion.PAGE.read_text().partition("<!-- expansion -->")[2].partition("<!-- end of expansion -->")[0]
    assert between.strip() == wanted
    for name in ("expansion", "photographs", "common"):
        sys.modules.pop(name, None)
