"""Prototypes: the mean embedding of each class."""

import torch
from torch import Tensor
from torch.nn import functional as F


def class_means(features: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Mean of each class's rows (K, D); zero for a class without one.

    Args:
        features: (N, D).
        labels: (N,) in 0 … K - 1.
        classes: K.
    """
    sums = torch.zeros(classes, features.shape[1], dtype=features.dtype, device=features.device)
    sums.index_add_(0, labels, features)
    counts = torch.bincount(labels, minlength=classes).to(features.dtype)
    return sums / counts.clamp(min=1)[:, None]


def robust_class_means(features: Tensor, labels: Tensor, classes: int, keep: float = 0.7) -> Tensor:
    """Mean of the ``keep`` share of each class's rows that lie nearest to their mean by cosine (K, D).

    An old space has outliers, which an image's class should not be drawn to (the motivation of Dual-Tuning; its own
    remedy is not published, this trimming is ours).

    Args:
        features: (N, D).
        labels: (N,).
        classes: K.
        keep: share in (0, 1]; at least one row of each class is kept.
    """
    means = class_means(F.normalize(features), labels, classes)
    closeness = F.cosine_similarity(features, means[labels])
    # Rank of each row within its class, nearest first.
    order = torch.argsort(closeness, descending=True, stable=True)
    order = order[torch.argsort(labels[order], stable=True)]
    counts = torch.bincount(labels, minlength=classes)
    first = counts.cumsum(0) - counts
    rank = torch.arange(len(labels), device=labels.device) - first[labels[order]]
    kept = order[rank < (counts[labels[order]] * keep).ceil()]
    return class_means(features[kept], labels[kept], classes)
