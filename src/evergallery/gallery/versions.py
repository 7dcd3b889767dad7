"""What putting and refreshing mean for the versions that an item has; every engine asks here before it writes."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from evergallery.errors import InputError
from evergallery.gallery.items import Item, PutCounts, View


def seen_of(versions: Sequence[Item], view: View) -> Item | None:
    """The version of one item that a view sees; the newer where it sees both."""
    visible = [one for one in versions if view.sees(one.refresh, one.superseded)]
    return min(visible, key=lambda one: one.superseded is not None, default=None)


def changed_by(
    items: Sequence[Item], versions: Mapping[str, Sequence[Item]], view: View
) -> tuple[list[Item], PutCounts]:
    """What putting items has to store, each in place of all its versions, and what it counts as.

    Args:
        items: that are put.
        versions: those that are there, by id.
        view: which of them are seen.
    """
    stored = {name: one for name, held in versions.items() if (one := seen_of(held, view))}
    changed = [
        replace(item, added=stored[item.id].added if item.id in stored else item.added, refresh=None, superseded=None)
        for item in items
        if item.id not in stored or not item.same_but_for_time(stored[item.id])
    ]
    replaced = sum(item.id in stored for item in changed)
    return changed, PutCounts(len(changed) - replaced, replaced, len(items) - len(changed))


def awaited_by(refresh: str, items: Sequence[Item], versions: Mapping[str, Sequence[Item]], view: View) -> list[Item]:
    """Which items are newer versions, by a refresh, of what was seen before it; marked as made by it.

    Raises:
        InputError: the refresh has no name, or another one of an item is not settled.
    """
    if not refresh:
        raise InputError("The refresh has an empty name: name it.")
    before = view.before(refresh)
    return [
        replace(item, refresh=refresh, superseded=None)
        for item in items
        if _is_awaited(item, versions.get(item.id, ()), refresh, before)
    ]


def _is_awaited(item: Item, versions: Sequence[Item], refresh: str, before: View) -> bool:
    olds = [one for one in versions if one.refresh != refresh]
    if len(olds) > 1:
        raise InputError(
            f"The item {item.id!r} has two versions already, of the refresh {olds[0].superseded or olds[1].superseded}: "
            f"settle that refresh first."
        )
    if not olds or (len(versions) > 1 and olds[0].superseded == refresh):
        return False
    (old,) = olds
    same = old.content_hash == item.content_hash and old.generation != item.generation
    return same and before.sees(old.refresh, old.superseded)


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
