"""The page in a real browser, on the real server: what the person who runs the search does with it."""

import re
import time
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from browsing import ADMIN, Open, an_item, asked, open_refresh, served, tabs, tiles, until
from served import UNLIMITED, copy_of, listening, make_served, photographs

from evergallery import Workspace
from evergallery.serving.app import create_app
from evergallery.serving.service import ServiceSettings
from evergallery.serving.tokens import Tokens
from shops import make_photos

VIEWS = ("#/search", "#/search?item={}", "#/search?item={}&compare=v1~v2", "#/generations?name=v3", "#/gallery")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_served(tmp_path_factory.mktemp("page"))


@pytest.fixture
def show(browser: Any) -> Iterator[Open]:
    with tabs(browser) as opened:
        yield opened


@pytest.fixture
def shop(made: Path, tmp_path: Path) -> Path:
    """One that may be changed."""
    return copy_of(made, tmp_path)


@pytest.fixture(scope="module")
def reading(made: Path, browser: Any) -> Iterator[str]:
    """The address of one that is only read."""
    with listening(create_app(made, ServiceSettings(UNLIMITED))) as address:
        yield address


def test_the_page_is_in_the_package() -> None:
    names = {path.name for path in (files("evergallery.serving") / "page").iterdir()}
    assert {"index.html", "app.js", "style.css"} <= names


def test_a_picture_is_searched_with_and_then_one_that_was_found(reading: str, made: Path, show: Open) -> None:
    tab = show(reading)
    picture = photographs(made)[0]
    tab.get_by_label("Picture file").set_input_files(picture)
    first = tiles(tab)
    assert len(first) == 24
    assert tab.locator(".query").inner_text().startswith(picture.name)
    assert re.fullmatch(r"[\d.]+\s%", tab.locator(".tile .figures span").first.inner_text()), "a calibrated probability"
    tab.locator(".answers-of .search-with").nth(3).click()
    tab.wait_for_selector(".query .link")
    assert tab.url.endswith(f"item={quote(first[3], safe='')}")
    second = tiles(tab)
    assert second == asked(tab, item=first[3], k=24)
    tab.go_back()
    tab.wait_for_selector(".query img[alt='Your picture']")
    assert tiles(tab) == first, "the picture is kept in memory"
    tab.go_forward()
    tab.wait_for_selector(".query .link")
    tab.reload()
    assert tiles(tab) == second, "the address says what is shown"
    tab.go_back()
    tab.wait_for_selector(".search > .problem:has-text('choose it once more')")


@pytest.mark.parametrize("way", ["paste", "drop"])
def test_a_picture_is_pasted_or_dropped(reading: str, made: Path, show: Open, way: str) -> None:
    tab = show(reading)
    tab.wait_for_selector(".samples img")
    tab.evaluate(
        """([way, bytes]) => {
            const data = new DataTransfer();
            data.items.add(new File([new Uint8Array(bytes)], "found.png", { type: "image/png" }));
            const kind = way === "paste" ? ClipboardEvent : DragEvent;
            const given = { [way === "paste" ? "clipboardData" : "dataTransfer"]: data, bubbles: true, cancelable: true };
            document.body.dispatchEvent(new kind(way, given));
        }""",
        [way, list(photographs(made)[5].read_bytes())],
    )
    assert len(tiles(tab)) == 24
    assert tab.locator(".query").inner_text().startswith("found.png")


