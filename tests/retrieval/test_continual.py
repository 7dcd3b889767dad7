"""Figures of a lineage against matrices worked by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from evergallery.errors import InputError
from evergallery.retrieval import continual

NAN = np.nan
A = np.array([[0.8, NAN, NAN], [0.9, 0.6, NAN], [0.5, 0.4, 0.7]])
"""Task 1 rises to 0.9 before it falls to 0.5; task 2 falls from 0.6 to 0.4."""


def test_continual_figures_worked_by_hand() -> None:
    assert continual.average_recall(A) == pytest.approx((0.5 + 0.4 + 0.7) / 3)
    assert continual.average_recall_over_time(A) == pytest.approx((0.8 + 0.75 + 1.6 / 3) / 3)
    # From the best there was (0.9 and 0.6), not from where it began.
    assert continual.forgetting(A) == pytest.approx((0.4 + 0.2) / 2)
    assert continual.backward_transfer(A) == pytest.approx((-0.3 - 0.2) / 2)
    assert continual.plasticity(A) == pytest.approx((0.6 + 0.7) / 2)
    assert continual.intransigence(A, [1.0, 0.9, 0.8]) == pytest.approx((0.3 + 0.1) / 2)


def test_compatibility_figures_worked_by_hand() -> None:
    c = np.array([[0.5, NAN, NAN], [0.6, 0.7, NAN], [0.5, 0.65, 0.8]])
    # 0.6 > 0.5 counts; 0.5 is no more than 0.5; 0.65 is less than 0.7.
    assert continual.average_compatibility(c) == pytest.approx(1 / 3)
    assert continual.average_multimodel(c) == pytest.approx((0.5 + 0.6 + 0.7 + 0.5 + 0.65 + 0.8) / 6)
    assert continual.backward_compatibility_change(c) == pytest.approx((0.0 - 0.05) / 2)
    assert continual.forward_compatibility_change(c) == pytest.approx((-0.1 - 0.15) / 2)


def test_along_the_way_worked_by_hand() -> None:
    c = np.array([[0.5, NAN, NAN], [0.6, 0.7, NAN], [0.5, 0.65, 0.8]])
    found = continual.along_the_way(continual.average_compatibility, c)
    assert found == [None, 1.0, pytest.approx(1 / 3)]
    assert continual.along_the_way(continual.average_multimodel, c) == pytest.approx([0.5, 0.6, 0.625])


def test_one_task_has_no_past() -> None:
    matrix = np.array([[0.7]])
    assert continual.average_recall(matrix) == continual.average_multimodel(matrix) == pytest.approx(0.7)
    for figure in (
        continual.forgetting, continual.backward_transfer, continual.plasticity, continual.average_compatibility,
        continual.backward_compatibility_change, continual.forward_compatibility_change,
    ):  # fmt: skip
        assert figure(matrix) is None
    assert continual.intransigence(matrix, [1.0]) is None


@given(st.integers(2, 6).flatmap(lambda n: arrays(float, (n, n), elements=st.floats(0, 1))))
def test_what_lies_above_the_diagonal_is_never_read(full: np.ndarray) -> None:
    lower = full.copy()
    lower[np.triu_indices(len(full), 1)] = NAN
    for figure in (
        continual.average_recall, continual.average_recall_over_time, continual.forgetting, continual.backward_transfer,
        continual.plasticity, continual.average_compatibility, continual.average_multimodel,
        continual.backward_compatibility_change, continual.forward_compatibility_change,
    ):  # fmt: skip
        assert figure(lower) == pytest.approx(figure(full))
        # Its end is the figure itself, and its beginning knows nothing of what came later.
        way = continual.along_the_way(figure, lower)
        assert way[-1] == figure(lower)
        assert way[:-1] == continual.along_the_way(figure, lower[:-1, :-1])
    # Forgetting counts from the best, backward transfer from the beginning.
    forgotten, transferred = continual.forgetting(lower), continual.backward_transfer(lower)
    assert forgotten is not None
    assert transferred is not None
    assert forgotten >= -transferred - 1e-12


def test_gain_and_price() -> None:
    assert continual.update_gain(0.7, 0.6, 0.8) == pytest.approx(0.5)
    assert continual.update_gain(0.5, 0.6, 0.8) == pytest.approx(-0.5)
    assert continual.update_gain(0.7, 0.6, 0.6) is None
    assert continual.price(0.9, 0.8) == pytest.approx(0.1)


def test_area_under_a_refresh_curve() -> None:
    assert continual.area_under_refresh_curve([0, 1], [0.4, 0.8]) == pytest.approx(0.6)
    assert continual.area_under_refresh_curve([0, 0.25, 1], [0.4, 0.8, 0.8]) == pytest.approx(0.25 * 0.6 + 0.75 * 0.8)


@pytest.mark.parametrize("shares", [[0.0], [0.0, 0.5], [0.1, 1.0], [0.0, 0.0, 1.0], [0.0, 1.0, 2.0]])
def test_shares_that_are_no_curve(shares: list[float]) -> None:
    with pytest.raises(InputError, match="rise from 0 to 1"):
        continual.area_under_refresh_curve(shares, [0.5] * len(shares))


def test_shapes_are_checked() -> None:
    with pytest.raises(InputError, match=r"is \(T, T\), and this one is \(2, 3\)"):
        continual.average_recall(np.zeros((2, 3)))
    with pytest.raises(InputError, match="2 experts for 3 tasks"):
        continual.intransigence(A, [1.0, 1.0])
