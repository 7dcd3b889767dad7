"""The classes that are learned: chosen by the names of files, before any of them is opened."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from evergallery import Workspace
from evergallery.data import places, sources
from evergallery.data.images import Preprocessing
from evergallery.data.sources import load
from evergallery.data.tasks import ClassChoice, ClassGroup
from evergallery.errors import InputError
from evergallery.methods import Joint

SMALL = Preprocessing(size=8)
NAMES = ("2", "10", "b1", "b2", "c")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Five classes of four, whose natural order is not that of their letters."""
    for row, name in enumerate(NAMES):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for column in range(4):
            Image.new("RGB", (9, 9), (50 * row, 60 * column, 90)).save(tmp_path / f"photos/{name}/{column}.png")
    return tmp_path / "photos"


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The addresses of the files that are opened."""
    seen: list[str] = []
    read = places.read

    def watched(uri: str) -> bytes:
        seen.append(uri)
        return read(uri)

    monkeypatch.setattr(sources, "read", watched)
    return seen


@pytest.mark.parametrize(
    ("choice", "classes"),
    [
        (ClassGroup(1, 2), ("2", "10", "b1")),
        (ClassGroup(2, 2), ("b2", "c")),
        (("c", "2"), ("c", "2")),
        (None, NAMES),
    ],
)
def test_only_chosen_classes_are_opened(
    photos: Path, opened: list[str], choice: ClassChoice | None, classes: tuple[str, ...]
) -> None:
    images = load(photos, SMALL, choice=choice)
    assert images.classes == classes
    assert {Path(uri).parent.name for uri in opened} == set(classes)
    assert sorted(images.classes[label] for label in images.labels) == sorted(name for name in classes for _ in "1234")


def test_groups_share_out_all_classes(photos: Path) -> None:
    parts = [load(photos, SMALL, choice=ClassGroup(number, 3, seed=5)).classes for number in (1, 2, 3)]
    assert sorted(name for part in parts for name in part) == sorted(NAMES)
    assert parts != [load(photos, SMALL, choice=ClassGroup(number, 3)).classes for number in (1, 2, 3)]


def test_arrays_are_chosen_from_in_the_same_way(tmp_path: Path) -> None:
    labels = np.repeat(np.array(NAMES), 2)
    split = np.where(labels == "c", "test", "train")
    np.savez(tmp_path / "some.npz", images=np.zeros((10, 8, 8, 3), np.uint8), labels=labels, split=split)
    found = load(tmp_path / "some.npz", SMALL, choice=ClassGroup(2, 2))
    assert len(found.classes) == 2
    assert "c" not in load(tmp_path / "some.npz", SMALL, choice=ClassGroup(1, 1)).classes, "nothing is learned of it"


def test_classes_without_training_images_are_in_no_group(tmp_path: Path) -> None:
    for place in ("train/x", "train/y", "test/x", "test/z"):
        (tmp_path / place).mkdir(parents=True)
        Image.new("RGB", (9, 9)).save(tmp_path / place / "1.png")
    assert load(tmp_path, SMALL, choice=ClassGroup(1, 1)).classes == ("x", "y")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": ClassGroup(3, 40)}, r"5 classes cannot be split into 40 tasks"),
        ({"classes": ["2", "no"]}, r"There is no class 'no': the images have 2, 10, b1, b2, c\."),
        ({"classes": ["c", "c"]}, r"A class is named twice among c, c"),
        ({"classes": "abc"}, r"classes = 'abc' is not usable: it has to be a list of strings"),
        ({"method": Joint(), "old_data": "nowhere"}, r"There is no nowhere"),
    ],
)
def test_what_names_tell_is_refused_before_an_image_is_opened(
    photos: Path, opened: list[str], options: dict[str, Any], message: str
) -> None:
    with Workspace.create(photos.parent / "shop", backbone="resnet8", size=8) as shop:
        with pytest.raises(InputError, match=message):
            shop.learn(photos, **options)
        assert opened == []
        assert not list((shop.directory / "cache").iterdir())


@pytest.mark.parametrize("wanted", [(0, 2, None), (3, 2, None), (1, 2, -1), (1, 2, 2**63)])
def test_a_group_that_cannot_be(wanted: tuple[int, int, int | None]) -> None:
    with pytest.raises(InputError, match=r"There is no group|A seed of"):
        ClassGroup(*wanted)


def test_old_images_are_learned_though_the_parent_knows_no_class(photos: Path) -> None:
    old = photos.parent / "old"
    old.mkdir()
    for name in ("2", "10"):
        (photos / name).rename(old / name)
    with Workspace.create(photos.parent / "shop", backbone="resnet8", size=8) as shop:
        shop.register("resnet8", pretrained=False, size=8)
        found = shop.learn(photos, method=Joint(), old_data=old, settings={"epochs": 1, "device": "cpu"})
        assert set(found.card.classes) == set(NAMES)