def test_two_generations_side_by_side_say_what_moved(reading: str, show: Open) -> None:
    tab = show(reading)
    item = an_item(tab)
    tab.goto(f"{reading}/#/search?item={quote(item)}&k=96")
    tiles(tab)
    tab.get_by_role("button", name="Side by side").click()
    before, after = asked(tab, item=item, k=96, generation="v1"), asked(tab, item=item, k=96, generation="v2")
    tab.wait_for_selector("section[aria-label='Results of v2'] .tile")
    assert tiles(tab, 'section[aria-label="Results of v1"]') == before
    assert tiles(tab, 'section[aria-label="Results of v2"]') == after
    signs = tab.locator("section[aria-label='Results of v2'] .moved").all_inner_texts()
    for index, (found, sign) in enumerate(zip(after, signs, strict=True)):
        up = before.index(found) - index if found in before else None
        assert sign == ("new" if up is None else "=" if up == 0 else f"▲ {up}" if up > 0 else f"▼ {-up}")
    gone = tab.locator("section[aria-label='Results of v1'] .tile.gone").count()
    assert gone == len(set(before) - set(after))
    both = next(identifier for identifier in after if identifier in before)
    tab.locator(f"section[aria-label='Results of v2'] [data-item='{both}'] .search-with").hover()
    assert tab.locator(".tile.linked").count() == 2
    tab.get_by_label("and", exact=True).select_option("v1")
    tab.wait_for_selector(".moves:has-text('the same items in the same order')")


def test_before_the_decision_a_generation_is_previewed_in_vectors_of_its_own(reading: str, show: Open) -> None:
    tab = show(reading, expected="409")
    item = an_item(tab)
    tab.goto(f"{reading}/#/search?item={quote(item)}&compare=v1~v3")
    tab.wait_for_selector("section[aria-label='Results of v3'] .badge.preview")
    assert "A preview" in tab.locator("section[aria-label='Results of v3'] .said").inner_text()
    assert tiles(tab, 'section[aria-label="Results of v3"]') == asked(
        tab, item=item, k=24, generation="v3", vectors="own"
    )
    assert len(tiles(tab, 'section[aria-label="Results of v1"]')) == 24
    assert tab.locator("section[aria-label='Results of v1'] .badge.preview").count() == 0
    assert tab.locator(".moved").count() > 24, "what became of each is said of previews too"
    tab.goto(f"{reading}/#/search?item={quote(item)}&compare=v1~v2")
    tab.get_by_role("button", name="Each in its own").click()
    tab.wait_for_selector("section[aria-label='Results of v2'] .badge.preview")
    assert "own=1" in tab.url
    assert "in vectors of its own" in tab.locator("section[aria-label='Results of v1'] .said").inner_text()


def test_on_a_phone_two_generations_are_one_list_with_both_ranks(reading: str, show: Open) -> None:
    tab = show(reading, viewport={"width": 390, "height": 844})
    item = an_item(tab)
    tab.goto(f"{reading}/#/search?item={quote(item)}&compare=v1~v2&k=12")
    tab.wait_for_selector("section[aria-label='Results of both'] .tile")
    before, after = asked(tab, item=item, k=12, generation="v1"), asked(tab, item=item, k=12, generation="v2")
    shown = tiles(tab)
    assert sorted(shown) == sorted(set(before) | set(after)), "each once"
    places = [min(side.index(each) for side in (before, after) if each in side) for each in shown]
    assert places == sorted(places), "by the better of its places"
    ranks = dict(zip(shown, tab.locator(".moved").all_inner_texts(), strict=True))
    for identifier in shown:
        assert ranks[identifier] == " → ".join(
            str(side.index(identifier) + 1) if identifier in side else "–" for side in (before, after)
        )
    tab.set_viewport_size({"width": 1200, "height": 844})
    tab.wait_for_selector("section[aria-label='Results of v2'] .tile")


def test_a_list_that_cannot_be_made_says_so_beside_the_other(reading: str, show: Open) -> None:
    tab = show(reading, expected="404|409")
    tab.goto(f"{reading}/#/search?item={quote(an_item(tab))}&compare=v1~v9")
    tab.wait_for_selector("section[aria-label='Results of v9'] .problem:has-text('v9')")
    assert len(tiles(tab, 'section[aria-label="Results of v1"]')) == 24


