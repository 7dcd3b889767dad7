"""Search for people, in a real browser: names as one types, parts of a picture, more and less, marks, files, looks."""

import csv
import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from browsing import Open, an_item, asked, served, tabs, tiles, until
from PIL import Image
from served import UNLIMITED, copy_of, listening, make_served, photographs

from evergallery import Workspace
from evergallery.serving.app import create_app
from evergallery.serving.service import ServiceSettings


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_served(tmp_path_factory.mktemp("page"))


@pytest.fixture
def show(browser: Any) -> Iterator[Open]:
    with tabs(browser) as opened:
        yield opened


@pytest.fixture(scope="module")
def reading(made: Path, browser: Any) -> Iterator[str]:
    with listening(create_app(made, ServiceSettings(UNLIMITED))) as address:
        yield address


def test_a_label_or_an_id_is_proposed_as_one_types(reading: str, show: Open) -> None:
    tab = show(reading)
    tab.wait_for_selector(".samples img")
    item = an_item(tab)
    field = tab.get_by_role("combobox", name="Label, metadata or item id")
    field.press_sequentially("ass 3")
    tab.wait_for_selector(".omnibox .proposals li:has-text('class 3')")
    field.fill(item[:20])
    tab.wait_for_selector(".omnibox .proposals li:has-text('id')")
    tab.keyboard.press("ArrowDown")
    tab.keyboard.press("Enter")
    tiles(tab)
    assert f"item={quote(item, safe='')}" in tab.url
    field.fill("class 3")
    tab.locator(".omnibox .proposals li").first.click()
    tab.wait_for_selector(".browser .tile .name:has-text('class 3')")
    until(tab, "document.querySelectorAll('.browser .tile').length === 20")


def test_more_and_less_like_this(reading: str, show: Open) -> None:
    tab = show(reading)
    item = an_item(tab)
    tab.goto(f"{reading}/#/search?item={quote(item)}")
    first = tiles(tab)
    tab.locator(".answers-of .search-with").nth(1).focus()
    tab.keyboard.press("+")
    tab.wait_for_selector(".parts .more img")
    second = tiles(tab)
    assert second == asked(tab, item=item, k=24, more=[first[1]], generation="v1")
    tab.locator(".answers-of .tile").nth(4).hover()
    tab.locator(".answers-of .tile").nth(4).get_by_role("button", name="Less like this").click()
    tab.wait_for_selector(".parts .less img")
    assert tiles(tab) == asked(tab, item=item, k=24, more=[first[1]], less=[second[4]], generation="v1")
    tab.reload()
    tab.wait_for_selector(".parts .less img")
    for row in ("more", "less"):
        tab.locator(f".parts .{row}").get_by_role("button").click()
        tab.wait_for_selector(f".parts .{row}", state="detached")
    assert tiles(tab) == first


def test_several_pictures_are_one_query(reading: str, made: Path, show: Open) -> None:
    tab = show(reading)
    first, second = photographs(made)[0], photographs(made)[-1]
    tab.get_by_label("Picture file").set_input_files([first, second])
    both = tiles(tab)
    assert tab.locator(".parts li").inner_text().endswith(second.name)
    tab.locator(".parts").get_by_role("button").click()
    tab.wait_for_selector(".parts", state="detached")
    assert tiles(tab) != both


def test_a_part_of_the_picture_is_dragged_and_searched_with(reading: str, tmp_path: Path, show: Open) -> None:
    # Two classes beside each other: the part is one of them.
    halves = Image.new("RGB", (80, 40), (220, 40, 40))
    halves.paste((30, 60, 220), (40, 0, 80, 40))
    path = tmp_path / "halves.png"
    halves.save(path)
    blue = tmp_path / "blue.png"
    Image.new("RGB", (40, 40), (30, 60, 220)).save(blue)
    tab = show(reading)
    tab.get_by_label("Picture file").set_input_files(blue)
    expected = tiles(tab)
    tab.get_by_label("Picture file").set_input_files(path)
    tab.wait_for_selector(".query:has-text('halves.png')")
    whole = tiles(tab)
    assert whole != expected
    box = tab.locator(".croppable").bounding_box()
    tab.mouse.move(box["x"] + box["width"] * 0.55, box["y"] + box["height"] * 0.1)
    tab.mouse.down()
    tab.mouse.move(box["x"] + box["width"] * 0.95, box["y"] + box["height"] * 0.9, steps=4)
    tab.mouse.up()
    tab.get_by_role("button", name="Search with this part").click()
    tab.wait_for_selector(".query:has-text('Pasted picture')")
    assert tiles(tab)[:5] == expected[:5]
    tab.locator(".croppable").focus()
    tab.keyboard.press("Enter")
    tab.keyboard.press("ArrowRight")
    assert tab.get_by_role("button", name="Search with this part").is_visible(), "the keyboard alone"


