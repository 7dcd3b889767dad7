"""What a report computes: intervals, the lineage's lines, refresh curves, prototypes; against slow twins and by hand."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch.nn import functional as F

from conftest import coloured_images
from evergallery.data.image_set import ImageSet
from evergallery.evaluation import Protocol, measure
from evergallery.report.lineage import lineage_rows
from evergallery.report.page import prose
from evergallery.report.prototypes import principal_axes, prototype_map, prototypes_of
from evergallery.report.refreshing import SHARES, RefreshCurves, forbidden_pairs, measured_curves
from evergallery.report.words import counted, direction, duration, interval_of, listed, size
from evergallery.retrieval.bootstrap import Interval, bootstrap_interval
from evergallery.retrieval.calibration import Calibration
from evergallery.upgrade.figures import interval_in_percent, interval_in_points
from evergallery.upgrade.ways import RouteVectors


def test_interval_of_a_share_is_that_of_its_hits() -> None:
    hits = torch.tensor([1, 0, 0, 1, 1, 0, 1] * 30, dtype=torch.float64)
    assert interval_of(hits.mean().item(), len(hits), 0.9) == bootstrap_interval(hits, confidence=0.9)


def test_figures_in_words() -> None:
    assert interval_in_percent(Interval(0.6174, 0.598, 0.6352)) == "61.7 (59.8–63.5)"
    assert interval_in_percent(None) == "–"
    assert interval_in_points(Interval(0.011, -0.004, 0.026)) == "+1.1 (-0.4 to +2.6)"
    assert [direction(Interval(0, *ends)) for ends in ((0.01, 0.02), (-0.02, -0.01), (-0.01, 0.01))] == [
        "better", "worse", "no difference that could be told from chance",
    ]  # fmt: skip
    assert (counted(1, "class", "classes"), counted(0, "query", "queries"), counted(2, "item")) == (
        "1 class", "0 queries", "2 items",
    )  # fmt: skip
    assert [listed(names) for names in (["a"], ["a", "b"], ["a", "b", "c"])] == ["a", "a and b", "a, b and c"]
    assert listed(list("abcdefg")) == "a, b, c, d, e and 2 more"
    assert (duration(45), duration(600), duration(7200)) == ("45 s", "10 min", "2.0 h")
    assert (size(512), size(3 << 20), size(1 << 50)) == ("512 B", "3 MiB", "1024.0 TiB")


def test_prose_escapes_and_marks_commands() -> None:
    assert prose("<b> 5 %: run  evergallery check v2 --data X  first.") == (
        "&lt;b&gt; 5\N{NO-BREAK SPACE}%: run <code>evergallery check v2 --data X</code> first."
    )
    assert prose("Make one with  evergallery adapt v2 v1.") == "Make one with <code>evergallery adapt v2 v1</code>."


def test_lines_of_a_chain_and_of_a_fan() -> None:
    chain = lineage_rows({"v1": None, "v2": "v1", "v3": "v2"})
    assert [row.lane for row in chain] == [0, 0, 0]
    assert [(row.arrives, row.leaves, row.branch) for row in chain] == [
        (False, True, None), (True, True, None), (True, False, None),
    ]  # fmt: skip
    fan = lineage_rows({"v1": None, "v2": "v1", "v3": "v1"})
    assert [(row.lane, row.branch, row.through, row.ends) for row in fan] == [
        (0, None, (), False), (1, 0, (0,), False), (1, 0, (), True),
    ]  # fmt: skip
    assert [row.lane for row in lineage_rows({"v1": None, "v2": None})] == [0, 0], "nothing joins them"
    assert lineage_rows({"v2": "gone"})[0].branch is None, "an unknown parent draws no line"


@settings(deadline=None, max_examples=200)
@given(st.lists(st.integers(-1, 30), min_size=1, max_size=12))
def test_no_two_lines_share_a_lane(choices: list[int]) -> None:
    names = [f"v{number + 1}" for number in range(len(choices))]
    parents = {
        name: None if choice < 0 or index == 0 else names[choice % index]
        for index, (name, choice) in enumerate(zip(names, choices, strict=True))
    }
    rows = lineage_rows(parents)
    place = {row.name: index for index, row in enumerate(rows)}
    last = {name: max([place[child] for child, parent in parents.items() if parent == name], default=place[name])
            for name in names}  # fmt: skip
    for index, row in enumerate(rows):
        passing = [name for name in names if place[name] < index < last[name]]
        lanes = [rows[place[name]].lane for name in passing]
        assert len({*lanes, row.lane}) == len(lanes) + 1, "every line that passes has a lane of its own"
        assert sorted(lanes) == list(row.through)
        parent = parents[row.name]
        assert row.leaves == (row.name in parents.values())
        if parent is None:
            assert (row.arrives, row.branch) == (False, None)
        else:
            lane = rows[place[parent]].lane
            assert row.arrives == (lane == row.lane)
            assert row.branch == (None if lane == row.lane else lane)
            assert row.ends == (row.branch is not None and last[parent] == index)


def clusters(images: ImageSet, noise: float, seed: int, width: int = 8) -> np.ndarray:
    centres = torch.randn(len(images.classes), width, generator=torch.Generator().manual_seed(5))
    draw = torch.randn(len(images), width, generator=torch.Generator().manual_seed(seed))
    found: np.ndarray = F.normalize(centres[torch.from_numpy(images.labels)] + noise * draw).numpy()
    return found


@pytest.fixture
def protocol() -> Protocol:
    images = coloured_images(classes=5, each=12, size=4)
    everything = np.arange(len(images))
    return Protocol(images, everything, everything, "every image among the others")


def curves_of(
    protocol: Protocol,
    old: NDArray[np.float32],
    new: NDArray[np.float32],
    scales: tuple[Calibration | None, Calibration | None],
) -> RefreshCurves:
    return measured_curves(protocol, old, RouteVectors(new, old, scales[0]), RouteVectors(new, new, scales[1]))


def test_curves_end_at_cross_test_and_self_test(protocol: Protocol) -> None:
    old, new = clusters(protocol.images, 1.0, 1), clusters(protocol.images, 0.6, 2)
    found = curves_of(protocol, old, new, (Calibration(10, -5), Calibration(10, -5)))
    cross, own = (measure(protocol, new, where, ())["all"].recall[1] for where in (old, new))
    assert (found.queries, found.gallery, found.shares) == (60, 60, SHARES)
    for curves in (found.ranked, found.raw):
        assert set(curves) == {"random", "uncertain", "typical"}
        for values in curves.values():
            assert (values[0], values[-1]) == pytest.approx((cross, own))
    assert found.ranked == found.raw, "one scale for both spaces ranks as the cosine does"
    assert len(set(found.raw.values())) == 3, "the orders are not the same"


def test_calibration_decides_between_old_and_new_vectors(protocol: Protocol) -> None:
    old, new = clusters(protocol.images, 1.0, 1), clusters(protocol.images, 0.6, 2)
    found = curves_of(protocol, old, new, (Calibration(1, 100), Calibration(1, -100)))
    half = SHARES.index(0.5)
    # Every old vector is ranked before any new one: halfway, only the older half of the gallery is ever found.
    order = np.random.default_rng(0).permutation(60)
    by_id = np.argsort(np.asarray(protocol.images.hashes), kind="stable")[order]
    kept = by_id[30:]
    hits = []
    for query in range(60):
        scores = [(-float(new[query] @ old[item]), item) for item in kept if item != query]
        hits.append(protocol.images.labels[min(scores)[1]] == protocol.images.labels[query])
    assert found.ranked["random"][half] == pytest.approx(np.mean(hits))
    assert curves_of(protocol, old, new, (None, Calibration(1, 0))).ranked == {}
    assert found.as_searched is found.ranked


def test_forbidden_are_oneself_and_the_same_label_under_the_same_camera(protocol: Protocol) -> None:
    cameras = np.arange(60) % 3
    seen = replace(protocol, images=replace(protocol.images, cameras=cameras))
    query, gallery = np.arange(0, 60, 2), np.arange(10, 60)
    labels = protocol.images.labels

    def same(q: int, g: int) -> bool:
        return bool(labels[q] == labels[g] and cameras[q] == cameras[g])

    for case, known in ((protocol, False), (seen, True)):
        expected = [[q == g or (known and same(q, g)) for g in gallery.tolist()] for q in query.tolist()]
        assert forbidden_pairs(case, query, gallery).tolist() == expected


def test_prototypes_are_unit_means_of_classes_that_occur() -> None:
    rows = np.array([[1, 0], [0, 1], [0, 1], [1, 0]], np.float32)
    found = prototypes_of(rows, np.array([7, 7, 2, 7]))
    np.testing.assert_allclose(found, [[0, 1], np.array([2, 1]) / np.sqrt(5)], atol=1e-7)


def test_axes_are_those_of_the_covariance() -> None:
    rows = np.random.default_rng(0).normal(size=(40, 6)) * [5, 3, 1, 1, 1, 0.5]
    mean, axes, explained = principal_axes(rows)
    values, vectors = np.linalg.eigh(np.cov(rows.T))
    np.testing.assert_allclose(mean, rows.mean(0))
    np.testing.assert_allclose(np.abs((axes * vectors[:, [-1, -2]].T).sum(1)), 1, atol=1e-9)
    assert explained == pytest.approx(values[-2:].sum() / values.sum())
    assert (axes[np.arange(2), np.abs(axes).argmax(1)] > 0).all(), "the sign is settled"
    assert principal_axes(np.ones((3, 1)))[2] == 1.0, "nothing varies"


def test_movement_of_prototypes_by_hand() -> None:
    angles = np.radians([0, 40, 100])
    before = np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)
    turned = np.radians([10, 40, 45])
    after = np.stack([np.cos(turned), np.sin(turned)], 1).astype(np.float32)
    found = prototype_map(before, after, np.array([0, 1, 2]), ("a", "b", "c"), ("a", "c"))
    np.testing.assert_allclose(found.moved, [10, 0, 55], atol=0.05)
    np.testing.assert_allclose(found.apart, [40, 40, 60], atol=0.05)
    assert found.in_place.tolist() == [True, True, False]
    assert found.is_old.tolist() == [True, False, True]
    assert found.explained == pytest.approx(1), "two dimensions are seen whole"
    # On one basis for both, what did not move stays, and distances are kept.
    np.testing.assert_allclose(found.before[1], found.after[1], atol=1e-6)
    np.testing.assert_allclose(
        np.linalg.norm(found.before - found.after, axis=1), np.linalg.norm(before - after, axis=1), atol=1e-6
    )


def test_prototypes_of_a_wider_generation_are_compared_as_queries_are() -> None:
    before = np.eye(3, dtype=np.float32)
    after = np.concatenate([np.eye(3), np.ones((3, 2))], axis=1).astype(np.float32)
    found = prototype_map(before, after, np.arange(3), ("a", "b", "c"), ())
    np.testing.assert_allclose(found.moved, 0, atol=0.05)
