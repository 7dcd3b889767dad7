"""Maximum mean discrepancy between two sets of features (Gretton et al. 2012)."""

import torch
from torch import Tensor


def maximum_mean_discrepancy(first: Tensor, second: Tensor, bandwidth: float = 0.5) -> Tensor:
    """``MMD² = mean k(a, a') + mean k(b, b') - 2 mean k(a, b)``, ``k(a, b) = exp(-|a - b|² / 2σ²)``.

    The biased estimate: pairs of a row with itself count, so it is never negative and zero for equal sets. It compares
    distributions: which image gave which row does not matter.

    Args:
        first: (A, D).
        second: (B, D).
        bandwidth: σ > 0, in units of distance. The research code that was found for Chen et al. (2020) divides the
            squared distance by D twice, which is ``σ = D / √2``: for unit rows a kernel so wide that only the
            difference of the two means is left, and of that little.

    Returns:
        A scalar.
    """

    def kernel(rows: Tensor, others: Tensor) -> Tensor:
        squares = rows.square().sum(1)[:, None] + others.square().sum(1)[None] - 2 * rows @ others.T
        return torch.exp(-squares.clamp(min=0) / (2 * bandwidth**2)).mean()

    return kernel(first, first) + kernel(second, second) - 2 * kernel(first, second)