def test_marks_stay_and_the_check_is_offered_them(made: Path, tmp_path: Path, show: Open) -> None:
    shop = copy_of(made, tmp_path)
    with served(shop) as address:
        tab = show(address)
        item = an_item(tab)
        tab.goto(f"{address}/#/search?item={quote(item)}")
        found = tiles(tab)
        tab.locator(".answers-of .search-with").first.focus()
        tab.keyboard.press("r")
        tab.wait_for_selector(".tile .check[aria-pressed=true]")
        tab.locator(".answers-of .tile").nth(2).hover()
        tab.locator(".answers-of .tile").nth(2).get_by_role("button", name="Wrong").click()
        tab.wait_for_selector(".tile .close[aria-pressed=true]")
        tab.reload()
        tiles(tab)
        assert tab.locator(".tile [aria-pressed=true]").count() == 2
        tab.get_by_label("Picture file").set_input_files(photographs(made)[3])
        tab.wait_for_selector(".query img[alt='Your picture']")
        tiles(tab)
        tab.locator(".answers-of .search-with").first.focus()
        tab.keyboard.press("r")
        tab.wait_for_selector(".tile .check[aria-pressed=true]")
        tab.goto(f"{address}/#/generations?name=v2")
        tab.get_by_role("button", name="Check v2…").click()
        tab.get_by_role("dialog").get_by_text("2 queries of which people have marked right results").wait_for()
    marks = Workspace(shop).holdings.marks.all()
    assert [(mark.query, mark.item, mark.right) for mark in marks[:2]] == [
        (item, found[0], True),
        (item, found[2], False),
    ]
    assert len(marks) == 3
    assert len(list((shop / "marked").iterdir())) == 1


def test_that_nothing_like_it_is_here_is_said(reading: str, show: Open) -> None:
    tab = show(reading)
    item = an_item(tab)
    share = {"present": 0.03}

    def other(route: Any) -> None:
        answer = route.fetch()
        route.fulfill(response=answer, json={**answer.json(), **share})

    tab.route("**/api/v1/search", other)
    tab.goto(f"{reading}/#/search?item={quote(item)}")
    tab.wait_for_selector(".absent:has-text('Nothing like this here'):has-text('3.0')")
    for unsure in (0.4, 0.9):
        share["present"] = unsure
        tab.reload()
        tiles(tab)
        assert tab.locator(".absent").count() == 0, "a warning needs more than a doubt"


def test_what_was_found_is_saved(reading: str, show: Open) -> None:
    tab = show(reading)
    item = an_item(tab)
    tab.goto(f"{reading}/#/search?item={quote(item)}&k=12")
    found = tiles(tab)

    def saved(name: str) -> bytes:
        with tab.expect_download() as download:
            tab.get_by_role("button", name=name).click()
        return Path(download.value.path()).read_bytes()

    rows = list(csv.DictReader(io.StringIO(saved("CSV").decode())))
    assert [row["id"] for row in rows] == found
    assert [int(row["place"]) for row in rows] == list(range(1, 13))
    assert [result["id"] for result in json.loads(saved("JSON"))] == found
    with zipfile.ZipFile(io.BytesIO(saved("ZIP with pictures"))) as archive:
        assert archive.testzip() is None
        pictures = sorted(name for name in archive.namelist() if name.startswith("pictures/"))
        assert len(pictures) == 12
        Image.open(io.BytesIO(archive.read(pictures[0]))).verify()
        assert archive.read("results.csv").decode().splitlines()[0].startswith("place,id,label")
    tab.get_by_role("button", name="Show more").click()
    until(tab, "document.querySelectorAll('.answers-of .tile').length === 24")


