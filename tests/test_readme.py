"""The README's way, block by block, as somebody walks it who has a folder of photographs."""

import re
import runpy
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from conftest import evergallery, evergallery_any
from evergallery.network.published import packaged

README = Path(__file__).parents[1] / "README.md"
CLASSES = ("tulip", "daisy", "fern", "moss", "oak", "ivy", "lily", "rose")

pytestmark = pytest.mark.skipif(
    not packaged("tf_efficientnet_lite0") or not packaged("tf_efficientnet_lite1"),
    reason="the extra `pretrained` is not installed",
)


def photograph(draw: np.random.Generator, kind: int) -> Image.Image:
    """A picture with a ground, light from one side, and a thing on it that has a shape and a colour of its class."""
    ground = draw.integers(60, 200, 3)
    light = (
        np.linspace(0.6, 1.2, 96)[None, :, None] if draw.random() < 0.5 else np.linspace(1.2, 0.6, 96)[:, None, None]
    )
    pixels = np.clip(ground * light * np.ones((96, 96, 1)) + draw.normal(0, 8, (96, 96, 3)), 0, 255).astype(np.uint8)
    image = Image.fromarray(pixels)
    brush = ImageDraw.Draw(image)
    colour = tuple(
        int(channel) for channel in np.random.default_rng(kind).integers(20, 236, 3) + draw.integers(-12, 13, 3)
    )
    x, y = draw.integers(30, 66, 2)
    size, turn = int(draw.integers(18, 26)), float(draw.uniform(0, 60))
    if kind % 2:
        brush.ellipse((x - size, y - size / (1 + kind // 2 % 3), x + size, y + size / (1 + kind // 2 % 3)), fill=colour)
    else:
        brush.regular_polygon((float(x), float(y), float(size)), 3 + kind // 2, rotation=turn, fill=colour)
    return image


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with photos: a catalogue of all classes, new classes in spring and in summer, held-out ones of all."""
    folder = tmp_path_factory.mktemp("readme")
    parts = {
        "catalogue": (range(8), 5), "spring": (range(4), 8), "summer": (range(4, 8), 8), "held-out": (range(8), 6),
    }  # fmt: skip
    for seed, (part, (kinds, each)) in enumerate(parts.items()):
        draw = np.random.default_rng(seed)
        for kind in kinds:
            (folder / "photos" / part / CLASSES[kind]).mkdir(parents=True)
            for number in range(each):
                photograph(draw, kind).save(folder / "photos" / part / CLASSES[kind] / f"{number}.jpg", quality=90)
    photograph(np.random.default_rng(99), 3).save(folder / "photos" / "query.jpg")
    return folder


def blocks(language: str) -> dict[str, str]:
    """Code blocks by the last heading above them, the blocks of one heading together."""
    found: dict[str, str] = {}
    heading = ""
    for match in re.finditer(r"^#+ ([^\n]*)$|^```(\w+)\n(.*?)^```", README.read_text(), re.MULTILINE | re.DOTALL):
        if match[1]:
            heading = match[1]
        elif match[2] == language:
            found[heading] = found.get(heading, "") + match[3]
    return found


def walk(block: str) -> list[str]:
    """Run the lines of a block; returns what each command wrote. The gate may be closed where a line only asks."""
    written = []
    for line in block.splitlines():
        # Smaller pictures are looked at in a quarter of the time.
        words = shlex.split(line.replace("--size 128", "--size 64"), comments=True)
        if not words or words[0] != "evergallery" or words[1] in ("serve", "demo"):
            continue
        if words[1:] == ["refresh", "--commit"]:
            words.append("--yes")
        if words[1] == "adapt":
            # To choose among all kinds takes most of the time for vectors as wide as these.
            words += ["--kind", "procrustes"]
        run = evergallery_any if words[1] == "check" else lambda *one: evergallery(*one).stdout
        written.append(run(*words[1:]))
    return written


GATES = {
    # What the verdicts of so few drawn pictures are is not the point: each branch is walked with the gate that opens it.
    "compatible": "self_test = false\ncross_test = -100.0\nnegative_flips = 100.0\nqueries = 1\n",
    "needs refresh": "self_test = false\ncross_test = 100.0\nqueries = 1\n",
}


def at_new_categories(home: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A workspace of its own, in which the first two sections were walked; returns all blocks."""
    found = blocks("sh")
    place = home / name
    place.mkdir()
    monkeypatch.chdir(place)
    Path("photos").symlink_to(home / "photos")
    first = found["In one minute"].replace("../photos", "photos")
    assert "git clone" in first
    assert "-m venv" in first
    begin, _, rest = first.partition("cd shop\n")
    walk(begin)
    walk(
        "\n".join(
            f"{line} -w shop"
            for line in rest.splitlines()
            if line.startswith("evergallery ")
            for line in [line.split("#")[0]]
        )
    )
    monkeypatch.chdir("shop")
    Path("gate.toml").write_text(GATES[name])
    walk(found["When new categories arrive"])
    return found


def test_compatible_then_another_model_then_python(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A fifth of the pairs is enough to judge a map by: to fit one to vectors as wide as these takes a second.
    monkeypatch.setattr("evergallery.adapters.selection.ENOUGH_JUDGED", 1)
    found = at_new_categories(home, "compatible", monkeypatch)
    promoted, searched, back, again = walk(found["Compatible: promote it"])
    assert "v2 answers queries now" in promoted
    assert "vector of" in searched
    assert "v1" in searched
    assert back == "v1 answers queries again.\n"
    assert "v2 answers queries now" in again
    told = walk(found["Another model: adapt it"])
    assert "v3 answers queries now" in told[-1]
    monkeypatch.chdir("..")
    Path("snippet.py").write_text(blocks("python")["From Python"])
    runpy.run_path("snippet.py")


def test_needs_refresh(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = at_new_categories(home, "needs refresh", monkeypatch)
    refused = evergallery("promote", "v2", expect=1).stderr
    assert "cross-test" in refused
    assert "evergallery refresh v2" in refused
    planned, refreshed, promoted, committed = walk(found["Needs refresh: plan, refresh, promote"])
    assert "no image is read" in planned
    assert "0 keep their vector" in refreshed
    assert "v2 answers queries now" in promoted
    assert "40 earlier vectors deleted" in committed


def test_every_line_of_the_way_was_walked() -> None:
    assert {"In one minute", "When new categories arrive", "Compatible: promote it", "Needs refresh: plan, refresh, promote",
            "Another model: adapt it"} < set(blocks("sh"))  # fmt: skip


def test_the_pages_that_it_names_are_there_and_their_headings_too() -> None:
    for page in (README, *sorted((README.parent / "docs").rglob("*.md"))):
        for target in re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)", page.read_text()):
            path = (page.parent / target[0]).resolve() if target[0] else page
            assert path.exists(), f"{page.name}: {target[0]}"
            if target[1] and path.suffix == ".md":
                headings = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
                anchors = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
                assert target[1] in anchors, f"{page.name}: {target[0]}#{target[1]}"


def test_every_page_begins_with_what_its_reader_can_do() -> None:
    root = README.parent
    for page in (
        *sorted((root / "docs").glob("*.md")),
        *(root / name for name in ("CONTRIBUTING.md", "SECURITY.md", "docs/methods/README.md")),
    ):
        assert page.read_text().split("\n\n")[1].startswith("With this page "), page.name


def test_lines_are_short() -> None:
    """But for tables; the page of results is written from files."""
    root = README.parent
    pages = (*sorted(root.glob("*.md")), *sorted((root / "docs").rglob("*.md")), root / "benchmarks" / "README.md")
    for page in pages:
        long = [line for line in page.read_text().splitlines() if len(line) > 130 and not line.startswith("|")]
        assert not long or page.name == "results.md", f"{page.name}: {long[0]}"


def test_the_site_has_every_page_and_picture_that_its_pages_link_to(tmp_path: Path) -> None:
    site = runpy.run_path(str(README.parent / "docs" / "site.py"))
    site["main"](tmp_path)
    for page in tmp_path.rglob("*.md"):
        for target in re.findall(r"\]\((?!https?:|#)([^)#\s]+)[^)]*\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.relative_to(tmp_path)}: {target}"
