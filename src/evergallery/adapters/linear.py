"""A linear map with an offset, by ridge regression, whole or of low rank."""

import torch
from torch import Tensor

from evergallery.adapters.adapter import Adapter, check_pairs
from evergallery.errors import InputError


class LinearAdapter(Adapter):
    """``x W + b``, where W may be a product of two thin factors.

    Args:
        weight: (D, D'), or the first factor (D, r).
        offset: (D',).
        second: the second factor (r, D'), or ``None``.
    """

    kind = "linear"
    weight: Tensor
    offset: Tensor
    second: Tensor | None

    def __init__(self, weight: Tensor, offset: Tensor, second: Tensor | None = None) -> None:
        super().__init__(weight=weight, offset=offset, second=second)

    @property
    def source_dimension(self) -> int:
        """D."""
        return len(self.weight)

    @property
    def dimension(self) -> int:
        """D'."""
        return len(self.offset)

    @property
    def rank(self) -> int | None:
        """R of the factors, ``None`` where W is whole."""
        return None if self.second is None else len(self.second)

    def map(self, embeddings: Tensor) -> Tensor:
        """(N, D) to (N, D') of any length."""
        if self.second is None:
            return torch.addmm(self.offset, embeddings, self.weight)
        return torch.addmm(self.offset, embeddings @ self.weight, self.second)


def fit_linear(source: Tensor, target: Tensor, *, rank: int | None = None, ridge: float = 1e-3) -> LinearAdapter:
    """Ridge regression ``argmin_{W, b} |source W + b - target|² + ridge · N · |W|²``, over W of this rank at most.

    The best W of rank r is the best of any rank, projected on the r directions of the target that it explains best, in the
    norm of the penalised problem (reduced-rank ridge regression, Mukherjee and Zhu 2011; without ridge Izenman 1975).

    Args:
        source: (N, D) unit rows.
        target: (N, D') unit rows of the same images.
        rank: of W; ``None``, or one that is no restriction, gives W whole.
        ridge: > 0, relative to one image.

    Raises:
        InputError: not two finite embeddings of each image, or a rank below 1.
    """
    check_pairs(source, target)
    if rank is not None and rank < 1:
        raise InputError(f"The rank of a linear adapter is {rank}: it must be at least 1.")
    x, y = source.double(), target.double()
    x_mean, y_mean = x.mean(0), y.mean(0)
    x, y = x - x_mean, y - y_mean
    gram = x.T @ x + ridge * len(x) * torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
    weight = torch.linalg.solve(gram, x.T @ y)
    if rank is None or rank >= min(weight.shape):
        offset = y_mean - x_mean @ weight
        return LinearAdapter(weight.to(source.dtype), offset.to(source.dtype))
    # Eigenvalues ascend: the last columns explain most.
    explained = torch.linalg.eigh(weight.T @ gram @ weight).eigenvectors[:, -rank:].flip(1)
    first, second = weight @ explained, explained.T
    offset = y_mean - x_mean @ first @ second
    return LinearAdapter(*(one.to(source.dtype) for one in (first, offset, second)))
