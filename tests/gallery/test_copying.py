"""Galleries move between engines: every version arrives, a kill costs nothing, what differs is found and said."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing
from pathlib import Path

import numpy as np
import pytest
from many_versions import NEW, OLD, WIDE, item, unit
from test_versions import AFTER, BEFORE, BOTH, contents

from evergallery.errors import InputError, NotFoundError, RefusedError
from evergallery.gallery import GalleryStore, Item, copying, open_store
from evergallery.gallery.copying import copy_gallery, require_same
from evergallery.gallery.edge import EdgeStore
from evergallery.watching import Watcher
from forked import killed_while

SILENT = Watcher()


def make_source(directory: Path) -> EdgeStore:
    """A hundred items of one generation, of which thirty have a newer version too, and five of another one."""
    store = EdgeStore(directory, lambda: BEFORE)
    store.put([item(number, metadata={"a": 0.1, "b": None} if number % 2 else {}) for number in range(100)])
    store.put([item(number, NEW, label=None, uri=None, content_hash=None) for number in range(100, 105)])
    store.refresh([item(number, WIDE, added="later") for number in range(30)], "r")
    return store


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EdgeStore]:
    """No test changes it."""
    with make_source(tmp_path_factory.mktemp("copied") / "source") as store:
        yield store


@pytest.fixture
def target(place: str) -> Iterator[GalleryStore]:
    """An empty gallery of every engine in turn."""
    with closing(open_store(place, lambda: BEFORE)) as store:
        yield store


def everything(store: GalleryStore) -> list[tuple[object, ...]]:
    return [
        (
            version.id, version.embedding.tobytes(), version.generation, version.label, version.uri, version.content_hash,
            version.added, dict(version.metadata), version.refresh, version.superseded,
        )
        for batch in store.versions(batch_size=7) for version in batch
    ]  # fmt: skip


def test_copy_to_another_engine_and_back_is_the_same(source: EdgeStore, target: GalleryStore, tmp_path: Path) -> None:
    before = everything(source)
    done = copy_gallery(source, target, SILENT)
    assert (done.items, done.versions, done.copied) == (105, 135, 135)
    assert everything(target) == before == everything(source)
    assert target.verify() == []
    for view in (BEFORE, AFTER, BOTH):
        assert contents(target, view) == contents(source, view)
        assert target.count_by_generation(view=view) == source.count_by_generation(view=view)
    with EdgeStore(tmp_path / "back") as back:
        copy_gallery(target, back, SILENT)
        assert everything(back) == before


def test_refresh_goes_on_and_is_settled_in_the_copy(source: EdgeStore, target: GalleryStore) -> None:
    copy_gallery(source, target, SILENT)
    assert target.refresh([item(number, WIDE) for number in range(40)], "r") == 10
    assert target.settle("r", "new") == 40
    assert target.count_by_generation(view=BOTH) == {OLD: 60, NEW: 5, WIDE: 40}
    assert source.count_by_generation(view=BOTH) == {OLD: 100, NEW: 5, WIDE: 30}


def test_copying_again_copies_nothing(source: EdgeStore, target: GalleryStore) -> None:
    copy_gallery(source, target, SILENT)
    heard: list[str] = []

    class Listener(Watcher):
        def counted(self, activity: str, done: int, total: int) -> None:
            heard.append(f"{activity} {done}/{total}")

    assert copy_gallery(source, target, Listener()).copied == 0
    assert heard == ["comparing 135/135"]


def test_copying_goes_on_wherever_it_stopped(
    source: EdgeStore, new_place: Callable[[], AbstractContextManager[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also between the two versions of one item, which some engines store one after the other."""
    monkeypatch.setattr(copying, "BATCH", 20)
    versions = [version for batch in source.versions() for version in batch]
    halves = [index for index in range(1, 135) if versions[index].id == versions[index - 1].id]
    for stop in (1, 70, *halves[:2]):
        with new_place() as place, closing(open_store(place)) as target:
            target.put_versions(versions[:stop])
            complete = stop - (stop in halves)
            assert copy_gallery(source, target, SILENT).copied == 135 - complete
            assert everything(target) == everything(source)


