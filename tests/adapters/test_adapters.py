"""Adapters recover maps that are known, against closed forms in NumPy and SciPy, and refuse what they cannot map."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import orthogonal_procrustes
from torch.nn import functional as F

from evergallery.adapters import ADAPTERS, Adapter, fit_affine, fit_drift, fit_mlp, fit_procrustes
from evergallery.adapters.procrustes import procrustes_rotation
from evergallery.errors import InputError

Fit = Callable[..., Adapter]
EVERY_ADAPTER = pytest.mark.parametrize("fit", [fit for fit, _ in ADAPTERS.values()], ids=list(ADAPTERS))
MAPS_QUERIES = pytest.mark.parametrize("fit", [fit_procrustes, fit_affine, fit_mlp])


def rows(count: int, width: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return F.normalize(torch.randn(count, width, generator=torch.Generator().manual_seed(seed), dtype=dtype))


def rotation(width: int, seed: int = 5) -> torch.Tensor:
    return torch.linalg.qr(torch.randn(width, width, generator=torch.Generator().manual_seed(seed))).Q


def agreement(one: torch.Tensor, other: torch.Tensor) -> float:
    return F.cosine_similarity(one, other).mean().item()


class TestEveryAdapter:
    @EVERY_ADAPTER
    def test_unit_rows_and_no_change_of_what_it_was_given(self, fit: Fit) -> None:
        new, old, later = rows(200, 8), rows(200, 8, 1), rows(20, 8, 2)
        copies = [one.clone() for one in (new, old, later)]
        mapped = fit(new, old)(later)
        torch.testing.assert_close(mapped.norm(dim=1), torch.ones(20))
        assert not mapped.requires_grad
        assert all(torch.equal(*pair) for pair in zip(copies, (new, old, later), strict=True))

    @EVERY_ADAPTER
    def test_spaces_that_are_equal_stay_so(self, fit: Fit) -> None:
        pairs = rows(400, 8)
        assert agreement(fit(pairs, pairs)(rows(50, 8, 1)), rows(50, 8, 1)) > 0.999

    @EVERY_ADAPTER
    def test_is_deterministic_whatever_the_global_state(self, fit: Fit) -> None:
        new, old, later = rows(200, 8), rows(200, 8, 1), rows(20, 8, 2)
        torch.manual_seed(1)
        first = fit(new, old)(later)
        torch.manual_seed(2)
        assert torch.equal(first, fit(new, old)(later))

    @EVERY_ADAPTER
    def test_refuses_what_are_no_pairs(self, fit: Fit) -> None:
        with pytest.raises(InputError, match="embeddings of the same images, in the same order"):
            fit(rows(5, 8), rows(6, 8))
        with pytest.raises(InputError, match="learns from pairs"):
            fit(torch.empty(0, 8), torch.empty(0, 8))

    @MAPS_QUERIES
    def test_a_rotation_is_found(self, fit: Fit) -> None:
        new, turn = rows(2_000, 8), rotation(8)
        later = rows(50, 8, 1)
        assert agreement(later, later @ turn) < 0.5
        assert agreement(fit(new, new @ turn)(later), later @ turn) > 0.999

    @MAPS_QUERIES
    @pytest.mark.parametrize("width", [5, 12])
    def test_another_width(self, fit: Fit, width: int) -> None:
        wide = rotation(12)[: min(8, width)]
        new = rows(2_000, 8)
        old = F.normalize((F.pad(new, (0, 4)) @ rotation(12))[:, :width])
        assert wide.shape[1] == 12
        mapped = fit(new, old)(rows(50, 8, 1))
        expected = F.normalize((F.pad(rows(50, 8, 1), (0, 4)) @ rotation(12))[:, :width])
        assert mapped.shape == (50, width)
        assert agreement(mapped, expected) > (0.98 if width == 12 else 0.9)


@given(st.integers(0, 1_000))
@settings(max_examples=20, deadline=None)
def test_procrustes_equals_scipy(seed: int) -> None:
    new, old = rows(30, 6, seed, torch.float64), rows(30, 6, seed + 1, torch.float64)
    expected, _ = orthogonal_procrustes(new.numpy(), old.numpy())
    np.testing.assert_allclose(procrustes_rotation(new, old).numpy(), expected, atol=1e-9)


def test_procrustes_keeps_every_similarity() -> None:
    later = rows(30, 6, 3)
    mapped = fit_procrustes(rows(100, 6), rows(100, 6, 1))(later)
    torch.testing.assert_close(mapped @ mapped.T, later @ later.T)


def test_affine_equals_ridge_regression_on_augmented_rows() -> None:
    new, old = rows(50, 4, 0, torch.float64).numpy(), rows(50, 3, 1, torch.float64).numpy()
    ridge = 0.02
    centred = new - new.mean(0)
    # Ridge regression is least squares on extra rows.
    extended = np.concatenate([centred, np.sqrt(ridge * 50) * np.eye(4)])
    weight = np.linalg.lstsq(extended, np.concatenate([old - old.mean(0), np.zeros((4, 3))]), rcond=None)[0]
    expected = centred @ weight + old.mean(0)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    found = fit_affine(torch.from_numpy(new), torch.from_numpy(old), ridge)(torch.from_numpy(new))
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-9)


def test_mlp_bends_where_a_line_cannot() -> None:
    def bent(x: torch.Tensor) -> torch.Tensor:
        return F.normalize(x.abs() + 0.2 * x)

    new, later = rows(4_000, 6), rows(200, 6, 1)
    old = bent(new)
    straight, curved = (agreement(fit(new, old)(later), bent(later)) for fit in (fit_affine, fit_mlp))
    assert curved > straight + 0.03


def test_drift_moves_a_vector_as_its_neighbours_moved() -> None:
    # Two clusters far from each other that move differently.
    near = F.normalize(torch.tensor([[1.0, 0, 0], [0, 1.0, 0]]).repeat_interleave(50, 0) + 0.05 * rows(100, 3))
    moved = F.normalize(near + torch.tensor([[0, 0, 0.5], [0, 0, -0.5]]).repeat_interleave(50, 0))
    compensated = fit_drift(moved, near)(torch.tensor([[1.0, 0, 0], [0, 1.0, 0]]))
    assert compensated[0, 2] > 0.35
    assert compensated[1, 2] < -0.35
    with pytest.raises(InputError, match="have 5 and 3 dimensions"):
        fit_drift(rows(4, 5), rows(4, 3))
