"""A table of embeddings that were made elsewhere, in place of held-out images."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evergallery.data.image_set import ImageSet
from evergallery.data.unpacking import read_npz
from evergallery.data.vectors.table import readable
from evergallery.errors import InputError
from evergallery.generations.generation import Generation
from evergallery.upgrade.answers import PARQUET, RightAnswer, parquet_arrays, parquet_columns

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class EmbeddingTable:
    """N rows of a table.

    Attributes:
        images: that the rows stand for, without pixels.
        vectors: (N, D) unit rows by the name of the generation that made them.
        answers: that the table names, if any.
    """

    images: ImageSet
    vectors: Mapping[str, Vectors]
    answers: Sequence[RightAnswer]


def holds_embeddings(path: Path) -> bool:
    """Return whether a file is a table of embeddings, rather than of images or anything else.

    Raises:
        InputError: it is a damaged ``.npz``.
    """
    if path.suffix.lower() in PARQUET and path.is_file():
        return "path" not in parquet_columns(path)
    if path.suffix != ".npz" or not path.is_file():
        return False
    with readable(path, "an .npz file of plain arrays"):
        return "images" not in read_npz(path, ())[1]


def read_embeddings(path: Path, makers: Mapping[str, Generation]) -> EmbeddingTable:
    """Read the vectors of some generations, by name, with labels, splits, ids and answers as far as they are there.

    Raises:
        InputError: vectors of a generation are not there, of another shape, not finite or without a length; or a column has not
            as many rows.
        MissingExtraError: Parquet without pyarrow.
    """
    content = _content(path, tuple(makers))
    count = max(len(content[name]) if content[name].ndim else 0 for name in makers)
    vectors = {
        name: _vectors(path, name, content[name], (count, maker.card.dimension)) for name, maker in makers.items()
    }
    texts = {
        name: _texts(path, content[name], count, name)
        for name in ("labels", "split", "ids", "answers")
        if name in content
    }
    numbers, names = _numbered(texts.get("labels", [""] * count))
    uris = tuple(f"{path}#{row}" for row in range(count))
    ids = tuple(text or None for text in texts["ids"]) if "ids" in texts else None
    images = without_pixels(numbers, names, uris, _hashes_of(vectors, count), ids)
    split = np.array(texts["split"], dtype=np.str_) if "split" in texts else None
    answers = zip(uris, texts.get("answers", [""] * count), strict=True)
    right = [RightAnswer(uri, item, 1.0) for uri, item in answers if item]
    return EmbeddingTable(replace(images, split=split), vectors, right)


def without_pixels(
    labels: NDArray[np.int64],
    classes: tuple[str, ...],
    uris: tuple[str, ...],
    hashes: tuple[str, ...],
    item_ids: tuple[str | None, ...] | None = None,
) -> ImageSet:
    """Images of which there is nothing to see: one pixel stands for all."""
    return ImageSet(
        pixels=np.zeros((1, 1, 1, 3), np.uint8),
        rows=np.zeros(len(labels), np.int64),
        labels=labels,
        classes=classes,
        uris=uris,
        hashes=hashes,
        item_ids=item_ids,
    )


def _content(path: Path, makers: Sequence[str]) -> Mapping[str, NDArray[Any]]:
    """Arrays by name, among them those of every maker."""
    kind = "column" if path.suffix.lower() in PARQUET else "array"
    if kind == "column":
        others = {"label": "labels", "split": "split", "id": "ids", "answer": "answers"}
        content = parquet_arrays(path, makers, others)
    else:
        with readable(path, "an .npz file of plain arrays"):
            content, _ = read_npz(path)
    missing = [name for name in makers if name not in content]
    if missing:
        raise InputError(
            f"{path} has no {kind} {missing[0]!r}: it needs vectors of each of {', '.join(makers)} under its name, and labels or "
            f"answers where the gate is to be opened."
        )
    return content


def _vectors(path: Path, name: str, rows: NDArray[Any], shape: tuple[int, int]) -> Vectors:
    """Rows (N, D) brought to unit length."""
    if rows.shape != shape:
        raise InputError(
            f"The array {name!r} of {path} has shape {rows.shape} and must have {shape}: one embedding by {name} for each row."
        )
    norms = np.linalg.norm(rows.astype(np.float64), axis=1)
    wrong = np.flatnonzero(~((norms > 0) & np.isfinite(norms)))
    if len(wrong):
        raise InputError(f"Row {wrong[0]} of the array {name!r} of {path} is not finite or has no length.")
    vectors: Vectors = (rows / norms[:, None]).astype(np.float32)
    return vectors


def _texts(path: Path, column: NDArray[Any], count: int, name: str) -> list[str]:
    """A column of text, of which the empty text, and a negative label, say nothing."""
    if column.shape != (count,):
        raise InputError(f"{path} has {count} vectors and {name} of shape {column.shape}: one for each.")
    if name == "labels" and column.dtype.kind == "i":
        return ["" if cell < 0 else str(cell) for cell in column.tolist()]
    return ["" if cell is None else str(cell) for cell in column.tolist()]


def _numbered(labels: Sequence[str]) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """(N,) numbers of labels, -1 for the empty one, and the names of the classes."""
    names = sorted({label for label in labels if label})
    numbers = {name: number for number, name in enumerate(names)}
    return np.array([numbers.get(label, -1) for label in labels], dtype=np.int64), tuple(names)


def _hashes_of(made: Mapping[str, Vectors], count: int) -> tuple[str, ...]:
    """A content hash for each row, since there is no image to have one."""
    rows = np.concatenate(list(made.values()), axis=1)
    return tuple(hashlib.sha256(rows[index].tobytes()).hexdigest() for index in range(count))
