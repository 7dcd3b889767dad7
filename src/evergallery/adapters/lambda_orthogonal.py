"""λ-orthogonality: an affine map that may leave the rotations, but not by much (Ricci et al. 2025, arXiv 2509.16664)."""

import math

import torch
from torch import Tensor

from evergallery.adapters.adapter import check_pairs
from evergallery.adapters.linear import LinearAdapter
from evergallery.adapters.procrustes import procrustes_rotation

ITERATIONS = 100


class LambdaOrthogonalAdapter(LinearAdapter):
    """``x W + b`` with W near a rotation."""

    kind = "lambda-orthogonal"


def distance_from_orthogonal(weight: Tensor) -> Tensor:
    """``‖W Wᵀ - I‖_F``, of the narrower side where W is not square: 0 for orthonormal rows, or columns.

    Args:
        weight: (D, D').

    Returns:
        A scalar ≥ 0.
    """
    product = weight @ weight.T if weight.shape[0] <= weight.shape[1] else weight.T @ weight
    distance: Tensor = torch.linalg.vector_norm(
        product - torch.eye(len(product), dtype=weight.dtype, device=weight.device)
    )
    return distance


def lambda_orthogonality(weight: Tensor, threshold: float, sharpness: float) -> Tensor:
    """``sigmoid(α (n - λ)) · n`` with ``n = ‖W Wᵀ - I‖_F``: nothing well below λ, n itself well above it.

    Args:
        weight: (D, D').
        threshold: λ ≥ 0.
        sharpness: α > 0.

    Returns:
        A scalar ≥ 0.
    """
    distance = distance_from_orthogonal(weight)
    return torch.sigmoid(sharpness * (distance - threshold)) * distance


@torch.enable_grad()
def fit_lambda_orthogonal(
    source: Tensor, target: Tensor, *, threshold: float = 0.5, sharpness: float = 10.0
) -> LambdaOrthogonalAdapter:
    """``argmin_{W, b} mean |source W + b - target|² + sigmoid(α (n - λ)) · n``, ``n = ‖W Wᵀ - I‖_F``.

    The penalty and the squared distance are the paper's. Ours: one map, from source to target, where the paper learns a
    rotation and an affine map that meet, with a contrastive term that needs labels; the threshold in units of ``√D``, so
    that it means the same for any dimension, and its value, which lets the mean squared stretch leave 1 by about a half
    (the paper has λ = 12); α; a full-batch quasi-Newton method from the Procrustes rotation in place of Adam, since pairs
    enter by their second moments only. Directions that no pair shows stay as in the rotation.

    Args:
        source: (N, D) unit rows.
        target: (N, D') unit rows of the same images.
        threshold: λ over ``√min(D, D')``, ≥ 0.
        sharpness: α > 0.

    Raises:
        InputError: not two finite embeddings of each image.
    """
    check_pairs(source, target)
    x, y = source.double(), target.double()
    x_mean, y_mean = x.mean(0), y.mean(0)
    x, y = x - x_mean, y - y_mean
    moment, cross, constant = x.T @ x / len(x), x.T @ y / len(x), y.square().sum() / len(x)
    weight = procrustes_rotation(source.double(), target.double()).requires_grad_()
    limit = threshold * math.sqrt(min(weight.shape))
    optimizer = torch.optim.LBFGS([weight], max_iter=ITERATIONS, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        # mean |x W - y|² without the pairs.
        distance = (weight * (moment @ weight - 2 * cross)).sum() + constant
        loss = distance + lambda_orthogonality(weight, limit, sharpness)
        loss.backward()
        return loss

    optimizer.step(closure)
    weight = weight.detach()
    offset = y_mean - x_mean @ weight
    return LambdaOrthogonalAdapter(weight.to(source.dtype), offset.to(source.dtype))
