"""Metrics of retrieval, all from one hit matrix; values are fractions in [0, 1].

Rules: a query is left out of its own search by index; equal scores rank in gallery order; a query without a positive in
its gallery is dropped and counted; similarity is the inner product of unit embeddings. Every function of a hit matrix
takes the kept queries only.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from evergallery.arguments.checking import checked
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


def recall_at_k(hits: Tensor, k: int) -> Tensor:
    """(Q,) whether a positive is among the k nearest, as 0 or 1 (CMC rank-k).

    Args:
        hits: (Q, ≥ k) bool.
        k: at least 1.

    Raises:
        InputError: a k below 1.
    """
    _require_ranks([k])
    return hits[:, :k].any(1).double()


def precision_at_k(hits: Tensor, k: int) -> Tensor:
    """(Q,) share of positives among the k nearest.

    Args:
        hits: (Q, ≥ k) bool.
        k: at least 1.

    Raises:
        InputError: a k below 1.
    """
    _require_ranks([k])
    return hits[:, :k].sum(1).double() / k


def r_precision(hits: Tensor, positives: Tensor) -> Tensor:
    """(Q,) ``r / R``: with R positives in the gallery, r of them among the R nearest (Musgrave et al. 2020).

    Args:
        hits: (Q, ≥ max R) bool.
        positives: (Q,) R, at least 1.
    """
    return _within_r(hits, positives).sum(1) / positives.double()


def average_precision_at_r(hits: Tensor, positives: Tensor) -> Tensor:
    """(Q,) ``1/R Σ_{i ≤ R} precision@i · hit_i``, whose mean is mAP@R (Musgrave et al. 2020, equation 7).

    Args:
        hits: (Q, ≥ max R) bool.
        positives: (Q,) R, at least 1.
    """
    return average_precision(_within_r(hits, positives), positives)


def average_precision(hits: Tensor, positives: Tensor) -> Tensor:
    """(Q,) ``1/R Σ_{hits} precision at its rank``, whose mean is mAP where there is a column for every item.

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


def inverse_negative_penalty(hits: Tensor, positives: Tensor) -> Tensor:
    """(Q,) ``R`` over the rank of the last positive, whose mean is mINP (Ye et al. 2021, equation 10).

    Args:
        hits: (Q, G) bool, with every positive in it.
        positives: (Q,) R, at least 1.
    """
    ranks = torch.arange(1, hits.shape[1] + 1, device=hits.device)
    last = (hits * ranks).max(1).values
    return positives.double() / last.clamp(min=1)


def reciprocal_rank(hits: Tensor) -> Tensor:
    """(Q,) one over the rank of the first positive; 0 where it is beyond the matrix.

    Args:
        hits: (Q, k) bool; exact where k reaches the last rank, a lower bound otherwise.
    """
    first = hits.to(torch.uint8).argmax(1) + 1
    return torch.where(hits.any(1), 1 / first.double(), 0.0)


@dataclass(frozen=True)
class Metric:
    """A figure of a search: the mean over its queries of what each of them reaches.

    Attributes:
        of: (q,) float64 in [0, 1], from the hits (q, ranks) and the positives (q,) of some queries, and from k.
        heading: of its column in a table.
        explained: what it is.
        full_ranking: whether it looks at every rank, which sorts the whole gallery for every query.
        shown: whether tables for people have a column of it; files have all metrics.
    """

    of: Callable[[Tensor, Tensor, int], Tensor]
    heading: str
    explained: str
    full_ranking: bool = False
    shown: bool = True


METRICS: dict[str, Metric] = {
    "recall@k": Metric(
        lambda hits, positives, k: recall_at_k(hits, k),
        "R@k",
        "share of queries with a positive among the k nearest items",
    ),
    "precision@k": Metric(
        lambda hits, positives, k: precision_at_k(hits, k),
        "P@k",
        "share of positives among the k nearest items",
        shown=False,
    ),
    "mAP@R": Metric(
        lambda hits, positives, k: average_precision_at_r(hits, positives),
        "mAP@R",
        "mean average precision over the R nearest items of a query that has R positives",
    ),
    "R-precision": Metric(
        lambda hits, positives, k: r_precision(hits, positives),
        "R-precision",
        "share of positives among the R nearest items of a query that has R positives",
        shown=False,
    ),
    "MRR": Metric(
        lambda hits, positives, k: reciprocal_rank(hits),
        "MRR",
        "mean of one over the rank of the first positive, 0 beyond the ranks that the other metrics need",
        shown=False,
    ),
    "mAP": Metric(
        lambda hits, positives, k: average_precision(hits, positives),
        "mAP",
        "mean average precision over all ranks",
        full_ranking=True,
    ),
    "mINP": Metric(
        lambda hits, positives, k: inverse_negative_penalty(hits, positives),
        "mINP",
        "mean of the number of positives over the rank of the last one",
        full_ranking=True,
    ),
}
"""Every metric of hits by name; one that ends in ``@k`` is taken at several ranks."""


