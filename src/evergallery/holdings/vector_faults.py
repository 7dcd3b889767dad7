"""Faults that stored vectors show by themselves: one vector for many pictures, two spaces under one name."""

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from evergallery.gallery.adopted import EXAMPLES, AdoptedCollection, Rows
from evergallery.gallery.items import Filter, Item
from evergallery.gallery.store import GalleryStore
from evergallery.holdings.comparing import space_names
from evergallery.holdings.holdings import Holdings
from evergallery.retrieval.mixture import other_space

SAMPLE = 1000
"""Vectors of a generation that are compared with each other: the first ones, since items come in order of hashes."""
DUPLICATES = 0.01
"""Share of the vectors that may be those of other pictures too: a catalogue has the same photograph under two addresses."""
LEAST = 3
"""Vectors that are fewer may be so by chance, whatever share of a small gallery they are."""
MANY = 10
"""Pictures that have one vector, however many others there are."""
ODD_LENGTHS = 0.01
"""Share of the vectors that may have unit length where the others have not, or the other way round."""


def vector_faults(holdings: Holdings) -> list[str]:
    """Return what is wrong with stored vectors beside each other, a sentence each."""
    gallery = holdings.gallery
    found = _odd_lengths(gallery) if isinstance(gallery, AdoptedCollection) else []
    names = space_names(holdings)
    for fingerprint in sorted(gallery.generations() & names.keys()):
        where, name = Filter(generations=(fingerprint,)), names[fingerprint]
        digests, sample = list[int](), list[Item]()
        for batch in gallery.iterate(where):
            digests += [_digest(item) for item in batch]
            sample += batch[: SAMPLE - len(sample)]
        found += [*_duplicates(gallery, where, name, np.array(digests, np.uint64)), *_mixed(name, sample)]
    return found


def rows_of(items: Iterable[Item]) -> Rows:
    """The count of some items, with the first ids of them."""
    names = sorted(item.id for item in items)
    return Rows(len(names), tuple(names[:EXAMPLES]))


def _odd_lengths(gallery: AdoptedCollection) -> list[str]:
    unit, others = gallery.lengths()
    few, most = sorted((unit.count, others.count))
    if few < LEAST or few <= ODD_LENGTHS * (few + most):
        return []
    return [
        f"In {gallery.collection} {unit} vectors have length 1 and {others} have not: they were made in two ways. See whether "
        f"one model, with one preprocessing, made them all."
    ]


def _digest(item: Item) -> int:
    return int.from_bytes(hashlib.blake2b(item.embedding.tobytes(), digest_size=8).digest(), "little")


def _duplicates(gallery: GalleryStore, where: Filter, name: str, digests: NDArray[np.uint64]) -> list[str]:
    """The faults of vectors that several pictures have; items that are known to show the same picture may share one."""
    values, counts = np.unique(digests, return_counts=True)
    shared = set(values[counts > 1].tolist())
    if not shared:
        return []
    items: dict[int, dict[str, Item]] = {}
    for batch in gallery.iterate(where):
        for item in batch:
            if (digest := _digest(item)) in shared:
                items.setdefault(digest, {}).setdefault(item.content_hash or item.uri or item.id, item)
    groups = [list(pictures.values()) for pictures in items.values() if len(pictures) > 1]
    doubtful = rows_of(item for group in groups for item in group)
    is_much = doubtful.count >= LEAST and doubtful.count > DUPLICATES * len(digests)
    if not is_much and max(map(len, groups), default=0) < MANY:
        return []
    return [
        f"{doubtful} vectors of {name} are those of other pictures too, {len(groups)} in all: what made them may have "
        f"answered a picture that it could not read. Look at these pictures, and make their vectors again."
    ]


def _mixed(name: str, sample: Sequence[Item]) -> list[str]:
    if not sample:
        return []
    others = other_space(np.stack([item.embedding for item in sample]))
    if others is None:
        return []
    odd = rows_of(item for item, is_other in zip(sample, others, strict=True) if is_other)
    return [
        f"Of {len(sample)} vectors of {name} {odd} lie in another space than the rest: they have no neighbours in common, and "
        f"vary in other directions. Make them again with the model that made the rest, or keep them in a gallery of their own."
    ]
