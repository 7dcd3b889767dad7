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
class RidgePaths:
    """``argmin_W |x W - y|² + λ N |W - P|²`` for any λ, where x and y are centred pairs and P is nothing, or a rotation.

    ``W = V diag(1 / (s + λ)) (Vᵀ xᵀ y / N + λ T)`` with ``xᵀ x / N = V diag(s) Vᵀ`` and ``P = V T``. So a strength costs a
    division of what is known by then. What the pairs span is all that W keeps, so fewer pairs than dimensions will do.

    Attributes:
        mean: (D,) of the source.
        directions: V (D, r), r ≤ min(N - 1, D).
        spread: s (r,).
        cross: Vᵀ xᵀ y / N (r, D').
        turn: T (r, D') of the rotation that fits the centred pairs best.
    """

    mean: Tensor
    directions: Tensor
    spread: Tensor
    cross: Tensor
    turn: Tensor

    @property
    def rotation(self) -> Tensor:
        """P (D, D'), where it is not nothing."""
        return self.directions @ self.turn

    def coordinates(self, rows: Tensor) -> Tensor:
        """``(rows - mean) V`` (M, r) of rows (M, D): times the coefficients they are mapped, with few multiplications."""
        return ((rows.double() - self.mean) @ self.directions).to(rows.dtype)

    def coefficients(self, ridge: Ridge) -> Tensor:
        """``Vᵀ W`` (r, D')."""
        drawn = self.cross + ridge.strength * self.turn if ridge.rotation else self.cross
        return drawn / (self.spread + ridge.strength)[:, None]

    def weight(self, ridge: Ridge) -> Tensor:
        """W (D, D')."""
        return self.directions @ self.coefficients(ridge)

    def grid(self) -> tuple[Ridge, ...]:
        """Return what is worth trying, the firmest first."""
        unit = max(float(self.spread.sum()) / max(len(self.spread), 1), TINY)
        return tuple(Ridge(factor * unit, rotation) for rotation in (True, False) for factor in reversed(FACTORS))


def ridge_paths(source: Tensor, target: Tensor) -> tuple[RidgePaths, RidgePaths]:
    """Decompose N pairs once, in float64, for both ways between them.

    Args:
        source: (N, D).
        target: (N, D') of the same images.

    Returns:
        From source to target, and from target to source.
    """
    x, y = _Span.of(source), _Span.of(target)
    core = x.coordinates.T @ y.coordinates
    # The rotation turns what the pairs span, and drops the rest, of which they say nothing.
    left, _, right = torch.linalg.svd(core, full_matrices=False)
    core, turn = core / len(source), left @ right
    return (
        RidgePaths(x.mean, x.directions, x.spread, core @ y.directions.T, turn @ y.directions.T),
        RidgePaths(y.mean, y.directions, y.spread, core.T @ x.directions.T, turn.T @ x.directions.T),
    )


@dataclass(frozen=True)
class _Span:
    """The span of rows x (N, D) around their mean: ``x = mean + coordinates Vᵀ``, ``coordinatesᵀ coordinates = N diag(s)``.

    Attributes:
        mean: (D,).
        directions: V (D, r), orthonormal columns.
        spread: s (r,), ascending.
        coordinates: (N, r).
    """

    mean: Tensor
    directions: Tensor
    spread: Tensor
    coordinates: Tensor

    @classmethod
    def of(cls, rows: Tensor) -> "_Span":
        x = rows.double()
        mean = x.mean(0)
        x = x - mean
        narrow = len(x) < x.shape[1]
        # The smaller product has the same spectrum.
        spread, vectors = torch.linalg.eigh((x @ x.T if narrow else x.T @ x) / len(x))
        kept = spread > spread[-1] * max(x.shape) * torch.finfo(x.dtype).eps
        spread, vectors = spread[kept], vectors[:, kept]
        if not narrow:
            return cls(mean, vectors, spread, x @ vectors)
        lengths = (spread * len(x)).sqrt()
        return cls(mean, x.T @ vectors / lengths, spread, vectors * lengths)
