"""Large sets that are kept in several layouts: ImageNet, Places365 and MS-Celeb.

What ImageNet and Places365 publish as validation is what papers test on: here it is ``test``, from which nothing is learned or
chosen. Their test parts, whose classes nobody knows, are not looked at.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from evergallery.data.columns import csv_records
from evergallery.data.images.reading import UnreadableImage
from evergallery.data.listing import Entry, Listing, list_folder
from evergallery.data.published_files import (
    OR,
    PLACES_LISTS,
    complete_root,
    damaged,
    fields,
    files_in,
    folders_of,
    holds,
    lines,
    place_of,
    read_matlab,
)
from evergallery.errors import InputError

IMAGENET = ("imagenet", "ILSVRC/Data/CLS-LOC"), ("train", "val")
PLACES365 = ("places365_standard", "places365"), ("train", "val")
MS_CELEB = ("ms-celeb",), ("list.txt",)
"""The folders of the data directory to look in, and what one must hold."""
KAGGLE_CLASSES = "LOC_val_solution.csv"
PLACES_FOLDERS = (
    OR.join(("data_256_standard", "data_256", "data_large_standard", "data_large")), OR.join(("val_256", "val_large")),
)  # fmt: skip
"""The folders in which torchvision keeps Places365, or to which its archives unpack: of training, of validation."""
PLACES_BY_LISTS = (*PLACES_LISTS, *PLACES_FOLDERS)
FACES_LIST, MXNET_LIST, FACES_FOLDER = "list.txt", "train.lst", "imgs"


def imagenet(data_dir: Path | None) -> Listing:
    """ImageNet-1k as folders ``train/CLASS`` and ``val/CLASS`` (Russakovsky et al. 2015).

    Where ``val`` holds its 50 000 images side by side, as the archive unpacks, their classes are those of Kaggle's
    ``LOC_val_solution.csv`` or of the development kit ``ILSVRC2012_devkit_t12``, beside these folders or above them.
    """
    root = complete_root("imagenet", data_dir, *IMAGENET).absolute()
    flat = [] if folders_of(root / "val") else files_in(root / "val")
    if not flat:
        return _by_class(root)
    classes = _validation_classes(root)
    try:
        tested = [Entry(str(path), classes[path.stem], "test") for path in flat]
    except KeyError as error:
        raise InputError(
            f"Nothing says the class of {error.args[0]} in {root / 'val'}: unpack the set again."
        ) from None
    return Listing([*_part(root, "train"), *tested], by_path=True)


def _by_class(root: Path) -> Listing:
    return Listing((entry for part in ("train", "val") for entry in _part(root, part)), by_path=True)


def _part(root: Path, part: str) -> Iterator[Entry | UnreadableImage]:
    for entry in list_folder(str(root / part), True, part).entries:
        yield replace(entry, split="test") if part == "val" and isinstance(entry, Entry) else entry


def _validation_classes(root: Path) -> dict[str, str]:
    """The class of each image of ImageNet's validation part, by its name without its ending.

    Raises:
        InputError: neither table is there, or one cannot be read.
    """
    for place in (root, *root.parents[:4]):
        table = place / KAGGLE_CLASSES
        if table.is_file():
            with table.open(newline="", encoding="utf-8-sig") as file:
                rows = [row for _, row in csv_records(str(table), file)][1:]
            return {row[0]: row[1].split()[0] for row in rows if len(row) == 2 and row[1].split()}
        kit = place / "ILSVRC2012_devkit_t12" / "data"
        if (kit / "meta.mat").is_file():
            synsets = np.atleast_1d(read_matlab(kit / "meta.mat", "imagenet")["synsets"])
            name = dict(zip(map(int, synsets["ILSVRC2012_ID"]), map(str, synsets["WNID"]), strict=True))
            numbers = lines(kit / "ILSVRC2012_validation_ground_truth.txt")
            try:
                return {f"ILSVRC2012_val_{image:08d}": name[int(one)] for image, one in enumerate(numbers, 1)}
            except (ValueError, KeyError) as error:
                raise damaged(kit / "ILSVRC2012_validation_ground_truth.txt", error) from error
    raise InputError(
        f"{root / 'val'} holds images and no folder for each class: put {KAGGLE_CLASSES} or ILSVRC2012_devkit_t12/ beside it, or "
        f"move each image into the folder of its class."
    )


def places365(data_dir: Path | None) -> Listing:
    """Places365-Standard as folders ``train/CLASS`` and ``val/CLASS``, its layout for PyTorch (Zhou et al. 2018).

    Or as torchvision reads it: the lists of its images beside ``data_256_standard`` and ``val_256``, or the large ones.
    """
    root = complete_root("places365", data_dir, *PLACES365, PLACES_BY_LISTS).absolute()
    return _by_class(root) if holds(root, PLACES365[1]) else _places_by_lists(root)


def _places_by_lists(root: Path) -> Listing:
    """The images of Places365's lists; a class is called as in the other layout: ``apartment_building-outdoor``."""
    *tables, categories = (place_of(root, name) or root / name for name in PLACES_LISTS)
    names = {number: path.split("/", 2)[-1].replace("/", "-") for path, number in fields(categories, 2)}
    entries = []
    for split, table, names_of in zip(("train", "test"), tables, PLACES_FOLDERS, strict=True):
        folder = place_of(root, names_of) or root
        try:
            entries += [
                Entry(str(folder / path.removeprefix("/")), names[number], split) for path, number in fields(table, 2)
            ]
        except KeyError as error:
            raise damaged(table, error) from error
    return Listing(entries)


