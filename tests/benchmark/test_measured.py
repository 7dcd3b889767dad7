"""Prose about speed, memory and room is held to result files, figure by figure."""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
NAMES = ("performance", "extraction", "operations", "storage", "engines", "scale")
PAGES = ["benchmarks/README.md", *(f"docs/{name}.md" for name in NAMES)]


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import measured

    yield measured
    for name in ("measured", "common"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("page", PAGES)
def test_a_figure_in_words_is_what_a_file_says(measured: ModuleType, page: str) -> None:
    found = measured.PAGES[page]
    assert not found.faults([*measured.prose((ROOT / page).read_text())]), (
        "say in benchmarks/measured.py which file says it"
    )
    for statement in found.measured:
        assert not statement.unfounded(), f"{page} says: {statement.plain}"


@pytest.mark.parametrize("page", PAGES)
def test_an_altered_figure_is_seen(measured: ModuleType, page: str) -> None:
    paragraphs = [*measured.prose((ROOT / page).read_text())]
    for number, paragraph in enumerate(paragraphs):
        for found in measured.figures(paragraph):
            other = found[0][:-1] + str((int(found[0][-1]) + 3) % 10)
            changed = paragraph[: found.start()] + other + paragraph[found.end() :]
            assert measured.PAGES[page].faults([*paragraphs[:number], changed, *paragraphs[number + 1 :]]), changed


def test_a_figure_of_no_file_is_named(measured: ModuleType) -> None:
    def faults(text: str) -> list[str]:
        found: list[str] = page.faults([*measured.prose(text)])
        return found

    page = measured.Page(
        measured=(measured.Measured("It takes {1.5} s, {twice} as long.", lambda: (1.46, 2.2)),), set=("Below 2 s.",)
    )
    assert faults("It takes 1.5 s, twice\nas long. Below 2 s.") == []
    assert page.measured[0].unfounded() == []
    assert "1.6" in faults("It takes 1.6 s, twice as long. Below 2 s.")[1]
    assert faults("It takes 1.5 s, twice as long. Below 3 s.")
    for more in (
        "And 12 %.",
        "And 1 200 images a second.",
        "0.3 to 4 points.",
        "Some 7 MiB.",
        "| a | found |\n|---|---|\n| b | 3 × |",
    ):
        assert faults(f"It takes 1.5 s, twice as long. Below 2 s.\n\n{more}"), more
    for more in (
        "In 640 × 480 pixels.",
        "`--size 12 s`",
        "[a](b-1.5.md)",
        "# 7 s",
        "```\n8 s\n```",
        "| a |\n|---|\n| 9 s |",
    ):
        assert not faults(f"It takes 1.5 s, twice as long. Below 2 s.\n\n{more}"), more


@pytest.mark.parametrize(
    ("figure", "value", "expected"),
    [
        ("1.5", 1.46, True),
        ("1.5", 1.44, False),
        ("6 400", 6_378.0, True),
        ("6 400", 6_200.0, False),
        ("93", 93.4, True),
        ("93", 94.0, False),
        ("twice", 1.86, True),
        ("a third", 0.45, False),
    ],
)
def test_a_figure_is_rounded_as_it_stands(measured: ModuleType, figure: str, value: float, expected: bool) -> None:
    assert measured.says(figure, value) == expected


def test_words_without_a_place_have_no_figure(measured: ModuleType) -> None:
    assert measured.Measured("{2} s of 5 s", lambda: (2.0,)).unfounded() == ["5"]
    assert measured.Measured("{2} s", lambda: (2.6,)).unfounded() == ["2 (2.6)"]
