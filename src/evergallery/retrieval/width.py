"""Queries of one width in a gallery of another."""

import numpy as np
from numpy.typing import NDArray

TINY = 1e-12


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
    found: NDArray[np.float32] = fitted / np.maximum(np.linalg.norm(fitted, axis=1, keepdims=True), TINY)
    return found
