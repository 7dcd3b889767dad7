"""Second moments of features: all that a lineage keeps of its images where their backbone is frozen, and the metric in them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from evergallery.memory.prototypes import class_means

PREFIX = "scatter/"
CHUNK = 8192
"""Rows that are centred at once."""


@dataclass(frozen=True)
class Scatter:
    """Class means and pooled within-class scatter of features whose backbone never changes.

    Nothing in it drifts, and joining two is exact: the scatter of the images of two tasks is that of all their images.

    Attributes:
        classes: (K,) rows of the head, ascending.
        counts: (K,) feature vectors of each class.
        means: (K, W) float64.
        within: (W, W) float64, ``Σ_i (x_i - m_class(i)) (x_i - m_class(i))ᵀ``.
    """

    classes: Tensor
    counts: Tensor
    means: Tensor
    within: Tensor

    @classmethod
    def measured(cls, features: Tensor, labels: Tensor) -> "Scatter":
        """Of features (N, W) and their labels (N,)."""
        classes, index = torch.unique(labels, return_inverse=True)
        means = class_means(features.double(), index, len(classes))
        within = torch.zeros(features.shape[1], features.shape[1], dtype=torch.float64)
        for start in range(0, len(features), CHUNK):
            rows, of = features[start : start + CHUNK], index[start : start + CHUNK]
            centred = rows.double() - means[of]
            within += centred.T @ centred
        return cls(classes, torch.bincount(index), means, within)

    def joined(self, other: "Scatter") -> "Scatter":
        """Of the images of both, exactly (Chan et al. 1979, equation 2.1); a class may be in both."""
        classes = torch.unique(torch.cat([self.classes, other.classes]))
        counts = torch.zeros(2, len(classes), dtype=torch.int64)
        means = torch.zeros(2, len(classes), self.means.shape[1], dtype=torch.float64)
        for index, one in enumerate((self, other)):
            rows = torch.searchsorted(classes, one.classes)
            counts[index, rows], means[index, rows] = one.counts, one.means
        total = counts.sum(0)
        shares = counts.double() / total
        apart = (means[0] - means[1]) * (shares.prod(0) * total).sqrt()[:, None]
        mean = (means * shares[:, :, None]).sum(0)
        return Scatter(classes, total, mean, self.within + other.within + apart.T @ apart)

    def tensors(self) -> dict[str, Tensor]:
        """For a file."""
        return {
            f"{PREFIX}classes": self.classes,
            f"{PREFIX}counts": self.counts,
            f"{PREFIX}means": self.means.float(),
            f"{PREFIX}within": self.within.float(),
        }

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> "Scatter | None":
        """Back from a file; ``None`` where it has none."""
        if f"{PREFIX}within" not in tensors:
            return None
        classes, counts, means, within = (tensors[PREFIX + name] for name in ("classes", "counts", "means", "within"))
        return cls(classes, counts, means.double(), within.double())


def discriminant_whitening(scatter: Scatter, shrinkage: float, emphasis: float) -> tuple[Tensor, Tensor]:
    """The symmetric linear map under whose cosine images of one class come close and known classes stand apart.

    With the pooled within-class covariance ``C = within / (N - K)`` of mean variance t, and ``P = (I + C / (s t))^-½``,
    which shrinks the directions in which images of one class differ (within-class covariance normalisation, Hatch et al.
    2006; learned whitening, Mikolajczyk and Matas 2007) and leaves alone those in which they do not:

        A = ( P (I + e Σ_c b_c b_cᵀ) P )^½,   b_c = P (m_c - m) at a mean square length of one,   x ↦ A (x - m)

    The second factor stretches the directions of the class means, as linear discriminant analysis does, for the known
    classes and no more: a new class adds a direction and weakens none. Of all maps with the same cosines between mapped
    vectors the symmetric one is the closest to the identity, so that a mapped query also finds its like among vectors
    that are not mapped, or were mapped by an earlier A.

    Args:
        scatter: of unit features, of every image so far.
        shrinkage: s > 0; more leaves the space more as it is.
        emphasis: e ≥ 0, of the known classes.

    Returns:
        Weight (W, W) and bias (W,) of a linear layer, float32.
    """
    width = scatter.within.shape[0]
    identity = torch.eye(width, dtype=torch.float64)
    covariance = scatter.within / max(int(scatter.counts.sum()) - len(scatter.classes), 1)
    variance = float(covariance.diagonal().mean())
    shrink = _of_eigenvalues(covariance, lambda e: (1 + e / (shrinkage * variance)).rsqrt()) if variance else identity
    mean = scatter.means.mean(0)
    between = (scatter.means - mean) @ shrink
    length = between.square().sum(1).mean().sqrt()
    if emphasis and length > 0:
        between = between / length
        stretched = shrink @ (identity + emphasis * between.T @ between) @ shrink
        shrink = _of_eigenvalues(stretched, torch.sqrt)
    return shrink.float(), (-shrink @ mean).float()


def _of_eigenvalues(matrix: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
    """A function of a symmetric positive semi-definite matrix."""
    values, vectors = torch.linalg.eigh(matrix)
    made: Tensor = (vectors * function(values.clamp(min=0))) @ vectors.T
    return made