def test_filters_hold_are_in_the_address_and_are_cleared(reading: str, show: Open) -> None:
    tab = show(reading)
    item = an_item(tab)
    tab.goto(f"{reading}/#/search?item={quote(item)}")
    everything = tiles(tab)
    labels = tab.evaluate("fetch('api/v1/labels').then(r => r.json()).then(r => Object.keys(r.labels).sort())")
    wanted = labels[3]
    field = tab.get_by_role("combobox", name="Labels")
    field.fill(wanted[:-1])
    assert tab.evaluate(
        "[...document.querySelectorAll('.proposals:not([hidden]) li')].every(one => {"
        " const {left, top, width, height} = one.getBoundingClientRect();"
        " return document.elementFromPoint(left + width / 2, top + height / 2)?.closest('li') === one; })"
    ), "nothing cuts a proposal off"
    field.fill(wanted)
    tab.keyboard.press("ArrowUp")
    tab.keyboard.press("ArrowDown")
    tab.keyboard.press("Enter")
    until(tab, "name => new URLSearchParams(location.hash.split('?')[1]).get('label') === name", wanted)
    until(
        tab,
        "name => [...document.querySelectorAll('.answers-of .tile .name')].every(one => one.textContent === name)",
        wanted,
    )
    assert tiles(tab) == asked(tab, item=item, k=24, labels=[wanted])
    slider = tab.get_by_label("Probability at least")
    slider.fill("0.9")
    tab.wait_for_url("**min=0.9**")
    tab.wait_for_selector(".answers-of[aria-busy=false]")
    tab.reload()
    tab.wait_for_selector(".filters.used")
    tab.get_by_role("button", name="Clear the filters").click()
    until(tab, "many => document.querySelectorAll('.answers-of .tile').length === many", len(everything))
    tab.get_by_role("combobox", name="Results").select_option("12")
    until(tab, "document.querySelectorAll('.answers-of .tile').length === 12")


def test_promoted_and_rolled_back_after_a_question(shop: Path, show: Open) -> None:
    with served(shop) as address:
        tab = show(f"{address}/#/generations?name=v2")
        tab.get_by_role("button", name="Promote v2…").click()
        dialog = tab.get_by_role("dialog")
        assert "in place of v1" in dialog.inner_text(), "what will change"
        tab.keyboard.press("Escape")
        assert Workspace(shop).holdings.state.promoted == "v1"
        tab.get_by_role("button", name="Promote v2…").click()
        dialog.get_by_role("button", name="Promote v2").click()
        tab.wait_for_selector(".standing .generation:has-text('v2')")
        assert Workspace(shop).holdings.state.promoted == "v2"
        tab.wait_for_selector("dialog", state="detached")
        until(tab, "document.activeElement.id === 'content' && window.scrollY === 0")
        tab.get_by_role("button", name="Back to v1").click()
        assert "v1 answers queries again" in dialog.inner_text()
        dialog.get_by_role("button", name="Back to v1").click()
        tab.wait_for_selector(".standing .generation:has-text('v1')")
        assert Workspace(shop).holdings.state.promoted == "v1"


def test_a_press_outlasts_what_the_server_tells_meanwhile(shop: Path, show: Open) -> None:
    with Workspace(shop) as workspace:
        workspace.promote("v2")
    items = "import('./static/session.js').then(({ session }) => session.status.items)"
    delete = (
        "id => fetch('api/v1/items', {method: 'DELETE', headers: {'Content-Type': 'application/json'},"
        " body: JSON.stringify({ids: [id]})})"
    )
    with served(shop) as address:
        tab = show(f"{address}/#/generations?name=v2")
        button = tab.get_by_role("button", name="Back to v1")
        button.hover()
        tab.mouse.down()
        before = tab.evaluate(items)
        tab.evaluate(delete, an_item(tab))
        until(tab, f"before => {items}.then(now => now === before - 1)", before)
        tab.mouse.up()
        assert "v1 answers queries again" in tab.get_by_role("dialog").inner_text()
        tab.keyboard.press("Escape")
        button.focus()
        tab.evaluate(delete, an_item(tab))
        until(tab, f"before => {items}.then(now => now === before - 2)", before)
        assert button.evaluate("button => button === document.activeElement"), "the keyboard stays where it was"


