"""Relations, pairs, margins and centres against loops in float64."""

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
from evergallery.errors import InputError
from evergallery.losses import (
    METRIC_LOSSES,
    arcface,
    binomial_deviance,
    centre_triplet,
    contrastive_distillation,
    fit_width,
    hard_mining,
    metric_loss,
    relation_distillation,
)

INDEX = np.arange(12.0).reshape(4, 3)
A, B = (F.normalize(torch.from_numpy(x)) for x in (np.sin(1 + INDEX), np.cos(1 + 0.5 * INDEX)))
SEEDS = st.integers(0, 10_000)


def batch(seed: int, size: int = 10, width: int = 5, classes: int = 3) -> tuple[Tensor, Tensor]:
    draw = np.random.default_rng(seed)
    return torch.from_numpy(draw.normal(size=(size, width))), torch.from_numpy(draw.integers(0, classes, size))


def rotation(width: int) -> Tensor:
    made: Tensor = torch.linalg.qr(torch.from_numpy(np.random.default_rng(3).normal(size=(width, width)))).Q
    return made


def similarities(features: Tensor) -> NDArray[np.float64]:
    unit = F.normalize(features).numpy()
    made: NDArray[np.float64] = unit @ unit.T
    return made


class TestRelationDistillation:
    def test_hand_checked_values(self) -> None:
        assert relation_distillation(A, B).item() == pytest.approx(0.7064278580, abs=1e-9)
        assert relation_distillation(B, A).item() == pytest.approx(0.6608672930, abs=1e-9)

    @given(SEEDS, st.sampled_from([1.0, 4.0]))
    @settings(max_examples=20, deadline=None)
    def test_equals_the_definition(self, seed: int, temperature: float) -> None:
        (f, _), (g, _) = batch(seed), batch(seed + 1, width=7)
        p, q = (np.exp(similarities(x) / temperature) for x in (f, g))
        p, q = p / p.sum(1, keepdims=True), q / q.sum(1, keepdims=True)
        expected = temperature**2 * (p * np.log(p / q)).sum() / len(p)
        found = relation_distillation(F.normalize(f), F.normalize(g), temperature)
        assert found.item() == pytest.approx(expected, abs=1e-9)

    def test_does_not_see_a_rotation(self) -> None:
        # Why relations alone cannot keep old vectors searchable.
        (f, _), (g, _) = batch(0), batch(1)
        f, g = F.normalize(f), F.normalize(g)
        torch.testing.assert_close(relation_distillation(f @ rotation(5), g), relation_distillation(f, g))

    def test_gradient_reaches_both(self) -> None:
        (f, _), (g, _) = batch(0, size=5), batch(1, size=5)
        f, g = f.requires_grad_(), g.requires_grad_()
        assert torch.autograd.gradcheck(lambda x, y: relation_distillation(F.normalize(x), F.normalize(y)), (f, g))


def hard_mining_twin(features: Tensor, labels: Tensor, margin: float) -> float:
    s, total = similarities(features), 0.0
    for i in range(len(labels)):
        positive = [s[i, j] for j in range(len(labels)) if j != i and labels[j] == labels[i]]
        negative = [s[i, j] for j in range(len(labels)) if labels[j] != labels[i]]
        if not positive or not negative:
            continue
        kept_negative = [x for x in negative if x > min(positive) - margin]
        kept_positive = [x for x in positive if x < max(negative) + margin]
        if kept_negative:
            total += (np.mean([1 - x for x in kept_positive]) if kept_positive else 0) + np.mean(kept_negative)
    return total / len(labels)


def binomial_twin(features: Tensor, labels: Tensor) -> float:
    s, total = similarities(features), 0.0
    for i in range(len(labels)):
        positive = [
            np.log1p(np.exp(-2 * (s[i, j] - 0.5))) for j in range(len(labels)) if j != i and labels[j] == labels[i]
        ]
        negative = [np.log1p(np.exp(40 * (s[i, j] - 0.5))) for j in range(len(labels)) if labels[j] != labels[i]]
        total += (np.mean(positive) if positive else 0) + (np.mean(negative) if negative else 0)
    return total / len(labels)


class TestPairs:
    def test_hand_checked_value(self) -> None:
        assert hard_mining(A, torch.tensor([0, 0, 1, 1])).item() == pytest.approx(1.9952977639, abs=1e-9)

    @given(SEEDS, st.sampled_from([0.0, 0.1, 0.5]))
    @settings(max_examples=30, deadline=None)
    def test_equal_the_loops(self, seed: int, margin: float) -> None:
        features, labels = batch(seed)
        assert hard_mining(features, labels, margin).item() == pytest.approx(
            hard_mining_twin(features, labels, margin), abs=1e-9
        )
        assert binomial_deviance(features, labels).item() == pytest.approx(binomial_twin(features, labels), abs=1e-9)

    def test_an_exact_duplicate_is_a_pair(self) -> None:
        # The published code drops whatever has similarity 1, which an image's twin has too.
        features = torch.tensor([[1.0, 0], [1, 0], [0.6, 0.8]], requires_grad=True)
        assert hard_mining(features, torch.tensor([0, 1, 1])).item() > 0.6

    @pytest.mark.parametrize("name", [*METRIC_LOSSES, "MultiSimilarityLoss", "CircleLoss"])
    @pytest.mark.parametrize("labels", [[0, 0, 0, 0], [0, 1, 2, 3]], ids=["one class", "no positives"])
    def test_batches_without_pairs(self, name: str, labels: list[int]) -> None:
        features = torch.randn(4, 3, generator=torch.Generator().manual_seed(0), requires_grad=True)
        value = metric_loss(name)(features, torch.tensor(labels))
        value.backward()
        assert torch.isfinite(value)
        assert torch.isfinite(gradient_of(features)).all()

    @pytest.mark.parametrize("name", ["NoSuchLoss", "ArcFaceLoss", "ProxyNCALoss", "__doc__"])
    def test_unknown_or_weighted_losses_are_refused(self, name: str) -> None:
        with pytest.raises(InputError, match="choose one of hard-mining, binomial, triplet"):
            metric_loss(name)


