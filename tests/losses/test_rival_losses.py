"""Losses of the rival methods against loops in float64, hand-worked cases, laws and the published code."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from conftest import gradient_of
from evergallery.losses import (
    arcface,
    batch_hard_triplet,
    binomial_deviance,
    centre_alignment,
    centre_triplet,
    contrastive_distillation,
    cosine_boundary,
    elastic_boundary,
    feature_distillation,
    hard_mining,
    logit_distillation,
    maximum_mean_discrepancy,
    new_class_cross_entropy,
    new_to_old_contrast,
    new_to_old_triplet,
    relation_distillation,
    reverse_gradient,
    unit_mean_squared_error,
)

Array = NDArray[np.float64]
SEEDS = st.integers(0, 10_000)
LABELS = torch.tensor([0, 0, 1, 1, 2, 2, 2, 0])
CLASSES, WIDTH = 3, 5


def unit(values: Array) -> Array:
    made: Array = values / np.linalg.norm(values, axis=-1, keepdims=True)
    return made


def draw(seed: int, size: int = 10, width: int = WIDTH, classes: int = CLASSES) -> tuple[Array, Array, list[int]]:
    """New and old features of a batch, of any norm, and labels."""
    generator = np.random.default_rng(seed)
    return (*generator.normal(size=(2, size, width)), generator.integers(0, classes, size).tolist())


def tensor(values: object) -> Tensor:
    return torch.as_tensor(np.asarray(values))


def leaf(values: object) -> Tensor:
    return torch.tensor(values, dtype=torch.float64, requires_grad=True)


def backward(value: Tensor, at: Tensor) -> Tensor:
    (gradient,) = torch.autograd.grad(value, at)
    return gradient


class TestCosineBoundary:
    def test_worked_by_hand(self) -> None:
        centres, boundaries = leaf([[2.0, 0], [0, 3]]), leaf([0.9, 0.5])
        features = leaf([[6.0, 8], [6, 8], [1, 0]])
        # Cosines 0.6, 0.8 and 1 with the own centre: 0.3 outside, inside, inside.
        value = cosine_boundary(features, torch.tensor([0, 1, 0]), centres, boundaries)
        assert value.item() == pytest.approx(0.3 / 3)
        assert backward(value, features).abs().sum(1).gt(0).tolist() == [True, False, False]

    @given(SEEDS)
    @settings(max_examples=20, deadline=None)
    def test_equals_the_loops(self, seed: int) -> None:
        features, centres, labels = draw(seed)
        boundaries = np.random.default_rng(seed).uniform(-1, 1, CLASSES)
        outside = [
            max(0.0, boundaries[y] - f @ centres[y] / np.sqrt((f @ f) * (centres[y] @ centres[y])))
            for f, y in zip(features, labels, strict=True)
        ]
        found = cosine_boundary(tensor(features), tensor(labels), tensor(centres[:CLASSES]), tensor(boundaries))
        assert found.item() == pytest.approx(np.mean(outside), abs=1e-9)


class TestElasticBoundary:
    CENTRES, RADII = tensor([[1.0, 0], [0, 0], [0, 1]]), tensor([0.4, 1.6, 0.4])

    def test_worked_by_hand(self) -> None:
        # Elasticity 0 moves a radius half the way to 1: to 0.7, 1.3 and 0.7.
        features, elasticity = leaf([[0.0, 5], [3, 0], [0, -7], [2, 0]]), leaf([0.0, 0, 0])
        labels, exists = torch.tensor([0, 1, 2, 2]), torch.tensor([True, True, True])
        value = elastic_boundary(features, labels, self.CENTRES, self.RADII, elasticity, exists)
        # Unit rows lie √2, 1, 2 and √2 away: the second is inside, and the mean is over those outside.
        assert value.item() == pytest.approx((np.sqrt(2) - 0.7 + 2 - 0.7 + np.sqrt(2) - 0.7) / 3)

    def test_a_boundary_learns_to_grow_to_the_threshold_or_to_shrink_to_it(self) -> None:
        features, labels = leaf([[0.0, 5], [0, 5]]), torch.tensor([0, 1])
        elasticity, exists = leaf([0.0, 0, 0]), torch.tensor([True, True, True])
        centres = tensor([[0.0, -1], [0, -1], [0, 0]])
        gradient = backward(elastic_boundary(features, labels, centres, self.RADII, elasticity, exists), elasticity)
        # Both lie outside and want a larger radius: more elasticity below the threshold, less above it.
        assert gradient.sign().tolist() == [-1, 1, 0]
        assert gradient[0].item() == pytest.approx(-0.6 * 0.25 / 2)

    @pytest.mark.parametrize("exists", [[False] * 3, [True, False, True]], ids=["no boundary", "none of this class"])
    def test_images_without_a_boundary_are_skipped(self, exists: list[bool]) -> None:
        features, elasticity = leaf([[0.0, 5], [1, 1]]), leaf([0.0, 0, 0])
        labels = torch.tensor([1, 1])
        centres = tensor([[1.0, 0], [-9, -9], [0, 1]])
        value = elastic_boundary(features, labels, centres, self.RADII, elasticity, torch.tensor(exists))
        value.backward()
        assert value.item() == 0
        assert not gradient_of(features).any()
        assert not gradient_of(elasticity).any()

    def test_an_image_on_its_centre_has_a_finite_gradient(self) -> None:
        features = leaf([[1.0, 0]])
        value = elastic_boundary(
            features, torch.tensor([0]), self.CENTRES, self.RADII, leaf([0.0, 0, 0]), torch.ones(3).bool()
        )
        assert value.item() == 0
        assert torch.isfinite(backward(value, features)).all()

    @given(SEEDS)
    @settings(max_examples=20, deadline=None)
    def test_equals_the_two_published_cases(self, seed: int) -> None:
        features, centres, labels = draw(seed)
        generator = np.random.default_rng(seed)
        radii, elasticity = generator.uniform(0.2, 1.8, CLASSES), generator.normal(size=CLASSES)
        exists = generator.random(CLASSES) < 0.7
        centres = 0.5 * unit(centres[:CLASSES])
        terms = []
        for f, y in zip(unit(features), labels, strict=True):
            step = abs(radii[y] - 1) / (1 + np.exp(-elasticity[y]))
            radius = radii[y] + step if radii[y] < 1 else radii[y] - step
            distance = np.sqrt(((f - centres[y]) ** 2).sum())
            if exists[y] and distance > radius:
                terms.append(distance - radius)
        found = elastic_boundary(
            tensor(features), tensor(labels), tensor(centres), tensor(radii), tensor(elasticity), tensor(exists)
        )
        assert found.item() == pytest.approx(np.mean(terms) if terms else 0, abs=1e-9)

    def test_the_threshold_is_where_radii_end(self) -> None:
        features, labels = tensor([[0.0, 5]]), torch.tensor([0])
        for threshold in (0.1, 0.8):
            value = elastic_boundary(
                features, labels, self.CENTRES, self.RADII, tensor([50.0] * 3), torch.ones(3).bool(), threshold
            )
            assert value.item() == pytest.approx(np.sqrt(2) - threshold)


class TestCentreAlignment:
    def test_worked_by_hand(self) -> None:
        rows, centres = leaf([[0.0, 2], [3, 4], [1, 0]]), tensor([[5.0, 0], [6, 8], [0, 1]])
        # Squares (1 + 1) / 2, 0 and, of a class that is absent, 1.
        assert centre_alignment(rows, centres, torch.tensor([True, True, False])).item() == pytest.approx(0.5)

    @given(SEEDS)
    @settings(max_examples=20, deadline=None)
    def test_equals_the_loops(self, seed: int) -> None:
        rows, centres, _ = draw(seed, size=6)
        present = np.random.default_rng(seed).random(6) < 0.7
        squares = [(unit(rows)[k, d] - unit(centres)[k, d]) ** 2 for k in np.flatnonzero(present) for d in range(WIDTH)]
        found = centre_alignment(tensor(rows), tensor(centres), tensor(present))
        assert found.item() == pytest.approx(np.mean(squares) if squares else 0, abs=1e-9)

    def test_without_a_centre_is_zero_with_a_graph(self) -> None:
        rows = leaf([[1.0, 2], [3, 4]])
        value = centre_alignment(rows, torch.zeros(2, 2), torch.tensor([False, False]))
        assert value.item() == 0
        assert not backward(value, rows).any()


class TestMaximumMeanDiscrepancy:
    @given(SEEDS, st.sampled_from([0.5, 1.0, WIDTH / np.sqrt(2)]), st.sampled_from([3, 10]))
    @settings(max_examples=25, deadline=None)
    def test_equals_the_loops(self, seed: int, bandwidth: float, size: int) -> None:
        first, second, _ = draw(seed)
        second = second[:size]

        def kernel(first: Array, second: Array) -> float:
            return float(np.mean([np.exp(-((a - b) ** 2).sum() / (2 * bandwidth**2)) for a in first for b in second]))

        expected = kernel(first, first) + kernel(second, second) - 2 * kernel(first, second)
        found = maximum_mean_discrepancy(tensor(first), tensor(second), bandwidth)
        assert found.item() == pytest.approx(expected, abs=1e-9)

    def test_the_bandwidth_of_the_code_that_was_found(self) -> None:
        # It writes its kernel as exp(-mean((a - b)²) / D).
        a, b = tensor([[0.3, -0.2, 0.9]]), tensor([[-1.0, 0.4, 0.1]])
        expected = 2 - 2 * torch.exp(-(a - b).square().mean() / 3)
        torch.testing.assert_close(maximum_mean_discrepancy(a, b, 3 / np.sqrt(2)), expected)

    @given(SEEDS)
    @settings(max_examples=20, deadline=None)
    def test_is_never_negative_symmetric_and_zero_for_the_same_images_in_any_order(self, seed: int) -> None:
        first, second, _ = map(tensor, draw(seed))
        order = torch.from_numpy(np.random.default_rng(seed).permutation(len(first)))
        value = maximum_mean_discrepancy(first, second)
        assert value.item() > 0
        assert value.item() == pytest.approx(maximum_mean_discrepancy(second, first).item(), abs=1e-12)
        assert maximum_mean_discrepancy(first, first[order]).item() == pytest.approx(0, abs=1e-12)

    def test_a_network_that_is_still_its_parent_gets_no_push(self) -> None:
        first = tensor(draw(0)[0]).requires_grad_()
        gradient = backward(maximum_mean_discrepancy(first, first.detach()), first)
        assert gradient.abs().max().item() < 1e-12


def logits_of_negatives(similarities: Array, i: int, labels: list[int], hardest: int | None) -> list[float]:
    """Of image i with those of other classes, the k largest."""
    return sorted((similarities[i, j] for j in range(len(labels)) if labels[j] != labels[i]), reverse=True)[:hardest]


class TestNewToOldContrast:
    def test_worked_by_hand(self) -> None:
        new, old = tensor([[1.0, 0], [0, 1]]), tensor([[1.0, 0], [0.6, 0.8]])
        labels = torch.tensor([0, 1])
        # Own 1 and other 0.6; own 0.8 and other 0; the new ones are orthogonal.
        plain = (np.log(1 + np.exp(0.6 - 1)) + np.log(1 + np.exp(0 - 0.8))) / 2
        assert new_to_old_contrast(new, old, labels, 1.0).item() == pytest.approx(plain)
        ract = (np.log(1 + np.exp(-0.4) + np.exp(-1)) + np.log(1 + np.exp(-0.8) + np.exp(-0.8))) / 2
        assert new_to_old_contrast(new, old, labels, 1.0, new_negatives=True).item() == pytest.approx(ract)

    @given(SEEDS, st.sampled_from([0.05, 0.5]), st.sampled_from([None, 1, 4, 99]), st.booleans())
    @settings(max_examples=40, deadline=None)
    def test_equals_the_loops(self, seed: int, temperature: float, hardest: int | None, new_negatives: bool) -> None:
        new, old, labels = draw(seed)
        u, v = unit(new), unit(old)
        total = 0.0
        for i in range(len(labels)):
            kinds = [u @ v.T, u @ u.T] if new_negatives else [u @ v.T]
            negatives = [s for kind in kinds for s in logits_of_negatives(kind, i, labels, hardest)]
            own = np.exp(u[i] @ v[i] / temperature)
            total -= np.log(own / (own + sum(np.exp(s / temperature) for s in negatives)))
        found = new_to_old_contrast(
            tensor(u), tensor(v), tensor(labels), temperature, hardest=hardest, new_negatives=new_negatives
        )
        assert found.item() == pytest.approx(total / len(labels), abs=1e-9)

    @pytest.mark.parametrize("hardest", [None, 3])
    def test_one_class_is_zero_with_a_graph(self, hardest: int | None) -> None:
        new = tensor(unit(draw(0)[0])).requires_grad_()
        labels = torch.zeros(10, dtype=torch.int64)
        value = new_to_old_contrast(new, tensor(unit(draw(0)[1])), labels, hardest=hardest, new_negatives=True)
        assert value.item() == 0
        assert not backward(value, new).any()


class TestNewToOldTriplet:
    def test_worked_by_hand(self) -> None:
        new, old = tensor([[1.0, 0], [0, 1]]), tensor([[1.0, 0], [-1, 0]])
        labels = torch.tensor([0, 1])
        # Own distances 0 and √2; to the other's old vector 2 and √2; between the new ones √2.
        plain = (max(0, 0 - 2 + 0.8) + 0.8) / 2
        assert new_to_old_triplet(new, old, labels, 0.8).item() == pytest.approx(plain, abs=1e-5)
        ract = plain + (max(0, 0 - np.sqrt(2) + 0.8) + 0.8) / 2
        assert new_to_old_triplet(new, old, labels, 0.8, new_negatives=True).item() == pytest.approx(ract, abs=1e-5)

    @given(SEEDS, st.sampled_from([0.2, 0.8]), st.sampled_from([1, 4, 99]), st.booleans())
    @settings(max_examples=40, deadline=None)
    def test_equals_the_loops(self, seed: int, margin: float, hardest: int, new_negatives: bool) -> None:
        new, old, labels = draw(seed)
        u, v = unit(new), unit(old)
        expected = 0.0
        for others in (v, u) if new_negatives else (v,):
            distances = np.linalg.norm(u[:, None] - others[None], axis=2)
            terms = [
                max(0.0, float(np.linalg.norm(u[i] - v[i])) + s + margin)
                for i in range(len(labels))
                for s in logits_of_negatives(-distances, i, labels, hardest)
            ]
            expected += float(np.mean(terms)) if terms else 0.0
        found = new_to_old_triplet(
            tensor(u), tensor(v), tensor(labels), margin, hardest=hardest, new_negatives=new_negatives
        )
        assert found.item() == pytest.approx(expected, abs=1e-9)

    def test_one_class_is_zero_with_a_graph(self) -> None:
        new = tensor(unit(draw(0)[0])).requires_grad_()
        value = new_to_old_triplet(
            new, tensor(unit(draw(0)[1])), torch.zeros(10, dtype=torch.int64), new_negatives=True
        )
        assert value.item() == 0
        assert not backward(value, new).any()

    def test_a_network_that_is_still_its_parent_has_a_finite_gradient(self) -> None:
        # Its distance to itself is zero, where the root has no derivative.
        new = torch.eye(4, dtype=torch.float64, requires_grad=True)
        value = new_to_old_triplet(new, new.detach(), torch.tensor([0, 0, 1, 1]), 2.0, new_negatives=True)
        assert torch.isfinite(backward(value, new)).all()


@given(SEEDS, st.sampled_from([None, 2]))
@settings(max_examples=20, deadline=None)
def test_new_negatives_only_add_to_either_form(seed: int, hardest: int | None) -> None:
    new, old, labels = draw(seed)
    u, v, y = tensor(unit(new)), tensor(unit(old)), tensor(labels)
    assert new_to_old_contrast(u, v, y, hardest=hardest, new_negatives=True) >= new_to_old_contrast(
        u, v, y, hardest=hardest
    )
    assert new_to_old_triplet(u, v, y, hardest=hardest or 10, new_negatives=True) >= new_to_old_triplet(
        u, v, y, hardest=hardest or 10
    )


class TestFeatureDistillation:
    @given(SEEDS)
    @settings(max_examples=20, deadline=None)
    def test_both_distances_and_the_squared_error_of_unit_rows_equal_the_loops(self, seed: int) -> None:
        new, old, _ = draw(seed)
        cosine = np.mean([1 - a @ b / np.sqrt((a @ a) * (b @ b)) for a, b in zip(new, old, strict=True)])
        squared = np.mean([((a - b) ** 2).sum() / 2 for a, b in zip(new, old, strict=True)])
        assert feature_distillation(tensor(new), tensor(old)).item() == pytest.approx(cosine, abs=1e-9)
        assert feature_distillation(tensor(new), tensor(old), "squared").item() == pytest.approx(squared, abs=1e-9)
        error = np.mean([(a - b) ** 2 for a, b in zip(unit(new).ravel(), unit(old).ravel(), strict=True)])
        assert unit_mean_squared_error(tensor(new), tensor(old)).item() == pytest.approx(error, abs=1e-9)
        assert error == pytest.approx(2 / WIDTH * cosine)

    def test_only_the_squared_distance_holds_the_length(self) -> None:
        new = tensor(draw(0)[0])
        assert feature_distillation(3 * new, new).item() == pytest.approx(0, abs=1e-12)
        assert unit_mean_squared_error(3 * new, new).item() == pytest.approx(0, abs=1e-12)
        assert feature_distillation(3 * new, new, "squared").item() == pytest.approx(2 * new.square().sum(1).mean())


@given(SEEDS, st.floats(0, 2))
@settings(max_examples=20, deadline=None)
def test_reversal_changes_no_value_and_turns_the_gradient_round(seed: int, strength: float) -> None:
    values, weights, _ = map(tensor, draw(seed))
    values.requires_grad_()
    assert torch.equal(reverse_gradient(values, strength), values)
    straight = backward((weights * values.tanh()).sum(), values)
    reversed_ = backward((weights * reverse_gradient(values, strength).tanh()).sum(), values)
    torch.testing.assert_close(reversed_, -strength * straight)


@given(SEEDS, st.sampled_from([0.0, 0.3]))
@settings(max_examples=20, deadline=None)
def test_centre_triplet_equals_the_loops(seed: int, margin: float) -> None:
    features, centres, labels = draw(seed)
    present = np.random.default_rng(seed).random(len(centres)) < 0.5
    present[labels] = True
    terms = []
    for f, y in zip(unit(features), labels, strict=True):
        others = [f @ unit(centres)[k] for k in np.flatnonzero(present) if k != y]
        terms.append(max(0.0, max(others) - f @ unit(centres)[y] + margin) if others else 0.0)
    found = centre_triplet(tensor(features), tensor(labels), tensor(centres), tensor(present), margin)
    assert found.item() == pytest.approx(np.mean(terms), abs=1e-9)


def test_every_class_is_new_where_none_is_old() -> None:
    logits, _, labels = map(tensor, draw(0))
    assert new_class_cross_entropy(logits, labels, 0).item() == pytest.approx(F.cross_entropy(logits, labels).item())


OLD = tensor(draw(1, size=8)[1])
CENTRES = tensor(unit(draw(2)[0][:CLASSES]))
PRESENT = torch.tensor([True, True, True])
GRADIENTS: dict[str, Callable[[Tensor], Tensor]] = {
    "cosine boundary": lambda x: cosine_boundary(x, LABELS, CENTRES, tensor([0.9, 0.1, -0.5])),
    "elastic boundary": lambda x: elastic_boundary(x, LABELS, CENTRES, CENTRES[:, 0].abs(), CENTRES[:, 1], PRESENT),
    "elasticity": lambda x: elastic_boundary(OLD, LABELS, CENTRES, CENTRES[:, 0].abs(), x[:3, 0], PRESENT),
    "alignment of rows": lambda x: centre_alignment(x[:3], CENTRES, PRESENT),
    "centre triplet": lambda x: centre_triplet(x, LABELS, CENTRES, PRESENT),
    "discrepancy": lambda x: maximum_mean_discrepancy(x, OLD, 0.7),
    "contrast": lambda x: new_to_old_contrast(x, OLD, LABELS, 0.5, hardest=2),
    "contrast with new": lambda x: new_to_old_contrast(x, OLD, LABELS, 0.5, new_negatives=True),
    "triplet": lambda x: new_to_old_triplet(x, OLD, LABELS, hardest=2),
    "triplet with new": lambda x: new_to_old_triplet(x, OLD, LABELS, hardest=3, new_negatives=True),
    "features": lambda x: feature_distillation(x, OLD),
    "squared features": lambda x: feature_distillation(x, OLD, "squared"),
    "unit squared error": lambda x: unit_mean_squared_error(x, OLD),
    "logits": lambda x: logit_distillation(x, OLD),
    "new classes": lambda x: new_class_cross_entropy(x, LABELS, 1),
    "arcface": lambda x: arcface(4 * x.tanh(), LABELS, scale=4.0),
    "relations": lambda x: relation_distillation(x, OLD[:, :3]),
    "binomial": lambda x: binomial_deviance(x, LABELS),
    "hard mining": lambda x: hard_mining(x, LABELS),
    "batch-hard triplet": lambda x: batch_hard_triplet(x, LABELS),
    "contrastive distillation of the teacher": lambda x: contrastive_distillation(OLD, F.normalize(x), LABELS, 0.5),
}


@pytest.mark.parametrize("loss", GRADIENTS.values(), ids=list(GRADIENTS))
def test_gradient(loss: Callable[[Tensor], Tensor]) -> None:
    """Away from the kinks of hinges and of hard mining, where random features lie."""
    x = tensor(draw(0, size=8)[0]).requires_grad_()
    assert backward(loss(x), x).abs().max() > 1e-3
    assert torch.autograd.gradcheck(loss, x)


def test_reference_values_of_the_published_code(shared_data: Path) -> None:
    """Values and gradients, in float64, of OpenCompatible's code, and of CSD's with teacher and student as anchors."""
    reference = np.load(shared_data / "fixtures" / "reference_losses.npz")
    raw, labels = tensor(reference["old"]), tensor(reference["labels"])
    old = F.normalize(raw)

    def both_as_anchors(x: Tensor) -> Tensor:
        return (contrastive_distillation(x, old, labels) + contrastive_distillation(old, x, labels)) / 2

    def contrast(x: Tensor, ract: bool = False) -> Tensor:
        return new_to_old_contrast(x, old, labels, 0.05, new_negatives=ract)

    def triplet(x: Tensor, ract: bool = False) -> Tensor:
        return new_to_old_triplet(x, old, labels, 0.8, hardest=5, new_negatives=ract)

    cases: dict[str, Callable[[Tensor], Tensor]] = {
        "csd_supcon_all": lambda x: both_as_anchors(F.normalize(x)),
        "opencompatible_contra": lambda x: contrast(F.normalize(x)),
        "opencompatible_contra_ract": lambda x: contrast(F.normalize(x), ract=True),
        "opencompatible_l2": lambda x: unit_mean_squared_error(x, raw),
        "opencompatible_triplet": lambda x: triplet(F.normalize(x)),
        "opencompatible_triplet_ract": lambda x: triplet(F.normalize(x), ract=True),
    }
    for name, loss in cases.items():
        x = tensor(reference["new"]).requires_grad_()
        value = loss(x)
        value.backward()
        assert value.item() == pytest.approx(reference[name].item(), abs=1e-9), name
        np.testing.assert_allclose(gradient_of(x).numpy(), reference[f"{name}_grad"], atol=1e-9, rtol=0, err_msg=name)