def test_against_the_gate_only_with_a_reason(shop: Path, show: Open) -> None:
    with served(shop) as address:
        tab = show(f"{address}/#/generations?name=v3", expected="409")
        tab.get_by_role("button", name="Promote v3…").click()
        dialog = tab.get_by_role("dialog")
        go = dialog.get_by_role("button", name="Promote v3")
        assert "not passed" in dialog.inner_text()
        assert go.is_disabled()
        dialog.get_by_label("Promote it all the same").check()
        assert go.is_disabled(), "no reason, no promotion"
        dialog.get_by_label("Reason").fill("The old model is withdrawn.")
        go.click()
        tab.wait_for_selector(".standing .generation:has-text('v3')")
    with Workspace(shop) as workspace:
        assert workspace.holdings.state.promoted == "v3"
        assert any(entry.get("why") == "The old model is withdrawn." for entry in workspace.log())


def test_a_verdict_leads_by_buttons_to_an_adapter_a_check_and_a_promotion(
    shop: Path, tmp_path: Path, show: Open
) -> None:
    fresh = make_photos(tmp_path / "fresh", each=24, seed=11)
    with served(shop) as address:
        tab = show(f"{address}/#/generations?name=v3")
        leads = tab.locator(".panel .buttons > .primary")
        assert leads.inner_text() == "Make an adapter…"
        assert "pending" in str(tab.locator(".verdict strong").get_attribute("class")), (
            "it can be helped, and is not red"
        )
        assert "evergallery " not in tab.locator(".panel").inner_text(), "buttons in place of commands"
        leads.click()
        dialog = tab.get_by_role("dialog")
        dialog.get_by_role("button", name="Make the adapter").click()
        tab.wait_for_selector(".job.done:has-text('a1')")
        tab.wait_for_selector(".panel .buttons > .primary:has-text('Check v3')")
        leads.click()
        dialog.get_by_text("Held-out pictures, which").click()
        assert dialog.get_by_role("button", name="Check v3").is_disabled(), "none was sent"
        dialog.get_by_label("A folder").set_input_files(fresh)
        dialog.get_by_text("240 of 240 pictures sent").wait_for()
        dialog.get_by_text("240 held-out pictures of 10 labels").wait_for()
        dialog.get_by_role("button", name="Check v3").click()
        tab.wait_for_selector(".panel .buttons > .primary:has-text('Promote v3')")
        assert "met" in str(tab.locator(".verdict strong").get_attribute("class"))
        leads.click()
        dialog.get_by_role("button", name="Promote v3").click()
        tab.wait_for_selector(".standing .generation:has-text('v3')")
    assert Workspace(shop).holdings.state.promoted == "v3"


def test_a_way_of_answering_is_chosen_by_what_it_gives(shop: Path, show: Open) -> None:
    with served(shop) as address:
        tab = show(f"{address}/#/generations?name=v3")
        tab.get_by_role("button", name="Promote v3…").click()
        dialog = tab.get_by_role("dialog")
        dialog.get_by_text("The way of answering").click()
        dialog.get_by_text("All that was measured").click()
        assert dialog.locator("table tbody tr").count() > 6, "every way that was measured"
        go = dialog.get_by_role("button", name="Promote v3")
        assert go.is_disabled()
        dialog.get_by_label("Dual query").check()
        until(tab, "!document.querySelector('dialog .warning')")
        go.click()
        tab.wait_for_selector(".head:has-text('dual query')")
    state = Workspace(shop).holdings.state
    assert (state.promoted, state.answer.way, state.forced) == ("v3", "dual", None)


