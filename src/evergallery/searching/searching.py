"""The verb ``search``: which generation asks, which spaces it may search, and what they answer together."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evergallery.errors import InputError, NotFoundError
from evergallery.gallery.items import Filter
from evergallery.gallery.store import NO_FILTER
from evergallery.generations.generation import Generation
from evergallery.holdings.comparing import require_compatible, space_of, stored_spaces
from evergallery.holdings.embedding import embed
from evergallery.holdings.holdings import Holdings
from evergallery.holdings.spaces import Space
from evergallery.holdings.state import State
from evergallery.searching.routes import Result, route_to, search_routes


def search(
    holdings: Holdings,
    query: str | Path | NDArray[np.float32] | None = None,
    *,
    item: str | None = None,
    generation: str | None = None,
    k: int = 10,
    where: Filter = NO_FILTER,
    minimum_score: float | None = None,
    minimum_probability: float | None = None,
    exact: bool | None = None,
) -> list[Result]:
    """The k items most like a query, best first.

    Args:
        query: an image file, or a vector (D,) made by ``generation``.
        item: id of a stored item to search with instead; it is left out of its own result.
        generation: that embeds the query; the promoted one by default.
        k: how many.
        where: labels, generations or metadata to search among.
        minimum_score: smallest cosine.
        minimum_probability: smallest calibrated probability that an item is of the query's class, in (0, 1).
        exact: compare with every item; by default only where no index was measured to find what exact search finds, see
            ``compact``.

    Raises:
        RefusedError: the gallery holds vectors that the query's generation has not been shown compatible with, or a
            probability is asked for that no check has measured.
        NotFoundError: no such item or file.
        InputError: both or neither of ``query`` and ``item``, an unreadable image, a vector of another dimension.
    """
    if (query is None) == (item is None):
        raise InputError("Search with an image, a vector or an item's id: give exactly one.")
    # Read once: who answers and which vectors are searched belong together.
    state = holdings.state
    if item is not None:
        stored = holdings.gallery.get(item, view=state.view())
        if stored is None:
            raise NotFoundError(f"The gallery has no item {item!r}: list them with  evergallery gallery list")
        asker, vector = space_of(holdings, stored.generation), stored.embedding
    else:
        maker = answering(holdings, generation, state)
        asker = Space(maker)
        vector = query if isinstance(query, np.ndarray) else embed(holdings, str(query), maker)
    found = search_vectors(
        holdings,        vector[None], asker, k=k + (item is not None), where=where, state=state,
        minimum_score=minimum_score, minimum_probability=minimum_probability, exact=exact,
    )[0]  # fmt: skip
    found = [result for result in found if result.item.id != item][:k]
    holdings.notes.found(result.item.id for result in found)
    return found


def search_vectors(
    holdings: Holdings,
    queries: NDArray[np.float32],
    asker: Space,
    *,
    k: int = 10,
    where: Filter = NO_FILTER,
    state: State | None = None,
    minimum_score: float | None = None,
    minimum_probability: float | None = None,
    exact: bool | None = None,
) -> list[list[Result]]:
    """The k items most like each of (Q, D) unit rows of one space; see ``search``.

    Args:
        queries: (Q, D) unit rows.
        asker: the space that they lie in.
        k: how many.
        where: labels, generations or metadata to search among.
        state: which vectors are seen and what may be compared, all as of one moment; as of now by default.
        minimum_score: smallest cosine.
        minimum_probability: smallest calibrated probability.
        exact: see ``search``.

    Raises:
        RefusedError: the gallery holds vectors that these queries have not been shown compatible with.
        InputError: queries of another dimension.
    """
    asker.require_width(queries)
    queries = queries.astype(np.float32, copy=False)
    state = state or holdings.state
    view = state.view()

    def ask() -> list[list[Result]]:
        searched = stored_spaces(holdings, where, view=view)
        require_compatible(holdings, asker, searched, state)
        routes = [route_to(holdings, asker, space, state) for space in searched]
        return search_routes(
            holdings.gallery, routes, queries, k, where=where, view=view, minimum_score=minimum_score,
            minimum_probability=minimum_probability, exact=exact,
        )  # fmt: skip

    # An item that a refresh moves while one space after the other is searched would be met twice, or not at all.
    return holdings.gallery.at_one_moment(ask)


def answering(holdings: Holdings, name: str | None = None, state: State | None = None) -> Generation:
    """The generation of this name, or the promoted one of a state.

    Raises:
        NotFoundError: there is none.
    """
    name = name or (state or holdings.state).promoted
    return holdings.generation(name) if name else holdings.promoted
