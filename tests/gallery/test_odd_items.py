"""The contract of every engine, continued: odd metadata and odd items, threads, compaction."""

import json
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from plain_items import known

from evergallery.errors import InputError
from evergallery.gallery import Filter, GalleryStore, Item, open_store
from evergallery.gallery.items import check_items

OLD, NEW = "1" * 64, "2" * 64
DIMENSIONS = {OLD: 6, NEW: 9}


def unit_rows(count: int, dimension: int, seed: int = 0) -> NDArray[np.float32]:
    values = np.random.default_rng(seed).normal(size=(count, dimension)).astype(np.float32)
    made: NDArray[np.float32] = values / np.linalg.norm(values, axis=1, keepdims=True)
    return made


def item(number: int, generation: str = OLD, **changes: Any) -> Item:
    made = Item(
        id=f"item {number}",
        embedding=unit_rows(1, DIMENSIONS[generation], number)[0],
        generation=generation,
        label=f"class {number % 3}",
        uri=None,
        content_hash=f"{number:064x}",
        added="2026-01-01T00:00:00+00:00",
    )
    return replace(made, **changes)


@pytest.fixture
def store(place: str) -> Iterator[GalleryStore]:
    """An empty gallery."""
    with closing(open_store(place)) as opened:
        yield opened


def identifiers(store: GalleryStore, where: Filter) -> set[str]:
    return {item.id for batch in store.iterate(where) for item in batch}


VALUES: dict[str, str | int | float | bool | None] = {
    "true": True,
    "false": False,
    "one": 1,
    "one and a half": 1.5,
    "text": "1",
    "nothing": None,
    "big": 2**63 - 1,
}


@pytest.mark.parametrize("name", VALUES)
def test_metadata_of_any_kind_are_filtered_by_value_and_kind(store: GalleryStore, name: str) -> None:
    store.put([item(number, metadata={"k": value}) for number, value in enumerate(VALUES.values())])
    store.put([item(20), item(21, metadata={"other": VALUES[name]})])
    where = Filter(metadata={"k": VALUES[name]})
    assert identifiers(store, where) == {f"item {list(VALUES).index(name)}"}
    assert store.count(where) == 1


def test_whole_floats_equal_integers(store: GalleryStore) -> None:
    store.put([item(1, metadata={"k": 2}), item(2, metadata={"k": 2.0})])
    assert store.count(Filter(metadata={"k": 2})) == store.count(Filter(metadata={"k": 2.0})) == 2


def test_other_metadata_replace_the_item(store: GalleryStore) -> None:
    store.put([item(1, metadata={"k": 1})])
    assert store.put([item(1, metadata={"k": True})]).replaced == 1
    assert known(store, "item 1").metadata["k"] is True
    assert store.put([item(1, metadata={})]).unchanged == 1
    assert known(store, "item 1").metadata["k"] is True


scalars = st.none() | st.booleans() | st.integers(-(2**63) + 1, 2**63 - 1) | st.floats(allow_nan=False) | st.text()


