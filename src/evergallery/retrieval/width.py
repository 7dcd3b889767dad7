"""Queries of one width in a gallery of another, and rows of any length."""

import numpy as np
from numpy.typing import NDArray

TINY = 1e-12
ONE = np.ones((1, 1), np.float32)
"""The length of rows that count alike."""


def unit_and_length(rows: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Rows (N, D) at unit length, and the lengths (N, 1) that they had; a row of zeros stays one."""
    lengths: NDArray[np.float32] = np.linalg.norm(rows, axis=1, keepdims=True)
    unit = (rows / np.maximum(lengths, TINY)).astype(np.float32, copy=False)
    return unit, lengths


def in_width_of(query: NDArray[np.float32], gallery: NDArray[np.float32]) -> NDArray[np.float32]:
    """Queries as they are compared with a gallery of another width: cut, or padded with zeros, to unit length again.

    Args:
        query: unit rows (Q, D).
        gallery: unit rows (N, D').

    Returns:
        Unit rows (Q, D').
    """
    if query.shape[1] == gallery.shape[1]:
        return query
    fitted = np.zeros((len(query), gallery.shape[1]), query.dtype)
    width = min(query.shape[1], gallery.shape[1])
    fitted[:, :width] = query[:, :width]
    return unit_and_length(fitted)[0]
