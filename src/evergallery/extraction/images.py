"""The images of stored items, found again where they were, or among images that are given."""

import hashlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evergallery.data.image_set import ImageSet
from evergallery.data.images import MissingFileError, Preprocessing, read_pixels
from evergallery.data.listing import Entry, Listing
from evergallery.data.places import read
from evergallery.data.roots import Roots
from evergallery.data.sources import content_of
from evergallery.data.streaming import READERS, ahead, processors, working
from evergallery.errors import InputError
from evergallery.gallery.items import Item
from evergallery.holdings.notes import Problem
from evergallery.watching import Watcher

MISSING, FAILED = "image missing", "failed"

ImageSource = Callable[[str], bytes | NDArray[np.uint8] | None]
"""The file of the image with a content hash, or its pixels (S, S, 3), where they are at hand."""
File = tuple[Item, bytes | NDArray[np.uint8] | Problem]
"""An item with its file, with its pixels where they are known, or with what is wrong."""


@dataclass(frozen=True)
class ItemImages:
    """The images of some items.

    Attributes:
        items: those whose image was found.
        images: theirs, in the same order.
        problems: of the others.
    """

    items: list[Item]
    images: ImageSet
    problems: list[Problem]


def by_content(
    images: ImageSet | Listing, wanted: Collection[str], preprocessing: Preprocessing, watcher: Watcher
) -> ImageSource:
    """Return what finds an image by its content: of files only those that are wanted are decoded, and not before.

    Args:
        images: to look among. Files are read and hashed until all that is wanted was found.
        wanted: content hashes of the images that will be asked for.
        preprocessing: of the generation that will look at them.
        watcher: hears of progress.

    Raises:
        InputError: a listing cannot be used.
    """
    if isinstance(images, ImageSet):
        row = {content: index for index, content in enumerate(images.hashes)}
        return lambda content: images.pixels[images.rows[row[content]]] if content in row else None
    entries = [entry for entry in images.entries if isinstance(entry, Entry)]
    missing, found = set(wanted), dict[str, Entry]()
    with working(READERS) as readers:
        for done, (content, entry) in enumerate(ahead(readers, _hashed, entries, READERS), 1):
            if content in missing:
                missing.remove(content)
                found[content] = entry
            if not missing:
                break
            watcher.counted("looking for images", done, len(entries))

    def file_of(content: str) -> bytes | NDArray[np.uint8] | None:
        entry = found.get(content)
        if entry is None:
            return None
        try:
            data = read(entry.uri)
            if content_of(entry, data) != content:
                return None
            return data if entry.part is None else read_pixels(data, preprocessing, part=entry.part)
        except InputError:
            return None

    return file_of


def _hashed(entry: Entry) -> tuple[str | None, Entry]:
    try:
        return content_of(entry, read(entry.uri)), entry
    except InputError:
        return None, entry


def find_images(
    items: Sequence[Item],
    preprocessing: Preprocessing,
    roots: Roots,
    known: ImageSource | None = None,
    threads: int | None = None,
) -> ItemImages:
    """Read the images of stored items as a generation wants them.

    An image is taken from what is ``known`` by its content, or else from the item's URI, a path or whatever fsspec reads below
    one of the roots, where its content must still be what was stored.

    Args:
        items: as stored.
        preprocessing: of the generation that will look at them.
        roots: below which images may be opened.
        known: looked at first; pixels that it finds were read with this preprocessing.
        threads: that decode; one for each processor by default.
    """
    threads = threads or processors()

    def look(item: Item) -> File:
        found = known(item.content_hash) if known is not None and item.content_hash else None
        return item, _read(item, roots) if found is None else found

    with working(READERS) as readers, working(threads) as decoders:
        files = ahead(readers, look, items, READERS)
        answers = list(ahead(decoders, lambda file: _decoded(file, preprocessing), files, 2 * threads))
    kept = [(item, answer) for item, answer in zip(items, answers, strict=True) if not isinstance(answer, Problem)]
    images = ImageSet(
        pixels=np.stack([answer for _, answer in kept]) if kept else np.empty((0, *preprocessing.shape, 3), np.uint8),
        rows=np.arange(len(kept)),
        labels=np.full(len(kept), -1, dtype=np.int64),
        classes=(),
        uris=tuple(item.uri or "" for item, _ in kept),
        hashes=tuple(item.content_hash or "" for item, _ in kept),
    )
    return ItemImages([item for item, _ in kept], images, [answer for answer in answers if isinstance(answer, Problem)])


def _read(item: Item, roots: Roots) -> bytes | Problem:
    if item.uri is None:
        return Problem(item.id, MISSING, "nobody wrote down where its image is")
    address = roots.opened(item.uri)
    if address is None:
        return Problem(
            item.id,
            FAILED,
            f"{item.uri} lies where no image may be opened: allow its folder with  evergallery gallery "
            f"images-from FOLDER",
        )
    try:
        data = read(address, redirects=False)
    except MissingFileError:
        return Problem(item.id, MISSING, f"there is no image {item.uri}")
    except InputError as error:
        return Problem(item.id, FAILED, str(error))
    # Content hashes of other tools need not be of a file's bytes; 64 hex digits are.
    if item.content_hash and len(item.content_hash) == 64 and hashlib.sha256(data).hexdigest() != item.content_hash:
        return Problem(item.id, FAILED, f"{item.uri} is not the image that was stored: index it again")
    return data


def _decoded(file: File, preprocessing: Preprocessing) -> NDArray[np.uint8] | Problem:
    item, data = file
    if not isinstance(data, bytes):
        return data
    try:
        return read_pixels(data, preprocessing)
    except InputError as error:
        return Problem(item.id, FAILED, str(error))
