"""Exact nearest neighbours by blocked matmul, in bounded memory, on CPU and CUDA alike."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import repeat

import torch
from torch import Tensor

from evergallery.errors import InputError
from evergallery.retrieval.ranking import SAMPLED, StreamingTopK, first, guessed, room

MEMORY_LIMIT = 256 * 2**20
# On a CPU, blocks that stay near the cache are faster than larger ones.
CPU_BLOCK = 32 * 2**20
LONG = 128
"""Neighbours from which on merging the best of blocks takes longer than looking at whole rows of scores."""
ROWS = 64
"""Queries whose whole rows are held at once, at most: enough for fast products, in memory that is used again while warm."""
MANY_ITEMS, MANY_QUERIES = 10_000, 256
"""The gallery items and queries from which on short rankings, too, are found faster among candidates than by merging blocks."""
COLUMNS = 2048
"""Gallery items that long rankings of many queries are compared with at once: their scores stay in the cache."""


@dataclass(frozen=True)
class Exclusion:
    """Gallery items that a query must not find.

    Attributes:
        itself: (Q,) index of the query in the gallery, -1 where it is not there.
        query_labels: (Q,) with ``gallery_labels`` (G,), ``query_cameras`` (Q,) and ``gallery_cameras`` (G,): items of
            the same label and the same camera are left out, as is usual in re-identification. All four or none.
        gallery_labels: (G,) the labels of the items.
        query_cameras: (Q,) the cameras of the queries.
        gallery_cameras: (G,) the cameras of the items.
    """

    itself: Tensor | None = None
    query_labels: Tensor | None = None
    gallery_labels: Tensor | None = None
    query_cameras: Tensor | None = None
    gallery_cameras: Tensor | None = None

    def of(self, rows: slice | Tensor) -> "Exclusion":
        """The exclusion of some of the queries: its ``rows``, a slice or (q,) indices, with the whole gallery."""
        return Exclusion(
            None if self.itself is None else self.itself[rows],
            None if self.query_labels is None else self.query_labels[rows],
            self.gallery_labels,
            None if self.query_cameras is None else self.query_cameras[rows],
            self.gallery_cameras,
        )

    def groups(self) -> tuple[Tensor, Tensor] | None:
        """(Q,) and (G,) numbers, equal where label and camera are; ``None`` without cameras."""
        if (
            self.query_labels is None
            or self.gallery_labels is None
            or self.query_cameras is None
            or self.gallery_cameras is None
        ):
            return None
        return joint_numbers(
            (self.query_labels, self.gallery_labels),
            (self.query_cameras, self.gallery_cameras),
        )

    def check(self, queries: int, gallery: int) -> None:
        """Refuse what does not fit Q queries and G gallery items.

        Raises:
            InputError: a wrong length, an index outside the gallery, or labels and cameras given in part.
        """
        by_name = {
            "itself": (self.itself, queries),
            "query_labels": (self.query_labels, queries),
            "gallery_labels": (self.gallery_labels, gallery),
            "query_cameras": (self.query_cameras, queries),
            "gallery_cameras": (self.gallery_cameras, gallery),
        }
        for name, (values, expected) in by_name.items():
            if values is not None and tuple(values.shape) != (expected,):
                raise InputError(f"{name} of the exclusion has shape {tuple(values.shape)}: it must be ({expected},).")
        missing = [name for name, (values, _) in by_name.items() if values is None and name != "itself"]
        if 0 < len(missing) < 4:
            raise InputError(f"The exclusion by label and camera lacks {', '.join(missing)}: give all four or none.")
        if self.itself is not None and len(self.itself):
            least, most = int(self.itself.min()), int(self.itself.max())
            if least < -1 or most >= gallery:
                wrong = least if least < -1 else most
                raise InputError(
                    f"itself of the exclusion holds {wrong}: it must be an index of the {gallery} gallery items, or -1."
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


@torch.no_grad()
def nearest(
    queries: Tensor,
    gallery: Tensor,
    k: int,
    *,
    exclusion: Exclusion | None = None,
    memory_limit: int = MEMORY_LIMIT,
) -> Neighbours:
    """The k gallery items with the largest inner product; equal scores in gallery order.

    Equal means equal as computed: the order does not depend on which block an item falls in, but two different
    products may round to the same number, and a different block size may round the last bit differently.

    Args:
        queries: (Q, D) unit rows.
        gallery: (G, D) unit rows, on the same device. Computed in float32, or float64 where both are.
        k: how many.
        exclusion: what each query must not find.
        memory_limit: bytes of working memory beside inputs and results, about; below what one query needs with
            ``2 k`` gallery items it cannot go.

    Raises:
        InputError: shapes that do not fit, k below 1, or values that are not finite.
    """
    _check(queries, gallery, k)
    if exclusion is not None:
        exclusion.check(len(queries), len(gallery))
    dtype = torch.float64 if queries.dtype == gallery.dtype == torch.float64 else torch.float32
    rows_at_once = _whole_rows(queries, gallery, k, memory_limit, dtype)
    if rows_at_once:
        return _from_candidates(queries, gallery, k, exclusion, memory_limit, rows_at_once)
    if queries.device.type == "cpu":
        memory_limit = min(memory_limit, CPU_BLOCK)
    row_blocks, column_blocks = _blocks(queries, gallery, k, memory_limit, dtype)
    groups = None if exclusion is None else exclusion.groups()
    indices = torch.full((len(queries), k), -1, dtype=torch.int64, device=queries.device)
    scores = torch.full((len(queries), k), -torch.inf, dtype=dtype, device=queries.device)
    for rows in _slices(len(queries), row_blocks):
        some = queries[rows].to(dtype)
        best: tuple[Tensor, Tensor] | None = None
        for columns in _slices(len(gallery), column_blocks):
            block = some @ gallery[columns].to(dtype).T
            exclude(block, exclusion, groups, rows, columns)
            found, where = _top(block, min(k, block.shape[1]))
            where += columns.start
            if best is not None:
                # Earlier blocks stand first and the sort is stable, so equal scores stay in gallery order.
                found, order = torch.cat([best[0], found], 1).sort(dim=1, descending=True, stable=True)
                found = found[:, :k]
                where = torch.cat([best[1], where], 1).gather(1, order[:, :k])
            best = found, where
        if best is not None:
            width = best[0].shape[1]
            scores[rows, :width] = best[0]
            indices[rows, :width] = best[1].masked_fill_(best[0] == -torch.inf, -1)
    return Neighbours(indices, scores)


def _whole_rows(queries: Tensor, gallery: Tensor, k: int, memory_limit: int, dtype: torch.dtype) -> int:
    """Queries whose scores with the whole gallery are held at once; 0 where merging blocks is faster, or a row is too large."""
    if queries.device.type != "cpu" or dtype != torch.float32 or k >= len(gallery):
        return 0
    if k < LONG and (len(gallery) < MANY_ITEMS or min(len(queries), _at_once(gallery, k, memory_limit)) < MANY_QUERIES):
        return 0
    # A score, and for each thread the mask and the candidates of one row.
    row, work = 4 * len(gallery), 24 * len(gallery) * torch.get_num_threads()
    return min(len(queries), ROWS, max(0, (memory_limit - work) // row))


def _at_once(gallery: Tensor, k: int, memory_limit: int) -> int:
    """Queries whose candidates are held at once."""
    # Of a query: what is above its guess, twice while it is sorted, its part of a block, and of the sample.
    return memory_limit // (16 * room(k) + 32 * COLUMNS + 4 * len(gallery) // SAMPLED)


def _from_candidates(
    queries: Tensor, gallery: Tensor, k: int, exclusion: Exclusion | None, memory_limit: int, rows_at_once: int
) -> Neighbours:
    """Rankings of many queries at once, from blocks of columns that stay in the cache; ``rows_at_once`` where it fails."""
    at_once = min(len(queries), _at_once(gallery, k, memory_limit))
    # A few queries are not worth so many steps.
    if at_once < ROWS or room(k) >= len(gallery) // 2:
        return _from_whole_rows(queries, gallery, k, exclusion, rows_at_once)
    indices = torch.empty(len(queries), k, dtype=torch.int64)
    scores = torch.empty(len(queries), k)
    right = torch.zeros(len(queries), dtype=torch.bool)
    groups = None if exclusion is None else exclusion.groups()
    sample = gallery[::SAMPLED].float().T
    sample_groups = None if groups is None else (groups[0], groups[1][::SAMPLED])
    memory, threads = torch.empty(at_once * COLUMNS), torch.get_num_threads()
    with ThreadPoolExecutor(threads) as pool:
        for rows in _slices(len(queries), at_once):
            some = queries[rows].float()
            guess = some @ sample
            exclude(guess, None, sample_groups, rows, slice(0, sample.shape[1]))
            leading = StreamingTopK(guessed(guess.numpy(), k), k, COLUMNS)
            parts = list(_slices(len(some), -(-len(some) // threads)))

            def add(part: slice, block: Tensor, start: int, leading: StreamingTopK = leading) -> None:
                leading.add(block[part].numpy(), part, start)

            def rank(part: slice, start: int = rows.start, leading: StreamingTopK = leading) -> None:
                place = slice(start + part.start, start + part.stop)
                indices[place], scores[place], right[place] = map(torch.from_numpy, leading.ranked(part))

            for columns in _slices(len(gallery), COLUMNS):
                those = gallery[columns].float().T
                block = memory[: len(some) * those.shape[1]].view(len(some), -1)
                torch.mm(some, those, out=block)
                exclude(block, exclusion, groups, rows, columns)
                list(pool.map(add, parts, repeat(block), repeat(columns.start)))
            list(pool.map(rank, parts))
    wrong = torch.nonzero(~right).flatten()
    if len(wrong):
        others = None if exclusion is None else exclusion.of(wrong)
        found = _from_whole_rows(queries[wrong], gallery, k, others, rows_at_once)
        indices[wrong], scores[wrong] = found.indices, found.scores
    return Neighbours(indices.masked_fill_(scores == -torch.inf, -1), scores)


def _from_whole_rows(queries: Tensor, gallery: Tensor, k: int, exclusion: Exclusion | None, at_once: int) -> Neighbours:
    groups = None if exclusion is None else exclusion.groups()
    indices = torch.empty(len(queries), k, dtype=torch.int64)
    scores = torch.empty(len(queries), k)
    block = torch.empty(at_once, len(gallery))
    # Numbers of another kind become float32 a block at a time.
    columns = len(gallery) if gallery.dtype == torch.float32 else max(1, CPU_BLOCK // (4 * gallery.shape[1]))

    def rank(row: int, place: int) -> None:
        found = torch.from_numpy(first(block[place].numpy(), k))
        scores[row] = block[place, found]
        indices[row] = found

    with ThreadPoolExecutor(torch.get_num_threads()) as threads:
        for rows in _slices(len(queries), at_once):
            some, part = queries[rows].float(), block[: rows.stop - rows.start]
            for some_columns in _slices(len(gallery), columns):
                torch.mm(some, gallery[some_columns].float().T, out=part[:, some_columns])
            exclude(part, exclusion, groups, rows, slice(0, len(gallery)))
            list(threads.map(rank, range(rows.start, rows.stop), range(len(part))))
    return Neighbours(indices.masked_fill_(scores == -torch.inf, -1), scores)


def exclude(
    block: Tensor, exclusion: Exclusion | None, groups: tuple[Tensor, Tensor] | None, rows: slice, columns: slice
) -> None:
    """Give no score to what queries must not find.

    Args:
        block: (q, g) scores, changed in place.
        exclusion: what each query must not find.
        groups: of the exclusion, which are numbered once for all blocks.
        rows: the queries of the block.
        columns: its gallery items.
    """
    if exclusion is not None and exclusion.itself is not None:
        itself = exclusion.itself[rows]
        inside = torch.nonzero((itself >= columns.start) & (itself < columns.stop)).flatten()
        block[inside, itself[inside] - columns.start] = -torch.inf
    if groups is not None:
        block.masked_fill_(groups[0][rows, None] == groups[1][None, columns], -torch.inf)


def joint_numbers(first: tuple[Tensor, Tensor], *others: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Number the distinct combinations of several values, so that memory never grows with the values.

    Args:
        first: a pair of (Q,) and (G,) int64, any values.
        *others: more of them.

    Returns:
        (Q,) and (G,) int64 from 0, equal exactly where every column is equal.
    """
    joint = _numbered(torch.cat(first))
    for column in others:
        numbers = _numbered(torch.cat(column))
        joint = _numbered(joint * (len(numbers) + 1) + numbers)
    count = len(first[0])
    return joint[:count], joint[count:]


