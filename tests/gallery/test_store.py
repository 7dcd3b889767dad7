"""The contract of every engine: round trips, filters, exact search, moves between generations, kills."""

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from evergallery.errors import BusyError, DamagedError, InputError
from evergallery.files import write_json
from evergallery.gallery import EdgeStore, Filter, GalleryStore, Item
from evergallery.gallery.points import NAMESPACE

OLD, NEW = "a" * 64, "b" * 64
DIMENSIONS = {OLD: 8, NEW: 12}

Open = Callable[[], GalleryStore]


def vector(seed: int, dimension: int = 8) -> NDArray[np.float32]:
    values = np.random.default_rng(seed).normal(size=dimension).astype(np.float32)
    return values / np.linalg.norm(values)


def item(number: int, generation: str = OLD, **changes: object) -> Item:
    made = Item(
        id=f"item {number}",
        embedding=vector(number, DIMENSIONS[generation]),
        generation=generation,
        label=f"class {number % 3}",
        uri=f"photos/{number}.jpg",
        content_hash=f"{number:064x}",
        added="2026-01-01T00:00:00+00:00",
        metadata={"price": number, "shop": "north" if number % 2 else "south"},
    )
    return replace(made, **changes)


@pytest.fixture(params=[EdgeStore])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    """Opens the same gallery again and again; another engine joins the contract by a parameter here."""
    stores: list[GalleryStore] = []

    def open_again() -> GalleryStore:
        for store in stores:
            store.close()
        stores.append(request.param(tmp_path / "gallery"))
        return stores[-1]

    yield open_again
    for store in stores:
        store.close()


def everything(store: GalleryStore, where: Filter = Filter()) -> dict[str, Item]:  # noqa: B008
    return {one.id: one for batch in store.iterate(where, batch_size=7) for one in batch}


def same(one: Item, other: Item) -> bool:
    return one.same_but_for_time(other) and one.added == other.added and np.array_equal(one.embedding, other.embedding)


def test_round_trip_through_reopening(opened: Open) -> None:
    items = [item(number) for number in range(20)]
    counts = opened().put(items)
    assert (counts.added, counts.replaced, counts.unchanged) == (20, 0, 0)
    store = opened()
    found = everything(store)
    assert all(same(found[one.id], one) for one in items)
    assert same(store.get("item 7"), items[7])
    assert store.get("item 99") is None
    assert store.count() == 20
    assert store.verify() == []


def test_same_content_twice_changes_nothing(opened: Open) -> None:
    store = opened()
    store.put([item(1), item(2)])
    later = [item(number, added="2027-01-01T00:00:00+00:00") for number in (1, 2)]
    counts = store.put(later)
    assert (counts.added, counts.replaced, counts.unchanged) == (0, 0, 2)
    assert store.get("item 1").added == "2026-01-01T00:00:00+00:00"


def test_replacing_keeps_the_time_of_adding(opened: Open) -> None:
    store = opened()
    store.put([item(1)])
    counts = store.put([item(1, label="other", added="2027-01-01T00:00:00+00:00")])
    assert (counts.added, counts.replaced, counts.unchanged) == (0, 1, 0)
    found = store.get("item 1")
    assert (found.label, found.added) == ("other", "2026-01-01T00:00:00+00:00")
    assert store.count() == 1


def test_an_id_is_in_one_generation_only(opened: Open) -> None:
    store = opened()
    store.put([item(number) for number in range(6)])
    counts = store.put([item(number, NEW) for number in (1, 4, 9)])
    assert (counts.added, counts.replaced) == (1, 2)
    assert store.count_by_generation() == {OLD: 4, NEW: 3}
    assert store.generations() == {OLD, NEW}
    assert opened().get("item 4").generation == NEW
    assert len(everything(opened())) == 7


def test_move_that_was_killed_half_way_is_finished_when_opened(opened: Open, tmp_path: Path) -> None:
    store = opened()
    store.put([item(number) for number in range(4)])
    # The new vectors of 1 and 2 arrived, the old ones are still there, 3 had not arrived.
    store.put([item(8, NEW)])
    store._shards[NEW].update(_upsert([item(1, NEW), item(2, NEW)]))
    store._shards[NEW].flush()
    write_json(tmp_path / "gallery" / "moving.json", {"to": NEW, "ids": ["item 1", "item 2", "item 3"]})
    store = opened()
    assert store.count_by_generation() == {OLD: 2, NEW: 3}
    assert [store.get(f"item {number}").generation for number in (0, 1, 2, 3)] == [OLD, NEW, NEW, OLD]
    assert not (tmp_path / "gallery" / "moving.json").exists()


def _upsert(items: list[Item]) -> object:
    from evergallery.gallery import edge

    return edge.engine.UpdateOperation.upsert_points(
        [
            edge.engine.Point(edge._point_id(one.id), one.embedding.tolist(), edge._payload(one, one.added))
            for one in items
        ]
    )


