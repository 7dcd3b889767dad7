"""Queries and stored vectors compared in both spaces at once, corrected for hubs; no stored vector is rewritten."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from evergallery.adapters.adapter import TINY, Adapter, check_pairs
from evergallery.adapters.held_out import ENOUGH, best_of, folds, reciprocal_ranks
from evergallery.adapters.ridge import Ridge, RidgePaths, ridge_paths

NEIGHBOURS = 10
MOST_BANK = 500


class BilateralAdapter(Adapter):
    """Scores a query q and a stored vector g by ``(cos((q - m) F, g - n) - (r(g) - r̄) / 2 + cos(q - m, (g - n) R)) / 2``.

    F maps queries, R stored vectors; r(g) is the hubness of g among mapped queries of a bank, see ``hubness``, and depends on g
    alone, so it is known of any vector that is ever stored. An engine is asked for what lies near ``q A + a``, the gradient of
    the score where lengths are those of the mean pair; what it finds is ranked by the score.

    Args:
        search_weight: A (D, D').
        search_offset: a (D',).
        forward_weight: F (D, D').
        reverse_weight: R (D', D).
        query_mean: m (D,).
        stored_mean: n (D',).
        bank: (M, D') unit rows, mapped queries.
        level: r̄ (), the mean hubness of the pairs.
    """

    kind = "bilateral"
    rescores = True
    search_weight: Tensor
    search_offset: Tensor
    forward_weight: Tensor
    reverse_weight: Tensor
    query_mean: Tensor
    stored_mean: Tensor
    bank: Tensor
    level: Tensor

    def __init__(
        self,
        search_weight: Tensor,
        search_offset: Tensor,
        forward_weight: Tensor,
        reverse_weight: Tensor,
        query_mean: Tensor,
        stored_mean: Tensor,
        bank: Tensor,
        level: Tensor,
    ) -> None:
        super().__init__(
            search_weight=search_weight,
            search_offset=search_offset,
            forward_weight=forward_weight,
            reverse_weight=reverse_weight,
            query_mean=query_mean,
            stored_mean=stored_mean,
            bank=bank,
            level=level,
        )

    @property
    def source_dimension(self) -> int:
        """D of the embeddings that the adapter maps."""
        return len(self.query_mean)

    @property
    def dimension(self) -> int:
        """D' of the embeddings that the adapter gives."""
        return len(self.stored_mean)

    def map(self, embeddings: Tensor) -> Tensor:
        """Embeddings (N, D) to (N, D') of any length, where stored vectors of a high score lie."""
        return torch.addmm(self.search_offset, embeddings, self.search_weight)

    def query_side(self, embeddings: Tensor) -> Tensor:
        """Queries (N, D) to (N, D' + 1 + D)."""
        centred = embeddings.detach() - self.query_mean
        ones = centred.new_ones(len(centred), 1)
        return torch.cat([F.normalize(centred @ self.forward_weight), ones, F.normalize(centred)], 1) / 2

    def stored_side(self, vectors: Tensor) -> Tensor:
        """Stored vectors (N, D') to (N, D' + 1 + D)."""
        centred = vectors.detach() - self.stored_mean
        stored = F.normalize(centred)
        correction = (self.level - hubness(stored, self.bank))[:, None] / 2
        return torch.cat([stored, correction, F.normalize(centred @ self.reverse_weight)], 1)


def hubness(stored: Tensor, bank: Tensor, neighbours: int = NEIGHBOURS) -> Tensor:
    """(N,) mean cosine of each row with its nearest rows of the bank: large where a vector answers whatever is asked.

    Half of it is what CSLS subtracts (Conneau et al., ICLR 2018). The nearest row itself is left out: it may be the same
    image by the other model, and no vector shall be ranked lower because it was among the pairs.

    Args:
        stored: (N, D) unit rows.
        bank: (M, D) unit rows.
        neighbours: fewer where the bank is smaller.
    """
    found = (stored @ bank.T).topk(min(neighbours + 1, len(bank)), 1).values
    return found[:, 1:].mean(1) if len(bank) > 1 else found.mean(1)


@dataclass(frozen=True)
class _Sides:
    """Both regressions of some pairs."""

    source: Tensor
    target: Tensor
    forward: RidgePaths
    reverse: RidgePaths

    @classmethod
    def of(cls, source: Tensor, target: Tensor) -> "_Sides":
        return cls(source, target, ridge_paths(source, target), ridge_paths(target, source))

    def adapter(self, forward: Ridge, reverse: Ridge) -> BilateralAdapter:
        dtype = self.source.dtype
        query_mean, stored_mean = self.source.mean(0), self.target.mean(0)
        forward_weight, reverse_weight = self.forward.weight(forward).to(dtype), self.reverse.weight(reverse).to(dtype)
        queries, stored = self.source - query_mean, self.target - stored_mean
        rows = torch.linspace(0, len(queries) - 1, min(MOST_BANK, len(queries))).long()
        bank = F.normalize(queries[rows] @ forward_weight)
        search_weight = forward_weight / _length(queries @ forward_weight)
        search_weight += reverse_weight.T / (_length(queries) * _length(stored @ reverse_weight))
        return BilateralAdapter(
            search_weight=search_weight,
            search_offset=-query_mean @ search_weight,
            forward_weight=forward_weight,
            reverse_weight=reverse_weight,
            query_mean=query_mean,
            stored_mean=stored_mean,
            bank=bank,
            level=hubness(F.normalize(stored[rows]), bank).mean(),
        )


def _length(rows: Tensor) -> Tensor:
    """Length () of the mean row."""
    length: Tensor = torch.linalg.vector_norm(rows, dim=1).mean().clamp_min(TINY)
    return length


def fit_bilateral(source: Tensor, target: Tensor) -> BilateralAdapter:
    """Two ridge regressions, one each way, each of the strength, and towards nothing or a rotation, that serves best.

    Strengths are chosen by the reciprocal rank at which pairs that were held out find their partners, each side by itself,
    the forward one with its correction for hubs. No more pairs are needed than there are, and the dimensions may differ.

    Args:
        source: (N, D) unit rows of the queries' generation.
        target: (N, D') unit rows of the stored generation, of the same images.

    Raises:
        InputError: not two finite embeddings of each image.
    """
    check_pairs(source, target)
    whole = _Sides.of(source, target)
    grids = whole.forward.grid(), whole.reverse.grid()
    ranks: tuple[list[list[Tensor]], list[list[Tensor]]] = ([[] for _ in grids[0]], [[] for _ in grids[1]])
    for fitted, held_out in folds(len(source), ENOUGH):
        sides = _Sides.of(source[fitted], target[fitted])
        held_out = held_out[:ENOUGH]
        width = target.shape[1] + 1
        for forward, reverse, *found in zip(*grids, *ranks, strict=True):
            adapter = sides.adapter(forward, reverse)
            queries, stored = adapter.query_side(source[held_out]), adapter.stored_side(target)
            for part, columns in zip(found, (slice(None, width), slice(width, None)), strict=True):
                part.append(reciprocal_ranks(queries[:, columns], stored[:, columns], held_out))
    best = [grid[best_of(found)] for grid, found in zip(grids, ranks, strict=True)]
    return whole.adapter(*best)
