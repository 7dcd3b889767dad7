"""Streaming: order, back-pressure and a prompt end; lists that cost no memory; files wherever they are."""

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from evergallery.data import places
from evergallery.data.images import MissingFileError, Preprocessing, UnreadableImage
from evergallery.data.images.parts import Box
from evergallery.data.listing import Entry, Listing
from evergallery.data.sources import load
from evergallery.data.spool import IdRegister, Spool
from evergallery.data.streaming import (
    BLOCK_BYTES,
    Picture,
    ahead,
    batch_size,
    blocks,
    grouped,
    in_background,
    read_pictures,
    working,
)
from evergallery.errors import InputError, MissingExtraError


class TestThreads:
    @given(st.lists(st.integers()), st.integers(1, 5))
    def test_work_comes_in_the_order_of_its_inputs(self, numbers: list[int], depth: int) -> None:
        with working(2) as pool:
            assert list(ahead(pool, lambda number: number + 1, numbers, depth)) == [number + 1 for number in numbers]

    def test_no_more_is_begun_than_was_asked_for_and_the_depth(self) -> None:
        taken = 0

        def inputs() -> Iterator[int]:
            nonlocal taken
            for number in range(100):
                taken += 1
                yield number

        with working(2) as pool:
            results = ahead(pool, lambda number: number, inputs(), 4)
            for _ in range(10):
                next(results)
            assert taken == 13

    def test_what_has_not_begun_is_never_done(self) -> None:
        release, done = threading.Event(), []

        def wait(number: int) -> None:
            release.wait(60)
            done.append(number)

        with pytest.raises(KeyboardInterrupt), working(1) as pool:
            waiting = [pool.submit(wait, number) for number in range(50)]
            # Whichever has begun goes on once those that have not are given up.
            waiting[-1].add_done_callback(lambda _: release.set())
            raise KeyboardInterrupt
        assert len(done) <= 1

    @given(st.lists(st.integers()), st.integers(1, 3))
    def test_background_keeps_the_order(self, numbers: list[int], depth: int) -> None:
        with in_background(iter(numbers), depth) as items:
            assert list(items) == numbers

    def test_background_waits_for_who_takes_and_ends_when_left(self) -> None:
        made = 0

        def forever() -> Iterator[int]:
            nonlocal made
            while True:
                made += 1
                yield made

        before = threading.active_count()
        with in_background(forever()) as items:
            assert [next(items) for _ in range(3)] == [1, 2, 3]
        assert threading.active_count() == before
        assert made <= 3 + 3, "one in the queue, one in hand, and one that made room when it was left"

    def test_what_the_background_raises_comes_out_in_its_place(self) -> None:
        def failing() -> Iterator[int]:
            yield 1
            raise InputError("no more")

        with in_background(failing()) as items:
            assert next(items) == 1
            with pytest.raises(InputError, match="no more"):
                next(items)

    @given(st.lists(st.integers()), st.integers(1, 7))
    def test_groups_are_all_there_is(self, numbers: list[int], size: int) -> None:
        groups = list(grouped(numbers, size))
        assert [number for group in groups for number in group] == numbers
        assert all(len(group) == size for group in groups[:-1])

    def test_blocks_are_smaller_where_files_are_large(self) -> None:
        large = Picture(Entry("a"), "0", bytes(BLOCK_BYTES // 2))
        found: list[Picture | UnreadableImage] = [UnreadableImage("b", "why"), *[large] * 5]
        assert [len(block) for block in blocks(found, 100)] == [3, 2, 1]
        assert [len(block) for block in blocks(found[:2] * 5, 4)] == [4, 4, 2]

    def test_batches_are_smaller_where_images_are_large(self) -> None:
        assert [batch_size(size) for size in (32, 128, 224, 1024)] == [1024, 256, 83, 32]


def an_entry(uri: str, **known: Any) -> Entry:
    return Entry(uri, **known)


class TestSpool:
    @given(st.permutations(["b/x.png", "a/c/y.png", "a b/z.png", "a/a.png", "a.png", "ä/1.png"]))
    def test_folders_have_one_order_however_they_are_listed(self, uris: Sequence[str]) -> None:
        spool = Spool(Listing(map(Entry, uris), by_path=True))
        assert [entry.uri for entry in spool] == [
            "a/a.png", "a/c/y.png", "a b/z.png", "a.png", "b/x.png", "ä/1.png",
        ]  # fmt: skip
        listed, _ = Listing(map(Entry, uris), by_path=True).in_order()
        assert [entry.uri for entry in listed] == [entry.uri for entry in spool]
        spool.close()

    def test_gives_back_what_is_known(self) -> None:
        known = [
            Entry("z", "cat", None, None, "id", {"price": 1.5, "shop": "ä", "sold": True, "left": 3}),
            Entry("s3://a/b.jpg"),
            Entry("bad\udcff.jpg", "dog"),
        ]
        spool = Spool(Listing(known))
        assert list(spool) == known
        assert (len(spool), sorted(spool.labels())) == (3, ["cat", "dog"])
        spool.close()

    def test_split(self) -> None:
        entries = [Entry("a", split="train"), Entry("b", split="test"), Entry("c")]
        spool = Spool(Listing(entries), "test")
        assert [entry.uri for entry in spool] == ["b"]
        spool.close()
        with pytest.raises(InputError, match="no split 'val': they have test, train"):
            Spool(Listing(entries), "val")

    def test_a_part_of_a_picture_is_no_item_of_a_gallery(self) -> None:
        """Whoever opens it again opens all of it."""
        entries = [Entry("/a.jpg"), Entry("/b.jpg", part=Box(0, 0, 4, 4))]
        with pytest.raises(InputError, match=r"Of /b.jpg a part is meant, and a gallery holds whole pictures"):
            Spool(Listing(entries))

    def test_an_id_names_one_item(self) -> None:
        entries = [Entry("a", item_id="x"), Entry("b"), Entry("c"), Entry("d", item_id="x")]
        for refuse in (lambda: Spool(Listing(entries)), lambda: Listing(entries).in_order()):
            with pytest.raises(InputError, match="item_id 'x' twice"):
                refuse()

    def test_labels_that_are_no_text_are_refused(self) -> None:
        with pytest.raises(InputError, match="not Unicode"):
            Spool(Listing([Entry("a/b.png", "a\udcff")]))

    @given(st.lists(st.lists(st.sampled_from("abcdef"))))
    def test_ids_are_known_by_their_first_time(self, batches: list[list[str]]) -> None:
        register, seen = IdRegister(), []
        for batch in batches:
            firsts = register.first_times(batch)
            seen += [entry for entry, first in zip(batch, firsts, strict=True) if first]
        register.close()
        assert seen == list(dict.fromkeys(entry for batch in batches for entry in batch))


@pytest.fixture
def storage() -> Iterator[Any]:
    system = fsspec.filesystem("memory")
    yield system
    system.rm("/shop", recursive=True)


def put(system: Any, name: str, red: int, folder: Path) -> None:
    Image.new("RGB", (6, 5), (red, 0, 0)).save(folder / "one.png")
    system.pipe(f"/shop/{name}", (folder / "one.png").read_bytes())


class TestPlaces:
    def test_folder_table_and_file_elsewhere(self, storage: Any, tmp_path: Path) -> None:
        for red, name in enumerate(["cat/b.png", "cat/a/c.png", "dog/a.png", "dog/notes.txt", "dog/.x/d.png"]):
            put(storage, name, red, tmp_path)
        there = "memory://shop"
        small = Preprocessing(size=2)
        images = load(there, small)
        assert images.uris == tuple(f"{there}/{name}" for name in ("cat/a/c.png", "cat/b.png", "dog/a.png"))
        assert images.pixels[images.rows][:, 0, 0, 0].tolist() == [1, 0, 2]
        storage.pipe("/shop/t.csv", b"path,label\ndog/a.png,d\nmemory://shop/cat/b.png,c\nnone.png,c\n")
        images = load(f"{there}/t.csv", small)
        assert images.uris == (f"{there}/dog/a.png", f"{there}/cat/b.png")
        assert [(skip.uri, skip.reason) for skip in images.skipped] == [(f"{there}/none.png", "there is no such file.")]
        assert len(load(f"{there}/dog/a.png", small, require_labels=False)) == 1

    def test_file_urls_are_paths(self, tmp_path: Path) -> None:
        (tmp_path / "cat").mkdir()
        Image.new("RGB", (2, 2)).save(tmp_path / "cat" / "a.png")
        found = load(f"file://{tmp_path}", Preprocessing(size=2))
        assert found.uris == (str(tmp_path / "cat" / "a.png"),)

    def test_what_is_not_there(self, storage: Any) -> None:
        storage.pipe("/shop/x", b"1")
        for address in ("memory://shop/none.png", "nobody://reads/this.png", "/no/such/file.png"):
            with pytest.raises(MissingFileError):
                places.read(address)
        for source in ("memory://nothing", "memory://nothing.csv"):
            with pytest.raises(InputError, match=r"There is no memory://nothing(\.csv)?: check the address"):
                load(source, Preprocessing())

    def test_a_package_that_is_missing_is_named_once_not_once_an_image(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def not_installed(*_: Any, **__: Any) -> None:
            raise ImportError("Install s3fs to access S3")

        monkeypatch.setattr("fsspec.core.url_to_fs", not_installed)
        with (
            working(2) as pool,
            pytest.raises(MissingExtraError, match="Reading s3:// needs another package .*s3fs") as refused,
        ):
            list(read_pictures(pool, [Entry("s3://a/b.jpg")]))
        assert refused.value.exit_status == 2

    def test_a_system_that_does_not_answer(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def silent(*_: Any, **__: Any) -> None:
            raise OSError(-2, "Name or service not known")

        monkeypatch.setattr("fsspec.core.url_to_fs", silent)
        for address in ("ftp://nowhere", "ftp://nowhere/x.csv"):
            with pytest.raises(InputError, match=f"{address} cannot be read .*not known.*: check the address"):
                load(address, Preprocessing())

    def test_names_that_are_no_text_are_skipped(self, tmp_path: Path) -> None:
        with working(1) as pool:
            (found,) = read_pictures(pool, [Entry(f"{tmp_path}/a\udcff.png")])
        assert isinstance(found, UnreadableImage)
        assert found.uri.endswith(r"a\udcff.png")
        assert "Unicode" in found.reason


def test_pictures_are_hashed_and_in_order(tmp_path: Path) -> None:
    entries = []
    for number in range(40):
        (tmp_path / str(number)).write_bytes(bytes([number]))
        entries.append(Entry(str(tmp_path / str(number))))
    with working(4) as pool:
        found = [picture for picture in read_pictures(pool, entries) if isinstance(picture, Picture)]
    assert [picture.data for picture in found] == [bytes([number]) for number in range(40)]
    assert len({picture.content for picture in found}) == 40
    assert np.all([len(picture.content) == 64 for picture in found])