def test_iterating_goes_on_after_any_id(opened: Open) -> None:
    store = opened()
    store.put([*(item(number) for number in range(20)), *(item(number, NEW) for number in range(20, 25))])
    order = [name for batch in store.identifiers() for name in batch]
    store.delete([order[4]])
    for place in (0, 3, 4, 20, 24):
        left = [name for name in order[place + 1 :] if name != order[4]]
        after = order[place]
        assert [name for batch in store.identifiers(batch_size=3, after=after) for name in batch] == left
        assert [one.id for batch in store.iterate(batch_size=3, after=after) for one in batch] == left
        new = [name for name in left if int(name.split()[1]) >= 20]
        assert [one.id for batch in store.iterate(Filter(generations=(NEW,)), after=after) for one in batch] == new


def test_order_of_iterating_depends_on_the_ids_alone(opened: Open) -> None:
    store = opened()
    store.put([item(number, NEW if number % 2 else OLD) for number in range(12)])
    order = [name for batch in store.identifiers() for name in batch]
    assert order == sorted(order, key=lambda name: uuid.uuid5(NAMESPACE, name))
    store.put([item(number) for number in range(6)])
    assert [one.id for batch in opened().iterate(batch_size=5) for one in batch] == order


def test_deleting(opened: Open) -> None:
    store = opened()
    store.put([item(1), item(2), item(3, NEW)])
    assert store.delete(["item 1", "item 3", "item 9"]) == 2
    assert list(everything(opened())) == ["item 2"]


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (Filter(labels=("class 1",)), {1, 4, 7, 10}),
        (Filter(labels=("class 1", "class 2")), {1, 2, 4, 5, 7, 8, 10, 11}),
        (Filter(generations=(NEW,)), {10, 11}),
        (Filter(metadata={"shop": "north"}), {1, 3, 5, 7, 9, 11}),
        (Filter(metadata={"price": 4}), {4}),
        (Filter(labels=("class 1",), metadata={"shop": "north"}, generations=(OLD,)), {1, 7}),
        (Filter(labels=("none",)), set()),
    ],
    ids=str,
)
def test_filters(opened: Open, where: Filter, expected: set[int]) -> None:
    store = opened()
    store.put([*(item(number) for number in range(10)), item(10, NEW), item(11, NEW)])
    names = {f"item {number}" for number in expected}
    assert set(everything(store, where)) == names
    assert store.count(where) == len(names)
    dimension = 12 if where.generations == (NEW,) else 8
    only_one = where if where.generations else replace(where, generations=(OLD,))
    found = store.search(vector(0, dimension)[None], 50, where=only_one)[0]
    assert {match.item.id for match in found} == {name for name in names if everything(store, only_one).get(name)}


def test_counts_by_label(opened: Open) -> None:
    store = opened()
    store.put([item(0), item(1), item(3), item(4, label=None)])
    assert store.count_by_label() == {"class 0": 2, "class 1": 1}


def test_search_is_exact(opened: Open) -> None:
    store = opened()
    items = [item(number) for number in range(300)]
    store.put(items)
    queries = np.stack([vector(10_000 + number) for number in range(5)])
    stored = np.stack([one.embedding for one in items])
    for query, found in zip(queries, store.search(queries, 10), strict=True):
        scores = stored @ query
        expected = np.argsort(-scores)[:10]
        assert [match.item.id for match in found] == [items[index].id for index in expected]
        np.testing.assert_allclose([match.score for match in found], scores[expected], atol=1e-5)
    best = store.search(queries[:1], 300, minimum_score=0.4)[0]
    assert len(best) == int((stored @ queries[0] >= 0.4).sum())


def test_equal_scores_come_in_order_of_ids(opened: Open) -> None:
    store = opened()
    store.put([item(number, embedding=vector(0)) for number in range(40)])
    expected = sorted(f"item {number}" for number in range(40))
    for k in (1, 5, 39, 40, 60):
        assert [match.item.id for match in store.search(vector(0)[None], k)[0]] == expected[:k]


def test_search_joins_generations_of_one_dimension(opened: Open) -> None:
    third = "c" * 64
    store = opened()
    store.put([item(0), item(1), *(replace(item(number), generation=third) for number in (2, 3))])
    found = store.search(vector(2)[None], 4)[0]
    assert found[0].item.id == "item 2"
    assert len(found) == 4
    assert [match.score for match in found] == sorted((match.score for match in found), reverse=True)


@pytest.mark.parametrize(
    ("items", "message"),
    [
        (
            [item(1, embedding=vector(1, 9))],
            "'item 1' has 9 dimensions and those of its generation aaaaaaaaaaaa have 8",
        ),
        ([item(1, embedding=vector(1) * 2)], "'item 1' has length 2, not 1"),
        ([item(1, embedding=vector(1) * 0)], "'item 1' has length 0, not 1"),
        ([item(1, embedding=vector(1) * np.float32("nan"))], "'item 1' is not finite"),
        ([item(1, embedding=vector(1).astype(np.float64))], "float64: it must be"),
        ([item(1), item(2), item(1)], "The id 'item 1' occurs twice"),
        ([item(1, id="")], "An item has an empty id"),
        ([item(1, metadata={"a": [1]})], "The metadata 'a' of 'item 1' cannot be stored"),
        ([item(1, metadata={"a.b": 1})], "The metadata 'a.b' of 'item 1' cannot be stored"),
    ],
    ids=["dimension", "length", "zero", "nan", "type", "twice", "empty id", "list", "dot"],
)
def test_items_that_cannot_be_stored(opened: Open, items: list[Item], message: str) -> None:
    store = opened()
    store.put([item(50)])
    with pytest.raises(InputError, match=message):
        store.put([item(40), *items])
    assert list(everything(store)) == ["item 50"], "and none of them is"


