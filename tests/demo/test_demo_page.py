"""The demo on a small folder, and its page in a real browser."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from conftest import coloured_images
from evergallery import Workspace
from evergallery.demo import story
from evergallery.demo.result import DemoResult
from evergallery.demo.story import run_demo
from evergallery.errors import InputError
from evergallery.watching import Watcher


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> DemoResult:
    folder = tmp_path_factory.mktemp("demo")
    images = coloured_images(classes=8, each=16)
    for index, label in enumerate(images.labels):
        path = folder / "photos" / images.classes[label] / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(images.pixels[index]).save(path)
    (folder / "photos" / "class 1" / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 cut short")
    settings = story._settings
    with pytest.MonkeyPatch.context() as patch:
        # What the story says is the point, and not how much is learned.
        patch.setattr(
            story, "_settings", lambda *asked: tuple(one.model_copy(update={"epochs": 2}) for one in settings(*asked))
        )
        return run_demo(folder / "work", str(folder / "photos"), watcher=Watcher())


def test_measures_what_it_says(demo: DemoResult) -> None:
    titles = [contender.title for contender in demo.contenders]
    assert titles == ["v1 untouched", "v2 fine-tuned", "v3 CSD", "v4 evergreen", "v5 joint"]
    first, second, third, fourth, joint = demo.contenders
    assert first.self_test["all"].recall == first.cross_test["all"].recall, "v1 searches its own vectors either way"
    assert joint.images > second.images == third.images == fourth.images
    assert all(set(contender.self_test) == {"old", "new", "all"} for contender in demo.contenders)
    assert len(demo.skipped) == 1
    with Workspace(demo.page.parent) as space:
        stored = {item.generation for batch in space.gallery.iterate() for item in batch}
        assert stored == {first.generation.fingerprint}, "the gallery holds vectors of v1 alone"
        assert [generation.name for generation in space.generations()] == ["v1", "v2", "v3", "v4", "v5"]
    written = json.loads((demo.page.parent / "demo.json").read_text())
    assert written["generations"][2]["cross"]["all"]["recall@1"] == third.cross_test["all"].recall[1]


def test_page_is_self_contained_and_shows_the_figures(demo: DemoResult) -> None:
    page = demo.page.read_text()
    assert not re.findall(r'(?:src|href)="(?!data:)', page), "nothing is fetched"
    assert "http://" not in page.replace("http://www.w3.org", "")
    for row in demo.rows:
        assert all(f">{cell}</td>" in page or f">{cell}</th>" in page for cell in row)
    for sentence in demo.findings:
        assert sentence.split(":")[0] in page


def test_own_work_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years")
    with pytest.raises(InputError, match="exists and was not made by a demo"):
        run_demo(tmp_path, "glyphs", watcher=Watcher())


def test_too_few_classes_are_refused_before_an_image_is_decoded(tmp_path: Path) -> None:
    for label in ("cat", "dog"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for index in range(5):
            (tmp_path / "photos" / label / f"{index}.png").write_bytes(b"no picture")
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / story.MARKER).write_text("{}")
    with pytest.raises(InputError, match="Only 2 classes have 4 images or more"):
        run_demo(tmp_path / "work", str(tmp_path / "photos"), watcher=Watcher())
    assert (tmp_path / "work" / story.MARKER).is_file(), "the earlier demo is still there"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_in_a_browser(demo: DemoResult, browser: Any, scheme: str, width: int) -> None:
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    messages: list[str] = []
    page.on("console", lambda message: messages.append(message.text))
    page.on("pageerror", lambda error: messages.append(str(error)))
    page.on("requestfailed", lambda request: messages.append(request.url[:80]))
    page.goto(demo.page.absolute().as_uri())
    assert page.title() == "Evergallery: new categories, old vectors"
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), "nothing sticks out sideways"
    broken = page.evaluate("[...document.images].filter(image => !image.complete || !image.naturalWidth).length")
    assert broken == 0
    assert page.evaluate("[...document.images].every(image => image.alt)")
    assert page.locator(".query").count() > 0
    assert messages == []
    page.close()
