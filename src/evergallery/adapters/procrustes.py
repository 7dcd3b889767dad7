"""Orthogonal Procrustes: the rotation that brings one space closest to another (Schönemann 1966)."""

import torch
from torch import Tensor

from evergallery.adapters.adapter import Adapter, check_pairs


class ProcrustesAdapter(Adapter):
    """``x R`` with orthonormal columns, or rows where D < D'.

    Args:
        rotation: (D, D').
    """

    kind = "procrustes"
    rotation: Tensor

    def __init__(self, rotation: Tensor) -> None:
        super().__init__(rotation=rotation)

    @property
    def source_dimension(self) -> int:
        """D of the embeddings that the adapter maps."""
        return self.rotation.shape[0]

    @property
    def dimension(self) -> int:
        """D' of the embeddings that the adapter gives."""
        return self.rotation.shape[1]

    def map(self, embeddings: Tensor) -> Tensor:
        """Embeddings (N, D) to (N, D') of any length."""
        return embeddings @ self.rotation


def procrustes_rotation(source: Tensor, target: Tensor) -> Tensor:
    """``R = argmax tr(Rᵀ sourceᵀ target)``, in closed form: ``R = P Qᵀ`` with ``sourceᵀ target = P S Qᵀ``.

    That is ``argmin_{RᵀR = I} |source R - target|²`` of spaces of one width (Schönemann 1966).

    A narrower space is padded with zeros first, so between widths the columns are orthonormal, or the rows. Of directions
    that no pair shows, any will do: those in which the pairs were first described are taken, so that spaces which agree
    keep them as they are.

    Args:
        source: (N, D).
        target: (N, D') of the same images.

    Returns:
        (D, D').

    Raises:
        InputError: not two finite embeddings of each image.
    """
    check_pairs(source, target)
    x, y = source.double(), target.double()
    width = min(x.shape[1], y.shape[1])
    if len(x) >= width:
        left, _, right = torch.linalg.svd(x.T @ y, full_matrices=False)
        rotation: Tensor = left @ right
        return rotation.to(source.dtype)
    # What few pairs span is turned, by a small matrix, and what they do not is paired as it comes.
    (q, r), (p, s) = (torch.linalg.qr(rows.T, mode="complete") for rows in (x, y))
    left, _, right = torch.linalg.svd(r[: len(x)] @ s[: len(x)].T)
    turn = torch.block_diag(left @ right, torch.eye(width - len(x), dtype=x.dtype, device=x.device))
    rotation = q[:, :width] @ turn @ p[:, :width].T
    return rotation.to(source.dtype)


def fit_procrustes(source: Tensor, target: Tensor) -> ProcrustesAdapter:
    """A rotation: no distance among the embeddings changes, unless the target is narrower.

    Args:
        source: (N, D) unit rows.
        target: (N, D') unit rows of the same images.

    Raises:
        InputError: not two finite embeddings of each image.
    """
    return ProcrustesAdapter(procrustes_rotation(source, target))
