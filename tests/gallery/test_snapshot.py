"""Snapshots: taken while the gallery serves, told apart from what only looks like one, restored whole."""

import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from plain_items import known

from evergallery.errors import DamagedError, InputError
from evergallery.files import TEMPORARY_PREFIX, copy_hashed, copy_sparse, sha256_of
from evergallery.gallery import Filter, Item, snapshot
from evergallery.gallery.edge import EdgeStore
from evergallery.gallery.opening.restoring import restore

OLD, NEW = "1" * 64, "2" * 64
DIMENSIONS = {OLD: 6, NEW: 9}


def item(number: int, generation: str = OLD, **changes: Any) -> Item:
    draw = np.random.default_rng(number).normal(size=DIMENSIONS[generation]).astype(np.float32)
    made = Item(
        f"item {number}",
        draw / np.linalg.norm(draw),
        generation,
        f"class {number % 3}",
        None,
        f"{number:064x}",
        "2026-01-01",
    )
    return replace(made, **changes)


def items_of(store: EdgeStore) -> dict[str, Item]:
    return {item.id: item for batch in store.iterate() for item in batch}


def same(first: Item, second: Item) -> bool:
    return (
        first.same_but_for_time(second)
        and first.added == second.added
        and np.array_equal(first.embedding, second.embedding)
    )


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EdgeStore]:
    with EdgeStore(tmp_path / "gallery") as opened:
        opened.put([item(number) for number in range(30)])
        yield opened


@pytest.fixture
def taken(store: EdgeStore, tmp_path: Path) -> Path:
    store.snapshot(tmp_path / "snapshot", lambda: {"promoted": "v2"})
    return tmp_path / "snapshot"


def test_what_was_there_comes_back_and_what_came_later_does_not(store: EdgeStore, tmp_path: Path) -> None:
    store.put([item(number, NEW) for number in range(30, 35)])
    before = items_of(store)
    heard: list[tuple[int, int]] = []
    made = store.snapshot(tmp_path / "snapshot", lambda: {"promoted": "v2"}, on_progress=lambda *now: heard.append(now))
    assert heard[-1][0] == heard[-1][1] > 0
    assert (made.generations, made.vectors, made.state) == ({OLD: 30, NEW: 5}, 35, {"promoted": "v2"})
    store.put([item(99), item(1, label="later")])
    store.delete(["item 2"])
    assert snapshot.verify(tmp_path / "snapshot") == made
    assert restore(tmp_path / "snapshot", tmp_path / "again") == made
    with EdgeStore(tmp_path / "again") as again:
        assert again.verify() == []
        found = items_of(again)
        assert found.keys() == before.keys()
        assert all(same(found[name], item) for name, item in before.items())
        again.put([item(50)])
    assert snapshot.verify(tmp_path / "snapshot") == made, "and the snapshot stays as it is"


def test_versions_of_an_open_refresh_come_back_with_their_marks(store: EdgeStore, tmp_path: Path) -> None:
    store.refresh([item(3, NEW)], "refresh 1")
    store.snapshot(tmp_path / "snapshot")
    restore(tmp_path / "snapshot", tmp_path / "again")
    with EdgeStore(tmp_path / "again") as again:
        assert again.count_by_generation() == {OLD: 30, NEW: 1}
        assert again.settle("refresh 1", "old") == 1
        assert known(again, "item 3").generation == OLD


def test_others_write_and_search_while_it_is_taken(store: EdgeStore, tmp_path: Path) -> None:
    stop, failures = threading.Event(), []
    put: list[int] = []

    def write() -> None:
        try:
            for number in range(1000, 2000, 10):
                if stop.is_set():
                    return
                # Each batch moves ten items of one generation to the other: half of it would be seen.
                store.put([item(row) for row in range(number, number + 10)])
                store.put([item(row, NEW) for row in range(number, number + 10)])
                put.append(number)
        except BaseException as error:
            failures.append(error)

    def search() -> None:
        try:
            while not stop.is_set():
                assert len(store.search(item(1).embedding[None], 5, where=Filter(generations=(OLD,)))[0]) == 5
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=write), threading.Thread(target=search)]
    for thread in threads:
        thread.start()
    made = [store.snapshot(tmp_path / f"snapshot {number}") for number in range(2)]
    stop.set()
    for thread in threads:
        thread.join()
    assert failures == []
    for number, taken in enumerate(made):
        restore(tmp_path / f"snapshot {number}", tmp_path / f"again {number}")
        with EdgeStore(tmp_path / f"again {number}") as again:
            assert again.verify() == []
            assert again.count() == taken.vectors
            assert again.count() % 10 == 0
            assert again.count_by_generation()[OLD] % 10 == 0, "no batch is there by half"


def a_file(taken: Path, name: str = "matrix.dat") -> Path:
    found = sorted((taken / "gallery" / OLD[:16]).rglob("*"))
    return max((path for path in found if path.is_file()), key=lambda path: (path.name == name, path.stat().st_blocks))


def test_a_byte_that_changed_is_found(taken: Path, tmp_path: Path) -> None:
    path = a_file(taken)
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1
    path.write_bytes(content)
    message = rf"snapshot is damaged, gallery/1111.*{path.name} is not what was written: use another snapshot"
    with pytest.raises(DamagedError, match=message):
        snapshot.verify(taken)
    with pytest.raises(DamagedError, match=message):
        restore(taken, tmp_path / "again")
    assert not (tmp_path / "again").exists()
    assert not list(tmp_path.glob(TEMPORARY_PREFIX + "*"))


