"""Sets in their published layouts, each as a toy copy: files, classes, splits and cameras."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import published_toys
from evergallery.data.image_set import ImageSet
from evergallery.data.images import Preprocessing
from evergallery.data.known_sets import PLAIN, layout_of
from evergallery.data.listing import SPLITS
from evergallery.data.published import LAYOUTS
from evergallery.data.published_files import COMMON
from evergallery.data.sources import load
from evergallery.errors import InputError
from evergallery.evaluation import measure, protocol
from published_toys import make_published

SMALL = Preprocessing(size=8)
Fact = tuple[str, str, str, str | None]


def paint(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (9, 9), (len(str(path)) % 256, sum(map(ord, name)) % 256, 7)).save(path)


def facts(images: ImageSet, root: Path) -> set[Fact]:
    assert images.split is not None
    cameras = [None] * len(images) if images.cameras is None else images.cameras.tolist()
    return {
        (str(Path(uri).relative_to(root.absolute())), images.classes[label], split, camera)
        for uri, label, split, camera in zip(
            images.uris, images.labels.tolist(), images.split.tolist(), cameras, strict=True
        )
    }


def dogs(root: Path) -> set[Fact]:
    io = pytest.importorskip("scipy.io")
    a, b = "n02085620-Chihuahua/n02085620_5927.jpg", "n02110958-pug/n02110958_1.jpg"
    paint(root / "Images", a, b)
    for split, files in (("train", [a]), ("test", [b])):
        io.savemat(root / f"{split}_list.mat", {"file_list": np.array(files, dtype=object)})
    return {(f"Images/{a}", "n02085620-Chihuahua", "train", None), (f"Images/{b}", "n02110958-pug", "test", None)}


def inshop(root: Path) -> set[Fact]:
    rows = [("img/WOMEN/Tees/id_1/1.jpg", "id_1", "train"), ("img/MEN/Tees/id_2/1.jpg", "id_2", "query"),
            ("img/MEN/Tees/id_2/2.jpg", "id_2", "gallery")]  # fmt: skip
    paint(root, *(row[0] for row in rows))
    lines = ["3", "image_name item_id evaluation_status", *("  ".join(row) for row in rows)]
    (root / "Eval").mkdir(exist_ok=True)
    (root / "Eval/list_eval_partition.txt").write_text("\n".join(lines))
    return {(*row, None) for row in rows}


def deepfashion2(root: Path) -> set[Fact]:
    def item(style: int, *box: float) -> dict[str, Any]:
        return {"style": style, "category_id": 4, "bounding_box": box}

    described = {
        "train/000001": ("user", {"item1": item(1, 0, 0, 4, 4), "item2": item(2, 4, 0, 9, 9)}),
        "train/000002": ("shop", {"item1": item(0, 0, 0, 4, 4)}),
        "validation/000001": ("user", {"item1": item(1, 0, 0, 4, 4), "item2": item(0, 0, 0, 9, 9)}),
        "validation/000002": ("shop", {"item1": item(1, 0, 0, 4, 4), "item2": item(0, 2, 2, 9, 9)}),
    }
    for name, (source, items) in described.items():
        part, _, number = name.partition("/")
        paint(root, f"{part}/image/{number}.jpg")
        (root / part / "annos").mkdir(exist_ok=True)
        (root / part / "annos" / f"{number}.json").write_text(json.dumps({"source": source, "pair_id": 31, **items}))
    return {
        ("train/image/000001.jpg", "train 000031-1", "train", None),
        ("train/image/000001.jpg", "train 000031-2", "train", None),
        ("validation/image/000001.jpg", "validation 000031-1", "query", None),
        ("validation/image/000002.jpg", "validation 000031-1", "gallery", None),
        ("validation/image/000002.jpg", "validation 0", "gallery", None),
    }


def persons(train: str, query: str, gallery: str, ending: str) -> Callable[[Path], set[Fact]]:
    def make(root: Path) -> set[Fact]:
        rows = [(f"{train}/0002_c1{ending}", "0002", "train", "1"), (f"{query}/0005_c3{ending}", "0005", "query", "3"),
                (f"{gallery}/0005_c6{ending}", "0005", "gallery", "6"),
                (f"{gallery}/0000_c2{ending}", "0000", "gallery", "2")]  # fmt: skip
        paint(root, f"{gallery}/-1_c1{ending}", *(row[0] for row in rows))
        return set(rows)

    return make


def veri776(root: Path) -> set[Fact]:
    rows = [("image_train/0001_c001_00016450_0.jpg", "0001", "train", "001"),
            ("image_query/0002_c002_00030600_0.jpg", "0002", "query", "002"),
            ("image_test/0002_c003_00030600_0.jpg", "0002", "gallery", "003")]  # fmt: skip
    paint(root, *(row[0] for row in rows))
    return set(rows)


def msmt17(root: Path) -> set[Fact]:
    names = {
        "train": ("train", "0000/0000_000_01_0303morning_0015_0.jpg"), "val": ("train", "0001/0001_000_02_0303noon_1_0.jpg"),
        "query": ("test", "0000/0000_000_03_0303morning_0015_0.jpg"), "gallery": ("test", "0000/0000_001_14_0303noon_2_0.jpg"),
    }  # fmt: skip
    found: set[Fact] = set()
    for name, (part, path) in names.items():
        paint(root / part, path)
        number = int(path[:4])
        (root / f"list_{name}.txt").write_text(f"{path} {number}\n")
        split = "train" if part == "train" else name
        found.add((f"{part}/{path}", f"{part} {number:04d}", split, path.split("_")[2]))
    return found


def by_folder(root: Path) -> set[Fact]:
    rows = [("train/n01440764/a.jpg", "n01440764", "train", None), ("train/n01443537/b.jpg", "n01443537", "train", None),
            ("val/n01440764/c.jpg", "n01440764", "test", None)]  # fmt: skip
    paint(root, *(row[0] for row in rows), "test/of_unknown_class.jpg")
    return set(rows)


def omniglot(root: Path) -> set[Fact]:
    rows = [("images_background/Greek/character01/0394_01.png", "Greek/character01", "train", None),
            ("images_evaluation/Tengwar/character02/1_01.png", "Tengwar/character02", "evaluation", None)]  # fmt: skip
    paint(root, *(row[0] for row in rows))
    return set(rows)


def grocery(root: Path) -> set[Fact]:
    found: set[Fact] = set()
    for split in ("train", "val", "test"):
        path = f"{split}/Fruit/Apple/Golden-Delicious/Golden-Delicious_001.jpg"
        paint(root, path)
        (root / f"{split}.txt").write_text(f"{path}, 0, 0\n")
        found.add((path, "000_Golden-Delicious", split, None))
    return found


def gldv2(root: Path) -> set[Fact]:
    paths = ["train/0/1/2/012abc.jpg", "train/f/f/0/ff01.jpg", "train/a/b/c/abc.jpg"]
    paint(root, *paths)
    (root / "train_clean.csv").write_text("landmark_id,images\n1,012abc ff01\n7,abc\n")
    return {(paths[0], "1", "train", None), (paths[1], "1", "train", None), (paths[2], "7", "train", None)}


def ms_celeb(root: Path) -> set[Fact]:
    paint(root, "m.01/0.jpg", "m.02/0.jpg")
    (root / "list.txt").write_text("m.01/0.jpg 0\nm.02/0.jpg 1\n")
    return {("m.01/0.jpg", "0", "train", None), ("m.02/0.jpg", "1", "train", None)}


TOYS: dict[str, Callable[[Path], set[Fact]]] = {
    "dogs": dogs,
    "inshop": inshop,
    "deepfashion2": deepfashion2,
    "market1501": persons("bounding_box_train", "query", "bounding_box_test", "s1_000451_03.jpg"),
    "dukemtmc": persons("bounding_box_train", "query", "bounding_box_test", "_f0046182.jpg"),
    "veri776": veri776,
    "msmt17": msmt17,
    "imagenet": by_folder,
    "places365": by_folder,
    "omniglot": omniglot,
    "grocery": grocery,
    "gldv2": gldv2,
    "ms-celeb": ms_celeb,
}


@pytest.mark.parametrize("name", TOYS)
def test_a_toy_copy_is_read_as_published(name: str, tmp_path: Path) -> None:
    _, candidates, needed = LAYOUTS[name]
    root = tmp_path / candidates[0]
    root.mkdir(parents=True)
    expected = TOYS[name](root)
    assert {"train"} <= {split for _, _, split, _ in expected} <= {*SPLITS.values(), "evaluation"}, "known to learn"
    assert facts(load(name, SMALL, data_dir=tmp_path), root) == expected
    assert facts(load(name, SMALL, data_dir=root), root) == expected
    if name in ("imagenet", "places365", "ms-celeb"):
        assert layout_of(root) is None, "many sets look like that"
    else:
        assert layout_of(root) == name
        assert facts(load(root, SMALL), root) == expected, "its folders are not taken for classes"
    # Without one of its parts it is not complete, and says of which.
    lost = needed[-1]
    for path in (root / lost, root / "Eval" / lost):
        if path.exists():
            path.rename(tmp_path / "lost")
    if name == "ms-celeb":
        assert load(name, SMALL, data_dir=tmp_path).classes == ("m.01", "m.02"), "folders, where there is no list"
        root.rename(tmp_path / "elsewhere")
    with pytest.raises(InputError, match=f"The set '{name}' is not complete: .* should hold .*, and lacks .*{lost}"):
        load(name, SMALL, data_dir=tmp_path)


@pytest.mark.parametrize("cameras", [True, False])
def test_a_table_has_junk_where_the_published_set_has_it(cameras: bool, tmp_path: Path) -> None:
    """As Market-1501: junk is left out, a distractor is a wrong answer; the metrics are those of the published folder."""
    root = make_published("market1501", tmp_path, classes=2, each=1)
    rows = ["path,label,split" + ",camera" * cameras]
    for split, folder in (("train", "bounding_box_train"), ("query", "query"), ("gallery", "bounding_box_test")):
        for path in sorted((root / folder).iterdir()):
            label, camera = path.name.split("_")[:2]
            rows.append(f"{path},{label},{split}" + f",{camera[1]}" * cameras)
    odd = next((root / "bounding_box_train").iterdir())
    rows.append(f"{odd},-1,train" + ",1" * cameras)  # Of the training part it is no junk.
    (tmp_path / "t.csv").write_text("\n".join(rows))
    table, published = load(tmp_path / "t.csv", SMALL), load(root, SMALL)
    junk = [row.partition(",")[0] for row in rows if ",-1,gallery" in row]
    assert len(junk) == 2
    if not cameras:
        assert set(junk) <= set(table.uris)
        assert table.skipped == ()
        return
    assert [skipped.uri for skipped in table.skipped] == junk
    assert {skipped.reason for skipped in table.skipped} == {
        "it is junk: its label is -1, in the gallery of a table with cameras."
    }
    assert [
        uri for uri, label in zip(table.uris, table.labels.tolist(), strict=True) if table.classes[label] == "-1"
    ] == [str(odd)]
    found = [_metrics(images) for images in (table, published)]
    assert found[0] == found[1]
    assert 0 < found[0]["mAP"] < 1, "there are wrong answers: the distractors"


def _metrics(images: ImageSet) -> dict[str, float]:
    """Of embeddings that are drawn from what an image holds."""
    drawn = [np.random.default_rng(int(content[:8], 16)).normal(size=4) for content in images.hashes]
    vectors = np.array(drawn, dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return measure(protocol(images), vectors, vectors, [], full_ranking=True)["all"].values


@pytest.mark.parametrize(
    ("name", "file", "text", "message"),
    [
        ("inshop", "Eval/list_eval_partition.txt", "1\nimage\n", "lists no image"),
        ("msmt17", "list_query.txt", "odd.jpg x\n", "list_query.txt has the line odd.jpg x"),
        ("gldv2", "train_clean.csv", "landmark_id,images\n1\n", "has 1 cells in line 2 in place of 2"),
        ("deepfashion2", "train/annos/000001.json", '{"item1": {"style": 1}}', "000001.json cannot be read"),
        ("dogs", "test_list.mat", "no matrix", "test_list.mat cannot be read"),
        ("grocery", "val.txt", "val/a.jpg\n", "val.txt has the line 'val/a.jpg' without the number of a class"),
        ("ms-celeb", "list.txt", "alone\n", "without 2 fields"),
    ],
)
def test_damaged_tables_are_named(name: str, file: str, text: str, message: str, tmp_path: Path) -> None:
    TOYS[name](tmp_path)
    (tmp_path / file).write_text(text)
    with pytest.raises(InputError, match=message):
        load(name, SMALL, data_dir=tmp_path)


@pytest.mark.parametrize("name", sorted(published_toys.TOYS.keys() & LAYOUTS.keys()))
def test_a_folder_beside_the_right_one_is_told_apart(name: str, tmp_path: Path) -> None:
    root = make_published(name, tmp_path / "sets", classes=2, each=1)
    inside = next(path for path in root.iterdir() if path.is_dir())
    for place in (inside, tmp_path):
        with pytest.raises(InputError, match=f"{re.escape(str(root))} holds all of it: name that with --data-dir"):
            load(name, SMALL, data_dir=place)
    if name not in PLAIN:
        with pytest.raises(InputError, match=f"holds the set '{name}', in {re.escape(str(root))}: name that folder"):
            load(root.parent, SMALL)


def test_a_named_set_is_no_folder_of_that_name_where_it_is_said_where_sets_lie(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_published("ms-celeb", tmp_path, classes=3, each=2)
    monkeypatch.chdir(tmp_path)
    named, folder = load("ms-celeb", SMALL, data_dir=Path()), load("ms-celeb", SMALL)
    assert named.classes == ("0", "1", "2"), "of its list"
    assert folder.classes == ("m.0", "m.1", "m.2")


@pytest.mark.parametrize("name", sorted(LAYOUTS.keys() - PLAIN - {"inshop"}))
def test_most_of_a_set_is_no_folder_of_classes(name: str, tmp_path: Path) -> None:
    root = make_published(name, tmp_path, classes=2, each=2)
    needed = LAYOUTS[name][2]
    own = next((entry for entry in needed if entry not in COMMON), needed[0])
    lost = next(entry for entry in reversed(needed) if entry != own)
    (root / lost).rename(tmp_path / "lost")
    with pytest.raises(InputError, match=f"looks like the set .*'{name}' .*lacks .*{lost}.*: unpack the set again"):
        load(root, SMALL)


@pytest.mark.parametrize("name", ["market1501", "dukemtmc", "veri776", "inshop"])
def test_who_is_asked_for_is_not_among_those_who_are_learned(name: str, tmp_path: Path) -> None:
    """Parts of two sets in one folder, and a query among the training images."""
    root = make_published(name, tmp_path, classes=2, each=1)
    if name == "inshop":
        table = root / "list_eval_partition.txt"
        table.write_text(table.read_text() + "\nimg/a.jpg id_00000002 train")
    else:
        train, query, _ = LAYOUTS[name][2]
        (root / train / "0001_c1_other_1.jpg").touch()
        with pytest.raises(InputError, match=r"0001_c1_other_1\.jpg is not named like"):
            load(name, SMALL, data_dir=tmp_path)
        (root / train / "0001_c1_other_1.jpg").unlink()
        asked = min((root / query).iterdir())
        asked.rename(root / train / asked.name)
    with pytest.raises(InputError, match="has images of (0801|id_00000002) to learn from and among its queries"):
        load(name, SMALL, data_dir=tmp_path)


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_has_a_toy(name: str) -> None:
    assert name in TOYS or name in ("cub200", "cars196", "sop"), "those are tested with the named sets"


def beside(root: Path) -> None:
    """What file managers leave in folders, and lists as another system writes them."""
    for folder in (root, *(path for path in root.rglob("*") if path.is_dir())):
        for file in [path for path in folder.iterdir() if path.is_file()]:
            (folder / f"._{file.name}").write_bytes(b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X")
        for name in (".DS_Store", "Thumbs.db", "desktop.ini"):
            (folder / name).write_bytes(b"\xd0\xcf\x11\xe0")
    for table in (*root.rglob("[!.]*.txt"), *root.rglob("[!.]*.csv")):
        table.write_bytes(b"\xef\xbb\xbf" + b"\r\n".join([*table.read_bytes().splitlines(), b"", b""]))


@pytest.mark.parametrize("name", TOYS)
def test_a_copy_from_another_system_is_read_alike(name: str, tmp_path: Path) -> None:
    expected = TOYS[name](tmp_path)
    beside(tmp_path)
    images = load(name, SMALL, data_dir=tmp_path)
    assert facts(images, tmp_path) == expected
    assert len(images) == len(expected)
    assert not images.skipped


@pytest.mark.parametrize("name", ["market1501", "dukemtmc", "veri776", "omniglot", "imagenet", "places365"])
def test_endings_of_names_may_be_of_another_kind(name: str, tmp_path: Path) -> None:
    """Of the sets that no list names: an ending that is not looked for loses an image without a word."""
    expected = TOYS[name](tmp_path)
    for number, path in enumerate(sorted(path for path in tmp_path.rglob("*") if path.is_file())):
        path.rename(path.with_suffix([".JPG", ".jpeg", ".PNG"][number % 3]))
    assert len(load(name, SMALL, data_dir=tmp_path)) == len(expected)


@pytest.mark.parametrize("name", TOYS)
@pytest.mark.parametrize("is_empty", [False, True])
def test_an_archive_in_a_folder_of_its_own_is_no_set_of_other_classes(
    name: str, is_empty: bool, tmp_path: Path
) -> None:
    """Each folder lies in one of its own name, or has nothing in it."""
    TOYS[name](tmp_path)
    for folder in [path for path in tmp_path.iterdir() if path.is_dir() and path.name != "Eval"]:
        whole = folder.rename(tmp_path / "whole")
        folder.mkdir()
        if is_empty:
            shutil.rmtree(whole)
        else:
            whole.rename(folder / folder.name)
    with pytest.raises(
        InputError, match="move them up|unpack it again|is not complete|unpack or copy them|holds no images"
    ):
        load(name, SMALL, data_dir=tmp_path)


def test_a_class_may_be_called_like_a_split(tmp_path: Path) -> None:
    paint(
        tmp_path,
        *(f"{split}/{name}/{n}.jpg" for split in ("train", "test") for name in ("train", "bus") for n in (1, 2)),
    )
    assert load(tmp_path, SMALL).classes == ("bus", "train")


def test_in_shop_in_its_own_folder_at_its_full_size_and_lists_without_their_first_lines(tmp_path: Path) -> None:
    expected = inshop(tmp_path / "In-shop Clothes Retrieval Benchmark")
    assert len(load("inshop", SMALL, data_dir=tmp_path)) == len(expected)
    tmp_path = tmp_path / "In-shop Clothes Retrieval Benchmark"
    (tmp_path / "Eval").rename(tmp_path / "Anno")
    (tmp_path / "Img").mkdir()
    (tmp_path / "img").rename(tmp_path / "Img" / "img_highres")
    table = tmp_path / "Anno" / "list_eval_partition.txt"
    table.write_text("\n".join(table.read_text().splitlines()[2:]))
    moved = {(path.replace("img/", "Img/img_highres/", 1), *rest) for path, *rest in expected}
    assert facts(load("inshop", SMALL, data_dir=tmp_path), tmp_path) == moved
    table.write_text(table.read_text() + "\nimg/MEN/Tees/id_2/3.jpg id_2 Gallery")
    with pytest.raises(
        InputError, match="has the line 'img/MEN/Tees/id_2/3.jpg id_2 Gallery', which is no  IMAGE ITEM"
    ):
        load("inshop", SMALL, data_dir=tmp_path)


def test_an_item_of_fashion_is_cut_to_its_box(tmp_path: Path) -> None:
    deepfashion2(tmp_path)
    picture = np.zeros((9, 9, 3), dtype=np.uint8)
    picture[:, 4:] = 255
    Image.fromarray(picture).save(tmp_path / "train/image/000001.jpg", quality=100)
    images = load("deepfashion2", SMALL, data_dir=tmp_path)
    left, right = (images.batch(np.flatnonzero(images.labels == label)) for label in (0, 1))
    assert [images.classes[label] for label in (0, 1)] == ["train 000031-1", "train 000031-2"]
    assert left.max() < 40
    assert right.min() > 200
    assert len(set(images.hashes)) == len(images), "two items of one photograph are two images"


def test_cars_in_two_parts_with_their_development_kit(tmp_path: Path) -> None:
    io = pytest.importorskip("scipy.io")
    root = tmp_path / "stanford_cars"
    paint(root, "cars_train/00001.jpg", "cars_train/00002.jpg", "cars_test/00001.jpg")
    (root / "devkit").mkdir()
    names = ["AM General Hummer SUV 2000", "Acura RL Sedan 2012"]
    io.savemat(root / "devkit/cars_meta.mat", {"class_names": np.array(names, dtype=object)})
    types = [("bbox_x1", int), ("class", int), ("fname", object)]
    tables = {"devkit/cars_train_annos.mat": [(1, 2, "00001.jpg"), (3, 1, "00002.jpg")],
              "cars_test_annos_withlabels.mat": [(1, 1, "00001.jpg")]}  # fmt: skip
    for table, rows in tables.items():
        io.savemat(root / table, {"annotations": np.array(rows, dtype=types)})
    expected = {
        ("cars_train/00001.jpg", names[1], "train", None), ("cars_train/00002.jpg", names[0], "train", None),
        ("cars_test/00001.jpg", names[0], "test", None),
    }  # fmt: skip
    assert facts(load("cars196", SMALL, data_dir=tmp_path), root) == expected
    assert layout_of(root) == "cars196"
    assert facts(load(root, SMALL), root) == expected, "its folders are not taken for classes"
    io.savemat(root / "devkit/cars_meta.mat", {"class_names": np.array(names[:1], dtype=object)})
    with pytest.raises(InputError, match="cars_train_annos.mat cannot be read"):
        load("cars196", SMALL, data_dir=tmp_path)
    (root / "cars_test_annos_withlabels.mat").unlink()
    for place in (tmp_path, root):
        with pytest.raises(
            InputError, match=r"stanford_cars should hold .*, and lacks cars_test_annos_withlabels\.mat\."
        ):
            load("cars196", SMALL, data_dir=place)


class TestImageNetAsItUnpacks:
    """The validation images side by side, and what says their classes elsewhere."""

    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        root = tmp_path / "ILSVRC" / "Data" / "CLS-LOC"
        paint(root, "test/ILSVRC2012_test_00000001.JPEG")
        paint(root, "train/n01440764/n01440764_1.JPEG", "train/n01443537/n01443537_7.JPEG")
        paint(root, *(f"val/ILSVRC2012_val_{number:08d}.JPEG" for number in (1, 2, 3)))
        return root

    def expected(self) -> set[Fact]:
        learned = {(f"train/{name}/{name}_{number}.JPEG", name, "train", None) for name, number in TRAINED}
        classes = ("n01443537", "n01440764", "n01443537")
        return learned | {
            (f"val/ILSVRC2012_val_{number:08d}.JPEG", name, "test", None) for number, name in enumerate(classes, 1)
        }

    def test_as_kaggle_has_it(self, root: Path, tmp_path: Path) -> None:
        rows = ("3,n01443537 1 2 3 4", "1,n01443537 9 9 9 9 n01443537 1 1 2 2", "2,n01440764 1 2 3 4")
        table = "\n".join(["ImageId,PredictionString", *(f"ILSVRC2012_val_0000000{row}" for row in rows)])
        (tmp_path / "LOC_val_solution.csv").write_text(table)
        assert facts(load("imagenet", SMALL, data_dir=tmp_path), root) == self.expected()

    def test_by_the_development_kit(self, root: Path, tmp_path: Path) -> None:
        io = pytest.importorskip("scipy.io")
        kit = root / "ILSVRC2012_devkit_t12" / "data"
        kit.mkdir(parents=True)
        # Numbers of the kit are not in the order of the names, and go on with synsets that have children.
        synsets = [(1, "n01443537", "goldfish"), (2, "n01440764", "tench"), (1001, "n02512053", "fish")]
        types = [("ILSVRC2012_ID", int), ("WNID", object), ("words", object)]
        io.savemat(kit / "meta.mat", {"synsets": np.array(synsets, dtype=types)})
        (kit / "ILSVRC2012_validation_ground_truth.txt").write_text("1\n2\n1\n")
        assert facts(load("imagenet", SMALL, data_dir=tmp_path), root) == self.expected()
        (kit / "ILSVRC2012_validation_ground_truth.txt").write_text("1\n2\n")
        with pytest.raises(InputError, match=r"class of .*val_00000003"):
            load("imagenet", SMALL, data_dir=tmp_path)
        (kit / "ILSVRC2012_validation_ground_truth.txt").write_text("1\n2\n7\n")
        with pytest.raises(InputError, match="download it again"):
            load("imagenet", SMALL, data_dir=tmp_path)

    def test_a_folder_above_all_of_it_is_told_which_to_name(self, root: Path, tmp_path: Path) -> None:
        place = tmp_path / "sets" / "competition"
        place.mkdir(parents=True)
        (tmp_path / "ILSVRC").rename(place / "ILSVRC")
        whole = re.escape(str(place / root.relative_to(tmp_path)))
        with pytest.raises(InputError, match=f"{whole} holds all of it: name that with --data-dir"):
            load("imagenet", SMALL, data_dir=tmp_path / "sets")

    def test_without_either_it_is_said_what_is_missing(self, root: Path, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="put LOC_val_solution.csv or ILSVRC2012_devkit_t12/ beside it"):
            load("imagenet", SMALL, data_dir=tmp_path)


@pytest.mark.parametrize(("learned", "tested"), [("data_256_standard", "val_256"), ("data_large", "val_large")])
def test_places_by_the_lists_that_torchvision_reads(learned: str, tested: str, tmp_path: Path) -> None:
    """Classes are called as in the other layout, so that their order and halves are the same."""
    outdoor, airfield = "/a/apartment_building/outdoor", "/a/airfield"
    paint(tmp_path / learned, f"{outdoor[1:]}/00000001.jpg", f"{airfield[1:]}/00000001.jpg")
    paint(tmp_path / tested, "Places365_val_00000001.jpg")
    (tmp_path / "places365_train_standard.txt").write_text(f"{airfield}/00000001.jpg 0\n{outdoor}/00000001.jpg 9\n")
    (tmp_path / "categories_places365.txt").write_text(f"{airfield} 0\n{outdoor} 9\n")
    table = tmp_path / "places365_val.txt"
    table.write_text("Places365_val_00000001.jpg 9\n")
    expected = {
        (f"{learned}{airfield}/00000001.jpg", "airfield", "train", None),
        (f"{learned}{outdoor}/00000001.jpg", "apartment_building-outdoor", "train", None),
        (f"{tested}/Places365_val_00000001.jpg", "apartment_building-outdoor", "test", None),
    }
    assert facts(load("places365", SMALL, data_dir=tmp_path), tmp_path) == expected
    assert layout_of(tmp_path) == "places365"
    assert facts(load(tmp_path, SMALL), tmp_path) == expected, "its folders are not taken for classes"
    table.write_text("Places365_val_00000001.jpg 7\n")
    with pytest.raises(InputError, match=r"places365_val.txt cannot be read \('7'\)"):
        load("places365", SMALL, data_dir=tmp_path)
    table.write_text("Places365_val_00000001.jpg 9\n")
    (tmp_path / "filelist_places365-standard").mkdir()
    for file in tmp_path.glob("*.txt"):
        file.rename(tmp_path / "filelist_places365-standard" / file.name)
    assert facts(load("places365", SMALL, data_dir=tmp_path), tmp_path) == expected, "with its lists as they unpack"
    shutil.rmtree(tmp_path / "filelist_places365-standard")
    with pytest.raises(
        InputError, match=r"lacks places365_train_standard\.txt, places365_val\.txt, categories_places365"
    ):
        load("places365", SMALL, data_dir=tmp_path)


@pytest.mark.parametrize(
    ("file", "row", "above"),
    [
        ("list.txt", "{path} {label}", ""),
        ("train.lst", "7\t{label}.000000\t{path}", ""),
        ("train.lst", "1\t{path}\t{label}\t0\t0\t112\t112", ""),
        (None, "", ""),
        (None, "", "imgs/"),
    ],
)
def test_faces_by_a_list_or_a_folder_for_each_person(file: str | None, row: str, above: str, tmp_path: Path) -> None:
    root = tmp_path / "ms-celeb"
    expected = {(f"{above}{label}/face {n}.jpg", label, "train", None) for label in ("4", "11") for n in (1, 2)}
    paint(root, *(path for path, *_ in expected))
    if file is not None:
        (root / file).write_text("\n".join(row.format(path=path, label=label) for path, label, *_ in expected))
    (root / "train.rec").touch()
    for place in (tmp_path, root):
        assert facts(load("ms-celeb", SMALL, data_dir=place), root) == expected
    if above:
        root = root.rename(tmp_path / "faces")
        assert facts(load("ms-celeb", SMALL, data_dir=root), root) == expected


def test_faces_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"hold list.txt \(or train.lst, or a folder for each person, in it or in imgs/\)"
    ):
        load("ms-celeb", SMALL, data_dir=tmp_path)
    root = tmp_path / "ms-celeb"
    root.mkdir()
    (root / "train.rec").touch()
    with pytest.raises(InputError, match=r"train.rec holds MXNet's records, which are not read: unpack them"):
        load("ms-celeb", SMALL, data_dir=tmp_path)
    (root / "train.lst").write_text("0 1.0 a.jpg\n")
    with pytest.raises(InputError, match=r"train.lst has the line '0 1.0 a.jpg', which is no INDEX, LABEL and PATH"):
        load("ms-celeb", SMALL, data_dir=tmp_path)


TRAINED = (("n01440764", 1), ("n01443537", 7))
