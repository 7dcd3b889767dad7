"""Semantic drift compensation of stored vectors (SDC, Yu et al., CVPR 2020, arXiv 2004.00440)."""

import torch
from torch import Tensor
from torch.nn import functional as F

from evergallery.adapters.adapter import Adapter, check_pairs
from evergallery.errors import InputError
from evergallery.memory import estimate_drift

ROWS = 8_192


def fit_drift(new: Tensor, old: Tensor) -> Adapter:
    """Stored embeddings to the new space, each moved as the images near it have moved.

    ``g ← g + Σ_i w_i (new_i - old_i) / Σ_i w_i`` with the Gaussian kernel ``w_i = exp(-|old_i - g|² / 2σ²)``, σ = 0.3.
    SDC moves class means so; here every stored vector is moved, and no image is read. A vector with no image near it
    moves by the mean drift.

    Args:
        new: (N, D) unit rows.
        old: (N, D) unit rows of the same images.

    Raises:
        InputError: not two embeddings of each image, or of different widths.
    """
    check_pairs(new, old)
    if new.shape[1] != old.shape[1]:
        raise InputError(
            f"Drift is a difference of coordinates, and the generations have {new.shape[1]} and {old.shape[1]} "
            f"dimensions: use the adapter procrustes, linear or mlp between dimensions."
        )

    def compensate(stored: Tensor) -> Tensor:
        moved = [part + estimate_drift(part, old, old, new, "gaussian") for part in torch.split(stored, ROWS)]
        return F.normalize(torch.cat(moved)) if moved else stored

    return compensate
