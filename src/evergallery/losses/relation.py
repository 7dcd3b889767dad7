"""Distillation of relations: the similarities within a batch, whatever the coordinates (Chen et al. 2022; Liu et al. 2022)."""

from torch import Tensor
from torch.nn import functional as F


def relation_distillation(first: Tensor, second: Tensor, temperature: float = 4.0) -> Tensor:
    """``R(F, G) = T²/B Σ_i KL( P_i || Q_i )`` with ``P = softmax_rows(F Fᵀ / T)`` and ``Q = softmax_rows(G Gᵀ / T)``.

    The first argument gives the reference distribution; gradients flow into both. Each image's similarity to itself is
    included, as published. A rotation of either space changes nothing: relations keep classes apart, but they do not
    keep vectors of one space searchable with those of the other.

    Args:
        first: (B, D) unit rows.
        second: (B, D') unit rows of the same images; D' may differ.
        temperature: T > 0.

    Returns:
        A scalar.
    """
    p, q = (F.log_softmax(x @ x.T / temperature, dim=1) for x in (first, second))
    return temperature**2 * F.kl_div(q, p, reduction="batchmean", log_target=True)
