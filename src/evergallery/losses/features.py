"""Distillation of features: each image stays where the parent put it."""

from typing import Literal

from torch import Tensor
from torch.nn import functional as F

FeatureDistance = Literal["cosine", "squared"]


def feature_distillation(new: Tensor, old: Tensor, distance: FeatureDistance = "cosine") -> Tensor:
    """Mean distance of features to the parent's of the same images.

    - ``cosine``: ``mean_i (1 - cos(z_i, z'_i))`` (CL2R, Biondi et al. 2023), half the squared distance of unit rows.
    - ``squared``: ``mean_i |z_i - z'_i|² / 2`` of raw features, which holds their length too (called LwF in the code of
      SDC, Yu et al. 2020, there summed over the batch).

    Args:
        new: z (B, D), of any norm.
        old: z' (B, D), of any norm.
        distance: see above.

    Returns:
        A scalar.
    """
    if distance == "cosine":
        return (1 - F.cosine_similarity(new, old)).mean()
    return (new - old).square().sum(1).mean() / 2


def unit_mean_squared_error(new: Tensor, old: Tensor) -> Tensor:
    """``mean_{i,d} (u_id - u'_id)²`` of unit rows: the cosine distance times 2 / D (OpenCompatible).

    Args:
        new: (B, D), of any norm; u are its unit rows.
        old: (B, D), of any norm; u' are its unit rows.

    Returns:
        A scalar.
    """
    return F.mse_loss(F.normalize(new), F.normalize(old))
