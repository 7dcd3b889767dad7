"""Image files that changed or are gone after they were indexed: ``status`` and ``doctor`` say so."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from conftest import as_json, evergallery
from evergallery import Workspace
from evergallery.data.image_set import ImageSet
from evergallery.errors import InputError


def model(images: NDArray[np.float32]) -> NDArray[np.float32]:
    made: NDArray[np.float32] = images.mean(axis=(2, 3)) + np.float32(2)
    return made


def paint(path: Path, colour: tuple[int, int, int]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (16, 16), colour).save(path)


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    for number in range(6):
        paint(tmp_path / "photos" / "cats" / f"{number}.png", (40 * number, 9, 200))
    with Workspace.create(tmp_path / "shop", size=16) as space:
        space.register(model, size=16)
        space.index(tmp_path / "photos")
    return tmp_path / "shop"


def test_all_is_well_while_nothing_changes(shop: Path) -> None:
    assert as_json("status", "-w", shop)["files"] == {"looked_at": 6, "gone": 0, "changed": 0, "outdated": []}
    assert "All is well" in evergallery("doctor", "-w", shop).stdout


def test_what_is_gone_or_another_picture_is_told(shop: Path, tmp_path: Path) -> None:
    cats = tmp_path / "photos" / "cats"
    (cats / "1.png").unlink()
    paint(cats / "2.png", (1, 2, 3))
    os.utime(cats / "3.png")
    files = as_json("status", "-w", shop)["files"]
    assert (files["looked_at"], files["gone"], files["changed"]) == (6, 1, 1)
    assert sorted(files["outdated"]) == [str(cats / "1.png"), str(cats / "2.png")]
    assert "1 are gone and 1 are other pictures by now" in evergallery("status", "-w", shop).stdout
    assert "1 are gone and 1 are other pictures by now" in evergallery("doctor", "-w", shop, expect=6).stdout
    evergallery("index", tmp_path / "photos", "--sync", "--prune", "-w", shop)
    assert as_json("doctor", "-w", shop)["problems"] == []


def test_another_picture_with_an_older_time_is_found_by_the_doctor(shop: Path, tmp_path: Path) -> None:
    path = tmp_path / "photos" / "cats" / "4.png"
    paint(path, (1, 2, 3))
    os.utime(path, (1, 1))
    with Workspace(shop) as space:
        assert space.image_files().changed == 0, "only what was written since is read"
        (problem,) = space.doctor()
    assert "0 are gone and 1 are other pictures" in problem
    assert str(path) in problem


def test_what_lies_outside_of_the_roots_is_not_looked_for(shop: Path, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "photos")
    with Workspace(shop) as space:
        assert space.image_files(most=4).looked_at == 4
        assert space.image_files().gone == 6
        space.forbid_images(*space.holdings.state.image_roots)
        assert space.image_files().looked_at == 0


def test_pictures_in_a_file_of_arrays_are_there_as_long_as_it_is(shop: Path, tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 255, (3, 16, 16, 3), dtype=np.uint8)
    np.savez(tmp_path / "photos" / "more.npz", images=images)
    with Workspace(shop) as space:
        space.index(tmp_path / "photos" / "more.npz")
        assert (space.image_files().looked_at, space.image_files().gone) == (9, 0)
        (tmp_path / "photos" / "more.npz").unlink()
        assert space.image_files().gone == 3


def test_names_of_pictures_that_come_from_no_file_are_not_looked_for(shop: Path) -> None:
    images = np.random.default_rng(0).integers(0, 255, (3, 16, 16, 3), dtype=np.uint8)
    with Workspace(shop) as space:
        space.index(ImageSet.from_arrays(images, np.zeros(3, np.int64), ["cats"], uris=["a#0", "a#1", "a#2"]))
        assert space.image_files().looked_at == 6
        assert space.doctor() == []


def test_what_could_not_be_indexed_may_be_opened_no_more_than_before(shop: Path, tmp_path: Path) -> None:
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "bad.csv").write_bytes(
        b"path\n" + str(tmp_path / "photos/cats/1.png").encode() + b"\n\xff\n"
    )
    (tmp_path / "empty").mkdir()
    with Workspace(shop) as space:
        roots = space.holdings.state.image_roots
        for source in ("tables/bad.csv", "empty"):
            with pytest.raises(InputError):
                space.index(tmp_path / source)
            assert space.holdings.state.image_roots == roots
        shutil.rmtree(tmp_path / "photos")
        (tmp_path / "photos").mkdir()
        with pytest.raises(InputError):
            space.index(tmp_path / "photos")
        assert space.holdings.state.image_roots == roots, "what was allowed before stays so"
