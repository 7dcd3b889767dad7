"""Pictures twice as high as wide, from a file to a fingerprint, a search, an exported model, and a protocol."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import as_json, coloured_images, evergallery
from evergallery import Workspace
from evergallery.benchmark.protocol import ProtocolChanges
from evergallery.benchmark.protocols import PROTOCOLS
from evergallery.benchmark.tables import read_runs
from evergallery.data.datasets import glyphs
from evergallery.data.glyphs import generate
from evergallery.data.images import Preprocessing
from evergallery.data.images.sizes import sides
from evergallery.errors import InputError
from evergallery.training import Settings

Quick = Callable[..., Settings]
TALL = (32, 16)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photographs twice as high as wide; the upper half of each is of one colour, whatever its class."""
    folder = tmp_path_factory.mktemp("photos")
    images = coloured_images(classes=8, each=12)
    for index, label in enumerate(images.labels.tolist()):
        square = images.pixels[images.rows[index]]
        path = folder / ("spring" if label < 4 else "summer") / f"class {label}" / f"{index:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.concatenate([np.full_like(square, 90), square])).save(path)
    return folder


def test_from_a_file_to_a_search(photos: Path, tmp_path: Path) -> None:
    shop = tmp_path / "shop"
    quick = (
        "--epochs", 2, "--batch-size", 16, "--precision", "float32", "--padding", 2, "--erase", 0.5, "--start-size", 16,
    )  # fmt: skip
    evergallery("init", shop, "--size", "32x16")
    evergallery("learn", photos / "spring", "-w", shop, *quick)
    evergallery("learn", photos / "summer", "-w", shop, *quick)
    evergallery("index", photos, "-w", shop)
    query = next((photos / "spring" / "class 1").iterdir())
    assert as_json("search", query, "-w", shop, "-k", 1)[0]["uri"] == str(query)
    card = as_json("generations", "v2", "-w", shop)
    assert card["preprocessing"]["size"] == list(TALL)
    with Workspace(shop) as space:
        assert space.generation("v2").preprocessing.shape == TALL
        images = space.read(photos / "spring")
        assert images.pixels.shape[1:] == (*TALL, 3)
        lower = images.pixels[images.rows][:, 16:]
        assert (images.pixels[images.rows][:, :14] == 90).all(), "nothing was cut off or bent"
        assert lower.std() > 5
    assert "32x16 pixels" in evergallery("register", "resnet8", "--no-pretrained", "--size", "32x16", "-w", shop).stdout
    assert as_json("doctor", "-w", shop)["problems"] == []
    message = evergallery("init", tmp_path / "other", "--size", "32y16", expect=2).stderr
    assert "write 224 for a square, or 256x128" in message


def test_a_rectangle_is_another_space_than_its_square(tmp_path: Path) -> None:
    with Workspace.create(tmp_path / "shop") as space:
        prints = {
            space.register("resnet8", pretrained=False, size=size).fingerprint for size in (TALL, (16, 32), 32, 16)
        }
    assert len(prints) == 4


def test_an_exported_model_takes_rectangles(tmp_path: Path) -> None:
    for name in ("onnx", "onnxruntime", "onnxscript"):
        pytest.importorskip(name)
    with Workspace.create(tmp_path / "shop") as space:
        first = space.register("resnet8", pretrained=False, size=TALL)
        done = space.export_model(tmp_path / "model.onnx")
        assert done.cosine >= 0.9999
        again = space.register(tmp_path / "model.onnx")
        assert again.preprocessing == first.preprocessing
        with pytest.raises(InputError, match=r"\(B, 3, 16, 16\); name its size with --size"):
            space.register(tmp_path / "model.onnx", size=16)


def test_progressive_resizing_keeps_the_shape() -> None:
    settings = Settings(epochs=10, start_size=32)
    sizes = [settings.size(epoch, (64, 32)) for epoch in range(10)]
    assert sizes[0] == (32, 16)
    assert sizes[-1] == (64, 32)
    assert all(abs(height - 2 * width) <= 4 for height, width in map(sides, sizes)), "but for multiples of 4"


def test_dual_tuning_sees_pedestrians_as_its_authors_do(photos: Path, tmp_path: Path) -> None:
    paper = PROTOCOLS["dual-tuning"].changed("paper", ProtocolChanges())
    found = paper.preprocessing(paper.plan("paper", 0))
    assert (found.size, found.fit) == ((256, 128), "stretch")
    square = PROTOCOLS["dual-tuning"].changed("paper", ProtocolChanges(size=64, fit="crop"))
    assert square.preprocessing(square.plan("paper", 0)).size == 64
    evergallery(
        "benchmark", "mutual-one-task", "--budget", "quick", "--methods", "initial", "--seeds", 1, "--epochs", 1,
        "--data", photos / "spring", "--size", "32x16", "--fit", "stretch", "--backbone", "resnet8", "--out", tmp_path,
    )  # fmt: skip
    (directory,) = tmp_path.glob("mutual-one-task-quick@*")
    assert "size=32x16" in directory.name
    (run,) = read_runs(directory)
    assert run["settings"]["size"] == list(TALL)
    assert run["options"]["size"] == "32x16"
    assert "--size 32x16" in (directory / "table.md").read_text()


def test_drawn_characters_come_in_any_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evergallery.data.glyphs.generate", partial(generate, classes=3))
    assert Preprocessing(size=TALL).shape == TALL
    drawn = glyphs(None, Preprocessing(size=TALL, fit="stretch"))
    assert drawn.pixels.shape == (3 * 42, *TALL, 3)