def ms_celeb(data_dir: Path | None) -> Listing:
    """Faces of MS-Celeb-1M, or of a part of it, all to learn from (Guo et al. 2016).

    As ``list.txt`` of lines ``PATH LABEL`` beside the images, as ``train.lst`` of MXNet or InsightFace, or else as a folder for
    each person in ``ms-celeb``, or in ``ms-celeb/imgs``.
    """
    (candidate,), _ = MS_CELEB
    for root in () if data_dir is None else (data_dir / candidate, data_dir):
        for read, name in ((_line, FACES_LIST), (_mxnet_line, MXNET_LIST)):
            if (table := root / name).is_file():
                faces = (read(table, line) for line in lines(table) if line.strip())
                return Listing([Entry(str((root / path).absolute()), label, "train") for path, label in faces])
    if data_dir is not None and (data_dir / candidate).is_dir():
        root = data_dir / candidate
    elif data_dir is not None and (data_dir.absolute().name == candidate or (data_dir / FACES_FOLDER).is_dir()):
        root = data_dir
    else:
        forms = f" (or {MXNET_LIST}, or a folder for each person, in it or in {FACES_FOLDER}/)"
        root = complete_root("ms-celeb", data_dir, *MS_CELEB, instead=forms)  # There is none: it says what is missing.
    people = root / FACES_FOLDER if (root / FACES_FOLDER).is_dir() else root
    records = next(root.glob("*.rec"), None)
    if records is not None and not folders_of(people):
        raise InputError(
            f"{records} holds MXNet's records, which are not read: unpack them in {root}, to a folder for each person."
        )
    return list_folder(str(people.absolute()), True, "train")


def _line(table: Path, line: str) -> tuple[str, str]:
    """Path and label; there may be spaces in the path."""
    path, *label = line.strip().rsplit(maxsplit=1)
    if not label:
        raise InputError(f"{table} has the line {line!r} without 2 fields, PATH LABEL: write it again.")
    return path, label[0]


def _mxnet_line(table: Path, line: str) -> tuple[str, str]:
    """Path and label of MXNet's ``INDEX LABEL PATH``, or of InsightFace's ``ALIGNED PATH LABEL``, with tabs between them."""
    for label, path in ((1, 2), (2, 1)):
        try:
            cells = line.rstrip().split("\t")
            return cells[path], str(int(float(cells[label])))
        except (ValueError, IndexError):
            continue
    raise InputError(f"{table} has the line {line!r}, which is no INDEX, LABEL and PATH with tabs: write it again.")
