"""Indexing: a stream of files into the gallery, what is known costs a hash, and nothing bad costs data."""

import shutil
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from conftest import as_json, coloured_images
from evergallery import Workspace
from evergallery.data import streaming
from evergallery.errors import InputError
from evergallery.gallery.items import Item
from evergallery.holdings.images import ImageReader
from evergallery.indexing import pipeline, skipped_names

batches: list[int] = []
"""How many images the model has seen at each call."""
stop_at: list[int] = []
"""At which call somebody presses Ctrl-C."""
looked_twice = threading.Event()
"""The model has seen a second batch."""


def model(images: NDArray[np.float32]) -> NDArray[np.float32]:
    batches.append(len(images))
    if len(batches) == 2:
        looked_twice.set()
    if len(batches) in stop_at:
        raise KeyboardInterrupt
    return np.concatenate([images.mean(axis=(2, 3)) + 2, images[:, :, :4, :4].reshape(len(images), -1)], axis=1)


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    monkeypatch.setattr(pipeline, "batch_size", lambda size: 16)
    with Workspace.create(tmp_path / "shop", size=16) as space:
        space.register(model, size=16)
        space.embed(sample(tmp_path / "sample.png"), space.promoted)  # Loads the model, which is probed then.
        batches.clear()
        stop_at.clear()
        yield space


