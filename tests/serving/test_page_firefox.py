"""The same walk in Firefox, which reads other modules, styles and events than Chromium does."""

import shutil
from collections.abc import Iterator

import pytest
from firefox import Firefox, firefox
from served import UNLIMITED, listening, make_served

from evergallery.serving.app import create_app
from evergallery.serving.service import ServiceSettings

PROGRAM = shutil.which("firefox-esr") or shutil.which("firefox")


@pytest.fixture(scope="module")
def tab() -> Iterator[Firefox]:
    if PROGRAM is None:
        pytest.skip("no Firefox: install the package firefox-esr to walk over the page in it")
    pytest.importorskip("websockets", reason="no websockets: install the extra dev to drive Firefox")
    with firefox(PROGRAM) as opened:
        yield opened


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    made = make_served(tmp_path_factory.mktemp("page"))
    with listening(create_app(made, ServiceSettings(UNLIMITED))) as bound:
        yield bound


def test_a_walk_over_every_view(tab: Firefox, address: str) -> None:
    tab.goto(address)
    tab.until("document.querySelectorAll('.samples img').length > 3")
    light = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    assert light.startswith("rgb"), "the colours are known to it"
    tab.evaluate("document.querySelector('.samples button').click()")
    tab.until("document.querySelectorAll('.answers-of .tile[data-item]').length === 24")
    tab.evaluate("document.querySelectorAll('.judging .add')[1].click()")
    tab.until("document.querySelector('.parts .more img') && document.querySelector('.answers-of[aria-busy=false]')")
    tab.evaluate("[...document.querySelectorAll('button')].find(one => one.textContent === 'Side by side').click()")
    tab.until("document.querySelectorAll('.column .tile').length > 24")
    assert tab.evaluate("document.querySelectorAll('.column .moved').length") > 0
    tab.goto(f"{address}/#/generations?name=v3")
    tab.until("document.querySelector('.heat td strong') && document.querySelector('.verdict')")
    tab.goto(f"{address}/#/gallery")
    tab.until("document.querySelectorAll('.browser .tile').length === 48")
    tab.evaluate("document.querySelector('.browser .search-with').click()")
    tab.until("document.querySelector('dialog[open] .portrait img')?.naturalWidth > 0")
    tab.evaluate("document.querySelector('dialog').close()")
    tab.evaluate("document.dispatchEvent(new KeyboardEvent('keydown', { key: '?', bubbles: true }))")
    assert tab.complaints == []


def test_nothing_sticks_out_in_it(tab: Firefox, address: str) -> None:
    for view in ("#/search", "#/generations?name=v3", "#/gallery"):
        tab.goto(f"{address}/{view}")
        tab.until("document.querySelector('main > :not(noscript)') && true")
        assert tab.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
