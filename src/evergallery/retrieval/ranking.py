"""Long rankings: the first k of N scores where k is hundreds or thousands, as R-precision and mAP@R ask for them."""

import numpy as np
from numpy.typing import NDArray

SAMPLED = 61
"""One score in so many is looked at to guess from where on scores are among the first."""


def first(scores: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """(k,) columns of the largest scores, best first, equal ones in column order: exact, without sorting all.

    Args:
        scores: (N,), not NaN; N below 2³².
        k: at most N.
    """
    columns = _above_a_guess(scores, k)
    # One whole number a column, whose order is that of its score, falling, and then of the column itself; -0.0 becomes 0.0.
    bits = (scores[columns] + np.float32(0)).view(np.uint32)
    falling = np.where(bits >> 31, bits, ~(bits | np.uint32(1 << 31)))
    keys = (falling.astype(np.uint64) << np.uint64(32)) | columns.astype(np.uint64)
    if k < len(keys):
        keys = np.partition(keys, k - 1)[:k]
    keys.sort()
    return (keys & np.uint64(2**32 - 1)).astype(np.int64)


def _above_a_guess(scores: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """Columns among which the first k are: those above a guess from a sample, or all where too few are above it."""
    sample = scores[::SAMPLED]
    rank = k / SAMPLED
    guess = int(rank + 4 * rank**0.5) + 4
    if guess < len(sample):
        found = np.flatnonzero(scores >= np.partition(sample, len(sample) - guess)[len(sample) - guess])
        if len(found) >= k:
            return found
    return np.arange(len(scores))
