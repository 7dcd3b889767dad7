"""Prototypes, drift and virtual features against loops in NumPy, hand-worked values and published code."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from evergallery.memory import (
    ClassMeans,
    Memory,
    TrainingOutputs,
    Weighting,
    class_means,
    estimate_drift,
    fidelity,
    robust_class_means,
    virtual_features,
)
from evergallery.network import Outputs
from evergallery.retrieval.knn import Exclusion
from evergallery.retrieval.metrics import evaluate

KINDS = ["inner", "clamped", "gaussian"]


def outputs(features: torch.Tensor) -> Outputs:
    return Outputs(features, F.normalize(features), features[:, :2])


def drift_twin(
    prototypes: np.ndarray, f: np.ndarray, before: np.ndarray, after: np.ndarray, kind: Weighting
) -> np.ndarray:
    result = []
    for m in prototypes:
        total, weight = np.zeros(before.shape[1]), 0.0
        for i in range(len(f)):
            inner = float(m @ f[i])
            w = {"inner": inner, "clamped": max(inner, 0), "gaussian": np.exp(-((m - f[i]) ** 2).sum() / 0.18)}[kind]
            total, weight = total + w * (after[i] - before[i]), weight + w
        result.append(total / weight if abs(weight) >= 1e-6 else (after - before).mean(0))
    return np.array(result)


@given(st.integers(0, 10_000), st.sampled_from(KINDS))
@settings(max_examples=25, deadline=None)
def test_drift_equals_the_loops(seed: int, kind: Weighting) -> None:
    draw = np.random.default_rng(seed)
    before, after = draw.normal(size=(2, 30, 5))
    prototypes = draw.normal(size=(4, 5))
    f = before / np.linalg.norm(before, axis=1, keepdims=True)
    expected = drift_twin(prototypes, f, before, after, kind)
    found = estimate_drift(
        torch.from_numpy(prototypes), torch.from_numpy(f), torch.from_numpy(before), torch.from_numpy(after), kind
    )
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-7, atol=1e-9)


def test_virtual_features_worked_by_hand() -> None:
    # Numbers of a toy case small enough for a calculator; the weights nearly cancel, which inflates the drift.
    index = torch.arange(12, dtype=torch.float64).reshape(4, 3)
    before = 2 * torch.sin(1 + index)
    after = before + 0.3 * torch.cos(index)
    unit = torch.tensor([[0.8, 0.1, -0.2], [-0.3, 0.7, 0.4]], dtype=torch.float64)
    raw = torch.tensor([[1, 0.2, -0.3], [-0.4, 0.9, 0.5]], dtype=torch.float64)
    drift = estimate_drift(unit, F.normalize(before), before, after, "inner")
    expected = [[3.289934, 2.283452, -0.822425], [-3.404968, -2.548576, 0.650965]]
    np.testing.assert_allclose(drift.numpy(), expected, atol=1e-6)
    moved = F.normalize(raw + drift)
    teacher = 3 * torch.cos(1 + 0.5 * index)
    virtual = virtual_features(teacher, F.normalize(teacher), moved, drift, "inner")
    np.testing.assert_allclose(virtual[0].numpy(), [0.800127, 0.571767, -0.181328], atol=1e-6)
    np.testing.assert_allclose(virtual[3].numpy(), [-0.79945, -0.550031, 0.241548], atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_a_shift_of_the_whole_space_is_undone_exactly(kind: Weighting) -> None:
    generator = torch.Generator().manual_seed(0)
    before = torch.randn(40, 6, generator=generator, dtype=torch.float64)
    shift = torch.randn(6, generator=generator, dtype=torch.float64)
    prototypes = F.normalize(torch.randn(5, 6, generator=generator, dtype=torch.float64))
    drift = estimate_drift(prototypes, F.normalize(before), before, before + shift, kind)
    torch.testing.assert_close(drift, shift.expand(5, 6))
    later = torch.randn(8, 6, generator=generator, dtype=torch.float64)
    virtual = virtual_features(later, F.normalize(later), prototypes, drift, kind)
    torch.testing.assert_close(virtual, F.normalize(later - shift))


@pytest.mark.parametrize("kind", KINDS)
def test_weights_that_come_to_nothing_give_the_mean(kind: Weighting) -> None:
    prototypes = torch.tensor([[0.0, 0.0, 1.0]])
    if kind == "gaussian":
        prototypes = 100 * prototypes
    before = torch.tensor([[1.0, 0, 0], [0, 1, 0]])
    drift = estimate_drift(prototypes, before, before, before + torch.tensor([[1.0, 0, 0], [3.0, 0, 0]]), kind)
    torch.testing.assert_close(drift, torch.tensor([[2.0, 0, 0]]))


def test_class_means_and_their_robust_form() -> None:
    features = torch.tensor([[1.0, 0], [3, 0], [0, 2], [2, 0.1], [0, -5]])
    labels = torch.tensor([0, 0, 2, 0, 0])
    means = class_means(features, labels, 3)
    torch.testing.assert_close(means, torch.tensor([[1.5, -1.225], [0, 0], [0, 2.0]]))
    robust = robust_class_means(features, labels, 3, keep=0.75)
    # The fifth image lies apart from its class; the only one of class 2 stays.
    torch.testing.assert_close(robust, torch.tensor([[2.0, 0.1 / 3], [0, 0], [0, 2.0]]))
    torch.testing.assert_close(robust_class_means(features, labels, 3, keep=1.0), means)


class TestMemory:
    def test_drift_accumulates_over_generations(self) -> None:
        generator = torch.Generator().manual_seed(0)
        shifts = torch.randn(2, 4, generator=generator)
        first = outputs(torch.randn(10, 4, generator=generator))
        memory = Memory().after("v1", TrainingOutputs(torch.arange(10) % 2, first))
        for number, shift in enumerate(shifts, 2):
            old = outputs(torch.randn(10, 4, generator=generator))
            new = outputs(old.features + shift)
            memory = memory.after(f"v{number}", TrainingOutputs(torch.arange(10) % 2 + 2 * number, new, old))
        moved = memory.means["v1"]
        torch.testing.assert_close(moved.drift, (shifts[0] + shifts[1]).expand(2, 4))
        torch.testing.assert_close(moved.raw, class_means(first.features, torch.arange(10) % 2, 2) + moved.drift)
        torch.testing.assert_close(moved.unit.norm(dim=1), torch.ones(2))
        assert [list(memory.means), len(memory.earlier())] == [["v1", "v2", "v3"], 2]

    def test_one_jump_asks_each_generation_itself(self) -> None:
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(3, 12, 4, generator=generator)
        labels = torch.arange(12) % 2
        first = Memory().after("v1", TrainingOutputs(labels, outputs(x[0])))
        second = first.after("v2", TrainingOutputs(labels + 2, outputs(x[1]), outputs(x[0])))
        # What the three generations make of the third task's images.
        y = torch.randn(3, 12, 4, generator=generator)
        jumps = {name: (memory.means[name], outputs(seen)) for name, memory, seen in
                 (("v1", first, y[0]), ("v2", second, y[1]))}  # fmt: skip
        third = second.after("v3", TrainingOutputs(labels + 4, outputs(y[2]), outputs(y[1])), "gaussian", jumps)
        own = first.means["v1"]
        expected = estimate_drift(own.unit, F.normalize(y[0]), y[0], y[2], "gaussian")
        torch.testing.assert_close(third.means["v1"].drift, expected)
        torch.testing.assert_close(third.means["v1"].raw, own.raw + expected)
        # From the parent both are the same.
        chained = second.after("v3", TrainingOutputs(labels + 4, outputs(y[2]), outputs(y[1])), "gaussian")
        torch.testing.assert_close(third.means["v2"].drift, chained.means["v2"].drift)
        assert not torch.allclose(third.means["v1"].drift, chained.means["v1"].drift)

    def test_another_dimension_leaves_the_old_means_behind(self) -> None:
        labels = torch.tensor([0, 1])
        memory = Memory().after("v1", TrainingOutputs(labels, outputs(torch.eye(2, 4))))
        memory = memory.after("v2", TrainingOutputs(labels + 2, outputs(torch.eye(2, 6)), outputs(torch.eye(2, 4))))
        assert list(memory.means) == ["v2"]

    def test_prototypes_of_a_class_seen_twice_are_the_latest(self) -> None:
        memory = Memory().after("v1", TrainingOutputs(torch.tensor([0, 1]), outputs(torch.eye(2, 3))))
        later = outputs(torch.tensor([[0.0, 0, 2], [0, 3, 0]]))
        memory = memory.after("v2", TrainingOutputs(torch.tensor([1, 2]), later, outputs(torch.eye(2, 3))))
        classes, prototypes = memory.prototypes()
        assert sorted(classes.tolist()) == [0, 1, 2]
        torch.testing.assert_close(prototypes[classes.tolist().index(1)], torch.tensor([0.0, 0, 1]))

    def test_round_trip(self) -> None:
        memory = Memory().after("v1", TrainingOutputs(torch.tensor([0, 1]), outputs(torch.eye(2, 3))))
        read = Memory.from_tensors(memory.tensors(), ("v1",))
        for before, after in zip(vars(read.means["v1"]).values(), vars(memory.means["v1"]).values(), strict=True):
            assert torch.equal(before, after)

    def test_measured_means_are_of_unit_and_of_raw_features(self) -> None:
        means = ClassMeans.measured(outputs(torch.tensor([[2.0, 0], [0, 4]])), torch.tensor([7, 7]))
        assert means.classes.tolist() == [7]
        torch.testing.assert_close(means.raw, torch.tensor([[1.0, 2]]))
        torch.testing.assert_close(means.unit, torch.tensor([[0.5, 0.5]]))


def test_fidelity_of_a_drift_that_is_known() -> None:
    generator = torch.Generator().manual_seed(0)
    earlier = torch.randn(40, 6, generator=generator)
    shift = 2 * torch.randn(6, generator=generator)
    labels = torch.arange(40) % 8
    first = Memory().after("v1", TrainingOutputs(labels, outputs(earlier)))
    later = outputs(earlier + shift)
    means = first.after("v2", TrainingOutputs(labels, later, outputs(earlier))).means["v1"]
    itself = Exclusion(torch.arange(40))
    found = fidelity(later, F.normalize(earlier), means, labels, exclusion=itself)
    assert found.cosine == pytest.approx(1, abs=1e-5)
    assert found.cosine_untouched < 0.9
    real = evaluate(F.normalize(earlier), labels, F.normalize(earlier), labels, exclusion=itself).recall[1]
    assert found.recall_real == found.recall_virtual == pytest.approx(real)
    untouched = evaluate(F.normalize(earlier), labels, later.embeddings, labels, exclusion=itself).recall[1]
    assert found.recall_untouched == pytest.approx(untouched)


def test_reference_values_of_the_published_code(shared_data: Path) -> None:
    reference = {
        name: torch.from_numpy(value)
        for name, value in np.load(shared_data / "fixtures" / "reference_mutual.npz").items()
    }
    before, after = reference["before_unnormalised"], reference["after_unnormalised"]
    drift = estimate_drift(reference["prototypes"], F.normalize(before), before, after, "inner")
    torch.testing.assert_close(drift, reference["class_drift"], atol=1e-9, rtol=0)
    frozen = reference["frozen_unnormalised"]
    virtual = virtual_features(frozen, F.normalize(frozen), reference["updated_prototypes"], drift, "inner")
    torch.testing.assert_close(virtual, reference["virtual_features"], atol=1e-9, rtol=0)
