"""The generations that look at a query beside the one that searches, and what they see."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from evergallery.errors import EvergalleryError, RefusedError
from evergallery.extraction.images import find_images
from evergallery.gallery.items import NO_FILTER, Filter, Item, View
from evergallery.generations.generation import Generation
from evergallery.holdings.comparing import stored_spaces
from evergallery.holdings.embedding import embed_pixels
from evergallery.holdings.holdings import Holdings
from evergallery.holdings.spaces import Space
from evergallery.holdings.state import State

Vector = NDArray[np.float32]


def onlookers(holdings: Holdings, asker: Space, state: State, where: Filter = NO_FILTER) -> list[Generation]:
    """Other generations whose look at a query is wanted: the makers of what is searched, and for re-scoring who answers."""
    if not state.answer.looks_twice:
        return []
    view, answers = state.view(), []
    if state.answer.way == "rescore" and state.promoted is not None:
        answers = [holdings.generation(state.promoted)]
        view = older_view(state, answers[0].fingerprint)
    found = [space.maker for space in stored_spaces(holdings, where, view=view) if space.adapter is None] + answers
    return list({maker.fingerprint: maker for maker in found if maker.fingerprint != asker.fingerprint}.values())


def older_view(state: State, target: str) -> View:
    """The view among whose vectors re-scoring for a generation, by fingerprint, finds its candidates.

    Items that were refreshed for it are seen by their earlier vectors.
    """
    opened = state.refresh
    return state.view().before(opened.id) if opened and opened.fingerprint == target else state.view()


def seen_by(
    holdings: Holdings,
    vector: Vector,
    asker: Space,
    others: Sequence[Generation],
    look: Callable[[Generation], Vector | None],
) -> dict[str, Vector]:
    """Return what other generations make of a query, by fingerprint: from its vector (D,) where that suffices, else by looking.

    Args:
        holdings: of the workspace.
        vector: by ``asker``.
        asker: the space that it lies in.
        others: that are to look.
        look: the embedding (D',) of the query by a generation; ``None`` where it cannot look.
    """
    seen = {}
    for other in others:
        follows = None if asker.adapter else holdings.loaded.between(asker.maker, other)
        found = look(other) if follows is None else follows(vector[None])[0]
        if found is not None:
            Space(other).require_width(found[None])
            seen[other.fingerprint] = found
    return seen


def look_at_stored(holdings: Holdings, item: Item, state: State, generation: Generation) -> Vector | None:
    """The embedding (D,) of a stored item by a generation: its other version, or of its image, where that is found."""
    if state.refresh is not None:
        for view in (state.view().before(state.refresh.id), state.view().after(state.refresh.id)):
            other = holdings.gallery.get(item.id, view=view)
            if other is not None and other.generation == generation.fingerprint:
                return other.embedding
    if not generation.extracts:
        return None
    found = find_images([item], generation.preprocessing, holdings.roots)
    if found.problems:
        return None
    try:
        vector: Vector = embed_pixels(holdings, found.images.pixels, generation)[0]
    except EvergalleryError:
        return None
    return vector


def require_looks(asker: Space, searched: Sequence[Space], state: State, seen: Mapping[str, object]) -> None:
    """Refuse a query that one of the spaces cannot be asked by.

    Raises:
        RefusedError: its generation has not looked at the query, and no check has shown that another's look serves.
    """
    for space in searched:
        own = space.adapter is None and space.maker.fingerprint in (asker.fingerprint, *seen)
        if not own and not state.may_compare(asker.fingerprint, space.fingerprint):
            raise RefusedError(
                f"Vectors of {space.name} are asked by {space.maker.name} itself, which has not looked at this query: search "
                f"with a picture, or give its vector by {space.maker.name} too."
            )