class TestArcFace:
    @given(SEEDS, st.sampled_from([0.0, 0.3, 0.5]))
    @settings(max_examples=20, deadline=None)
    def test_equals_the_definition(self, seed: int, margin: float) -> None:
        features, labels = batch(seed)
        rows = torch.from_numpy(np.random.default_rng(seed + 1).normal(size=(4, 5)))
        cosines = (F.normalize(features) @ F.normalize(rows).T).numpy()
        logits = 16 * cosines.copy()
        for i, label in enumerate(labels.tolist()):
            angle = np.arccos(cosines[i, label])
            c = cosines[i, label]
            logits[i, label] = 16 * (np.cos(angle + margin) if angle + margin <= np.pi else c - np.sin(margin) * margin)
        expected = -(torch.from_numpy(logits).log_softmax(1)[torch.arange(10), labels]).mean()
        found = arcface(16 * torch.from_numpy(cosines), labels, scale=16.0, margin=margin)
        assert found.item() == pytest.approx(expected.item(), abs=1e-9)

    def test_gradient_is_finite_at_the_pole(self) -> None:
        logits = torch.tensor([[16.0, -16.0]], requires_grad=True)
        arcface(logits, torch.tensor([0]), scale=16.0).backward()
        assert torch.isfinite(gradient_of(logits)).all()


class TestCentres:
    def test_worked_by_hand(self) -> None:
        centres = torch.tensor([[1.0, 0], [0, 2], [-1, 0]])
        features = torch.tensor([[3.0, 0], [0.6, 0.8]], requires_grad=True)
        labels, present = torch.tensor([0, 0]), torch.tensor([True, True, False])
        # Image 1: max(0, 0 - 1 + 0.3) = 0; image 2: 0.8 - 0.6 + 0.3 = 0.5.
        assert centre_triplet(features, labels, centres, present, 0.3).item() == pytest.approx(0.25)

    def test_without_another_class(self) -> None:
        features = torch.randn(2, 3, requires_grad=True)
        value = centre_triplet(features, torch.tensor([1, 1]), torch.eye(3), torch.tensor([False, True, False]))
        value.backward()
        assert value.item() == 0
        assert torch.isfinite(gradient_of(features)).all()


def test_width_is_cut_or_padded() -> None:
    features = torch.arange(6.0).reshape(2, 3)
    assert fit_width(features, 2).tolist() == [[0, 1], [3, 4]]
    assert fit_width(features, 4).tolist() == [[0, 1, 2, 0], [3, 4, 5, 0]]
    assert fit_width(features, 3) is not None


@given(SEEDS)
@settings(max_examples=15, deadline=None)
def test_contrast_with_the_teacher_alone(seed: int) -> None:
    (new, labels), (old, _) = batch(seed), batch(seed + 1)
    u, v = F.normalize(new).numpy(), F.normalize(old).numpy()
    logits = u @ v.T / 0.07
    total = 0.0
    for i in range(len(u)):
        denominator = np.log(np.exp(logits[i]).sum())
        total -= np.mean([logits[i, j] - denominator for j in range(len(v)) if labels[j] == labels[i]])
    found = contrastive_distillation(F.normalize(new), F.normalize(old), labels, teacher_only=True)
    assert found.item() == pytest.approx(total / len(u), abs=1e-9)


def test_reference_values_of_the_published_code(shared_data: Path) -> None:
    reference = np.load(shared_data / "fixtures" / "reference_mutual.npz")
    cases = {
        "correlation_current_old": ("current", "old_unnormalised"),
        "correlation_supporting_current": ("supporting", "current"),
        "correlation_current_supporting": ("current", "supporting"),
    }
    for name, arguments in cases.items():
        first, second = (torch.from_numpy(reference[argument]).requires_grad_() for argument in arguments)
        value = relation_distillation(F.normalize(first), F.normalize(second))
        value.backward()
        assert value.item() == pytest.approx(reference[name].item(), abs=1e-9)
        for argument, place in ((first, "first"), (second, "second")):
            np.testing.assert_allclose(
                gradient_of(argument).numpy(), reference[f"{name}_grad_{place}"], atol=1e-9, rtol=0
            )
