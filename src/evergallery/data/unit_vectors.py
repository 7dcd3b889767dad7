"""Vectors of unit length: how far from it one may be, and how others are brought to it."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

UNIT_TOLERANCE = 1e-3
"""The distance from 1 up to which the length of a vector is taken for that of a unit vector, which is left bit for bit."""


def _norms(embeddings: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Rows (B, D) scaled to a largest coordinate of 1, their lengths (B,), and those before (B,): nothing overflows."""
    exact = embeddings.astype(np.float64)
    largest = np.abs(exact).max(axis=1, initial=0)
    scaled = exact / largest[:, None]
    lengths: NDArray[np.float64] = np.linalg.norm(scaled, axis=1)
    with np.errstate(over="ignore"):
        return scaled, lengths, lengths * largest


def is_unit(embeddings: NDArray[Any]) -> NDArray[np.bool_]:
    """Return which rows (B, D) have unit length (B,)."""
    return np.asarray(np.abs(_norms(embeddings)[2] - 1) <= UNIT_TOLERANCE)


def unit_rows(embeddings: NDArray[Any]) -> NDArray[np.float32]:
    """Finite rows (B, D), none of them zero, at unit length; those that have it already as they are."""
    scaled, lengths, before = _norms(embeddings)
    are_unit = np.abs(before - 1) <= UNIT_TOLERANCE
    with np.errstate(over="ignore"):
        as_they_are = embeddings.astype(np.float32)
    unit: NDArray[np.float32] = np.where(are_unit[:, None], as_they_are, (scaled / lengths[:, None]).astype(np.float32))
    return unit
