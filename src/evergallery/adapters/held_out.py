"""Pairs held out of a fit, and how well they find their partners: what an adapter, or its strength, is chosen by."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

FOLDS = 5
ROWS = 1_024
ENOUGH = 400
"""Held-out pairs by which a strength is chosen."""


def folds(count: int, enough: int, seed: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
    """Rows to fit and rows to judge: fifths of the pairs in random order, as many as it takes for ``enough`` judged ones.

    Args:
        count: of pairs, at least 2.
        enough: few pairs are judged all; of many, one fifth may do.
        seed: of the order.
    """
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    parts = order.chunk(FOLDS)
    judged = 0
    for index, held_out in enumerate(parts):
        yield torch.cat([part for other, part in enumerate(parts) if other != index]), held_out
        judged += len(held_out)
        if judged >= enough:
            return


def reciprocal_ranks(queries: Tensor, stored: Tensor, rows: Tensor) -> Tensor:
    """(M,) one over the place at which each query finds its partner; what scores the same stands behind it.

    Args:
        queries: (M, E) as they are compared.
        stored: (N, E) as they are compared.
        rows: (M,) the partner of each.
    """
    ranks = []
    for part, partners in zip(torch.split(queries, ROWS), torch.split(rows, ROWS), strict=True):
        scores = part @ stored.T
        own = scores.gather(1, partners.to(scores.device)[:, None])
        ranks.append(1 / (1 + (scores > own).sum(1)))
    return torch.cat(ranks)


def best_of(ranks: Sequence[Tensor]) -> int:
    """The index of the first candidate with the highest mean of all its ranks, which come in parts (candidates, M)."""
    return int(torch.cat(list(ranks), 1).mean(1).argmax())
