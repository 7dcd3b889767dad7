"""Known sets that a path names: the whole, what is around it and inside it, and what lacks a part."""

import re
from pathlib import Path

import pytest

from evergallery.data.images import Preprocessing
from evergallery.data.known_sets import ELSEWHERE, FORMS, MARKS, PARTS, PLAIN
from evergallery.data.listing import Listing
from evergallery.data.published import LAYOUTS
from evergallery.data.sources import find
from evergallery.errors import InputError
from published_toys import TOYS, make_published

PERSON = "0000/0000_000_01_0303morning_0015_0.jpg"
CARS = "devkit/cars_train_annos.mat, cars_test_annos_withlabels.mat, devkit/cars_meta.mat"
PLACES = "places365_train_standard.txt, places365_val.txt, categories_places365.txt"
MSMT17 = "list_train.txt, list_val.txt, list_query.txt, list_gallery.txt"


def write(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def classes(folder: Path) -> list[str]:
    found = find(folder, Preprocessing(size=8))
    assert isinstance(found, Listing)
    return sorted({str(entry.label) for entry in found.in_order()[0]})


@pytest.mark.parametrize("name", sorted(TOYS.keys() & LAYOUTS.keys() - PLAIN))
def test_a_folder_in_a_set_is_a_part_of_it(name: str, tmp_path: Path) -> None:
    root = make_published(name, tmp_path, classes=2, each=1)
    for inside in (path for path in root.glob("**/") if 1 <= len(path.relative_to(root).parts) <= 3):
        message = f"{re.escape(str(inside))} is a part of the set '{name}', .*: name all of it, {re.escape(str(root))}"
        with pytest.raises(InputError, match=message):
            classes(inside)
    write(tmp_path, *(f"{LAYOUTS[name][1][0]}/photographs/{label}/1.jpg" for label in "ab"))
    assert classes(root / "photographs") == ["a", "b"], "which lies there by chance"


@pytest.mark.parametrize(
    ("files", "inside", "message"),
    [
        (("data_256/a/airfield/1.jpg", "val_256/1.jpg"), "data_256/a", f"'places365' and lacks {PLACES}, "),
        (("data_large/z/zoo/1.jpg", "val_large/1.jpg"), "data_large", f"'places365' and lacks {PLACES}, "),
        (("data_256_standard/a/airfield/1.jpg",), "data_256_standard", f"'places365' and lacks {PLACES}, val_256 or "),
        (("places365_val.txt", "a/1.jpg", "b/1.jpg"), "", "'places365' and lacks places365_train_standard.txt, categ"),
        (("cars_train/1.jpg", "cars_test/1.jpg"), "cars_test", f"'cars196' and lacks {CARS}, which should"),
        (("cars_train/cars_train/1.jpg", "cars_test/1.jpg"), "cars_train", f"'cars196' and lacks {CARS}, which should"),
        (("devkit/cars_train_annos.mat", "cars_train/1.jpg"), "", "'cars196' and lacks cars_test_annos_with"),
        ((f"train/{PERSON}", f"test/{PERSON}"), "test", f"'msmt17' and lacks {MSMT17}, which should lie in it"),
        ((f"mask_train_v2/{PERSON}", f"mask_test_v2/{PERSON}"), "mask_test_v2", f"'msmt17' and lacks {MSMT17}, "),
        (("bicycle_final/1_0.JPG", "chair_final/2_0.JPG"), "chair_final", "'sop' and lacks Ebay_train.txt, Ebay_test"),
        (("Img/img/WOMEN/Blouses_Shirts/1.jpg", "Img/img/MEN/1.jpg"), "Img/img", "'inshop' and lacks list_eval_"),
        (("train/annos/1.json", "train/image/1.jpg"), "train", "'deepfashion2' and lacks validation/annos"),
        (("images_background/Greek/1/1.png",), "images_background", "'omniglot' and lacks images_evaluation"),
        (
            ("iconic-images-and-descriptions/Fruit/1.jpg", "train/Fruit/Apple/1.jpg", "test/Fruit/Apple/1.jpg"),
            "train",
            "'grocery' and lacks train.txt, val.txt, test.txt",
        ),
        (("train/0/0/0/1.jpg", "train/0/1/2/1.jpg"), "train/0", "'gldv2' and lacks train_clean.csv"),
        (
            ("train/n01440764/1.jpg", "val/1.jpg", "ILSVRC2012_devkit_t12/data/meta.mat"),
            "",
            "is the set 'imagenet', .*",
        ),
        (
            ("ILSVRC/Data/CLS-LOC/train/n01440764/1.jpg",),
            "ILSVRC/Data",
            "is the set 'imagenet', .*this folder with --d",
        ),
        (("images/pie/1.jpg", "meta/train.json", "meta/test.json"), "images", "is the set 'food101', .*as food-101/"),
        (("jpg/1.jpg", "setid.mat", "imagelabels.mat"), "jpg", "is the set 'flowers102', .*as flowers-102/"),
        (
            ("loose_crop/1.jpg", "meta/ijbc_face_tid_mid.txt"),
            "loose_crop",
            "is the set 'ijb-c', which is only tested on",
        ),
        (("jpg/1.jpg", "gnd_roxford5k.pkl"), "jpg", "is the set 'roxford5k', which is only tested on"),
        (("jpg/eiffel/1.jpg", "gnd_rparis6k.pkl"), "jpg/eiffel", "is the set 'rparis6k', which is only tested on"),
    ],
)
def test_folders_that_are_no_classes_are_refused_around_and_inside(
    files: tuple[str, ...], inside: str, message: str, tmp_path: Path
) -> None:
    """Of a set that lacks something, and of one that no path names."""
    root = tmp_path / "sets" / "it"
    write(root, *files)
    for place in (root.parent, root, root / inside):
        with pytest.raises(InputError, match=f"^{re.escape(str(root))} .*{message}"):
            classes(place)
    write(root, "photographs/a/1.jpg", "photographs/b/1.jpg")
    assert classes(root / "photographs") == ["a", "b"], "which lies there by chance"


@pytest.mark.parametrize(
    ("files", "named"),
    [
        (("train.txt", "val.txt", "test.txt", "train/a/1.jpg", "train/b/1.jpg", "test/a/1.jpg"), "train"),
        (("train/a/0000_1.jpg", "train/b/1.jpg", "test/a/1.jpg"), ""),
        (("img/a/1.jpg", "img/b/1.jpg", "list.txt"), "img"),
        ((f"train/{PERSON}", f"train/{PERSON.replace('0000/', '0001/')}"), "train"),
        (("train/a/1.jpg", "val/a/1.jpg", "train/b/1.jpg"), "train"),
        (("images.txt", "classes.txt", "images/a/1.jpg", "images/b/1.jpg"), "images"),
    ],
)
def test_folders_of_anything_are_no_known_set(files: tuple[str, ...], named: str, tmp_path: Path) -> None:
    write(tmp_path, *files)
    assert len(classes(tmp_path / named)) == 2


def test_every_set_says_which_folders_are_its_own() -> None:
    assert PARTS.keys() == {*(name for name, _ in FORMS), *(name for name, *_ in MARKS), *ELSEWHERE}
