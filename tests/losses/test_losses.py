"""Losses against float64 NumPy twins, published reference values, and laws."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

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
    batch_hard_triplet,
    contrastive_distillation,
    logit_distillation,
    new_class_cross_entropy,
)


def unit(values: NDArray[np.float64]) -> NDArray[np.float64]:
    made: NDArray[np.float64] = values / np.linalg.norm(values, axis=1, keepdims=True)
    return made


def csd_twin(
    new: NDArray[np.float64], old: NDArray[np.float64], labels: NDArray[np.int64], temperature: float
) -> float:
    """Equation of the docstring, one anchor and one positive at a time."""
    total = 0.0
    for i in range(len(new)):
        candidates = [(new[j], labels[j]) for j in range(len(new)) if j != i]
        candidates += [(old[j], labels[j]) for j in range(len(old))]
        denominator = sum(np.exp(new[i] @ vector / temperature) for vector, _ in candidates)
        positives = [vector for vector, label in candidates if label == labels[i]]
        total -= np.mean([np.log(np.exp(new[i] @ vector / temperature) / denominator) for vector in positives])
    return total / len(new)


def triplet_twin(embeddings: NDArray[np.float64], labels: NDArray[np.int64], margin: float) -> float:
    similarities = unit(embeddings) @ unit(embeddings).T
    terms = []
    for i in range(len(labels)):
        positives = [similarities[i, j] for j in range(len(labels)) if j != i and labels[j] == labels[i]]
        negatives = [similarities[i, j] for j in range(len(labels)) if labels[j] != labels[i]]
        if positives and negatives:
            terms.append(max(0.0, max(negatives) - min(positives) + margin))
    terms = [term for term in terms if term > 0]
    return float(np.mean(terms)) if terms else 0.0


def batch(
    seed: int, size: int = 12, width: int = 7, classes: int = 4
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    draw = np.random.default_rng(seed)
    return draw.normal(size=(size, width)), draw.normal(size=(size, width)), draw.integers(0, classes, size)


def tensors(*arrays: NDArray[Any]) -> Iterator[Any]:
    return map(torch.from_numpy, arrays)


class TestContrastiveDistillation:
    def test_hand_checked_value(self) -> None:
        # rownorm(sin(1 + i)), rownorm(cos(1 + i / 2)): small enough to follow with a pocket calculator.
        index = np.arange(12.0).reshape(4, 3)
        new, old = unit(np.sin(1 + index)), unit(np.cos(1 + 0.5 * index))
        after, before, labels = tensors(new, old, np.array([0, 0, 1, 1]))
        value = contrastive_distillation(after, before, labels, temperature=0.07)
        assert value.item() == pytest.approx(18.9110502500, abs=1e-9)

    @given(st.integers(0, 10_000), st.sampled_from([0.07, 0.3, 1.0]))
    @settings(max_examples=25, deadline=None)
    def test_equals_the_loops(self, seed: int, temperature: float) -> None:
        new, old, labels = batch(seed)
        after, before, classes = tensors(unit(new), unit(old), labels)
        value = contrastive_distillation(after, before, classes, temperature=temperature)
        assert value.item() == pytest.approx(csd_twin(unit(new), unit(old), labels, temperature), abs=1e-9)

    def test_gradient(self) -> None:
        new, old, labels = tensors(*batch(3, size=6, width=4))
        assert torch.autograd.gradcheck(
            lambda x: contrastive_distillation(F.normalize(x), F.normalize(old), labels, 0.5), new.requires_grad_()
        )

    def test_is_anchored_in_the_coordinates_of_the_teacher(self) -> None:
        # A rotation of the student alone must change it, or new queries could not search old vectors.
        new, old, labels = tensors(*batch(5))
        new, old = F.normalize(new), F.normalize(old)
        rotation = torch.linalg.qr(torch.from_numpy(np.random.default_rng(0).normal(size=(7, 7)))).Q
        before = contrastive_distillation(new, old, labels)
        assert not torch.isclose(before, contrastive_distillation(new @ rotation, old, labels))
        assert torch.isclose(before, contrastive_distillation(new @ rotation, old @ rotation, labels))


class TestLogitDistillation:
    @given(st.integers(0, 10_000))
    @settings(max_examples=25, deadline=None)
    def test_equals_the_definition(self, seed: int) -> None:
        new, old, _ = batch(seed)
        p, q = (np.exp(x / 2) / np.exp(x / 2).sum(1, keepdims=True) for x in (old, new))
        assert logit_distillation(*tensors(new, old)).item() == pytest.approx(
            (p * np.log(p / q)).sum(1).mean(), abs=1e-9
        )

    def test_is_zero_only_for_the_teachers_distribution(self) -> None:
        new, old, _ = tensors(*batch(1))
        assert logit_distillation(old + 3.0, old).item() == pytest.approx(0, abs=1e-12)
        assert logit_distillation(new, old).item() > 0


class TestNewClassCrossEntropy:
    def test_averages_over_new_classes_and_normalises_over_all(self) -> None:
        logits = torch.tensor([[1.0, 2.0, 0.5], [0.0, 0.0, 3.0], [2.0, 1.0, 0.0]], dtype=torch.float64)
        labels = torch.tensor([2, 2, 0])
        expected = F.cross_entropy(logits, labels, weight=torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64))
        assert new_class_cross_entropy(logits, labels, 2).item() == pytest.approx(expected.item(), abs=1e-12)

    def test_without_new_classes_is_zero_with_a_graph(self) -> None:
        logits = torch.randn(3, 4, requires_grad=True)
        value = new_class_cross_entropy(logits, torch.tensor([0, 1, 1]), 2)
        value.backward()
        assert value.item() == 0
        assert torch.equal(gradient_of(logits), torch.zeros(3, 4))


class TestBatchHardTriplet:
    @given(st.integers(0, 10_000), st.sampled_from([0.1, 1.0]))
    @settings(max_examples=25, deadline=None)
    def test_equals_the_loops(self, seed: int, margin: float) -> None:
        embeddings, _, labels = batch(seed)
        features, classes = tensors(embeddings, labels)
        value = batch_hard_triplet(features, classes, margin)
        assert value.item() == pytest.approx(triplet_twin(embeddings, labels, margin), abs=1e-9)

    @pytest.mark.parametrize("labels", [[0, 0, 0], [0, 1, 2]], ids=["one class", "no positives"])
    def test_nothing_to_compare_is_zero_with_a_graph(self, labels: list[int]) -> None:
        embeddings = torch.randn(3, 5, requires_grad=True)
        value = batch_hard_triplet(embeddings, torch.tensor(labels))
        value.backward()
        assert value.item() == 0


def test_reference_values_of_the_published_code(shared_data: Path) -> None:
    """Values and gradients, in float64, of CSD's own code."""
    reference = np.load(shared_data / "fixtures" / "reference_losses.npz")
    old = F.normalize(torch.from_numpy(reference["old"]))
    labels = torch.from_numpy(reference["labels"])
    cases: dict[str, tuple[str, Callable[[Tensor], Tensor]]] = {
        "csd_supcon_one": ("new", lambda x: contrastive_distillation(F.normalize(x), old, labels)),
        "csd_kd_T2": ("logits_new", lambda x: logit_distillation(x[:, :5], torch.from_numpy(reference["logits_old"]))),
        "csd_ce_new_only": ("logits_new", lambda x: new_class_cross_entropy(x, labels, 5)),
        "csd_triplet_batchhard_m1": ("new", lambda x: batch_hard_triplet(x, labels)),
    }
    for name, (argument, loss) in cases.items():
        x = torch.from_numpy(reference[argument]).requires_grad_()
        value = loss(x)
        value.backward()
        assert value.item() == pytest.approx(reference[name].item(), abs=1e-9), name
        np.testing.assert_allclose(gradient_of(x).numpy(), reference[f"{name}_grad"], atol=1e-9, rtol=0, err_msg=name)
