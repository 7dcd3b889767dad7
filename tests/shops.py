"""A workspace of models that take no training, and photographs on disk."""

import atexit
import functools
import io
import os
import shutil
import sys
import tempfile
from pathlib import Path

from PIL import Image

import models
from conftest import coloured_images
from evergallery import Workspace
from evergallery.data.image_set import ImageSet
from evergallery.files.cards import write_card
from evergallery.generations.card import CARD

MODELS = (models.worn, models.better, models.turned, models.wide)
HERE = Path(__file__).parent


def held_out() -> ImageSet:
    return coloured_images(classes=10, each=30, seed=7)


@functools.cache
def drawn(each: int, seed: int) -> list[tuple[str, bytes]]:
    """Photographs of ten classes as files, each with its name."""
    images = coloured_images(classes=10, each=each, seed=seed)
    found = []
    for index, (row, label) in enumerate(zip(images.rows, images.labels, strict=True)):
        file = io.BytesIO()
        Image.fromarray(images.pixels[row]).save(file, "png")
        found.append((f"{images.classes[label]}/{index:03d}.png", file.getvalue()))
    return found


def make_photos(folder: Path, each: int = 20, seed: int = 2) -> Path:
    for name, content in drawn(each, seed):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


@functools.cache
def registered() -> Path:
    """A workspace of the models that no test changes; gone with this process."""
    directory = Path(tempfile.mkdtemp(prefix="evergallery-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    with Workspace.create(directory / "shop", size=16) as shop:
        (shop.directory / "gate.toml").write_text("cross_test = -10.0\nnegative_flips = 20.0\nqueries = 200\n")
        for model in MODELS:
            shop.register(model, size=16)
    return shop.directory


def make_shop(folder: Path) -> Workspace:
    """v1 sees worn, v2 better in the same coordinates, v3 better in others, v4 in more of them; v1's vectors are stored."""
    shop = Workspace(shutil.copytree(registered(), folder / "shop"))
    shop.index(make_photos(folder / "photos"))
    return shop


def learn_again(shop: Workspace, name: str) -> str:
    """Another generation that is the same network, as of a second training on the same images; returns its name."""
    again = f"v{len(shop.generations()) + 1}"
    there = shutil.copytree(shop.generation(name).directory, shop.directory / "generations" / f"v{int(again[1:]):04}")
    write_card(there / CARD, shop.generation(name).card.model_copy(update={"name": again}))
    return again


def vectors(shop: Workspace) -> dict[str, tuple[str, bytes]]:
    """Every visible item's space and vector, to the bit."""
    return {item.id: (item.generation, item.embedding.tobytes()) for batch in shop.gallery.iterate() for item in batch}


def spaces(shop: Workspace) -> dict[str, int]:
    """How many visible items each space has."""
    return {space.name: space.items for space in shop.status().spaces or ()}


def environment() -> dict[str, str]:
    """For a process that must find the models."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), *sys.path])}
