"""Second moments of features: all that a lineage keeps of its images where their backbone is frozen, and the metric in them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from evergallery.memory.prototypes import class_means

PREFIX = "scatter/"
CHUNK = 8192
"""Rows that are centred at once."""
EMPHASES = (0.0, 0.5, 1.0, 2.0, 3.0, 4.0, 6.0)
"""Weights of the known classes, to choose among."""
TIED = 1e-9
"""Differences below it come from rounding."""


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
        """Measure the scatter of features (N, W) with labels (N,), on their device."""
        classes, index = torch.unique(labels, return_inverse=True)
        means = class_means(features.double(), index, len(classes))
        within = means.new_zeros(features.shape[1], features.shape[1])
        for start in range(0, len(features), CHUNK):
            rows, of = features[start : start + CHUNK], index[start : start + CHUNK]
            # Centred rows lose nothing in single precision; their sum over many chunks would.
            centred = rows - means[of].to(rows.dtype)
            within += centred.T @ centred
        return cls(classes, torch.bincount(index), means, within)

    def joined(self, other: "Scatter") -> "Scatter":
        """The scatter of the images of both, exactly (Chan et al. 1979, equation 2.1); a class may be in both."""
        classes = torch.unique(torch.cat([self.classes, other.classes]))
        counts = torch.zeros(2, len(classes), dtype=torch.int64)
        means = torch.zeros(2, len(classes), self.means.shape[1], dtype=torch.float64)
        for index, scatter in enumerate((self, other)):
            rows = torch.searchsorted(classes, scatter.classes)
            counts[index, rows], means[index, rows] = scatter.counts, scatter.means
        total = counts.sum(0)
        shares = counts.double() / total
        apart = (means[0] - means[1]) * (shares.prod(0) * total).sqrt()[:, None]
        mean = (means * shares[:, :, None]).sum(0)
        return Scatter(classes, total, mean, self.within + other.within + apart.T @ apart)

    def tensors(self) -> dict[str, Tensor]:
        """The tensors of the scatter by name, as a file holds them."""
        return {
            f"{PREFIX}classes": self.classes,
            f"{PREFIX}counts": self.counts,
            f"{PREFIX}means": self.means.float(),
            f"{PREFIX}within": self.within.float(),
        }

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> "Scatter | None":
        """Read a scatter from the tensors of a file; ``None`` where it has none."""
        if f"{PREFIX}within" not in tensors:
            return None
        classes, counts, means, within = (tensors[PREFIX + name] for name in ("classes", "counts", "means", "within"))
        return cls(classes, counts, means.double(), within.double())


@dataclass(frozen=True)
class ScatterTrial:
    """Images that are held out of a scatter, to see what a map made of it would do for them.

    Attributes:
        scatter: of the other images.
        features: (N, W) unit features of those held out.
        labels: (N,) of any numbering.
    """

    scatter: Scatter
    features: Tensor
    labels: Tensor


def discriminant_metric(scatter: Scatter, shrinkage: float, emphasis: float) -> Tensor:
    """The metric (W, W), float64, under whose cosine images of one class come close and known classes stand apart.

    With the pooled within-class covariance ``C = within / (N - K)`` of mean variance t, and class means ``m_c`` around their
    mean m:

        G = (I + C / (s t))⁻¹,   M = G + e Σ_c g_c g_cᵀ,   g_c = G (m_c - m) at a mean square length of one in G⁻¹

    G shrinks the directions in which images of one class differ (within-class covariance normalisation, Hatch et al. 2006;
    learned whitening, Mikolajczyk and Matas 2007) and leaves alone those in which they do not. The second term stretches the
    directions of the class means, as linear discriminant analysis does, for the known classes and no more: a new class adds
    a direction and weakens none.

    Args:
        scatter: of unit features.
        shrinkage: s > 0; more leaves the space more as it is.
        emphasis: e ≥ 0, of the known classes.
    """
    factor, between = _discriminant(scatter, shrinkage)
    return torch.cholesky_inverse(factor) + emphasis * between.T @ between


def _discriminant(scatter: Scatter, shrinkage: float) -> tuple[Tensor, Tensor]:
    """The Cholesky factor (W, W) of G⁻¹, and the rows g_c (K, W). G itself takes six times as long, and few ask for it."""
    inverse = torch.eye(scatter.within.shape[0], dtype=torch.float64)
    covariance = scatter.within / max(int(scatter.counts.sum()) - len(scatter.classes), 1)
    variance = float(covariance.diagonal().mean())
    if variance:
        inverse += covariance / (shrinkage * variance)
    factor = torch.linalg.cholesky(inverse)
    centred = scatter.means - scatter.means.mean(0)
    between = torch.cholesky_solve(centred.T, factor).T
    length = (between * centred).sum(1).mean().sqrt()
    return factor, between / length if length > 0 else torch.zeros_like(between)


def discriminant_whitening(scatter: Scatter, shrinkage: float, emphasis: float) -> tuple[Tensor, Tensor]:
    """The symmetric linear map ``x ↦ M^½ (x - m)`` of the discriminant metric M.

    Of all maps with the same cosines between mapped vectors the symmetric one is the closest to the identity, so that a
    mapped query also finds its like among vectors that are not mapped, or were mapped by an earlier M.

    Args:
        scatter: of unit features, of every image so far.
        shrinkage: see ``discriminant_metric``.
        emphasis: see ``discriminant_metric``.

    Returns:
        Weight (W, W) and bias (W,) of a linear layer, float32.
    """
    values, vectors = torch.linalg.eigh(discriminant_metric(scatter, shrinkage, emphasis))
    root = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    return root.float(), (-root @ scatter.means.mean(0)).float()


def emphasis_ranks(trials: Sequence[ScatterTrial], shrinkage: float) -> Tensor:
    """Return how well each of ``EMPHASES`` serves held-out images (E,), of known classes and of unknown ones alike.

    Each held-out image is searched among the others of its trial; the figure is the mean over trials of the mean reciprocal
    rank of the first image of its class. Nothing can be told without a trial: then all of them are zero.
    """
    found = [_reciprocal_ranks(trial, shrinkage) for trial in trials]
    return torch.tensor(found, dtype=torch.float64).reshape(-1, len(EMPHASES)).sum(0) / max(1, len(trials))


def best_emphasis(ranks: Tensor) -> float:
    """The emphasis with the best of the figures (E,); of equals the smallest."""
    return EMPHASES[int((ranks >= ranks.max() - TIED).nonzero()[0])]


def _reciprocal_ranks(trial: ScatterTrial, shrinkage: float) -> list[float]:
    factor, between = _discriminant(trial.scatter, shrinkage)
    rows = trial.features.double() - trial.scatter.means.mean(0)
    shrunk, known = torch.linalg.solve_triangular(factor, rows.T, upper=False), rows @ between.T
    plain = shrunk.T @ shrunk
    stretched = known @ known.T
    same = trial.labels[:, None] == trial.labels
    same.fill_diagonal_(False)
    counted = same.any(1)
    found = []
    for emphasis in EMPHASES:
        products = plain + emphasis * stretched
        length = products.diagonal().clamp(min=0).sqrt()
        scores = products / (length[:, None] * length).clamp(min=1e-12)
        scores.fill_diagonal_(-torch.inf)
        best = scores.masked_fill(~same, -torch.inf).amax(1)
        ranks = 1 + ((scores > best[:, None]) & ~same).sum(1)
        found.append(float((1 / ranks.double())[counted].mean()) if counted.any() else 0.0)
    return found
