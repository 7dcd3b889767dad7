"""Qdrant Edge alone: a disk that is full at any write of a move leaves all or nothing."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from many_versions import NEW, OLD, item
from test_versions import AFTER, BEFORE, contents

from evergallery.files import write_json
from evergallery.gallery.edge import EdgeStore, directory, moves
from evergallery.gallery.edge import directory as directories
from evergallery.gallery.edge.shard import Shard
from evergallery.gallery.items import Filter

OPERATIONS: dict[str, Callable[[EdgeStore], object]] = {
    "refresh": lambda store: store.refresh([item(number, NEW) for number in range(20, 40)], "r"),
    "put into the newer space": lambda store: store.put([item(n, NEW, label="put") for n in range(40)], relabel=True),
    "put into the older space": lambda store: store.put([item(n, OLD, label="put") for n in range(40)], relabel=True),
    "delete": lambda store: store.delete([f"item {number}" for number in range(40)]),
    "settle": lambda store: store.settle("r", "old"),
}


def failing(write: Callable[..., None], left: Iterator[int]) -> Callable[..., None]:
    """A write that succeeds as often as something is left."""

    def attempt(*arguments: Any) -> None:
        if next(left, None) is None:
            raise OSError(28, "No space left on device")
        write(*arguments)

    return attempt


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("reopened", [False, True], ids=["the same process", "another process"])
def test_any_write_that_fails_leaves_all_or_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, reopened: bool
) -> None:
    """Half of the items have two versions when the disk is full at each write in turn."""
    operation, view = OPERATIONS[name], lambda: BEFORE

    def state(store: EdgeStore) -> tuple[dict[str, tuple[object, ...]], ...]:
        return contents(store, BEFORE), contents(store, AFTER)

    @contextmanager
    def started() -> Iterator[EdgeStore]:
        directory = tmp_path / "gallery"
        store = EdgeStore(directory, view)
        try:
            store.put([item(number) for number in range(40)])
            store.refresh([item(number, NEW) for number in range(20)], "r")
            yield store
        finally:
            store.close()
            shutil.rmtree(directory)

    with started() as store:
        start = state(store)
        operation(store)
        whole = state(store)
    for allowed in range(20):
        with started() as store:
            with monkeypatch.context() as patched:
                left = iter(range(allowed))
                patched.setattr(Shard, "update", failing(Shard.update, left))
                write = failing(write_json, left)
                patched.setattr(moves, "write_json", write)
                patched.setattr(directory, "write_json", write)
                try:
                    operation(store)
                    failed = False
                except OSError:
                    failed = True
            if reopened:
                # As a kill leaves it: without the counts of a gallery that was closed.
                store._noted = False
                store.close()
                store.__init__(tmp_path / "gallery", view)  # type: ignore[misc]
                before, after = state(store)
                # A settling ends item by item: what it keeps is there all the time.
                assert (before, after) in (start, whole) or (name == "settle" and before == start[0])
                assert store.verify() == []
            else:
                state(store)
            operation(store)
            assert state(store) == whole
        if not failed:
            break
    assert allowed >= 2
    assert not failed


def test_marks_are_indexed_when_a_refresh_begins(tmp_path: Path) -> None:
    with EdgeStore(tmp_path / "gallery") as store:
        store.put([item(1)])
        assert "superseded" not in store._shards[OLD]._engine.info().payload_schema
        store.refresh([item(1, NEW)], "r")
        for shard in store._shards.values():
            assert {"refresh", "superseded"} <= shard._engine.info().payload_schema.keys()


def test_shard_without_vectors_is_given_up(tmp_path: Path) -> None:
    directory = tmp_path / "gallery"
    items = [item(number) for number in range(20)]
    with EdgeStore(directory) as store:
        store.put(items)
        store.refresh([item(number, NEW) for number in range(20)], "r")
        reader = store._shards[OLD]
        store.settle("r", "new")
        assert store.generations() == {NEW}
        assert sorted(path.name for path in directory.iterdir() if path.is_dir()) == [NEW[:16]]
        assert reader.count() == 0, "whoever is reading there reads on"
        store.put([item(100)])
        assert store.count_by_generation() == {OLD: 1, NEW: 20}
        store.delete(["item 100"])
        assert (directory / OLD[:16]).is_dir(), "deleting is quick, and leaves it to compacting"
        store.compact()
        assert not (directory / OLD[:16]).exists()
    with EdgeStore(directory) as store:
        assert store.count_by_generation() == {NEW: 20}
        assert store.verify() == []


@pytest.mark.parametrize("when", ["write_json", "rename", "rmtree"])
def test_kill_while_a_shard_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str) -> None:
    class Kill(BaseException):
        pass

    def kill(*_: Any) -> None:
        raise Kill

    directory = tmp_path / "gallery"
    store = EdgeStore(directory)
    store.put([item(1), item(2, NEW)])
    store.delete(["item 1"])
    with monkeypatch.context() as patched:
        patched.setattr({"write_json": directories, "rename": Path, "rmtree": shutil}[when], when, kill)
        with pytest.raises(Kill):
            store.compact()
    # As a kill leaves it: without the counts of a gallery that was closed.
    store._noted = False
    store.close()
    with EdgeStore(directory) as store:
        assert store.count_by_generation() == {NEW: 1}
        store.put([item(1)])
        assert store.count_by_generation() == {OLD: 1, NEW: 1}
    assert not list(directory.glob(".writing-*"))


def test_disk_that_is_full_when_a_shard_is_given_up_leaves_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with EdgeStore(tmp_path / "gallery") as store:
        store.put([item(1), item(2, NEW)])
        store.delete(["item 1"])
        with monkeypatch.context() as patched:
            patched.setattr(directory, "write_json", failing(write_json, iter(())))
            with pytest.raises(OSError, match="No space left"):
                store.compact()
        store.put([item(1)])
        assert store.count_by_generation() == {OLD: 1, NEW: 1}


@pytest.mark.parametrize("order", ["<f4", ">f4"])
def test_a_query_of_either_byte_order_finds(tmp_path: Path, order: str) -> None:
    given = item(1)
    with EdgeStore(tmp_path / "gallery") as store:
        store.put([given])
        query = given.embedding[None].astype(order)
        ((found,),) = store.search(query, 1, where=Filter(generations=(given.generation,)))
    assert found.item.id == given.id
    assert found.score == pytest.approx(1, abs=1e-5)
