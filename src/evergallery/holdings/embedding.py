"""Images to vectors, by the generations of a workspace."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evergallery.data.image_set import ImageSet
from evergallery.data.images import read_pixels
from evergallery.devices.choosing import FEW, device_for
from evergallery.errors import DamagedError, InputError
from evergallery.gallery.items import Filter
from evergallery.generations.generation import Generation
from evergallery.holdings.embedding_cache import EmbeddingCache
from evergallery.holdings.holdings import Holdings
from evergallery.holdings.runtimes import running
from evergallery.watching import SILENT, Watcher

BATCH = 256
UNNAMED = "The picture"
"""The name that messages give an image of which only the bytes are known."""


def extract(
    holdings: Holdings, generation: Generation, images: ImageSet, watcher: Watcher = SILENT, *, keep: bool = True
) -> NDArray[np.float32]:
    """Unit embeddings (N, D) of N images by a generation.

    Args:
        generation: that looks at them, where no other one of the same frozen backbone has.
        images: N.
        watcher: hears of progress.
        keep: whether they are kept, by content, so that no image is extracted twice for a check.
    """
    if not keep:
        return _extract(holdings, generation, images, watcher)
    cache = EmbeddingCache(holdings.directory / "cache" / "embeddings")
    known = cache.get(generation.fingerprint, images.hashes)
    known |= _by_relatives(holdings, cache, generation, [name for name in images.hashes if name not in known])
    missing = [index for index, content in enumerate(images.hashes) if content not in known]
    if missing:
        made = _extract(holdings, generation, images.select(np.array(missing)), watcher)
        hashes = [images.hashes[index] for index in missing]
        cache.add(generation.fingerprint, hashes, made)
        known |= dict(zip(hashes, made, strict=True))
    return np.stack([known[content] for content in images.hashes])


def _by_relatives(
    holdings: Holdings, cache: EmbeddingCache, generation: Generation, hashes: Sequence[str]
) -> dict[str, NDArray[np.float32]]:
    """Embeddings (D,) by a generation from those that others of the same frozen backbone have made, by content hash.

    They are not kept, so that every one that is kept was made of its image.
    """
    found: dict[str, NDArray[np.float32]] = {}
    for other in holdings.generations():
        missing = [content for content in hashes if content not in found]
        # Where both have learned with their backbones, no network need be opened to know that these differ.
        if not missing or "neck" not in (generation.card.settings.get("train"), other.card.settings.get("train")):
            continue
        known = cache.get(other.fingerprint, missing)
        # What cannot be read of another generation is no reason not to look at the images.
        with suppress(DamagedError):
            between = holdings.loaded.between(other, generation) if known else None
            if between is not None:
                found |= dict(zip(known, between(np.stack(list(known.values()))), strict=True))
    return found


def begin(holdings: Holdings, generation: Generation, images: int, watcher: Watcher = SILENT) -> None:
    """Open what embeds so many images best, and let a network look at a first one, which takes longer than all others.

    Args:
        generation: that is about to look at images; each look by a model elsewhere may cost money, so it takes none.
        images: how many.
        watcher: hears which runtime was found.
    """
    embed = running(holdings, generation, images, watcher)
    if generation.can_be_parent:
        embed(np.zeros((1, *generation.preprocessing.shape, 3), np.uint8))


def extract_raw(
    holdings: Holdings, generation: Generation, images: ImageSet, watcher: Watcher = SILENT
) -> NDArray[np.float32]:
    """Embeddings (N, D) of N images at the length that the generation's model gives them, by torch; none is kept.

    Args:
        generation: that looks at them.
        images: N.
        watcher: hears of progress.

    Raises:
        InputError: there are vectors only.
    """
    from evergallery.network import extraction

    return extraction.extract(
        holdings.loaded.embedder(generation, device_for(len(images)) if generation.can_be_parent else "cpu"),
        images,
        generation.preprocessing,
        on_progress=lambda done, total: watcher.counted(f"extracting with {generation.name}", done, total),
        unit=False,
    )


def _extract(
    holdings: Holdings, generation: Generation, images: ImageSet, watcher: Watcher = SILENT
) -> NDArray[np.float32]:
    embeddings = np.zeros((len(images), generation.card.dimension), np.float32)
    if not len(images):
        return embeddings
    embed = running(holdings, generation, len(images), watcher)
    for start in range(0, len(images), BATCH):
        stop = min(start + BATCH, len(images))
        embeddings[start:stop] = embed(np.take(images.pixels, images.rows[start:stop], axis=0))
        watcher.counted(f"extracting with {generation.name}", stop, len(images))
    return embeddings


def known_embeddings(
    holdings: Holdings, generation: Generation, images: ImageSet
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """The gallery's vectors (N, D) of N images by a generation that cannot extract, and (N,) which are missing.

    An image is the stored item that has its id, where the images' table names ids, or its content.
    """
    names = images.item_ids or (None,) * len(images)
    by_id = {name: index for index, name in enumerate(names) if name is not None}
    by_content = {content: index for index, content in enumerate(images.hashes)}
    vectors = np.zeros((len(images), generation.card.dimension), np.float32)
    missing = np.ones(len(images), dtype=bool)
    state = holdings.state
    view = state.view()
    if state.refresh is not None:
        # New vectors are seen before they are shown, and earlier ones after: both can be measured.
        is_new = state.refresh.fingerprint == generation.fingerprint
        view = view.after(state.refresh.id) if is_new else view.before(state.refresh.id)
    for batch in holdings.gallery.iterate(Filter(generations=(generation.fingerprint,)), view=view):
        for item in batch:
            index = by_id.get(item.id, by_content.get(item.content_hash or ""))
            if index is not None:
                vectors[index], missing[index] = item.embedding, False
    return vectors, missing


def embed(holdings: Holdings, picture: str | Path | bytes, generation: Generation) -> NDArray[np.float32]:
    """The unit embedding (D,) of an image file, or of the bytes of one.

    Raises:
        InputError: there is no such file, or it cannot be read as an image.
    """
    if isinstance(picture, bytes):
        try:
            array = read_pixels(picture, generation.preprocessing)
        except InputError as error:
            raise InputError(f"{UNNAMED} cannot be read as an image: {error}") from error
    else:
        if not Path(picture).is_file():
            raise InputError(f"There is no image {picture}.")
        array = read_pixels(Path(picture), generation.preprocessing)
    vector: NDArray[np.float32] = embed_pixels(holdings, array[None], generation)[0]
    return vector


def reads_words(holdings: Holdings, generation: Generation) -> bool:
    """Return whether words can be searched with: a Python function that is loaded has a text tower beside it."""
    from evergallery.network.foreign import text_tower

    return generation.card.kind == "callable" and text_tower(generation.card.model["function"]) is not None


def embed_words(holdings: Holdings, words: str, generation: Generation) -> NDArray[np.float32]:
    """The unit vector (D,) of words by a generation's text tower.

    Raises:
        InputError: it has none, or the tower fails.
    """
    from evergallery.network.foreign import text_tower, text_vector

    if generation.card.kind == "callable":
        holdings.loaded.embedder(generation)
        name = generation.card.model["function"]
        tower = text_tower(name)
        if tower is not None:
            return text_vector(name, tower, words, generation.card.dimension)
    raise InputError(
        f"{generation.name} has no text tower: search with a picture, or register a function with embed_text beside it."
    )


def embed_pixels(holdings: Holdings, images: NDArray[np.uint8], generation: Generation) -> NDArray[np.float32]:
    """The unit embeddings (N, D) of images (N, S, S, 3) that ``data.images.pixels`` has brought to its size S.

    For searches: however many images there are, no GPU is opened and no runtime is tried while somebody waits.
    """
    if not len(images):
        return np.zeros((0, generation.card.dimension), np.float32)
    embed = running(holdings, generation, min(len(images), FEW - 1))
    # Copies, since torch takes no array that cannot be written to.
    return np.concatenate([embed(images[start : start + BATCH].copy()) for start in range(0, len(images), BATCH)])