def sample(path: Path) -> Path:
    Image.new("RGB", (16, 16)).save(path)
    return path


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Six classes of ten files."""
    images = coloured_images(classes=6, each=10)
    for index, (row, label) in enumerate(zip(images.rows, images.labels, strict=True)):
        path = tmp_path / "photos" / images.classes[label] / f"{index:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(images.pixels[row]).save(path)
    return tmp_path / "photos"


def stored(shop: Workspace) -> dict[str, Item]:
    return {item.id: item for batch in shop.gallery.iterate() for item in batch}


def test_vectors_are_those_of_images_read_as_a_whole(shop: Workspace, photos: Path) -> None:
    done = shop.index(photos)
    assert (done.added, done.replaced, done.unchanged, done.skipped_count) == (60, 0, 0, 0)
    images = ImageReader(shop.holdings).read(photos, shop.promoted.preprocessing, minimum_per_class=0)
    expected = shop.extract(shop.promoted, images, keep=False)
    items = stored(shop)
    for index, content in enumerate(images.hashes):
        item = items[content]
        assert np.allclose(item.embedding, expected[index], atol=1e-6)
        assert (item.label, item.uri) == (images.classes[images.labels[index]], images.uris[index])


def test_pixels_are_not_kept(shop: Workspace, photos: Path) -> None:
    shop.index(photos)
    assert [path for path in (shop.directory / "cache").rglob("*") if path.is_file()] == []


def test_the_second_pass_neither_decodes_nor_embeds(
    shop: Workspace, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.index(photos)
    before = stored(shop)
    batches.clear()
    monkeypatch.setattr(streaming, "read_pixels", lambda *_: pytest.fail("an image that is known was decoded"))
    again = shop.index(photos)
    assert (again.added, again.replaced, again.unchanged) == (0, 0, 60)
    assert batches == []
    assert {key: item.added for key, item in stored(shop).items()} == {key: item.added for key, item in before.items()}


def test_of_known_content_only_what_is_said_is_written_anew(shop: Workspace, photos: Path) -> None:
    shop.index(photos)
    before = stored(shop)
    moved = photos.rename(photos.parent / "moved")
    (moved / "class 2").rename(moved / "class two")
    batches.clear()
    again = shop.index(moved)
    assert (again.added, again.replaced, again.unchanged) == (0, 60, 0)
    assert (again.conflict_count, again.conflicts[0].known, again.conflicts[0].said) == (10, "class 2", "class two")
    assert {item.label for item in stored(shop).values()} == {item.label for item in before.values()}
    relabelled = shop.index(moved, relabel=True)
    assert (relabelled.replaced, relabelled.unchanged, relabelled.conflict_count) == (10, 50, 0)
    assert batches == [], "the stored vectors serve"
    after = stored(shop)
    assert {item.label for item in after.values()} >= {"class two"}
    assert all("/moved/" in str(item.uri) for item in after.values())
    assert all((after[key].embedding == item.embedding).all() for key, item in before.items())


def test_another_image_under_the_same_id_is_extracted(shop: Workspace, photos: Path) -> None:
    files = sorted(photos.rglob("*.png"))
    table = photos / "t.csv"
    table.write_text(f"path,item_id\n{files[0]},x\n{files[1]},y\n")
    shop.index(table)
    before = stored(shop)
    batches.clear()
    table.write_text(f"path,item_id\n{files[0]},x\n{files[30]},y\n")
    again = shop.index(table)
    assert (again.replaced, again.unchanged, batches) == (1, 1, [1])
    assert (stored(shop)["y"].embedding != before["y"].embedding).any()


def test_content_that_comes_twice_is_one_item_and_stays_what_it_was(shop: Workspace, photos: Path) -> None:
    first, *_, last = sorted(photos.rglob("*.png"))
    last.write_bytes(first.read_bytes())
    assert shop.index(photos).added == 59
    assert str(first) in {item.uri for item in stored(shop).values()}
    again = shop.index(photos)
    assert (again.added, again.replaced, again.unchanged) == (0, 0, 59)


def test_a_copy_that_says_nothing_erases_nothing(shop: Workspace, photos: Path, tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    files = sorted(photos.rglob("*.png"))[:4]
    table.write_text("\n".join(["path,label,shop", *(f"{path},{path.parent.name},north" for path in files)]))
    shop.index(table, metadata=["shop"])
    before = stored(shop)
    copies = tmp_path / "downloads"
    copies.mkdir()
    for path in files:
        shutil.copy(path, copies / path.name)
    for _ in range(2):
        done = shop.index(copies)
        assert (done.added, done.replaced, done.unchanged, done.copies, done.conflict_count) == (0, 0, 4, 4, 0)
    after = stored(shop)
    described = [(item.label, item.uri, dict(item.metadata)) for item in after.values()]
    assert described == [(item.label, item.uri, dict(item.metadata)) for item in before.values()]
    assert all(label and metadata == {"shop": "north"} for label, _, metadata in described)
    files[0].unlink()
    files[1].write_bytes(files[2].read_bytes())
    done = shop.index(copies)
    assert (done.replaced, done.copies) == (2, 2), "a picture that is no longer at its address has been moved"
    places = {Path(str(item.uri)).parent.name for item in stored(shop).values()}
    assert places == {"downloads", files[2].parent.name}


def test_files_of_one_picture_say_together_what_is_known_of_it(shop: Workspace, photos: Path, tmp_path: Path) -> None:
    first, second, third, *_ = sorted(photos.rglob("*.png"))
    for number, path in enumerate((first, first, first, second, second, third)):
        shutil.copy(path, tmp_path / f"{number}.png")
    labels = ("", "cat", "dog", "cat", "cat", "cow")
    rows = [f"{number}.png,{label},{number}" for number, label in enumerate(labels)]
    (tmp_path / "t.csv").write_text("\n".join(["path,label,row", *rows]))
    for _ in range(2):
        done = shop.index(tmp_path / "t.csv", metadata=["row"])
        assert (done.copies, done.conflict_count) == (3, 1)
        assert [(found.known, found.said) for found in done.conflicts] == [("cat", "dog")]
        found = {Path(str(item.uri)).name: item.label for item in stored(shop).values()}
        assert found == {"0.png": "cat", "3.png": "cat", "5.png": "cow"}


def test_bad_files_are_counted_and_named_in_a_table_where_they_are_many(
    shop: Workspace, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(skipped_names, "SKIPPED_KEPT", 3)
    bad = sorted(photos.rglob("*.png"))[::12]
    for path in bad[:3]:
        path.write_bytes(path.read_bytes()[:60])
    done = shop.index(photos)
    assert (done.added, done.skipped_count, done.skipped_file) == (57, 3, None)
    for path in bad[3:]:
        path.write_bytes(b"")
    done = shop.index(photos)
    assert (done.unchanged, done.skipped_count, len(done.skipped)) == (55, 5, 3)
    assert done.skipped_file is not None
    lines = done.skipped_file.read_text().splitlines()
    assert lines[0] == "uri,reason"
    assert [line.partition(",")[0] for line in lines[1:]] == [str(path) for path in bad]


def test_nothing_that_can_be_read_is_an_error(shop: Workspace, tmp_path: Path) -> None:
    (tmp_path / "bad").mkdir()
    for name in "ab":
        (tmp_path / "bad" / f"{name}.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"None of the 2 images of .*bad can be read, the first: .*a\.png: it is not"):
        shop.index(tmp_path / "bad")


def test_what_is_wrong_with_a_listing_is_said_before_anything_is_stored(shop: Workspace, photos: Path) -> None:
    files = sorted(photos.rglob("*.png"))
    rows = [f"{path},a,{number % 59}" for number, path in enumerate(files)]
    (photos / "t.csv").write_text("\n".join(["path,label,item_id", *rows]))
    with pytest.raises(InputError, match="item_id '0' twice"):
        shop.index(photos / "t.csv")
    (photos / "class 1").rename(photos / "Class 2")
    with pytest.raises(InputError, match="differ only in case"):
        shop.index(photos)
    assert (shop.gallery.count(), batches) == (0, [])


def test_interrupted_it_ends_at_once_and_the_same_call_goes_on(shop: Workspace, photos: Path) -> None:
    threads = threading.active_count()
    stop_at.append(3)
    with pytest.raises(KeyboardInterrupt):
        shop.index(photos)
    assert threading.active_count() == threads, "nobody is left reading"
    assert shop.gallery.count() == 32, "two batches were acknowledged"
    stop_at.clear()
    batches.clear()
    done = shop.index(photos)
    assert (done.added, done.unchanged, sum(batches)) == (28, 32, 28)


def test_the_model_goes_on_while_vectors_are_stored(
    shop: Workspace, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = pipeline._Run.store_taken

    def store(run: Any) -> None:
        if shop.gallery.count() == 0:
            assert looked_twice.wait(60), "the next batch is looked at before this one is stored"
        right(run)

    looked_twice.clear()
    monkeypatch.setattr(pipeline, "TOGETHER", 16)
    monkeypatch.setattr(pipeline._Run, "store_taken", store)
    assert shop.index(photos).added == 60


@pytest.mark.parametrize(("within", "puts"), [(600.0, [60]), (0.0, [16, 16, 16, 12])])
def test_batches_that_come_fast_are_stored_together(
    shop: Workspace, photos: Path, monkeypatch: pytest.MonkeyPatch, within: float, puts: list[int]
) -> None:
    stored_at_once: list[int] = []
    right = type(shop.gallery).put

    def put(self: Any, items: Sequence[Item], **options: Any) -> Any:
        stored_at_once.append(len(items))
        return right(self, items, **options)

    monkeypatch.setattr(type(shop.gallery), "put", put)
    monkeypatch.setattr(pipeline, "WITHIN", within)
    assert shop.index(photos).added == 60
    assert [count for count in stored_at_once if count] == puts


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_columns_of_a_table_become_metadata(shop: Workspace, photos: Path, kind: str) -> None:
    files = sorted(photos.rglob("*.png"))[:3]
    table = photos / f"t.{kind}"
    columns: dict[str, list[Any]] = {
        "path": [str(path) for path in files], "price": [1.5, None, 3.0], "shop": ["a", "", "c"], "other": [1, 2, 3],
    }  # fmt: skip
    if kind == "csv":
        rows = zip(*columns.values(), strict=True)
        text = [",".join(columns), *(",".join("" if cell is None else str(cell) for cell in row) for row in rows)]
        table.write_text("\n".join(text))
    else:
        arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        parquet.write_table(arrow.table(columns), table)
    shop.close()  # One process at a time has the gallery.
    done = as_json("index", table, "-w", shop.directory, "--metadata", "price,shop")
    assert done["added"] == 3
    by_uri = {item.uri: item.metadata for item in stored(shop).values()}
    first, third = (1.5, 3.0) if kind == "parquet" else ("1.5", "3.0")
    assert [by_uri[str(path)] for path in files] == [{"price": first, "shop": "a"}, {}, {"price": third, "shop": "c"}]
    batches.clear()
    assert shop.index(table, metadata=["price", "shop"]).unchanged == 3
    assert shop.index(table, metadata=["shop"]).unchanged == 3, "what is not said is not erased"
    assert batches == []
    with pytest.raises(InputError, match="no column 'colour'"):
        shop.index(table, metadata=["colour"])
    with pytest.raises(InputError, match="no columns that could be metadata"):
        shop.index(photos, metadata=["price"])


def test_storage_elsewhere_is_indexed_and_refreshed(shop: Workspace, photos: Path) -> None:
    system = fsspec.filesystem("memory")
    system.put(str(photos), "/catalogue", recursive=True)
    done = shop.index("memory://catalogue")
    assert done.added == 60
    assert {str(item.uri).partition("catalogue/")[0] for item in stored(shop).values()} == {"memory://"}
    system.rm("/catalogue/class 1/010.png")
    system.pipe("/catalogue/class 1/011.png", b"another file")
    shop.register(f"{__name__}:other_model", size=16)
    refreshed = shop.refresh("v2")
    assert refreshed.refreshed == 58
    assert sorted((problem.kind, problem.reason.partition(":")[0]) for problem in refreshed.problems) == [
        ("failed", "memory"),
        ("image missing", "there is no image memory"),
    ]
    system.rm("/catalogue", recursive=True)


def other_model(images: NDArray[np.float32]) -> NDArray[np.float32]:
    return model(images)[:, ::-1]


def test_what_is_no_longer_at_its_address_is_told_and_pruned_when_that_is_asked_for(
    shop: Workspace, photos: Path, tmp_path: Path
) -> None:
    first, second, third, *_ = sorted(photos.rglob("*.png"))
    outside = tmp_path / "photos-of-others" / "a.png"
    outside.parent.mkdir()
    Image.new("RGB", (16, 16), (9, 200, 7)).save(outside)
    shop.index(outside)
    assert shop.index(photos, sync=True).changed == 0
    outside.unlink()
    Image.new("RGB", (16, 16), (1, 2, 3)).save(first)
    second.unlink()
    third.rename(third.with_name("moved.png"))
    told = shop.index(photos)
    assert (told.added, told.moved, told.changed, told.gone, told.outdated) == (1, 1, 1, 0, (str(first),))
    told = shop.index(photos, sync=True)
    assert (told.changed, told.gone, told.pruned, sorted(told.outdated)) == (1, 1, 0, sorted(map(str, (first, second))))
    assert len(stored(shop)) == 62, "nobody has said yes"
    assert shop.index(photos, sync=True, prune=True).pruned == 2
    addresses = sorted(str(item.uri) for item in stored(shop).values())
    assert addresses == sorted([*map(str, photos.rglob("*.png")), str(outside)]), "what lies elsewhere is left alone"
    with pytest.raises(InputError, match="whole folder"):
        shop.index(photos, sync=True, split="train")


def test_what_looks_like_a_picture_is_stored_or_named(shop: Workspace, tmp_path: Path) -> None:
    cats = tmp_path / "photos" / "cats"
    (tmp_path / "elsewhere" / "deep").mkdir(parents=True)
    cats.mkdir(parents=True)
    for number, (place, kind) in enumerate(
        [
            (cats / "a.png", "PNG"), (cats / "phone.HEIC", "JPEG"), (cats / "no suffix", "PNG"), (cats / "b.dat", "WEBP"),
            (tmp_path / "elsewhere" / "c.png", "PNG"), (tmp_path / "elsewhere" / "deep" / "d.gif", "GIF"),
        ]
    ):  # fmt: skip
        Image.new("RGB", (16, 16), (40 * number, 0, 90)).save(place, kind)
    (cats / "more").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "back").symlink_to(tmp_path / "photos")
    (tmp_path / "photos" / "itself").symlink_to(tmp_path / "photos")
    (cats / "loop.png").symlink_to(cats / "loop.png")
    (cats / "raw.CR2").write_bytes(b"II*\0\x10\0\0\0CR\x02\0" + bytes(100))
    (cats / "raw.NEF").write_bytes(b"MM\0*\0\0\0\x08" + bytes(100))
    (cats / "drawing.psd").write_bytes(b"8BPS" + bytes(100))
    (cats / "scene.exr").write_bytes(b"nothing")
    (cats / "notes.txt").write_text("no picture")
    (cats / "data").write_bytes(b"no picture either")
    (cats / "lost").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "photos" / "caf\udce9").mkdir()
    Image.new("RGB", (16, 16)).save(tmp_path / "photos" / "caf\udce9" / "x.png")
    done = shop.index(tmp_path / "photos")
    assert {Path(str(item.uri)).name for item in stored(shop).values()} == {
        "a.png", "phone.HEIC", "no suffix", "b.dat", "c.png", "d.gif",
    }  # fmt: skip
    assert {item.label for item in stored(shop).values()} == {"cats"}
    named = {Path(skip.uri).name: skip.reason for skip in done.skipped}
    assert set(named) == {
        "itself", "back", "loop.png", "raw.CR2", "raw.NEF", "drawing.psd", "scene.exr", "lost", "x.png",
    }  # fmt: skip
    assert "raw format" in named["raw.NEF"]
    assert "raw format" in named["raw.CR2"]
    assert "link" in named["itself"]
