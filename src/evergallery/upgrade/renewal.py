"""The common part of a plan and a refresh: which items get new vectors, into which space, and how without their images."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from evergallery.data.image_set import ImageSet
from evergallery.data.roots import EVERYWHERE, Roots
from evergallery.errors import InputError
from evergallery.extraction.extraction import ItemAnswer
from evergallery.extraction.images import ImageSource, by_content
from evergallery.gallery.items import Filter, Item, View
from evergallery.holdings.holdings import Holdings
from evergallery.holdings.images import ImageReader
from evergallery.holdings.maps import Map, maps_to
from evergallery.holdings.spaces import Space
from evergallery.watching import Watcher


def target_of(holdings: Holdings, generation: str, adapter: str | None) -> Space:
    """The space of the new vectors: a generation's, or that of an adapter that maps stored ones for it.

    Raises:
        InputError: the generation extracts nothing, or the adapter maps something else.
    """
    maker = holdings.generation(generation)
    if adapter is None:
        if not maker.extracts:
            raise InputError(f"{generation} has vectors only: nothing can be extracted with it.")
        return Space(maker)
    stored = holdings.adapter(adapter)
    card = stored.card
    if card.direction != "gallery" or card.target.name != generation:
        raise InputError(
            f"{adapter} maps {card.source.name} to {card.target.name} for the {card.direction}: stored vectors are mapped by "
            f"one made with  evergallery adapt {generation} OLD --pairs IMAGES --direction gallery"
        )
    return Space(holdings.generation(card.source.name), stored)


def before_refresh(holdings: Holdings) -> View:
    """The gallery as it is without the open refresh."""
    state = holdings.state
    return state.view().before(state.refresh.id) if state.refresh else state.view()


def to_refresh(holdings: Holdings, target: Space, view: View, *, with_embeddings: bool = False) -> list[Item]:
    """The items of a view whose vectors lie in another space than the target.

    Raises:
        InputError: there is none.
    """
    batches = holdings.gallery.iterate(Filter(), with_embeddings=with_embeddings, view=view)
    found = [item for batch in batches for item in batch if item.generation != target.fingerprint]
    if not found:
        raise InputError(f"The gallery holds nothing but vectors of {target.name}: there is nothing to refresh.")
    return found


def maps_into(holdings: Holdings, target: Space) -> dict[str, Map]:
    """Return how stored vectors become those of a target without their images, by the fingerprint of their space."""
    held = holdings.gallery.generations(view=before_refresh(holdings))
    makers = [generation for generation in holdings.generations() if generation.fingerprint in held]
    return maps_to(target, makers, holdings.loaded.embedder)


def mapped(
    batches: Iterator[Sequence[Item]], maps: Mapping[str, Map]
) -> Iterator[tuple[Sequence[Item], list[ItemAnswer]]]:
    """New vectors of items from their stored ones, of all that have one generation at once; no image is looked at."""
    for batch in batches:
        rows: defaultdict[str, list[int]] = defaultdict(list)
        for row, item in enumerate(batch):
            rows[item.generation].append(row)
        renewed: dict[int, ItemAnswer] = {}
        for space, some in rows.items():
            renewed.update(zip(some, maps[space](np.stack([batch[row].embedding for row in some])), strict=True))
        yield batch, [renewed[row] for row in range(len(batch))]


def with_vectors(
    holdings: Holdings, batches: Iterator[Sequence[Item]], maps: Mapping[str, Map]
) -> Iterator[Sequence[Item]]:
    """Items as they are stored before a refresh, read a batch at a time; those that have no vector to be mapped are left out.

    Such is what was deleted meanwhile, or indexed anew.
    """
    view = before_refresh(holdings)
    for batch in batches:
        found = holdings.gallery.get_many([item.id for item in batch], view=view)
        some = [item for item in found.values() if item.generation in maps]
        if some:
            yield some


def roots_for(holdings: Holdings, items: Sequence[Item], given: ImageSource | None, watcher: Watcher) -> Roots:
    """Below which the images of items may be opened; whoever watches is asked about those that lie elsewhere."""
    roots = holdings.roots
    elsewhere = (
        [item.uri for item in items if item.uri is not None and not roots.admits(item.uri)] if given is None else []
    )
    if elsewhere and watcher.confirms(
        f"{len(elsewhere)} of {len(items)} images lie where nobody has allowed them to be opened, such as {elsewhere[0]!r}. "
        f"Whoever wrote these addresses chooses what is read. Open them this once?"
    ):
        return EVERYWHERE
    return roots


def given_images(
    reader: ImageReader, images: str | Path | ImageSet | None, asker: Space, items: Sequence[Item]
) -> ImageSource | None:
    """The images that are looked at first for these items, by content, as the asker reads them."""
    if images is None:
        return None
    preprocessing = asker.maker.preprocessing
    wanted = {item.content_hash for item in items if item.content_hash}
    return by_content(reader.find(images, preprocessing), wanted, preprocessing, reader.watcher)
