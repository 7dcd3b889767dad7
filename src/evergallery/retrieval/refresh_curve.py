"""The refresh curve: a metric while more and more of the stored vectors are made by the new generation."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from evergallery.errors import InputError
from evergallery.retrieval.knn import Exclusion
from evergallery.retrieval.metrics import RetrievalMetrics, evaluate


def random_order(count: int, seed: int) -> Tensor:
    """(G,) items in an order drawn from ``seed``."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed))


def farthest_from_class_mean_first(gallery: Tensor, labels: Tensor) -> Tensor:
    """(G,) items by falling distance to the mean of their class: the doubtful ones first (Ricci et al. 2025).

    Args:
        gallery: (G, D) stored unit rows.
        labels: (G,) any int64.
    """
    _, index = torch.unique(labels, return_inverse=True)
    sums = gallery.new_zeros(int(index.max()) + 1, gallery.shape[1]).index_add(0, index, gallery)
    return (gallery * F.normalize(sums)[index]).sum(1).argsort(stable=True)


def mixed_recall(before: Tensor, after: Tensor, hits: Tensor, *, order: Tensor, shares: Sequence[float]) -> list[float]:
    """recall@1 while the first ``⌊share · G⌋`` items of ``order`` are scored by ``after`` and the others by ``before``.

    Scores may be cosines, or whatever brings both to one scale. A query that may not find an item, itself for instance,
    has ``-inf`` in both.

    Args:
        before: (Q, G) scores of the vectors as they are.
        after: (Q, G) scores of the refreshed ones.
        hits: (Q, G) bool, whether the item is of the query's class.
        order: (G,) a permutation of the items.
        shares: each in [0, 1].

    Returns:
        One for each share, over the queries that have a positive.

    Raises:
        InputError: shapes that do not fit.
    """
    if not before.shape == after.shape == hits.shape or len(order) != before.shape[1]:
        raise InputError(
            f"Scores are {tuple(before.shape)} and {tuple(after.shape)}, hits {tuple(hits.shape)} and the order names "
            f"{len(order)} items: they must agree."
        )
    kept = (hits & (before > -torch.inf)).any(1)
    before, after, hits = before[kept], after[kept], hits[kept]
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order), device=order.device)
    values = []
    for share in shares:
        mixed = torch.where(rank < int(share * len(order)), after, before)
        first = mixed.argmax(1, keepdim=True)
        values.append(hits.gather(1, first).double().mean().item() if len(hits) else 0.0)
    return values


def refresh_curve(
    query: Tensor,
    query_labels: Tensor,
    old_gallery: Tensor,
    new_gallery: Tensor,
    gallery_labels: Tensor,
    *,
    order: Tensor,
    shares: Sequence[float] = (0.0, 0.25, 0.5, 0.75, 1.0),
    exclusion: Exclusion | None = None,
) -> list[RetrievalMetrics]:
    """Metrics of new queries while the first ``⌊share · G⌋`` items of ``order`` have new vectors and the others old ones.

    One ranking over both: their scores need not share a scale, so the curve may dip below both of its ends.

    Args:
        query: (Q, D) unit rows of the new generation.
        query_labels: (Q,).
        old_gallery: (G, D) unit rows of the old generation.
        new_gallery: (G, D) unit rows of the new one, of the same items.
        gallery_labels: (G,).
        order: (G,) a permutation of the items.
        shares: each in [0, 1].
        exclusion: what each query must not find.

    Returns:
        One for each share.

    Raises:
        InputError: galleries of different shapes, or an order that is no permutation.
    """
    if old_gallery.shape != new_gallery.shape:
        raise InputError(
            f"The old gallery is {tuple(old_gallery.shape)} and the new one {tuple(new_gallery.shape)}: "
            f"a refresh curve needs vectors of the same items and the same width."
        )
    if not torch.equal(order.sort().values, torch.arange(len(old_gallery), device=order.device)):
        raise InputError(f"The order of a refresh names each of the {len(old_gallery)} items once.")
    curve = []
    for share in shares:
        refreshed = order[: int(share * len(order))]
        mixed = old_gallery.clone()
        mixed[refreshed] = new_gallery[refreshed]
        curve.append(evaluate(query, query_labels, mixed, gallery_labels, exclusion=exclusion))
    return curve
