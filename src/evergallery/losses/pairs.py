"""Losses on the pairs of a batch, as mutual distillation uses them; others come from pytorch-metric-learning."""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from evergallery.errors import extra, unknown
from evergallery.losses.triplet import batch_hard_triplet


def hard_mining(features: Tensor, labels: Tensor, margin: float = 0.1) -> Tensor:
    """Pairs that violate the order of similarities by a margin (the base loss of Liu et al. 2022 and Chen et al. 2022).

    For anchor i with its least similar positive p and its most similar negative n, the negatives with ``s > s_p - m``
    and the positives with ``s < s_n + m`` are kept: ``l_i = mean(1 - s_positive) + mean(s_negative)``, and 0 where no
    negative is kept. Averaged over all anchors. An anchor is left out of its own pairs by index, not by the value of
    its similarity as in the published code.

    Args:
        features: (B, D), of any norm.
        labels: (B,).
        margin: m, in units of cosine similarity.

    Returns:
        A scalar.
    """
    similarities, positive, negative = _pairs(features, labels)
    hardest_positive = similarities.masked_fill(~positive, torch.inf).amin(1, keepdim=True)
    hardest_negative = similarities.masked_fill(~negative, -torch.inf).amax(1, keepdim=True)
    # Without a positive there is no threshold that a negative could pass, and the published loss skips the anchor.
    kept_negative = negative & (similarities > hardest_positive - margin) & positive.any(1, keepdim=True)
    kept_positive = positive & (similarities < hardest_negative + margin)
    terms = _mean(1 - similarities, kept_positive) + _mean(similarities, kept_negative)
    return terms.where(kept_negative.any(1), 0).mean()


def binomial_deviance(
    features: Tensor,
    labels: Tensor,
    *,
    positive_scale: float = 2.0,
    negative_scale: float = 40.0,
    threshold: float = 0.5,
) -> Tensor:
    """Binomial deviance (Yi et al. 2014) with the constants of Liu et al. 2022.

    ``l_i = mean log(1 + exp(-2 (s_positive - 0.5))) + mean log(1 + exp(40 (s_negative - 0.5)))``, averaged over anchors.

    Args:
        features: (B, D), of any norm.
        labels: (B,).
        positive_scale: 2.
        negative_scale: 40.
        threshold: 0.5.

    Returns:
        A scalar.
    """
    similarities, positive, negative = _pairs(features, labels)
    attraction = F.softplus(-positive_scale * (similarities - threshold))
    repulsion = F.softplus(negative_scale * (similarities - threshold))
    return (_mean(attraction, positive) + _mean(repulsion, negative)).mean()


METRIC_LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "hard-mining": hard_mining,
    "binomial": binomial_deviance,
    "triplet": batch_hard_triplet,
}
"""Functions of raw features (B, D) and labels (B,), by name."""


def metric_loss(name: str) -> Callable[[Tensor, Tensor], Tensor]:
    """A loss of ``METRIC_LOSSES``, or one of pytorch-metric-learning by its class name, such as ``MultiSimilarityLoss``.

    Raises:
        InputError: there is none of that name, or it has weights of its own, which a generation would not keep.
        MissingExtraError: a loss of the library without the extra ``losses``.
    """
    return METRIC_LOSSES[name] if name in METRIC_LOSSES else _of_library(name)


@cache
def _of_library(name: str) -> Callable[[Tensor, Tensor], Tensor]:
    with extra(f"The metric loss {name!r}, or any other of pytorch-metric-learning,", "losses"):
        from pytorch_metric_learning import losses

    found: Any = getattr(losses, name, None)
    try:
        loss = found()
        has_weights = next(loss.parameters(), None) is not None
    except TypeError:
        loss, has_weights = None, True
    if loss is None or has_weights:
        more = ", or a loss of pytorch-metric-learning without weights of its own, such as MultiSimilarityLoss or CircleLoss"
        raise unknown("metric loss", name, METRIC_LOSSES, more)
    return lambda features, labels: loss(features, labels)


def _pairs(features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Cosine similarities (B, B), and which pairs are positive and negative; self is neither."""
    embeddings = F.normalize(features)
    same = labels[:, None] == labels[None]
    itself = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    return embeddings @ embeddings.T, same & ~itself, ~same


def _mean(values: Tensor, kept: Tensor) -> Tensor:
    """Mean of the kept entries of each row (B,); 0 where there is none."""
    return values.where(kept, 0).sum(1) / kept.sum(1).clamp(min=1)
