"""New features inside the boundary that the old ones of their class had."""

import torch
from torch import Tensor
from torch.nn import functional as F


def cosine_boundary(features: Tensor, labels: Tensor, centres: Tensor, boundaries: Tensor) -> Tensor:
    """``mean_i max(0, b_y - cos(f_i, c_y))`` (LCE, Meng et al., ICCV 2021).

    Args:
        features: f (B, D), of any norm.
        labels: y (B,), rows of ``centres``.
        centres: c (K, D), of any norm.
        boundaries: b (K,): the least cosine of an old feature of the class with its centre.

    Returns:
        A scalar.
    """
    return (boundaries[labels] - F.cosine_similarity(features, centres[labels])).clamp(min=0).mean()


def elastic_boundary(
    features: Tensor,
    labels: Tensor,
    centres: Tensor,
    radii: Tensor,
    elasticity: Tensor,
    exists: Tensor,
    threshold: float = 1.0,
) -> Tensor:
    """Mean over the images outside of their boundary of ``|u_i - c_y| - r'_y`` (AdvBCT, Pan et al., CVPR 2023).

    ``r'_y = r_y + (t - r_y) sigmoid(w_y)``: published as two cases, a radius below the threshold t grows towards it and
    one above it shrinks, which is this one line.

    Args:
        features: (B, D), of any norm; u are their unit rows.
        labels: y (B,), rows of ``centres``.
        centres: c (K, D), means of old unit rows.
        radii: r (K,), distances of old unit rows to their centre.
        elasticity: w (K,), learnable.
        exists: (K,) bool, which classes have a boundary; images of others are skipped.
        threshold: t.

    Returns:
        A scalar; zero, with a graph, where no image lies outside.
    """
    distances = torch.linalg.vector_norm(F.normalize(features) - centres[labels], dim=1)
    elastic = torch.lerp(radii, torch.full_like(radii, threshold), elasticity.sigmoid())[labels]
    outside = (distances > elastic) & exists[labels]
    mean: Tensor = (distances - elastic).where(outside, 0).sum() / outside.sum().clamp(min=1)
    return mean