def test_an_item_at_large_goes_on_to_the_next(reading: str, show: Open) -> None:
    tab = show(reading)
    item = an_item(tab)
    tab.goto(f"{reading}/#/search?item={quote(item)}")
    found = tiles(tab)
    tab.locator(".answers-of .search-with").first.focus()
    tab.keyboard.press("i")
    dialog = tab.get_by_role("dialog")
    assert dialog.get_by_role("button", name="Previous").is_disabled()
    tab.keyboard.press("ArrowRight")
    until(tab, "id => document.querySelector('dialog .id')?.title === id", found[1])
    assert dialog.inner_text().count(found[1][:12]) == 1, "no hash stands there twice"
    assert dialog.locator(".copy").count() >= 3
    dialog.get_by_role("button", name="Search with it").click()
    tab.wait_for_url(f"**item={quote(found[1])}")


def test_keys_colours_and_whole_pictures(reading: str, show: Open) -> None:
    tab = show(reading, viewport={"width": 1280, "height": 900}, color_scheme="light")
    tab.goto(f"{reading}/#/search?item={quote(an_item(tab))}")
    tiles(tab)
    tab.keyboard.press("?")
    assert "among pictures" in tab.get_by_role("dialog").inner_text()
    tab.keyboard.press("Escape")
    ground = "getComputedStyle(document.body).backgroundColor"
    light = tab.evaluate(ground)
    colours = tab.get_by_role("button", name="Colours")
    colours.click()
    assert tab.evaluate(ground) == light
    colours.click()
    assert tab.evaluate(ground) != light
    tab.reload()
    tiles(tab)
    assert tab.evaluate(ground) != light, "it is remembered"
    colours.click()
    assert tab.evaluate("localStorage.length") == 0
    tab.get_by_role("button", name="Whole pictures").click()
    assert tab.evaluate("getComputedStyle(document.querySelector('.search-with img')).objectFit") == "contain"


def test_what_sticks_out_on_a_phone_says_so(reading: str, show: Open) -> None:
    tab = show(reading, viewport={"width": 390, "height": 844})
    tab.goto(f"{reading}/#/generations?name=v3")
    tab.wait_for_selector(".heat td")
    regions = tab.locator(".scroll").all()
    assert len(regions) >= 3
    for region in regions:
        hidden = region.evaluate("one => one.scrollWidth - one.clientWidth > 1")
        assert hidden == ("more-right" in str(region.get_attribute("class")))
    last = tab.locator(".scroll.more-right").last
    last.evaluate("one => one.scrollTo(10000, 0)")
    tab.wait_for_selector(".scroll.more-left")


def test_metadata_filters(made: Path, tmp_path: Path, show: Open) -> None:
    shop = copy_of(made, tmp_path)
    picture = tmp_path / "one.png"
    Image.new("RGB", (20, 20), (200, 30, 90)).save(picture)
    with served(shop) as address:
        tab = show(address)
        tab.evaluate(
            """bytes => {
                const form = new FormData();
                form.append("image", new Blob([new Uint8Array(bytes)], { type: "image/png" }), "a.png");
                form.append("metadata", JSON.stringify({ season: "summer", price: 3 }));
                return fetch("api/v1/items", { method: "POST", body: form });
            }""",
            list(picture.read_bytes()),
        )
        tab.goto(f"{address}/#/search?item={quote(an_item(tab))}")
        tab.reload()
        tiles(tab)
        tab.get_by_role("combobox", name="Metadata", exact=True).fill("summ")
        tab.keyboard.press("Enter")
        until(tab, "document.querySelectorAll('.answers-of .tile').length <= 1")
        assert "meta=" in tab.url
        tab.get_by_role("button", name="Remove season: summer").click()
        until(tab, "document.querySelectorAll('.answers-of .tile').length === 24")
        tab.get_by_role("combobox", name="Label, metadata or item id").fill("price")
        tab.locator(".omnibox .proposals li:has-text('price: 3')").click()
        tab.wait_for_selector(".browser .tile")
        assert tab.locator(".browser .tile").count() == 1
