"""A linear map with an offset, by ridge regression, whole or of low rank."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from evergallery.adapters.adapter import Adapter, check_pairs
from evergallery.adapters.card import Direction
from evergallery.adapters.held_out import ENOUGH, best_of, folds, reciprocal_ranks
from evergallery.adapters.ridge import Ridge, RidgePaths, ridge_paths
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
        """D of the embeddings that the adapter maps."""
        return len(self.weight)

    @property
    def dimension(self) -> int:
        """D' of the embeddings that the adapter gives."""
        return len(self.offset)

    @property
    def rank(self) -> int | None:
        """R of the factors, ``None`` where W is whole."""
        return None if self.second is None else len(self.second)

    def map(self, embeddings: Tensor) -> Tensor:
        """Embeddings (N, D) to (N, D') of any length."""
        if self.second is None:
            return torch.addmm(self.offset, embeddings, self.weight)
        return torch.addmm(self.offset, embeddings @ self.weight, self.second)


def fit_linear(
    source: Tensor,
    target: Tensor,
    *,
    rank: int | None = None,
    ridge: float | None = None,
    direction: Direction = "query",
) -> LinearAdapter:
    """Ridge regression ``argmin_{W, b} |source W + b - target|² + ridge · N · |W|²``, over W of this rank at most.

    Without ``ridge`` the strength is chosen by the reciprocal rank at which queries that were held out find their partners,
    and W may be drawn towards the rotation that fits best in place of nothing.

    The best W of rank r is the best of any rank, projected on the r directions of the target that it explains best, in the
    norm of the penalised problem (reduced-rank ridge regression, Mukherjee and Zhu 2011; without ridge Izenman 1975).

    Args:
        source: (N, D) unit rows.
        target: (N, D') unit rows of the same images.
        rank: of W; ``None``, or one that is no restriction, gives W whole, and one that is draws it towards nothing.
        ridge: > 0, relative to one image, towards nothing; ``None`` to have it chosen.
        direction: whether queries are mapped, or stored vectors; only the choice depends on it.

    Raises:
        InputError: not two finite embeddings of each image, or a rank below 1.
    """
    check_pairs(source, target)
    if rank is not None and rank < 1:
        raise InputError(f"The rank of a linear adapter is {rank}: it must be at least 1.")
    paths, _ = ridge_paths(source, target)
    free = rank is None or rank >= min(source.shape[1], target.shape[1])
    chosen = _choose(source, target, paths, free, direction) if ridge is None else Ridge(ridge, rotation=False)
    weight = paths.weight(chosen)
    x_mean, y_mean = source.double().mean(0), target.double().mean(0)
    if rank is None or free:
        return _adapter(weight, x_mean, y_mean, source.dtype)
    x = source.double() - x_mean
    gram = x.T @ x + chosen.strength * len(x) * torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
    # Eigenvalues ascend: the last columns explain most.
    explained = torch.linalg.eigh(weight.T @ gram @ weight).eigenvectors[:, -rank:].flip(1)
    first, second = weight @ explained, explained.T
    offset = y_mean - x_mean @ first @ second
    return LinearAdapter(*(tensor.to(source.dtype) for tensor in (first, offset, second)))


def _adapter(weight: Tensor, x_mean: Tensor, y_mean: Tensor, dtype: torch.dtype) -> LinearAdapter:
    return LinearAdapter(weight.to(dtype), (y_mean - x_mean @ weight).to(dtype))


def _choose(source: Tensor, target: Tensor, paths: RidgePaths, rotations: bool, direction: Direction) -> Ridge:
    """The first of the ridges by which held-out queries find their partners best."""
    grid = [ridge for ridge in paths.grid() if rotations or not ridge.rotation]
    return grid[best_of([_ranks(source, target, part, grid, direction) for part in folds(len(source), ENOUGH)])]


def _ranks(
    source: Tensor, target: Tensor, part: tuple[Tensor, Tensor], grid: Sequence[Ridge], direction: Direction
) -> Tensor:
    """(G, M) reciprocal ranks by each ridge of the grid, fitted to some of the pairs, of others as queries."""
    fitted, held_out = part[0], part[1][:ENOUGH]
    paths, _ = ridge_paths(source[fitted], target[fitted])
    mean, coordinates = target[fitted].mean(0), paths.coordinates(source[held_out] if direction == "query" else source)

    def ranks(ridge: Ridge) -> Tensor:
        mapped = F.normalize(torch.addmm(mean, coordinates, paths.coefficients(ridge).to(source.dtype)))
        queries, stored = (mapped, target) if direction == "query" else (target[held_out], mapped)
        return reciprocal_ranks(queries, stored, held_out)

    return torch.stack([ranks(ridge) for ridge in grid])
