"""Features against class centres of another space."""

import torch
from torch import Tensor
from torch.nn import functional as F


def centre_triplet(features: Tensor, labels: Tensor, centres: Tensor, present: Tensor, margin: float = 0.3) -> Tensor:
    """``mean_i max(0, cos(f_i, c_n) - cos(f_i, c_y) + margin)``, c_n the most similar centre of another class.

    Args:
        features: (B, D), of any norm.
        labels: (B,) rows of ``centres``.
        centres: (K, D), of any norm.
        present: (K,) bool, which centres exist; those of all labels do.
        margin: in units of cosine similarity.

    Returns:
        A scalar; zero, with a graph, where there is no other class.
    """
    cosines = F.normalize(features) @ F.normalize(centres).T
    own = F.one_hot(labels, len(centres)).bool()
    other = cosines.masked_fill(own | ~present, -torch.inf).amax(1)
    return (other - cosines[own] + margin).clamp(min=0).mean()
