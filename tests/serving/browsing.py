"""What tests of the page share: a tab whose complaints fail the test, a server, and ways to wait."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from served import UNLIMITED, listening

from evergallery.serving.app import create_app
from evergallery.serving.service import ServiceSettings

ADMIN: dict[str, Any] = {"settings": ServiceSettings(UNLIMITED), "anonymous": "admin"}
GONE = "net::ERR_"
"""What a browser says when a server ends before its page does."""
Open = Callable[..., Any]


@contextmanager
def tabs(browser: Any) -> Iterator[Open]:
    """Opens pages; whatever the browser complains of fails the test, except answers that the test wants."""
    complaints: list[str] = []
    contexts: list[Any] = []

    def opened(address: str, *, expected: str = "nothing", **options: Any) -> Any:
        context = (
            browser.new_context(viewport={"width": 1280, "height": 900}, reduced_motion="reduce")
            if not options
            else browser.new_context(reduced_motion="reduce", **options)
        )
        contexts.append(context)
        tab = context.new_page()
        tab.set_default_timeout(20_000)
        tab.on(
            "console", lambda said: None if re.search(f"{GONE}|{expected}", said.text) else complaints.append(said.text)
        )
        tab.on("pageerror", lambda error: complaints.append(str(error)))
        tab.goto(address)
        return tab

    yield opened
    for context in contexts:
        context.close()
    assert complaints == []


@contextmanager
def served(directory: Path) -> Iterator[str]:
    """The address of a workspace in which everything is allowed."""
    with listening(create_app(directory, **ADMIN)) as address:
        yield address


def until(tab: Any, condition: str, argument: Any = None) -> None:
    """Wait until a script says yes; the page's policy forbids what wait_for_function does."""
    for _ in range(400):
        if tab.evaluate(condition, argument):
            return
        tab.wait_for_timeout(50)
    raise AssertionError(f"never: {condition}")


def an_item(tab: Any) -> str:
    """The id of an item that the page's server has."""
    item: str = tab.evaluate("fetch('api/v1/items?limit=1').then(r => r.json()).then(r => r.items[0].id)")
    return item


def tiles(tab: Any, within: str = ".answers-of") -> list[str]:
    """Ids of the pictures of a grid, in order, once they are there."""
    tab.wait_for_selector(f"{within} .tile[data-item]")
    tab.wait_for_selector(".answers-of[aria-busy=false]")
    found: list[str] = tab.evaluate(f"[...document.querySelectorAll('{within} .tile')].map(tile => tile.dataset.item)")
    return found


def open_refresh(tab: Any) -> None:
    """Unfold the refresh of the gallery."""
    tab.locator("details.panel > summary").click()


def asked(tab: Any, **body: Any) -> list[str]:
    """Ids that the server finds."""
    found: list[str] = tab.evaluate(
        "body => fetch('api/v1/search', {method: 'POST', headers: {'Content-Type': 'application/json'},"
        " body: JSON.stringify(body)}).then(r => r.json()).then(r => r.results.map(one => one.item.id))",
        body,
    )
    return found