def metric_named(name: str) -> Metric | None:
    """The metric of a figure, such as ``recall@5``; ``None`` for what is no metric of hits."""
    return METRICS.get(re.sub(r"@\d+$", "@k", name))


def figure_names(ks: Sequence[int], *, full_ranking: bool) -> dict[str, tuple[Metric, int]]:
    """Every figure of a search by its name, in the order of ``METRICS``: its metric, and the rank that it is taken at."""
    return {
        f"{name[:-1]}{k}" if name.endswith("@k") else name: (metric, k)
        for name, metric in METRICS.items()
        if full_ranking or not metric.full_ranking
        for k in (ks if name.endswith("@k") else (0,))
    }


@dataclass(frozen=True)
class RetrievalMetrics:
    """The metrics of one search protocol; fractions in [0, 1].

    Attributes:
        values: every figure by name: those of ``METRICS``, such as ``recall@5``, and ``nDCG@k`` where judgements are graded.
        queries: how many counted; with none, every value is 0.
        dropped: queries without a positive in the gallery.
        hits_at_1: (Q,) bool, of all queries, whether the nearest item is a positive.
        gain_at_1: (Q,) float64, of all queries, what the nearest item is worth: 1 for a positive, nDCG@1 where judgements are
            graded.
        average_precision_at_r: (Q,) float64, whose mean over the counted queries is mAP@R; 0 for the others.
        nearest: (Q,) int64, index in the gallery of the nearest item, -1 where there is none.
        valid: (Q,) bool, which queries counted.
    """

    values: dict[str, float]
    queries: int
    dropped: int
    hits_at_1: Tensor = field(repr=False, compare=False)
    average_precision_at_r: Tensor = field(repr=False, compare=False)
    nearest: Tensor = field(repr=False, compare=False)
    valid: Tensor = field(repr=False, compare=False)
    gain_at_1: Tensor = field(repr=False, compare=False)

    @property
    def recall(self) -> dict[int, float]:
        """recall@k by k."""
        return self.at_ranks("recall")

    @property
    def ndcg(self) -> dict[int, float] | None:
        """nDCG@k by k; ``None`` where judgements are not graded."""
        return self.at_ranks("nDCG") or None

    @property
    def map_at_r(self) -> float:
        """mAP@R."""
        return self.values["mAP@R"]

    @property
    def score(self) -> float:
        """Return what two searches are compared by: recall@1, or nDCG@1 where judgements are graded."""
        return self.recall[1] if self.ndcg is None else self.ndcg[1]

    def at_ranks(self, name: str) -> dict[int, float]:
        """``NAME@k`` by k."""
        found = (figure.rpartition("@") for figure in self.values)
        return {int(k): self.values[f"{name}@{k}"] for base, _, k in found if base == name}

    def __repr__(self) -> str:
        figures = self.to_dict().items()
        values = (f"{name}={value:.4f}" if isinstance(value, float) else f"{name}={value}" for name, value in figures)
        return f"RetrievalMetrics({', '.join(values)})"

    def to_dict(self) -> dict[str, Any]:
        """The figures by their names, as JSON values."""
        return {**self.values, "queries": self.queries, "dropped": self.dropped}


@checked
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
        full_ranking: also the metrics over all ranks, mAP and mINP, which sort the whole gallery for every query.
        memory_limit: bytes of working memory, about.

    Raises:
        InputError: no tensors, shapes that do not fit, values that are not finite, or a k below 1.
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
    search = ExactSearch(query_embeddings, gallery_embeddings, exclusion, memory_limit)
    answers = RightAnswers(
        count_positives(query_labels, gallery_labels, exclusion),
        lambda part, neighbours: hit_matrix(neighbours, query_labels[part], gallery_labels),
    )
    return metrics_of(search, answers, ks, full_ranking=full_ranking)


