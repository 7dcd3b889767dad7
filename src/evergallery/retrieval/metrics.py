"""Metrics of retrieval, all from one hit matrix; values are fractions in [0, 1].

Rules: a query is left out of its own search by index; equal scores rank in gallery order; a query without a positive in
its gallery is dropped and counted; similarity is the inner product of unit embeddings. Every function of a hit matrix
takes the kept queries only.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor

from evergallery.errors import InputError
from evergallery.retrieval.knn import MEMORY_LIMIT, Exclusion, Neighbours, nearest


def hit_matrix(neighbours: Neighbours, query_labels: Tensor, gallery_labels: Tensor) -> Tensor:
    """(Q, k) whether the item at each rank has the query's label; ranks beyond the gallery are misses."""
    found = gallery_labels[neighbours.indices.clamp(min=0)] == query_labels[:, None]
    return found & (neighbours.indices >= 0)


def recall_at_k(hits: Tensor, k: int) -> float:
    """Share of queries with a positive among their k nearest (CMC rank-k).

    Args:
        hits: (Q, ≥ k) bool.
        k: at least 1.
    """
    return hits[:, :k].any(1).double().mean().item()


def precision_at_k(hits: Tensor, k: int) -> float:
    """Mean share of positives among the k nearest.

    Args:
        hits: (Q, ≥ k) bool.
        k: at least 1.
    """
    return (hits[:, :k].sum(1).double() / k).mean().item()


def r_precision(hits: Tensor, positives: Tensor) -> float:
    """Mean of ``r / R``: with R positives in the gallery, r of them among the R nearest (Musgrave et al. 2020).

    Args:
        hits: (Q, ≥ max R) bool.
        positives: (Q,) R, at least 1.
    """
    return (_within_r(hits, positives).sum(1) / positives.double()).mean().item()


def mean_average_precision_at_r(hits: Tensor, positives: Tensor) -> float:
    """mAP@R, mean of ``1/R Σ_{i ≤ R} precision@i · hit_i`` (Musgrave et al. 2020, equation 7).

    Args:
        hits: (Q, ≥ max R) bool.
        positives: (Q,) R, at least 1.
    """
    within = _within_r(hits, positives)
    ranks = torch.arange(1, within.shape[1] + 1, device=hits.device)
    precision = within.cumsum(1, dtype=torch.float32) / ranks
    return ((precision * within).sum(1, dtype=torch.float64) / positives).mean().item()


def mean_reciprocal_rank(hits: Tensor) -> float:
    """Mean of one over the rank of the first positive; 0 where it is beyond the matrix.

    Args:
        hits: (Q, k) bool; exact where k reaches the last rank, a lower bound otherwise.
    """
    first = hits.to(torch.uint8).argmax(1) + 1
    return torch.where(hits.any(1), 1 / first.double(), 0.0).mean().item()


