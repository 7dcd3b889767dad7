"""The neck of a frozen backbone in closed form, from second moments of features."""

import time
from collections.abc import Iterator
from functools import reduce
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from evergallery.data.features import FeatureSet
from evergallery.devices.computing import CPU, on
from evergallery.learning.run import Run
from evergallery.memory import Scatter, ScatterTrial
from evergallery.network import Network
from evergallery.network.features import feature_width
from evergallery.training import TrainingResult

TRIAL_CLASSES, TRIAL_IMAGES = 100, 20
"""The new images to choose by: so many classes at most, and images of each."""
AT_ONCE = 65_536
"""Images whose features are in memory at once."""


def solve(
    run: Run, network: Network, features: FeatureSet, scatter: Scatter
) -> tuple[TrainingResult, dict[str, Any]] | None:
    """Set the neck in closed form, and the head's rows to the class means that it makes; also what was chosen for it.

    Args:
        run: which solves.
        network: changed in place.
        features: of the images that are learned from, and of their views.
        scatter: of the lineage, these images among the others.

    Returns:
        ``None`` where the method would rather have the neck trained.
    """
    started = time.perf_counter()
    before, width = _scatter_before(run), feature_width(network.embedder)
    earlier = run.parent.card.training.get("solved", {}) if run.parent is not None else {}
    seed = run.settings.validation_seed
    solution = run.method.solve(scatter, lambda: trials_of(features, width, before, seed), earlier)
    if solution is None:
        return None
    linear = next(layer for layer in network.embedder.neck if isinstance(layer, nn.Linear))
    with torch.no_grad():
        linear.weight.copy_(solution.weight)
        linear.bias.copy_(solution.bias)
        if network.head.kind != "simplex":
            means = scatter.means.float() @ solution.weight.T + solution.bias
            network.head.weight[scatter.classes] = F.normalize(means)
    seen, seconds = len(features) * features.view_count, time.perf_counter() - started
    return TrainingResult(0, 0, seen, seconds, {}, [], precision="float64"), solution.chosen


def _scatter_before(run: Run) -> Scatter | None:
    """Scatter of the images that the lineage has learned from so far, where the new network goes on with its backbone."""
    return run.parent.memory().scatter if run.parent is not None and run.inherits else None


def lineage_scatter(run: Run, network: Network, features: FeatureSet, device: torch.device = CPU) -> Scatter:
    """Scatter of all images of the lineage, the new ones among them, which are measured on a device."""
    before, new = _scatter_before(run), scatter_of(features, feature_width(network.embedder), device)
    return new if before is None else before.joined(new)


def scatter_of(features: FeatureSet, width: int, device: torch.device = CPU) -> Scatter:
    """Scatter of the unit features of images and of all of their views, measured on a device; it lies on the processor.

    Args:
        features: of N images.
        width: W of the new network's backbone.
        device: that measures it.
    """
    labels = torch.from_numpy(features.labels)

    def parts() -> Iterator[Scatter]:
        for first in range(0, len(features), AT_ONCE):
            rows = np.arange(first, min(first + AT_ONCE, len(features)))
            for view in range(features.view_count):
                # The new network's backbone has the first columns.
                yield on(device, _measured, features.batch(rows, view)[:, :width], labels[rows])

    return reduce(Scatter.joined, parts())


def _measured(features: Tensor, labels: Tensor) -> Scatter:
    return Scatter.measured(F.normalize(features), labels)


def trials_of(features: FeatureSet, width: int, before: Scatter | None, seed: int) -> list[ScatterTrial]:
    """New images held out of what the lineage knows: each half of the classes, and each half of every class's images.

    Of many images a sample of whole classes is enough to choose a figure by.
    """
    random = np.random.default_rng(seed)
    classes = random.permutation(np.unique(features.labels))[:TRIAL_CLASSES]
    rows = np.concatenate([random.permutation(np.flatnonzero(features.labels == c))[:TRIAL_IMAGES] for c in classes])
    sample = features.select(rows)
    # Within a class, one image goes to either half in turn.
    turn = np.concatenate([np.arange((sample.labels == c).sum()) for c in classes])
    by_class = np.isin(sample.labels, classes[::2])
    trials = []
    for held_out in (by_class, ~by_class, turn % 2 == 0, turn % 2 == 1):
        if held_out.all() or not held_out.any():
            continue
        known = scatter_of(sample.select(np.flatnonzero(~held_out)), width)
        out = np.flatnonzero(held_out)
        unit = F.normalize(sample.batch(out)[:, :width])
        trials.append(
            ScatterTrial(known if before is None else before.joined(known), unit, torch.from_numpy(sample.labels[out]))
        )
    return trials
