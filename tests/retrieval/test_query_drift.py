"""Two samples of queries beside each other: a distance, a limit that grows with the windows, and how often it is wrong."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evergallery.retrieval.query_drift import LEAST, alarm_distance, dependence, directions, kolmogorov_distance

VALUES = st.lists(st.floats(-10, 10), min_size=1, max_size=30).map(np.array)


@given(VALUES, VALUES)
def test_distance_is_the_largest_difference_of_shares(first: np.ndarray, second: np.ndarray) -> None:
    found = kolmogorov_distance(first, second)
    wanted = max(abs((first <= at).mean() - (second <= at).mean()) for at in np.concatenate([first, second]))
    assert found == pytest.approx(wanted)
    assert found == kolmogorov_distance(second, first)
    assert kolmogorov_distance(first, first) == 0


def test_limits_add_up_to_the_rate() -> None:
    """What the tail allows at each window's limit, summed over all windows and statistics, is the rate."""
    n, m = 100_000, 50_000
    limits = [alarm_distance(n, m, number, samples=1, rate=0.01) for number in range(1, 5000)]
    assert all(limit == LEAST for limit in limits), "of so many searches chance makes less than matters"
    spent = [0.01 * 6 / (np.pi * k) ** 2 for k in range(1, 100_000)]
    assert sum(spent) == pytest.approx(0.01, rel=1e-4)
    few = [alarm_distance(2000, 500, number) for number in range(1, 1000)]
    assert all(np.diff(few) >= 0)
    assert 0.1 <= few[0] < few[-1] < 0.2
    assert alarm_distance(2000, 500, 7, samples=8) > alarm_distance(2000, 500, 7, samples=1)


def test_false_alarms_are_rare_and_drift_is_found() -> None:
    draw = np.random.default_rng(0)
    false = 0
    for _ in range(60):
        reference = draw.normal(size=400)
        false += any(
            kolmogorov_distance(reference, draw.normal(size=100)) >= alarm_distance(400, 100, number)
            for number in range(1, 31)
        )
    assert false <= 3
    reference = draw.normal(size=400)
    assert any(
        kolmogorov_distance(reference, draw.normal(1.0, size=100)) >= alarm_distance(400, 100, number)
        for number in range(1, 4)
    )


def test_stretches_of_independent_draws_are_as_far_apart_as_they_should_be() -> None:
    draw = np.random.default_rng(0)
    found = [dependence(draw.normal(size=(2000, 1))) for _ in range(20)]
    assert 1 <= np.median(found) < 1.25
    bursts = np.repeat(draw.normal(size=(200, 1)), 10, axis=0) + 0.01 * draw.normal(size=(2000, 1))
    assert 2.5 < dependence(bursts) < 4, "ten draws that are one tell as much as one: further apart by the root of ten"
    rising = np.sort(draw.normal(size=(2000, 1)), axis=0)
    assert dependence(rising) > 5
    assert alarm_distance(400, 100, 1, stretch=3.0) == pytest.approx(3 * alarm_distance(400, 100, 1))


def test_directions_are_fixed() -> None:
    drawn = directions("a" * 64, 16)
    np.testing.assert_array_equal(drawn, directions("a" * 64, 16))
    np.testing.assert_allclose(np.linalg.norm(drawn, axis=1), 1, rtol=1e-5)
    assert not np.allclose(drawn, directions("b" * 64, 16))
