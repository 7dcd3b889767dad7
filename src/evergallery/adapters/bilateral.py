"""Queries and stored vectors compared in both spaces at once, corrected for hubs; no stored vector is rewritten."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from evergallery.adapters.adapter import TINY, Adapter, check_pairs
from evergallery.adapters.held_out import ENOUGH, best_of, folds, reciprocal_ranks
from evergallery.adapters.ridge import Ridge, ridge_paths

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


def _bank_rows(pairs: int) -> Tensor:
    """The pairs whose mapped queries are a bank."""
    return torch.linspace(0, pairs - 1, min(MOST_BANK, pairs)).long()


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
    paths = ridge_paths(source, target)
    grids = paths[0].grid(), paths[1].grid()
    ranks = [_ranks(source, target, part, grids) for part in folds(len(source), ENOUGH)]
    forward, reverse = (grid[best_of(found)] for grid, found in zip(grids, zip(*ranks, strict=True), strict=True))
    return _adapter(source, target, paths[0].weight(forward), paths[1].weight(reverse))


def _ranks(
    source: Tensor, target: Tensor, part: tuple[Tensor, Tensor], grids: tuple[Sequence[Ridge], Sequence[Ridge]]
) -> tuple[Tensor, Tensor]:
    """(G, M) reciprocal ranks by each forward ridge, and each reverse one, fitted to some of the pairs, of others as queries."""
    fitted, held_out = part[0], part[1][:ENOUGH]
    forward, reverse = ridge_paths(source[fitted], target[fitted])
    asked, banked = (forward.coordinates(source[rows]) for rows in (held_out, fitted[_bank_rows(len(fitted))]))
    kept = reverse.coordinates(target)
    queries = F.normalize(source[held_out] - source[fitted].mean(0))
    stored = F.normalize(target - target[fitted].mean(0))

    def by_query(ridge: Ridge) -> Tensor:
        coefficients = forward.coefficients(ridge).to(source.dtype)
        bank = F.normalize(banked @ coefficients)
        # The hubness of a vector is one more of its dimensions.
        mapped = F.pad(F.normalize(asked @ coefficients), (0, 1), value=1.0)
        return reciprocal_ranks(mapped, torch.cat([stored, -hubness(stored, bank)[:, None] / 2], 1), held_out)

    def by_stored(ridge: Ridge) -> Tensor:
        mapped = F.normalize(kept @ reverse.coefficients(ridge).to(source.dtype))
        return reciprocal_ranks(queries, mapped, held_out)

    return torch.stack([by_query(ridge) for ridge in grids[0]]), torch.stack([by_stored(ridge) for ridge in grids[1]])


def _adapter(source: Tensor, target: Tensor, forward: Tensor, reverse: Tensor) -> BilateralAdapter:
    """The adapter of these pairs whose regressions are these (D, D') and (D', D)."""
    query_mean, stored_mean = source.mean(0), target.mean(0)
    forward_weight, reverse_weight = forward.to(source.dtype), reverse.to(source.dtype)
    queries, stored = source - query_mean, target - stored_mean
    rows = _bank_rows(len(queries))
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
