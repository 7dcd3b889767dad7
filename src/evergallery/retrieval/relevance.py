"""Judgements in place of labels: which gallery items are right for which query, and how much."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from evergallery.arguments.checking import checked
from evergallery.errors import InputError
from evergallery.retrieval.knn import MEMORY_LIMIT, Exclusion, Neighbours, nearest
from evergallery.retrieval.metrics import ExactSearch, RetrievalMetrics, RightAnswers, metrics_of


@dataclass(frozen=True)
class Relevance:
    """J judgements on Q queries and G items; what is not judged is not relevant.

    Attributes:
        query: (J,) int64, index of the query.
        item: (J,) int64, index of the item.
        grade: (J,) float64, above 0; 1 for an answer that is right.
        queries: Q.
        items: G.
    """

    query: Tensor
    item: Tensor
    grade: Tensor
    queries: int
    items: int

    def __post_init__(self) -> None:
        if not (len(self.query) == len(self.item) == len(self.grade)) or not (self.grade > 0).all():
            raise InputError("Every judgement needs a query, an item and a grade above 0.")

    @property
    def is_graded(self) -> bool:
        """Return whether some answers are better than others."""
        return len(torch.unique(self.grade)) > 1

    def grades(self, neighbours: Neighbours, start: int = 0) -> Tensor:
        """(q, k) float64 grades of what q queries have found, beginning with the query ``start``; 0 for what is not relevant."""
        keys, order = torch.sort(self.query * self.items + self.item)
        grades = self.grade.double()[order]
        device = neighbours.indices.device
        rows = torch.arange(start, start + len(neighbours.indices), device=device)[:, None]
        asked = rows * self.items + neighbours.indices.clamp(min=0)
        if len(keys) == 0:
            return torch.zeros(asked.shape, dtype=torch.float64, device=device)
        place = torch.searchsorted(keys, asked).clamp(max=len(keys) - 1)
        return torch.where((keys[place] == asked) & (neighbours.indices >= 0), grades[place], 0.0)

    def positives(self, exclusion: Exclusion | None = None) -> Tensor:
        """(Q,) relevant items of each query that it may find."""
        counted = torch.bincount(self.query, minlength=self.queries)
        if exclusion is not None and exclusion.itself is not None:
            itself = exclusion.itself[self.query] == self.item
            counted = counted - torch.bincount(self.query[itself], minlength=self.queries)
        return counted

    def ideal(self, k: int) -> Tensor:
        """(Q, k) float64 the k largest grades of each query, best first; 0 beyond them."""
        device = self.query.device
        found = torch.zeros(self.queries, k, dtype=torch.float64, device=device)
        order = torch.argsort(self.grade, descending=True, stable=True)
        order = order[torch.argsort(self.query[order], stable=True)]
        query = self.query[order]
        first = torch.searchsorted(query, torch.arange(self.queries, device=device))
        rank = torch.arange(len(query), device=device) - first[query]
        kept = rank < k
        found[query[kept], rank[kept]] = self.grade.double()[order][kept]
        return found


@checked
def evaluate_judged(
    query_embeddings: Tensor,
    gallery_embeddings: Tensor,
    relevance: Relevance,
    *,
    ks: Sequence[int] = (1, 5, 10),
    exclusion: Exclusion | None = None,
    memory_limit: int = MEMORY_LIMIT,
) -> RetrievalMetrics:
    """The metrics of ``evaluate`` with judgements in place of labels, and nDCG@k where they are graded.

    ``nDCG@k = Σ_{i ≤ k} (2^grade_i - 1) / log2(1 + i)`` over the same sum of the best order (Järvelin and Kekäläinen 2002, with
    the gain of Burges et al. 2005). With one grade, nDCG@1 is recall@1.

    Args:
        query_embeddings: (Q, D) unit rows.
        gallery_embeddings: (G, D) unit rows, on the same device, as all that follows.
        relevance: of G items for Q queries.
        ks: of recall@k, precision@k and nDCG@k.
        exclusion: what each query must not find, for instance itself.
        memory_limit: bytes of working memory, about.

    Raises:
        InputError: no tensors, not Q queries and G items, or a k below 1.
    """
    if (len(query_embeddings), len(gallery_embeddings)) != (relevance.queries, relevance.items):
        raise InputError(
            f"There are {len(query_embeddings)} queries and {len(gallery_embeddings)} items, and judgements on "
            f"{relevance.queries} and {relevance.items}."
        )
    answers = RightAnswers(
        relevance.positives(exclusion), lambda part, neighbours: relevance.grades(neighbours, part.start) > 0
    )
    found = metrics_of(ExactSearch(query_embeddings, gallery_embeddings, exclusion, memory_limit), answers, ks)
    if not relevance.is_graded:
        return found
    deepest = max(ks)
    grades = relevance.grades(nearest(query_embeddings, gallery_embeddings, deepest, exclusion=exclusion))
    discount = torch.log2(torch.arange(2, deepest + 2, dtype=torch.float64, device=grades.device))
    gains, best = ((torch.exp2(levels) - 1) / discount for levels in (grades, relevance.ideal(deepest)))
    values = {k: gains[:, :k].sum(1) / best[:, :k].sum(1).clamp_min(1e-12) for k in {1, *ks}}
    graded = {f"nDCG@{k}": values[k][found.valid].mean().item() if found.queries else 0.0 for k in ks}
    return replace(found, values={**found.values, **graded}, gain_at_1=values[1])