def mean_average_precision(
    query_embeddings: Tensor,
    query_labels: Tensor,
    gallery_embeddings: Tensor,
    gallery_labels: Tensor,
    *,
    exclusion: Exclusion | None = None,
    memory_limit: int = MEMORY_LIMIT,
) -> float:
    """mAP over the full ranking: mean of ``1/R Σ_{positives} precision at its rank``; queries without a positive dropped.

    It needs the rank of every positive, which costs a sort of the whole gallery for every query.

    Args:
        query_embeddings: (Q, D) unit rows.
        query_labels: (Q,).
        gallery_embeddings: (G, D) unit rows.
        gallery_labels: (G,).
        exclusion: what each query must not find.
        memory_limit: bytes of working memory, about.
    """
    gallery = len(gallery_labels)
    rows = max(1, memory_limit // (40 * max(1, gallery)))
    total, kept = 0.0, 0
    for start in range(0, len(query_labels), rows):
        stop = min(start + rows, len(query_labels))
        neighbours = nearest(
            query_embeddings[start:stop],
            gallery_embeddings,
            gallery,
            exclusion=_part(exclusion, start, stop),
            memory_limit=memory_limit,
        )
        hits = hit_matrix(neighbours, query_labels[start:stop], gallery_labels)
        positives = hits.sum(1)
        hits, positives = hits[positives > 0], positives[positives > 0]
        ranks = torch.arange(1, gallery + 1, device=hits.device)
        precision = hits.cumsum(1) / ranks.double()
        total += ((precision * hits).sum(1) / positives).sum().item()
        kept += len(positives)
    return total / kept if kept else 0.0


@dataclass(frozen=True)
class RetrievalMetrics:
    """What one search protocol gave; fractions in [0, 1].

    Attributes:
        recall: recall@k by k.
        precision: precision@k by k.
        map_at_r: mAP@R.
        r_precision: R-precision.
        mrr: mean reciprocal rank, of first positives within the ranks that the other metrics need.
        mean_average_precision: over the full ranking; ``None`` unless asked for.
        queries: how many counted.
        dropped: queries without a positive in the gallery.
        hits_at_1: (Q,) of all queries, whether the nearest item is a positive.
        valid: (Q,) which queries counted.
    """

    recall: dict[int, float]
    precision: dict[int, float]
    map_at_r: float
    r_precision: float
    mrr: float
    mean_average_precision: float | None
    queries: int
    dropped: int
    hits_at_1: Tensor = field(repr=False, compare=False)
    valid: Tensor = field(repr=False, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            **{f"recall@{k}": value for k, value in self.recall.items()},
            **{f"precision@{k}": value for k, value in self.precision.items()},
            "mAP@R": self.map_at_r,
            "R-precision": self.r_precision,
            "MRR": self.mrr,
            **({"mAP": self.mean_average_precision} if self.mean_average_precision is not None else {}),
            "queries": self.queries,
            "dropped": self.dropped,
        }


def evaluate(
    query_embeddings: Tensor,
    query_labels: Tensor,
    gallery_embeddings: Tensor,
    gallery_labels: Tensor,
    *,
    ks: Sequence[int] = (1, 5, 10),
    exclusion: Exclusion | None = None,
    full_ranking: bool = False,
    memory_limit: int = MEMORY_LIMIT,
) -> RetrievalMetrics:
    """All metrics of one search, from one pass over the similarities.

    Args:
        query_embeddings: (Q, D) unit rows.
        query_labels: (Q,) any int64.
        gallery_embeddings: (G, D) unit rows.
        gallery_labels: (G,) any int64.
        ks: of recall@k and precision@k.
        exclusion: what each query must not find, for instance itself.
        full_ranking: also mAP over all ranks, which costs several times the rest.
        memory_limit: bytes of working memory, about.

    Raises:
        InputError: shapes that do not fit, values that are not finite, or a k below 1.
    """
    for name, embeddings, labels in (
        ("queries", query_embeddings, query_labels),
        ("gallery", gallery_embeddings, gallery_labels),
    ):
        if len(embeddings) != len(labels):
            raise InputError(f"The {name} have {len(embeddings)} embeddings and {len(labels)} labels: one for each.")
    if not ks or min(ks) < 1:
        raise InputError(f"recall@k is asked for k in {tuple(ks)}: every k must be at least 1.")
    positives = count_positives(query_labels, gallery_labels, exclusion)
    valid = positives > 0
    depth = max(*ks, int(positives.max()) if len(positives) else 0, 1)
    hits = query_labels.new_zeros((len(query_labels), depth), dtype=torch.bool)
    # In parts, so that indices and scores of all queries are never held at once.
    rows = max(1, memory_limit // 4 // (depth * 32))
    for start in range(0, len(query_labels), rows):
        stop = min(start + rows, len(query_labels))
        neighbours = nearest(
            query_embeddings[start:stop],
            gallery_embeddings,
            depth,
            exclusion=_part(exclusion, start, stop),
            memory_limit=memory_limit // 2,
        )
        hits[start:stop] = hit_matrix(neighbours, query_labels[start:stop], gallery_labels)
    kept, relevant = hits[valid], positives[valid]
    some = len(relevant) > 0
    return RetrievalMetrics(
        recall={k: recall_at_k(kept, k) if some else 0.0 for k in ks},
        precision={k: precision_at_k(kept, k) if some else 0.0 for k in ks},
        map_at_r=mean_average_precision_at_r(kept, relevant) if some else 0.0,
        r_precision=r_precision(kept, relevant) if some else 0.0,
        mrr=mean_reciprocal_rank(kept) if some else 0.0,
        mean_average_precision=mean_average_precision(
            query_embeddings, query_labels, gallery_embeddings, gallery_labels,
            exclusion=exclusion, memory_limit=memory_limit,
        ) if full_ranking else None,
        queries=len(relevant),
        dropped=int((~valid).sum()),
        hits_at_1=hits[:, 0].clone(),
        valid=valid,
    )  # fmt: skip


def count_positives(query_labels: Tensor, gallery_labels: Tensor, exclusion: Exclusion | None = None) -> Tensor:
    """(Q,) gallery items of each query's label that it may find."""
    positives = _count(query_labels, gallery_labels)
    if exclusion is None:
        return positives
    if exclusion.query_cameras is not None and exclusion.gallery_cameras is not None:
        # Same label and same camera go; that holds the query itself wherever it is in the gallery under its own camera.
        cameras = _numbered(exclusion.query_cameras, exclusion.gallery_cameras)
        labels = _numbered(query_labels, gallery_labels)
        both = labels * (int(cameras.max()) + 1 if len(cameras) else 1) + cameras
        positives = positives - _count(both[: len(query_labels)], both[len(query_labels) :])
        if exclusion.itself is not None:
            at = exclusion.itself.clamp(min=0)
            other = (exclusion.itself >= 0) & (gallery_labels[at] == query_labels)
            positives = positives - (other & (exclusion.gallery_cameras[at] != exclusion.query_cameras)).long()
    elif exclusion.itself is not None:
        at = exclusion.itself.clamp(min=0)
        positives = positives - ((exclusion.itself >= 0) & (gallery_labels[at] == query_labels)).long()
    return positives


def _count(queries: Tensor, gallery: Tensor) -> Tensor:
    """(Q,) how often each value occurs in the gallery; memory does not grow with the values."""
    if len(gallery) == 0:
        return torch.zeros_like(queries)
    values, counts = torch.unique(gallery, return_counts=True)
    at = torch.searchsorted(values, queries).clamp(max=len(values) - 1)
    return torch.where(values[at] == queries, counts[at], 0)


def _numbered(queries: Tensor, gallery: Tensor) -> Tensor:
    """Both one after the other, values replaced by 0, 1, …"""
    _, numbers = torch.unique(torch.cat([queries, gallery]), return_inverse=True)
    return cast(Tensor, numbers)


def _within_r(hits: Tensor, positives: Tensor) -> Tensor:
    return hits & (torch.arange(hits.shape[1], device=hits.device) < positives[:, None])


def _part(exclusion: Exclusion | None, start: int, stop: int) -> Exclusion | None:
    """The exclusion of some of the queries."""
    if exclusion is None:
        return None
    rows = slice(start, stop)
    return Exclusion(
        None if exclusion.itself is None else exclusion.itself[rows],
        None if exclusion.query_labels is None else exclusion.query_labels[rows],
        exclusion.gallery_labels,
        None if exclusion.query_cameras is None else exclusion.query_cameras[rows],
        exclusion.gallery_cameras,
    )
