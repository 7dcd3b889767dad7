"""A gallery into another engine: every version with its marks, resumable, and compared at the end.

All engines have one order of items. So a copy that was interrupted goes on behind the last item up to which both are the
same, and the comparison reads both side by side.
"""

import heapq
import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass
from operator import itemgetter

import numpy as np

from evergallery.data.metadata import metadata_terms
from evergallery.errors import RefusedError
from evergallery.gallery.items import EVERYTHING, Item, Precision, View
from evergallery.gallery.store import GalleryStore
from evergallery.gallery.versions import place
from evergallery.watching import Watcher

BATCH = 1000
# How far a coordinate of a unit vector may be from what was stored.
TOLERANCES: dict[Precision, float] = {"float32": 0.0, "float16": 2.0**-11, "int8": 2.0**-11}


@dataclass(frozen=True)
class CopyResult:
    """The result of copying a gallery.

    Attributes:
        items: in both galleries now, whatever is seen of them.
        versions: of them.
        copied: versions, by this call.
        seconds: with the comparison.
    """

    items: int
    versions: int
    copied: int
    seconds: float


def copy_gallery(source: GalleryStore, target: GalleryStore, watcher: Watcher) -> CopyResult:
    """Copy every version of every item, and compare both galleries; the same call goes on after an interruption.

    Args:
        source: is not changed, here or by others meanwhile.
        target: empty, or what an earlier call has left.
        watcher: hears of progress.

    Raises:
        RefusedError: the target holds something that the source does not, and nothing is written; or both are not the same
            in the end.
    """
    started = time.perf_counter()
    after, done = _copied_already(source, target)
    total = sum(source.count_by_generation(view=EVERYTHING).values())
    left = total - done
    for batch in source.versions(batch_size=BATCH, after=after):
        target.put_versions(batch)
        done += len(batch)
        watcher.counted("copying", done, max(done, total))
    items = require_same(source, target, watcher)
    return CopyResult(items, total, left, time.perf_counter() - started)


def require_same(source: GalleryStore, target: GalleryStore, watcher: Watcher) -> int:
    """Compare two galleries in every version: ids, content, vectors, marks; and in what they count. Returns the items.

    Raises:
        RefusedError: they are not the same.
    """
    total = sum(source.count_by_generation(view=EVERYTHING).values())
    items, done, refreshes = 0, 0, set[str]()
    for identifier, ours, theirs in _side_by_side(source, target):
        problem = _difference(ours, theirs, TOLERANCES[target.precision])
        if problem:
            raise RefusedError(
                f"The galleries are not the same: {identifier!r} {problem}. Stop what writes to them, then copy into an empty "
                f"gallery with  evergallery gallery copy FROM TO"
            )
        refreshes |= {mark for version in ours for mark in (version.refresh, version.superseded) if mark}
        items += 1
        done += len(ours)
        if items % BATCH == 0 or done >= total:
            watcher.counted("comparing", done, max(done, total))
    views = [EVERYTHING, *(view for name in refreshes for view in (View().before(name), View().after(name)))]
    for view in views:
        counts, copied = source.count_by_generation(view=view), target.count_by_generation(view=view)
        if counts != copied:
            raise RefusedError(f"The galleries do not count the same: {counts} and {copied} vectors by generation.")
    return items


def _copied_already(source: GalleryStore, target: GalleryStore) -> tuple[str | None, int]:
    """The id up to which the target holds everything, and how many versions that is."""
    left = sum(target.count_by_generation(view=EVERYTHING).values())
    after, done, complete = None, 0, True
    for identifier, ours, theirs in _side_by_side(source, target) if left else ():
        problem = _difference(
            [version for version in ours if _counterpart(version, theirs)], theirs, TOLERANCES[target.precision]
        )
        if problem:
            raise RefusedError(
                f"The gallery to copy into holds something else: {identifier!r} {problem}. Name an empty one."
            )
        complete = complete and len(ours) == len(theirs)
        if complete:
            after, done = identifier, done + len(ours)
        left -= len(theirs)
        if not left:
            break
    return after, done


def _side_by_side(source: GalleryStore, target: GalleryStore) -> Iterator[tuple[str, list[Item], list[Item]]]:
    """Each id with its versions in both galleries, in the order of items."""

    def versions(store: GalleryStore, side: int) -> Iterator[tuple[object, int, Item]]:
        return ((place(version), side, version) for batch in store.versions(batch_size=BATCH) for version in batch)

    merged = heapq.merge(versions(source, 0), versions(target, 1), key=itemgetter(0, 1))
    for identifier, found in itertools.groupby(merged, key=lambda triple: triple[2].id):
        sides: tuple[list[Item], list[Item]] = [], []
        for _, side, version in found:
            sides[side].append(version)
        yield identifier, *sides


def _counterpart(version: Item, others: list[Item]) -> Item | None:
    return next((other for other in others if other.generation == version.generation), None)


def _difference(ours: list[Item], theirs: list[Item], tolerance: float) -> str | None:
    """Return what two galleries say differently of one item, if anything."""
    if [version.generation for version in ours] != [version.generation for version in theirs]:
        return f"has {len(ours)} versions in the one and {len(theirs)}, or of other generations, in the other"
    for version, copy in zip(ours, theirs, strict=True):
        for name in ("label", "uri", "content_hash", "added", "refresh", "superseded"):
            if getattr(version, name) != getattr(copy, name):
                return f"has another {name} in the one than in the other"
        if metadata_terms(version.metadata) != metadata_terms(copy.metadata):
            return "has other metadata in the one than in the other"
        if version.embedding.shape != copy.embedding.shape or (
            np.abs(version.embedding - copy.embedding).max(initial=0) > tolerance
        ):
            return "has another vector in the one than in the other"
    return None
