"""Items whose neighbours have one vector, in three generations; light to import, for processes that are killed."""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evergallery.gallery import Item

OLD, NEW, WIDE = "a" * 64, "b" * 64, "c" * 64
DIMENSIONS = {OLD: 4, NEW: 4, WIDE: 6}


def unit(seed: int, dimension: int) -> NDArray[np.float32]:
    values = np.random.default_rng(seed).normal(size=dimension).astype(np.float32)
    return values / np.linalg.norm(values)


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
