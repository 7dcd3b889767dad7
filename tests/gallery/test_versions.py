"""Two versions of an item: every view agrees with a model in plain Python, through kills, full disks and threads."""

import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from many_versions import DIMENSIONS, NEW, OLD, WIDE, item, refresh, settle, unit
from plain_items import known

from evergallery.errors import InputError
from evergallery.gallery import Filter, GalleryStore, Item, View, open_store
from evergallery.gallery.versions import place as place_of
from forked import killed_while

BOTH = View()


def exactly(item: Item) -> tuple[object, ...]:
    return (
        item.id,
        item.embedding.tobytes(),
        item.generation,
        item.label,
        item.uri,
        item.content_hash,
        item.added,
        dict(item.metadata),
    )


def contents(store: GalleryStore, view: View | None = None, where: Filter = Filter()) -> dict[str, tuple[object, ...]]:  # noqa: B008
    """What is seen; no id twice."""
    found = [exactly(item) for batch in store.iterate(where, batch_size=7, view=view) for item in batch]
    assert len({content[0] for content in found}) == len(found)
    return {str(content[0]): content for content in found}


def expected(items: list[Item]) -> dict[str, tuple[object, ...]]:
    return {item.id: exactly(item) for item in items}


class Versions(RuleBasedStateMachine):
    """The model: for each id its versions, newest last, and a view that names every unsettled refresh."""

    new_place: Callable[[], AbstractContextManager[str]]

    numbers = st.lists(st.integers(0, 5), unique=True, min_size=1, max_size=4)
    generations = st.sampled_from(list(DIMENSIONS))

    @initialize()
    def create(self) -> None:
        self.opened = ExitStack()
        self.place = self.opened.enter_context(type(self).new_place())
        self.model: dict[str, list[Item]] = {}
        self.view = View()
        self.open: list[str] = []
        self.started = 0
        self.store = open_store(self.place, lambda: self.view)

    def teardown(self) -> None:
        self.store.close()
        self.opened.close()

    def seen(self, view: View) -> dict[str, Item]:
        visible = {
            name: [
                version
                for version in versions
                if version.refresh not in view.hidden and version.superseded not in view.shown
            ]
            for name, versions in self.model.items()
        }
        assert all(len(versions) < 2 for versions in visible.values())
        return {name: versions[0] for name, versions in visible.items() if versions}

    @rule(numbers=numbers, generation=generations, label=st.sampled_from(["x", None]))
    def put(self, numbers: list[int], generation: str, label: str | None) -> None:
        items = [item(number, generation, label=label, added=f"time {self.started}") for number in numbers]
        before = self.seen(self.view)
        # A label that is known stays.
        items = [
            replace(item, label=there.label or item.label) if (there := before.get(item.id)) else item for item in items
        ]
        changed = [item for item in items if item.id not in before or not item.same_but_for_time(before[item.id])]
        given = [replace(item, label=label, refresh="not taken over", superseded="nor this") for item in items]
        counts = self.store.put(given)
        assert counts.added == sum(item.id not in before for item in items)
        assert (counts.replaced, counts.unchanged) == (
            len(changed) - counts.added,
            len(items) - len(changed),
        )
        for new in changed:
            self.model[new.id] = [replace(new, added=before[new.id].added if new.id in before else new.added)]

    @rule(numbers=numbers)
    def delete(self, numbers: list[int]) -> None:
        names = [f"item {number}" for number in numbers]
        before = self.seen(self.view)
        assert self.store.delete(names) == sum(name in before for name in names)
        for name in names:
            self.model.pop(name, None)

    @rule(numbers=numbers, generation=generations, again=st.booleans(), other_content=st.sampled_from([0, 0, 0, 9]))
    def refresh(self, numbers: list[int], generation: str, again: bool, other_content: int) -> None:
        if not (again and self.open):
            self.started += 1
            self.open.append(f"refresh {self.started}")
            self.view = self.view.before(self.open[-1])
        name = self.open[-1]
        items = [item(number, generation, content_hash=f"{max(number, other_content):064x}") for number in numbers]
        items = [replace(item, label="no longer", added="then") for item in items]
        before = self.seen(self.view.before(name))
        if any(
            len(held) == 2 and name != held[1].refresh for held in map(self.model.get, [i.id for i in items]) if held
        ):
            with pytest.raises(InputError, match=r"has two versions already, of the refresh refresh \d+: settle that"):
                self.store.refresh(items, name)
            return
        awaited = [
            item
            for item in items
            if item.id in before
            and len(self.model[item.id]) == 1
            and name not in (before[item.id].refresh, before[item.id].superseded)
            and before[item.id].content_hash == item.content_hash
            and before[item.id].generation != generation
        ]
        assert self.store.refresh(items, name) == len(awaited)
        for waiting in awaited:
            (old,) = self.model[waiting.id]
            newer = replace(old, embedding=waiting.embedding, generation=generation, refresh=name)
            self.model[waiting.id] = [replace(old, superseded=name), newer]
        assert self.store.refresh(items, name) == 0, "once is enough"

    @precondition(lambda self: self.open)
    @rule(shown=st.booleans(), which=st.integers(0, 5))
    def look(self, shown: bool, which: int) -> None:
        name = self.open[which % len(self.open)]
        self.view = self.view.after(name) if shown else self.view.before(name)

    @precondition(lambda self: self.open)
    @rule(new=st.booleans(), which=st.integers(0, 5))
    def settle(self, new: bool, which: int) -> None:
        name = self.open.pop(which % len(self.open))
        self.view = self.view.after(name) if new else self.view.before(name)
        kept = self.seen(self.view)
        deleted = 0
        for key, versions in list(self.model.items()):
            if name in (versions[0].superseded, versions[-1].refresh):
                deleted += len(versions) - 1
                self.model[key] = [replace(kept[key], refresh=None, superseded=None)]
        heard: list[tuple[int, int]] = []
        keep: Literal["new", "old"] = "new" if new else "old"
        assert self.store.settle(name, keep, on_progress=lambda *done: heard.append(done)) == deleted
        assert heard == [] or heard[-1][0] == heard[-1][1] >= deleted
        self.view = View(self.view.shown - {name}, self.view.hidden - {name})
        assert self.store.settle(name, keep) == 0

    @rule()
    def reopen(self) -> None:
        self.store.close()
        self.store = open_store(self.place, lambda: self.view)

    @invariant()
    def everything_agrees(self) -> None:
        others = [look(name) for name in self.open for look in (self.view.before, self.view.after, self.view.remaining)]
        for view in [None, *others]:
            self.agrees(view)
        held = [
            (exactly(version), version.refresh, version.superseded) for made in self.model.values() for version in made
        ]
        found = [version for batch in self.store.versions(batch_size=2) for version in batch]
        assert found == sorted(found, key=place_of)
        assert sorted(
            ((exactly(version), version.refresh, version.superseded) for version in found), key=repr
        ) == sorted(held, key=repr)
        assert self.store.verify() == []

    def agrees(self, view: View | None) -> None:
        seen, store = self.seen(self.view if view is None else view), self.store
        names = [f"item {number}" for number in range(7)]
        assert contents(store, view) == expected(list(seen.values()))
        marked = {name: (exactly(item), item.refresh, item.superseded) for name, item in seen.items()}
        many = store.get_many(names, view=view)
        assert {name: (exactly(item), item.refresh, item.superseded) for name, item in many.items()} == marked
        for name in ("item 0", "item 6"):
            found = store.get(name, view=view)
            assert (found and (exactly(found), found.refresh, found.superseded)) == marked.get(name)
        assert store.contains(names, view=view) == set(seen)
        assert sorted(name for batch in store.identifiers(batch_size=2, view=view) for name in batch) == sorted(seen)
        assert store.known_content([f"{n:064x}" for n in range(9)], view=view) == {
            item.content_hash for item in seen.values()
        }
        assert store.count(view=view) == len(seen)
        assert store.count_by_generation(view=view) == Counter(item.generation for item in seen.values())
        assert store.generations(view=view) == {item.generation for item in seen.values()}
        assert store.count_by_label(view=view) == Counter(item.label for item in seen.values() if item.label)
        for where in (Filter(labels=("x",)), Filter(generations=(OLD, WIDE))):
            asked = [
                item
                for item in seen.values()
                if (where.labels is None or item.label in where.labels)
                and (where.generations is None or item.generation in where.generations)
            ]
            assert contents(store, view, where) == expected(asked)
            assert store.count(where, view=view) == len(asked)
            assert store.count_by_label(where, view=view) == Counter(item.label for item in asked if item.label)
        self.searches_agree(view, seen)

    def searches_agree(self, view: View | None, seen: dict[str, Item]) -> None:
        for dimension in (4, 6):
            query = unit(77, dimension)
            ours = tuple(name for name, width in DIMENSIONS.items() if width == dimension)
            scores = {
                item.id: float(item.embedding.astype(np.float64) @ query)
                for item in seen.values()
                if item.generation in ours
            }
            ranked = sorted(scores, key=lambda name: (-round(scores[name], 5), name))
            of_ours = Filter(generations=ours)
            searches = [(2, of_ours), (20, Filter() if len(scores) == len(seen) else of_ours)]
            for k, where in searches:
                (found,) = self.store.search(query[None], k, where=where, view=view)
                assert [match.item.id for match in found] == ranked[:k]
                np.testing.assert_allclose([match.score for match in found], [scores[n] for n in ranked[:k]], atol=1e-5)
            if len(scores) < len(seen):
                with pytest.raises(InputError, match="they come from different embedding spaces"):
                    self.store.search(query[None], 20, view=view)


