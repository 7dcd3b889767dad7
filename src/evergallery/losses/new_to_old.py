"""New embeddings against old ones of the same batch: the query's network changed, the gallery's vectors did not.

The positive of an image is its own old vector and nothing else; its negatives are the vectors of other classes. With
``new_negatives`` the new vectors of other classes are negatives too, so that an image re-extracted in a half-refreshed
gallery does not displace an old one that was right: RACT (Zhang et al., ICLR 2022, "Hot-refresh").
"""

import torch
from torch import Tensor


def new_to_old_contrast(
    new: Tensor,
    old: Tensor,
    labels: Tensor,
    temperature: float = 0.05,
    *,
    hardest: int | None = None,
    new_negatives: bool = False,
) -> Tensor:
    """``-mean_i log( e^{<u_i,v_i>/τ} / (e^{<u_i,v_i>/τ} + Σ_{j: y_j ≠ y_i} e^{<u_i,v_j>/τ} [+ Σ e^{<u_i,u_j>/τ}]) )``.

    Args:
        new: u (B, D), unit rows.
        old: v (B, D), unit rows of the same images.
        labels: (B,).
        temperature: τ > 0.
        hardest: only the k most similar negatives of each kind; ``None`` takes all.
        new_negatives: with the second sum.

    Returns:
        A scalar; zero, with a graph, where no image has a negative.
    """
    other = labels[:, None] != labels[None]
    to_old = new @ old.T
    logits = [to_old.diagonal()[:, None], _most_similar(to_old, other, hardest)]
    if new_negatives:
        logits.append(_most_similar(new @ new.T, other, hardest))
    return -(torch.cat(logits, 1) / temperature).log_softmax(1)[:, 0].mean()


def new_to_old_triplet(
    new: Tensor,
    old: Tensor,
    labels: Tensor,
    margin: float = 0.8,
    *,
    hardest: int = 10,
    new_negatives: bool = False,
) -> Tensor:
    """``mean max(0, |u_i - v_i| - |u_i - v_j| + m)`` over the k nearest ``v_j`` of other classes [+ the same of ``u_j``].

    A negative that is missing, where an image has fewer than k, is left out of the mean.

    Args:
        new: u (B, D), unit rows.
        old: v (B, D), unit rows of the same images.
        labels: (B,).
        margin: m, in Euclidean distance.
        hardest: k.
        new_negatives: with the second term.

    Returns:
        A scalar; zero, with a graph, where no image has a negative.
    """
    other = labels[:, None] != labels[None]
    to_old = _distances(new, old)
    own = to_old.diagonal()[:, None]
    value = _margin_violation(own, to_old, other, hardest, margin)
    if new_negatives:
        value = value + _margin_violation(own, _distances(new, new), other, hardest, margin)
    return value


def _margin_violation(own: Tensor, distances: Tensor, other: Tensor, hardest: int, margin: float) -> Tensor:
    nearest = -_most_similar(-distances, other, hardest)
    exists = nearest.isfinite()
    return (own - nearest.where(exists, 0) + margin).clamp(min=0).where(exists, 0).sum() / exists.sum().clamp(min=1)


def _most_similar(similarities: Tensor, other: Tensor, hardest: int | None) -> Tensor:
    """The k largest entries of each row among ``other`` (B, k), -inf where there are fewer."""
    negatives = similarities.masked_fill(~other, -torch.inf)
    return negatives if hardest is None else negatives.topk(min(hardest, negatives.shape[1]), dim=1).values


def _distances(first: Tensor, second: Tensor) -> Tensor:
    squares = first.square().sum(1)[:, None] + second.square().sum(1)[None] - 2 * first @ second.T
    # Above zero, where the root has a derivative: a network that begins as its parent begins at distance zero.
    return squares.clamp(min=1e-12).sqrt()
