"""Image sets in the layouts in which they are published, each with the split that its papers use."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from evergallery.data.columns import csv_records
from evergallery.data.images.parts import Box
from evergallery.data.listing import JUNK, Entry, Listing
from evergallery.data.published_files import (
    GROCERIES,
    IMAGES_INSHOP,
    LIST_INSHOP,
    complete_root,
    damaged,
    fields,
    files_in,
    holds,
    lines,
    place_of,
    read_matlab,
)
from evergallery.data.published_large import (
    IMAGENET,
    MS_CELEB,
    PLACES365,
    PLACES_BY_LISTS,
    imagenet,
    ms_celeb,
    places365,
)
from evergallery.errors import InputError

MARKET, DUKE, VERI = (
    re.compile(rf"(?P<label>-1|\d{{4}})_c(?P<camera>{rest}\.(jpe?g|png)", re.IGNORECASE)
    for rest in (r"\d)s\d_\d+_\d+", r"\d)_f\d+", r"\d+)_\d+_\d+")
)
"""Names of images in sets for re-identification: an identity, a camera, a place in its recording."""


def cub200(data_dir: Path | None) -> Listing:
    """CUB-200-2011 with its train and test split (Wah et al. 2011)."""
    tables = ["images.txt", "image_class_labels.txt", "classes.txt", "train_test_split.txt"]
    root = root_of("cub200", data_dir)
    paths, image_classes, names, is_train = (dict(fields(root / table, 2)) for table in tables)
    try:
        return Listing(
            [
                _entry(
                    root / "images" / path, names[image_classes[image]], "train" if is_train[image] == "1" else "test"
                )
                for image, path in paths.items()
            ]
        )
    except KeyError as error:
        raise InputError(f"The tables in {root} disagree on the number {error}: unpack the set again.") from None


def cars196(data_dir: Path | None) -> Listing:
    """Cars-196 with its train and test split, as ``cars_annos.mat`` beside ``car_ims`` (Krause et al. 2013).

    Or as ``cars_train`` and ``cars_test`` with their development kit, which torchvision reads.
    """
    root = root_of("cars196", data_dir)
    if holds(root, CARS_IN_PARTS):
        return _cars_in_parts(root)
    content = read_matlab(root / "cars_annos.mat", "cars196")
    try:
        names = np.atleast_1d(content["class_names"])
        annotations = np.atleast_1d(content["annotations"])
        paths = tuple(root / str(path) for path in annotations["relative_im_path"])
        labels = tuple(str(names[int(number) - 1]) for number in annotations["class"])
        split = tuple("test" if int(flag) else "train" for flag in annotations["test"])
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise damaged(root / "cars_annos.mat", error) from error
    return Listing([_entry(*row) for row in zip(paths, labels, split, strict=True)])


def _cars_in_parts(root: Path) -> Listing:
    entries = []
    for split, table in zip(("train", "test"), CARS_IN_PARTS[:2], strict=True):
        try:
            names = np.atleast_1d(read_matlab(root / "devkit" / "cars_meta.mat", "cars196")["class_names"])
            rows = np.atleast_1d(read_matlab(root / table, "cars196")["annotations"])
            entries += [
                _entry(root / f"cars_{split}" / str(file), str(names[int(number) - 1]), split)
                for file, number in zip(rows["fname"], rows["class"], strict=True)
            ]
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise damaged(root / table, error) from error
    return Listing(entries)


def dogs(data_dir: Path | None) -> Listing:
    """Stanford Dogs with its train and test lists, as ``train_list.mat`` beside ``Images`` (Khosla et al. 2011)."""
    root = root_of("dogs", data_dir)
    entries = []
    for split in ("train", "test"):
        path = root / f"{split}_list.mat"
        try:
            files = [str(name) for name in np.atleast_1d(read_matlab(path, "dogs")["file_list"])]
        except KeyError as error:
            raise damaged(path, error) from error
        entries += [_entry(root / "Images" / name, name.partition("/")[0], split) for name in files]
    return Listing(entries)


def sop(data_dir: Path | None) -> Listing:
    """Stanford Online Products with its train and test split, whose classes are disjoint (Song et al. 2016)."""
    root = root_of("sop", data_dir)
    rows = [(split, row) for split in ("train", "test") for row in fields(root / f"Ebay_{split}.txt", 4)]
    return Listing([_entry(root / path, name, split) for split, (image, name, _, path) in rows if image != "image_id"])


def inshop(data_dir: Path | None) -> Listing:
    """In-shop Clothes Retrieval with the splits train, query and gallery (Liu et al. 2016).

    Images are taken whole, as papers on metric learning take them; the boxes of ``list_bbox_inshop.txt`` are not read.
    """
    root = root_of("inshop", data_dir)
    table = place_of(root, LIST_INSHOP) or root / LIST_INSHOP
    # The archives unpack to img or img_highres, in Img or beside it; a number of images and a line of headings come first.
    folders = (root / above / name for name in ("img", "img_highres") for above in ("Img", ""))
    folder = next((folder for folder in folders if folder.is_dir()), root / "img")
    entries = []
    for line in filter(str.strip, lines(table)):
        path, *rest = line.split()
        if not rest or path == "image_name":
            continue
        if len(rest) != 2 or rest[1] not in ("train", "query", "gallery"):
            raise InputError(
                f"{table} has the line {line!r}, which is no  IMAGE ITEM train|query|gallery: download it again."
            )
        entries.append(_entry(folder / path.removeprefix("img/"), rest[0], rest[1]))
    if not entries:
        raise InputError(f"{table} lists no image as IMAGE ITEM train|query|gallery: download it again.")
    return Listing(_disjoint(root, entries))


def deepfashion2(data_dir: Path | None) -> Listing:
    """DeepFashion2, item by item, each cut to its box; items of one style of a pair are a class (Ge et al. 2019).

    As in its own benchmark of retrieval with true boxes, consumers' items of the validation part that have a style ask, and all
    of its shops' items are found: those without a style as the class ``validation 0``, for which nobody asks. Pairs are counted
    from 1 in both parts, and are not the same: names of classes say which part.
    """
    root = root_of("deepfashion2", data_dir)
    entries = []
    for part in ("train", "validation"):
        for path in files_in(root / part / "annos", "*.json"):
            image = root / part / "image" / f"{path.stem}.jpg"
            try:
                found = json.loads(path.read_text(encoding="utf-8"))
                shop, pair = {"shop": True, "user": False}[found["source"]], int(found["pair_id"])
                items = [
                    (int(item["style"]), Box(*map(float, item["bounding_box"])))
                    for name, item in found.items()
                    if name.startswith("item")
                ]
            except (ValueError, KeyError, TypeError) as error:
                raise damaged(path, error) from error
            split = "train" if part == "train" else "gallery" if shop else "query"
            for style, box in items:
                if style > 0 or split == "gallery":
                    label = f"{part} {pair:06d}-{style}" if style > 0 else f"{part} 0"
                    entries.append(Entry(str(image.absolute()), label, split, part=box))
    return Listing(entries)


def market1501(data_dir: Path | None) -> Listing:
    """Market-1501 with the splits train, query and gallery, and its cameras (Zheng et al. 2015).

    Junk (identity -1) is left out; distractors are the class ``0000``, which only the gallery holds.
    """
    return _reid("market1501", data_dir, MARKET, "0002_c1s1_000451_03.jpg")


def dukemtmc(data_dir: Path | None) -> Listing:
    """DukeMTMC-reID with the splits train, query and gallery, and its cameras (Zheng et al. 2017)."""
    return _reid("dukemtmc", data_dir, DUKE, "0001_c2_f0046182.jpg")


def veri776(data_dir: Path | None) -> Listing:
    """VeRi-776, vehicles, with the splits train, query and gallery, and its cameras (Liu et al. 2016)."""
    return _reid("veri776", data_dir, VERI, "0001_c001_00016450_0.jpg")


def msmt17(data_dir: Path | None) -> Listing:
    """MSMT17 with the splits train (its lists train and val), query and gallery, and its cameras (Wei et al. 2018).

    Identities are counted from 0 in the training and in the test part, and are not the same: their names say which part.
    """
    root = root_of("msmt17", data_dir)
    entries = []
    for name, split in (("train", "train"), ("val", "train"), ("query", "query"), ("gallery", "gallery")):
        part = "train" if split == "train" else "test"
        places = (root / part, root / f"mask_{part}_v2")
        folder = next((place for place in places if place.is_dir()), places[0])
        for path, number in fields(root / f"list_{name}.txt", 2):
            camera = path.rpartition("/")[2].split("_")[2:3]
            if not camera or not number.isdecimal():
                raise InputError(f"{root / f'list_{name}.txt'} has the line {path} {number}: download it again.")
            entries.append(_entry(folder / path, f"{part} {int(number):04d}", split, camera[0]))
    return Listing(entries)


def omniglot(data_dir: Path | None) -> Listing:
    """Omniglot: characters ``ALPHABET/CHARACTER``, its background to learn from as ``train``, and ``evaluation``.

    Lake et al. 2015.
    """
    root = root_of("omniglot", data_dir)
    entries = []
    for part, split in (("background", "train"), ("evaluation", "evaluation")):
        for path in files_in(root / f"images_{part}", "*/*/*"):
            entries.append(_entry(path, f"{path.parents[1].name}/{path.parent.name}", split))
    return Listing(entries)


def grocery(data_dir: Path | None) -> Listing:
    """Grocery Store photographs with their train, val and test lists; a class is a product, such as ``000_Golden-Delicious``.

    Klasson et al. 2019.
    """
    root = root_of("grocery", data_dir)
    entries = []
    for split in ("train", "val", "test"):
        for line in filter(str.strip, lines(root / f"{split}.txt")):
            path, *numbers = (part.strip() for part in line.split(","))
            if not numbers or not numbers[0].isdecimal():
                raise InputError(
                    f"{root / f'{split}.txt'} has the line {line!r} without the number of a class: download it again."
                )
            entries.append(_entry(root / path, f"{int(numbers[0]):03d}_{Path(path).parent.name}", split))
    return Listing(entries)


def gldv2(data_dir: Path | None) -> Listing:
    """Google Landmarks v2, its cleaned training part: ``train_clean.csv``, ``train/0/1/2/012….jpg`` (Weyand et al. 2020)."""
    root = root_of("gldv2", data_dir)
    table = root / "train_clean.csv"

    def entries() -> Iterator[Entry]:
        with table.open(newline="", encoding="utf-8-sig") as file:
            for number, (line, row) in enumerate(csv_records(str(table), file)):
                if number == 0 and row[:2] == ["landmark_id", "images"]:
                    continue
                if len(row) != 2:
                    raise InputError(f"{table} has {len(row)} cells in line {line} in place of 2: download it again.")
                for image in row[1].split():
                    path = root / "train" / image[0] / image[1] / image[2] / f"{image}.jpg"
                    yield _entry(path, row[0], "train")

    return Listing(entries())


CARS_IN_PARTS = (
    "devkit/cars_train_annos.mat", "cars_test_annos_withlabels.mat", "devkit/cars_meta.mat", "cars_train", "cars_test",
)  # fmt: skip
LAYOUTS: dict[str, tuple[Callable[[Path | None], Listing], tuple[str, ...], tuple[str, ...]]] = {
    "cub200": (
        cub200, ("CUB_200_2011",),
        ("images.txt", "image_class_labels.txt", "classes.txt", "train_test_split.txt"),
    ),
    "cars196": (cars196, ("cars196", "stanford_cars"), ("cars_annos.mat", "car_ims")),
    "dogs": (dogs, ("StanfordDogs", "stanford-dogs"), ("train_list.mat", "test_list.mat", "Images")),
    "sop": (sop, ("Stanford_Online_Products",), ("Ebay_train.txt", "Ebay_test.txt")),
    "inshop": (inshop, ("In-shop", "Inshop", "In_shop", "In-shop Clothes Retrieval Benchmark"), (IMAGES_INSHOP, LIST_INSHOP)),
    "deepfashion2": (deepfashion2, ("DeepFashion2", "deepfashion2"), ("train/annos", "validation/annos")),
    "dukemtmc": (dukemtmc, ("DukeMTMC-reID",), ("bounding_box_train", "query", "bounding_box_test")),
    "market1501": (
        market1501, ("Market-1501-v15.09.15", "Market-1501"), ("bounding_box_train", "query", "bounding_box_test"),
    ),
    "veri776": (veri776, ("VeRi", "VeRi-776"), ("image_train", "image_query", "image_test")),
    "msmt17": (
        msmt17, ("MSMT17_V1", "MSMT17_V2", "MSMT17"),
        ("list_train.txt", "list_val.txt", "list_query.txt", "list_gallery.txt"),
    ),
    "imagenet": (imagenet, *IMAGENET),
    "places365": (places365, *PLACES365),
    "omniglot": (omniglot, ("omniglot", "omniglot-py"), ("images_background", "images_evaluation")),
    "grocery": (
        grocery, ("GroceryStoreDataset/dataset", "dataset"),
        ("train.txt", "val.txt", "test.txt", GROCERIES, "train", "test"),
    ),
    "gldv2": (gldv2, ("gldv2", "google-landmarks-v2"), ("train_clean.csv", "train")),
    "ms-celeb": (ms_celeb, *MS_CELEB),
}  # fmt: skip
"""Published layouts by the name of the set: its reader, the folders of the data directory to look in, and what one must hold."""
OTHER_FORMS = {"cars196": (CARS_IN_PARTS,), "places365": (PLACES_BY_LISTS,)}
"""Contents that the folder of a set may have in place of these."""


def root_of(name: str, data_dir: Path | None) -> Path:
    """The folder of a set: one of its usual names below ``data_dir``, or ``data_dir`` itself.

    Raises:
        InputError: none holds what the set consists of.
    """
    _, candidates, needed = LAYOUTS[name]
    return complete_root(name, data_dir, candidates, needed, *OTHER_FORMS.get(name, ()))


def _reid(name: str, data_dir: Path | None, form: re.Pattern[str], example: str) -> Listing:
    root = root_of(name, data_dir)
    entries: list[Entry] = []
    for split, folder in zip(("train", "query", "gallery"), LAYOUTS[name][2], strict=True):
        for path in files_in(root / folder):
            found = form.fullmatch(path.name)
            if found is None:
                raise InputError(f"{path} is not named like {example}: remove it from the set.")
            if found["label"] != JUNK:
                entries.append(_entry(path, found["label"], split, found["camera"]))
    return Listing(_disjoint(root, entries))


def _disjoint(root: Path, entries: list[Entry]) -> list[Entry]:
    """The entries of a set whose training part shows nobody who is asked for.

    Raises:
        InputError: it does.
    """
    learned = {entry.label for entry in entries if entry.split == "train"}
    both = sorted({entry.label for entry in entries if entry.split == "query" and entry.label} & learned)
    if both:
        raise InputError(
            f"{root} has images of {both[0]} to learn from and among its queries, as it was not published: unpack the set again."
        )
    return entries


def _entry(path: Path, label: str, split: str, camera: str | None = None) -> Entry:
    return Entry(str(path.absolute()), label, split, camera)
