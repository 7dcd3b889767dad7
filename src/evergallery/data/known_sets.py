"""Known sets where a path names them: what is recognised, and what is refused because its folders are no classes."""

import re
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

from evergallery.data.published import CARS_IN_PARTS, LAYOUTS, OTHER_FORMS
from evergallery.data.published_files import COMMON, IMAGES_INSHOP, OR, folders_of, has, holds, names_in
from evergallery.data.published_large import PLACES_BY_LISTS, PLACES_FOLDERS
from evergallery.errors import InputError

ENOUGH = 4
"""The number of common entries that no folder of anything holds together."""
ABOVE = 3
"""The number of folders above one that are looked at for a set that it is a part of."""
PLAIN = frozenset({"imagenet", "places365", "ms-celeb"})
"""Sets whose usual layout many share, so that a folder in it is not known by it."""
FORMS = (
    *((name, needed) for name, (_, _, needed) in LAYOUTS.items() if name not in PLAIN),
    *((name, needed) for name, others in OTHER_FORMS.items() for needed in others),
)
"""The layouts that a set is known by."""
MSMT17 = re.compile(r"\d{4}_\d{3}_\d\d_\d{4}(morning|noon|afternoon)_")
MSMT17_MASKED = ("mask_train_v2", "mask_test_v2")
MARKS: tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...] = (
    ("cars196", ("cars_train", "cars_test"), CARS_IN_PARTS),
    ("places365", PLACES_FOLDERS, PLACES_BY_LISTS),
    ("places365", (OR.join(f"{name}/a/airfield" for name in PLACES_FOLDERS[0].split(OR)),), PLACES_BY_LISTS),
    ("msmt17", MSMT17_MASKED, LAYOUTS["msmt17"][2]),
    ("sop", ("bicycle_final", "chair_final"), LAYOUTS["sop"][2]),
    (
        "inshop",
        (OR.join(f"{place}{name}/WOMEN/Blouses_Shirts" for place in ("", "Img/") for name in ("img", "img_highres")),),
        LAYOUTS["inshop"][2],
    ),
    ("deepfashion2", ("train/annos", "train/image"), LAYOUTS["deepfashion2"][2]),
    ("omniglot", ("images_background or images_evaluation",), LAYOUTS["omniglot"][2]),
    ("grocery", ("iconic-images-and-descriptions",), LAYOUTS["grocery"][2]),
    ("gldv2", ("train/0/0/0 or index/0/0/0 or test/0/0/0",), LAYOUTS["gldv2"][2]),
)  # fmt: skip
"""Marks of sets whose folders are no classes, whatever they lack: a name, entries that only it has, all that it needs."""
BY_NAME = "name the set, and with --data-dir the folder that holds it as {}/"
TESTED = "which is only tested on: name it to verify, or to --evaluate of a benchmark"
ELSEWHERE = {
    "imagenet": (
        ("ILSVRC/Data/CLS-LOC or ILSVRC2012_devkit_t12",),
        "whose split is published: name the set, and this folder with --data-dir",
    ),
    "food101": (
        ("images", "meta/train.json", "meta/test.json"),
        f"whose split is published: {BY_NAME.format('food-101')}",
    ),
    "flowers102": (
        ("jpg", "setid.mat", "imagelabels.mat"),
        f"whose split is published: {BY_NAME.format('flowers-102')}",
    ),
    "ijb-c": (("loose_crop", "meta/ijbc_face_tid_mid.txt"), TESTED),
    "roxford5k": (("jpg", "gnd_roxford5k.pkl"), TESTED),
    "rparis6k": (("jpg", "gnd_rparis6k.pkl"), TESTED),
}
"""Sets that are not read by a path: what they hold, and how they are named instead."""
PARTS = {
    "cub200": ("images",),
    "cars196": ("car_ims", "cars_train", "cars_test"),
    "dogs": ("Images",),
    "sop": ("*_final",),
    "inshop": (*IMAGES_INSHOP.split(OR), "Eval", "Anno"),
    "deepfashion2": ("train", "validation", "test"),
    "dukemtmc": ("bounding_box_*", "query"),
    "market1501": ("bounding_box_*", "query", "gt_bbox"),
    "veri776": ("image_*",),
    "msmt17": ("train", "test", *MSMT17_MASKED),
    "places365": ("data_*", "val_*", "test_*", "filelist_*"),
    "omniglot": ("images_*",),
    "grocery": ("train", "val", "test", "iconic-*"),
    "gldv2": ("train", "index", "test"),
    "imagenet": ("ILSVRC",),
    "food101": ("images",),
    "flowers102": ("jpg",),
    "ijb-c": ("loose_crop",),
    "roxford5k": ("jpg",),
    "rparis6k": ("jpg",),
}
"""The folders in which the images of each set lie."""


