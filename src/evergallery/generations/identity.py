"""The SHA-256 that identifies an embedding space, from what its files hold."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from evergallery.network.architecture import Architecture


def network_fingerprint(
    weights: str,
    architecture: Architecture,
    root: Architecture | None,
    preprocessing: Mapping[str, Any],
    dimension: int,
) -> str:
    """The fingerprint of a network's space.

    Args:
        weights: hash of its tensors.
        architecture: of the network, or of the part of it that goes on learning.
        root: of the part that does not, where there is one.
        preprocessing: of its input.
        dimension: D.
    """
    parts = {"architecture": architecture} | ({} if root is None else {"root": root})
    identity = {"weights": weights, **{name: part.model_dump() for name, part in parts.items()}}
    return space_fingerprint(identity, preprocessing, dimension)


def vectors_fingerprint(content: str, dimension: int) -> str:
    """The fingerprint of a space of which nothing is known but vectors."""
    return _digest({"vectors": content, "dimension": dimension, "normalisation": "l2"})


def space_fingerprint(model: Mapping[str, Any], preprocessing: Mapping[str, Any], dimension: int) -> str:
    """The fingerprint of a space, of whatever makes the vectors, its preprocessing, its D, and the cosine that compares them."""
    return _digest({**model, "preprocessing": dict(preprocessing), "dimension": dimension, "normalisation": "l2"})


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
