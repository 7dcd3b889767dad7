"""The pages that say which way to answer when say what the committed result says."""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import answering

    yield answering
    for name in ("answering", "features", "common"):
        sys.modules.pop(name, None)


def test_pages_say_what_the_result_says(answering: ModuleType) -> None:
    result = answering.recorded("answering")
    for page, write in answering.PAGES.items():
        written = page.read_text().partition("<!-- answering -->")[2].partition("<!-- end of answering -->")[0].strip()
        assert written == write(result), f"run  python benchmarks/answering.py --table  for {page.name}"


def test_what_is_advised_is_what_was_measured(answering: ModuleType) -> None:
    """The words beside the figures of the README."""
    result = answering.recorded("answering")
    for data in answering.DATA:
        better, _, same = (result[f"{data}|{pair}"] for pair in answering.PAIRS)
        waiting = "wait: the old model alone"
        assert abs(same["everything refreshed"]["mean"] - same[waiting]["0 %"]["mean"]) < 1, "no upgrade, and so wait"
        gain = better["everything refreshed"]["mean"] - better[waiting]["0 %"]["mean"]
        assert gain > 2
        for name in ("re-score 20", "re-score 100"):
            assert better[name]["0 %"]["mean"] - better[waiting]["0 %"]["mean"] > 0.6 * gain, (
                "most of it on the first day"
            )
        assert better["dual query"]["0 %"]["mean"] == better[waiting]["0 %"]["mean"], "nothing is lost before a refresh"
