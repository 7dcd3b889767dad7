"""One ranking over vectors of several generations: a route to each space, and one scale for their cosines."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isnan
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from evergallery.errors import InputError, RefusedError, require_count
from evergallery.gallery.items import NO_FILTER, Filter, Item, Match, View
from evergallery.gallery.store import GalleryStore
from evergallery.holdings.holdings import Holdings
from evergallery.holdings.spaces import Space
from evergallery.holdings.state import State
from evergallery.retrieval.calibration import Calibration
from evergallery.retrieval.width import in_width_of

if TYPE_CHECKING:
    from evergallery.adapters import Adapter

CANDIDATES = 100
"""Stored vectors that an engine finds for a query whose adapter has a score of its own, at least; the score ranks them."""


@dataclass(frozen=True)
class Result:
    """An item that a search found.

    Attributes:
        item: as stored.
        score: cosine of the query, as it is compared with this item's space, and the item's vector; through an adapter that
            has one, its score in place of it.
        probability: that query and item are of one class, calibrated on held-out images for the query's generation and
            the item's space; ``None`` where no check has measured them.
        present: where this is the best item, the probability that anything of the query's class is there; ``None`` where no
            check has measured it.
    """

    item: Item
    score: float
    probability: float | None
    present: float | None = None


@dataclass(frozen=True)
class Criteria:
    """The criteria of the items that a search returns.

    Attributes:
        k: how many for each query, at least 1.
        where: labels, generations or metadata to search among.
        view: which versions of them; those that the workspace shows by default.
        minimum_score: smallest score.
        minimum_probability: smallest calibrated probability that an item is of the query's class, in (0, 1).
        score_of: the generation on whose scores, alone, ``minimum_score`` was settled; those of each route by default.
        exact: see ``GalleryStore.search``.
        rescoring: whether candidates may be scored again, where the workspace answers so.

    Raises:
        InputError: there is nothing that meets them.
    """

    k: int = 10
    where: Filter = NO_FILTER
    view: View | None = None
    minimum_score: float | None = None
    minimum_probability: float | None = None
    score_of: str | None = None
    exact: bool | None = None
    rescoring: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "k", require_count("k", self.k))
        if self.minimum_score is not None and isnan(self.minimum_score):
            raise InputError("A smallest score of nan is not usable: give a cosine between -1 and 1.")
        if self.minimum_probability is not None and not 0 < self.minimum_probability < 1:
            raise InputError(f"A probability of {self.minimum_probability} is not usable: give one between 0 and 1.")
        if self.score_of is not None and (self.minimum_score is None or self.minimum_probability is not None):
            raise InputError(
                f"A score of {self.score_of} is a smallest score: give --min-score with it, and no probability."
            )


@dataclass(frozen=True)
class Route:
    """The way on which queries of one generation reach the vectors of a space.

    Attributes:
        space: that is searched.
        adapter: that queries go through, or ``None``; queries of another width are then cut, or padded with zeros.
        calibration: of the cosines, where it is known.
        by: fingerprint of the generation whose look at the query asks, where it is another one than the searcher's.
    """

    space: Space
    adapter: "Adapter | None"
    calibration: Calibration | None
    by: str | None = None

    def queries(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """Queries (Q, D) as they are compared with the space: (Q, D')."""
        if self.adapter is not None:
            import torch

            mapped: NDArray[np.float32] = self.adapter(torch.from_numpy(embeddings)).numpy()
            return mapped
        width = np.empty((0, self.space.dimension), np.float32)
        return in_width_of(embeddings, width)

    def scores(self, embeddings: NDArray[np.float32], vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Scores (Q, N) of queries (Q, D) and vectors (N, D') of the space, by which its items are ranked."""
        if self.adapter is None:
            direct: NDArray[np.float32] = self.queries(embeddings) @ vectors.T
            return direct
        import torch

        adapter, stored = self.adapter, torch.from_numpy(vectors)
        through: NDArray[np.float32] = (
            adapter.query_side(torch.from_numpy(embeddings)) @ adapter.stored_side(stored).T
        ).numpy()
        return through

    def search(
        self,
        store: GalleryStore,
        embeddings: NDArray[np.float32],
        criteria: Criteria,
        *,
        with_embeddings: bool = False,
    ) -> list[list[Match]]:
        """The k best items of the space for each of the queries (Q, D), best first; no probability is asked for here.

        Where the adapter has a score of its own, an engine cannot know it: it finds more than k by the cosine with the mapped
        query, and these are ranked by the score. See ``GalleryStore.search`` for the arguments.
        """
        queries, k, minimum_score = self.queries(embeddings), criteria.k, criteria.minimum_score
        where, view, exact = (
            replace(criteria.where, generations=(self.space.fingerprint,)),
            criteria.view,
            criteria.exact,
        )
        if self.adapter is None or not self.adapter.rescores:
            return store.search(
                queries,
                k,
                where=where,
                minimum_score=minimum_score,
                exact=exact,
                with_embeddings=with_embeddings,
                view=view,
            )
        found = store.search(queries, max(k, CANDIDATES), where=where, exact=exact, with_embeddings=True, view=view)
        ranked: list[list[Match]] = []
        for index, matches in enumerate(found):
            if not matches:
                ranked.append([])
                continue
            vectors = np.stack([match.item.embedding for match in matches])
            scores = self.scores(embeddings[index : index + 1], vectors)[0].tolist()
            scored = [replace(match, score=score) for match, score in zip(matches, scores, strict=True)]
            kept = [match for match in scored if minimum_score is None or match.score >= minimum_score]
            ranked.append(sorted(kept, key=lambda match: (-match.score, match.item.id))[:k])
        return ranked


def route_to(
    holdings: Holdings, asker: Space, space: Space, state: State | None = None, seen: Collection[str] = ()
) -> Route:
    """Return how queries of one space reach the vectors of another: as the workspace answers, by what the last check has shown.

    Args:
        holdings: of the workspace.
        asker: the space of the queries.
        space: that is searched.
        state: which says how queries are answered; as of now by default.
        seen: fingerprints of other generations that have looked at the queries.
    """
    state = state or holdings.state
    maker = space.maker.fingerprint
    if state.answer.looks_twice and space.adapter is None and maker != asker.fingerprint and maker in seen:
        return Route(space, None, _calibration(state, maker, maker, None), by=maker)
    pair = state.pair(asker.fingerprint, space.fingerprint) if asker.fingerprint != space.fingerprint else None
    name = pair.adapter_for(state.answer) if pair else None
    adapter = holdings.loaded.adapter(holdings.adapter(name)) if name else None
    return Route(space, adapter, _calibration(state, asker.fingerprint, space.fingerprint, name))


@dataclass(frozen=True, eq=False)
class Queries:
    """Q queries, as the generation that searches sees them, and as others do.

    Attributes:
        vectors: (Q, D) unit rows by the generation that searches.
        seen: (Q, D') unit rows of the same queries by other generations, by fingerprint.
    """

    vectors: NDArray[np.float32]
    seen: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)

    def in_float32(self) -> "Queries":
        """Queries in the numbers that engines take."""
        seen = {name: rows.astype(np.float32, copy=False) for name, rows in self.seen.items()}
        return Queries(self.vectors.astype(np.float32, copy=False), seen)

    def along(self, route: Route) -> NDArray[np.float32]:
        """The queries (Q, D') by the generation that asks on a route."""
        return self.vectors if route.by is None else self.seen[route.by]


@dataclass(frozen=True)
class RankedResult:
    """An item that one of several routes has found.

    Attributes:
        rank: by which items of all routes are ranked: the logit of the calibrated probability where every route has one, the
            score otherwise.
        result: the item with its score.
        route: that found it.
    """

    rank: float
    result: Result
    route: Route


def find(
    store: GalleryStore,
    routes: Sequence[Route],
    queries: Queries,
    criteria: Criteria,
    *,
    with_embeddings: bool = False,
) -> list[list[RankedResult]]:
    """The k best items of each route for each query, best first; see ``search_routes`` for the arguments."""
    calibrated = all(route.calibration is not None for route in routes)
    found: list[list[RankedResult]] = [[] for _ in queries.vectors]
    for route in routes:
        least, likely = criteria.minimum_score, criteria.minimum_probability
        if likely is not None and route.calibration is not None:
            least = max(-2.0 if least is None else least, route.calibration.score_at(likely))
        matches = route.search(
            store, queries.along(route), replace(criteria, minimum_score=least), with_embeddings=with_embeddings
        )
        for results, more in zip(found, matches, strict=True):
            results += [ranked(match.item, match.score, route, calibrated) for match in more]
    return [best_first(results) for results in found]


def best_first(results: Sequence[RankedResult]) -> list[RankedResult]:
    """Results by falling rank, those of one rank in order of their ids."""
    return sorted(results, key=lambda result: (-result.rank, result.result.item.id))


def ranked(item: Item, score: float, route: Route, calibrated: bool) -> RankedResult:
    """An item with a score of a route, as it is ranked."""
    scale = route.calibration
    probability = None if scale is None else scale.probability(score)
    # The logit orders where the probability itself has rounded to 1.
    rank = scale.slope * score + scale.intercept if calibrated and scale else score
    return RankedResult(rank, Result(item, score, probability, scale.present(score) if scale else None), route)


def check_probability(routes: Sequence[Route], minimum: float | None) -> None:
    """Refuse a smallest probability that cannot be told.

    Raises:
        RefusedError: no check has measured it for every route.
    """
    if minimum is None:
        return
    unknown = [route.space.name for route in routes if route.calibration is None]
    if unknown:
        raise RefusedError(
            f"No check has measured how probable a match in the vectors of {unknown[0]} is: measure it with  evergallery "
            f"check GENERATION --data HELD_OUT  on labelled images, or use --min-score."
        )


def search_routes(
    store: GalleryStore, routes: Sequence[Route], queries: Queries, criteria: Criteria
) -> list[list[Result]]:
    """The k best items for each query, over all routes.

    Cosines of different routes do not share a scale, so that items are ranked by calibrated probability where every route
    has one, and by cosine otherwise. Within one route both orders are the same.

    Args:
        store: to search.
        routes: to every space that may be searched.
        queries: Q of them, by every generation that one of the routes asks by.
        criteria: what is wanted.

    Raises:
        RefusedError: a probability is asked for where no check has measured one.
    """
    check_probability(routes, criteria.minimum_probability)
    found = find(store, routes, queries, criteria)
    return [[result.result for result in results[: criteria.k]] for results in found]


def _calibration(state: State, asker: str, space: str, adapter: str | None) -> Calibration | None:
    scale = state.scale(asker, space, adapter)
    return Calibration(scale.slope, scale.intercept, scale.presence) if scale else None
