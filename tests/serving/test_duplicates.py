"""Near duplicates: which stored items show nearly the same, from Python, by a verb, over HTTP and on the page."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browsing import Open, served, tabs
from served import client, finished

import models
from conftest import as_json, evergallery
from copies import copied
from evergallery import Workspace
from evergallery.errors import InputError
from evergallery.gallery.items import Item
from evergallery.holdings.state import now
from shops import make_photos


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("twins")
    photos = make_photos(folder / "photos", each=3)
    with Workspace.create(folder / "shop", size=16) as shop:
        shop.register(models.worn, size=16)
        shop.index(photos)
    return folder / "shop"


@pytest.fixture
def show(browser: Any) -> Iterator[Open]:
    with tabs(browser) as opened:
        yield opened


def test_groups_are_what_comparing_everything_finds(made: Path, tmp_path: Path) -> None:
    draw = np.random.default_rng(1)
    rows = draw.normal(size=(60, 8))
    rows[10:14] = rows[9] + 0.01 * draw.normal(size=(4, 8))
    rows[21] = rows[20]
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    with Workspace(copied(made, tmp_path / "shop")) as shop:
        shop.gallery.delete([item.id for page in shop.gallery.iterate() for item in page])
        fingerprint = shop.promoted.fingerprint
        shop.gallery.put(
            [
                Item(str(number), row.astype(np.float32), fingerprint, None, None, None, now())
                for number, row in enumerate(rows)
            ]
        )
        found = shop.near_duplicates(at_least=0.99)
        assert [set(group.items) for group in found.groups] == [{"9", "10", "11", "12", "13"}, {"20", "21"}]
        assert all(group.least >= 0.99 for group in found.groups)
        assert (found.looked, found.left) == (60, 0)
        assert shop.near_duplicates(at_least=0.99, most=20).left == 40
        for wrong in (0, 1.5, -1):
            with pytest.raises(InputError, match="cosine"):
                shop.near_duplicates(at_least=wrong)


def test_by_a_verb_as_a_table_as_csv_and_as_json(made: Path, tmp_path: Path) -> None:
    shop = copied(made, tmp_path / "shop")
    with Workspace(shop) as space:
        one = next(iter(space.gallery.iterate()))[0]
        space.gallery.put([Item("=twin", one.embedding, one.generation, "a, b", None, None, now())])
    verb = ("gallery", "duplicates", "-w", shop, "--at-least", "0.99999")
    told = as_json(*verb)
    together = {item["id"] for item in told["items"]}
    assert {one.id, "=twin"} <= together
    assert (told["groups"], told["looked"], told["left"]) == (1, 31, 0)
    rows = list(csv.DictReader(evergallery(*verb, "--csv").stdout.splitlines()))
    assert {row["id"] for row in rows} == together
    assert next(row for row in rows if row["id"] == "=twin")["label"] == "a, b"
    table = evergallery(*verb).stdout
    assert "1 group among 31 items" in table
    assert "=twin" in table
    assert "evergallery gallery delete ID" in table
    assert "24 items were not looked at" in evergallery(*verb, "--most", 7).stderr
    assert "give one of them" in evergallery(*verb, "--csv", "--json", expect=2).stderr
    assert "above 0" in evergallery(*verb[:-1], "7", expect=2).stderr


def test_over_http_for_those_who_may_write(made: Path, tmp_path: Path) -> None:
    shop = copied(made, tmp_path / "shop")
    with client(shop) as reader:
        assert reader.post("/api/v1/duplicates", json={}).status_code == 403
    with client(shop, anonymous="admin") as asking:
        assert asking.post("/api/v1/duplicates", json={"at_least": 0.97}).status_code == 202
        done = finished(asking)
        assert (done["kind"], done["state"], done["result"]["looked"]) == ("duplicates", "done", 30)


def test_on_the_page_all_but_one_are_deleted(made: Path, tmp_path: Path, show: Open) -> None:
    shop = copied(made, tmp_path / "shop")
    with Workspace(shop) as space:
        stored = next(iter(space.gallery.iterate()))[0]
        space.gallery.put(
            [Item("twin", stored.embedding, stored.generation, "twin", stored.uri, stored.content_hash, now())]
        )
    with served(shop) as address:
        tab = show(f"{address}/#/gallery")
        tab.get_by_text("Near duplicates", exact=True).click()
        tab.get_by_label("Cosine at least").fill("0.9999")
        tab.get_by_role("button", name="Look for near duplicates").click()
        tab.wait_for_selector(".group .tile")
        assert tab.locator(".group").count() == 1
        kept = tab.locator(".group .tile").first.get_attribute("data-item")
        tab.get_by_role("button", name="Keep the first").click()
        tab.get_by_role("dialog").get_by_role("button", name="Delete").click()
        tab.wait_for_selector(".group", state="detached")
    with Workspace(shop) as space:
        left = {item.id for page in space.gallery.iterate() for item in page}
        assert len(left) == 30
        assert kept in left
