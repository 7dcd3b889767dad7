"""Semantic drift compensation of stored vectors (SDC, Yu et al., CVPR 2020, arXiv 2004.00440)."""

import torch
from torch import Tensor

from evergallery.adapters.adapter import Adapter, check_pairs
from evergallery.errors import InputError
from evergallery.memory import estimate_drift

ROWS = 8_192


class DriftAdapter(Adapter):
    """``g + Σ_i w_i (target_i - source_i) / Σ_i w_i`` over the pairs, which it keeps.

    Args:
        source: (N, D) unit rows.
        target: (N, D) unit rows of the same images.
    """

    kind = "drift"
    source: Tensor
    target: Tensor

    def __init__(self, source: Tensor, target: Tensor) -> None:
        super().__init__(source=source, target=target)

    @property
    def source_dimension(self) -> int:
        """D of the embeddings that the adapter maps."""
        return self.source.shape[1]

    @property
    def dimension(self) -> int:
        """D of the embeddings that the adapter gives."""
        return self.target.shape[1]

    def map(self, embeddings: Tensor) -> Tensor:
        """Embeddings (N, D) to (N, D) of any length."""
        parts = torch.split(embeddings, ROWS)
        return torch.cat(
            [part + estimate_drift(part, self.source, self.source, self.target, "gaussian") for part in parts]
        )


def fit_drift(source: Tensor, target: Tensor) -> DriftAdapter:
    """Each embedding moved as the images near it have moved.

    ``g ← g + Σ_i w_i (target_i - source_i) / Σ_i w_i`` with the Gaussian kernel ``w_i = exp(-|source_i - g|² / 2σ²)``,
    σ = 0.3. SDC moves class means so; here every vector is moved, and no image is read. A vector with no image near it
    moves by the mean drift. Each vector is compared with each pair, so it is for stored vectors, not for queries.

    Args:
        source: (N, D) unit rows.
        target: (N, D) unit rows of the same images.

    Raises:
        InputError: not two finite embeddings of each image, or of different widths.
    """
    check_pairs(source, target)
    if source.shape[1] != target.shape[1]:
        raise InputError(
            f"Drift is a difference of coordinates, and the generations have {source.shape[1]} and {target.shape[1]} "
            f"dimensions: use the adapter procrustes, linear or mlp between dimensions."
        )
    return DriftAdapter(source.clone(), target.clone())
