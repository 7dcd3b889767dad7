"""What each verb loads: who reads cards and stored vectors waits for no network. Each runs in a process of its own."""

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

from conftest import as_json, coloured_images, evergallery
from evergallery import Workspace
from evergallery.cli.app import VERBS

HEAVY = {
    "torch",
    "torchvision",
    "timm",
    "lightning",
    "matplotlib",
    "scipy",
    "sklearn",
    "onnx",
    "onnxruntime",
    "openvino",
}
SCRIPT = """\
import json, sys
from evergallery.cli import main
for status, words in json.loads(sys.argv[1]):
    sys.argv = ["evergallery", *words]
    try:
        main()
        ended = 0
    except SystemExit as end:
        ended = end.code or 0
    assert ended == status, (words, ended)
    print(json.dumps(sorted(name for name in sys.modules if "." not in name)), file=sys.stderr)
"""
"""Runs commands one after another in one process, and says after each what is loaded by then."""


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


def loaded(*commands: Sequence[object], expect: int = 0) -> list[set[str]]:
    """Top-level modules that a process has after each of the commands, which all end with the same status."""
    words = [[expect, [*map(str, command)]] for command in commands]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(words)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = [set(json.loads(line)) for line in done.stderr.splitlines() if line.startswith("[")]
    assert len(found) == len(commands), done.stderr
    return found


def load_nothing_heavy(*commands: Sequence[object], expect: int = 0) -> None:
    """Run commands one after another in a process, none of which may load what is heavy."""
    for command, modules in zip(commands, loaded(*commands, expect=expect), strict=True):
        assert modules & HEAVY == set(), command


def test_what_reads_cards_and_vectors_loads_nothing_heavy(shop: Path) -> None:
    verbs = [
        ("generations",), ("generations", "v1"), ("status",), ("log",), ("diff", "v1", "v2"), ("doctor",),
        ("gallery",), ("gallery", "list"), ("gallery", "images-from"), ("gallery", "compact"),
        ("gallery", "duplicates"), ("gallery", "problems"),
    ]  # fmt: skip
    load_nothing_heavy(("--version",), ("--help",), ("search", "--help"), *((*verb, "-w", shop) for verb in verbs))


def test_what_reads_no_image_loads_nothing_that_reads_images(shop: Path) -> None:
    verbs = ("generations", "status", "log")
    for verb, modules in zip(verbs, loaded(*((verb, "-w", shop) for verb in verbs)), strict=True):
        assert "PIL" not in modules, verb


def test_the_help_of_every_verb_loads_nothing_heavy() -> None:
    verbs = [*(name for verbs in VERBS.values() for name in verbs), "gallery", "token"]
    load_nothing_heavy(*((verb, "--help") for verb in verbs))


def test_a_search_by_a_stored_item_loads_nothing_heavy(shop: Path) -> None:
    item = as_json("gallery", "list", "-w", shop, "--limit", 1, "--json")[0]["id"]
    load_nothing_heavy(("search", "--item", item, "-w", shop), ("gallery", "show", item, "-w", shop))


def test_going_back_and_forth_loads_nothing_heavy(shop: Path) -> None:
    load_nothing_heavy(("rollback", "-w", shop), ("promote", "v2", "--force", "--why", "as before", "-w", shop))


def test_snapshots_load_nothing_heavy(shop: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    load_nothing_heavy(("gallery", "snapshot", copy, "-w", shop), ("gallery", "verify", copy))


def test_a_vector_searches_without_torch(shop: Path) -> None:
    script = (
        "import sys, numpy, evergallery\n"
        f"with evergallery.Workspace({str(shop)!r}) as shop:\n"
        "    vector = numpy.eye(64, dtype='f4')[0]\n"
        "    assert len(shop.search(vector, k=3)) == 3\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_a_mistake_is_told_before_anything_heavy_is_loaded(shop: Path) -> None:
    load_nothing_heavy(("search", "-w", shop), expect=2)
    load_nothing_heavy(("search", "--item", "nobody", "-w", shop), ("generations", "v9", "-w", shop), expect=3)


def test_a_plan_of_what_is_known_loads_nothing_heavy(shop: Path, tmp_path: Path) -> None:
    copy = tmp_path / "shop"
    shutil.copytree(shop, copy)
    known = as_json("plan", "v2", "-w", copy)
    load_nothing_heavy(("plan", "v2", "-w", copy))
    assert as_json("plan", "v2", "-w", copy) == known
    load_nothing_heavy(("plan", "v1", "-w", copy), expect=2)


def test_a_picture_loads_the_network_and_nothing_that_its_network_does_not_need(shop: Path) -> None:
    picture = next((shop.parent / "photos").rglob("*.png"))
    for found in loaded(("search", picture, "-w", shop), ("index", shop.parent / "photos", "-w", shop)):
        assert found & HEAVY == {"torch"}


def test_a_picture_searches_without_torch_where_a_runtime_was_found(shop: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    copy = tmp_path / "shop"
    shutil.copytree(shop, copy)
    picture = next((shop.parent / "photos").rglob("*.png"))
    search = ("search", picture, "-w", copy, "--runtime", "onnxruntime")
    # The first one writes the network to a file and tries it, which is done here, where torch is loaded.
    evergallery(*search)
    (found,) = loaded(search)
    assert found & HEAVY == {"onnxruntime"}
