"""The contract of every engine: round trips, filters, exact search, moves between generations, kills."""

import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from plain_items import NEW, OLD, add, item, known, vector

from evergallery.errors import InputError
from evergallery.gallery import Filter, GalleryStore, Item, open_store
from evergallery.gallery.items import NAMESPACE, View
from forked import killed_while

Open = Callable[[], GalleryStore]


@pytest.fixture
def opened(place: str) -> Iterator[Open]:
    """Opens the same gallery again and again."""
    stores: list[GalleryStore] = []

    def open_again() -> GalleryStore:
        for store in stores:
            store.close()
        stores.append(open_store(place))
        return stores[-1]

    yield open_again
    for store in stores:
        store.close()


def everything(store: GalleryStore, where: Filter = Filter()) -> dict[str, Item]:  # noqa: B008
    return {item.id: item for batch in store.iterate(where, batch_size=7) for item in batch}


def same(first: Item, second: Item) -> bool:
    return (
        first.same_but_for_time(second)
        and first.added == second.added
        and np.array_equal(first.embedding, second.embedding)
    )


def test_round_trip_through_reopening(opened: Open) -> None:
    items = [item(number) for number in range(20)]
    counts = opened().put(items)
    assert (counts.added, counts.replaced, counts.unchanged) == (20, 0, 0)
    store = opened()
    found = everything(store)
    assert all(same(found[item.id], item) for item in items)
    assert same(known(store, "item 7"), items[7])
    assert store.get("item 99") is None
    assert store.count() == 20
    assert store.verify() == []


def test_same_content_twice_changes_nothing(opened: Open) -> None:
    store = opened()
    store.put([item(1), item(2)])
    later = [item(number, added="2027-01-01T00:00:00+00:00") for number in (1, 2)]
    counts = store.put(later)
    assert (counts.added, counts.replaced, counts.unchanged) == (0, 0, 2)
    assert known(store, "item 1").added == "2026-01-01T00:00:00+00:00"


def test_replacing_keeps_the_time_of_adding(opened: Open) -> None:
    store = opened()
    store.put([item(1)])
    counts = store.put([item(1, label="other", added="2027-01-01T00:00:00+00:00")], relabel=True)
    assert (counts.added, counts.replaced, counts.unchanged) == (0, 1, 0)
    found = known(store, "item 1")
    assert (found.label, found.added) == ("other", "2026-01-01T00:00:00+00:00")
    assert store.count() == 1


@pytest.mark.parametrize("generation", [OLD, NEW])
def test_what_says_nothing_erases_nothing(opened: Open, generation: str) -> None:
    store = opened()
    store.put([item(1), item(2, label=None, uri=None, metadata={}), item(3, content_hash=None)])
    silent: dict[str, Any] = {"label": None, "uri": None, "metadata": {"price": None, "new": 5}}
    store.put([item(1, generation, **silent), item(2, generation), item(3, generation, **{**silent, "uri": "b.jpg"})])
    first, second, third = (known(store, f"item {number}") for number in (1, 2, 3))
    assert {first.generation, second.generation, third.generation} == {generation}
    assert (first.label, first.uri, first.content_hash) == ("class 1", "photos/1.jpg", f"{1:064x}")
    assert first.metadata == {"price": 1, "shop": "north", "new": 5}
    assert (second.label, second.uri, second.metadata) == ("class 2", "photos/2.jpg", {"price": 2, "shop": "south"})
    assert (third.label, third.uri) == ("class 0", "b.jpg"), "an address that is said is taken"
    assert store.put([item(1, generation, **silent, content_hash=None)]).unchanged == 1
    assert store.verify() == []


def test_another_vector_does_not_keep_the_content_of_the_one_before(opened: Open) -> None:
    store = opened()
    store.put([item(1), item(2)])
    counts = store.put([item(1, content_hash=None, embedding=item(9).embedding), item(2, content_hash=None)])
    assert (counts.replaced, counts.unchanged) == (1, 1)
    assert (known(store, "item 1").content_hash, known(store, "item 2").content_hash) == (None, f"{2:064x}")
    np.testing.assert_array_equal(known(store, "item 1").embedding, item(9).embedding)


def test_another_label_is_told_and_taken_only_where_that_is_asked_for(opened: Open) -> None:
    store = opened()
    store.put([item(number) for number in range(3)])
    others = [item(0, label="other"), item(1), item(2, label="other", metadata={"price": 99})]
    counts = store.put(others)
    assert (counts.replaced, counts.unchanged, counts.conflict_count) == (1, 2, 2)
    assert [(conflict.item, conflict.known, conflict.said) for conflict in counts.conflicts] == [
        ("item 0", "class 0", "other"),
        ("item 2", "class 2", "other"),
    ]
    assert [known(store, f"item {number}").label for number in range(3)] == ["class 0", "class 1", "class 2"]
    assert known(store, "item 2").metadata["price"] == 99, "the rest of what is said is taken"
    counts = store.put(others, relabel=True)
    assert (counts.replaced, counts.conflict_count) == (2, 0)
    assert [known(store, f"item {number}").label for number in range(3)] == ["other", "class 1", "other"]
    assert store.put([item(0, label=None)], relabel=True).unchanged == 1, "no label is no other label"


