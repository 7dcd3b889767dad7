"""Items whose neighbours have one vector, in three generations; light to import, for processes that are killed."""

import functools
from contextlib import closing
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evergallery.gallery import Item, View, open_store
from evergallery.gallery.edge import store as edge
from evergallery.gallery.postgres import store as postgres

OLD, NEW, WIDE = "a" * 64, "b" * 64, "c" * 64
DIMENSIONS = {OLD: 4, NEW: 4, WIDE: 6}


@functools.cache
def unit(seed: int, dimension: int) -> NDArray[np.float32]:
    values = np.random.default_rng(seed).normal(size=dimension).astype(np.float32)
    values /= np.linalg.norm(values)
    values.setflags(write=False)
    return values


def item(number: int, generation: str = OLD, **changes: Any) -> Item:
    """Two neighbouring numbers have one vector, so that there are equal scores."""
    made = Item(
        id=f"item {number}",
        embedding=unit(number // 2 + 1000 * list(DIMENSIONS).index(generation), DIMENSIONS[generation]),
        generation=generation,
        label=f"class {number % 3}",
        uri=f"photos/{number}.jpg",
        content_hash=f"{number:064x}",
        added="2026-01-01T00:00:00+00:00",
        metadata={"price": number},
    )
    return replace(made, **changes)


def refresh(place: str, first: int) -> None:
    """Refresh batches of items, and say the number of each that is refreshed."""
    edge.BATCH = postgres.BATCH = 50  # type: ignore[attr-defined]
    with closing(open_store(place, lambda: View().before("r"))) as store:
        for batch in range(first, 1000):
            if batch % 20 == 0:
                store.put([item(number) for number in range(batch * 50, batch * 50 + 1000)])
            store.refresh([item(number, NEW) for number in range(batch * 50, batch * 50 + 50)], "r")
            print(batch, flush=True)


def settle(place: str) -> None:
    """Settle the refresh, and say how far that is."""
    edge.BATCH = postgres.BATCH = 50  # type: ignore[attr-defined]
    with closing(open_store(place, lambda: View().after("r"))) as store:
        store.settle("r", "new", on_progress=lambda done, total: print(done, flush=True))
