"""Items of two generations; light to import, for processes that are killed."""

import functools
from contextlib import closing
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evergallery.gallery import GalleryStore, Item, open_store
from evergallery.gallery.items import View

OLD, NEW = "a" * 64, "b" * 64
DIMENSIONS = {OLD: 8, NEW: 12}


@functools.cache
def vector(seed: int, dimension: int = 8) -> NDArray[np.float32]:
    values = np.random.default_rng(seed).normal(size=dimension).astype(np.float32)
    values /= np.linalg.norm(values)
    values.setflags(write=False)
    return values


def item(number: int, generation: str = OLD, **changes: Any) -> Item:
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


def known(store: GalleryStore, name: str, view: View | None = None) -> Item:
    """An item that the gallery must have."""
    found = store.get(name, view=view)
    assert found is not None, f"the gallery has no item {name!r}"
    return found


def add(place: str, first: int) -> None:
    """Put batches of items, and say the number of each that is there."""
    with closing(open_store(place)) as store:
        for batch in range(first, 1000):
            store.put([item(batch * 50 + number, OLD if batch % 2 else NEW) for number in range(50)])
            print(batch, flush=True)
