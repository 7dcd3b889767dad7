"""kill -9 at random moments of adding, deleting, refreshing, settling and compacting, ten times.

What was acknowledged is there; an item that was being changed is as before or as after, and nothing else is touched.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np

from evergallery.gallery import Item, View
from evergallery.gallery.edge import EdgeStore, shard
from forked import killed_while

OLD, NEW = "a" * 64, "b" * 64
DIMENSIONS = {OLD: 16, NEW: 24}
ITEMS = 40
STEPS = 6

# Small enough that compacting builds indexes.
shard.INDEX_FROM = 100


def item(number: int, generation: str = OLD, label: str = "first") -> Item:
    draw = np.random.default_rng(number).normal(size=DIMENSIONS[generation]).astype(np.float32)
    return Item(
        id=f"item {number}",
        embedding=draw / np.linalg.norm(draw),
        generation=generation,
        label=label,
        uri=f"photos/{number}.jpg",
        content_hash=f"{number:064x}",
        added="2026-01-01T00:00:00+00:00",
        metadata={"price": number},
    )


def numbers(block: int) -> range:
    return range(block * ITEMS, (block + 1) * ITEMS)


def view() -> View:
    """Of every second block the new versions are wanted, of the others the old ones."""
    return View(
        shown=frozenset(f"refresh {block}" for block in range(0, 500, 2)),
        hidden=frozenset(f"refresh {block}" for block in range(1, 500, 2)),
    )


def act(store: EdgeStore, step: int) -> None:
    """The step of this number; taking it twice is taking it once."""
    block, action = divmod(step, STEPS)
    mine = numbers(block)
    if action == 0:
        store.put([item(number) for number in mine])
    elif action == 1:
        store.delete([f"item {number}" for number in mine if number % 4 == 0])
    elif action == 2:
        store.refresh([item(number, NEW) for number in mine], f"refresh {block}")
    elif action == 3:
        store.settle(f"refresh {block}", "old" if block % 2 else "new")
    elif action == 4:
        # To and fro between the generations.
        store.put([item(number, OLD, "again") for number in mine if number % 4 == 1], relabel=True)
    else:
        store.compact()


def seen_after(steps: int) -> dict[str, Item]:
    """What is to be seen once so many steps have been taken."""
    found: dict[str, Item] = {}
    for step in range(steps):
        block, action = divmod(step, STEPS)
        for number in numbers(block):
            name = f"item {number}"
            if action == 0:
                found[name] = item(number)
            elif action == 1 and number % 4 == 0:
                del found[name]
            elif action == 2 and block % 2 == 0 and name in found:
                found[name] = item(number, NEW)
            elif action == 4 and number % 4 == 1:
                found[name] = item(number, OLD, "again")
    return found


def same(before: Item | None, after: Item | None) -> bool:
    if before is None or after is None:
        return before is after
    plain = replace(before, refresh=None, superseded=None)
    return plain.same_but_for_time(after) and np.array_equal(before.embedding, after.embedding)


def act_on(directory: Path, first: int) -> None:
    """Take the steps, and say the number of each that is done."""
    with EdgeStore(directory, view) as store:
        for step in range(first, 2000):
            act(store, step)
            print(step, flush=True)


def test_kills_lose_nothing_acknowledged_and_leave_nothing_half_written(tmp_path: Path) -> None:
    directory = tmp_path / "gallery"
    draw = np.random.default_rng(1)
    done = 0
    for _ in range(10):
        lines, seconds = int(draw.integers(1, STEPS)), draw.uniform(0, 0.05)
        done = killed_while(tmp_path / "said", act_on, directory, done, lines=lines, seconds=seconds)[-1] + 1
        before, after = seen_after(done), seen_after(done + 1)
        with EdgeStore(directory, view) as store:
            assert store.verify() == []
            found = {item.id: item for batch in store.iterate() for item in batch}
            assert store.count() == len(found)
        assert found.keys() <= before.keys() | after.keys()
        for name in before.keys() | after.keys():
            assert same(found.get(name), before.get(name)) or same(found.get(name), after.get(name)), (name, done)
    assert done >= 20
