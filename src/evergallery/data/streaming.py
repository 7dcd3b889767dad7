"""Images read and decoded by threads while the network is busy, never more of them in memory than a few batches.

Threads, not processes: the decoders of Pillow work without the interpreter's lock, and their pixels need not be copied from
process to process (``benchmarks/extraction.py`` compares the two).
"""

import hashlib
import itertools
import math
import os
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from evergallery.data.image_set import ImageSet
from evergallery.data.images import Preprocessing, UnreadableImage, read_pixels
from evergallery.data.images.sizes import Size, sides
from evergallery.data.listing import Entry
from evergallery.data.places import read
from evergallery.errors import InputError

READERS = 16
"""Threads that wait for disks and storages; they hardly compute."""
GROUP = 2
"""Files that one of them reads in a row: less to hand over."""
BLOCK_BYTES = 64 << 20
"""Bytes of files in memory that nobody has decoded yet; a dozen photographs straight from a camera fill it."""
BATCH_PIXELS = 256 * 128 * 128

In = TypeVar("In")
Out = TypeVar("Out")


def batch_size(size: Size) -> int:
    """Images of this size that go through a network together: enough to be fast, few enough for memory."""
    return min(1024, max(32, BATCH_PIXELS // math.prod(sides(size))))


@dataclass(frozen=True)
class Picture:
    """An image that was found.

    Attributes:
        entry: what is known of it.
        content: SHA-256 of its file's bytes, or of an array's pixels.
        data: the file's bytes, or pixels (S, S, 3) that were decoded already; ``None`` where the file is to be read again.
    """

    entry: Entry
    content: str
    data: bytes | NDArray[np.uint8] | None


@contextmanager
def working(threads: int) -> Iterator[ThreadPoolExecutor]:
    """A pool that ends with the block; what has not begun by then is never done."""
    pool = ThreadPoolExecutor(threads)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def ahead(pool: ThreadPoolExecutor, work: Callable[[In], Out], inputs: Iterable[In], depth: int) -> Iterator[Out]:
    """Yield what ``work`` makes of each input, in their order; at most ``depth`` are begun before they are asked for."""
    begun: deque[Future[Out]] = deque()
    for item in inputs:
        begun.append(pool.submit(work, item))
        if len(begun) >= depth:
            yield begun.popleft().result()
    while begun:
        yield begun.popleft().result()


@contextmanager
def in_background(items: Iterable[Out], depth: int = 1) -> Iterator[Iterator[Out]]:
    """Go through ``items`` in another thread, at most ``depth`` + 1 ahead of whoever takes them; left early, it stops.

    What the other thread raises comes out where its item would have.
    """
    ready: queue.Queue[tuple[bool, Any]] = queue.Queue(depth)
    stopping = threading.Event()

    def produce() -> None:
        try:
            for item in items:
                ready.put((True, item))
                if stopping.is_set():
                    return
            ready.put((False, None))
        # It is raised again in the thread that takes.
        except BaseException as error:
            ready.put((False, error))

    def take() -> Iterator[Out]:
        while True:
            is_item, content = ready.get()
            if not is_item:
                if content is not None:
                    raise content
                return
            yield content

    thread = threading.Thread(target=produce, daemon=True)
    thread.start()
    try:
        yield take()
    finally:
        stopping.set()
        while thread.is_alive():
            # Room for what it is about to hand over, and for what it says at its end.
            while not ready.empty():
                ready.get_nowait()
            thread.join(0.01)


def read_pictures(pool: ThreadPoolExecutor, entries: Iterable[Entry]) -> Iterator[Picture | UnreadableImage]:
    """The files of entries, read and hashed by a pool, in their order, with what cannot be read."""

    def read_group(group: Sequence[Entry]) -> list[Picture | UnreadableImage]:
        return [read_picture(entry) for entry in group]

    for group in ahead(pool, read_group, grouped(entries, GROUP), READERS):
        yield from group


def pictures_of(images: ImageSet) -> Iterator[Picture]:
    """The images of a set, which are decoded already."""
    for index, content in enumerate(images.hashes):
        label = int(images.labels[index])
        entry = Entry(
            images.uris[index],
            images.classes[label] if label >= 0 else None,
            item_id=images.item_ids[index] if images.item_ids else None,
        )
        yield Picture(entry, content, images.pixels[images.rows[index]])


def blocks(found: Iterable[Picture | UnreadableImage], size: int) -> Iterator[list[Picture | UnreadableImage]]:
    """Pictures in lists of at most ``size``, and of fewer where their files are large."""
    block: list[Picture | UnreadableImage] = []
    held = 0
    for picture in found:
        block.append(picture)
        held += len(picture.data) if isinstance(picture, Picture) and isinstance(picture.data, bytes) else 0
        if len(block) == size or held >= BLOCK_BYTES:
            yield block
            block, held = [], 0
    if block:
        yield block


def read_picture(entry: Entry) -> Picture | UnreadableImage:
    """The file of an entry, read and hashed, or why it cannot be."""
    try:
        entry.uri.encode()
    except UnicodeEncodeError:
        # File names that are no text in the file system's encoding come as lone surrogates, which no gallery can hold.
        name = entry.uri.encode(errors="backslashreplace").decode()
        return UnreadableImage(name, "its name is not Unicode: rename it.")
    try:
        data = read(entry.uri)
    except InputError as error:
        return UnreadableImage(entry.uri, str(error))
    return Picture(entry, hashlib.sha256(data).hexdigest(), data)


def with_data(picture: Picture) -> Picture | UnreadableImage:
    """A picture with its file, which is read again where it is not at hand and must be what it was."""
    if picture.data is not None:
        return picture
    found = read_picture(picture.entry)
    if isinstance(found, Picture) and found.content != picture.content:
        return UnreadableImage(picture.entry.uri, "it changed while it was being indexed: index it again.")
    return found


def decode_picture(
    picture: Picture | UnreadableImage, preprocessing: Preprocessing
) -> NDArray[np.uint8] | UnreadableImage:
    """The pixels (S, S, 3) that a network wants of a picture with its data, or why there are none."""
    if isinstance(picture, UnreadableImage):
        return picture
    assert picture.data is not None, "it was read again where its data was let go"
    if not isinstance(picture.data, bytes):
        return picture.data
    try:
        return read_pixels(picture.data, preprocessing)
    except InputError as error:
        return UnreadableImage(picture.entry.uri, str(error))


def grouped(items: Iterable[In], size: int) -> Iterator[list[In]]:
    """Items in lists of ``size``, the last of which may be shorter."""
    iterator = iter(items)
    while group := list(itertools.islice(iterator, size)):
        yield group


def processors() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
