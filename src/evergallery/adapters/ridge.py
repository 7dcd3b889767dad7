"""Ridge regression between two spaces, towards nothing or towards a rotation: every strength after one decomposition."""

from dataclasses import dataclass

import torch
from torch import Tensor

from evergallery.adapters.adapter import TINY

FACTORS = tuple(10 ** (step / 2) for step in range(-4, 4))
"""Strengths that are tried, in units of the mean variance of the source along the directions that its rows span."""


@dataclass(frozen=True)
class Ridge:
    """The strength with which a map is drawn, and its target.

    Attributes:
        strength: λ > 0, relative to one image.
        rotation: towards the rotation that fits best, in place of nothing.
    """

    strength: float
    rotation: bool


@dataclass(frozen=True)
class RidgePath:
    """``argmin_W |x W - y|² + λ N |W - P|²`` for any λ, where x and y are centred pairs and P is what W is drawn towards.

    ``W = P + V diag(1 / (s + λ)) (Vᵀ xᵀ y / N - s Vᵀ P)`` with ``xᵀ x / N = V diag(s) Vᵀ``. Directions that no pair shows stay
    as in P, so fewer pairs than dimensions will do.

    Attributes:
        prior: P (D, D').
        directions: V (D, r), r ≤ min(N, D).
        spread: s (r,).
        residual: (r, D').
    """

    prior: Tensor
    directions: Tensor
    spread: Tensor
    residual: Tensor

    def weight(self, strength: float) -> Tensor:
        """W (D, D') for λ > 0."""
        return self.prior + self.directions @ (self.residual / (self.spread + strength)[:, None])


@dataclass(frozen=True)
class RidgePaths:
    """Both paths of the same pairs.

    Attributes:
        free: towards nothing.
        turned: towards the rotation that fits the centred pairs best.
    """

    free: RidgePath
    turned: RidgePath

    def weight(self, ridge: Ridge) -> Tensor:
        """W (D, D')."""
        return (self.turned if ridge.rotation else self.free).weight(ridge.strength)

    def grid(self) -> tuple[Ridge, ...]:
        """Return what is worth trying, the firmest first."""
        spread = self.free.spread
        unit = max(float(spread.sum()) / max(len(spread), 1), TINY)
        return tuple(Ridge(factor * unit, rotation) for rotation in (True, False) for factor in reversed(FACTORS))


def ridge_paths(source: Tensor, target: Tensor) -> RidgePaths:
    """Decompose N pairs once, in float64.

    Args:
        source: (N, D).
        target: (N, D') of the same images.
    """
    x, y = source.double(), target.double()
    x, y = x - x.mean(0), y - y.mean(0)
    narrow = len(x) < x.shape[1]
    # The smaller product has the same spectrum.
    spread, vectors = torch.linalg.eigh((x @ x.T if narrow else x.T @ x) / len(x))
    kept = spread > spread[-1] * max(x.shape) * torch.finfo(x.dtype).eps
    spread, vectors = spread[kept], vectors[:, kept]
    directions = x.T @ vectors / (spread * len(x)).sqrt() if narrow else vectors
    cross = directions.T @ x.T @ y / len(x)
    nothing = x.new_zeros(x.shape[1], y.shape[1])
    # The rotation turns what the pairs span, and drops the rest, of which they say nothing.
    left, _, right = torch.linalg.svd((x @ directions).T @ y, full_matrices=False)
    rotation = directions @ left @ right
    return RidgePaths(
        RidgePath(nothing, directions, spread, cross),
        RidgePath(rotation, directions, spread, cross - spread[:, None] * (directions.T @ rotation)),
    )
