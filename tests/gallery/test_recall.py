"""An index answers where it was measured to find the true neighbours, and nowhere else."""

import json
import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import qdrant_edge as engine
from numpy.typing import NDArray

from evergallery.errors import DamagedError
from evergallery.files import TEMPORARY_PREFIX
from evergallery.gallery import Filter, GalleryStore, Index, Item, Match, View
from evergallery.gallery.edge import EdgeStore, shard
from evergallery.gallery.edge import store as edge
from evergallery.gallery.edge.compacting import compact_elsewhere
from evergallery.gallery.items import FLOOR, LARGEST_CHANGE, point_id
from evergallery.gallery.recall import measured_recall

ONE, OTHER = "1" * 64, "2" * 64
DIMENSION = 16


def unit_rows(count: int, seed: int = 0) -> NDArray[np.float32]:
    values = np.random.default_rng(seed).normal(size=(count, DIMENSION)).astype(np.float32)
    made: NDArray[np.float32] = values / np.linalg.norm(values, axis=1, keepdims=True)
    return made


def items(count: int, generation: str = ONE, first: int = 0) -> list[Item]:
    rows = unit_rows(count, seed=first)
    return [
        Item(
            f"item {first + row}", rows[row], generation, f"class {row % 3}", None, f"{first + row:064x}", "2026-01-01"
        )
        for row in range(count)
    ]