def layout_of(folder: Path) -> str | None:
    """The name of the set whose published layout a folder has; ``None`` where it is no set that is known."""
    for name, needed in FORMS:
        if holds(folder, needed):
            if name == "dukemtmc" and not any((folder / "query").glob("????_c*_f*.jpg")):
                continue  # Market-1501's folders have the same names.
            return name
    return None


def require_no_known_set(folder: Path) -> None:
    """Refuse a folder that holds a known set, or most of one, or a part: its folders would be taken for classes.

    Raises:
        InputError: it does.
    """
    folder = folder.absolute()
    below = folders_of(folder)
    above = list(folder.parents)[:ABOVE][::-1]
    for root in above:
        if (name := layout_of(root)) is not None and _is_part(folder, root, name):
            raise InputError(
                f"{folder} is a part of the set {name!r}, whose split is published: name all of it, {root}."
            )
    for place in below:
        if (name := layout_of(place)) is not None:
            raise InputError(f"{folder} holds the set {name!r}, in {place}: name that folder.")
    for place in (*above, folder, *below):
        for name, (entries, how) in ELSEWHERE.items():
            if holds(place, entries) and (place not in above or _is_part(folder, place, name)):
                raise InputError(f"{place} is the set {name!r}, {how}.")
    for place in above:
        _require_whole(place, [(name, needed) for name, needed in _marked(place) if _is_part(folder, place, name)])
    for place in (folder, *below):
        _require_whole(place, [*_marked(place), *_begun(place)])


def _is_part(folder: Path, root: Path, name: str) -> bool:
    """Return whether a folder below one that holds a set is one of its own, and not another that lies there by chance."""
    return any(fnmatch(folder.relative_to(root).parts[0], part) for part in PARTS[name])


def _marked(folder: Path) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The sets that a folder has a mark of, each with all that it needs."""
    for name, marks, needed in MARKS:
        if holds(folder, marks):
            yield name, needed
    if all(_shows_msmt17(folder / part) for part in ("train", "test")):
        yield "msmt17", LAYOUTS["msmt17"][2]


def _shows_msmt17(part: Path) -> bool:
    """Return whether the first folders of a part of a set have pictures that are named as those of MSMT17 are."""
    return any(MSMT17.match(name) for person in folders_of(part)[:3] for name in names_in(person))


def _begun(folder: Path) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The sets of which a folder holds something that is not common, or very much, each with all that it needs."""
    for name, needed in FORMS:
        there = {entry for entry in needed if has(folder, entry)}
        if there - COMMON or len(there) >= ENOUGH:
            yield name, needed


def _require_whole(folder: Path, sets: list[tuple[str, tuple[str, ...]]]) -> None:
    """Refuse a folder that looks like one of these sets; the message names those that lack least.

    Raises:
        InputError: there is one.
    """
    alike: dict[tuple[str, ...], dict[str, None]] = {}
    for name, needed in sets:
        missing = tuple(entry for entry in needed if not has(folder, entry))
        alike.setdefault(missing, {})[repr(name)] = None
    if alike:
        least = min(alike, key=len)
        raise InputError(
            f"{folder} looks like the set {OR.join(alike[least])} and lacks {', '.join(least)}, which should lie in it: unpack "
            f"the set again, or name a folder with a folder for each class."
        )
