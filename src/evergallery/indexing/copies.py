"""The address that an item keeps when its picture is met again at another one: its own, while the picture is there."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace

from evergallery.data.images import read_bytes
from evergallery.data.places import local_path
from evergallery.errors import InputError
from evergallery.gallery.items import Item


def at_known_addresses(items: Sequence[Item], known: Mapping[str, Item]) -> list[Item]:
    """Items that are about to be put, those which are copies of a stored picture with the address of that.

    A picture that was moved, because its former address no longer has it, comes with its new address.

    Args:
        items: to be put.
        known: items that are stored, by id; their embeddings are not needed.
    """
    return [
        replace(item, uri=known[item.id].uri) if item.id in known and is_copy(item, known[item.id]) else item
        for item in items
    ]


def is_copy(item: Item, known: Item) -> bool:
    """Return whether an item is the same picture as a stored one that is still at its own, other address."""
    if not (item.uri and known.uri and item.content_hash) or item.uri == known.uri:
        return False
    return item.content_hash == known.content_hash and _holds(known.uri, item.content_hash)


def _holds(address: str, content_hash: str) -> bool:
    """Return whether a file is what it was; what lies elsewhere is not asked for, and believed to be."""
    path = local_path(address)
    if path is None:
        return True
    try:
        return hashlib.sha256(read_bytes(path)).hexdigest() == content_hash
    except InputError:
        return False
