"""Queries of one width in a gallery of another."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from evergallery.losses import fit_width


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
    found: NDArray[np.float32] = F.normalize(fit_width(torch.from_numpy(query), gallery.shape[1])).numpy()
    return found
