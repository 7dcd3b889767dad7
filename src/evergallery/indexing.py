"""Images into a gallery: extracted and stored batch by batch, each batch durable before the next."""

import time as clock
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evergallery.data.image_set import ImageSet
from evergallery.data.images import Skipped
from evergallery.gallery.items import Item, PutCounts
from evergallery.gallery.store import GalleryStore
from evergallery.generation import Generation
from evergallery.network import extract
from evergallery.state import now
from evergallery.watching import Watcher

BATCH = 1024


@dataclass(frozen=True)
class Indexed:
    """What ``index`` did."""

    generation: str
    added: int
    replaced: int
    unchanged: int
    skipped: tuple[Skipped, ...]
    seconds: float


def index_images(store: GalleryStore, maker: Generation, images: ImageSet, watcher: Watcher) -> Indexed:
    """Store the images' vectors by ``maker``; an image that two files hold is stored once."""
    started = clock.perf_counter()
    images = _distinct(images)
    embedder = maker.embedder()
    total = PutCounts(0, 0, 0)
    for start in range(0, len(images), BATCH):
        part = images.select(np.arange(start, min(start + BATCH, len(images))))
        total += store.put(_items(part, extract(embedder, part, maker.preprocessing), maker.fingerprint))
        watcher.counted("indexing", start + len(part), len(images))
    return Indexed(
        maker.name, total.added, total.replaced, total.unchanged, images.skipped, clock.perf_counter() - started
    )


def _identifiers(images: ImageSet) -> list[str]:
    given: Sequence[str | None] = images.item_ids or (None,) * len(images)
    return [identifier or content for identifier, content in zip(given, images.hashes, strict=True)]


def _distinct(images: ImageSet) -> ImageSet:
    """The first image of each id, so that the same content is kept once."""
    first = {identifier: index for index, identifier in reversed(list(enumerate(_identifiers(images))))}
    return images.select(np.sort(np.fromiter(first.values(), dtype=np.int64)))


def _items(images: ImageSet, embeddings: NDArray[np.float32], fingerprint: str) -> list[Item]:
    time = now()
    return [
        Item(
            id=identifier,
            embedding=embedding,
            generation=fingerprint,
            label=images.classes[label] if label >= 0 else None,
            uri=uri,
            content_hash=content,
            added=time,
        )
        for identifier, embedding, label, uri, content in zip(
            _identifiers(images), embeddings, images.labels.tolist(), images.uris, images.hashes, strict=True
        )
    ]
