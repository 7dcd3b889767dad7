"""Ridge regression of every strength from one decomposition, against normal equations; folds and ranks by hand."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from evergallery.adapters import Adapter, fit_linear
from evergallery.adapters.held_out import folds, reciprocal_ranks
from evergallery.adapters.ridge import Ridge, ridge_paths


def rows(count: int, width: int, seed: int = 0) -> Tensor:
    return F.normalize(torch.randn(count, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))


@given(
    st.integers(0, 1_000), st.sampled_from([(40, 6, 4), (40, 4, 6), (5, 12, 7)]), st.sampled_from([1e-4, 1e-2, 1.0]),
    st.booleans(),
)  # fmt: skip
@settings(max_examples=30, deadline=None)
def test_is_the_minimum(seed: int, shape: tuple[int, int, int], strength: float, rotation: bool) -> None:
    count, width, out = shape
    x, y = rows(count, width, seed), rows(count, out, seed + 1)
    for paths, source, target in zip(ridge_paths(x, y), (x, y), (y, x), strict=True):
        ridge = Ridge(strength, rotation)
        weight = paths.weight(ridge)
        prior = paths.rotation if rotation else torch.zeros_like(weight)
        centred, wanted = source - source.mean(0), target - target.mean(0)
        # |x W - y|^2 + strength N |W - P|^2 has no slope there.
        slope = centred.T @ (centred @ weight - wanted) + strength * count * (weight - prior)
        assert slope.abs().max() < 1e-8
        # Rows that were not among the pairs, too, are mapped by their coordinates.
        later = rows(3, source.shape[1], seed + 2)
        mapped = paths.coordinates(later) @ paths.coefficients(ridge)
        torch.testing.assert_close(mapped, (later - source.mean(0)) @ weight, rtol=0, atol=1e-8)


def test_a_strong_ridge_is_the_rotation_of_the_centred_pairs() -> None:
    x = rows(200, 6)
    turn = torch.linalg.qr(rows(6, 6, 3)).Q
    torch.testing.assert_close(
        ridge_paths(x, x @ turn + 0.3)[0].weight(Ridge(1e6, rotation=True)), turn, rtol=0, atol=1e-5
    )


def test_what_no_pair_shows_is_dropped() -> None:
    x = F.pad(rows(5, 3), (0, 9))
    for rotation in (True, False):
        weight = ridge_paths(x, rows(5, 12, 1))[0].weight(Ridge(0.1, rotation))
        assert weight[3:].abs().max() < 1e-12


def test_pairs_that_are_all_the_same_give_a_finite_map() -> None:
    x = rows(1, 4).expand(6, 4).contiguous()
    for fitted in (fit_linear(x, x), fit_linear(x[:2], x[:2])):
        assert fitted.weight.isfinite().all()


def test_the_strength_is_chosen_for_what_the_map_is_for() -> None:
    # Noise in the source, more than pairs can average out: a weak ridge would fit it.
    target, noise = rows(40, 32), rows(40, 32, 1)
    source = F.normalize(target + 0.7 * noise)
    later, other = rows(300, 32, 2), rows(300, 32, 3)
    asked = F.normalize(later + 0.7 * other)

    def rank(adapter: Adapter) -> float:
        return reciprocal_ranks(adapter(asked), later, torch.arange(300)).mean().item()

    chosen, weak = rank(fit_linear(source, target)), rank(fit_linear(source, target, ridge=1e-9))
    assert chosen > weak + 0.1


def test_few_pairs_are_all_held_out_once_and_many_are_not() -> None:
    parts = list(folds(13, 100))
    assert sorted(torch.cat([held for _, held in parts]).tolist()) == list(range(13))
    for fitted, held in parts:
        assert sorted([*fitted.tolist(), *held.tolist()]) == list(range(13))
    assert len(list(folds(1_000, 150))) == 1
    assert len(list(folds(1_000, 201))) == 2
    assert [len(held) for _, held in folds(2, 100)] == [1, 1]


def test_ranks_equal_loops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evergallery.adapters.held_out.ROWS", 7)
    queries, stored = rows(20, 4), rows(30, 4, 1)
    own = torch.arange(20) + 5
    expected = []
    for query, row in zip(queries.numpy(), own.tolist(), strict=True):
        scores = stored.numpy() @ query
        expected.append(1 / (1 + (scores > scores[row]).sum()))
    np.testing.assert_allclose(reciprocal_ranks(queries, stored, own).numpy(), expected, rtol=1e-6)
