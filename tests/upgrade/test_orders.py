"""Which items are refreshed first."""

from typing import Any

import numpy as np
import pytest

from evergallery.errors import InputError
from evergallery.upgrade.orders import ORDERS, StoredItems


def rows(*angles: float) -> list[np.ndarray]:
    return [np.array([np.cos(a), np.sin(a)], np.float32) for a in np.deg2rad(angles)]


def stored(**changes: Any) -> StoredItems:
    values: dict[str, Any] = {
        "ids": ["d", "a", "c", "b", "e"],
        # Class x around 0°, class y around 90°; the unlabelled one lies between them.
        "vectors": rows(0, 30, 90, 100, 45),
        "spaces": ["s"] * 5,
        "labels": ["x", "x", "y", "y", None],
        "added": ["2026-03", "2026-01", "2026-02", "2026-05", "2026-04"],
        "found": {"b": 3, "d": 1},
    }
    return StoredItems(**(values | changes))


def test_uncertain_first_is_by_distance_to_the_class_mean() -> None:
    # Means lie at 15° and 95°: distances are 15, 15, 5, 5 and, to the nearest mean, 30.
    order = ORDERS["uncertain"](stored()).tolist()
    assert order[0] == 4
    assert set(order[1:3]) == {0, 1}
    assert set(order[3:]) == {2, 3}


def test_typical_first_is_its_reverse() -> None:
    assert ORDERS["typical"](stored()).tolist() == ORDERS["uncertain"](stored()).tolist()[::-1]


def test_class_means_are_of_one_space() -> None:
    """The same class has other coordinates, and another number of them, in another space."""
    other = [np.array([0, 0, 1], np.float32), np.array([0, 0.6, 0.8], np.float32)]
    mixed = stored(
        ids=list("dacbefg"), vectors=[*rows(0, 30, 90, 100, 45), *other], spaces=["s"] * 5 + ["t"] * 2,
        labels=["x", "x", "y", "y", None, "x", "x"], added=["2026"] * 7,
    )  # fmt: skip
    order = [row for row in ORDERS["uncertain"](mixed).tolist() if row < 5]
    assert order == ORDERS["uncertain"](stored()).tolist()


def test_oldest_and_popular() -> None:
    assert ORDERS["oldest"](stored()).tolist() == [1, 2, 0, 4, 3]
    # Items that were never found keep their places.
    assert ORDERS["popular"](stored()).tolist() == [3, 0, 1, 2, 4]


def test_random_is_the_same_for_the_same_items_in_any_place() -> None:
    first = stored()
    shuffled = stored(ids=["e", "d", "c", "b", "a"])
    names = [first.ids[row] for row in ORDERS["random"](first)]
    assert names == [shuffled.ids[row] for row in ORDERS["random"](shuffled)]
    assert names != sorted(names)


@pytest.mark.parametrize("name", ORDERS)
def test_every_order_names_each_item_once(name: str) -> None:
    assert sorted(ORDERS[name](stored()).tolist()) == [0, 1, 2, 3, 4]


def test_without_labels_there_is_no_mean_to_be_far_from() -> None:
    with pytest.raises(InputError, match="no stored item has a label"):
        ORDERS["uncertain"](stored(labels=[None] * 5))
