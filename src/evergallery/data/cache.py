"""Results that are made of images once and kept: rows of numbers, memory-mapped, found by the hash of an image's content."""

import hashlib
import json
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from evergallery.data.images import Preprocessing
from evergallery.data.images.sizes import size_text
from evergallery.errors import InputError
from evergallery.files import lock

HASH_BYTES = 32


class RowCache:
    """Rows (M, *shape) in an append-only file; row i of ``hashes.bin`` is the content hash of the image it was made of.

    Rows are written before their hashes, so a process that is killed, or a disk that fills up, leaves at most rows without
    a hash: the next writer cuts them off. Readers need no lock.

    Args:
        directory: of this cache; made where it is missing.
        file: name of the file of rows.
        shape: of a row.
        dtype: of its numbers.
        noun: what the rows are, for messages.
    """

    def __init__(self, directory: Path, file: str, shape: tuple[int, ...], dtype: DTypeLike, noun: str) -> None:
        self.directory = directory
        self.shape = shape
        self.dtype = np.dtype(dtype)
        self.row_bytes = math.prod(shape) * self.dtype.itemsize
        self.noun = noun
        self._file = directory / file
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{noun} cannot be kept in {self.directory} ({error.strerror}).") from error
        self._rows: dict[bytes, int] = {}
        self._refresh()

    def __len__(self) -> int:
        self._refresh()
        return len(self._rows)

    def rows(self, hashes: Sequence[str]) -> NDArray[np.int64]:
        """Rows (N,) of the images with these hashes (64 hex digits each); -1 for an image that is not there."""
        self._refresh()
        return np.array([self._rows.get(bytes.fromhex(content), -1) for content in hashes], dtype=np.int64)

    def array(self) -> NDArray[Any]:
        """All rows (M, *shape), memory-mapped, read-only."""
        self._refresh()
        if not self._rows:
            return np.empty((0, *self.shape), dtype=self.dtype)
        return np.memmap(self._file, dtype=self.dtype, mode="r", shape=(len(self._rows), *self.shape))

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the writer's lock.

        Raises:
            BusyError: another process is writing.
        """
        with lock(self.directory / ".lock", "reading images"):
            self._refresh()
            for path, length in ((self._file, self.row_bytes), (self._hashes, HASH_BYTES)):
                with path.open("ab") as file:
                    file.truncate(len(self._rows) * length)
            yield

    def add(self, hashes: Sequence[str], rows: NDArray[Any]) -> None:
        """Append rows that are not there yet; only within ``writing``.

        Args:
            hashes: 64 hex digits each, all new and all different.
            rows: (B, *shape).

        Raises:
            InputError: the disk is full; what was there before stays valid.
        """
        if rows.shape != (len(hashes), *self.shape):
            raise InputError(f"Rows of shape {rows.shape} do not fit a cache of {(len(hashes), *self.shape)}.")
        try:
            _append(self._file, np.ascontiguousarray(rows, dtype=self.dtype).tobytes())
            _append(self._hashes, b"".join(map(bytes.fromhex, hashes)))
        except OSError as error:
            raise InputError(
                f"{self.noun} cannot be kept in {self.directory} ({error.strerror}): make room on that disk."
            ) from error
        self._refresh()

    @property
    def _hashes(self) -> Path:
        return self.directory / "hashes.bin"

    def _refresh(self) -> None:
        """Take in what other processes have appended."""
        if not self._hashes.is_file() or not self._file.is_file():
            return
        whole = min(self._hashes.stat().st_size // HASH_BYTES, self._file.stat().st_size // self.row_bytes)
        known = len(self._rows)
        if whole > known:
            with self._hashes.open("rb") as file:
                file.seek(known * HASH_BYTES)
                data = file.read((whole - known) * HASH_BYTES)
            for index in range(whole - known):
                self._rows[data[index * HASH_BYTES : (index + 1) * HASH_BYTES]] = known + index


class PixelCache(RowCache):
    """Decoded uint8 images (M, H, W, 3) at training size; one sub-directory per way of decoding (size, fit, interpolation).

    Args:
        directory: of all caches; made where it is missing.
        preprocessing: how images are decoded; its mean and standard deviation do not matter here.
    """

    def __init__(self, directory: Path, preprocessing: Preprocessing) -> None:
        recipe: list[Any] = [preprocessing.size, preprocessing.fit, preprocessing.interpolation]
        if preprocessing.decoding > 1:
            recipe.append(preprocessing.decoding)
        if preprocessing.kept < 1:
            recipe.append(preprocessing.kept)
        key = hashlib.sha256(json.dumps(recipe).encode()).hexdigest()[:8]
        super().__init__(
            directory / f"{size_text(preprocessing.size)}-{preprocessing.fit}-{key}",
            "pixels.u8",
            (*preprocessing.shape, 3),
            np.uint8,
            "Decoded images",
        )


def _append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