def test_every_view_agrees_with_the_model(new_place: Callable[[], AbstractContextManager[str]]) -> None:
    Versions.new_place = staticmethod(new_place)
    run_state_machine_as_test(
        Versions,
        settings=settings(
            max_examples=8, stateful_step_count=14, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )


@pytest.fixture
def store(place: str) -> Iterator[GalleryStore]:
    """Forty items of one generation, seen as before the refresh ``r``."""
    with closing(open_store(place, lambda: View(hidden=frozenset({"r"})))) as opened:
        opened.put([item(number) for number in range(40)])
        yield opened


AFTER = View().after("r")
BEFORE = View().before("r")


def test_new_space_grows_in_the_shadow(store: GalleryStore) -> None:
    assert store.refresh([item(number, WIDE) for number in range(30)], "r") == 30
    assert len(store.search(unit(1, 4)[None], 40)[0]) == 40
    with pytest.raises(InputError, match="different embedding spaces"):
        store.search(unit(1, 6)[None], 40)
    remaining = View().remaining("r")
    assert contents(store, remaining) == expected([item(number) for number in range(30, 40)])
    store.refresh([item(number, WIDE) for number in range(30, 40)], "r")
    assert store.count(view=remaining) == 0
    assert len(store.search(unit(1, 6)[None], 50, view=AFTER)[0]) == 40
    with pytest.raises(InputError, match="different embedding spaces"):
        store.search(unit(1, 4)[None], 40, view=AFTER)


def test_hidden_versions_take_no_places(store: GalleryStore) -> None:
    query = unit(5, 4)
    store.refresh([item(number, NEW, embedding=query) for number in range(40)], "r")
    stored = sorted((-float(item(number).embedding @ query), f"item {number}") for number in range(40))
    assert [match.item.id for match in store.search(query[None], 5)[0]] == [name for _, name in stored[:5]]


def test_view_that_decides_nothing_meets_no_item_twice(store: GalleryStore) -> None:
    store.refresh([item(number, NEW) for number in range(40)], "r")
    assert contents(store, BOTH) == expected([item(number, NEW) for number in range(40)])
    assert known(store, "item 3", view=BOTH).generation == NEW
    (found,) = store.search(unit(9, 4)[None], 60, view=BOTH)
    best = {f"item {n}": max(float(item(n, made).embedding @ unit(9, 4)) for made in (OLD, NEW)) for n in range(40)}
    assert [match.item.id for match in found] == sorted(best, key=lambda name: (-round(best[name], 5), name))


def test_verify_names_an_item_that_is_seen_twice(store: GalleryStore) -> None:
    store.refresh([item(1, NEW)], "r")
    assert store.verify() == []
    store._view = lambda: BOTH
    assert store.verify() == ["In the gallery, 'item 1' is in two generations: index it again."]


def test_refresh_needs_a_name_and_items_that_can_be_stored(store: GalleryStore) -> None:
    with pytest.raises(InputError, match="The refresh has an empty name"):
        store.refresh([item(1, NEW)], "")
    with pytest.raises(InputError, match="'item 2' has length 2, not 1"):
        store.refresh([item(1, NEW), item(2, NEW, embedding=unit(1, 4) * 2)], "r")
    assert store.count(view=AFTER) == store.count(view=View().remaining("r")) == 40


def test_settled_the_other_way_half_way_through_nothing_is_lost(
    store: GalleryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.refresh([item(number, NEW) for number in range(40)], "r")
    monkeypatch.setattr(sys.modules[type(store)._settle_some.__module__], "BATCH", 15)

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.settle("r", "old", on_progress=stop)
    assert store.settle("r", "new") == 25
    assert Counter(content[2] for content in contents(store, BOTH).values()) == {OLD: 15, NEW: 25}


@pytest.mark.parametrize(("kept", "left"), [("old", {OLD: 40}), ("new", {OLD: 15, NEW: 25})])
def test_a_settled_refresh_leaves_no_mark(
    store: GalleryStore, kept: Literal["old", "new"], left: dict[str, int]
) -> None:
    store.refresh([item(number, NEW) for number in range(25)], "r")
    assert store.settle("r", kept) == 25
    found = [version for batch in store.versions() for version in batch]
    assert Counter(version.generation for version in found) == left
    assert {(version.refresh, version.superseded) for version in found} == {(None, None)}


# Kills


def test_kill_during_refresh_and_settling(shared_place: str, tmp_path: Path) -> None:
    """Five times each, at random moments: nothing acknowledged is lost, no view sees an item twice or another vector."""
    draw, done = np.random.default_rng(0), 0
    for _ in range(5):
        lines, seconds = int(draw.integers(1, 4)), draw.uniform(0, 0.1)
        printed = killed_while(tmp_path / "said", refresh, shared_place, done, lines=lines, seconds=seconds)
        done = printed[-1] + 1
        with closing(open_store(shared_place, lambda: BEFORE)) as store:
            assert store.verify() == []
            old, new = contents(store, BEFORE), contents(store, AFTER)
            count = len(old)
            assert old == expected([item(number) for number in range(count)])
            assert count >= done * 50
            refreshed = sum(content[2] == NEW for content in new.values())
            assert refreshed in (done * 50, done * 50 + 50)
            assert new == expected([item(n, NEW if n < refreshed else OLD) for n in range(count)])
            assert store.count(view=View().remaining("r")) == count - refreshed
    for _ in range(5):
        killed_while(tmp_path / "said", settle, shared_place, lines=1, seconds=draw.uniform(0, 0.05))
        with closing(open_store(shared_place, lambda: AFTER)) as store:
            assert contents(store) == new
            assert store.verify() == []
    with closing(open_store(shared_place, lambda: AFTER)) as store:
        store.settle("r", "new")
        assert contents(store, BOTH) == contents(store, BEFORE) == new


# Threads


@pytest.mark.parametrize("view", [BEFORE, AFTER], ids=["before", "after"])
def test_readers_beside_a_refresh_miss_nothing_and_meet_nothing_twice(store: GalleryStore, view: View) -> None:
    store._view = lambda: view
    everyone = sorted(f"item {number}" for number in range(40))
    failures: list[BaseException] = []
    rounds = Counter[str]()
    finished = threading.Event()
    readers: dict[str, Callable[[], list[str]]] = {
        "search": lambda: [match.item.id for match in store.search(unit(3, 4)[None], 60)[0]],
        "iterate": lambda: [item.id for batch in store.iterate(batch_size=5) for item in batch],
        "contains": lambda: list(store.contains(everyone)),
        "count": lambda: everyone[: store.count()] + ["too many"] * (store.count() - 40),
    }

    def read(name: str) -> None:
        try:
            while not finished.is_set() or not rounds[name]:
                assert sorted(readers[name]()) == everyone, name
                rounds[name] += 1
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=read, args=(name,)) for name in readers]
    for thread in threads:
        thread.start()
    for back_and_forth in range(3):
        for first in range(0, 40, 8):
            store.refresh([item(number, NEW) for number in range(first, first + 8)], "r")
        store.put([item(number, label=f"round {back_and_forth}") for number in range(40)])
    finished.set()
    for thread in threads:
        thread.join()
    assert failures == []
    assert min(rounds[name] for name in readers) >= 1