def test_the_matrix_is_filled_by_one_press(shop: Path, show: Open) -> None:
    with served(shop) as address:
        tab = show(f"{address}/#/generations?name=v2")
        tab.wait_for_selector(".heat td")
        assert tab.locator(".heat td:not(.none)").count() < 10
        tab.get_by_role("button", name="Fill the matrix…").click()
        dialog = tab.get_by_role("dialog")
        dialog.get_by_text("stored items with a label").click()
        dialog.get_by_role("button", name="Measure the rest").click()
        until(tab, "document.querySelectorAll('.heat td:not(.none)').length >= 10")
        tab.wait_for_selector(".job.done:has-text('pairs measured')")
        until(
            tab, "[...document.querySelectorAll('button')].find(one => one.textContent === 'Fill the matrix…').hidden"
        )


def answer_late(route: Any) -> None:
    response = route.fetch()
    time.sleep(0.3)
    route.fulfill(response=response)


def test_a_refresh_is_planned_watched_stopped_and_settled(shop: Path, show: Open) -> None:
    with served(shop) as address:
        tab = show(f"{address}/#/gallery")
        open_refresh(tab)
        tab.get_by_label("For queries of").select_option("v2")
        tab.get_by_role("button", name="Plan", exact=True).click()
        tab.wait_for_selector(".refresh-form + div h3:has-text('Plan for v2')")
        assert tab.locator(".curve").count() == tab.locator(".legend li").count() > 1
        tab.locator("summary", has_text="Limits").click()
        tab.get_by_label("items a second").fill("40")
        tab.get_by_role("button", name="Start the refresh").click()
        until(
            tab,
            "document.querySelector('.job progress')?.value > 0 && document.querySelector('.job progress').value < 1",
        )
        assert re.search(r"of 200", tab.locator(".panel .job-words").inner_text())
        tab.wait_for_selector(".job .faint:has-text('left')")
        tab.get_by_role("button", name="Stop").click()
        tab.wait_for_selector(".job.stopped")
        tab.wait_for_selector("text=A refresh for v2 is open")
        tab.get_by_role("button", name="Go on").click()
        tab.wait_for_selector(".job.done")
        tab.wait_for_selector("text=200 of 200 items have a new vector")
        # The answer to the request may come after the event that the job has ended.
        tab.route("**/discard", answer_late)
        tab.get_by_role("button", name="Discard…").click()
        with tab.expect_response("**/discard"):
            tab.get_by_role("dialog").get_by_role("button", name="Discard").click()
        tab.get_by_role("dialog").wait_for(state="hidden")
        tab.wait_for_selector(".refresh-form:visible")
    with Workspace(shop) as workspace:
        assert workspace.holdings.state.refresh is None
        assert {space.name: space.items for space in workspace.status().spaces or ()} == {"v1": 200}


def test_items_show_the_vectors_that_a_refresh_gave_them(shop: Path, show: Open) -> None:
    with Workspace(shop) as workspace:
        workspace.promote("v2")
    with served(shop) as address:
        tab = show(f"{address}/#/gallery")
        tab.wait_for_selector(".browser .tile .generation:has-text('v1')")
        open_refresh(tab)
        assert tab.get_by_label("For queries of").input_value() == "v2", "what answers is chosen"
        tab.get_by_role("button", name="Start the refresh").click()
        tab.wait_for_selector(".job.done")
        until(
            tab, "[...document.querySelectorAll('.browser .tile .generation')].every(one => one.textContent === 'v2')"
        )
        tab.get_by_role("button", name="Commit…").click()
        tab.get_by_role("dialog").get_by_role("button", name="Commit").click()
        tab.wait_for_selector(".refresh-form:visible")
    with Workspace(shop) as workspace:
        assert {space.name: space.items for space in workspace.status().spaces or ()} == {"v2": 200}


