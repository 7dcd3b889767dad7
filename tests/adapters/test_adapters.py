"""Adapters recover maps that are known, against closed forms in NumPy and SciPy, and refuse what they cannot map."""

import importlib
import inspect
import pkgutil
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import orthogonal_procrustes
from torch.nn import functional as F

from evergallery import adapters
from evergallery.adapters import (
    ADAPTERS,
    Adapter,
    LinearAdapter,
    adapter_from_tensors,
    fit_drift,
    fit_lambda_orthogonal,
    fit_linear,
    fit_mlp,
    fit_procrustes,
)
from evergallery.adapters.lambda_orthogonal import distance_from_orthogonal, lambda_orthogonality
from evergallery.adapters.procrustes import procrustes_rotation
from evergallery.errors import InputError

Fit = Callable[..., Adapter]
EVERY_ADAPTER = pytest.mark.parametrize("fit", [kind.fit for kind in ADAPTERS.values()], ids=list(ADAPTERS))
MAPS_QUERIES = pytest.mark.parametrize("fit", [fit_procrustes, fit_linear, fit_lambda_orthogonal, fit_mlp])


def rows(count: int, width: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return F.normalize(torch.randn(count, width, generator=torch.Generator().manual_seed(seed), dtype=dtype))


def rotation(width: int, seed: int = 5) -> torch.Tensor:
    made: torch.Tensor = torch.linalg.qr(torch.randn(width, width, generator=torch.Generator().manual_seed(seed))).Q
    return made


def agreement(first: torch.Tensor, second: torch.Tensor) -> float:
    return F.cosine_similarity(first, second).mean().item()


def test_every_adapter_that_is_written_is_in_the_table() -> None:
    modules = [
        importlib.import_module(f"{adapters.__name__}.{one.name}") for one in pkgutil.iter_modules(adapters.__path__)
    ]
    written = {
        kind for module in modules for _, kind in inspect.getmembers(module, inspect.isclass)
        if issubclass(kind, Adapter) and "kind" in vars(kind)
    }  # fmt: skip
    assert {kind.adapter for kind in ADAPTERS.values()} == written - {Adapter}, "add it to ADAPTERS in kinds.py"


class TestEveryAdapter:
    @EVERY_ADAPTER
    def test_unit_rows_and_no_change_of_what_it_was_given(self, fit: Fit) -> None:
        new, old, later = rows(200, 8), rows(200, 8, 1), rows(20, 8, 2)
        copies = [rows.clone() for rows in (new, old, later)]
        mapped = fit(new, old)(later)
        torch.testing.assert_close(mapped.norm(dim=1), torch.ones(20))
        assert not mapped.requires_grad
        assert all(torch.equal(*pair) for pair in zip(copies, (new, old, later), strict=True))

    @EVERY_ADAPTER
    def test_spaces_that_are_equal_stay_so(self, fit: Fit) -> None:
        pairs = rows(400, 8)
        assert agreement(fit(pairs, pairs)(rows(50, 8, 1)), rows(50, 8, 1)) > 0.998

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
        with pytest.raises(InputError, match="learns from pairs and got 1: .*at least 2 images"):
            fit(rows(1, 8), rows(1, 8))
        with pytest.raises(InputError, match="learns from pairs"):
            fit(rows(5, 8)[0], rows(5, 8)[0])

    @EVERY_ADAPTER
    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    def test_refuses_what_is_not_finite(self, fit: Fit, value: float) -> None:
        broken = rows(5, 8)
        broken[3, 2] = value
        with pytest.raises(InputError, match="Row 3 of the source embeddings is not finite"):
            fit(broken, rows(5, 8))
        with pytest.raises(InputError, match="Row 3 of the target embeddings is not finite"):
            fit(rows(5, 8), broken)

    @EVERY_ADAPTER
    def test_is_its_tensors_and_its_kind(self, fit: Fit) -> None:
        adapter, later = fit(rows(200, 8), rows(200, 8, 1)), rows(20, 8, 2)
        again = adapter_from_tensors(adapter.kind, {name: tensor.clone() for name, tensor in adapter.tensors().items()})
        assert type(again) is type(adapter) is ADAPTERS[adapter.kind].adapter
        assert torch.equal(again(later), adapter(later))
        assert not again.training
        assert (again.source_dimension, again.dimension) == (8, 8)
        assert list(again.parameters()) == []

    @EVERY_ADAPTER
    def test_no_gradient_comes_out_even_under_one(self, fit: Fit) -> None:
        with torch.no_grad():
            adapter = fit(rows(200, 8), rows(200, 8, 1))
        assert not adapter(rows(3, 8).requires_grad_()).requires_grad

    @EVERY_ADAPTER
    def test_any_number_of_rows_each_by_itself(self, fit: Fit) -> None:
        adapter, later = fit(rows(200, 8), rows(200, 8, 1)), rows(20, 8, 2)
        torch.testing.assert_close(torch.cat([adapter(row[None]) for row in later]), adapter(later))
        assert adapter(torch.empty(0, 8)).shape == (0, 8)

    @EVERY_ADAPTER
    def test_refuses_embeddings_of_another_space(self, fit: Fit) -> None:
        adapter = fit(rows(200, 8), rows(200, 8, 1))
        for wrong in (rows(3, 7), rows(3, 9), rows(3, 8)[0]):
            with pytest.raises(InputError, match=r"maps embeddings of shape \(N, 8\) and got"):
                adapter(wrong)

    @MAPS_QUERIES
    def test_a_rotation_is_found(self, fit: Fit) -> None:
        new, turn = rows(2_000, 8), rotation(8)
        later = rows(50, 8, 1)
        assert agreement(later, later @ turn) < 0.5
        assert agreement(fit(new, new @ turn)(later), later @ turn) > 0.999
        assert agreement(fit(new @ turn, new)(later @ turn), later) > 0.999

    @MAPS_QUERIES
    @pytest.mark.parametrize("width", [5, 12])
    def test_another_width(self, fit: Fit, width: int) -> None:
        wide = rotation(12)[: min(8, width)]
        new = rows(2_000, 8)
        old = F.normalize((F.pad(new, (0, 4)) @ rotation(12))[:, :width])
        assert wide.shape[1] == 12
        adapter = fit(new, old)
        mapped = adapter(rows(50, 8, 1))
        expected = F.normalize((F.pad(rows(50, 8, 1), (0, 4)) @ rotation(12))[:, :width])
        assert mapped.shape == (50, width)
        assert (adapter.source_dimension, adapter.dimension) == (8, width)
        assert agreement(mapped, expected) > (0.98 if width == 12 else 0.9)


@given(st.integers(0, 1_000))
@settings(max_examples=20, deadline=None)
def test_procrustes_equals_scipy(seed: int) -> None:
    new, old = rows(30, 6, seed, torch.float64), rows(30, 6, seed + 1, torch.float64)
    expected, _ = orthogonal_procrustes(new.numpy(), old.numpy())
    np.testing.assert_allclose(procrustes_rotation(new, old).numpy(), expected, atol=1e-9)


@pytest.mark.parametrize(("width", "out"), [(12, 12), (12, 9), (9, 12)])
def test_procrustes_of_few_pairs_is_the_best_of_all_rotations(width: int, out: int) -> None:
    x, y = (
        torch.randn(5, each, generator=torch.Generator().manual_seed(each), dtype=torch.float64)
        for each in (width, out)
    )
    rotation = procrustes_rotation(x, y)
    product = rotation.T @ rotation if width >= out else rotation @ rotation.T
    torch.testing.assert_close(product, torch.eye(min(width, out), dtype=x.dtype))
    # What every rotation falls short of: the sum of the singular values.
    assert (x @ rotation * y).sum().item() == pytest.approx(torch.linalg.svdvals(x.T @ y).sum().item())


def test_procrustes_of_few_pairs_keeps_what_two_equal_spaces_do_not_show() -> None:
    x = torch.randn(5, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(procrustes_rotation(x, x), torch.eye(12, dtype=x.dtype))


def test_procrustes_keeps_every_similarity() -> None:
    later = rows(30, 6, 3)
    mapped = fit_procrustes(rows(100, 6), rows(100, 6, 1))(later)
    torch.testing.assert_close(mapped @ mapped.T, later @ later.T)


def test_linear_equals_ridge_regression_on_augmented_rows() -> None:
    new, old = rows(50, 4, 0, torch.float64).numpy(), rows(50, 3, 1, torch.float64).numpy()
    ridge = 0.02
    centred = new - new.mean(0)
    # Ridge regression is least squares on extra rows.
    extended = np.concatenate([centred, np.sqrt(ridge * 50) * np.eye(4)])
    weight = np.linalg.lstsq(extended, np.concatenate([old - old.mean(0), np.zeros((4, 3))]), rcond=None)[0]
    expected = centred @ weight + old.mean(0)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    found = fit_linear(torch.from_numpy(new), torch.from_numpy(old), ridge=ridge)(torch.from_numpy(new))
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-9)


def test_mlp_bends_where_a_line_cannot() -> None:
    def bent(x: torch.Tensor) -> torch.Tensor:
        return F.normalize(x.abs() + 0.2 * x)

    new, later = rows(4_000, 6), rows(200, 6, 1)
    old = bent(new)
    straight, curved = (agreement(fit(new, old)(later), bent(later)) for fit in (fit_linear, fit_mlp))
    assert curved > straight + 0.03


def test_the_last_epoch_of_an_mlp_counts() -> None:
    new = rows(400, 6)
    old = F.normalize(new.abs() + 0.2 * new)
    untrained, once = (fit_mlp(new, old, epochs=epochs, learning_rate=1e-2, batch_size=32) for epochs in (0, 1))
    rotation = untrained.tensors()["linear"]
    assert torch.allclose(rotation.T @ rotation, torch.eye(6), atol=1e-5), "it begins as a rotation"
    assert agreement(once(new), old) > agreement(untrained(new), old) + 0.01


def test_drift_moves_a_vector_as_its_neighbours_moved() -> None:
    # Two clusters far from each other that move differently.
    near = F.normalize(torch.tensor([[1.0, 0, 0], [0, 1.0, 0]]).repeat_interleave(50, 0) + 0.05 * rows(100, 3))
    moved = F.normalize(near + torch.tensor([[0, 0, 0.5], [0, 0, -0.5]]).repeat_interleave(50, 0))
    compensated = fit_drift(near, moved)(torch.tensor([[1.0, 0, 0], [0, 1.0, 0]]))
    assert compensated[0, 2] > 0.35
    assert compensated[1, 2] < -0.35
    with pytest.raises(InputError, match="have 5 and 3 dimensions"):
        fit_drift(rows(4, 5), rows(4, 3))


def test_drift_keeps_its_pairs_whatever_becomes_of_the_callers() -> None:
    before, after, later = rows(50, 4), rows(50, 4, 1), rows(5, 4, 2)
    adapter = fit_drift(before, after)
    expected = adapter(later)
    before.zero_()
    after.zero_()
    assert torch.equal(adapter(later), expected)


def test_a_known_rotation_is_recovered_exactly() -> None:
    source, turn = rows(40, 8, dtype=torch.float64), rotation(8).double()
    turn = torch.linalg.qr(turn).Q
    torch.testing.assert_close(fit_procrustes(source, source @ turn).rotation, turn, rtol=0, atol=1e-12)


class TestLowRank:
    def test_a_map_of_low_rank_is_recovered(self) -> None:
        source = rows(500, 8, dtype=torch.float64)
        draw = np.random.default_rng(0)
        weight = torch.from_numpy(draw.normal(size=(8, 2)) @ draw.normal(size=(2, 6)))
        offset = torch.from_numpy(draw.normal(size=6))
        adapter = fit_linear(source, source @ weight + offset, rank=2, ridge=1e-12)
        assert adapter.rank == 2
        assert {name: tuple(tensor.shape) for name, tensor in adapter.tensors().items()} == {
            "weight": (8, 2), "second": (2, 6), "offset": (6,),
        }  # fmt: skip
        assert adapter.second is not None
        torch.testing.assert_close(adapter.weight @ adapter.second, weight, rtol=0, atol=1e-8)
        torch.testing.assert_close(adapter.offset, offset, rtol=0, atol=1e-8)
        later = rows(20, 8, 1, torch.float64)
        torch.testing.assert_close(adapter(later), F.normalize(later @ weight + offset))

    @given(st.integers(0, 1_000), st.integers(1, 3), st.sampled_from([1e-6, 1e-2]))
    @settings(max_examples=20, deadline=None)
    def test_is_the_best_of_its_rank_on_augmented_rows(self, seed: int, rank: int, ridge: float) -> None:
        source, target = rows(30, 5, seed, torch.float64), rows(30, 4, seed + 1, torch.float64)
        adapter = fit_linear(source, target, rank=rank, ridge=ridge)
        assert adapter.second is not None
        x, y = (rows.numpy() - rows.numpy().mean(0) for rows in (source, target))
        x, y = np.concatenate([x, np.sqrt(ridge * 30) * np.eye(5)]), np.concatenate([y, np.zeros((5, 4))])
        # Eckart and Young: the best fit of rank r is the projection of the best one on its first r singular vectors.
        best = x @ np.linalg.lstsq(x, y, rcond=None)[0]
        left, values, right = np.linalg.svd(best, full_matrices=False)
        expected = (left[:, :rank] * values[:rank]) @ right[:rank]
        np.testing.assert_allclose(x @ (adapter.weight @ adapter.second).numpy(), expected, atol=1e-8)
        mean = source.mean(0)
        expected_offset = target.mean(0) - mean @ adapter.weight @ adapter.second
        torch.testing.assert_close(adapter.offset, expected_offset)

    def test_a_rank_that_is_no_restriction_gives_the_whole_map(self) -> None:
        source, target = rows(50, 5), rows(50, 4, 1)
        whole = fit_linear(source, target)
        assert whole.rank is None
        assert all(
            torch.equal(before, after)
            for before, after in zip(
                whole.tensors().values(), fit_linear(source, target, rank=4).tensors().values(), strict=True
            )
        )
        with pytest.raises(InputError, match="rank of a linear adapter is 0"):
            fit_linear(source, target, rank=0)


class TestLambdaOrthogonality:
    def test_distance_by_hand(self) -> None:
        # W Wᵀ - I = diag(3, -1): √10.
        weight = torch.tensor([[2.0, 0.0], [0.0, 0.0]])
        assert distance_from_orthogonal(weight).item() == pytest.approx(10**0.5)
        # Orthonormal rows, and the same as columns: the narrower side counts.
        assert distance_from_orthogonal(torch.eye(2, 3)).item() == 0
        assert distance_from_orthogonal(torch.eye(3, 2)).item() == 0
        assert distance_from_orthogonal(2 * torch.eye(3, 2)).item() == pytest.approx((9 + 9) ** 0.5)

    def test_nothing_below_the_threshold_and_the_distance_above(self) -> None:
        weight = torch.tensor([[2.0, 0.0], [0.0, 1.0]], requires_grad=True)  # n = 3
        below = lambda_orthogonality(weight, threshold=5.0, sharpness=20.0)
        assert below.item() < 1e-15
        assert torch.autograd.grad(below, weight)[0].abs().max() < 1e-14
        assert lambda_orthogonality(weight, threshold=1.0, sharpness=20.0).item() == pytest.approx(3.0)
        assert lambda_orthogonality(weight, threshold=3.0, sharpness=20.0).item() == pytest.approx(1.5)
        # sigmoid(2 (3 - 3.5)) · 3
        assert lambda_orthogonality(weight, threshold=3.5, sharpness=2.0).item() == pytest.approx(3 / (1 + np.e))

    def test_a_rotation_has_no_gradient_that_is_not_a_number(self) -> None:
        weight = torch.eye(3, requires_grad=True)
        lambda_orthogonality(weight, 0.0, 1.0).backward()
        assert weight.grad is not None
        assert weight.grad.isfinite().all()

    def test_between_a_rotation_and_a_free_map_where_the_space_is_sheared(self) -> None:
        shear = rotation(8) @ torch.diag(torch.linspace(0.4, 1.6, 8)) @ rotation(8, 6)
        source, later = rows(500, 8), rows(200, 8, 1)
        target, expected = F.normalize(source @ shear), F.normalize(later @ shear)
        turned, free = fit_procrustes(source, target), fit_linear(source, target)
        near = fit_lambda_orthogonal(source, target, threshold=0.3)
        assert agreement(near(later), expected) > agreement(turned(later), expected) + 0.005
        distances = [distance_from_orthogonal(matrix).item() for matrix in (turned.rotation, near.weight, free.weight)]
        assert distances[0] < 1e-5
        assert 0.05 < distances[1] < 0.3 * 8**0.5 + 0.1
        assert distances[1] < distances[2]

    def test_where_the_threshold_is_far_it_is_least_squares(self) -> None:
        source, target = rows(200, 5, dtype=torch.float64), rows(200, 4, 1, torch.float64)
        near = fit_lambda_orthogonal(source, target, threshold=50.0)
        free = fit_linear(source, target, ridge=1e-12)
        torch.testing.assert_close(near.weight, free.weight, rtol=0, atol=1e-4)
        torch.testing.assert_close(near.offset, free.offset, rtol=0, atol=1e-4)

    def test_stays_a_rotation_where_no_pair_shows_anything(self) -> None:
        source = F.pad(rows(100, 4), (0, 4))
        target = source @ rotation(8)
        adapter = fit_lambda_orthogonal(source, target)
        assert distance_from_orthogonal(adapter.weight).item() < 0.5
        assert torch.linalg.svdvals(fit_linear(source, target).weight).min() < 1e-6


def test_tensors_of_another_kind_are_refused() -> None:
    tensors = LinearAdapter(torch.eye(3), torch.zeros(3)).tensors()
    with pytest.raises(InputError, match="The tensors offset, weight are not those of an adapter of kind 'mlp'"):
        adapter_from_tensors("mlp", tensors)
    with pytest.raises(InputError, match="No adapter is called 'nothing': choose one of procrustes"):
        adapter_from_tensors("nothing", tensors)
