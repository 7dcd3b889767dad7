"""Orders in which stored items are refreshed."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from evergallery.errors import InputError, require_known
from evergallery.gallery.items import Item

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class StoredItems:
    """N stored items, as an order sees them.

    Attributes:
        ids: (N,).
        vectors: N of (D,) as stored; D may differ between spaces.
        spaces: (N,) fingerprint of the space of each vector.
        labels: (N,); ``None`` where nobody knows.
        added: (N,) ISO 8601.
        found: how often each was found, by id.
    """

    ids: Sequence[str]
    vectors: Sequence[NDArray[np.float32]]
    spaces: Sequence[str]
    labels: Sequence[str | None]
    added: Sequence[str]
    found: Mapping[str, int]


def uncertain_first(items: StoredItems) -> NDArray[np.int64]:
    """Order items by falling distance to the mean of their class in their space, or to the nearest class mean without a label.

    Ricci et al. 2025 (λ-orthogonality) order a backfill so.

    Raises:
        InputError: no item of a space has a label.
    """
    import torch

    spaces = np.asarray(items.spaces)
    nearness = torch.empty(len(spaces))
    for space in dict.fromkeys(items.spaces):
        rows = np.flatnonzero(spaces == space).tolist()
        vectors = torch.from_numpy(np.stack([items.vectors[row] for row in rows]))
        nearness[rows] = _nearness(vectors, [items.labels[row] for row in rows])
    order: NDArray[np.int64] = nearness.argsort(stable=True).numpy()
    return order


def _nearness(vectors: "Tensor", labels: Sequence[str | None]) -> "Tensor":
    """(N,) cosine of each vector and the mean of its class, or the nearest class mean."""
    import torch
    from torch.nn import functional as F

    labelled = [index for index, label in enumerate(labels) if label is not None]
    if not labelled:
        raise InputError(
            "This order needs class means, and no stored item has a label: choose random, oldest or popular."
        )
    names, numbers = np.unique([str(labels[index]) for index in labelled], return_inverse=True)
    index = torch.from_numpy(numbers)
    means = F.normalize(vectors.new_zeros(len(names), vectors.shape[1]).index_add_(0, index, vectors[labelled]))
    found = torch.cat([(part @ means.T).max(1).values for part in torch.split(vectors, 8192)])
    found[labelled] = (vectors[labelled] * means[index]).sum(1)
    return found


def typical_first(items: StoredItems) -> NDArray[np.int64]:
    """The reverse of ``uncertain_first``: items near the mean of their class, which answer most queries.

    Raises:
        InputError: no item has a label.
    """
    return uncertain_first(items)[::-1].copy()


def oldest_first(items: StoredItems) -> NDArray[np.int64]:
    """Order items by the time at which they were added."""
    return np.argsort(np.asarray(items.added), kind="stable")


def popular_first(items: StoredItems) -> NDArray[np.int64]:
    """Order items by how often searches have found them."""
    return np.argsort([-items.found.get(item, 0) for item in items.ids], kind="stable")


def random_first(items: StoredItems) -> NDArray[np.int64]:
    """Order items at random, always alike for the same ids."""
    draw = np.random.default_rng(0).permutation(len(items.ids))
    by_id: NDArray[np.int64] = np.argsort(np.asarray(items.ids), kind="stable")[draw]
    return by_id


ORDERS: dict[str, Callable[[StoredItems], NDArray[np.int64]]] = {
    "random": random_first,
    "uncertain": uncertain_first,
    "typical": typical_first,
    "oldest": oldest_first,
    "popular": popular_first,
}
"""Every order by name; each gives (N,) indices, first to be refreshed first."""
BY_VECTORS = frozenset({"uncertain", "typical"})
"""The orders that look at the vectors of the items."""


def order_of(name: str, items: Sequence[Item], found: Mapping[str, int]) -> NDArray[np.int64]:
    """(N,) indices of stored items in the order of a name of ``ORDERS``.

    Raises:
        InputError: no such order, or one that needs labels where there are none.
    """
    require_known("order", name, ORDERS)
    return ORDERS[name](
        StoredItems(
            [item.id for item in items],
            [item.embedding for item in items],
            [item.generation for item in items],
            [item.label for item in items],
            [item.added for item in items],
            found,
        )
    )