def test_pictures_are_added_found_and_deleted(shop: Path, made: Path, tmp_path: Path, show: Open) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(photographs(made)[0].read_bytes()[:60])
    fresh = tmp_path / "new one.png"
    from PIL import Image

    Image.new("RGB", (20, 20), (200, 30, 90)).save(fresh)
    with served(shop) as address:
        tab = show(f"{address}/#/gallery")
        tab.get_by_role("button", name="Add pictures").click()
        dialog = tab.get_by_role("dialog")
        dialog.get_by_label("Pictures").set_input_files([fresh, broken])
        dialog.get_by_label("Label").fill("magenta")
        dialog.get_by_role("button", name="Add 2 pictures").click()
        tab.wait_for_selector("dialog:has-text('1 added')")
        assert "broken.png" in dialog.inner_text(), "what could not be added, and why"
        dialog.get_by_role("button", name="Close").click()
        tab.get_by_text("What was done here").click()
        tab.wait_for_selector(".history th:has-text('20')")
        assert "register" in tab.locator(".history").inner_text()
        tab.goto(f"{address}/#/gallery?label=magenta")
        tab.wait_for_selector(".browser .tile .name:has-text('magenta')")
        until(tab, "document.querySelectorAll('.browser .tile').length === 1")
        tab.locator(".browser .search-with").click()
        dialog.get_by_role("button", name="Delete").click()
        tab.get_by_role("dialog", name="Delete magenta?").get_by_role("button", name="Delete").click()
        tab.wait_for_selector(".browser .empty:has-text('No item is like that')")


def test_many_pictures_are_added_in_portions(shop: Path, tmp_path: Path, show: Open) -> None:
    from PIL import Image

    pictures = [tmp_path / f"{number}.png" for number in range(23)]
    for number, path in enumerate(pictures):
        Image.new("RGB", (20, 20), (10 * number, 30, 90)).save(path)
    with served(shop) as address:
        tab = show(f"{address}/#/gallery")
        sent: list[str] = []
        tab.on("request", lambda request: sent.append(request.method) if request.url.endswith("/items") else None)
        tab.get_by_role("button", name="Add pictures").click()
        tab.get_by_role("dialog").get_by_label("Pictures").set_input_files(pictures)
        tab.get_by_role("button", name="Add 23 pictures").click()
        tab.wait_for_selector("dialog:has-text('23 added')")
        assert sent.count("POST") == 2


def test_errors_are_said_where_they_arise(reading: str, tmp_path: Path, show: Open) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG not really")
    tab = show(reading, expected="40[04]|422|415")
    tab.get_by_label("Picture file").set_input_files(broken)
    tab.wait_for_selector(".search > .problem:visible")
    assert "broken.png" in tab.locator(".search > .problem").inner_text()
    tab.get_by_label("Item id").fill("no such item")
    tab.keyboard.press("Enter")
    tab.wait_for_selector(".search > .problem:has-text('no such item')")
    tab.goto(f"{reading}/#/generations/v9")
    tab.wait_for_selector(".generations .problem:has-text('v9')")
    assert tab.url.endswith("#/generations?name=v9"), "an address by hand leads to the view"
    tab.route("**/api/v1/search", lambda asked: asked.abort())
    tab.goto(f"{reading}/#/search?item={quote(an_item(tab))}")
    tab.wait_for_selector(".search > .problem:has-text('does not answer')")
    assert tab.locator("#connection p").count() == 0, "one request is not the connection"


def test_a_lost_connection_is_said_and_comes_back(made: Path, tmp_path: Path, show: Open) -> None:
    shop = copy_of(made, tmp_path)
    with served(shop) as address:
        tab = show(address, expected="ERR_|Failed to load")
        tab.wait_for_selector(".samples img")
    tab.wait_for_selector("#connection:has-text('connection to the server is lost')")
    with listening(create_app(shop, **ADMIN), port=int(address.rsplit(":", 1)[1])):
        tab.wait_for_selector("#connection:not(:has(p))", state="attached")
        tab.locator(".samples button").first.click()
        assert len(tiles(tab)) == 24


