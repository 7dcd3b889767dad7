"""Features of one width among those of another."""

from torch import Tensor
from torch.nn import functional as F


def fit_width(features: Tensor, width: int) -> Tensor:
    """The first ``width`` columns, or all of them followed by zeros (as fast-reid's Dual-Tuning and BCT do).

    Args:
        features: (B, D).
        width: ≥ 1.

    Returns:
        (B, width).
    """
    return features[:, :width] if width <= features.shape[1] else F.pad(features, (0, width - features.shape[1]))
