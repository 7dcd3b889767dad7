"""The words of the page: all in one file, in the language of whoever reads it; and what a sentence of the server leads to."""

import re
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from browsing import Open, an_item, served, tabs
from served import UNLIMITED, listening, make_served

from evergallery import Workspace
from evergallery.serving.app import create_app
from evergallery.serving.service import ServiceSettings

PAGE = Path(str(files("evergallery.serving"))) / "page"
CODE = {one.name: one.read_text("utf-8") for one in PAGE.glob("*.js")}
ENGLISH = (PAGE / "words" / "en.js").read_text("utf-8")
COMMENT = re.compile(r"//.*|/\*[\s\S]*?\*/")
TEXT = re.compile(r'"([^"\n]*)"|`([^`\n]*)`')
PROSE = re.compile(r"^[A-Z][a-z’]+ [a-z]+|[a-z]+ [a-z]+ [a-z]+ [a-z]+ ")
"""A sentence, or its beginning; class names and selectors are in small letters, and few."""
GERMAN = """
import { count } from "../figures.js";
export default {
  common: { items: (number) => `${count(number)} Bilder` },
  gallery: { title: "Bestand" },
  refreshing: { how: "Alte Bilder lassen sich neu lesen." },
};
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_served(tmp_path_factory.mktemp("words"))


@pytest.fixture(scope="module")
def reading(made: Path, browser: Any) -> Iterator[str]:
    with listening(create_app(made, ServiceSettings(UNLIMITED))) as address:
        yield address


@pytest.fixture
def show(browser: Any) -> Iterator[Open]:
    with tabs(browser) as opened:
        yield opened


def sections() -> dict[str, set[str]]:
    """Every name in the English words, by its section."""
    found: dict[str, set[str]] = {}
    for line in ENGLISH.splitlines():
        if section := re.match(r"  (\w+): \{$", line):
            names = found.setdefault(section[1], set())
        elif name := re.match(r"    (\w+)[:,]", line):
            names.add(name[1])
    return found


def test_no_sentence_stands_in_the_code_of_the_page() -> None:
    said = [
        f"{name}: {text}"
        for name, code in CODE.items()
        for found in TEXT.finditer(COMMENT.sub("", code))
        if PROSE.search(text := found[1] or found[2] or "")
    ]
    assert said == []


def test_every_word_that_is_asked_for_is_there_and_none_is_left_over() -> None:
    known = sections()
    asked = {(section, name) for code in CODE.values() for section, name in re.findall(r"\bwords\.(\w+)\.(\w+)", code)}
    assert [(section, name) for section, name in sorted(asked) if name not in known[section]] == []
    left = {(section, name) for section, names in known.items() for name in names} - asked
    assert left == {("query", "less")}, "asked for by what the code has in its hand"


def serving(script: str) -> Callable[[Any], None]:
    """Answers a request with a script."""

    def answer(route: Any) -> None:
        route.fulfill(body=script, content_type="text/javascript")

    return answer


@pytest.mark.parametrize("how", ["address", "browser"])
def test_another_language_is_a_file_and_what_it_lacks_is_english(reading: str, browser: Any, how: str) -> None:
    context = browser.new_context(locale="de-AT" if how == "browser" else "fr-FR")
    tab = context.new_page()
    tab.route("**/static/words/languages.js", serving('export const LANGUAGES = ["en", "de"];'))
    tab.route("**/static/words/de.js", serving(GERMAN))
    tab.goto(f"{reading}/{'?lang=de' if how == 'address' else ''}#/gallery")
    tab.wait_for_selector("h1:has-text('Bestand')")
    assert tab.evaluate("document.documentElement.lang") == "de"
    assert "200 Bilder" in tab.locator(".gallery > .head").inner_text()
    assert tab.locator("nav a[aria-current]").inner_text() == "Bestand"
    assert tab.locator("nav a").first.inner_text() == "Search"
    tab.locator("details.panel > summary").click()
    assert "Alte Bilder" in tab.locator("details.panel").inner_text()
    assert "For queries of" in tab.locator("details.panel").inner_text()
    tab.goto(f"{reading}/{'?lang=de' if how == 'address' else ''}#/search?item={quote(an_item(tab))}")
    tab.wait_for_selector(".said:has-text('ms')")
    assert re.search(r"in \d+(,\d)? ms", tab.locator(".said").inner_text()), "numbers as they are written there"
    context.close()


def test_a_language_that_nobody_has_written_is_english(reading: str, browser: Any) -> None:
    context = browser.new_context(locale="fr-FR")
    tab = context.new_page()
    tab.goto(f"{reading}/?lang=../evil#/gallery")
    tab.wait_for_selector("h1:has-text('Gallery')")
    assert tab.evaluate("document.documentElement.lang") == "en"
    context.close()


def test_what_the_server_says_leads_to_a_view_and_to_a_command_on_demand(reading: str, show: Open) -> None:
    tab = show(reading, expected="409|status of 4")
    tab.goto(f"{reading}/#/search?item={quote(an_item(tab))}&by=v3")
    problem = tab.locator(".search > .problem")
    problem.wait_for()
    assert "evergallery " not in problem.inner_text()
    problem.locator("summary").click()
    assert "evergallery check v3" in problem.inner_text()
    problem.locator("a").first.click()
    tab.wait_for_selector(".node[aria-current]:has-text('v3')")


def test_an_empty_workspace_says_what_comes_first(tmp_path: Path, show: Open) -> None:
    Workspace.create(tmp_path / "empty", size=16).close()
    with served(tmp_path / "empty") as address:
        tab = show(address)
        said = tab.locator(".search .empty")
        said.wait_for()
        assert "evergallery " not in said.inner_text()
        assert tab.locator(".problem:visible").count() == 0, "that nothing is there yet is no fault"
        tab.goto(f"{address}/#/generations")
        said = tab.locator(".empty")
        said.wait_for()
        assert "Nothing has been learned yet" in said.inner_text()
        assert "evergallery " not in said.inner_text()
        said.locator("summary").click()
        assert "evergallery learn IMAGES" in said.inner_text()
        tab.goto(f"{address}/#/gallery")
        tab.wait_for_selector("h1:has-text('Gallery')")
        assert tab.get_by_role("button", name="Add pictures").is_disabled(), "nobody could make vectors of them"
        assert tab.locator("details.panel:visible, .states:visible, details.duplicates:visible").count() == 0
