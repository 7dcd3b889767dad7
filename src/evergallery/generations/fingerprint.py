"""What tells an embedding space, and an image that was learned from, from all others."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import torch

from evergallery.data.images import Preprocessing
from evergallery.files import sha256_of
from evergallery.files.tensors import hash_tensors
from evergallery.network import Embedder, ExpandedEmbedder, Extractor
from evergallery.network.foreign import ForeignModel, probe


def fingerprint_of(embedder: Extractor, preprocessing: Preprocessing, probes: torch.Tensor | None = None) -> str:
    """SHA-256 of the embedding space: weights, architecture, preprocessing, dimension, and the cosine it is used with.

    Two models of equal dimension have different fingerprints; two copies of one model have the same. A foreign model is
    known by its file, or where it is a Python function by its name and by what it makes of the probe pictures, which the
    next version of its code may change.

    Args:
        embedder: of any kind.
        preprocessing: of its input.
        probes: (P, D) what a function made of the probe pictures; made now by default.
    """
    if isinstance(embedder, Embedder | ExpandedEmbedder):
        parts = [embedder] if isinstance(embedder, Embedder) else [embedder.evolving, embedder.root]
        names = ("architecture", "root")
        identity: dict[str, Any] = {
            "weights": hash_tensors(embedder.state_dict()),
            **{name: part.architecture.model_dump() for name, part in zip(names, parts, strict=False)},
        }
    elif isinstance(embedder, ForeignModel) and embedder.file is not None:
        identity = {"onnx": sha256_of(embedder.file)}
    else:
        made = probe(embedder, preprocessing) if probes is None else probes
        identity = {"function": getattr(embedder, "name", ""), "probes": hash_tensors({"embeddings": made})}
    space = {"preprocessing": preprocessing.to_dict(), "dimension": embedder.dimension, "normalisation": "l2"}
    return _digest({**identity, **space})


def vectors_fingerprint(content: str, dimension: int) -> str:
    """SHA-256 of an embedding space of which nothing is known but vectors."""
    return _digest({"vectors": content, "dimension": dimension, "normalisation": "l2"})


def short_hashes(hashes: Sequence[str]) -> torch.Tensor:
    """(N,) int64: the first eight bytes of each SHA-256, sorted; enough to tell images apart, and small."""
    parts = [int.from_bytes(bytes.fromhex(one)[:8], "little", signed=True) for one in hashes]
    return torch.tensor(parts, dtype=torch.int64).sort().values


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
