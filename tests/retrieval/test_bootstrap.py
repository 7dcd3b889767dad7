"""Intervals over queries: against the closed form, and the laws that an interval obeys."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from evergallery.errors import InputError
from evergallery.retrieval.bootstrap import bootstrap_interval, queries_needed, wilson


def test_a_share_has_the_interval_of_the_binomial() -> None:
    hits = torch.zeros(1000)
    hits[:300] = 1
    found = bootstrap_interval(hits)
    half = 1.96 * np.sqrt(0.3 * 0.7 / 1000)
    assert found.mean == pytest.approx(0.3)
    assert found.low == pytest.approx(0.3 - half, abs=2.5e-3)
    assert found.high == pytest.approx(0.3 + half, abs=2.5e-3)


def test_resampling_values_is_resampling_queries() -> None:
    """Against the textbook bootstrap, which draws rows."""
    values = torch.tensor([-1.0, -1, 0, 0, 0, 1, 1, 1, 1, 0.5] * 8)
    rows = np.random.default_rng(1).integers(0, 80, (20_000, 80))
    low, high = np.quantile(values.numpy()[rows].mean(1), [0.05, 0.95])
    found = bootstrap_interval(values, confidence=0.9, resamples=20_000)
    assert [found.low, found.high] == pytest.approx([low, high], abs=0.013)


def test_pairing_narrows_the_interval() -> None:
    draw = torch.Generator().manual_seed(0)
    old = (torch.rand(500, generator=draw) < 0.6).double()
    new = old.clone()
    new[:5] = 1 - new[:5]
    paired = bootstrap_interval(new - old)
    alone = bootstrap_interval(new)
    assert paired.high - paired.low < 0.3 * (alone.high - alone.low)


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=40), st.floats(0.5, 0.99))
def test_interval_lies_within_the_values_and_around_most_of_the_mass(values: list[float], confidence: float) -> None:
    found = bootstrap_interval(torch.tensor(values), confidence=confidence, resamples=200)
    wider = bootstrap_interval(torch.tensor(values), confidence=(1 + confidence) / 2, resamples=200)
    least, most = float(np.float32(min(values))), float(np.float32(max(values)))
    assert least - 1e-9 <= found.low <= found.high <= most + 1e-9
    assert wider.low <= found.low
    assert found.high <= wider.high


def test_many_distinct_values_need_no_matrix_of_all_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    values = torch.rand(300, generator=torch.Generator().manual_seed(0))
    whole = bootstrap_interval(values, resamples=100)
    monkeypatch.setattr("evergallery.retrieval.bootstrap.MOST_AT_ONCE", 1000)
    parts = bootstrap_interval(values, resamples=100)
    assert parts.mean == whole.mean
    assert [parts.low, parts.high] == pytest.approx([whole.low, whole.high], abs=1e-12)


@pytest.mark.parametrize("values", [torch.empty(0), torch.tensor([1.0, torch.nan]), torch.zeros(2, 2)])
def test_values_that_are_none_are_refused(values: torch.Tensor) -> None:
    with pytest.raises(InputError, match="finite value for each query"):
        bootstrap_interval(values)


def test_confidence_outside_its_range_is_refused() -> None:
    with pytest.raises(InputError, match="between 0 and 1"):
        bootstrap_interval(torch.ones(3), confidence=95)


def test_wilson_is_the_interval_of_the_textbook() -> None:
    """Agresti and Coull 1998: 10 of 10 leave 0.7225 possible; half of 100 is between 0.4038 and 0.5962."""
    assert wilson(1.0, 10) == pytest.approx((0.7225, 1.0), abs=1e-4)
    assert wilson(0.5, 100) == pytest.approx((0.4038, 0.5962), abs=1e-4)
    assert wilson(0.3, 0) == (0.0, 1.0)


@given(share=st.floats(0, 1), queries=st.integers(1, 10_000))
def test_wilson_holds_the_share_and_narrows(share: float, queries: int) -> None:
    low, high = wilson(share, queries)
    assert 0 <= low <= share <= high <= 1
    closer = wilson(share, 10 * queries)
    assert closer[1] - closer[0] < high - low


@given(st.integers(0, 1000), st.sampled_from([0.03, 0.1]))
def test_that_many_queries_decide_as_often_as_the_power_says(seed: int, distance: float) -> None:
    """Paired outcomes of two systems, many times over: 80 % of the intervals end on the right side of zero."""
    draw = np.random.default_rng(seed)
    lost, won = 0.1, 0.1 + distance
    deviation = np.sqrt(lost + won - distance**2)
    queries = queries_needed(float(deviation), distance)
    assert queries is not None
    counts = draw.multinomial(queries, [lost, won, 1 - lost - won], size=2000)
    mean = (counts[:, 1] - counts[:, 0]) / queries
    spread = np.sqrt((counts[:, 0] + counts[:, 1]) / queries - mean**2)
    assert np.mean(mean > 1.96 * spread / np.sqrt(queries)) == pytest.approx(0.8, abs=0.05)


def test_no_number_of_queries_decides_what_is_the_same() -> None:
    assert queries_needed(0.5, 0.0) is None
    assert queries_needed(0.0, 0.1) == 0
    assert queries_needed(0.5, -0.1) == queries_needed(0.5, 0.1)