def test_query_of_another_dimension(opened: Open) -> None:
    store = opened()
    store.put([item(1)])
    with pytest.raises(InputError, match="The queries have 12 dimensions and the vectors of aaaaaaaaaaaa have 8"):
        store.search(vector(1, 12)[None], 3)


ACTIONS = st.lists(
    st.tuples(st.sampled_from(["put", "delete"]), st.integers(0, 6), st.sampled_from([OLD, NEW]), st.integers(0, 2)),
    max_size=14,
)


@given(actions=ACTIONS)
@settings(max_examples=15, deadline=None)
def test_any_sequence_of_puts_and_deletes(tmp_path_factory: pytest.TempPathFactory, actions: list[tuple]) -> None:
    model: dict[str, Item] = {}
    directory = tmp_path_factory.mktemp("gallery")
    with EdgeStore(directory) as store:
        for action, number, generation, version in actions:
            if action == "put":
                new = item(number, generation, label=str(version))
                before = model.get(new.id)
                counts = store.put([new])
                assert counts.added == (before is None)
                model[new.id] = new
            else:
                assert store.delete([f"item {number}"]) == (model.pop(f"item {number}", None) is not None)
    with EdgeStore(directory) as store:
        found = everything(store)
        assert found.keys() == model.keys()
        assert all(same(found[name], one) for name, one in model.items())


def test_second_process_is_told_who_has_it(opened: Open, tmp_path: Path) -> None:
    opened()
    with pytest.raises(BusyError, match=rf"gallery is in use: process {os.getpid()} \(using the gallery\)"):
        EdgeStore(tmp_path / "gallery")


def test_damaged_files_are_named(opened: Open, tmp_path: Path) -> None:
    store = opened()
    store.put([item(number) for number in range(5)])
    store.close()
    shard = tmp_path / "gallery" / OLD[:16] / "shard"
    (shard / "edge_config.json").write_text("{")
    with pytest.raises(DamagedError, match=r"files in .*aaaa cannot be opened .*restore them from a backup"):
        EdgeStore(tmp_path / "gallery")
    (tmp_path / "gallery" / OLD[:16] / "space.json").unlink()
    with pytest.raises(DamagedError, match=r"space\.json cannot be read"):
        EdgeStore(tmp_path / "gallery")


def test_verify_names_what_is_wrong(opened: Open) -> None:
    store = opened()
    store.put([item(1), item(2)])
    store._update(OLD, _upsert([item(3, embedding=vector(3) * np.float32(0.5))]))
    store._update(OLD, _upsert([item(4, generation=NEW, embedding=vector(4))]))
    problems = store.verify()
    assert len(problems) == 2
    assert any("the vector of 'item 3' is not a unit vector of 8 dimensions" in problem for problem in problems)
    assert any("'item 4' lies among the vectors of another generation" in problem for problem in problems)


ADDER = """
import sys
sys.path[:0] = {paths!r}
from test_store import *
with EdgeStore(Path(sys.argv[1])) as store:
    for batch in range(int(sys.argv[2]), 1000):
        store.put([item(batch * 50 + number, OLD if batch % 2 else NEW) for number in range(50)])
        print(batch, flush=True)
"""


def test_kill_loses_nothing_acknowledged_and_leaves_no_half_item(tmp_path: Path) -> None:
    """Ten times, at random moments of a large add."""
    directory = tmp_path / "gallery"
    script = ADDER.format(paths=[str(Path(__file__).parent)])
    draw = np.random.default_rng(0)
    acknowledged = -1
    for _ in range(10):
        process = subprocess.Popen(
            [sys.executable, "-c", script, str(directory), str(acknowledged + 1)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        with process.stdout:
            for _ in range(draw.integers(1, 4)):
                acknowledged = int(process.stdout.readline())
            time.sleep(draw.uniform(0, 0.15))
            os.kill(process.pid, signal.SIGKILL)
            lines = process.stdout.read().split()
        process.wait()
        acknowledged = int(lines[-1]) if lines else acknowledged
        with EdgeStore(directory) as store:
            assert store.verify() == []
            found = everything(store)
        for number in range((acknowledged + 1) * 50):
            one = found[f"item {number}"]
            assert same(one, item(number, OLD if number // 50 % 2 else NEW)), number
        assert len(found) <= (acknowledged + 2) * 50
    assert acknowledged >= 10
