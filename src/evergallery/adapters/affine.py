"""A linear map with an offset, by ridge regression."""

import torch
from torch import Tensor
from torch.nn import functional as F

from evergallery.adapters.adapter import Adapter, check_pairs


def fit_affine(new: Tensor, old: Tensor, ridge: float = 1e-3) -> Adapter:
    """New embeddings to the old space by ``argmin_{W, b} |new W + b - old|² + ridge · N · |W|²``.

    Args:
        new: (N, D) unit rows.
        old: (N, D') unit rows of the same images.
        ridge: > 0, relative to one image.

    Raises:
        InputError: not two embeddings of each image.
    """
    check_pairs(new, old)
    x, y = new.double(), old.double()
    x_mean, y_mean = x.mean(0), y.mean(0)
    x, y = x - x_mean, y - y_mean
    gram = x.T @ x + ridge * len(x) * torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
    weight = torch.linalg.solve(gram, x.T @ y)
    offset = y_mean - x_mean @ weight
    weight, offset = weight.to(new.dtype), offset.to(new.dtype)
    return lambda embeddings: F.normalize(embeddings @ weight + offset)
