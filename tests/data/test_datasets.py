"""Named sets, each from a tiny copy of its published layout."""

import os
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evergallery.data.image_set import ImageSet
from evergallery.data.images import Preprocessing
from evergallery.data.sources import load
from evergallery.errors import InputError, MissingExtraError

SMALL = Preprocessing(size=4)


def paint(path: Path, red: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (6, 5), (red, 0, 0)).save(path, quality=100)


def facts(images: ImageSet) -> list[tuple[str, str, str]]:
    assert images.split is not None
    names = [images.classes[label] for label in images.labels]
    files = [Path(uri).name for uri in images.uris]
    return sorted(zip(files, names, images.split.tolist(), strict=True))


def test_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sklearn")
    images = load("digits", Preprocessing(size=8))
    assert len(images) == 1797
    assert images.classes == tuple("0123456789")
    assert (images.pixels.min(), images.pixels.max()) == (0, 255)
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(MissingExtraError, match=r"evergallery\[digits\]"):
        load("digits", SMALL)


def cifar(folder: Path, batches: dict[str, int], label_key: bytes, meta: str, names_key: bytes, protocol: int) -> None:
    folder.mkdir()
    for batch, first in batches.items():
        data = np.zeros((2, 3, 32, 32), np.uint8)
        data[:, 0], data[:, 2, 0, 1] = [[[first]], [[first + 1]]], 200
        content = {b"data": data.reshape(2, -1), label_key: [0, 1], b"filenames": [b"a", b"b"]}
        (folder / batch).write_bytes(pickle.dumps(content, protocol))
    (folder / meta).write_bytes(pickle.dumps({names_key: [b"apple", b"bear"]}, protocol))


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_cifar(tmp_path: Path, protocol: int) -> None:
    cifar(
        tmp_path / "cifar-100-python", {"train": 10, "test": 20}, b"fine_labels", "meta", b"fine_label_names", protocol
    )
    images = load("cifar100", Preprocessing(size=32), data_dir=tmp_path)
    assert images.classes == ("apple", "bear")
    assert images.labels.tolist() == [0, 1, 0, 1]
    assert images.pixels[:, 5, 5, 0].tolist() == [10, 11, 20, 21]
    assert images.pixels[0, 0, 1].tolist() == [10, 0, 200]
    assert len(images.of_split("test")) == 2
    batches = {**{f"data_batch_{number}": number for number in range(1, 6)}, "test_batch": 9}
    cifar(tmp_path / "cifar-10-batches-py", batches, b"labels", "batches.meta", b"label_names", protocol)
    assert len(load("cifar10", SMALL, data_dir=tmp_path).of_split("train")) == 10


class Attack:
    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, ("attacked",)


def test_cifar_pickles_run_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "cifar-100-python"
    cifar(folder, {"train": 1, "test": 2}, b"fine_labels", "meta", b"fine_label_names", 2)
    (folder / "train").write_bytes(pickle.dumps({b"data": Attack()}))
    with pytest.raises(InputError, match="mkdir"):
        load("cifar100", SMALL, data_dir=tmp_path)
    assert not (tmp_path / "attacked").exists()
    (folder / "train").write_bytes(b"junk")
    with pytest.raises(InputError, match="cannot be read"):
        load("cifar100", SMALL, data_dir=tmp_path)


def test_cub(tmp_path: Path) -> None:
    root = tmp_path / "CUB_200_2011"
    paint(root / "images/001.Albatross/a.jpg")
    paint(root / "images/002.Auklet/b.jpg")
    (root / "images.txt").write_text("1 001.Albatross/a.jpg\n2 002.Auklet/b.jpg\n")
    (root / "image_class_labels.txt").write_text("1 1\n2 2\n")
    (root / "classes.txt").write_text("1 001.Albatross\n2 002.Auklet\n")
    with pytest.raises(InputError, match=r"lacks train_test_split\.txt"):
        load("cub200", SMALL, data_dir=tmp_path)
    (root / "train_test_split.txt").write_text("1 1\n2 0\n")
    expected = [("a.jpg", "001.Albatross", "train"), ("b.jpg", "002.Auklet", "test")]
    assert facts(load("cub200", SMALL, data_dir=tmp_path)) == expected
    assert facts(load("cub200", SMALL, data_dir=root)) == expected
    (root / "image_class_labels.txt").write_text("1 1\n")
    with pytest.raises(InputError, match="disagree"):
        load("cub200", SMALL, data_dir=tmp_path)


@pytest.mark.parametrize("count", [1, 2])
def test_cars(tmp_path: Path, count: int) -> None:
    io = pytest.importorskip("scipy.io")
    root = tmp_path / "cars196"
    types = [("relative_im_path", object), ("class", object), ("test", object)]
    rows = [("car_ims/000001.jpg", 2, 0), ("car_ims/000002.jpg", 1, 1)][:count]
    for path, *_ in rows:
        paint(root / path)
    content = {"annotations": np.array(rows, dtype=types), "class_names": np.array(["Audi", "BMW"], dtype=object)}
    io.savemat(root / "cars_annos.mat", content)
    expected = [("000001.jpg", "BMW", "train"), ("000002.jpg", "Audi", "test")][:count]
    assert facts(load("cars196", SMALL, data_dir=tmp_path)) == expected


def test_sop(tmp_path: Path) -> None:
    root = tmp_path / "Stanford_Online_Products"
    paint(root / "bicycle_final/1_0.JPG")
    paint(root / "chair_final/2_0.JPG")
    (root / "Ebay_train.txt").write_text("image_id class_id super_class_id path\n1 1 1 bicycle_final/1_0.JPG\n")
    (root / "Ebay_test.txt").write_text("image_id class_id super_class_id path\n2 11319 2 chair_final/2_0.JPG\n")
    assert facts(load("sop", SMALL, data_dir=tmp_path)) == [("1_0.JPG", "1", "train"), ("2_0.JPG", "11319", "test")]


def test_market(tmp_path: Path) -> None:
    root = tmp_path / "Market-1501-v15.09.15"
    paint(root / "bounding_box_train/0002_c1s1_000451_03.jpg")
    paint(root / "query/0005_c3s1_000151_00.jpg")
    for name in ("0005_c6s2_000001_00.jpg", "0000_c2s1_000001_00.jpg", "-1_c1s1_000401_03.jpg"):
        paint(root / "bounding_box_test" / name)
    (root / "query/Thumbs.db").touch()
    images = load("market1501", SMALL, data_dir=tmp_path)
    assert facts(images) == [
        ("0000_c2s1_000001_00.jpg", "0000", "gallery"),
        ("0002_c1s1_000451_03.jpg", "0002", "train"),
        ("0005_c3s1_000151_00.jpg", "0005", "query"),
        ("0005_c6s2_000001_00.jpg", "0005", "gallery"),
    ]
    assert images.cameras is not None
    cameras = dict(zip((Path(uri).name[:4] for uri in images.of_split("gallery").uris), "26", strict=True))
    gallery = images.of_split("gallery")
    assert gallery.cameras is not None
    assert {Path(u).name[:4]: str(c) for u, c in zip(gallery.uris, gallery.cameras, strict=True)} == cameras
    paint(root / "query/portrait.jpg")
    with pytest.raises(InputError, match="not named like"):
        load("market1501", SMALL, data_dir=tmp_path)


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "cub200", "cars196", "sop", "market1501"])
def test_missing_layouts_say_what_is_expected(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="data_dir"):
        load(name, SMALL)
    with pytest.raises(InputError, match=f"The set '{name}' is not complete: .* should hold .* lacks"):
        load(name, SMALL, data_dir=tmp_path)
