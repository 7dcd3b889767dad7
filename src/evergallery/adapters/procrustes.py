"""Orthogonal Procrustes: the rotation that brings one space closest to another (Schönemann 1966)."""

import torch
from torch import Tensor
from torch.nn import functional as F

from evergallery.adapters.adapter import Adapter, check_pairs
from evergallery.losses import fit_width


def procrustes_rotation(new: Tensor, old: Tensor) -> Tensor:
    """``R = argmin_{RᵀR = I} |new R - old|²``, in closed form: ``R = P Qᵀ`` with ``newᵀ old = P S Qᵀ``.

    A narrower space is padded with zeros first, so between widths the columns are orthonormal, or the rows.

    Args:
        new: (N, D).
        old: (N, D') of the same images.

    Returns:
        (D, D').

    Raises:
        InputError: not two embeddings of each image.
    """
    check_pairs(new, old)
    left, _, right = torch.linalg.svd(new.double().T @ old.double(), full_matrices=False)
    rotation: Tensor = left @ right
    return rotation.to(new.dtype)


def fit_procrustes(new: Tensor, old: Tensor) -> Adapter:
    """New embeddings to the old space by a rotation: no distance among them changes, unless the old space is narrower.

    Args:
        new: (N, D) unit rows.
        old: (N, D') unit rows of the same images.

    Raises:
        InputError: not two embeddings of each image.
    """
    rotation = procrustes_rotation(new, old)
    return lambda embeddings: F.normalize(fit_width(embeddings, len(rotation)) @ rotation)