def test_a_file_that_is_cut_short_missing_or_new_is_found(taken: Path, tmp_path: Path) -> None:
    extra = taken / "gallery" / "extra"
    extra.write_text("")
    with pytest.raises(DamagedError, match=r"gallery/extra was not there when it was made"):
        snapshot.verify(taken)
    extra.unlink()
    path = a_file(taken)
    length = path.stat().st_size
    os.truncate(path, length - 1)
    asked: tuple[Callable[[], object], ...] = (
        lambda: snapshot.verify(taken),
        lambda: restore(taken, tmp_path / "again"),
    )
    for ask in asked:
        with pytest.raises(DamagedError, match=rf"{path.name} has {length - 1} bytes of {length}: use another"):
            ask()
    path.unlink()
    asked = (lambda: snapshot.verify(taken), lambda: restore(taken, tmp_path / "again"))
    for ask in asked:
        with pytest.raises(DamagedError, match=rf"{path.name} is missing: use another snapshot"):
            ask()
    assert not (tmp_path / "again").exists()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"format": 2}, InputError, "has format 2 and this version of Evergallery reads 1: restore it with"),
        ({"files": None}, DamagedError, "does not describe a snapshot"),
        ({"files": {"../../x": {"bytes": 0, "sha256": ""}}}, DamagedError, r"outside of the snapshot \(\.\./\.\./x\)"),
        ({"files": {"/x": {"bytes": 0, "sha256": ""}}}, DamagedError, r"outside of the snapshot \(/x\)"),
    ],
    ids=["newer format", "no files", "outside", "absolute"],
)
def test_descriptions_that_cannot_be_used(
    taken: Path, change: dict[str, Any], error: type[Exception], message: str
) -> None:
    path = taken / "snapshot.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(error, match=message):
        snapshot.read(taken)


def test_what_is_no_snapshot(store: EdgeStore, taken: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"is not a snapshot, it has no snapshot\.json"):
        snapshot.read(tmp_path / "gallery")
    with pytest.raises(InputError, match="is not a snapshot"):
        snapshot.read(tmp_path / "nothing")
    (taken / "snapshot.json").write_text("{")
    with pytest.raises(DamagedError, match="cannot be read as JSON"):
        snapshot.read(taken)
    for path, says in ((taken, "it exists; give a new name"), (tmp_path / "none" / "snapshot", "there is no folder")):
        with pytest.raises(InputError, match=says):
            store.snapshot(path)


def test_a_snapshot_of_another_engine_is_not_opened(taken: Path, tmp_path: Path) -> None:
    path = taken / "snapshot.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"engine": "qdrant-edge 0.1.7"}))
    with pytest.raises(InputError, match=r"is of qdrant-edge 0\.1\.7 and qdrant-edge .* is installed"):
        restore(taken, tmp_path / "again")


def test_a_full_disk_leaves_nothing(
    store: EdgeStore, taken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied: list[Path] = []

    def full_after_five(source: Path, target: Path) -> tuple[int, str]:
        copied.append(target)
        if len(copied) > 5:
            raise OSError(28, "No space left on device")
        return copy_hashed(source, target)

    asked: tuple[Callable[[], object], ...] = (
        lambda: store.snapshot(tmp_path / "more"),
        lambda: restore(taken, tmp_path / "again"),
    )
    for ask in asked:
        copied.clear()
        with monkeypatch.context() as patched, pytest.raises(OSError, match="No space left on device"):
            patched.setattr(snapshot, "copy_hashed", full_after_five)
            ask()
        with monkeypatch.context() as patched, pytest.raises(OSError, match=r"the copy takes \d+ MiB, 0 are free"):
            patched.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(9, 9, 0))
            ask()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["gallery", "snapshot"]
    store.put([item(77)])
    assert store.get("item 77") is not None, "and the gallery goes on"


def test_copies_leave_holes_where_there_are_zeros(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    for name, content in {
        "empty": b"",
        "zeros": bytes(3_000_000),
        "mixed": draw.bytes(300_000) + bytes(2_000_000) + draw.bytes(10) + bytes(700_001),
    }.items():
        (tmp_path / name).write_bytes(content)
        length, digest = copy_hashed(tmp_path / name, tmp_path / "copy")
        assert (length, digest) == (len(content), sha256_of(tmp_path / name))
        copy_sparse(tmp_path / name, tmp_path / "another")
        for copy in (tmp_path / "copy", tmp_path / "another"):
            assert copy.read_bytes() == content
            assert copy.stat().st_blocks * 512 <= max(0, len(content) - 1_500_000)


def test_a_gallery_that_nothing_was_stored_in_has_a_snapshot(tmp_path: Path) -> None:
    with closing(EdgeStore(tmp_path / "empty")) as empty:
        empty.snapshot(tmp_path / "taken")
    assert snapshot.verify(tmp_path / "taken").vectors == 0
    restore(tmp_path / "taken", tmp_path / "again")
    with closing(EdgeStore(tmp_path / "again")) as again:
        assert again.count() == 0
