"""Drift of a space between two generations, and the features an earlier one would have given (Liu et al. 2022)."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Weighting = Literal["inner", "clamped", "gaussian"]
SIGMA = 0.3
NOTHING = 1e-6

WEIGHTS: dict[Weighting, Callable[[Tensor, Tensor], Tensor]] = {
    "inner": lambda prototypes, embeddings: prototypes @ embeddings.T,
    "clamped": lambda prototypes, embeddings: (prototypes @ embeddings.T).clamp(min=0),
    "gaussian": lambda prototypes, embeddings: torch.exp(
        -torch.cdist(prototypes, embeddings).square() / (2 * SIGMA**2)
    ),
}
"""Weights (K, N) of N unit embeddings for K prototypes. ``inner`` is what the published code does: it may be negative and
sum to nearly nothing, which inflates the drift; ``clamped`` drops what points away; ``gaussian`` is SDC's kernel."""


def estimate_drift(
    prototypes: Tensor,
    embeddings: Tensor,
    before: Tensor,
    after: Tensor,
    weighting: Weighting = "clamped",
) -> Tensor:
    """Return how far each prototype moved between two generations, from the images of another task.

    ``δ_c = Σ_i w_ci (after_i - before_i) / Σ_i w_ci``, ``w_ci`` by the closeness of prototype c and image i in the
    space before (mutual distillation's step B; SDC, Yu et al. 2020, with the Gaussian weighting).

    Args:
        prototypes: (K, D), in the space before.
        embeddings: (N, D) unit embeddings of the images, in the space before.
        before: (N, D) their raw embeddings there.
        after: (N, D) their raw embeddings in the space after.
        weighting: of images.

    Returns:
        (K, D); a prototype that is close to no image moves like the average image.
    """
    return _weighted(WEIGHTS[weighting](prototypes, embeddings), after - before)


def virtual_features(
    features: Tensor,
    embeddings: Tensor,
    prototypes: Tensor,
    drift: Tensor,
    weighting: Weighting = "clamped",
) -> Tensor:
    """Unit embeddings that an earlier generation would have given (mutual distillation's step C).

    ``v(x) = normalise( z(x) - Σ_c w_c(x) δ_c / Σ_c w_c(x) )``.

    Args:
        features: (B, D) raw embeddings by the later generation.
        embeddings: (B, D) the same as unit rows.
        prototypes: (K, D) of the earlier generation's classes, in the later one's space.
        drift: (K, D) their drift from the earlier generation to the later one, accumulated over those in between.
        weighting: of prototypes.
    """
    return F.normalize(features - _weighted(WEIGHTS[weighting](embeddings, prototypes), drift))


def _weighted(weights: Tensor, values: Tensor) -> Tensor:
    """Weighted means (A, D) of values (N, D) by weights (A, N); the plain mean where weights come to nothing."""
    total = weights.sum(1, keepdim=True)
    nothing = total.abs() < NOTHING
    means = weights @ values / total.masked_fill(nothing, 1)
    return torch.where(nothing, values.mean(0), means)
