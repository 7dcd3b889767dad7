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
        stored: (N, E) likewise.
        rows: (M,) the partner of each.
    """
    found = []
    for some, own in zip(torch.split(queries, ROWS), torch.split(rows, ROWS), strict=True):
        scores = some @ stored.T
        found.append(1 / (1 + (scores > scores.gather(1, own[:, None])).sum(1)))
    return torch.cat(found)


def best_of(ranks: Sequence[Sequence[Tensor]]) -> int:
    """The place of the first one with the highest mean of all its ranks."""
    return int(torch.stack([torch.cat(list(one)).mean() for one in ranks]).argmax())
