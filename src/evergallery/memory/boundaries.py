"""The distances of a class's images from its centre."""

import torch
from torch import Tensor
from torch.nn import functional as F


def smallest_cosines(features: Tensor, labels: Tensor, centres: Tensor) -> Tensor:
    """The least cosine of a class's features with its centre (K,); 1 for a class without images.

    Args:
        features: (N, D), of any norm.
        labels: (N,), rows of ``centres``.
        centres: (K, D), of any norm.
    """
    cosines = F.cosine_similarity(features, centres[labels])
    least: Tensor = centres.new_ones(len(centres)).scatter_reduce(0, labels, cosines, "amin")
    return least


def largest_distances(embeddings: Tensor, labels: Tensor, centres: Tensor) -> Tensor:
    """The largest distance of a class's embeddings to its centre, without outliers (K,); 0 for a class without images.

    Outliers are those farther than the third quartile by 1.5 interquartile ranges (Tukey's fence).

    Args:
        embeddings: (N, D).
        labels: (N,), rows of ``centres``.
        centres: (K, D).
    """
    # Quantiles want float32 at least.
    precision = torch.promote_types(embeddings.dtype, torch.float32)
    distances = torch.linalg.vector_norm((embeddings - centres[labels]).to(precision), dim=1)
    radii: Tensor = distances.new_zeros(len(centres), dtype=embeddings.dtype)
    for label in torch.unique(labels):
        own = distances[labels == label]
        first, third = torch.quantile(own, 0.25), torch.quantile(own, 0.75)
        radii[label] = own[own <= third + 1.5 * (third - first)].max().to(embeddings.dtype)
    return radii
