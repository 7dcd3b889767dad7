"""Long rankings: the first k of N scores where k is hundreds or thousands, as R-precision and mAP@R ask for them."""

import numpy as np
from numpy.typing import NDArray

SAMPLED = 31
"""One score in so many is looked at to guess from where on scores are among the first; a prime, lest classes that come in turn
are left out."""
COLUMN = 2**32 - 1
LAST = np.iinfo(np.int64).max
UNSIGNED = np.int32(2**31 - 1)


def first(scores: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """(k,) columns of the largest scores, best first, equal ones in column order: exact, without sorting all.

    Args:
        scores: (N,), not NaN; N below 2³².
        k: at most N.
    """
    columns = _above_a_guess(scores, k)
    keys = _keys(scores[columns], columns)
    if k < len(keys):
        keys = np.partition(keys, k - 1)[:k]
    keys.sort()
    return keys & COLUMN


def _above_a_guess(scores: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """Columns among which the first k are: those above a guess from a sample, or all where too few are above it."""
    sample = scores[::SAMPLED]
    if _guess(k) < len(sample):
        found = np.flatnonzero(scores >= guessed(sample[None], k)[0])
        if len(found) >= k:
            return found
    return np.arange(len(scores))


def _guess(k: int) -> int:
    # Of a thousand samples about one shows fewer of the first k.
    rank = k / SAMPLED
    return int(rank + 3 * rank**0.5) + 2


def room(k: int) -> int:
    """Return how many scores of a row are above a guess, at most: where more are, the guess is given up."""
    guess = _guess(k)
    return int(guess + 4 * guess**0.5) * SAMPLED


def guessed(sample: NDArray[np.float32], k: int) -> NDArray[np.float32]:
    """(R,) a score for each row above which the first k are, most probably, and not many others.

    Args:
        sample: (R, S) every 31st score of each row, S above ``room(k) / 31``.
        k: at least 1.
    """
    place = sample.shape[1] - _guess(k)
    return np.ascontiguousarray(np.partition(sample, place, axis=1)[:, place])


class StreamingTopK:
    """The first k scores of R rows, whose columns come a block at a time.

    Only what is above a guess is kept of a block and sorted in the end, so that a block can be looked at while it is in the
    processor's cache. Threads may add different rows at the same time.

    Args:
        least: (R,) from where on scores are kept.
        k: how many are wanted.
        widest: columns of a block, at most.
    """

    def __init__(self, least: NDArray[np.float32], k: int, widest: int) -> None:
        self.least, self.k = least, k
        self._keys = np.full((len(least), room(k)), LAST)
        self._filled = np.zeros(len(least), np.int64)
        # Memory that is used again stays warm.
        self._above = np.empty((len(least), widest), np.bool_)

    def add(self, block: NDArray[np.float32], rows: slice, start: int) -> None:
        """Look at a block (r, C) of scores, not NaN, of some rows; its first column is ``start``."""
        width, size = block.shape[1], self._keys.shape[1]
        above = self._above[rows].reshape(-1)[: block.size].reshape(block.shape)
        flat = np.flatnonzero(np.greater_equal(block, self.least[rows, None], out=above))
        line = np.arange(len(block))
        ends = np.searchsorted(flat, width * np.arange(len(block) + 1))
        counts, filled = np.diff(ends), self._filled[rows]
        keys = _keys(block.reshape(-1)[flat], flat - np.repeat(width * line - start, counts))
        places = np.arange(len(flat)) + np.repeat(line * size + filled - ends[:-1], counts)
        filled += counts
        if filled.max() > size:
            kept = np.repeat(filled <= size, counts)
            keys, places = keys[kept], places[kept]
        self._keys[rows].reshape(-1)[places] = keys

    def ranked(self, rows: slice) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.bool_]]:
        """(r, k) columns and (r, k) scores, best first, equal ones in column order, of some rows; (r,) which of them are right.

        The others are those whose guess was wrong.
        """
        keys, filled = self._keys[rows], self._filled[rows]
        keys.sort(axis=1)
        keys = keys[:, : self.k]
        return keys & COLUMN, _scores(keys), (filled >= self.k) & (filled <= self._keys.shape[1])


def _keys(scores: NDArray[np.float32], columns: NDArray[np.int64]) -> NDArray[np.int64]:
    """One whole number a score, whose order is that of the scores, falling, and then of the columns; -0.0 becomes 0.0."""
    bits = (scores + np.float32(0)).view(np.int32)
    bits ^= (bits >> 31) & UNSIGNED
    keys = (~bits).astype(np.int64)
    keys <<= 32
    keys |= columns
    return keys


def _scores(keys: NDArray[np.int64]) -> NDArray[np.float32]:
    """The scores that ``_keys`` was given."""
    bits = ~(keys >> 32).astype(np.int32)
    bits ^= (bits >> 31) & UNSIGNED
    return bits.view(np.float32)