@dataclass(frozen=True, eq=False)
class ExactSearch:
    """Queries among the items of a gallery, all of which they are compared with.

    Attributes:
        queries: (Q, D) unit rows.
        gallery: (G, D) unit rows.
        exclusion: what each query must not find.
        memory_limit: bytes of working memory, about.
    """

    queries: Tensor
    gallery: Tensor
    exclusion: Exclusion | None = None
    memory_limit: int = MEMORY_LIMIT

    def in_parts(self, depth: int) -> Iterator[tuple[slice, Neighbours]]:
        """So many neighbours of each query, slice by slice of the queries."""
        # In parts, so that the ranks of all queries are never held at once: 32 bytes for each while metrics are computed.
        rows = max(1, self.memory_limit // 2 // (depth * 32))
        for start in range(0, len(self.queries), rows):
            part = slice(start, min(start + rows, len(self.queries)))
            exclusion = None if self.exclusion is None else self.exclusion.of(part)
            limit = self.memory_limit // 2
            yield part, nearest(self.queries[part], self.gallery, depth, exclusion=exclusion, memory_limit=limit)


@dataclass(frozen=True, eq=False)
class RightAnswers:
    """Says which answers are right.

    Attributes:
        positives: (Q,) right answers that each query may find.
        hits: (q, k) bool, which of the neighbours of a slice of the queries are right.
    """

    positives: Tensor
    hits: Callable[[slice, Neighbours], Tensor]


def metrics_of(
    search: ExactSearch, answers: RightAnswers, ks: Sequence[int], *, full_ranking: bool = False
) -> RetrievalMetrics:
    """All metrics of one search, whatever says which answers are right.

    Args:
        search: of Q queries.
        answers: that are right.
        ks: of recall@k and precision@k.
        full_ranking: also mAP and mINP over all ranks.

    Raises:
        InputError: values that are not finite, or a k below 1.
    """
    _require_ranks(ks)
    positives = answers.positives
    ranks = max(*ks, int(positives.max()) if len(positives) else 0)
    totals = _Totals(positives, ks, ranks, full_ranking)
    for part, neighbours in search.in_parts(max(ranks, len(search.gallery)) if full_ranking else ranks):
        totals.add(part, neighbours, answers.hits(part, neighbours))
    return totals.metrics()


def _require_ranks(ks: Sequence[int]) -> None:
    """Refuse ranks of which there are none, or that begin before the first."""
    if not ks or min(ks) < 1:
        raise InputError(f"recall@k is asked for k in {tuple(ks)}: every k must be at least 1.")


class _Totals:
    """Metrics over the parts of the queries that were searched for so far.

    Args:
        positives: (Q,) right answers that each query may find; queries without any count nowhere.
        ks: of recall@k and precision@k.
        ranks: that the other metrics look at.
        full_ranking: whether metrics over all ranks are asked for.
    """

    def __init__(self, positives: Tensor, ks: Sequence[int], ranks: int, full_ranking: bool) -> None:
        self.positives, self.valid = positives, positives > 0
        self.queries = int(self.valid.sum())
        self.ranks = ranks
        self.hits_at_1 = torch.zeros_like(self.valid)
        self.average_precision = torch.zeros(len(positives), dtype=torch.float64, device=positives.device)
        self.nearest = torch.full_like(positives, -1)
        self.figures = figure_names(ks, full_ranking=full_ranking)
        self.values = dict.fromkeys(self.figures, 0.0)

    def add(self, part: slice, neighbours: Neighbours, hits: Tensor) -> None:
        """Count the hits (q, k) of a slice of the queries among their neighbours."""
        self.hits_at_1[part] = hits[:, 0]
        self.nearest[part] = neighbours.indices[:, 0]
        valid = self.valid[part]
        hits, relevant = hits[valid], self.positives[part][valid]
        if len(hits) == 0:
            return
        share = len(hits) / self.queries
        looked_at = hits[:, : self.ranks]
        for name, (metric, k) in self.figures.items():
            of_each = metric.of(hits if metric.full_ranking else looked_at, relevant, k)
            self.values[name] += share * of_each.mean().item()
            if name == "mAP@R":
                self.average_precision[torch.nonzero(valid).flatten() + part.start] = of_each

    def metrics(self) -> RetrievalMetrics:
        """The figures over all parts."""
        return RetrievalMetrics(
            values=self.values,
            queries=self.queries,
            dropped=len(self.valid) - self.queries,
            hits_at_1=self.hits_at_1,
            average_precision_at_r=self.average_precision,
            nearest=self.nearest,
            valid=self.valid,
            gain_at_1=self.hits_at_1.double(),
        )


def _count(queries: Tensor, gallery: Tensor) -> Tensor:
    """(Q,) how often each number occurs in the gallery; numbers count from 0 without large gaps."""
    size = int(torch.cat([queries, gallery]).max()) + 1 if len(queries) + len(gallery) else 0
    return torch.bincount(gallery, minlength=size)[queries]


def _within_r(hits: Tensor, positives: Tensor) -> Tensor:
    return hits & (torch.arange(hits.shape[1], device=hits.device) < positives[:, None])
