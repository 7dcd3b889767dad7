"""Class boundaries and diffused prototypes against NumPy and hand-worked cases, and what they are for."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from evergallery.losses import cosine_boundary, elastic_boundary
from evergallery.memory import (
    ClassMeans,
    class_means,
    diffused_class_means,
    estimate_drift,
    largest_distances,
    smallest_cosines,
)

SEEDS = st.integers(0, 10_000)
CLASSES, ABSENT = 5, 4
"""The last class has no image."""


def draw(seed: int, size: int = 24, width: int = 6) -> tuple[Tensor, Tensor, Tensor]:
    """Features in two spaces, of any norm, and labels, where the last class has no image."""
    generator = np.random.default_rng(seed)
    new, old = generator.normal(size=(size, width)), generator.normal(size=(size, width - 2))
    return torch.from_numpy(new), torch.from_numpy(old), torch.from_numpy(generator.integers(0, ABSENT, size))


class TestSmallestCosines:
    def test_worked_by_hand(self) -> None:
        features = torch.tensor([[3.0, 4], [0, 2], [5, 0], [-1, 0]])
        found = smallest_cosines(features, torch.tensor([0, 0, 0, 1]), torch.tensor([[0.0, 7], [1, 0], [1, 1]]))
        # Cosines 0.8, 1 and 0; a class may lie opposite to its centre; one without images has the narrowest boundary.
        torch.testing.assert_close(found, torch.tensor([0.0, -1, 1]))

    @given(SEEDS)
    @settings(max_examples=15, deadline=None)
    def test_it_is_the_boundary_that_old_features_keep_and_no_wider_one(self, seed: int) -> None:
        features, _, labels = draw(seed)
        centres = class_means(features, labels, CLASSES)
        boundaries = smallest_cosines(features, labels, centres)
        assert cosine_boundary(features, labels, centres, boundaries).item() == pytest.approx(0, abs=1e-12)
        for label in labels.unique():
            narrower = boundaries.clone()
            narrower[label] += 1e-3
            assert cosine_boundary(features, labels, centres, narrower) > 1e-6


class TestLargestDistances:
    def test_worked_by_hand(self) -> None:
        along = torch.tensor([1.0, 2, 3, 4, 5, 30, 2, 7])
        labels = torch.tensor([0, 0, 0, 0, 0, 0, 1, 3])
        embeddings = torch.stack([along, torch.zeros(8)], 1)
        centres = torch.tensor([[0.0, 0], [2, 0], [0, 0], [7, 1]])
        # Quartiles 2.25 and 4.75: the fence stands at 8.5.
        torch.testing.assert_close(largest_distances(embeddings, labels, centres), torch.tensor([5.0, 0, 0, 1]))

    def test_what_lies_on_the_fence_is_inside(self) -> None:
        # Quartiles 1 and 3 of five distances: the fence stands at 6.
        along = torch.tensor([[0.0], [1], [2], [3], [6]])
        assert largest_distances(along, torch.zeros(5, dtype=torch.int64), torch.zeros(1, 1)).item() == 6

    @given(SEEDS)
    @settings(max_examples=20, deadline=None)
    def test_equals_numpy(self, seed: int) -> None:
        # Cubes have long tails, so there are outliers.
        embeddings, centres, labels = draw(seed)[0] ** 3, draw(seed + 1)[0][:CLASSES], draw(seed)[2]
        expected = np.zeros(CLASSES)
        for label in set(labels.tolist()):
            own = np.linalg.norm((embeddings - centres[label]).numpy()[labels.numpy() == label], axis=1)
            first, third = np.percentile(own, [25, 75])
            expected[label] = max(distance for distance in own if distance <= third + 1.5 * (third - first))
        np.testing.assert_allclose(largest_distances(embeddings, labels, centres).numpy(), expected, atol=1e-12)

    @given(SEEDS)
    @settings(max_examples=15, deadline=None)
    def test_old_embeddings_that_are_no_outliers_lie_inside_however_elastic(self, seed: int) -> None:
        features, _, labels = draw(seed)
        # Near their centre, so that elasticity can only widen the boundary.
        embeddings = F.normalize(F.one_hot(labels, 6).double() + 0.1 * features)
        centres = class_means(embeddings, labels, CLASSES)
        radii = largest_distances(embeddings, labels, centres)
        inside = torch.linalg.vector_norm(embeddings - centres[labels], dim=1) <= radii[labels]
        assert inside.double().mean() > 0.5
        elasticity = torch.from_numpy(np.random.default_rng(seed).normal(size=CLASSES))
        exists = torch.ones(CLASSES, dtype=torch.bool)
        assert elastic_boundary(embeddings[inside], labels[inside], centres, radii, elasticity, exists).item() == 0

    def test_half_precision_stays_half_precision(self) -> None:
        embeddings, labels = draw(0)[0].bfloat16(), draw(0)[2]
        radii = largest_distances(embeddings, labels, torch.zeros(CLASSES, 6, dtype=torch.bfloat16))
        assert radii.dtype == torch.bfloat16
        exact = largest_distances(embeddings.double(), labels, torch.zeros(CLASSES, 6, dtype=torch.float64))
        torch.testing.assert_close(radii.double(), exact, rtol=1e-2, atol=0)


def walk(new: NDArray[np.float64], old: NDArray[np.float64], share: float, temperature: float) -> NDArray[np.float64]:
    """The diffusion of one class as what it stands for: a walk over the graph that goes on with probability λ."""
    size = len(new)
    edges = np.zeros((size, size))
    for i in range(size):
        others = [j for j in range(size) if j != i]
        weights = np.exp([new[i] @ new[j] / temperature for j in others])
        edges[i, others] = weights / weights.sum()
    # Beyond some hundred steps nothing is left of it.
    result, step = np.zeros_like(old), (1 - share) * old
    for _ in range(600):
        result, step = result + step, share * edges @ step
    made: NDArray[np.float64] = result.mean(0)
    return made


class TestDiffusedClassMeans:
    @given(SEEDS, st.sampled_from([0.0, 0.5, 0.9]), st.sampled_from([0.05, 0.5]))
    @settings(max_examples=15, deadline=None)
    def test_equals_a_walk_over_the_neighbours_of_the_class(self, seed: int, share: float, temperature: float) -> None:
        new, old, labels = draw(seed)
        new = F.normalize(new)
        found = diffused_class_means(new, old, labels, CLASSES, share=share, temperature=temperature)
        assert found.shape == (CLASSES, 4)
        assert not found[ABSENT].any()
        for label in set(labels.tolist()):
            own = (labels == label).numpy()
            if own.sum() > 1:
                expected = walk(new.numpy()[own], old.numpy()[own], share, temperature)
                np.testing.assert_allclose(found[label].numpy(), expected, atol=1e-9)

    def test_without_neighbours_there_is_nothing_to_refine(self) -> None:
        new, old, labels = draw(0)
        new, plain = F.normalize(new), class_means(old, labels, CLASSES)
        torch.testing.assert_close(diffused_class_means(new, old, labels, CLASSES, share=0.0), plain)
        # One image has no neighbour, and the neighbour of either of two is the other.
        few = torch.tensor([0, 1, 1])
        torch.testing.assert_close(diffused_class_means(new[:3], old[:3], few, 2), class_means(old[:3], few, 2))

    def test_an_outlier_of_the_new_space_is_hardly_felt(self) -> None:
        new = F.normalize(torch.tensor([[1.0, 0.1], [1, 0], [1, -0.1], [-1, 0]], dtype=torch.float64))
        old = torch.tensor([[1.0, 0], [1, 0], [1, 0], [0, 1]], dtype=torch.float64)
        labels = torch.zeros(4, dtype=torch.int64)
        plain, refined = class_means(old, labels, 1)[0], diffused_class_means(new, old, labels, 1)[0]
        assert plain[1].item() == 0.25
        # What is left is where its own walk ends at once: a tenth of a quarter.
        assert refined[1].item() == pytest.approx(0.025, abs=1e-6)
        assert refined.sum().item() == pytest.approx(1)

    def test_classes_do_not_mix_and_the_inputs_stay(self) -> None:
        new, old, labels = draw(1)
        new, before = F.normalize(new), old.clone()
        alone = labels == 2
        together = diffused_class_means(new, old, labels, CLASSES)
        apart = diffused_class_means(new[alone], old[alone], labels[alone], CLASSES)
        torch.testing.assert_close(together[2], apart[2])
        assert torch.equal(old, before)

    @given(SEEDS)
    @settings(max_examples=15, deadline=None)
    def test_a_rotation_of_the_new_space_changes_nothing_and_one_of_the_old_turns_the_prototypes(
        self, seed: int
    ) -> None:
        new, old, labels = draw(seed)
        new = F.normalize(new)
        turn_new, turn_old = (
            torch.linalg.qr(torch.from_numpy(np.random.default_rng(seed).normal(size=(d, d)))).Q for d in (6, 4)
        )
        expected = diffused_class_means(new, old, labels, CLASSES) @ turn_old
        torch.testing.assert_close(diffused_class_means(new @ turn_new, old @ turn_old, labels, CLASSES), expected)


def test_moved_means_of_the_published_code(shared_data: Path) -> None:
    reference = {
        name: torch.from_numpy(value)
        for name, value in np.load(shared_data / "fixtures" / "reference_mutual.npz").items()
    }
    raw, before, after = (reference[f"{name}_unnormalised"] for name in ("prototypes", "before", "after"))
    drift = estimate_drift(reference["prototypes"], F.normalize(before), before, after, "inner")
    moved = ClassMeans(torch.arange(7), raw, reference["prototypes"], torch.zeros_like(raw)).moved(drift)
    torch.testing.assert_close(moved.raw, reference["updated_prototypes_unnormalised"], atol=1e-9, rtol=0)
    torch.testing.assert_close(moved.unit, reference["updated_prototypes"], atol=1e-9, rtol=0)
    torch.testing.assert_close(moved.drift, reference["class_drift"], atol=1e-9, rtol=0)
