"""Words find pictures where the model has a text tower: from Python, the command line, HTTP and the page."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browsing import Open, served, tabs, tiles
from PIL import Image
from served import client

import models
import words
from conftest import as_json
from copies import copied
from evergallery import Workspace
from evergallery.errors import InputError


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("words")
    draw = np.random.default_rng(0)
    for name, colour in {"red": (230, 30, 30), "green": (30, 230, 30), "blue": (30, 30, 230)}.items():
        for number in range(6):
            near = np.clip(np.array(colour) + draw.integers(-25, 25, 3), 0, 255)
            path = folder / "photos" / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (20, 20), tuple(near.tolist())).save(path)
    with Workspace.create(folder / "shop", size=16) as shop:
        shop.register(words.embed, size=16)
        shop.register(models.turned, size=16)
        shop.index(folder / "photos")
    return folder / "shop"


@pytest.fixture
def shop(made: Path, tmp_path: Path) -> Path:
    return copied(made, tmp_path / "shop")


@pytest.fixture
def show(browser: Any) -> Iterator[Open]:
    with tabs(browser) as opened:
        yield opened


def test_words_find_what_they_name(shop: Path) -> None:
    with Workspace(shop) as space:
        for name in words.COLOURS:
            found = space.search(text=f"a {name} picture", k=6)
            assert {match.item.label for match in found} == {name}
            assert all(match.probability is None and match.present is None for match in found)
        with pytest.raises(InputError, match="nothing is known of 'a dog'"):
            space.search(text="a dog")
        with pytest.raises(InputError, match="exactly one"):
            space.search(text="red", item="x")
        with pytest.raises(InputError, match="no text tower"):
            space.search(text="red", generation="v2")
        with pytest.raises(InputError, match="probab"):
            space.search(text="red", minimum_probability=0.5)
    told = as_json("search", "--text", "blue", "-w", shop, "-k", 3)
    assert "blue" in str(told)
    assert "red" not in str([result["label"] for result in told])


def test_words_search_only_vectors_beside_their_tower(shop: Path) -> None:
    with Workspace(shop) as space:
        space.promote("v2", force=True, why="a test")
        space.refresh("v2", fraction=0.5)
        found = space.search(text="green", generation="v1", k=18)
        assert len(found) == 9, "what v2 has seen is left out"
        assert len({match.item.generation for match in found}) == 1


def test_over_http(shop: Path) -> None:
    with client(shop) as asking:
        answer = asking.post("/api/v1/search", json={"text": "something green", "k": 6}).json()
        assert {result["item"]["label"] for result in answer["results"]} == {"green"}
        assert (answer["generation"], answer["present"]) == ("v1", None)
        assert {result["probability"] for result in answer["results"]} == {None}
        reads = {
            generation["name"]: generation["reads_words"]
            for generation in asking.get("/api/v1/generations").json()["generations"]
        }
        assert reads == {"v1": True, "v2": False}
        assert asking.post("/api/v1/search", json={"text": "red", "generation": "v2"}).status_code == 422
        assert asking.post("/api/v1/search", json={"text": "a dog"}).status_code == 422
        assert asking.post("/api/v1/search", json={"text": "red", "item": "x"}).status_code == 422


def test_on_the_page(shop: Path, show: Open) -> None:
    with served(shop) as address:
        tab = show(address)
        tab.wait_for_selector(".samples img")
        tab.get_by_role("combobox", name="Label, metadata or item id").press_sequentially("the blue one")
        tab.locator(".omnibox .proposals li:has-text('search with words')").click()
        assert len(tiles(tab)) == 18
        first = tab.locator(".answers-of .tile .name").all_inner_texts()[:6]
        assert first == ["blue"] * 6
        assert "text=the+blue+one" in tab.url
        assert "the blue one" in tab.locator(".query").inner_text()
        tab.reload()
        assert len(tiles(tab)) == 18
