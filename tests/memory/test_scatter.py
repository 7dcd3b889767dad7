"""Second moments against a plain computation, that joining them is exact, and what the map made of them does."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from evergallery.memory import Memory, Scatter, ScatterTrial, best_emphasis, discriminant_whitening, emphasis_ranks
from evergallery.memory.scatter import EMPHASES, discriminant_metric
from evergallery.methods import Evergreen


def clouds(classes: int, each: int, width: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Unit features whose classes all spread along the first axes, and differ along the others."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(classes, width)) * ([0.05] * 4 + [1.0] * (width - 4))
    spread = random.normal(size=(classes * each, width)) * ([3.0] * 4 + [0.25] * (width - 4))
    labels = np.repeat(np.arange(classes), each)
    return F.normalize(torch.from_numpy(centres[labels] + spread).float()), torch.from_numpy(labels)


def recall(queries: torch.Tensor, gallery: torch.Tensor, labels: torch.Tensor) -> float:
    scores = F.normalize(queries) @ F.normalize(gallery).T
    scores.fill_diagonal_(-torch.inf)
    return float((labels[scores.argmax(1)] == labels).double().mean())


def test_a_scatter_is_that_of_numpy() -> None:
    features, labels = clouds(5, 7, 6)
    scatter = Scatter.measured(features, labels)
    rows = features.double().numpy()
    within = sum(7 * np.cov(rows[labels.numpy() == label].T, bias=True) for label in range(5))
    np.testing.assert_allclose(scatter.within.numpy(), within, atol=1e-5)
    np.testing.assert_allclose(scatter.means[3].numpy(), rows[labels.numpy() == 3].mean(0), atol=1e-12)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=2, max_size=40), st.integers(0, 9))
def test_joining_is_exact_wherever_the_images_are_cut(images: list[tuple[int, bool]], seed: int) -> None:
    """Also where a class lies in both parts, and where one part is a single image."""
    labels = torch.tensor([label for label, _ in images])
    features = torch.from_numpy(np.random.default_rng(seed).normal(size=(len(images), 5)))
    first = torch.tensor([part for _, part in images])
    if first.all() or not first.any():
        first[0] = ~first[0]
    joined = Scatter.measured(features[first], labels[first]).joined(Scatter.measured(features[~first], labels[~first]))
    whole = Scatter.measured(features, labels)
    assert joined.classes.tolist() == whole.classes.tolist()
    assert joined.counts.tolist() == whole.counts.tolist()
    torch.testing.assert_close(joined.means, whole.means)
    torch.testing.assert_close(joined.within, whole.within, rtol=1e-9, atol=1e-9)


def test_the_order_of_tasks_does_not_matter() -> None:
    features, labels = clouds(6, 8, 12)
    parts = [Scatter.measured(features[labels // 2 == task], labels[labels // 2 == task]) for task in range(3)]
    there = discriminant_whitening(parts[0].joined(parts[1]).joined(parts[2]), 0.2, 3.0)
    back = discriminant_whitening(parts[2].joined(parts[0]).joined(parts[1]), 0.2, 3.0)
    torch.testing.assert_close(there, back, rtol=1e-4, atol=1e-5)


def test_what_varies_within_classes_is_shrunk_and_unseen_classes_gain_too() -> None:
    features, labels = clouds(40, 12, 24)
    known = labels < 20
    weight, bias = discriminant_whitening(Scatter.measured(features[known], labels[known]), 0.2, 3.0)
    mapped = features @ weight.T + bias
    before = recall(features[~known], features[~known], labels[~known])
    assert recall(mapped[~known], mapped[~known], labels[~known]) > before + 0.1
    # The old vectors stay as they are, and queries that are mapped find more in them than before.
    assert recall(mapped[~known], features[~known], labels[~known]) > before + 0.05


def test_it_is_symmetric_positive_and_the_identity_without_variance() -> None:
    features, labels = clouds(6, 8, 12)
    weight, _ = discriminant_whitening(Scatter.measured(features, labels), 0.2, 3.0)
    torch.testing.assert_close(weight, weight.T, rtol=1e-5, atol=1e-5)
    assert torch.linalg.eigvalsh(weight.double()).min() > 0
    single = Scatter.measured(features[::8], labels[::8])
    weight, bias = discriminant_whitening(single, 0.2, 0.0)
    torch.testing.assert_close(weight, torch.eye(12))
    torch.testing.assert_close(bias, -features[::8].mean(0))


def test_one_class_and_one_image() -> None:
    features, labels = clouds(1, 1, 8)
    weight, bias = discriminant_whitening(Scatter.measured(features, labels), 0.2, 3.0)
    assert weight.isfinite().all()
    assert bias.isfinite().all()


def test_a_memory_keeps_it_in_its_file() -> None:
    features, labels = clouds(3, 4, 6)
    scatter = Scatter.measured(features, labels)
    back = Memory.from_tensors(Memory(scatter=scatter).tensors(), ()).scatter
    assert back is not None
    torch.testing.assert_close(back.within, scatter.within, rtol=1e-5, atol=1e-6)
    assert back.classes.tolist() == [0, 1, 2]
    assert Memory.from_tensors({}, ()).scatter is None


def test_the_map_is_the_root_of_the_metric() -> None:
    features, labels = clouds(6, 8, 12)
    scatter = Scatter.measured(features, labels)
    weight, _ = discriminant_whitening(scatter, 0.2, 3.0)
    metric = discriminant_metric(scatter, 0.2, 3.0)
    torch.testing.assert_close(weight.double() @ weight.double(), metric, rtol=1e-4, atol=1e-4)
    covariance = scatter.within / (48 - 6)
    plain = torch.linalg.inv(torch.eye(12) + covariance / (0.2 * covariance.trace() / 12))
    means = scatter.means - scatter.means.mean(0)
    length = torch.stack([mean @ plain @ mean for mean in means]).mean()
    wanted = plain + 3 / length * sum(torch.outer(plain @ mean, plain @ mean) for mean in means)
    torch.testing.assert_close(metric, wanted)


def held_out(useful: bool, seed: int) -> ScatterTrial:
    """Two known classes differ along the first axis, which is all or nothing of what the held-out ones differ in."""
    random = np.random.default_rng(seed)
    axis = torch.zeros(8)
    axis[0] = 1.0
    known = torch.from_numpy(random.normal(size=(40, 8))).float() * 0.5
    known[:20] += axis
    known[20:] -= axis
    labels = torch.arange(200) % 2
    held = torch.from_numpy(random.normal(size=(200, 8))).float() * 0.5
    held += (2 * labels[:, None] - 1) * (axis if useful else torch.roll(axis, 3)) * 0.6
    if not useful:
        held[:, 0] *= 8
    return ScatterTrial(Scatter.measured(known, torch.arange(40) // 20), held, labels)


def test_the_emphasis_follows_what_is_held_out() -> None:
    """Where the means of the known classes tell the held-out images apart it is large, where they mislead there is none."""
    helpful, misleading = ([held_out(useful, seed) for seed in range(4)] for useful in (True, False))
    assert best_emphasis(emphasis_ranks(helpful, 10.0)) >= 1
    assert best_emphasis(emphasis_ranks(misleading, 10.0)) == 0
    assert best_emphasis(emphasis_ranks([], 0.2)) == EMPHASES[0]


def test_the_trials_of_all_tasks_count_alike() -> None:
    method = Evergreen(shrinkage=10.0)
    helpful, misleading = ([held_out(useful, seed) for seed in range(4)] for useful in (True, False))
    scatter = helpful[0].scatter
    first = method.solve(scatter, lambda: helpful, {})
    second = method.solve(scatter, lambda: misleading, first.chosen)
    third = method.solve(scatter, lambda: misleading, second.chosen)
    alone = [emphasis_ranks(trials, 10.0) for trials in (helpful, misleading)]
    for solution, shares in ((first, (1, 0)), (second, (1 / 2, 1 / 2)), (third, (1 / 3, 2 / 3))):
        wanted = shares[0] * alone[0] + shares[1] * alone[1]
        torch.testing.assert_close(torch.tensor(solution.chosen["ranks"]).double(), wanted, rtol=0, atol=1e-5)
        assert solution.chosen["emphasis"] == best_emphasis(wanted)
    given = Evergreen(emphasis=1.5).solve(scatter, lambda: pytest.fail("nothing is to be chosen"), {})
    assert given.chosen == {"emphasis": 1.5}
