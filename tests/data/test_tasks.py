"""Class splits, validation parts, queries and galleries."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evergallery.data.tasks import (
    equal_groups,
    explicit,
    first_then_groups,
    halves,
    query_gallery,
    stratified_validation,
)
from evergallery.errors import InputError

CLASSES = [f"c{number}" for number in range(11)]


@given(count=st.integers(1, 60), data=st.data(), seed=st.none() | st.integers(0, 9))
def test_equal_groups_partition_the_classes(count: int, data: st.DataObject, seed: int | None) -> None:
    classes = [f"c{number}" for number in range(count)]
    groups = data.draw(st.integers(1, count))
    tasks = equal_groups(classes, groups, seed)
    assert len(tasks) == groups
    assert sorted(name for task in tasks for name in task) == sorted(classes)
    assert max(map(len, tasks)) - min(map(len, tasks)) <= 1


def test_natural_and_seeded_order() -> None:
    assert halves(CLASSES) == (tuple(CLASSES[:6]), tuple(CLASSES[6:]))
    assert halves(CLASSES, seed=1) == halves(CLASSES, seed=1) != halves(CLASSES, seed=2)
    assert first_then_groups(CLASSES, 5, 3) == (
        tuple(CLASSES[:5]), tuple(CLASSES[5:7]), tuple(CLASSES[7:9]), tuple(CLASSES[9:]),
    )  # fmt: skip
    assert explicit(CLASSES, [["c3"], ["c1", "c2"]]) == (("c3",), ("c1", "c2"))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: equal_groups(CLASSES, 12), "11 classes cannot be split into 12 tasks"),
        (lambda: equal_groups([*CLASSES, "c1"], 2), "A class is named twice"),
        (lambda: first_then_groups(CLASSES, 9, 3), "a first task of 9 and 3 more"),
        (lambda: explicit(CLASSES, [["c1"], []]), "Task 2 names no class"),
        (lambda: explicit(CLASSES, [["c1"], ["zebra"]]), "Task 2 names the class 'zebra'"),
        (lambda: explicit(CLASSES, [["c1"], ["c1"]]), "'c1' is named twice"),
        (lambda: stratified_validation(np.zeros(3, np.int64), 1.0), "not between 0 and 1"),
        (lambda: query_gallery(np.zeros(3, np.int64), 0), "not between 0 and 1"),
    ],
)
def test_impossible_requests(call: Callable[[], object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()


LABELS = st.lists(st.integers(0, 6), min_size=1, max_size=80).map(lambda values: np.array(values, dtype=np.int64))


@given(labels=LABELS, fraction=st.floats(0.05, 0.9), seed=st.integers(0, 5))
def test_validation_is_stratified(labels: np.ndarray, fraction: float, seed: int) -> None:
    train, validation = stratified_validation(labels, fraction, seed)
    assert sorted([*train, *validation]) == list(range(len(labels)))
    for label in np.unique(labels):
        size, cut = (labels == label).sum(), (labels[validation] == label).sum()
        assert cut == (0 if size < 4 else min(max(2, round(fraction * size)), size - 2))


@given(labels=LABELS, share=st.floats(0.05, 0.95), seed=st.integers(0, 5))
def test_every_query_has_a_positive_in_the_gallery(labels: np.ndarray, share: float, seed: int) -> None:
    query, gallery = query_gallery(labels, share, seed)
    assert sorted([*query, *gallery]) == list(range(len(labels)))
    assert set(labels[query].tolist()) <= set(labels[gallery].tolist())
    assert all((labels[query] == label).any() for label in np.unique(labels) if (labels == label).sum() >= 2)
