"""Rows of a classifier against class centres of another space (LCE, Meng et al., ICCV 2021)."""

from torch import Tensor
from torch.nn import functional as F


def centre_alignment(rows: Tensor, centres: Tensor, present: Tensor) -> Tensor:
    """``mean_{k,d} (w_kd - c_kd)²`` of unit rows w and unit centres c, over the classes that have a centre.

    The mean is over entries, not over classes: D times smaller than the mean squared distance, hence its published
    weight of 100.

    Args:
        rows: (K, D), of any norm.
        centres: (K, D), of any norm.
        present: (K,) bool, which centres exist.

    Returns:
        A scalar; zero, with a graph, where there is none.
    """
    squares = (F.normalize(rows) - F.normalize(centres)).square().mean(1)
    return squares.where(present, 0).sum() / present.sum().clamp(min=1)
