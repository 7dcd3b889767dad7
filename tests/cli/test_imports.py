"""What each verb loads: who reads cards and stored vectors waits for no network. Each runs in a process of its own."""

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

from conftest import as_json, coloured_images
from evergallery import Workspace
from evergallery.cli.app import VERBS
from loading import HEAVY, loaded


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two generations of small networks, of which v2 answers queries in vectors of v1; and a picture."""
    folder = tmp_path_factory.mktemp("imports")
    images = coloured_images(4, 5)
    for index in range(len(images)):
        path = folder / "photos" / images.classes[images.labels[index]] / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(images.pixels[index]).save(path)
    with Workspace.create(folder / "shop", size=16) as shop:
        shop.register("resnet8", size=16, pretrained=False)
        shop.index(folder / "photos")
        shop.register("resnet8", size=16, pretrained=False, seed=1)
        shop.promote("v2", force=True, why="to go back from")
    return folder / "shop"


def test_what_needs_no_network_loads_nothing_heavy(shop: Path, tmp_path: Path) -> None:
    """One verb after the other in one process: whatever any of them loads stays there, and is told with its name."""
    item = as_json("gallery", "list", "-w", shop, "--limit", 1, "--json")[0]["id"]
    planned = shutil.copytree(shop, tmp_path / "planned")
    known = as_json("plan", "v2", "-w", planned)
    of_cards = [("generations",), ("generations", "v1"), ("status",), ("log",)]
    of_vectors = [
        ("diff", "v1", "v2"), ("doctor",), ("gallery",), ("gallery", "list"), ("gallery", "images-from"),
        ("gallery", "compact"), ("gallery", "duplicates"), ("gallery", "problems"),
        ("search", "--item", item), ("gallery", "show", item), ("gallery", "snapshot", tmp_path / "snapshot"),
        ("rollback",), ("promote", "v2", "--force", "--why", "as before"),
    ]  # fmt: skip
    helped = [*(name for verbs in VERBS.values() for name in verbs), "gallery", "token"]
    mistakes = [
        (2, ("search", "-w", shop)), (3, ("search", "--item", "nobody", "-w", shop)), (3, ("generations", "v9", "-w", shop)),
        (2, ("plan", "v1", "-w", planned)),
    ]  # fmt: skip
    commands: list[tuple[int, Sequence[object]]] = [
        *((0, (*words, "-w", shop)) for words in of_cards),
        (0, ("--version",)), (0, ("--help",)), *((0, (verb, "--help")) for verb in helped),
        *((0, (*words, "-w", shop)) for words in of_vectors),
        (0, ("gallery", "verify", tmp_path / "snapshot")), (0, ("plan", "v2", "-w", planned)), *mistakes,
    ]  # fmt: skip
    found = loaded(*commands)
    for command, modules in zip(commands, found, strict=True):
        assert modules & HEAVY == set(), command
    for (_, words), modules in zip(commands[: len(of_cards)], found, strict=False):
        assert "PIL" not in modules, f"{words} reads no image"
    assert as_json("plan", "v2", "-w", planned) == known


def test_a_vector_searches_without_torch(shop: Path) -> None:
    script = (
        "import sys, numpy, evergallery\n"
        f"with evergallery.Workspace({str(shop)!r}) as shop:\n"
        "    vector = numpy.eye(64, dtype='f4')[0]\n"
        "    assert len(shop.search(vector, k=3)) == 3\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_a_picture_loads_the_network_and_nothing_that_its_network_does_not_need(shop: Path) -> None:
    picture = next((shop.parent / "photos").rglob("*.png"))
    for found in loaded((0, ("search", picture, "-w", shop)), (0, ("index", shop.parent / "photos", "-w", shop))):
        assert found & HEAVY == {"torch"}