def test_a_token_is_asked_for_and_what_it_does_not_allow_is_off(shop: Path, show: Open) -> None:
    token = Tokens(shop).create("reader", "read")
    with listening(create_app(shop, ServiceSettings(UNLIMITED))) as address:
        tab = show(address, expected="401")
        dialog = tab.get_by_role("dialog")
        dialog.wait_for()
        tab.keyboard.press("Escape")
        tab.get_by_role("button", name="Enter a token").click()
        dialog.get_by_label("Token").fill("evg_wrong")
        dialog.get_by_role("button", name="Use this token").click()
        tab.wait_for_selector("dialog .problem:visible")
        dialog.get_by_label("Token").fill(token)
        dialog.get_by_role("button", name="Use this token").click()
        tab.wait_for_selector(".samples img[src^='blob:']")
        tab.goto(f"{address}/#/gallery")
        tab.reload()
        assert tab.get_by_role("button", name="Add pictures").is_disabled()
        assert "scope write" in tab.locator(".browser > p.faint").inner_text()
        open_refresh(tab)
        assert tab.get_by_role("button", name="Start the refresh").is_disabled()
        tab.goto(f"{address}/#/generations?name=v2")
        assert tab.get_by_role("button", name="Promote v2…").is_disabled()
        assert tab.evaluate("localStorage.length") == 0
        Tokens(shop).revoke("reader")
        tab.reload()
        tab.wait_for_selector("dialog:has-text('asks for a token')")


def test_the_keyboard_alone(reading: str, show: Open) -> None:
    tab = show(reading)
    tab.wait_for_selector(".samples img")
    tab.keyboard.press("/")
    tab.keyboard.type(an_item(tab))
    tab.keyboard.press("Enter")
    first = tiles(tab)
    tab.locator(".answers-of .search-with").first.focus()
    tab.keyboard.press("ArrowRight")
    tab.keyboard.press("ArrowRight")
    tab.keyboard.press("ArrowLeft")
    assert tab.evaluate("document.activeElement.closest('.tile').dataset.item") == first[1]
    tab.keyboard.press("ArrowDown")
    below = tab.evaluate("document.activeElement.getBoundingClientRect().left")
    assert (
        tab.evaluate("[...document.querySelectorAll('.answers-of .search-with')][1].getBoundingClientRect().left")
        == below
    )
    tab.keyboard.press("i")
    tab.wait_for_selector("dialog")
    tab.keyboard.press("Escape")
    tab.wait_for_selector("dialog", state="detached")
    tab.keyboard.press("Home")
    tab.keyboard.press("Enter")
    tab.wait_for_url(f"**item={quote(first[0])}")
    second = tiles(tab)
    assert second != first
    until(tab, "id => document.activeElement.closest('.tile')?.dataset.item === id", second[0])


@pytest.mark.parametrize(("scheme", "width"), [("light", 390), ("dark", 1280)])
def test_every_view_is_accessible_and_fits(reading: str, show: Open, scheme: str, width: int) -> None:
    axe = files("axe_playwright_python") / "axe.min.js"
    tab = show(reading, viewport={"width": width, "height": 900}, color_scheme=scheme, bypass_csp=True)
    item = an_item(tab)
    tab.add_script_tag(content=axe.read_text())
    for view in VIEWS:
        tab.goto(f"{reading}/{view.format(quote(item))}")
        tab.wait_for_selector("main > :not(noscript)")
        until(tab, "document.images.length > 0 || document.querySelector('.heat td')")
        tab.wait_for_selector("[aria-busy=true]", state="detached")
        assert tab.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), f"{view} sticks out sideways"
        found = tab.evaluate("axe.run({resultTypes: ['violations']})")["violations"]
        assert [(view, fault["id"], fault["nodes"][0]["html"]) for fault in found] == []
