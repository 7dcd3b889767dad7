"""Exact nearest neighbours by blocked matmul, in bounded memory, on CPU and CUDA alike."""

from dataclasses import dataclass

import torch
from torch import Tensor

from evergallery.errors import InputError

MEMORY_LIMIT = 256 * 2**20


@dataclass(frozen=True)
class Exclusion:
    """Gallery items that a query must not find.

    Attributes:
        itself: (Q,) index of the query in the gallery, -1 where it is not there.
        query_labels: (Q,) with ``gallery_labels`` (G,), ``query_cameras`` (Q,) and ``gallery_cameras`` (G,): items of
            the same label and the same camera are left out, as is usual in re-identification.
        gallery_labels: see there.
        query_cameras: see there.
        gallery_cameras: see there.
    """

    itself: Tensor | None = None
    query_labels: Tensor | None = None
    gallery_labels: Tensor | None = None
    query_cameras: Tensor | None = None
    gallery_cameras: Tensor | None = None

    def mask(self, queries: slice, gallery: slice) -> Tensor | None:
        """(Q', G') what is excluded within a block; ``None`` where nothing can be but the query itself."""
        if self.query_cameras is None:
            return None
        assert self.query_labels is not None
        assert self.gallery_labels is not None
        assert self.gallery_cameras is not None
        return (self.query_labels[queries, None] == self.gallery_labels[None, gallery]) & (
            self.query_cameras[queries, None] == self.gallery_cameras[None, gallery]
        )


@dataclass(frozen=True)
class Neighbours:
    """The k nearest gallery items of each query, best first.

    Attributes:
        indices: (Q, k) int64; -1 where the gallery has no more items.
        scores: (Q, k) inner products; ``-inf`` there.
    """

    indices: Tensor
    scores: Tensor


def nearest(
    queries: Tensor,
    gallery: Tensor,
    k: int,
    *,
    exclusion: Exclusion | None = None,
    memory_limit: int = MEMORY_LIMIT,
) -> Neighbours:
    """The k gallery items with the largest inner product; equal scores in gallery order.

    Args:
        queries: (Q, D) unit rows.
        gallery: (G, D) unit rows, on the same device. Computed in float32, or float64 where both are.
        k: how many.
        exclusion: what each query must not find.
        memory_limit: bytes of working memory beside inputs and results, about.

    Raises:
        InputError: shapes that do not fit, k below 1, or values that are not finite.
    """
    _check(queries, gallery, k)
    dtype = torch.float64 if queries.dtype == gallery.dtype == torch.float64 else torch.float32
    query_block, gallery_block = _blocks(len(queries), len(gallery), k, memory_limit, dtype.itemsize)
    indices = queries.new_full((len(queries), k), -1, dtype=torch.int64)
    scores = queries.new_full((len(queries), k), -torch.inf, dtype=dtype)
    for start in range(0, len(queries), query_block):
        rows = slice(start, min(start + query_block, len(queries)))
        best: tuple[Tensor, Tensor] | None = None
        for first in range(0, len(gallery), gallery_block):
            columns = slice(first, min(first + gallery_block, len(gallery)))
            block = queries[rows].to(dtype) @ gallery[columns].to(dtype).T
            _exclude(block, exclusion, rows, columns)
            found, where = _top(block, min(k, block.shape[1]))
            where += first
            if best is not None:
                # Earlier blocks stand first and the sort is stable, so equal scores stay in gallery order.
                both = torch.cat([best[0], found], 1)
                found, order = both.sort(dim=1, descending=True, stable=True)
                found, order = found[:, :k], order[:, :k]
                where = torch.cat([best[1], where], 1).gather(1, order)
            best = found, where
        if best is not None:
            width = best[0].shape[1]
            scores[rows, :width] = best[0]
            indices[rows, :width] = best[1].masked_fill(best[0] == -torch.inf, -1)
    return Neighbours(indices, scores)


def _top(block: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Largest k of each row, equal values in column order, which ``topk`` alone does not promise."""
    wider = min(k + 1, block.shape[1])
    values, where = block.topk(wider, dim=1)
    where, by_column = where.sort(dim=1)
    values, by_value = values.gather(1, by_column).sort(dim=1, descending=True, stable=True)
    where = where.gather(1, by_value)
    if wider > k:
        tied = torch.nonzero((values[:, k - 1] == values[:, k]) & (values[:, k] > -torch.inf)).flatten()
        if len(tied):
            # Which of the equal items topk took is chance; these few rows are sorted whole.
            exact, order = block[tied].sort(dim=1, descending=True, stable=True)
            values[tied], where[tied] = exact[:, :wider], order[:, :wider]
    return values[:, :k], where[:, :k]


def _exclude(block: Tensor, exclusion: Exclusion | None, rows: slice, columns: slice) -> None:
    if exclusion is None:
        return
    if exclusion.itself is not None:
        itself = exclusion.itself[rows]
        inside = torch.nonzero((itself >= columns.start) & (itself < columns.stop)).flatten()
        block[inside, itself[inside] - columns.start] = -torch.inf
    mask = exclusion.mask(rows, columns)
    if mask is not None:
        block.masked_fill_(mask, -torch.inf)


def _blocks(queries: int, gallery: int, k: int, memory_limit: int, itemsize: int) -> tuple[int, int]:
    """Rows and columns of a block: wide rather than tall, since merging blocks of the gallery costs a sort."""
    # A score, its mask and the temporaries of topk.
    entries = max(1, memory_limit // (itemsize + 4))
    columns = min(gallery, max(2 * k, entries // min(queries, 512) if queries else entries, 1))
    return max(1, min(queries, entries // max(1, columns))), max(1, columns)


def _check(queries: Tensor, gallery: Tensor, k: int) -> None:
    if queries.ndim != 2 or gallery.ndim != 2:
        raise InputError(
            f"Queries {tuple(queries.shape)} and gallery {tuple(gallery.shape)} must be (Q, D) and (G, D)."
        )
    if queries.shape[1] != gallery.shape[1]:
        raise InputError(
            f"Queries have {queries.shape[1]} dimensions and the gallery {gallery.shape[1]}: "
            f"they come from different embedding spaces."
        )
    if k < 1:
        raise InputError(f"k is {k}: search for at least 1 neighbour.")
    for name, vectors in (("queries", queries), ("gallery", gallery)):
        if not torch.isfinite(vectors.sum(1)).all():
            row = int(torch.nonzero(~torch.isfinite(vectors).all(1)).flatten()[0])
            raise InputError(f"Row {row} of the {name} is not finite: it cannot be compared.")
