"""A model of two towers, registered by its import path, finds pictures by words that it was never given together."""

from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browsing import Open, served, tabs, tiles
from PIL import Image
from served import client

import two_towers
from conftest import as_json, evergallery
from evergallery import Workspace

EACH = 6


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Registered and indexed on the command line."""
    folder = tmp_path_factory.mktemp("towers")
    draw = np.random.default_rng(1)
    for colour, shape in product(two_towers.COLOURS, two_towers.SHAPES):
        for number in range(EACH):
            path = folder / "photos" / f"{colour} {shape}" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(two_towers.picture(colour, shape, draw)).save(path)
    place = ("-w", folder / "shop")
    evergallery("init", folder / "shop", "--size", 16)
    told = evergallery("register", "two_towers:embed", "--size", 16, *place)
    assert "words" in told.stdout
    evergallery("index", folder / "photos", *place)
    return folder / "shop"


@pytest.fixture
def show(browser: Any) -> Iterator[Open]:
    with tabs(browser) as opened:
        yield opened


@pytest.mark.parametrize(
    "label", [f"{colour} {shape}" for colour, shape in product(two_towers.COLOURS, two_towers.SHAPES)]
)
def test_words_find_the_pictures_that_they_describe(shop: Path, label: str) -> None:
    colour, shape = label.split()
    with Workspace(shop) as space:
        found = space.search(text=f"a {shape} that is {colour}", k=EACH)
        assert sum(one.item.label == label for one in found) >= EACH - 1
        of_colour = space.search(text=f"something {colour}", k=EACH)
        assert sum(str(one.item.label).startswith(colour) for one in of_colour) >= EACH - 1


def test_on_the_command_line_over_http_and_on_the_page(shop: Path, show: Open) -> None:
    told = as_json("search", "--text", "a red cross", "-k", EACH, "-w", shop)
    assert sum(one["label"] == "red cross" for one in told) >= EACH - 1
    assert "it knows red, green" in evergallery("search", "--text", "a dog", "-w", shop, expect=2).stderr
    with client(shop) as asking:
        answer = asking.post("/api/v1/search", json={"text": "a red cross", "k": EACH}).json()
        assert [one["item"]["id"] for one in answer["results"]] == [one["id"] for one in told]
    with served(shop) as address:
        tab = show(address)
        tab.get_by_role("combobox", name="Label, metadata or item id").press_sequentially("a red cross")
        tab.locator(".omnibox .proposals li:has-text('search with words')").click()
        assert tiles(tab)[:EACH] == [one["id"] for one in told]
