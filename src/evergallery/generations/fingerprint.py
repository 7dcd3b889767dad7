"""Fingerprints: they tell an embedding space, and an image that was learned from, from all others."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from evergallery.data.images import Preprocessing
from evergallery.files import sha256_of
from evergallery.files.tensors import hash_tensors
from evergallery.generations.identity import network_fingerprint, space_fingerprint
from evergallery.network import Embedder, ExpandedEmbedder, Extractor
from evergallery.network.endpoint import EndpointModel
from evergallery.network.foreign import ForeignModel, probe


def fingerprint_of(embedder: Extractor, preprocessing: Preprocessing, probes: torch.Tensor | None = None) -> str:
    """SHA-256 of the embedding space: weights, architecture, preprocessing, dimension, and the cosine it is used with.

    Two models of equal dimension have different fingerprints; two copies of one model have the same. A foreign model is
    known by its file, or where it is a Python function by its name and by what it makes of the probe pictures, which the
    next version of its code may change; an endpoint by its address, its model's name, and what it made of these pictures.

    Args:
        embedder: of any kind.
        preprocessing: of its input.
        probes: (P, D) what a function made of the probe pictures; made now by default.
    """
    form, dimension = preprocessing.to_dict(), embedder.dimension
    if isinstance(embedder, ExpandedEmbedder):
        made_of, root = embedder.evolving.architecture, embedder.root.architecture
        return network_fingerprint(hash_tensors(embedder.state_dict()), made_of, root, form, dimension)
    if isinstance(embedder, Embedder):
        weights = hash_tensors(embedder.state_dict())
        return network_fingerprint(weights, embedder.architecture, None, form, dimension)
    if isinstance(embedder, ForeignModel) and embedder.file is not None:
        return space_fingerprint({"onnx": sha256_of(embedder.file)}, form, dimension)
    made = probe(embedder, preprocessing) if probes is None else probes
    if isinstance(embedder, EndpointModel):
        return endpoint_fingerprint(embedder.endpoint.identity, made, form, dimension)
    function = {"function": getattr(embedder, "name", ""), "probes": hash_tensors({"embeddings": made})}
    return space_fingerprint(function, form, dimension)


def endpoint_fingerprint(
    identity: Mapping[str, Any], probes: torch.Tensor, preprocessing: Mapping[str, Any], dimension: int
) -> str:
    """The fingerprint of an endpoint: where it is, what its model is called there, and its vectors (P, D) of the probes."""
    made_of = {"endpoint": dict(identity), "probes": hash_tensors({"embeddings": probes})}
    return space_fingerprint(made_of, preprocessing, dimension)


def short_hashes(hashes: Sequence[str]) -> torch.Tensor:
    """(N,) int64: the first eight bytes of each SHA-256, sorted; enough to tell images apart, and small."""
    parts = [int.from_bytes(bytes.fromhex(content)[:8], "little", signed=True) for content in hashes]
    return torch.tensor(parts, dtype=torch.int64).sort().values
