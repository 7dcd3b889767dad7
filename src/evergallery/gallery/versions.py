"""The effect of putting and refreshing on the versions of an item; every engine asks here before it writes."""

import itertools
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from evergallery.data.metadata import metadata_terms
from evergallery.data.unit_vectors import UNIT_TOLERANCE
from evergallery.errors import InputError
from evergallery.gallery.items import (
    CONFLICTS_KEPT,
    Item,
    LabelConflict,
    Match,
    Precision,
    PutCounts,
    View,
    check_items,
    point_id,
)
from evergallery.strings.names import normal


def seen_of(versions: Sequence[Item], view: View) -> Item | None:
    """The version of one item that a view sees; the newer where it sees both."""
    visible = [version for version in versions if view.sees(version.refresh, version.superseded)]
    return newest(visible) if visible else None


def newest(versions: Sequence[Item]) -> Item:
    """The version of one item that no other has superseded; any of them where each is superseded."""
    return versions[0] if len(versions) == 1 else min(versions, key=lambda version: version.superseded is not None)


def changed_by(
    items: Sequence[Item], versions: Mapping[str, Sequence[Item]], view: View, relabel: bool
) -> tuple[list[Item], PutCounts]:
    """Return what putting items has to store, each in place of all its versions, and what it counts as.

    What is known of an item stays where the newcomer says nothing of it; see ``Item.keeping``. A label stays even where the
    newcomer says another one, which is counted.

    Args:
        items: that are put.
        versions: those that are there, by id.
        view: which of them are seen.
        relabel: whether another label takes the place of the one that is known.
    """
    changed: list[Item] = []
    conflicts: list[LabelConflict] = []
    replaced = 0
    for item in items:
        known = seen_of(versions.get(item.id, ()), view)
        if known is None:
            changed.append(_as_stored(item, item.added))
            continue
        merged = item.keeping(known)
        if known.label and item.label and item.label != known.label:
            is_same = normal(item.label) == normal(known.label)
            if not relabel and not is_same:
                conflicts.append(LabelConflict(item.id, known.uri, known.label, item.label))
            if not relabel or is_same:
                merged = replace(merged, label=known.label)
        same_vector = item.content_hash is not None or np.array_equal(item.embedding, known.embedding)
        if not (merged.same_but_for_time(known) and same_vector):
            changed.append(_as_stored(merged, known.added))
            replaced += 1
    unchanged = len(items) - len(changed)
    first = tuple(conflicts[:CONFLICTS_KEPT])
    return changed, PutCounts(len(changed) - replaced, replaced, unchanged, first, len(conflicts))


def _as_stored(item: Item, added: str) -> Item:
    # Most items are as they will be stored; a copy costs as much as all else that is done to one here.
    if (item.added, item.refresh, item.superseded) == (added, None, None):
        return item
    return replace(item, added=added, refresh=None, superseded=None)


def awaited_by(refresh: str, items: Sequence[Item], versions: Mapping[str, Sequence[Item]], view: View) -> list[Item]:
    """The newer versions that a refresh makes of what was seen before it: with all but the vectors as it is by now.

    Raises:
        InputError: the refresh has no name, or another one of an item is not settled.
    """
    if not refresh:
        raise InputError("The refresh has an empty name: name it.")
    before = view.before(refresh)
    superseded = ((item, _superseded_by(item, versions.get(item.id, ()), refresh, before)) for item in items)
    return [old.renewed(item.embedding, item.generation, refresh) for item, old in superseded if old is not None]


def _superseded_by(item: Item, versions: Sequence[Item], refresh: str, before: View) -> Item | None:
    olds = [version for version in versions if version.refresh != refresh]
    if len(olds) > 1:
        raise InputError(
            f"The item {item.id!r} has two versions already, of the refresh {olds[0].superseded or olds[1].superseded}: "
            f"settle that refresh first."
        )
    if not olds or (len(versions) > 1 and olds[0].superseded == refresh):
        return None
    (old,) = olds
    same = old.content_hash == item.content_hash and old.generation != item.generation
    return old if same and before.sees(old.refresh, old.superseded) else None


def best_of(matches: list[Match]) -> list[Match]:
    """Matches best first, equal scores in order of ids, each id once."""
    best: dict[str, Match] = {}
    for match in sorted(matches, key=lambda match: (-match.score, match.item.id)):
        best.setdefault(match.item.id, match)
    return list(best.values())


def place(version: Item) -> tuple[uuid.UUID, str]:
    """Return where a version stands in the order that all engines have."""
    return point_id(version.id), version.generation


def rounded(items: Sequence[Item], precision: Precision) -> Sequence[Item]:
    """Items as they will come back, so that the same one is known again."""
    if precision == "float32":
        return items
    return [replace(item, embedding=item.embedding.astype(np.float16).astype(np.float32)) for item in items]


def by_generation(items: Sequence[Item]) -> Iterator[tuple[str, list[Item]]]:
    """Items in groups of one generation."""
    ordered = sorted(items, key=lambda item: item.generation)
    return ((name, list(group)) for name, group in itertools.groupby(ordered, key=lambda item: item.generation))


def check_versions(versions: Sequence[Item]) -> None:
    """Refuse versions that cannot be stored; see ``check_items``, where one of each generation may have the same id."""
    for _, group in by_generation(versions):
        check_items(group)


def check_dimensions(items: Sequence[Item], known: Mapping[str, int]) -> dict[str, int]:
    """The dimension of every generation, with those that the items are the first of.

    Args:
        items: to be stored.
        known: the dimensions so far, by generation.

    Raises:
        InputError: an embedding of another dimension than those of its generation.
    """
    expected = dict(known)
    for item in items:
        dimension = expected.setdefault(item.generation, len(item.embedding))
        if len(item.embedding) != dimension:
            raise InputError(
                f"The embedding of {item.id!r} has {len(item.embedding)} dimensions and those of its generation "
                f"{item.generation[:12]} have {dimension}: it was made by another generation."
            )
    return expected


def problem_of(version: Item, terms: Sequence[str] | None, dimension: int | None) -> str | None:
    """Return what is wrong with a stored version, if anything.

    Args:
        version: as it was read.
        terms: of its metadata, as they were stored to be filtered by.
        dimension: of the vectors of its generation.
    """
    if terms != metadata_terms(version.metadata):
        return f"the metadata of {version.id!r} are not what was stored"
    if dimension is None:
        return f"{version.id!r} is of a generation whose vectors are not there"
    if version.embedding.shape != (dimension,) or not abs(np.linalg.norm(version.embedding) - 1) <= UNIT_TOLERANCE:
        return f"the vector of {version.id!r} is not a unit vector of {dimension} dimensions"
    return None
