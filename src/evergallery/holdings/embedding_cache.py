"""Embeddings of held-out images, kept by fingerprint of the space and content of the image: T extractions, not T²."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from evergallery.files import is_writable, lock, write_atomic

Vectors = NDArray[np.float32]


class EmbeddingCache:
    """One file for each space; what cannot be read is made again.

    Args:
        directory: made where it is missing; where it cannot be written nothing is added.
    """

    def __init__(self, directory: Path) -> None:
        with suppress(OSError):
            directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory

    def get(self, fingerprint: str, hashes: Sequence[str]) -> dict[str, Vectors]:
        """The embeddings (D,) that are known, by content hash."""
        keys, vectors = self._read(fingerprint)
        row = {key: index for index, key in enumerate(keys)}
        return {content: vectors[row[content]] for content in hashes if content in row}

    def add(self, fingerprint: str, hashes: Sequence[str], embeddings: Vectors) -> None:
        """Keep the embeddings (N, D) of N images; other processes may add at the same time, one after another.

        Raises:
            BusyError: another process is adding.
        """
        if not is_writable(self.directory):
            return
        with lock(self.directory / ".lock", "keeping embeddings"):
            keys, vectors = self._read(fingerprint)
            known = set(keys)
            new = [index for index, content in enumerate(hashes) if content not in known]
            if not new:
                return
            together = [*keys, *(hashes[index] for index in new)]
            digests = np.array([list(bytes.fromhex(content)) for content in together], dtype=np.uint8)
            merged = np.concatenate([vectors, embeddings[new]]) if len(keys) else embeddings[new]
            write_atomic(self._path(fingerprint), save({"hashes": digests, "embeddings": np.ascontiguousarray(merged)}))

    def _read(self, fingerprint: str) -> tuple[list[str], Vectors]:
        try:
            tensors = load_file(self._path(fingerprint))
            return [bytes(row).hex() for row in tensors["hashes"]], tensors["embeddings"]
        except (OSError, SafetensorError, KeyError):
            return [], np.empty((0, 0), np.float32)

    def _path(self, fingerprint: str) -> Path:
        return self.directory / f"{fingerprint[:32]}.safetensors"
