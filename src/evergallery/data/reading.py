"""Decoding a listing into an image set, with a few threads and in bounded memory."""

import hashlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evergallery.data.cache import PixelCache
from evergallery.data.image_set import ImageSet, hash_pixels
from evergallery.data.images import Preprocessing, Skipped, decode, from_array, pixels
from evergallery.data.listing import ArrayImages, Listing, StoredImage
from evergallery.errors import InputError

BATCH = 256
THREADS = min(8, os.cpu_count() or 1)

ProgressCallback = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class _Read:
    hash: str = ""
    pixels: NDArray[np.uint8] | None = None
    failure: str | None = None


def read(
    listing: Listing,
    preprocessing: Preprocessing,
    cache: Path | None = None,
    on_progress: ProgressCallback | None = None,
) -> ImageSet:
    """Decode every image of a listing that ``cache`` does not hold; those that cannot be read are skipped.

    Args:
        listing: of N images.
        preprocessing: decides size, fit and interpolation.
        cache: directory of pixel caches, or ``None`` to keep the pixels in memory.
        on_progress: called with images done and N.
    """
    stack = listing.images.pixels if isinstance(listing.images, ArrayImages) else None
    if stack is not None and stack.shape[1:] == (preprocessing.size, preprocessing.size, 3):
        hashes, failures = [hash_pixels(image) for image in stack], []
        array, rows = stack, np.arange(len(stack), dtype=np.int64)
        if on_progress:
            on_progress(len(stack), len(stack))
    elif cache is not None:
        array, rows, hashes, failures = _read_cached(listing, preprocessing, cache, on_progress)
    else:
        array, rows, hashes, failures = _read_to_memory(listing, preprocessing, on_progress)

    kept = np.flatnonzero(rows >= 0)
    return ImageSet(
        pixels=array,
        rows=rows[kept],
        labels=listing.labels[kept],
        classes=listing.classes,
        uris=tuple(listing.images[i].uri for i in kept.tolist()),
        hashes=tuple(hashes[i] for i in kept.tolist()),
        split=None if listing.split is None else listing.split[kept],
        cameras=None if listing.cameras is None else listing.cameras[kept],
        item_ids=None if listing.item_ids is None else tuple(listing.item_ids[i] for i in kept.tolist()),
        skipped=tuple(failures),
    )


_Result = tuple[NDArray[np.uint8], NDArray[np.int64], list[str], list[Skipped]]


def _read_cached(
    listing: Listing, preprocessing: Preprocessing, directory: Path, on_progress: ProgressCallback | None
) -> _Result:
    cache = PixelCache(directory, preprocessing)
    rows = np.full(len(listing.images), -1, dtype=np.int64)
    hashes: list[str] = []
    failures: list[Skipped] = []
    for start, batch in _batches(listing, preprocessing, cache, failures, on_progress):
        hashes += [one.hash for one in batch]
        new = [(one.hash, one.pixels) for one in batch if one.pixels is not None]
        if new:
            cache.add([content for content, _ in new], np.stack([image for _, image in new]))
        rows[start : start + len(batch)] = [-1 if one.failure else cache.rows([one.hash])[0] for one in batch]
    return cache.array(), rows, hashes, failures


def _read_to_memory(
    listing: Listing, preprocessing: Preprocessing, on_progress: ProgressCallback | None
) -> _Result:
    count, size = len(listing.images), preprocessing.size
    array = np.empty((count, size, size, 3), np.uint8)
    rows = np.arange(count, dtype=np.int64)
    hashes: list[str] = []
    failures: list[Skipped] = []
    for start, batch in _batches(listing, preprocessing, None, failures, on_progress):
        hashes += [one.hash for one in batch]
        for row, one in enumerate(batch, start):
            if one.pixels is None:
                rows[row] = -1
            else:
                array[row] = one.pixels
    return array, rows, hashes, failures


def _batches(
    listing: Listing,
    preprocessing: Preprocessing,
    cache: PixelCache | None,
    failures: list[Skipped],
    on_progress: ProgressCallback | None,
) -> Iterator[tuple[int, list[_Read]]]:
    total = len(listing.images)
    with ThreadPoolExecutor(THREADS) as threads:
        for start in range(0, total, BATCH):
            images = listing.images[start : start + BATCH]
            batch = list(threads.map(lambda image: _read_one(image, preprocessing, cache), images))
            failures += [
                Skipped(image.uri, one.failure) for image, one in zip(images, batch, strict=True) if one.failure
            ]
            yield start, batch
            if on_progress:
                on_progress(start + len(batch), total)


def _read_one(image: StoredImage, preprocessing: Preprocessing, cache: PixelCache | None) -> _Read:
    try:
        content = image.read()
        name = hashlib.sha256(content).hexdigest() if isinstance(content, bytes) else hash_pixels(content)
        if cache is not None and cache.rows([name])[0] >= 0:
            return _Read(name)
        picture = decode(content) if isinstance(content, bytes) else from_array(content)
        return _Read(name, pixels(picture, preprocessing))
    except InputError as error:
        return _Read(failure=str(error))
