"""The verb ``search``: which generation asks, which spaces it may search, and what they answer together."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evergallery.errors import InputError, NotFoundError, RefusedError
from evergallery.gallery.items import NO_FILTER, Filter
from evergallery.generations.generation import Generation
from evergallery.holdings.comparing import require_compatible, space_of, stored_spaces
from evergallery.holdings.embedding import embed, embed_words
from evergallery.holdings.holdings import Holdings
from evergallery.holdings.spaces import Space
from evergallery.holdings.state import State
from evergallery.retrieval.calibration import Calibration
from evergallery.searching.looking import look_at_stored, older_view, onlookers, require_looks, seen_by
from evergallery.searching.rescoring import Candidates, RescoreCounts, rescore
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
        RefusedError: the gallery holds vectors that the query's generation has not been shown compatible with, a
            probability is asked for that no check has measured, or a filter names a space that nobody knows.
        NotFoundError: no such item or file.
        InputError: both or neither of ``query`` and ``item``, an unreadable image, a vector of another dimension.
    """
    if sum(way is not None for way in (query, item, text)) != 1:
        raise InputError("Search with an image, a vector, an item's id or words: give exactly one.")
    for fingerprint in where.generations or ():
        space_of(holdings, fingerprint)
    wanted = Criteria(k, where, None, minimum_score, minimum_probability, score_of, exact)
    if text is not None:
        maker = answering(holdings, generation)
        query, generation = embed_words(holdings, text, maker), maker.name
        wanted = words_only(maker, wanted)

    def ask(state: State) -> list[Result]:
        criteria = replace(wanted, rescoring=generation in (None, state.promoted))
        if item is not None:
            return _like_item(holdings, item, criteria, state)
        assert query is not None, "exactly one of the three was given, and words have become a query"
        return _like(holdings, _looked_at(holdings, query, answering(holdings, generation, state)), criteria, state)

    found = _of_one_state(holdings, ask)
    holdings.notes.found(result.item.id for result in found)
    return found if text is None else [replace(result, probability=None, present=None) for result in found]


def words_only(maker: Generation, criteria: Criteria) -> Criteria:
    """Return what is wanted of a search by words, which are compared with vectors of the generation whose text tower saw them.

    Raises:
        InputError: a probability is asked for, which nobody has measured for words.
    """
    if criteria.minimum_probability is not None:
        raise InputError("How probable a match of words is was never measured: give a smallest score in its place.")
    return replace(criteria, where=replace(criteria.where, generations=(maker.fingerprint,)))


def _of_one_state(holdings: Holdings, ask: Callable[[State], list[Result]]) -> list[Result]:
    """Return what ``ask`` finds in one state; asked again where vectors that the state shows were given up meanwhile."""
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


@dataclass(frozen=True)
class _Look:
    """A query as the generation that asks sees it, and what tells how others do.

    Attributes:
        asker: the space of the vector.
        vector: (D,) of the query.
        by: the vector (D',) of the query by another generation; ``None`` where it cannot look.
    """

    asker: Space
    vector: Vector
    by: Callable[[Generation], Vector | None]


def _like_item(holdings: Holdings, name: str, criteria: Criteria, state: State) -> list[Result]:
    """The items most like a stored one, without itself."""
    stored = holdings.gallery.get(name, view=state.view())
    if stored is None:
        raise NotFoundError(f"The gallery has no item {name!r}: list them with  evergallery gallery list")
    asker = space_of(holdings, stored.generation)
    look = _Look(asker, stored.embedding, partial(look_at_stored, holdings, stored, state))
    found = _like(holdings, look, replace(criteria, k=criteria.k + 1), state)
    return [result for result in found if result.item.id != name][: criteria.k]


def _like(holdings: Holdings, look: _Look, criteria: Criteria, state: State) -> list[Result]:
    """The items most like a query, as of one state."""
    seen = seen_by(holdings, look.vector, look.asker, onlookers(holdings, look.asker, state, criteria.where), look.by)
    queries = Queries(look.vector[None], {name: vector[None] for name, vector in seen.items()})
    return answer_vectors(holdings, look.asker, queries, criteria, state).results[0]


def _looked_at(holdings: Holdings, query: Query, maker: Generation) -> _Look:
    """A query as a generation sees it."""
    if isinstance(query, Mapping):
        given = {holdings.generation(name).fingerprint: vector for name, vector in query.items()}
        for name, vector in query.items():
            Space(holdings.generation(name)).require_width(vector[None])
        if maker.fingerprint not in given:
            raise InputError(f"The query has no vector of {maker.name}, which searches: give it with those of others.")
        return _Look(Space(maker), given[maker.fingerprint], lambda other: given.get(other.fingerprint))
    if isinstance(query, np.ndarray):
        return _Look(Space(maker), query, lambda _: None)
    return _Look(
        Space(maker),
        embed(holdings, query, maker),
        lambda other: embed(holdings, query, other) if other.extracts else None,
    )


@dataclass(frozen=True)
class Answers:
    """The results for each query, best first, and where candidates were scored again, how."""

    results: list[list[Result]]
    rescored: list[RescoreCounts] | None = None