def _numbered(values: Tensor) -> Tensor:
    numbers: Tensor = torch.unique(values, return_inverse=True)[1]
    return numbers


def _top(block: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Largest k of each row, equal values in column order, which ``topk`` alone does not promise."""
    if k == block.shape[1]:
        values, where = block.sort(dim=1, descending=True, stable=True)
        return values, where
    # One more than asked for shows whether the last place was taken by chance.
    values, where = block.topk(k + 1, dim=1)
    tied = ((values[:, 1:] == values[:, :-1]) & (values[:, 1:] > -torch.inf)).any(1).nonzero().flatten()
    values, where = values[:, :k], where[:, :k]
    for rows in torch.split(tied, max(1, len(block) // 4)):
        part, last = block[rows], values[rows, k - 1 :]
        above, equal = part > last, part == last
        room = k - above.sum(1, keepdim=True)
        # Exactly k of each row, and nonzero lists them in column order.
        kept = above | (equal & (equal.cumsum(1, dtype=torch.int32) <= room))
        columns = kept.nonzero()[:, 1].view(-1, k)
        values[rows], order = part.gather(1, columns).sort(dim=1, descending=True, stable=True)
        where[rows] = columns.gather(1, order)
    return values, where


def _blocks(queries: Tensor, gallery: Tensor, k: int, memory_limit: int, dtype: torch.dtype) -> tuple[int, int]:
    """Rows and columns of a block: wide rather than tall, since merging blocks of the gallery costs a sort."""
    # A score, its mask and the temporaries where scores are equal; then topk, merging and sorting.
    entry, result = dtype.itemsize + 4, 100
    converted = 0 if gallery.dtype == dtype else gallery.shape[1] * dtype.itemsize
    tall = max(1, min(len(queries), 128))
    columns = (memory_limit - tall * result * k) // (tall * entry + converted)
    columns = max(1, min(len(gallery), max(columns, 2 * k)))
    rows = (memory_limit - columns * converted) // (columns * entry + result * min(k, len(gallery)))
    return max(1, min(len(queries), rows)), columns


def _slices(count: int, size: int) -> Iterator[slice]:
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))


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
        # A sum finds NaN and infinity without a mask of the whole; it may itself overflow, so it only accuses.
        accused = torch.nonzero(~torch.isfinite(vectors.sum(1))).flatten()
        wrong = accused[~torch.isfinite(vectors[accused]).all(1)]
        if len(wrong):
            raise InputError(f"Row {int(wrong[0])} of the {name} is not finite: it cannot be compared.")