@pytest.mark.parametrize(
    ("stored", "reason"),
    [
        ([item(200)], "'item 200' has 0 versions in the one and 1"),
        ([item(90, label="x", metadata={})], "'item 90' has another label"),
        ([item(90, content_hash=None, metadata={})], "'item 90' has another content_hash"),
        ([item(90, metadata={"b": 1})], "'item 90' has other metadata"),
        ([item(90, embedding=unit(7, 4), metadata={})], "'item 90' has another vector"),
        ([item(90, NEW)], "'item 90' has 0 versions in the one and 1"),
        ([item(90, metadata={}), item(200)], "'item 200' has 0 versions"),
    ],
    ids=["item", "label", "content", "metadata", "vector", "generation", "one of two"],
)
def test_gallery_that_holds_something_else_is_refused_and_left_alone(
    source: EdgeStore, target: GalleryStore, stored: list[Item], reason: str
) -> None:
    target.put(stored)
    before = everything(target)
    with pytest.raises(RefusedError, match=f"holds something else: {reason}.* Name an empty one"):
        copy_gallery(source, target, SILENT)
    assert everything(target) == before


@pytest.mark.parametrize(
    "change",
    [
        lambda target: target.delete(["item 50"]),
        lambda target: target.put([item(300)]),
        lambda target: target.settle("r", "new"),
        lambda target: target.put_versions(
            [item(5, superseded="r", metadata={"a": 0.1, "b": None}, added="at another time")]
        ),
    ],
    ids=["deleted", "added", "settled", "time"],
)
def test_what_differs_afterwards_is_found(
    source: EdgeStore, target: GalleryStore, change: Callable[[GalleryStore], object]
) -> None:
    copy_gallery(source, target, SILENT)
    assert require_same(source, target, SILENT) == 105
    change(target)
    with pytest.raises(RefusedError, match="The galleries are not the same: 'item "):
        require_same(source, target, SILENT)


class Telling(Watcher):
    """Says how many items are copied."""

    def counted(self, activity: str, done: int, total: int) -> None:
        if activity.startswith("copying"):
            print(done, flush=True)


def copy(source: Path, place: str) -> None:
    """Copy a gallery in a process of its own, twenty items at a time."""
    copying.BATCH = 20
    with closing(open_store(source, create=False)) as original, closing(open_store(place)) as target:
        copy_gallery(original, target, Telling())


def test_kill_while_copying(shared_place: str, tmp_path: Path) -> None:
    """Three times; each copy goes on behind what the one before had said that it had copied."""
    source = make_source(tmp_path / "source")
    source.put([item(number) for number in range(105, 2000)])
    before = everything(source)
    source.close()
    acknowledged = 0
    for _ in range(3):
        counts = killed_while(tmp_path / "said", copy, tmp_path / "source", shared_place, lines=4, seconds=0)
        assert counts[0] > acknowledged
        acknowledged = counts[-1]
    with ExitStack() as stack:
        original, copied = (
            stack.enter_context(closing(open_store(place))) for place in (tmp_path / "source", shared_place)
        )
        assert copy_gallery(original, copied, SILENT).copied <= 2030 - acknowledged
        assert everything(copied) == before == everything(original)


def test_places_that_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="There is no gallery .*nowhere"):
        open_store(tmp_path / "nowhere", create=False)
    assert not (tmp_path / "nowhere").exists()
    make_source(tmp_path / "shop" / "gallery").close()
    (tmp_path / "shop" / "workspace.json").write_text("{}")
    with pytest.raises(NotFoundError, match="shop holds no gallery: .* such as .*shop/gallery, or its URL"):
        open_store(tmp_path / "shop", create=False)
    assert not (tmp_path / "shop" / ".lock").exists(), "nothing is left in a directory of something else"
    for place in ("shop/gallery", "empty"):
        (tmp_path / place).mkdir(exist_ok=True)
        open_store(tmp_path / place, create=False).close()
    with pytest.raises(InputError, match="No engine of galleries is called by mysql://"):
        open_store("mysql://localhost/shop")


def test_versions_that_cannot_be_stored_are_refused_together(target: GalleryStore) -> None:
    with pytest.raises(InputError, match="'item 2' has length 2, not 1"):
        target.put_versions([item(1), item(1, WIDE), item(2, embedding=unit(2, 4) * np.float32(2))])
    with pytest.raises(InputError, match="The id 'item 1' occurs twice"):
        target.put_versions([item(1), item(1)])
    assert target.count(view=BOTH) == 0