@given(
    values=st.lists(scalars.filter(lambda value: value not in (float("inf"), -float("inf"))), min_size=1, max_size=30)
)
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_metadata_come_back_as_they_were(store: GalleryStore, values: list[object]) -> None:
    store.delete(list(identifiers(store, Filter())))
    try:
        items = [item(number, metadata={"k": value}) for number, value in enumerate(values)]
        json.dumps(values, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return
    store.put(items)
    for number, value in enumerate(values):
        back = known(store, f"item {number}").metadata["k"]
        assert (back, type(back)) == (value, type(value))
        assert f"item {number}" in identifiers(store, Filter(metadata={"k": back}))
    assert store.put(items).unchanged == len(items)
    assert store.verify() == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"metadata": {"k": float("nan")}}, "The metadata 'k' of 'item 1' cannot be stored"),
        ({"metadata": {"k": float("inf")}}, "The metadata 'k' of 'item 1' cannot be stored"),
        ({"metadata": {"k": 2**63}}, "The metadata 'k' of 'item 1' cannot be stored"),
        ({"id": "caf\udce9.jpg"}, r"The item 'caf\\udce9.jpg' has text that is not Unicode"),
        ({"uri": "caf\udce9.jpg"}, "The item 'item 1' has text that is not Unicode"),
        ({"metadata": {"k": "\udce9"}}, "The item 'item 1' has text that is not Unicode"),
        ({"generation": "../v1"}, "The generation '../v1' is not a fingerprint"),
        ({"generation": ""}, "The generation '' is not a fingerprint"),
        ({"embedding": np.full(6, 0.4087, np.float32)}, "'item 1' has length 1.001, not 1"),
        ({"embedding": np.full((1, 6), 0.4, np.float32)}, r"'item 1' has shape \(1, 6\)"),
    ],
    ids=lambda value: str(value)[:30] if isinstance(value, dict) else "",
)
def test_more_items_that_cannot_be_stored(store: GalleryStore, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        store.put([item(0), replace(item(1), **changes)])
    assert store.count() == 0


@pytest.mark.parametrize(
    ("queries", "message"),
    [
        (np.ones(6, np.float32), r"shape \(6,\): they must be \(Q, D\)"),
        (np.ones((1, 6), np.float32), "Query 0 has length 2.449, not 1"),
        (np.full((1, 6), np.nan, np.float32), "Query 0 has length nan, not 1"),
    ],
    ids=["one axis", "length", "nan"],
)
def test_queries_that_are_not_unit_rows(store: GalleryStore, queries: NDArray[np.float32], message: str) -> None:
    store.put([item(1)])
    with pytest.raises(InputError, match=message):
        store.search(queries, 1)
    with pytest.raises(InputError, match="k is 0"):
        store.search(unit_rows(1, 6), 0)
    assert store.search(unit_rows(0, 6), 1) == []


def test_what_is_known(store: GalleryStore) -> None:
    store.put([item(1), item(2, label="x"), item(3, NEW), item(4, content_hash=None)])
    hashes = [f"{number:064x}" for number in (1, 2, 3, 4, 5)]
    assert store.contains(["item 1", "item 3", "item 5"]) == {"item 1", "item 3"}
    assert store.contains([]) == set()
    assert store.known_content(hashes) == set(hashes[:3])
    assert store.known_content(hashes, Filter(generations=(OLD,))) == set(hashes[:2])
    assert store.known_content(hashes, Filter(labels=("x",))) == {hashes[1]}
    assert store.known_content([]) == set()


def test_counts_by_label_of_a_generation(store: GalleryStore) -> None:
    store.put([*(item(number) for number in range(20)), item(20, NEW, label="new"), item(21, label=None)])
    assert store.count_by_label() == {"class 0": 7, "class 1": 7, "class 2": 6, "new": 1}
    assert store.count_by_label(Filter(generations=(NEW,))) == {"new": 1}
    assert store.count_by_label(Filter(labels=("class 1",))) == {"class 1": 7}


def test_items_without_embeddings(store: GalleryStore) -> None:
    store.put([item(1)])
    ((found,),) = store.iterate(with_embeddings=False)
    assert (found.id, found.label, found.embedding.shape) == ("item 1", "class 1", (0,))


def test_minimum_score_admits_what_equals_it(store: GalleryStore) -> None:
    axes = np.eye(6, dtype=np.float32)
    store.put([item(number, embedding=axes[number]) for number in range(3)])
    found = store.search(axes[:1], 3, minimum_score=0.0)[0]
    assert [(match.item.id, match.score) for match in found] == [("item 0", 1), ("item 1", 0), ("item 2", 0)]
    assert len(store.search(axes[:1], 3, minimum_score=1e-6)[0]) == 1


def test_refresh_reads_one_generation_while_it_fills_another(store: GalleryStore) -> None:
    store.put([item(number) for number in range(50)])
    for batch in store.iterate(Filter(generations=(OLD,)), batch_size=7):
        store.put([item(int(stored.id.split()[1]), NEW) for stored in batch])
    assert store.count_by_generation() == {NEW: 50}
    assert store.verify() == []


def test_compaction_changes_no_answer(store: GalleryStore) -> None:
    items = [item(number) for number in range(1500)]
    store.put(items)
    store.delete([item.id for item in items[::3]])
    kept = [item for index, item in enumerate(items) if index % 3]
    queries = unit_rows(3, 6, seed=77)
    before = [[match.item.id for match in found] for found in store.search(queries, 20)]
    store.compact()
    assert [[match.item.id for match in found] for found in store.search(queries, 20)] == before
    assert [len(found) for found in store.search(queries, 20, exact=False)] == [20, 20, 20]
    assert identifiers(store, Filter()) == {item.id for item in kept}


def test_threads_that_move_items_to_and_fro_leave_each_in_one_generation(store: GalleryStore) -> None:
    store.put([item(number) for number in range(10)])
    failures: list[BaseException] = []

    def move(generation: str) -> None:
        try:
            for _ in range(4):
                store.put([item(number, generation) for number in range(10)])
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=move, args=(generation,)) for generation in (OLD, NEW)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert sum(store.count_by_generation().values()) == len(store.contains([f"item {n}" for n in range(10)])) == 10


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"id": 3}, "The id of the item 3 is 3: it must be a string"),
        ({"label": 3}, "The label of the item 'item 1' is 3: it must be a string"),
        ({"uri": ["a.jpg"]}, r"The uri of the item 'item 1' is \['a.jpg'\]: it must be a string"),
        ({"content_hash": b"1"}, "The content_hash of the item 'item 1' is b'1': it must be a string"),
        ({"added": None}, "The added of the item 'item 1' is None: it must be a string"),
        ({"generation": None}, "The generation of the item 'item 1' is None: it must be a string"),
        ({"embedding": [1.0, 0.0]}, "The embedding of 'item 1' is a list: it must be an array of NumPy"),
        ({"metadata": None}, "The metadata of 'item 1' is None: it must be a dictionary"),
        ({"metadata": {1: 2}}, "The metadata 1 of 'item 1' cannot be stored"),
    ],
)
def test_an_item_of_other_types_is_refused_before_an_engine_keeps_it(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        check_items([item(0), replace(item(1), **changes)])
