"""Metrics of retrieval, all from one hit matrix; values are fractions in [0, 1].

Rules: a query is left out of its own search by index; equal scores rank in gallery order; a query without a positive in
its gallery is dropped and counted; similarity is the inner product of unit embeddings. Every function of a hit matrix
takes the kept queries only.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from evergallery.errors import InputError
from evergallery.retrieval.knn import MEMORY_LIMIT, Exclusion, Neighbours, joint_numbers, nearest


def hit_matrix(neighbours: Neighbours, query_labels: Tensor, gallery_labels: Tensor) -> Tensor:
    """(Q, k) whether the item at each rank has the query's label; ranks beyond the gallery are misses.

    Args:
        neighbours: (Q, k), best first.
        query_labels: (Q,).
        gallery_labels: (G,).
    """
    if len(gallery_labels) == 0:
        return torch.zeros_like(neighbours.indices, dtype=torch.bool)
    found = gallery_labels[neighbours.indices.clamp(min=0)] == query_labels[:, None]
    return found & (neighbours.indices >= 0)


def count_positives(query_labels: Tensor, gallery_labels: Tensor, exclusion: Exclusion | None = None) -> Tensor:
    """(Q,) gallery items of each query's label that it may find.

    Args:
        query_labels: (Q,) any int64.
        gallery_labels: (G,) any int64.
        exclusion: what each query must not find.
    """
    labels = query_labels, gallery_labels
    positives = _count(*joint_numbers(labels))
    if exclusion is None:
        return positives
    groups = exclusion.groups()
    if groups is not None:
        positives = positives - _count(*joint_numbers(labels, groups))
    if exclusion.itself is not None:
        rows = torch.nonzero(exclusion.itself >= 0).flatten()
        at = exclusion.itself[rows]
        counted = gallery_labels[at] == query_labels[rows]
        if groups is not None:
            # Of its own label and camera it is gone already.
            counted &= groups[1][at] != groups[0][rows]
        positives[rows] -= counted.long()
    return positives


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
    return mean_average_precision(_within_r(hits, positives), positives)


def mean_average_precision(hits: Tensor, positives: Tensor) -> float:
    """mAP, mean of ``1/R Σ_{hits} precision at its rank``; over the full ranking, which needs a column for every item.

    Args:
        hits: (Q, G) bool.
        positives: (Q,) R, at least 1.
    """
    return average_precision(hits, positives).mean().item()


def average_precision(hits: Tensor, positives: Tensor) -> Tensor:
    """(Q,) ``1/R Σ_{hits} precision at its rank`` of each query, float64.

    Args:
        hits: (Q, k) bool.
        positives: (Q,) R, at least 1.
    """
    query, rank = hits.nonzero(as_tuple=True)
    found = hits.sum(1)
    # nonzero lists the hits of a query in order of rank: the i-th has i hits up to its rank.
    hit = torch.arange(len(query), device=hits.device) - (found.cumsum(0) - found)[query]
    precision = (hit + 1).double() / (rank + 1)
    return torch.zeros_like(positives, dtype=torch.float64).index_add_(0, query, precision / positives[query])


def mean_inverse_negative_penalty(hits: Tensor, positives: Tensor) -> float:
    """mINP, mean of ``R`` over the rank of the last positive (Ye et al. 2021, equation 10); over the full ranking.

    Args:
        hits: (Q, G) bool, with every positive in it.
        positives: (Q,) R, at least 1.
    """
    ranks = torch.arange(1, hits.shape[1] + 1, device=hits.device)
    last = (hits * ranks).max(1).values
    return (positives.double() / last.clamp(min=1)).mean().item()


def mean_reciprocal_rank(hits: Tensor) -> float:
    """Mean of one over the rank of the first positive; 0 where it is beyond the matrix.

    Args:
        hits: (Q, k) bool; exact where k reaches the last rank, a lower bound otherwise.
    """
    first = hits.to(torch.uint8).argmax(1) + 1
    return torch.where(hits.any(1), 1 / first.double(), 0.0).mean().item()


@dataclass(frozen=True)
class RetrievalMetrics:
    """What one search protocol gave; fractions in [0, 1].

    Attributes:
        recall: recall@k by k.
        precision: precision@k by k.
        map_at_r: mAP@R.
        r_precision: R-precision.
        mrr: mean reciprocal rank of the first positive, 0 for one beyond the ranks that recall, precision and mAP@R
            need (the largest k or the largest R).
        mean_average_precision: over the full ranking; ``None`` unless asked for.
        minp: mINP, over the full ranking; ``None`` unless asked for.
        ndcg: nDCG@k by k, where judgements are graded.
        queries: how many counted; with none, every value is 0.
        dropped: queries without a positive in the gallery.
        hits_at_1: (Q,) bool, of all queries, whether the nearest item is a positive.
        gain_at_1: (Q,) float64, of all queries, what the nearest item is worth: 1 for a positive, nDCG@1 where judgements are
            graded.
        average_precision_at_r: (Q,) float64, whose mean over the counted queries is mAP@R; 0 for the others.
        nearest: (Q,) int64, index in the gallery of the nearest item, -1 where there is none.
        valid: (Q,) bool, which queries counted.
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
    average_precision_at_r: Tensor = field(repr=False, compare=False)
    nearest: Tensor = field(repr=False, compare=False)
    valid: Tensor = field(repr=False, compare=False)
    gain_at_1: Tensor = field(repr=False, compare=False)
    ndcg: dict[int, float] | None = None
    minp: float | None = None

    def __repr__(self) -> str:
        values = (f"{name}={value:.4f}" if isinstance(value, float) else f"{name}={value}"
                  for name, value in self.to_dict().items())  # fmt: skip
        return f"RetrievalMetrics({', '.join(values)})"

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            **{f"recall@{k}": value for k, value in self.recall.items()},
            **{f"precision@{k}": value for k, value in self.precision.items()},
            "mAP@R": self.map_at_r,
            "R-precision": self.r_precision,
            "MRR": self.mrr,
            **{f"nDCG@{k}": value for k, value in (self.ndcg or {}).items()},
            **({"mAP": self.mean_average_precision} if self.mean_average_precision is not None else {}),
            **({"mINP": self.minp} if self.minp is not None else {}),
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
        full_ranking: also mAP and mINP over all ranks, which sorts the whole gallery for every query.
        memory_limit: bytes of working memory, about.

    Raises:
        InputError: shapes that do not fit, values that are not finite, or a k below 1.
    """
    for name, embeddings, labels in (
        ("queries", query_embeddings, query_labels),
        ("gallery", gallery_embeddings, gallery_labels),
    ):
        if labels.ndim != 1 or len(embeddings) != len(labels):
            raise InputError(
                f"The {name} have {len(embeddings)} embeddings and labels of shape {tuple(labels.shape)}: "
                f"one label for each."
            )
    if exclusion is not None:
        exclusion.check(len(query_labels), len(gallery_labels))
    return metrics_of(
        query_embeddings,
        gallery_embeddings,
        count_positives(query_labels, gallery_labels, exclusion),
        lambda part, neighbours: hit_matrix(neighbours, query_labels[part], gallery_labels),
        ks=ks,
        exclusion=exclusion,
        full_ranking=full_ranking,
        memory_limit=memory_limit,
    )


def metrics_of(
    query_embeddings: Tensor,
    gallery_embeddings: Tensor,
    positives: Tensor,
    hits_of: Callable[[slice, Neighbours], Tensor],
    *,
    ks: Sequence[int],
    exclusion: Exclusion | None,
    full_ranking: bool = False,
    memory_limit: int = MEMORY_LIMIT,
) -> RetrievalMetrics:
    """All metrics of one search, whatever says which answers are right.

    Args:
        query_embeddings: (Q, D) unit rows.
        gallery_embeddings: (G, D) unit rows.
        positives: (Q,) right answers that each query may find.
        hits_of: (q, k) bool, which of the neighbours of a slice of the queries are right.
        ks: of recall@k and precision@k.
        exclusion: what each query must not find.
        full_ranking: also mAP and mINP over all ranks.
        memory_limit: bytes of working memory, about.

    Raises:
        InputError: values that are not finite, or a k below 1.
    """
    if not ks or min(ks) < 1:
        raise InputError(f"recall@k is asked for k in {tuple(ks)}: every k must be at least 1.")
    ranks = max(*ks, int(positives.max()) if len(positives) else 0)
    depth = max(ranks, len(gallery_embeddings)) if full_ranking else ranks
    totals = _Totals(positives, ks, ranks, full_ranking)
    # In parts, so that the ranks of all queries are never held at once: 32 bytes for each while metrics are computed.
    rows = max(1, memory_limit // 2 // (depth * 32))
    for start in range(0, len(query_embeddings), rows):
        part = slice(start, min(start + rows, len(query_embeddings)))
        neighbours = nearest(
            query_embeddings[part],
            gallery_embeddings,
            depth,
            exclusion=None if exclusion is None else exclusion.of(part),
            memory_limit=memory_limit // 2,
        )
        totals.add(part, neighbours, hits_of(part, neighbours))
    return totals.metrics()


class _Totals:
    """Metrics over the parts of the queries that were searched for so far.

    Args:
        positives: (Q,) right answers that each query may find; queries without any count nowhere.
        ks: of recall@k and precision@k.
        ranks: that metrics other than the full mAP look at.
        full_ranking: whether mAP over all ranks is asked for.
    """

    def __init__(self, positives: Tensor, ks: Sequence[int], ranks: int, full_ranking: bool) -> None:
        self.positives, self.valid = positives, positives > 0
        self.queries = int(self.valid.sum())
        self.ranks, self.full_ranking = ranks, full_ranking
        self.hits_at_1 = torch.zeros_like(self.valid)
        self.average_precision = torch.zeros(len(positives), dtype=torch.float64, device=positives.device)
        self.nearest = torch.full_like(positives, -1)
        self.recall, self.precision = dict.fromkeys(ks, 0.0), dict.fromkeys(ks, 0.0)
        self.map_at_r = self.r_precision = self.mrr = self.full = self.minp = 0.0

    def add(self, part: slice, neighbours: Neighbours, hits: Tensor) -> None:
        """Count the hits (q, k) of a slice of the queries among their neighbours."""
        self.hits_at_1[part] = hits[:, 0]
        self.nearest[part] = neighbours.indices[:, 0]
        valid = self.valid[part]
        hits, relevant = hits[valid], self.positives[part][valid]
        if len(hits) == 0:
            return
        share = len(hits) / self.queries
        for k in self.recall:
            self.recall[k] += share * recall_at_k(hits, k)
            self.precision[k] += share * precision_at_k(hits, k)
        looked_at = hits[:, : self.ranks]
        of_each = average_precision(_within_r(looked_at, relevant), relevant)
        self.average_precision[torch.nonzero(valid).flatten() + part.start] = of_each
        self.map_at_r += share * of_each.mean().item()
        self.r_precision += share * r_precision(looked_at, relevant)
        self.mrr += share * mean_reciprocal_rank(looked_at)
        if self.full_ranking:
            self.full += share * mean_average_precision(hits, relevant)
            self.minp += share * mean_inverse_negative_penalty(hits, relevant)

    def metrics(self) -> RetrievalMetrics:
        """Of all parts."""
        return RetrievalMetrics(
            recall=self.recall,
            precision=self.precision,
            map_at_r=self.map_at_r,
            r_precision=self.r_precision,
            mrr=self.mrr,
            mean_average_precision=self.full if self.full_ranking else None,
            queries=self.queries,
            dropped=len(self.valid) - self.queries,
            hits_at_1=self.hits_at_1,
            average_precision_at_r=self.average_precision,
            nearest=self.nearest,
            valid=self.valid,
            gain_at_1=self.hits_at_1.double(),
            minp=self.minp if self.full_ranking else None,
        )


def _count(queries: Tensor, gallery: Tensor) -> Tensor:
    """(Q,) how often each number occurs in the gallery; numbers count from 0 without large gaps."""
    size = int(torch.cat([queries, gallery]).max()) + 1 if len(queries) + len(gallery) else 0
    return torch.bincount(gallery, minlength=size)[queries]


def _within_r(hits: Tensor, positives: Tensor) -> Tensor:
    return hits & (torch.arange(hits.shape[1], device=hits.device) < positives[:, None])
