"""Sources: every way to name images gives the same image set, and every mistake one sentence."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from evergallery.data import sources
from evergallery.data.image_set import ImageSet
from evergallery.data.images import Preprocessing, read_pixels
from evergallery.data.sources import Decoding, Requirements, load, prepare
from evergallery.errors import InputError, MissingExtraError

SMALL = Preprocessing(size=4)


def paint(path: Path, red: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (6, 5), (red, 0, 0)).save(path)
    return path


def reds(images: ImageSet) -> list[int]:
    made: list[int] = images.pixels[images.rows][:, 0, 0, 0].tolist()
    return made


def names(images: ImageSet) -> list[str | None]:
    return [images.classes[label] if label >= 0 else None for label in images.labels]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for index, name in enumerate(["dog/b.png", "cat/z.png", "cat/deep/a.png", "dog/a.png"]):
        paint(tmp_path / "images" / name, 10 * index)
    hidden = (".hidden/x.png", "cat/.DS_Store", "cat/._z.png", "dog/.git/y.png")
    of_systems = ("__MACOSX/x.png", "@eaDir/x.png", "cat/@eaDir/a.png/small.png", "#recycle/x.png")
    for junk in (*hidden, *of_systems, "cat/notes.txt"):
        path = tmp_path / "images" / junk
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"junk")
    return tmp_path / "images"


def test_folder(folder: Path) -> None:
    images = load(folder, SMALL)
    assert names(images) == ["cat", "cat", "dog", "dog"]
    assert reds(images) == [20, 10, 30, 0]
    assert images.uris[0] == str(folder / "cat/deep/a.png")
    assert images.split is None
    assert images.skipped == ()


def test_addresses_do_not_lead_through_the_folder_that_was_named(folder: Path) -> None:
    found = load(folder / "cat" / ".." / ".." / folder.name, SMALL)
    assert found.uris == load(folder, SMALL).uris
    assert not any(".." in uri for uri in found.uris)


def test_a_table_may_lead_up_and_down_again(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "tables" / "deep").mkdir(parents=True)
    (tmp_path / "linked").symlink_to(tmp_path / "tables" / "deep")
    name = (folder / "cat" / "deep" / "a.png").relative_to(tmp_path)
    for place, row in {
        tmp_path / "tables": f"../{name}",
        tmp_path / "tables" / "deep": f"../x/../../{name}",
        # Up from a link is where it leads to, and not where it lies.
        tmp_path / "linked": f"../../{name}",
    }.items():
        (tmp_path / "tables" / "x").mkdir(exist_ok=True)
        (place / "t.csv").write_text(f"path,label\n{row},cat\n")
        assert load(place / "t.csv", SMALL).uris == (str(folder / "cat" / "deep" / "a.png"),)


def test_a_table_may_come_from_windows(folder: Path, tmp_path: Path) -> None:
    paint(tmp_path / "images" / "cat" / "a\\b.png")
    (tmp_path / "t.csv").write_text("path,label\r\nimages\\cat\\deep\\a.png,cat\r\nimages/cat/a\\b.png,cat\r\n")
    assert load(tmp_path / "t.csv", SMALL).uris == (
        str(folder / "cat" / "deep" / "a.png"),
        str(folder / "cat" / "a\\b.png"),
    )


def test_folder_with_splits(tmp_path: Path) -> None:
    for index, name in enumerate(["train/cat/a.png", "train/dog/b.png", "test/cat/c.png", "val/dog/d.png"]):
        paint(tmp_path / name, index)
    images = load(tmp_path, SMALL)
    assert images.classes == ("cat", "dog")
    assert images.split is not None
    found = set(zip(reds(images), names(images), images.split.tolist(), strict=True))
    assert found == {(0, "cat", "train"), (1, "dog", "train"), (2, "cat", "test"), (3, "dog", "val")}
    # A split that is lost is none that a set never had: something else would be tested on in its place.
    (tmp_path / "train/dog/b.png").write_bytes(b"")
    assert len(load(tmp_path, SMALL)) == 3
    (tmp_path / "test/cat/c.png").write_bytes(b"")
    with pytest.raises(
        InputError, match=r"None of the 1 images of .*'s split 'test' can be read, the first: .*c\.png: "
    ):
        load(tmp_path, SMALL)
    to_learn = Requirements(every_split=False)
    assert len(prepare(tmp_path, SMALL, to_learn, Decoding())()) == 2
    (tmp_path / "train/cat/a.png").unlink()
    (tmp_path / "train/cat/a.png").symlink_to("nowhere")
    with pytest.raises(InputError, match=r"None of the 2 images of .*'s split 'train' can be read"):
        prepare(tmp_path, SMALL, to_learn, Decoding())()


def test_flat_folder_and_single_image(tmp_path: Path) -> None:
    paint(tmp_path / "b.png", 2)
    picture = paint(tmp_path / "a.png", 1)
    images = load(tmp_path, SMALL, require_labels=False)
    assert reds(images) == [1, 2]
    assert names(images) == [None, None]
    assert reds(load(picture, SMALL, require_labels=False)) == [1]
    with pytest.raises(InputError, match="no folder per class"):
        load(tmp_path, SMALL)
    with pytest.raises(InputError, match="no source of labelled"):
        load(picture, SMALL)


def table(path: Path, rows: Sequence[Sequence[str | None]]) -> Path:
    if path.suffix == ".csv":
        path.write_text("\n".join(",".join(cell or "" for cell in row) for row in rows) + "\n", encoding="utf-8-sig")
    else:
        arrow = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        columns = dict(zip(rows[0], zip(*rows[1:], strict=True), strict=True))
        parquet.write_table(arrow.table({name: list(column) for name, column in columns.items()}), path)
    return path


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_table(tmp_path: Path, kind: str) -> None:
    for index in range(3):
        paint(tmp_path / f"p/{index}.png", index)
    rows: list[list[str | None]] = [
        ["path", "label", "split", "camera", "item_id"],
        ["p/1.png", "dog", "train", "7", "x"],
        ["p/0.png", "cat", "test", "8", None],
        ["p/2.png", "dog", "train", "7", "y"],
    ]
    images = load(table(tmp_path / f"t.{kind}", rows), SMALL)
    assert reds(images) == [1, 0, 2]
    assert names(images) == ["dog", "cat", "dog"]
    assert images.split is not None
    assert images.split.tolist() == ["train", "test", "train"]
    assert images.cameras is not None
    assert images.cameras.tolist() == ["7", "8", "7"]
    assert images.item_ids == ("x", None, "y")


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([["file", "label"], ["a.png", "cat"]], "no column 'path'"),
        ([["path"], ["a.png"]], "no column 'label'"),
        ([["path", "label"], ["a.png", "cat"], ["a.png", None]], "no label in row 2"),
        ([["path", "label"], [None, "cat"]], "no path in row 1"),
        ([["path", "label", "item_id"], ["a.png", "cat", "i"], ["a.png", "cat", "i"]], "item_id 'i' twice"),
    ],
)
def test_table_mistakes(tmp_path: Path, kind: str, rows: list[list[str | None]], message: str) -> None:
    paint(tmp_path / "a.png")
    with pytest.raises(InputError, match=message):
        load(table(tmp_path / f"t.{kind}", rows), SMALL)


def test_table_files_that_are_no_tables(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"path,label\n\xff\xfe,x\n")
    (tmp_path / "b.csv").write_text("path,label,label\na,b,c\n")
    (tmp_path / "c.csv").write_text("path,label\n")
    (tmp_path / "d.parquet").write_bytes(b"junk")
    for name, message in (("a.csv", "UTF-8"), ("b.csv", "two columns"), ("c.csv", "no rows"), ("d.parquet", "Parquet")):
        with pytest.raises(InputError, match=message):
            load(tmp_path / name, SMALL)


def test_parquet_without_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "t.parquet").touch()
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"evergallery\[parquet\]"):
        load(tmp_path / "t.parquet", SMALL)


def test_missing_file_of_a_table_is_skipped(tmp_path: Path) -> None:
    paint(tmp_path / "a.png", 9)
    images = load(table(tmp_path / "t.csv", [["path", "label"], ["gone.png", "cat"], ["a.png", "cat"]]), SMALL)
    assert reds(images) == [9]
    assert [skip.uri for skip in images.skipped] == [str(tmp_path / "gone.png")]
    assert "no such file" in images.skipped[0].reason


@pytest.mark.parametrize("shape", [(4, 4), (4, 4, 1), (4, 4, 3), (4, 4, 4), (8, 8), (8, 6, 3), (8, 8, 4)])
def test_arrays(tmp_path: Path, shape: tuple[int, ...]) -> None:
    levels = np.array([40, 80, 120], dtype=np.uint8)
    images = np.broadcast_to(levels.reshape(3, *(1 for _ in shape)), (3, *shape)).copy()
    if shape[2:] == (4,):
        images[..., 3] = 255
    np.savez(tmp_path / "a.npz", images=images, labels=np.array(["b", "a", "b"]), split=np.array(["train"] * 3))
    found = load(tmp_path / "a.npz", SMALL)
    assert reds(found) == [40, 80, 120]
    assert found.pixels.shape[1:] == (4, 4, 3)
    assert names(found) == ["b", "a", "b"]
    assert found.uris[1].endswith("a.npz#1")
    assert found.of_split("train").uris == found.uris


def test_transparent_arrays_lie_on_white(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=np.zeros((1, 4, 4, 4), np.uint8), labels=np.array(["a"]))
    assert reds(load(tmp_path / "a.npz", SMALL)) == [255]


def test_array_labels(tmp_path: Path) -> None:
    images = np.zeros((3, 4, 4), np.uint8)
    np.savez(tmp_path / "a.npz", images=images, labels=np.array([10, 2, 10]))
    assert names(load(tmp_path / "a.npz", SMALL)) == ["10", "2", "10"]
    np.savez(tmp_path / "b.npz", images=images, labels=np.array([2, 0, 2]), names=np.array(["x", "y", "z"]))
    assert names(load(tmp_path / "b.npz", SMALL)) == ["z", "x", "z"]
    np.savez(tmp_path / "c.npz", images=images)
    assert names(load(tmp_path / "c.npz", SMALL, require_labels=False)) == [None] * 3


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"labels": np.zeros(2, int)}, "no array 'images'"),
        ({"images": np.zeros((2, 4, 4), np.uint8)}, "no array 'labels'"),
        ({"images": np.zeros((2, 4, 4), np.uint8), "labels": np.zeros(3, int)}, "2 images and labels of shape"),
        ({"images": np.zeros((2, 4, 4)), "labels": np.zeros(2, int)}, "float64"),
        ({"images": np.zeros((2, 4, 4, 2), np.uint8), "labels": np.zeros(2, int)}, "shape"),
        ({"images": np.zeros((2, 4, 4), np.uint8), "labels": np.array([0, -1])}, "no label for image 1"),
        ({"images": np.zeros((2, 4, 4), np.uint8), "labels": np.zeros(2)}, "integers or strings"),
        ({"images": np.zeros((1, 4, 4), np.uint8), "labels": np.array([3]), "names": np.array(["a"])}, "only 1 names"),
        ({"images": np.array([{}], dtype=object), "labels": np.zeros(1, int)}, "plain arrays"),
    ],
)
def test_array_mistakes(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(InputError, match=message):
        load(tmp_path / "a.npz", SMALL)


def test_files_that_are_no_arrays(tmp_path: Path) -> None:
    with (tmp_path / "a.npz").open("wb") as file:
        np.save(file, np.zeros(3))
    (tmp_path / "b.npz").write_bytes(b"PK\x03\x04 junk")
    for name in ("a.npz", "b.npz"):
        with pytest.raises(InputError, match=r"cannot be read as an \.npz"):
            load(tmp_path / name, SMALL)


def test_folder_mistakes(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"There is no .*nowhere"):
        load(tmp_path / "nowhere", SMALL)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no images"):
        load(tmp_path / "empty", SMALL)
    with pytest.raises(InputError, match=r"The class 'cat' .* at least 3"):
        load(folder, SMALL, minimum_per_class=3)
    paint(folder / "loose.png")
    with pytest.raises(InputError, match="beside the class folders"):
        load(folder, SMALL)
    (folder / "loose.png").rename(folder / "dog" / "c.png")
    (folder / "yak").mkdir()
    with pytest.raises(InputError, match=r"class 'yak' .* no image"):
        load(folder, SMALL)


@pytest.mark.parametrize("pair", [("Cat", "cat"), ("a b", "a  b"), ("Caf\u00e9", "cafe\u0301")])
def test_class_names_that_look_alike(tmp_path: Path, pair: tuple[str, str]) -> None:
    for name in pair:
        paint(tmp_path / name / "a.png")
    with pytest.raises(InputError, match="two classes"):
        load(tmp_path, SMALL)


def test_names_of_one_look_are_one_class_and_others_are_not(tmp_path: Path) -> None:
    for folder, name in (
        ("a", "caf\u00e9"),
        ("b", "cafe\u0301"),
        ("b", "m2"),
        ("b", "m\u00b2"),
        ("b", "stra\u00dfe"),
        ("b", "strasse"),
    ):
        paint(tmp_path / folder / name / "a.png")
    shutil.copytree(tmp_path / "a", tmp_path / "b", dirs_exist_ok=True)
    found = load(tmp_path / "b", SMALL)
    assert sorted(found.classes) == sorted({"caf\u00e9", "m2", "m\u00b2", "stra\u00dfe", "strasse"})
    assert names(found).count("caf\u00e9") == 2


@pytest.mark.parametrize("cached", [False, True])
def test_corrupt_files_are_skipped_and_counted(folder: Path, tmp_path: Path, cached: bool) -> None:
    whole = (folder / "cat/z.png").read_bytes()
    (folder / "cat/broken.png").write_bytes(whole[:40])
    (folder / "dog/empty.jpg").touch()
    images = load(folder, SMALL, cache=tmp_path / "cache" if cached else None)
    assert [Path(skip.uri).name for skip in images.skipped] == ["broken.png", "empty.jpg"]
    assert images.skipped[1].reason == "the file is empty."
    assert reds(images) == [20, 10, 30, 0]
    (folder / "dog/a.png").write_bytes(b"")
    with pytest.raises(InputError, match=r"'dog' .* 1 readable image"):
        load(folder, SMALL, minimum_per_class=2)


def test_nothing_readable(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat/a.png").touch()
    with pytest.raises(InputError, match=r"None of the 1 images .*/a\.png: the file is empty"):
        load(tmp_path, SMALL)


def test_the_cache_saves_decoding(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[bytes] = []

    def counting(data: bytes, preprocessing: Preprocessing, **how: Any) -> np.ndarray:
        decoded.append(data)
        return read_pixels(data, preprocessing, **how)

    monkeypatch.setattr(sources, "read_pixels", counting)
    monkeypatch.setattr(sources, "DECODING_BLOCK", 3)
    plain = load(folder, SMALL)
    assert len(decoded) == 4
    first = load(folder, SMALL, cache=tmp_path / "cache")
    assert len(decoded) == 8
    (folder / "dog/copy.png").write_bytes((folder / "cat/z.png").read_bytes())
    second = load(folder, SMALL, cache=tmp_path / "cache")
    assert len(decoded) == 8
    assert isinstance(second.pixels, np.memmap)
    assert len(second.pixels) == 4
    assert reds(first) == reds(plain)
    assert reds(second) == [20, 10, 30, 0, 10]
    paint(folder / "dog/new.png", 77)
    assert 77 in reds(load(folder, SMALL, cache=tmp_path / "cache"))
    assert len(decoded) == 9


def test_progress(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "DECODING_BLOCK", 3)
    calls: list[tuple[int, int]] = []
    load(folder, SMALL, on_progress=lambda done, total: calls.append((done, total)))
    assert calls == [(3, 4), (4, 4)]


def test_content_of_an_array_does_not_depend_on_the_size_it_is_read_at(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (4, 20, 30, 3), dtype=np.uint8)
    np.savez(tmp_path / "images.npz", images=images, labels=np.array([0, 0, 1, 1]))
    small, large = (load(tmp_path / "images.npz", Preprocessing(size=size)) for size in (8, 16))
    assert small.hashes == large.hashes
    assert len(set(small.hashes)) == 4
    assert repr(small) == "ImageSet(4 images of 8 pixels, 2 classes)"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('a.png,"20 inch\nb.png,nail\n', "line 2"),
        ('a.png,x\nb.png,"20 inch\nc.png,nail\nd.png,screw"\n', "several lines that ends in row 2"),
        ('a.png,20" pipe\n', "quotation mark in line 2"),
        ('a.png,"20" pipe\n', "quotation mark in line 2"),
        ('a.png,x\nb.png, "y"\n', "quotation mark in line 3"),
        ("a.png,Ford, F-150\n", "3 cells in row 1 .line 2. and 2 columns"),
        ("a.png\n", "1 cells in row 1"),
    ],
)
def test_csv_that_would_be_read_otherwise_than_it_looks(tmp_path: Path, text: str, message: str) -> None:
    paint(tmp_path / "a.png")
    (tmp_path / "t.csv").write_text(f"path,label\n{text}")
    with pytest.raises(InputError, match=message):
        load(tmp_path / "t.csv", SMALL)


def test_csv_as_it_should_be(tmp_path: Path) -> None:
    for name in "abc":
        paint(tmp_path / f"{name}.png")
    text = '\ufeffpath,label,,\r\na.png,"Ford, F-150",,\r\n\r\n"b.png","20"" pipe",,\r\nc.png,Ford,,\r\n'
    (tmp_path / "t.csv").write_text(text, newline="")
    assert names(load(tmp_path / "t.csv", SMALL)) == ["Ford, F-150", '20" pipe', "Ford"]


def test_parquet_cells_are_text_or_refused_by_name(tmp_path: Path) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    paint(tmp_path / "a.png")

    def read(label: object, **columns: Any) -> list[str | None]:
        data = arrow.table({"path": ["a.png"] * len(label), "label": label, **columns})  # type: ignore[arg-type]
        parquet.write_table(data, tmp_path / "t.parquet")
        return names(load(tmp_path / "t.parquet", SMALL, require_labels=False))

    assert read(arrow.array([b"cat", None, b""], arrow.binary())) == ["cat", None, None]
    assert read(arrow.array([b"cat", b"dog"], arrow.binary(3))) == ["cat", "dog"]
    assert read(arrow.array(["cat"], arrow.string_view())) == ["cat"]
    assert read(arrow.array(["cat", "dog"]).dictionary_encode()) == ["cat", "dog"]
    assert read(arrow.array([3.0, float("nan"), 7.0])) == ["3", None, "7"]
    assert read(arrow.array([3, None])) == ["3", None]
    for column, message in (
        (arrow.array([["cat"]]), "row 1, column 'label'.*neither text"),
        (arrow.array([b"\xff"], arrow.binary()), "not UTF-8"),
        (arrow.array([0.5]), "'0.5', which is neither text nor a whole number"),
    ):
        with pytest.raises(InputError, match=message):
            read(column)
    twice = arrow.table(
        [arrow.array(["a.png"]), arrow.array(["x"]), arrow.array(["y"])], names=["path", "label", "label"]
    )
    parquet.write_table(twice, tmp_path / "u.parquet")
    with pytest.raises(InputError, match="two columns of one name"):
        load(tmp_path / "u.parquet", SMALL)


def test_names_in_bytes_of_an_array_file(tmp_path: Path) -> None:
    images = np.zeros((2, 4, 4, 3), np.uint8)
    np.savez(tmp_path / "t.npz", images=images, labels=np.array([b"cat", b"dog"]), split=np.array([b"train ", b"dev"]))
    found = load(tmp_path / "t.npz", SMALL)
    assert found.classes == ("cat", "dog")
    assert found.split is not None
    assert found.split.tolist() == ["train", "val"]


def test_a_folder_beside_splits(tmp_path: Path) -> None:
    for place in ("train/cat", "train/dog", "test/cat", "unlabelled/cat"):
        paint(tmp_path / place / "a.png")
    with pytest.raises(InputError, match=r"test, train beside unlabelled: expected either FOLDER/SPLIT/CLASS/IMAGE"):
        load(tmp_path, SMALL, require_labels=False)
    shutil.rmtree(tmp_path / "unlabelled")
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "all.json").write_text("{}")
    paint(tmp_path / "beside.png")
    found = load(tmp_path, SMALL)
    assert set(found.classes) == {"cat", "dog"}
    assert [Path(skip.uri).name for skip in found.skipped] == ["beside.png"]


@pytest.mark.parametrize("inner", ["set", "set/images", "a/b/c/d"])
@pytest.mark.parametrize("classes", [("cat", "dog"), ("train/cat",)])
def test_folders_around_the_classes_are_no_class(tmp_path: Path, inner: str, classes: tuple[str, ...]) -> None:
    for place in classes:
        paint(tmp_path / inner / place / "a.png")
    with pytest.raises(
        InputError, match=f"and no image lies right in it: name {tmp_path / inner} if the folders there"
    ):
        load(tmp_path, SMALL)
    assert set(load(tmp_path / inner, SMALL).classes) == {Path(place).name for place in classes}
    # A gallery takes what there is.
    assert len(load(tmp_path, SMALL, require_labels=False)) == len(classes)


@pytest.mark.parametrize("places", [("cat/images/a.png",), ("cat/left/a.png", "cat/b.png", "cat/right/c.png")])
def test_one_class_may_have_its_images_in_folders(tmp_path: Path, places: tuple[str, ...]) -> None:
    for place in places:
        paint(tmp_path / place)
    assert load(tmp_path, SMALL).classes == ("cat",)


def test_a_class_may_be_called_like_a_split(tmp_path: Path) -> None:
    for place in ("gallery", "museum"):
        paint(tmp_path / place / "a.png")
    assert load(tmp_path, SMALL).classes == ("gallery", "museum")


def test_deep_folders_and_addresses_with_escapes(tmp_path: Path) -> None:
    photo = tmp_path / "my photos" / "caf\u00e9 1#2?.png"
    paint(photo)
    (tmp_path / "t.csv").write_text(f"path,label\n{photo.as_uri()},x\n")
    assert len(load(tmp_path / "t.csv", SMALL)) == 1
    deep = tmp_path / "deep" / "/".join(["d"] * 700)
    deep.mkdir(parents=True)
    paint(tmp_path / "deep" / "x" / "a.png")
    with pytest.raises(InputError, match="class 'd' .* no image"):
        load(tmp_path / "deep", SMALL)
