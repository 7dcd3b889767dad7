"""Toy copies of image sets in the layouts in which they are published, large enough to run a protocol on."""

import json
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from evergallery.data.published import LAYOUTS

CLASSES = 8
"""To learn from, where nobody asks for another number."""
EACH = 6
"""Training images of a class, likewise."""


class Picture(NamedTuple):
    """An image of a toy."""

    label: int
    number: int
    split: str
    camera: int = 1


def closed(classes: int, each: int) -> Iterator[Picture]:
    """Two images of each class are tested on."""
    for label in range(classes):
        for number in range(each + 2):
            yield Picture(label, number, "train" if number < each else "test")


def asked(classes: int, each: int) -> Iterator[Picture]:
    """Classes to learn from, and three others that are asked for and found, each by two cameras."""
    for label in range(classes):
        yield from (Picture(label, number, "train", 1 + number % 2) for number in range(each))
    for label in range(classes, classes + 3):
        yield from (Picture(label, number, "query", 1 + number) for number in range(2))
        yield from (Picture(label, 2 + number, "gallery", 1 + number % 2) for number in range(3))


def paint(path: Path, picture: Picture) -> None:
    """A colour for each class, a bar for each number."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((24, 24, 3), np.random.default_rng(picture.label).integers(40, 215, 3), dtype=np.uint8)
    pixels[picture.number * 2 % 22 :][:2] = 255
    Image.fromarray(pixels).save(path, quality=95)


def cub200(root: Path, classes: int, each: int) -> None:
    names = [f"{label + 1:03d}.Bird_{label}" for label in range(classes)]
    tables: dict[str, list[str]] = {"images": [], "image_class_labels": [], "train_test_split": []}
    for index, one in enumerate(closed(classes, each), 1):
        path = f"{names[one.label]}/{one.number}.jpg"
        paint(root / "images" / path, one)
        tables["images"].append(f"{index} {path}")
        tables["image_class_labels"].append(f"{index} {one.label + 1}")
        tables["train_test_split"].append(f"{index} {int(one.split == 'train')}")
    tables["classes"] = [f"{label + 1} {name}" for label, name in enumerate(names)]
    for table, rows in tables.items():
        (root / f"{table}.txt").write_text("\n".join(rows))


def cars196(root: Path, classes: int, each: int) -> None:
    from scipy.io import savemat

    rows = []
    for index, one in enumerate(closed(classes, each), 1):
        paint(root / f"car_ims/{index:06d}.jpg", one)
        rows.append((f"car_ims/{index:06d}.jpg", one.label + 1, int(one.split == "test")))
    types = [("relative_im_path", object), ("class", object), ("test", object)]
    names = np.array([f"Car {label}" for label in range(classes)], dtype=object)
    savemat(root / "cars_annos.mat", {"annotations": np.array(rows, dtype=types), "class_names": names})


def dogs(root: Path, classes: int, each: int) -> None:
    from scipy.io import savemat

    files: dict[str, list[str]] = {"train": [], "test": []}
    for one in closed(classes, each):
        path = f"n{one.label:08d}-dog/n{one.label:08d}_{one.number}.jpg"
        paint(root / "Images" / path, one)
        files[one.split].append(path)
    for split, found in files.items():
        savemat(root / f"{split}_list.mat", {"file_list": np.array(found, dtype=object)})


def sop(root: Path, classes: int, each: int) -> None:
    rows = {split: ["image_id class_id super_class_id path"] for split in ("train", "test")}
    for index, one in enumerate(asked(classes, each), 1):
        paint(root / f"chair_final/{one.label}_{one.number}.JPG", one)
        split = "train" if one.split == "train" else "test"
        rows[split].append(f"{index} {one.label + 1} 1 chair_final/{one.label}_{one.number}.JPG")
    for split, found in rows.items():
        (root / f"Ebay_{split}.txt").write_text("\n".join(found))


def inshop(root: Path, classes: int, each: int) -> None:
    rows = []
    for one in asked(classes, each):
        path = f"img/WOMEN/Tees/id_{one.label:08d}/{one.number}.jpg"
        paint(root / path, one)
        rows.append(f"{path} id_{one.label:08d} {one.split}")
    (root / "list_eval_partition.txt").write_text(
        "\n".join([str(len(rows)), "image_name item_id evaluation_status", *rows])
    )


def deepfashion2(root: Path, classes: int, each: int) -> None:
    for index, one in enumerate(asked(classes, each), 1):
        part = "train" if one.split == "train" else "validation"
        paint(root / part / "image" / f"{index:06d}.jpg", one)
        item = {"style": 1, "category_id": 1, "bounding_box": [2, 0, 24, 24]}
        described = {"source": "user" if one.split == "query" else "shop", "pair_id": one.label, "item1": item}
        (root / part / "annos").mkdir(exist_ok=True)
        (root / part / "annos" / f"{index:06d}.json").write_text(json.dumps(described))


def identities(folders: tuple[str, str, str], form: str) -> Callable[[Path, int, int], None]:
    """Re-identification by names of files, with junk and distractors in the gallery."""

    def make(root: Path, classes: int, each: int) -> None:
        by_split = dict(zip(("train", "query", "gallery"), folders, strict=True))
        for one in asked(classes, each):
            # Numbers of identities have gaps, and three of four are below 600.
            name = f"{1 + one.label * 800 // classes:04d}"
            paint(root / by_split[one.split] / form.format(name, one.camera, one.number), one)
        for label, name in ((97, "-1"), (98, "0000")):
            for number in range(2):
                picture = Picture(label, number, "gallery")
                paint(root / by_split["gallery"] / form.format(name, 1, number), picture)

    return make


def msmt17(root: Path, classes: int, each: int) -> None:
    lists: dict[str, list[str]] = {"train": [], "val": [], "query": [], "gallery": []}
    for one in asked(classes, each):
        part = "train" if one.split == "train" else "test"
        label = one.label if part == "train" else one.label - classes  # Counted from 0 in both parts.
        label = label * 700 // classes  # Three of four are below 502.
        path = f"{label:04d}/{label:04d}_{one.number:03d}_{one.camera:02d}_0303morning_{one.number:04d}_0.jpg"
        paint(root / part / path, one)
        lists["val" if one.split == "train" and one.number == 0 else one.split].append(f"{path} {label}")
    for name, rows in lists.items():
        (root / f"list_{name}.txt").write_text("\n".join(rows))


def by_folder(root: Path, classes: int, each: int) -> None:
    for one in closed(classes, each):
        split = "train" if one.split == "train" else "val"
        paint(root / split / f"n{one.label:08d}" / f"{one.number}.jpg", one)


def omniglot(root: Path, classes: int, each: int) -> None:
    for one in asked(classes, each):
        part = "background" if one.split == "train" else "evaluation"
        paint(root / f"images_{part}" / f"Alphabet{one.label}" / "character01" / f"{one.number}.png", one)


def grocery(root: Path, classes: int, each: int) -> None:
    rows: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    for one in closed(classes, each):
        for split in ("val", "test") if one.split == "test" else ("train",):
            path = f"{split}/Fruit/Product-{one.label}/{one.number}.jpg"
            paint(root / path, one)
            rows[split].append(f"{path}, {one.label}, {one.label}")
    for split, found in rows.items():
        (root / f"{split}.txt").write_text("\n".join(found))


def gldv2(root: Path, classes: int, each: int) -> None:
    found: dict[int, list[str]] = {}
    for index, one in enumerate(closed(classes, each)):
        name = f"{index:06x}"
        paint(root / "train" / name[0] / name[1] / name[2] / f"{name}.jpg", one)
        found.setdefault(one.label, []).append(name)
    rows = [f"{label},{' '.join(names)}" for label, names in found.items()]
    (root / "train_clean.csv").write_text("\n".join(["landmark_id,images", *rows]))


def ms_celeb(root: Path, classes: int, each: int) -> None:
    rows = []
    for one in closed(classes, each):
        paint(root / f"m.{one.label}/{one.number}.jpg", one)
        rows.append(f"m.{one.label}/{one.number}.jpg {one.label}")
    (root / "list.txt").write_text("\n".join(rows))


def cifar100(root: Path, classes: int, each: int) -> None:
    pictures = list(closed(classes, each))
    for split in ("train", "test"):
        chosen = [one for one in pictures if one.split == split]
        data = np.stack([np.random.default_rng([one.label]).integers(0, 255, 3072) + one.number for one in chosen])
        content = {"data": (data % 256).astype(np.uint8), "fine_labels": [one.label for one in chosen]}
        (root / split).write_bytes(pickle.dumps(content, protocol=2))
    names = {"fine_label_names": [f"thing {label}" for label in range(classes)]}
    (root / "meta").write_bytes(pickle.dumps(names, protocol=2))


PERSONS = ("bounding_box_train", "query", "bounding_box_test")
TOYS: dict[str, Callable[[Path, int, int], None]] = {
    "cub200": cub200,
    "cars196": cars196,
    "dogs": dogs,
    "sop": sop,
    "inshop": inshop,
    "deepfashion2": deepfashion2,
    "market1501": identities(PERSONS, "{}_c{}s1_{:06d}_00.jpg"),
    "dukemtmc": identities(PERSONS, "{}_c{}_f{:07d}.jpg"),
    "veri776": identities(("image_train", "image_query", "image_test"), "{}_c{:03d}_{:08d}_0.jpg"),
    "msmt17": msmt17,
    "imagenet": by_folder,
    "places365": by_folder,
    "omniglot": omniglot,
    "grocery": grocery,
    "gldv2": gldv2,
    "ms-celeb": ms_celeb,
    "cifar100": cifar100,
}


def make_published(name: str, directory: Path, *, classes: int = CLASSES, each: int = EACH) -> Path:
    """Write the toy copy of a set below a data directory; returns its folder."""
    root = directory / (LAYOUTS[name][1][0] if name in LAYOUTS else "cifar-100-python")
    root.mkdir(parents=True)
    TOYS[name](root, classes, each)
    return root
