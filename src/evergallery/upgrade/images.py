"""The images of stored items, found again where they were, or among images that are given."""

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evergallery.data.image_set import ImageSet
from evergallery.data.images import Preprocessing, decode, pixels, read_bytes
from evergallery.data.sources import DECODING_THREADS
from evergallery.errors import InputError
from evergallery.gallery.items import Item
from evergallery.notes import Problem

MISSING, FAILED = "image missing", "failed"


@dataclass(frozen=True)
class Found:
    """The images of some items.

    Attributes:
        items: those whose image was found.
        images: theirs, in the same order.
        problems: of the others.
    """

    items: list[Item]
    images: ImageSet
    problems: list[Problem]


def find_images(items: Sequence[Item], preprocessing: Preprocessing, given: ImageSet | None) -> Found:
    """Read the images of stored items as a generation wants them.

    An image is taken from ``given`` by its content, or else from the item's URI, where its content must still be what was
    stored.

    Args:
        items: as stored.
        preprocessing: of the generation that will look at them.
        given: images in which to look first, read with this preprocessing.
    """
    row = {} if given is None else {content: index for index, content in enumerate(given.hashes)}

    def read(item: Item) -> NDArray[np.uint8] | Problem:
        if given is not None and item.content_hash in row:
            found: NDArray[np.uint8] = given.pixels[given.rows[row[item.content_hash]]]
            return found
        return _read(item, preprocessing)

    with ThreadPoolExecutor(DECODING_THREADS) as threads:
        answers = list(threads.map(read, items))
    kept = [(item, answer) for item, answer in zip(items, answers, strict=True) if not isinstance(answer, Problem)]
    size = preprocessing.size
    images = ImageSet(
        pixels=np.stack([answer for _, answer in kept]) if kept else np.empty((0, size, size, 3), np.uint8),
        rows=np.arange(len(kept)),
        labels=np.full(len(kept), -1, dtype=np.int64),
        classes=(),
        uris=tuple(item.uri or "" for item, _ in kept),
        hashes=tuple(item.content_hash or "" for item, _ in kept),
    )
    return Found([item for item, _ in kept], images, [answer for answer in answers if isinstance(answer, Problem)])


def _read(item: Item, preprocessing: Preprocessing) -> NDArray[np.uint8] | Problem:
    if item.uri is None:
        return Problem(item.id, MISSING, "nobody wrote down where its image is")
    path = Path(item.uri)
    if not path.is_file():
        return Problem(item.id, MISSING, f"there is no image {item.uri}")
    try:
        data = read_bytes(path)
        # Content hashes of other tools need not be of a file's bytes; 64 hex digits are.
        if item.content_hash and len(item.content_hash) == 64 and hashlib.sha256(data).hexdigest() != item.content_hash:
            return Problem(item.id, FAILED, f"{item.uri} is not the image that was stored: index it again")
        return pixels(decode(data), preprocessing)
    except (InputError, OSError) as error:
        return Problem(item.id, FAILED, str(error))
