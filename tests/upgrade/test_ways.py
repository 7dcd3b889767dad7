"""Every way of answering, beside a search that is written out plainly."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from evergallery.data.image_set import ImageSet
from evergallery.evaluation import Judgements, Protocol
from evergallery.retrieval.calibration import Calibration
from evergallery.upgrade.evidence import Outcome, Setting
from evergallery.upgrade.ways import ComparedVectors, RefreshSimulation, RouteVectors, outcomes

CLASSES, EACH, WIDTH = 8, 12, 6


def unit(rows: np.ndarray) -> np.ndarray:
    found: np.ndarray = F.normalize(torch.from_numpy(rows)).float().numpy()
    return found


@pytest.fixture(scope="module")
def protocol() -> Protocol:
    count = CLASSES * EACH
    pixels = np.zeros((count, 1, 1, 3), np.uint8)
    pixels[:, 0, 0, 0] = np.arange(count)
    images = ImageSet.from_arrays(pixels, np.arange(count) % CLASSES, [f"c{number}" for number in range(CLASSES)])
    return Protocol(images, np.arange(0, count), np.arange(0, count), "")


@pytest.fixture(scope="module")
def spaces(protocol: Protocol) -> tuple[RouteVectors, RouteVectors, RouteVectors]:
    """The old model, the new one, and new queries in old vectors: each with a scale of its own."""
    draw = np.random.default_rng(0)
    labels = protocol.images.labels
    old, new = (
        unit(draw.normal(size=(CLASSES, WIDTH))[labels] + noise * draw.normal(size=(len(labels), WIDTH)))
        for noise in (1.0, 0.6)
    )
    across = unit(old + 0.4 * draw.normal(size=old.shape))
    return (
        RouteVectors(old, old, Calibration(9.0, -5.0)),
        RouteVectors(new, new, Calibration(6.0, -2.0)),
        RouteVectors(across, old, Calibration(4.0, -3.0)),
    )


def by_setting(found: tuple[Outcome, ...]) -> dict[Setting, Outcome]:
    return {Setting(**{name: getattr(outcome, name) for name in Setting.model_fields}): outcome for outcome in found}


def plainly(
    protocol: Protocol, old: RouteVectors, new: RouteVectors, route: RouteVectors, setting: Setting
) -> np.ndarray:
    """First answers, query by query."""
    count = len(protocol.gallery)
    order = np.random.default_rng(0).permutation(count)
    refreshed = set(order[: int(setting.share * count)].tolist())
    answers = []
    for query in range(count):
        others = [item for item in range(count) if item != query]

        def score(way: RouteVectors, item: int, asks: int = query) -> float:
            return float(way.queries[asks] @ way.vectors[item])

        def rank(way: RouteVectors, item: int, asks: int = query) -> float:
            assert way.scale is not None
            return way.scale.slope * score(way, item, asks) + way.scale.intercept

        if setting.way == "rescore":
            finds = old if setting.through is None else route
            ranked = sorted(others, key=lambda item: -score(finds, item))
            pool = ranked[: setting.candidates] + [item for item in others if item in refreshed]
            answers.append(max(pool, key=lambda item: score(new, item)))
            continue
        before = {"wait": old, "dual": old, "refresh": new}.get(setting.way, route)
        answers.append(max(others, key=lambda item: rank(new if item in refreshed else before, item)))
    return np.array(answers)


@pytest.mark.parametrize(
    "setting",
    [
        Setting(way="wait"),
        Setting(way="refresh", share=1.0),
        Setting(way="direct", share=0.0),
        Setting(way="direct", share=0.5),
        Setting(way="dual", share=0.0),
        Setting(way="dual", share=0.25),
        Setting(way="rescore", candidates=3, share=0.0),
        Setting(way="rescore", candidates=10, share=0.5),
        Setting(way="rescore", candidates=3, through="direct", share=0.25),
    ],
)
def test_as_plainly_searched(
    protocol: Protocol, spaces: tuple[RouteVectors, RouteVectors, RouteVectors], setting: Setting
) -> None:
    old, new, route = spaces
    found = by_setting(
        outcomes(
            protocol,
            ComparedVectors(old, new, {"direct": route}),
            confidence=0.95,
            simulation=RefreshSimulation(candidates=(3, 10)),
        )
    )[setting]
    labels = protocol.images.labels
    right = labels[plainly(protocol, old, new, route, setting)] == labels
    alone = labels[plainly(protocol, old, new, route, Setting(way="wait"))] == labels
    assert found.score == pytest.approx(right.mean())
    assert found.change.mean == pytest.approx(right.mean() - alone.mean())
    assert found.negative_flips == pytest.approx((alone & ~right).mean())


def test_ends_and_laws(protocol: Protocol, spaces: tuple[RouteVectors, RouteVectors, RouteVectors]) -> None:
    old, new, route = spaces
    count = len(protocol.images)
    found = by_setting(
        outcomes(
            protocol,
            ComparedVectors(old, new, {"direct": route}),
            confidence=0.95,
            simulation=RefreshSimulation(candidates=(10, count)),
        )
    )
    full = found[Setting(way="refresh", share=1.0)]
    wait, dual = found[Setting(way="wait")], found[Setting(way="dual", share=0.0)]
    assert full.score > wait.score + 0.05
    # Nothing refreshed, and each vector asked by its own model: exactly as before.
    assert (dual.score, dual.change.low, dual.change.high, dual.negative_flips) == (wait.score, 0.0, 0.0, 0.0)
    for share in (0.0, 0.5):
        everything = found[Setting(way="rescore", candidates=count, share=share)]
        assert everything.score == full.score, "all candidates re-scored is a full refresh"
    some = found[Setting(way="rescore", candidates=10, share=0.0)]
    assert some.images == 10
    assert some.images_kept <= 1.0, "no image is embedded twice"
    assert found[Setting(way="rescore", candidates=count, share=0.5)].images == pytest.approx(count / 2 - 0.5, abs=0.6)
    assert found[Setting(way="rescore", candidates=10, share=0.75)].images < 5, "what is refreshed needs no image"


def test_without_a_scale_raw_scores_rank(
    protocol: Protocol, spaces: tuple[RouteVectors, RouteVectors, RouteVectors]
) -> None:
    old, new, _ = spaces
    bare = RouteVectors(old.queries, old.vectors, None)
    mixed = Setting(way="dual", share=0.5)
    raw = by_setting(outcomes(protocol, ComparedVectors(bare, new, {}), confidence=0.95))[mixed]
    same = Calibration(1.0, 0.0)
    before, after = (RouteVectors(route.queries, route.vectors, same) for route in (old, new))
    assert raw == by_setting(outcomes(protocol, ComparedVectors(before, after, {}), confidence=0.95))[mixed]


def test_a_route_without_a_scale_spoils_no_other(
    protocol: Protocol, spaces: tuple[RouteVectors, RouteVectors, RouteVectors]
) -> None:
    old, new, route = spaces
    bare = RouteVectors(route.queries, route.vectors, None)
    found = [
        by_setting(outcomes(protocol, ComparedVectors(old, new, {"direct": vectors}), confidence=0.95))
        for vectors in (route, bare)
    ]
    for setting in found[0]:
        if setting.way in ("dual", "wait", "refresh") or (setting.way == "rescore" and setting.through is None):
            assert found[0][setting] == found[1][setting]


def test_graded_answers_count_by_their_worth(
    protocol: Protocol, spaces: tuple[RouteVectors, RouteVectors, RouteVectors]
) -> None:
    old, new, _ = spaces
    query = np.arange(len(protocol.images))
    item = (query + CLASSES) % len(query)
    other = (query + 2 * CLASSES) % len(query)
    judgements = Judgements(
        np.concatenate([query, query]), np.concatenate([item, other]), np.repeat([3.0, 1.0], len(query))
    )
    judged = Protocol(protocol.images, protocol.query, protocol.gallery, "", judgements)
    found = by_setting(
        outcomes(
            judged,
            ComparedVectors(old, new, {}),
            confidence=0.95,
            simulation=RefreshSimulation(candidates=(len(query),)),
        )
    )
    first = plainly(protocol, old, new, old, Setting(way="refresh", share=1.0))
    expected = np.where(first == item, 1.0, np.where(first == other, 1 / 7, 0.0)).mean()
    assert found[Setting(way="refresh", share=1.0)].score == pytest.approx(expected)
