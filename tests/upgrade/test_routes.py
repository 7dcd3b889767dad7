"""A route whose adapter has a score of its own: an engine finds candidates, the score ranks them."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from evergallery.adapters import fit_bilateral, fit_procrustes
from evergallery.errors import InputError
from evergallery.gallery.items import Filter, Item, Match, View
from evergallery.gallery.store import GalleryStore
from evergallery.holdings.spaces import Space
from evergallery.searching.routes import CANDIDATES, Criteria, Queries, Route, search_routes

Vectors = NDArray[np.float32]


def rows(count: int, width: int, seed: int) -> Vectors:
    found = np.random.default_rng(seed).normal(size=(count, width)).astype(np.float32)
    made: Vectors = found / np.linalg.norm(found, axis=1, keepdims=True)
    return made


class Engine:
    """Ranks by cosine, as every engine does; vectors come along where they are asked for."""

    def __init__(self, vectors: Vectors) -> None:
        self.items = [Item(f"{row:04d}", vector, "old", None, None, None, "") for row, vector in enumerate(vectors)]
        self.asked: list[int] = []

    def search(
        self,
        queries: Vectors,
        k: int,
        *,
        with_embeddings: bool = False,
        minimum_score: float | None = None,
        **_: Any,
    ) -> list[list[Match]]:
        self.asked.append(k)
        nothing = np.empty(0, np.float32)
        found = []
        for query in queries:
            scored = [(float(query @ item.embedding), item) for item in self.items]
            scored.sort(key=lambda pair: -pair[0])
            found.append(
                [
                    Match(item if with_embeddings else replace(item, embedding=nothing), score)
                    for score, item in scored[:k]
                    if minimum_score is None or score >= minimum_score
                ]
            )
        return found


class Place:
    """As much of a space as a search needs."""

    name, fingerprint, dimension = "v1", "old", 9


def found_by(
    engine: Engine, route: Route, queries: Vectors, k: int, least: float | None = None
) -> Sequence[Sequence[tuple[str, float]]]:
    criteria = Criteria(k, Filter(), View(), minimum_score=least)
    results = search_routes(cast(GalleryStore, engine), [route], Queries(queries), criteria)
    return [[(match.item.id, match.score) for match in some] for some in results]


@pytest.fixture(scope="module")
def spaces() -> tuple[Vectors, Vectors]:
    return rows(80, 12, 0), rows(80, 9, 1)


def test_what_is_found_is_ranked_by_the_score(spaces: tuple[Vectors, Vectors]) -> None:
    adapter = fit_bilateral(*(torch.from_numpy(rows) for rows in spaces))
    route, engine = Route(cast(Space, Place()), adapter, None), Engine(rows(60, 9, 2))
    queries = rows(4, 12, 3)
    vectors = np.stack([item.embedding for item in engine.items])
    scores = (adapter.query_side(torch.from_numpy(queries)) @ adapter.stored_side(torch.from_numpy(vectors)).T).numpy()
    found = found_by(engine, route, queries, 5)
    for some, expected in zip(found, scores, strict=True):
        best = np.argsort(-expected)[:5]
        assert [name for name, _ in some] == [f"{row:04d}" for row in best]
        np.testing.assert_allclose([score for _, score in some], expected[best], atol=1e-5)
    plain = [[match.item.id for match in some] for some in engine.search(route.queries(queries), 5)]
    assert plain != [[name for name, _ in some] for some in found]
    np.testing.assert_allclose(route.scores(queries, vectors), scores, atol=1e-6)


def test_enough_candidates_and_no_more_results_than_asked_for(spaces: tuple[Vectors, Vectors]) -> None:
    adapter = fit_bilateral(*(torch.from_numpy(rows) for rows in spaces))
    engine = Engine(rows(300, 9, 2))
    route = Route(cast(Space, Place()), adapter, None)
    assert [len(some) for some in found_by(engine, route, rows(2, 12, 3), 7)] == [7, 7]
    assert len(found_by(engine, route, rows(1, 12, 3), 250)[0]) == 250
    assert engine.asked == [CANDIDATES, 250]
    assert found_by(Engine(rows(0, 9, 2)), route, rows(1, 12, 3), 7) == [[]]


def test_the_smallest_score_is_one_of_the_score(spaces: tuple[Vectors, Vectors]) -> None:
    adapter = fit_bilateral(*(torch.from_numpy(rows) for rows in spaces))
    route, engine, queries = Route(cast(Space, Place()), adapter, None), Engine(rows(60, 9, 2)), rows(1, 12, 3)
    every = found_by(engine, route, queries, 60)[0]
    least = every[10][1]
    assert found_by(engine, route, queries, 60, least) == [every[:11]]


def test_an_adapter_without_a_score_asks_for_what_is_wanted(spaces: tuple[Vectors, Vectors]) -> None:
    adapter = fit_procrustes(*(torch.from_numpy(rows) for rows in spaces))
    engine = Engine(rows(60, 9, 2))
    found_by(engine, Route(cast(Space, Place()), adapter, None), rows(1, 12, 3), 7)
    assert engine.asked == [7]


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"k": 0}, "k = 0 is not usable: it has to be a whole number from 1"),
        ({"k": 2.5}, r"k = 2\.5 is not usable"),
        ({"k": True}, "k = True is not usable"),
        ({"k": 10**30}, "k = 1000000000000000000000000000000 is not usable"),
        ({"minimum_probability": float("nan")}, "A probability of nan is not usable"),
        ({"minimum_probability": 1.0}, r"A probability of 1\.0 is not usable"),
        ({"minimum_score": float("nan")}, "A smallest score of nan is not usable"),
        ({"score_of": "v1"}, "A score of v1 is a smallest score"),
        ({"score_of": "v1", "minimum_score": 0.5, "minimum_probability": 0.5}, "A score of v1 is a smallest score"),
    ],
)
def test_criteria_that_nothing_can_meet_are_refused_when_they_are_named(wanted: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Criteria(**wanted)


def test_whole_numbers_of_numpy_count() -> None:
    assert type(Criteria(k=np.int64(3)).k) is int  # type: ignore[arg-type]
