"""Vectors of one generation from those of another whose network has the same backbone: no image and no network is run.

A neck ``unit-linear`` maps a unit feature u to ``v ∝ A u + b``. Where A is square and well conditioned, v tells u: it lies on
the ray ``s A⁻¹ v - A⁻¹ b``, s > 0, at the one point of unit length. A network without a neck embeds as u itself. So a stored
vector holds all that any generation of the line has ever seen of its image.
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from evergallery.data.images import Preprocessing
from evergallery.network.embedder import IDENTITIES, Embedder
from evergallery.network.features import backbone_fingerprint

Vectors = NDArray[np.float32]
WORST_CONDITION = 1e3
"""Largest condition of a neck that is inverted, as the mean over its directions: beyond it the result would show what storage
rounds away."""
SINGLE_CONDITION = 10.0
"""Largest condition of a neck that is inverted in float32, at a quarter of the time: the vectors are then right to 5e-6, as far
as the runtimes of one network differ among themselves."""


def vectors_between(
    source: tuple[Embedder, Preprocessing], target: tuple[Embedder, Preprocessing]
) -> Callable[[Vectors], Vectors] | None:
    """Return what turns unit embeddings (N, D) of one network into those (N, D') of another, exactly up to rounding.

    Args:
        source: the network whose embeddings are known, and what images go through before it.
        target: the network whose embeddings are wanted, and what images go through before it.

    Returns:
        ``None`` where they do not share a backbone, or the source's neck cannot be inverted.
    """
    if backbone_fingerprint(*source) != backbone_fingerprint(*target):
        return None
    inverse = unit_features(source[0])
    applied = target[0].neck
    if inverse is None or (len(applied) and target[0].architecture.neck not in IDENTITIES):
        return None

    @torch.inference_mode()
    def between(vectors: Vectors) -> Vectors:
        features = inverse(torch.from_numpy(vectors))
        made = torch.nn.functional.normalize(applied(features.float()))
        return np.asarray(made.numpy(), dtype=np.float32)

    return between


def unit_features(embedder: Embedder) -> Callable[[Tensor], Tensor] | None:
    """Return what turns unit embeddings (N, D) back into unit features (N, W); ``None`` where nothing does."""
    if len(embedder.neck) == 0:
        return lambda vectors: vectors
    linear = next((layer for layer in embedder.neck if isinstance(layer, nn.Linear)), None)
    if embedder.architecture.neck != "unit-linear" or linear is None or linear.in_features != linear.out_features:
        return None
    weight, bias = linear.weight.detach().double(), linear.bias.detach().double()
    back, failed = torch.linalg.inv_ex(weight)
    # In the Frobenius norm, since a singular value decomposition would take seconds.
    condition = float(weight.norm() * back.norm()) / len(weight)
    if failed or condition > WORST_CONDITION:
        return None
    origin = back @ bias
    if origin.norm() >= 1:
        return None
    if condition <= SINGLE_CONDITION:
        back, origin = back.float(), origin.float()

    def features(vectors: Tensor) -> Tensor:
        # |s r - o| = 1 has one solution s > 0 because |o| < 1.
        ray = vectors.to(back.dtype) @ back.T
        across, length = ray @ origin, ray.square().sum(1)
        scale = (across + (across.square() + length * (1 - origin.square().sum())).sqrt()) / length
        found: Tensor = scale[:, None] * ray - origin
        return found

    return features