def test_an_id_is_in_one_generation_only(opened: Open) -> None:
    store = opened()
    store.put([item(number) for number in range(6)])
    counts = store.put([item(number, NEW) for number in (1, 4, 9)])
    assert (counts.added, counts.replaced) == (1, 2)
    assert store.count_by_generation() == {OLD: 4, NEW: 3}
    assert store.generations() == {OLD, NEW}
    assert known(opened(), "item 4").generation == NEW
    assert len(everything(opened())) == 7


def test_iterating_goes_on_after_any_id(opened: Open) -> None:
    store = opened()
    store.put([*(item(number) for number in range(20)), *(item(number, NEW) for number in range(20, 25))])
    order = [name for batch in store.identifiers() for name in batch]
    store.delete([order[4]])
    for place in (0, 3, 4, 20, 24):
        left = [name for name in order[place + 1 :] if name != order[4]]
        after = order[place]
        assert [name for batch in store.identifiers(batch_size=3, after=after) for name in batch] == left
        assert [item.id for batch in store.iterate(batch_size=3, after=after) for item in batch] == left
        new = [name for name in left if int(name.split()[1]) >= 20]
        assert [item.id for batch in store.iterate(Filter(generations=(NEW,)), after=after) for item in batch] == new


def test_order_of_iterating_depends_on_the_ids_alone(opened: Open) -> None:
    store = opened()
    store.put([item(number, NEW if number % 2 else OLD) for number in range(12)])
    order = [name for batch in store.identifiers() for name in batch]
    assert order == sorted(order, key=lambda name: uuid.uuid5(NAMESPACE, name))
    store.put([item(number) for number in range(6)])
    assert [item.id for batch in opened().iterate(batch_size=5) for item in batch] == order


def test_many_at_once_are_what_each_is_alone(opened: Open) -> None:
    store = opened()
    store.put([item(1), item(2), item(3, NEW), item(4)])
    store.refresh([item(2, NEW)], "r1")
    names = ["item 9", "item 3", "item 2", "item 1", "item 1"]
    for view in (None, View(shown=frozenset({"r1"})), View(hidden=frozenset({"r1"}))):
        found = store.get_many(names, view=view)
        assert set(found) == {"item 1", "item 2", "item 3"}
        assert all(same(item, known(store, name, view=view)) for name, item in found.items())
        bare = store.get_many(names, with_embeddings=False, view=view)
        assert {name: (item.generation, item.uri, len(item.embedding)) for name, item in bare.items()} == {
            name: (item.generation, item.uri, 0) for name, item in found.items()
        }
    assert store.get_many([]) == {}


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
        (Filter(uris=("photos/3.jpg", "photos/11.jpg", "photos/99.jpg")), {3, 11}),
        (Filter(uris=("photos/3.jpg", "photos/4.jpg"), labels=("class 1",)), {4}),
        (Filter(labels=("class 1",), metadata={"shop": "north"}, generations=(OLD,)), {1, 7}),
        (Filter(labels=("none",)), set()),
        (Filter(uris=("photos/3.jpg", "photos/11.jpg", "elsewhere.jpg")), {3, 11}),
    ],
    ids=str,
)
def test_filters(opened: Open, where: Filter, expected: set[int]) -> None:
    store = opened()
    store.put([*(item(number) for number in range(10)), item(10, NEW), item(11, NEW)])
    names = {f"item {number}" for number in expected}
    assert set(everything(store, where)) == names
    assert store.count(where) == len(names)
    assert store.generations() == {OLD, NEW}
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
    stored = np.stack([item.embedding for item in items])
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
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_sequence_of_puts_and_deletes(place: str, actions: list[tuple[Any, ...]]) -> None:
    model: dict[str, Item] = {}
    with closing(open_store(place)) as store:
        store.delete([f"item {number}" for number in range(7)])
        for action, number, generation, version in actions:
            if action == "put":
                new = item(number, generation, label=str(version))
                before = model.get(new.id)
                counts = store.put([new], relabel=True)
                assert counts.added == (before is None)
                model[new.id] = new
            else:
                assert store.delete([f"item {number}"]) == (model.pop(f"item {number}", None) is not None)
    with closing(open_store(place)) as store:
        found = everything(store)
        assert found.keys() == model.keys()
        assert all(same(found[name], item) for name, item in model.items())


def test_kill_loses_nothing_acknowledged_and_leaves_no_half_item(shared_place: str, tmp_path: Path) -> None:
    """Six times, at random moments of a large add; ``test_kills`` does so in all that writes."""
    draw = np.random.default_rng(0)
    acknowledged = -1
    for _ in range(6):
        lines, seconds = int(draw.integers(1, 4)), draw.uniform(0, 0.15)
        acknowledged = killed_while(
            tmp_path / "said", add, shared_place, acknowledged + 1, lines=lines, seconds=seconds
        )[-1]
        with closing(open_store(shared_place)) as store:
            assert store.verify() == []
            found = everything(store)
        for number in range((acknowledged + 1) * 50):
            stored = found[f"item {number}"]
            assert same(stored, item(number, OLD if number // 50 % 2 else NEW)), number
        assert len(found) <= (acknowledged + 2) * 50
    assert acknowledged >= 6
