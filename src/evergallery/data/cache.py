"""Decoded images, kept once at training size, memory-mapped, found by the hash of their content."""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evergallery.data.images import Preprocessing
from evergallery.errors import InputError
from evergallery.files import lock

HASH_BYTES = 32


class PixelCache:
    """uint8 images (M, S, S, 3) in an append-only file; row i of ``hashes.bin`` is the content hash of image i.

    One sub-directory per way of decoding (size, fit, interpolation). Pixels are written before their hash, so a
    process that is killed, or a disk that fills up, leaves at most pixels without a hash: the next writer cuts them
    off. Readers need no lock.

    Args:
        directory: of all caches; made where it is missing.
        preprocessing: how images are decoded; its mean and standard deviation do not matter here.
    """

    def __init__(self, directory: Path, preprocessing: Preprocessing) -> None:
        recipe: list[str | int] = [preprocessing.size, preprocessing.fit, preprocessing.interpolation]
        if preprocessing.decoding > 1:
            recipe.append(preprocessing.decoding)
        key = hashlib.sha256(json.dumps(recipe).encode()).hexdigest()[:8]
        self.directory = directory / f"{preprocessing.size}-{preprocessing.fit}-{key}"
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"Decoded images cannot be kept in {self.directory} ({error.strerror}).") from error
        self.shape = (preprocessing.size, preprocessing.size, 3)
        self.image_bytes = preprocessing.size * preprocessing.size * 3
        self._rows: dict[bytes, int] = {}
        self._refresh()

    def __len__(self) -> int:
        self._refresh()
        return len(self._rows)

    def rows(self, hashes: Sequence[str]) -> NDArray[np.int64]:
        """Rows (N,) of the images with these hashes (64 hex digits each); -1 where one is not there."""
        self._refresh()
        return np.array([self._rows.get(bytes.fromhex(one), -1) for one in hashes], dtype=np.int64)

    def array(self) -> NDArray[np.uint8]:
        """All images (M, S, S, 3), memory-mapped, read-only."""
        self._refresh()
        if not self._rows:
            return np.empty((0, *self.shape), dtype=np.uint8)
        return np.memmap(self._pixels, dtype=np.uint8, mode="r", shape=(len(self._rows), *self.shape))

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the writer's lock.

        Raises:
            BusyError: another process is writing.
        """
        with lock(self.directory / ".lock", "reading images"):
            self._refresh()
            for path, length in ((self._pixels, self.image_bytes), (self._hashes, HASH_BYTES)):
                with path.open("ab") as file:
                    file.truncate(len(self._rows) * length)
            yield

    def add(self, hashes: Sequence[str], images: NDArray[np.uint8]) -> None:
        """Append images that are not there yet; only within ``writing``.

        Args:
            hashes: 64 hex digits each, all new and all different.
            images: (B, S, S, 3).

        Raises:
            InputError: the disk is full; what was there before stays valid.
        """
        if images.shape != (len(hashes), *self.shape):
            raise InputError(f"Images of shape {images.shape} do not fit a cache of {(len(hashes), *self.shape)}.")
        try:
            _append(self._pixels, np.ascontiguousarray(images).tobytes())
            _append(self._hashes, b"".join(map(bytes.fromhex, hashes)))
        except OSError as error:
            raise InputError(
                f"Decoded images cannot be kept in {self.directory} ({error.strerror}): make room on that disk."
            ) from error
        self._refresh()

    @property
    def _pixels(self) -> Path:
        return self.directory / "pixels.u8"

    @property
    def _hashes(self) -> Path:
        return self.directory / "hashes.bin"

    def _refresh(self) -> None:
        """Take in what other processes have appended."""
        if not self._hashes.is_file() or not self._pixels.is_file():
            return
        whole = min(self._hashes.stat().st_size // HASH_BYTES, self._pixels.stat().st_size // self.image_bytes)
        known = len(self._rows)
        if whole > known:
            with self._hashes.open("rb") as file:
                file.seek(known * HASH_BYTES)
                data = file.read((whole - known) * HASH_BYTES)
            for index in range(whole - known):
                self._rows[data[index * HASH_BYTES : (index + 1) * HASH_BYTES]] = known + index


def _append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
