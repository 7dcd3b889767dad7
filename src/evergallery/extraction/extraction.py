"""Pictures in, vectors out: by this process, or by the workers of a cluster (``cluster.py``), which run the same functions.

Whoever asks keeps what must be exact: which images there are, which are known, their order, and what is stored. Whoever
extracts keeps nothing.
"""

import itertools
from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from evergallery.data.images import Preprocessing, UnreadableImage
from evergallery.data.listing import Entry
from evergallery.data.roots import Roots
from evergallery.data.streaming import (
    READERS,
    Picture,
    ahead,
    decode_picture,
    in_background,
    processors,
    read_pictures,
    working,
)
from evergallery.extraction.images import ImageSource, ItemImages, find_images
from evergallery.gallery.items import Item
from evergallery.holdings.notes import Problem
from evergallery.holdings.runtimes import EmbeddingRun
from evergallery.network.runtimes import Embed

Tag = TypeVar("Tag")
PictureAnswer = NDArray[np.float32] | UnreadableImage
"""A picture's vector (D,), or why it has none."""
ItemAnswer = NDArray[np.float32] | Problem
"""A stored item's new vector (D,), or why it keeps the old one."""


class Extraction(Protocol):
    """The place where files are read and images are embedded. All answers come in the order of what was asked.

    Attributes:
        how: images were embedded, for the journal; empty where none was, or machines of a cluster have done it.
    """

    how: Mapping[str, str]

    def read(self, entries: Iterable[Entry]) -> Generator[Picture | UnreadableImage, None, None]:
        """The files of entries, hashed, with or without their data."""
        ...

    def embed(
        self, batches: Iterable[tuple[Tag, Sequence[Picture]]], most: int
    ) -> Generator[tuple[Tag, list[PictureAnswer]], None, None]:
        """The vectors of pictures, each batch with the tag that came with it; ``most`` of them in all."""
        ...

    def renew(
        self, batches: Iterable[Sequence[Item]], most: int, known: ImageSource | None, roots: Roots
    ) -> Generator[tuple[Sequence[Item], list[ItemAnswer]], None, None]:
        """New vectors of ``most`` stored items, whose images are looked for in what is ``known``, then where they were."""
        ...


class LocalExtraction:
    """Extraction here: threads read and decode files ahead of the network, which is ahead of whoever takes the vectors.

    So the network does not wait while vectors are stored.

    Args:
        running: what embeds so many images best; asked when there is a first image for it, not where all of them are known.
        preprocessing: of its input.
    """

    def __init__(self, running: Callable[[int], EmbeddingRun], preprocessing: Preprocessing) -> None:
        self.running = running
        self.preprocessing = preprocessing
        self.how: Mapping[str, str] = {}

    def read(self, entries: Iterable[Entry]) -> Generator[Picture | UnreadableImage, None, None]:
        """The files of entries, with their data."""
        with working(READERS) as readers:
            yield from read_pictures(readers, entries)

    def embed(
        self, batches: Iterable[tuple[Tag, Sequence[Picture]]], most: int
    ) -> Generator[tuple[Tag, list[PictureAnswer]], None, None]:
        """The vectors of pictures with their data."""
        opened = cache(lambda: self._opened(most))
        with working(processors()) as decoders:
            begun = (
                (tag, [decoders.submit(decode_picture, picture, self.preprocessing) for picture in pictures])
                for tag, pictures in batches
            )
            with (
                in_background(begun) as ready,
                in_background((tag, embedded_as_decoded(pictures, opened)) for tag, pictures in ready) as made,
            ):
                yield from made

    def renew(
        self, batches: Iterable[Sequence[Item]], most: int, known: ImageSource | None, roots: Roots
    ) -> Generator[tuple[Sequence[Item], list[ItemAnswer]], None, None]:
        """New vectors of stored items."""
        opened = cache(lambda: self._opened(most))
        found = ((batch, find_images(batch, self.preprocessing, roots, known)) for batch in batches)
        with (
            in_background(found) as ready,
            in_background(
                (batch, renewed(batch, images, lambda pixels: opened()(pixels))) for batch, images in ready
            ) as made,
        ):
            yield from made

    def _opened(self, most: int) -> EmbeddingRun:
        running = self.running(most)
        self.how = running.how
        return running


def decoded_by(
    decoders: ThreadPoolExecutor,
    threads: int,
    pictures: Iterable[Picture | UnreadableImage],
    preprocessing: Preprocessing,
) -> list[NDArray[np.uint8] | UnreadableImage]:
    """The pixels (S, S, 3) of each picture, or why there are none."""
    return list(ahead(decoders, lambda picture: decode_picture(picture, preprocessing), pictures, 8 * threads))


def embedded(decoded: Sequence[NDArray[np.uint8] | UnreadableImage], embed: Embed) -> list[PictureAnswer]:
    """The vectors of pixels (S, S, 3), which go through the network together."""
    images = [pixels for pixels in decoded if not isinstance(pixels, UnreadableImage)]
    vectors = iter(embed(np.stack(images)) if images else ())
    return [pixels if isinstance(pixels, UnreadableImage) else next(vectors) for pixels in decoded]


def embedded_as_decoded(
    decoding: Sequence[Future[NDArray[np.uint8] | UnreadableImage]], opened: Callable[[], EmbeddingRun]
) -> list[PictureAnswer]:
    """The vectors of pictures that are being decoded: what is there by now goes through the network, which waits for no more.

    Args:
        decoding: the pictures.
        opened: the network, opened where there is a picture; so many as it takes best at once, or a multiple, go through it
            together.
    """
    if not decoding:
        return []
    network = opened()
    part = network.part or len(decoding)
    answers: list[PictureAnswer] = []
    waiting = deque(decoding)
    while waiting:
        some: list[NDArray[np.uint8] | UnreadableImage] = []
        while waiting and (not some or all(picture.done() for picture in itertools.islice(waiting, part))):
            some += [waiting.popleft().result() for _ in range(min(part, len(waiting)))]
        answers += embedded(some, network)
    return answers


def renewed(items: Sequence[Item], found: ItemImages, embed: Embed) -> list[ItemAnswer]:
    """The new vectors of items whose images were looked for."""
    vectors = embed(found.images.pixels) if found.items else ()
    answers: dict[str, ItemAnswer] = {problem.item: problem for problem in found.problems}
    answers |= {item.id: vector for item, vector in zip(found.items, vectors, strict=True)}
    return [answers[item.id] for item in items]