def answer_vectors(
    holdings: Holdings, asker: Space, queries: Queries, criteria: Criteria | None = None, state: State | None = None
) -> Answers:
    """The k items most like each of Q queries, as the workspace answers.

    Args:
        holdings: of the workspace.
        asker: the space that their vectors (Q, D) lie in.
        queries: with what other generations see in them; see ``searching.looking``.
        criteria: what is wanted; the ten best of all items by default.
        state: which vectors are seen and what may be compared, all as of one moment; as of now by default.

    Raises:
        RefusedError: the gallery holds vectors that these queries have not been shown compatible with.
        InputError: queries of another dimension.
    """
    asker.require_width(queries.vectors)
    state = state or holdings.state
    criteria = _settled(holdings, state, replace(criteria or Criteria(), view=state.view()))
    return _VectorSearch(holdings, asker, queries.in_float32(), criteria, state).answer()


@dataclass(frozen=True)
class _VectorSearch:
    """A search by vectors, in one state of the workspace; see ``answer_vectors``."""

    holdings: Holdings
    asker: Space
    queries: Queries
    criteria: Criteria
    state: State

    def answer(self) -> Answers:
        """Return what is found in all spaces that may be searched."""
        where, answer = self.criteria.where, self.state.answer
        # Who asks for vectors of some spaces gets those.
        if self.criteria.rescoring and answer.way == "rescore" and not where.generations:
            own = self._own_route()
            if own is not None:
                return self._rescored(*own)

        def ask() -> list[list[Result]]:
            routes = self._routes(stored_spaces(self.holdings, where, view=self.criteria.view))
            return search_routes(self.holdings.gallery, routes, self.queries, self.criteria)

        # An item that a refresh moves while one space after the other is searched would be met twice, or not at all.
        return Answers(self.holdings.gallery.at_one_moment(ask, self.state.view()))

    def _routes(self, searched: Sequence[Space]) -> list[Route]:
        """The routes to each of the spaces, once it is clear that they may be searched."""
        seen = self.queries.seen
        if self.state.answer.looks_twice:
            require_looks(self.asker, searched, self.state, seen)
        else:
            require_compatible(self.holdings, self.asker, searched, self.state)
        return [route_to(self.holdings, self.asker, space, self.state, seen) for space in searched]

    def _own_route(self) -> tuple[Route, Vector] | None:
        """The route of the generation that answers to vectors of its own, and the queries (Q, D) by it.

        ``None`` where it has not looked at them.
        """
        if self.state.promoted is None:
            return None
        promoted = Space(self.holdings.generation(self.state.promoted))
        own, name = self.asker.fingerprint, promoted.fingerprint
        asked = self.queries.vectors if own == name else self.queries.seen.get(name)
        return None if asked is None else (route_to(self.holdings, promoted, promoted, self.state), asked)

    def _rescored(self, route: Route, asked: Vector) -> Answers:
        """Candidates by older vectors, which refreshed items keep until a commit, and items with vectors of the new one."""
        holdings, criteria, answer = self.holdings, self.criteria, self.state.answer
        target, store = route.space.fingerprint, holdings.gallery
        earlier = older_view(self.state, target)
        most = max(answer.candidates, criteria.k)

        def find_all() -> tuple[Candidates, list[list[RankedResult]]]:
            held = stored_spaces(holdings, criteria.where, view=earlier)
            routes = self._routes([space for space in held if space.fingerprint != target])
            check_probability([*routes, route], criteria.minimum_probability)
            # What is good enough is told by the new score alone.
            unlimited = replace(criteria, minimum_score=None, minimum_probability=None)
            found = find(store, routes, self.queries, replace(unlimited, k=most, view=earlier), with_embeddings=True)
            first = [results[:most] for results in found]
            names = list({candidate.result.item.id for results in first for candidate in results})
            calibrated = all(other.calibration is not None for other in (*routes, route))
            candidates = Candidates(first, store.get_many(names, view=criteria.view), calibrated)
            return candidates, find(store, [route], Queries(asked), unlimited)

        candidates, fresh = store.at_one_moment(find_all)
        again = rescore(holdings, candidates, asked, route, seconds=answer.seconds)
        results = []
        for others, (ranking, _) in zip(fresh, again, strict=True):
            known = {candidate.result.item.id for candidate in ranking}
            new = [other.result for other in others if other.result.item.id not in known]
            ranking += [ranked(result.item, result.score, route, candidates.calibrated) for result in new]
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


def _settled(holdings: Holdings, state: State, criteria: Criteria) -> Criteria:
    """A smallest score of one generation alone as the probability of a match that it means; else what was wanted."""
    score_of, minimum = criteria.score_of, criteria.minimum_score
    if score_of is None or minimum is None:
        return criteria
    space = holdings.space(score_of)
    scale = state.scale(space.fingerprint, space.fingerprint, None)
    if scale is None:
        raise RefusedError(
            f"No check has measured what a score of {score_of} means: run  evergallery check GENERATION --against {score_of} "
            f"--data HELD_OUT  first."
        )
    # A score far from all matches is as good as never or always.
    probability = min(1 - 1e-12, max(1e-12, Calibration(scale.slope, scale.intercept).probability(minimum)))
    return replace(criteria, minimum_score=None, minimum_probability=probability, score_of=None)


def _bare(result: Result) -> Result:
    return replace(result, item=replace(result.item, embedding=NOTHING))


def answering(holdings: Holdings, name: str | None = None, state: State | None = None) -> Generation:
    """The generation of this name, or the promoted one of a state.

    Raises:
        NotFoundError: there is none.
    """
    name = name or (state or holdings.state).promoted
    return holdings.generation(name) if name else holdings.promoted