@pytest.fixture(autouse=True)
def small_indexes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard, "INDEX_FROM", 400)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether each search of a shard was asked to be exact."""
    found: list[bool] = []
    search = shard.Shard.search

    def noting(self: shard.Shard, request: engine.SearchRequest) -> object:
        found.append(bool(request.params and request.params.exact))
        return search(self, request)

    monkeypatch.setattr(shard.Shard, "search", noting)
    return found


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EdgeStore]:
    with EdgeStore(tmp_path / "gallery") as opened:
        yield opened


def ways(store: EdgeStore, asked: list[bool], **options: Any) -> list[bool]:
    asked.clear()
    store.search(unit_rows(1, seed=9), 5, **{"exact": None, **options})
    return list(asked)


def test_small_galleries_are_searched_exactly(store: EdgeStore, asked: list[bool]) -> None:
    store.put(items(300))
    store.compact()
    assert store.indexes() == {}
    assert ways(store, asked) == [True]


def test_an_index_that_was_measured_answers_unasked(store: EdgeStore, asked: list[bool], tmp_path: Path) -> None:
    store.put([*items(600), *items(50, OTHER, first=1000)])
    assert ways(store, asked) == [True, True], "nothing is indexed before compact"
    store.compact()
    (index,) = store.indexes().values()
    assert store.indexes().keys() == {ONE}
    assert (index.vectors, index.changed) == (600, 0)
    assert FLOOR <= index.recall <= 1
    of_one = Filter(generations=(ONE,))
    assert ways(store, asked, where=of_one) == [False]
    assert ways(store, asked, where=of_one, exact=True) == [True]
    assert ways(store, asked, where=Filter(generations=(OTHER,))) == [True]
    store.close()
    with EdgeStore(tmp_path / "gallery") as again:
        assert again.indexes() == {ONE: index}
        assert ways(again, asked, where=of_one) == [False]


def test_filters_and_open_refreshes_are_searched_exactly(store: EdgeStore, asked: list[bool]) -> None:
    store.put(items(600))
    store.compact()
    assert ways(store, asked, where=Filter(labels=("class 1",))) == [True]
    assert ways(store, asked, view=View(hidden=frozenset({"refresh 1"}))) == [True]
    assert ways(store, asked, where=Filter(labels=("class 1",)), exact=False) == [False]


def test_an_index_that_misses_too_many_does_not_answer(
    store: EdgeStore, asked: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put(items(600))
    monkeypatch.setattr(edge, "measured_recall", lambda *_: FLOOR - 0.01)
    store.compact()
    assert store.indexes()[ONE].recall == FLOOR - 0.01
    assert ways(store, asked) == [True]


def test_an_index_that_has_lost_too_many_vectors_does_not_answer(
    store: EdgeStore, asked: list[bool], tmp_path: Path
) -> None:
    store.put(items(600))
    store.compact()
    store.put(items(300, first=2000))
    assert store.indexes()[ONE].changed == 0, "what is new is compared with one by one"
    most = int(LARGEST_CHANGE * 600)
    store.delete([f"item {number}" for number in range(60)])
    store.put([replace(item, label="other") for item in items(600)[60:most]], relabel=True)
    assert store.indexes()[ONE].changed == most
    assert ways(store, asked) == [False]
    store.close()
    with EdgeStore(tmp_path / "gallery") as again:
        assert again.indexes()[ONE].changed == most
        again.delete([f"item {most}"])
        assert ways(again, asked) == [True]
        again.compact()
        assert again.indexes()[ONE].changed == 0
        assert ways(again, asked) == [False]


def test_a_kill_forgets_few_of_the_changes(store: EdgeStore, tmp_path: Path) -> None:
    store.put(items(600))
    store.compact()
    for number in range(25):
        store.delete([f"item {number}"])
    (path,) = (tmp_path / "gallery").rglob("index.json")
    kept = json.loads(path.read_text())
    assert 25 - kept["changed"] <= 6


def test_what_is_known_of_an_index_goes_before_it_is_built_anew(
    store: EdgeStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    store.put(items(600))
    store.compact()

    def killed(*_: Any) -> float:
        raise KeyboardInterrupt

    monkeypatch.setattr(edge, "measured_recall", killed)
    with pytest.raises(KeyboardInterrupt):
        store.compact()
    assert store.indexes() == {}
    assert not list((tmp_path / "gallery").rglob("index.json"))


def test_a_description_that_is_none_is_damage(store: EdgeStore, tmp_path: Path) -> None:
    store.put(items(10))
    store.close()
    (tmp_path / "gallery" / ONE[:16] / "index.json").write_text('{"vectors": 3}')
    with pytest.raises(DamagedError, match=r"index\.json does not describe an index .*gallery compact"):
        EdgeStore(tmp_path / "gallery")


class LossyStore:
    """Searches exactly, and approximately only among the items whose number is even."""

    def __init__(self, store: EdgeStore) -> None:
        self.store, self.iterate = store, store.iterate

    def search(self, queries: NDArray[np.float32], k: int, *, exact: bool, **options: Any) -> list[list[Match]]:
        found = self.store.search(queries, k if exact else 10 * k, **options)
        return [
            [match for match in matches if exact or int(match.item.id.split()[1]) % 2 == 0][:k] for matches in found
        ]


def forgetful(store: EdgeStore) -> GalleryStore:
    return cast(GalleryStore, LossyStore(store))


def test_recall_is_the_share_of_true_neighbours(store: EdgeStore) -> None:
    store.put(items(300))
    rows, numbers = unit_rows(300), np.arange(300)
    scores = rows @ rows.T - 9 * np.eye(300, dtype=np.float32)
    nearest = np.argsort(-scores, axis=1)[:, :10]
    sampled = [int(item.id.split()[1]) for item in next(iter(store.iterate(batch_size=256)))]
    assert len(sampled) == 256
    assert set(sampled) < set(numbers.tolist())
    expected = (nearest[sampled] % 2 == 0).mean()
    assert measured_recall(forgetful(store), ONE) == pytest.approx(expected, abs=1e-9)
    assert measured_recall(store, ONE) == 1


def test_of_equal_neighbours_any_will_do(store: EdgeStore) -> None:
    store.put([replace(item, embedding=unit_rows(1)[0]) for item in items(100)])
    assert measured_recall(forgetful(store), ONE) == 1


def test_recall_of_next_to_nothing(store: EdgeStore) -> None:
    store.put(items(1))
    assert measured_recall(store, ONE) == 1


def test_whether_an_index_serves() -> None:
    good = Index(vectors=1000, recall=FLOOR, measured="2026-01-01")
    assert good.serves
    assert replace(good, changed=200).serves
    assert not replace(good, changed=201).serves
    assert not replace(good, recall=FLOOR - 1e-6).serves


# Compacting, in a process of its own


def directories(store: EdgeStore) -> list[str]:
    return sorted(path.name for path in store.directory.iterdir() if path.is_dir())


def test_others_search_while_a_large_generation_is_compacted(store: EdgeStore) -> None:
    given = items(2500)
    store.put(given)
    store.delete([item.id for item in given[::5]])
    queries = unit_rows(20, seed=3)
    expected = [[match.item.id for match in found] for found in store.search(queries, 10)]
    stop, failures, during = threading.Event(), [], []

    def search() -> None:
        while not stop.is_set():
            found = [[match.item.id for match in matches] for matches in store.search(queries, 10)]
            if found != expected or store.count() != 2000 or store.get("item 1") is None:
                failures.append(found)
            during.append(directories(store))

    thread = threading.Thread(target=search)
    thread.start()
    store.compact()
    stop.set()
    thread.join()
    assert failures == []
    assert sum(any(name.startswith(TEMPORARY_PREFIX) for name in names) for names in during) > 1, "it was not held up"
    assert directories(store) == [f"{ONE[:16]}-2"]
    assert store.verify() == []
    store.put(items(10, first=9000))
    store.compact()
    assert directories(store) == [f"{ONE[:16]}-3"]
    assert store.count() == 2010


def test_compacting_that_fails_changes_nothing(store: EdgeStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.put(items(500))

    def full(path: Path) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched, pytest.raises(OSError, match="No space left"):
        patched.setattr(shard, "compact_elsewhere", full)
        store.compact()

    def forgetful(path: Path) -> None:
        opened = engine.EdgeShard.load(str(path))
        opened.update(engine.UpdateOperation.delete_points([point_id("item 7")]))
        opened.close()

    with monkeypatch.context() as patched, pytest.raises(DamagedError, match="Of 500 vectors .* compacting kept 499"):
        patched.setattr(shard, "compact_elsewhere", forgetful)
        store.compact()
    assert directories(store) == [ONE[:16]]
    assert store.put(items(500)).unchanged == 500
    assert store.verify() == []


def test_the_reason_of_the_other_process_is_told(tmp_path: Path) -> None:
    with pytest.raises(DamagedError, match=r"vectors in .* could not be compacted \(.+\): run  evergallery doctor"):
        compact_elsewhere(tmp_path / "nothing" / "shard")


def test_of_two_copies_that_a_kill_left_the_compacted_one_is_kept(store: EdgeStore, tmp_path: Path) -> None:
    store.put(items(500))
    store.close()
    shutil.copytree(store.directory, tmp_path / "before")
    with EdgeStore(store.directory) as again:
        again.compact()
    shutil.copytree(tmp_path / "before" / ONE[:16], store.directory / ONE[:16])
    with EdgeStore(store.directory) as again:
        assert directories(again) == [f"{ONE[:16]}-2"]
        assert again.count() == 500
        assert again.indexes().keys() == {ONE}
