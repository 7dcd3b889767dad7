"""The verb ``search``: which generation asks, which spaces it may search, and what they answer together."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evergallery.errors import InputError, NotFoundError, RefusedError
from evergallery.gallery.items import NO_FILTER, Filter, Item
from evergallery.generations.generation import Generation
from evergallery.holdings.comparing import require_compatible, space_of, stored_spaces
from evergallery.holdings.embedding import embed, embed_words
from evergallery.holdings.holdings import Holdings
from evergallery.holdings.spaces import Space
from evergallery.holdings.state import State
from evergallery.retrieval.calibration import Calibration
from evergallery.searching.looking import look_at_stored, older_view, onlookers, require_looks, seen_by
from evergallery.searching.rescoring import RescoreCounts, rescore
from evergallery.searching.routes import (
    Criteria,
    Queries,
    RankedResult,
    Result,
    Route,
    best_first,
    check_probability,
    find,
    ranked,
    route_to,
    search_routes,
)

Vector = NDArray[np.float32]
Query = str | Path | bytes | Vector | Mapping[str, Vector]
NOTHING = np.empty(0, np.float32)


def search(
    holdings: Holdings,
    query: Query | None = None,
    *,
    item: str | None = None,
    text: str | None = None,
    generation: str | None = None,
    k: int = 10,
    where: Filter = NO_FILTER,
    minimum_score: float | None = None,
    minimum_probability: float | None = None,
    score_of: str | None = None,
    exact: bool | None = None,
) -> list[Result]:
    """The k items most like a query, best first.

    Args:
        query: an image file, or its bytes, or a vector (D,) made by ``generation``; or vectors of several generations by their
            names, where each asks its own.
        item: id of a stored item to search with instead; it is left out of its own result.
        text: words to search with instead, where the generation is a function with a text tower, ``embed_text``, beside it. Only
            vectors of its own are searched, and no probability is told: that of pictures does not hold for words.
        generation: that embeds the query; the promoted one by default.
        k: how many.
        where: labels, generations or metadata to search among.
        minimum_score: smallest cosine.
        minimum_probability: smallest calibrated probability that an item is of the query's class, in (0, 1).
        score_of: the generation on whose scores, alone, ``minimum_score`` was settled: what was as probable a match there is
            kept here.
        exact: compare with every item; by default only where no index was measured to find what exact search finds, see
            ``compact``.

    Raises:
        RefusedError: the gallery holds vectors that the query's generation has not been shown compatible with, or a
            probability is asked for that no check has measured.
        NotFoundError: no such item or file.
        InputError: both or neither of ``query`` and ``item``, an unreadable image, a vector of another dimension.
    """
    if sum(way is not None for way in (query, item, text)) != 1:
        raise InputError("Search with an image, a vector, an item's id or words: give exactly one.")
    if text is not None:
        maker = answering(holdings, generation)
        query, generation = embed_words(holdings, text, maker), maker.name
        where = words_only(maker, where, minimum_probability)

    limits: dict[str, Any] = {
        "minimum_score": minimum_score,
        "minimum_probability": minimum_probability,
        "score_of": score_of,
    }

    def ask(state: State) -> list[Result]:
        return _search(holdings, state, query, item, generation, k, where=where, exact=exact, **limits)

    found = _of_one_state(holdings, ask)
    holdings.notes.found(result.item.id for result in found)
    return found if text is None else [replace(result, probability=None, present=None) for result in found]


def words_only(maker: Generation, where: Filter, minimum_probability: float | None) -> Filter:
    """The filter of what words search among: vectors of the generation whose text tower has seen them.

    Raises:
        InputError: a probability is asked for, which nobody has measured for words.
    """
    if minimum_probability is not None:
        raise InputError("How probable a match of words is was never measured: give a smallest score in its place.")
    return replace(where, generations=(maker.fingerprint,))


def _of_one_state(holdings: Holdings, ask: Callable[[State], list[Result]]) -> list[Result]:
    """What ``ask`` finds in one state; asked again where vectors that the state shows were given up meanwhile."""
    while True:
        # Read once: who answers and which vectors are searched belong together.
        state = holdings.state
        try:
            found = ask(state)
        except RefusedError:
            # A query that is a stored vector may be of a generation that is gone by now.
            if not state.may_miss(holdings.state):
                raise
        else:
            if not state.may_miss(holdings.state):
                return found


def _search(
    holdings: Holdings,
    state: State,
    query: Query | None,
    item: str | None,
    generation: str | None,
    k: int,
    *,
    where: Filter,
    **options: Any,
) -> list[Result]:
    """What ``search`` finds as of one state."""
    look: Callable[[Generation], Vector | None]
    if item is not None:
        stored = holdings.gallery.get(item, view=state.view())
        if stored is None:
            raise NotFoundError(f"The gallery has no item {item!r}: list them with  evergallery gallery list")
        asker, vector = space_of(holdings, stored.generation), stored.embedding
        look = partial(look_at_stored, holdings, stored, state)
    else:
        assert query is not None
        maker = answering(holdings, generation, state)
        asker = Space(maker)
        vector, look = _query_vector(holdings, query, maker)
    seen = seen_by(holdings, vector, asker, onlookers(holdings, asker, state, where), look)
    found = answer_vectors(
        holdings,
        vector[None],
        asker,
        seen={name: look[None] for name, look in seen.items()},
        k=k + (item is not None),
        where=where,
        state=state,
        rescoring=generation in (None, state.promoted),
        **options,
    ).results[0]
    return [result for result in found if result.item.id != item][:k]


def _query_vector(
    holdings: Holdings, query: Query, maker: Generation
) -> tuple[Vector, Callable[[Generation], Vector | None]]:
    """A query as its generation sees it, and what tells how others do."""
    if isinstance(query, Mapping):
        given = {holdings.generation(name).fingerprint: vector for name, vector in query.items()}
        if maker.fingerprint not in given:
            raise InputError(f"The query has no vector of {maker.name}, which searches: give it with those of others.")
        return given[maker.fingerprint], lambda other: given.get(other.fingerprint)
    if isinstance(query, np.ndarray):
        return query, lambda _: None
    return embed(holdings, query, maker), lambda other: embed(holdings, query, other) if other.extracts else None


@dataclass(frozen=True)
class Answers:
    """What was found for each query, best first, and where candidates were scored again, how."""

    results: list[list[Result]]
    rescored: list[RescoreCounts] | None = None


def answer_vectors(
    holdings: Holdings,
    queries: Vector,
    asker: Space,
    *,
    seen: Mapping[str, Vector] = MappingProxyType({}),
    k: int = 10,
    where: Filter = NO_FILTER,
    state: State | None = None,
    rescoring: bool = True,
    minimum_score: float | None = None,
    minimum_probability: float | None = None,
    score_of: str | None = None,
    exact: bool | None = None,
) -> Answers:
    """The k items most like each of (Q, D) unit rows of one space, as the workspace answers; see ``search``.

    Args:
        holdings: of the workspace.
        queries: (Q, D) unit rows.
        asker: the space that they lie in.
        seen: the same queries (Q, D') as other generations see them, by fingerprint; see ``searching.looking``.
        k: how many.
        where: labels, generations or metadata to search among.
        state: which vectors are seen and what may be compared, all as of one moment; as of now by default.
        rescoring: whether candidates may be scored again, where the workspace answers so.
        minimum_score: smallest cosine.
        minimum_probability: smallest calibrated probability.
        score_of: see ``search``.
        exact: see ``search``.

    Raises:
        RefusedError: the gallery holds vectors that these queries have not been shown compatible with.
        InputError: queries of another dimension.
    """
    asker.require_width(queries)
    queries = queries.astype(np.float32, copy=False)
    seen = {name: rows.astype(np.float32, copy=False) for name, rows in seen.items()}
    state = state or holdings.state
    view, answer = state.view(), state.answer
    if score_of is not None:
        minimum_probability = _probability(holdings, state, minimum_score, score_of, minimum_probability)
        minimum_score = None
    asked = Queries(queries, seen)
    criteria = Criteria(k, where, view, minimum_score, minimum_probability, exact)
    # Who asks for vectors of some spaces gets those.
    if rescoring and answer.way == "rescore" and not where.generations:
        own = _own_route(holdings, asker, asked, state)
        if own is not None:
            return _rescored(holdings, own, asker, asked, criteria, state)

    def ask() -> list[list[Result]]:
        routes = _routes(holdings, asker, stored_spaces(holdings, where, view=view), state, seen)
        return search_routes(holdings.gallery, routes, asked, criteria)

    # An item that a refresh moves while one space after the other is searched would be met twice, or not at all.
    return Answers(holdings.gallery.at_one_moment(ask, view))


def search_vectors(holdings: Holdings, queries: Vector, asker: Space, **options: Any) -> list[list[Result]]:
    """What ``answer_vectors`` finds for each of (Q, D) unit rows, best first."""
    return answer_vectors(holdings, queries, asker, **options).results


def _routes(
    holdings: Holdings, asker: Space, searched: Sequence[Space], state: State, seen: Mapping[str, Vector]
) -> list[Route]:
    """The routes to each of the spaces, once it is clear that they may be searched."""
    if state.answer.looks_twice:
        require_looks(asker, searched, state, seen)
    else:
        require_compatible(holdings, asker, searched, state)
    return [route_to(holdings, asker, space, state, seen) for space in searched]


def _rescored(
    holdings: Holdings, own: tuple[Route, Vector], asker: Space, queries: Queries, criteria: Criteria, state: State
) -> Answers:
    """Candidates by older vectors, which refreshed items keep until a commit, and items with vectors of the new generation."""
    route, asked = own
    target, store = route.space.fingerprint, holdings.gallery
    earlier = older_view(state, target)
    most = max(state.answer.candidates, criteria.k)

    def find_all() -> tuple[list[Route], list[list[RankedResult]], list[list[RankedResult]], dict[str, Item]]:
        older = [
            space for space in stored_spaces(holdings, criteria.where, view=earlier) if space.fingerprint != target
        ]
        routes = _routes(holdings, asker, older, state, queries.seen)
        check_probability([*routes, route], criteria.minimum_probability)
        # What is good enough is told by the new score alone.
        unlimited = replace(criteria, minimum_score=None, minimum_probability=None)
        found = find(store, routes, queries, replace(unlimited, k=most, view=earlier), with_embeddings=True)
        candidates = [results[:most] for results in found]
        fresh = find(store, [route], Queries(asked), unlimited)
        names = list({candidate.result.item.id for results in candidates for candidate in results})
        return routes, candidates, fresh, store.get_many(names, view=criteria.view)

    routes, candidates, fresh, current = store.at_one_moment(find_all)
    calibrated = route.calibration is not None and all(other.calibration is not None for other in routes)
    again = rescore(holdings, candidates, current, asked, route, seconds=state.answer.seconds, calibrated=calibrated)
    results = []
    for others, (ranking, _) in zip(fresh, again, strict=True):
        known = {candidate.result.item.id for candidate in ranking}
        new = [other.result for other in others if other.result.item.id not in known]
        ranking += [ranked(result.item, result.score, route, calibrated) for result in new]
        results.append(_best(ranking, criteria))
    return Answers(results, [how for _, how in again])


def _best(ranking: Sequence[RankedResult], criteria: Criteria) -> list[Result]:
    """The k best of a ranking that are good enough, without their vectors."""
    least = -2.0 if criteria.minimum_score is None else criteria.minimum_score
    likely = criteria.minimum_probability or 0.0

    def suffices(result: Result) -> bool:
        return result.score >= least and (result.probability is None or result.probability >= likely)

    kept = best_first([candidate for candidate in ranking if suffices(candidate.result)])
    return [_bare(candidate.result) for candidate in kept[: criteria.k]]


def _own_route(holdings: Holdings, asker: Space, queries: Queries, state: State) -> tuple[Route, Vector] | None:
    """The route of the generation that answers to vectors of its own, and the queries (Q, D) by it.

    ``None`` where it has not looked at them.
    """
    if state.promoted is None:
        return None
    promoted = Space(holdings.generation(state.promoted))
    own, name = asker.fingerprint, promoted.fingerprint
    asked = queries.vectors if own == name else queries.seen.get(name)
    return None if asked is None else (route_to(holdings, promoted, promoted, state), asked)


def _probability(
    holdings: Holdings, state: State, minimum_score: float | None, score_of: str, minimum_probability: float | None
) -> float:
    """What a score of one generation alone means, as the probability of a match."""
    if minimum_score is None or minimum_probability is not None:
        raise InputError(f"A score of {score_of} is a smallest score: give --min-score with it, and no probability.")
    space = holdings.space(score_of)
    scale = state.scale(space.fingerprint, space.fingerprint, None)
    if scale is None:
        raise RefusedError(
            f"No check has measured what a score of {score_of} means: run  evergallery check GENERATION --against {score_of} "
            f"--data HELD_OUT  first."
        )
    # A score far from all matches is as good as never or always.
    return min(1 - 1e-12, max(1e-12, Calibration(scale.slope, scale.intercept).probability(minimum_score)))


def _bare(result: Result) -> Result:
    return replace(result, item=replace(result.item, embedding=NOTHING))


def answering(holdings: Holdings, name: str | None = None, state: State | None = None) -> Generation:
    """The generation of this name, or the promoted one of a state.

    Raises:
        NotFoundError: there is none.
    """
    name = name or (state or holdings.state).promoted
    return holdings.generation(name) if name else holdings.promoted
