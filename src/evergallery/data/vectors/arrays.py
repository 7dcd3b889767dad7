"""Vectors in arrays: ``.npz`` and ``.npy`` files."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evergallery.data.unpacking import read_npz
from evergallery.data.vectors.table import TEXTS, RawRows, VectorTable, readable
from evergallery.errors import InputError


class ArrayTable(VectorTable):
    """Arrays in memory, or mapped from a file."""

    def __init__(self, path: Path, arrays: Mapping[str, NDArray[Any]], ids: Sequence[str | None] | None) -> None:
        super().__init__(path)
        self.embeddings = _checked_embeddings(path, arrays["embeddings"])
        self.dimension = int(self.embeddings.shape[1])
        self.ids = ids
        self.columns = {name: arrays[name] for name in ("ids", *TEXTS, "metadata") if name in arrays}
        for name, column in self.columns.items():
            if column.shape != (len(self.embeddings),):
                raise InputError(
                    f"{path} has {len(self.embeddings)} embeddings and {name} of shape {column.shape}: one for each."
                )
            if column.dtype.kind not in "USiu":
                raise InputError(f"{path} has {name} of type {column.dtype}: they must be text or whole numbers.")
        labels = self.columns.get("labels")
        if labels is not None and labels.dtype.kind == "i":
            # As everywhere, a negative number is no label.
            self.columns["labels"] = np.where(labels < 0, "", labels.astype(str))
        if "space" in arrays:
            self.space = str(arrays["space"])

    @classmethod
    def of_npz(cls, path: Path) -> "ArrayTable":
        """Several arrays in one file, read into memory."""
        known = ("embeddings", "ids", *TEXTS, "metadata", "space")
        with readable(path, "an .npz file of plain arrays"):
            arrays, found = read_npz(path, known)
        for name in ("embeddings", "ids"):
            if name not in arrays:
                raise InputError(
                    f"{path} has no array {name!r}: it needs embeddings (N, D) and ids (N,), and has "
                    f"{', '.join(found) or 'none'}."
                )
        return cls(path, arrays, None)

    @classmethod
    def of_npy(cls, path: Path, ids: Path | None) -> "ArrayTable":
        """One array, mapped, and perhaps a file of ids."""
        with readable(path, "an .npy file of a plain array"):
            array = np.lib.format.open_memmap(path, mode="r")
        names = None if ids is None else named_rows(ids, path, len(array) if array.ndim else None)
        return cls(path, {"embeddings": array}, names)

    def _read(self, size: int) -> Iterator[RawRows]:
        for start in range(0, len(self.embeddings), size):
            part = slice(start, min(start + size, len(self.embeddings)))
            texts = {name: _texts(column[part]) for name, column in self.columns.items()}
            count = part.stop - start
            nothing = (None,) * count
            if self.ids is not None:
                ids: Sequence[str | None] = self.ids[part]
            else:
                ids = texts["ids"] if "ids" in texts else [str(row) for row in range(start, part.stop)]
            yield RawRows(
                np.asarray(self.embeddings[part]),
                ids,
                {name: texts.get(name, nothing) for name in TEXTS},
                texts.get("metadata", nothing),
            )


def named_rows(ids: Path, path: Path, count: int | None) -> list[str | None]:
    """The ids of a text file with one on each line, for the rows of another file.

    Raises:
        InputError: it is no such file, or has another number of lines than there are rows.
    """
    with readable(ids, "a UTF-8 text file of ids"):
        lines = ids.read_bytes().decode("utf-8-sig").split("\n")
    names = [line.removesuffix("\r") or None for line in (lines[:-1] if lines[-1] == "" else lines)]
    if count is not None and len(names) != count:
        raise InputError(f"{ids} has {len(names)} lines and {path} {count} rows: one id on a line for each.")
    return names


def _checked_embeddings(path: Path, embeddings: NDArray[Any]) -> NDArray[Any]:
    if embeddings.ndim != 2 or embeddings.dtype.kind not in "fiu" or embeddings.shape[1] < 1:
        raise InputError(
            f"{path} has embeddings of shape {embeddings.shape} and type {embeddings.dtype}: they must be numbers (N, D)."
        )
    if len(embeddings) == 0:
        raise InputError(f"{path} holds no vector that can be used.")
    return embeddings


def _texts(column: NDArray[Any]) -> list[str | None]:
    # What is not UTF-8 is told by row, as text that is not Unicode.
    return [
        (text.decode(errors="surrogateescape") if isinstance(text, bytes) else str(text)) or None
        for text in column.tolist()
    ]
