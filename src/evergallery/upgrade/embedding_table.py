"""A table of embeddings that were made elsewhere, in place of held-out images."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evergallery.data.columns import text_of
from evergallery.data.image_set import ImageSet
from evergallery.data.listing import split_of
from evergallery.data.tables import PARQUET_SUFFIXES, ROWS
from evergallery.data.unpacking import opened_parquet, parquet_batches, read_npz
from evergallery.data.vectors.table import readable
from evergallery.errors import InputError
from evergallery.generations.generation import Generation
from evergallery.strings.names import normal
from evergallery.upgrade.answers import RightAnswer

Vectors = NDArray[np.float32]
ARCHIVE, PARQUET = "an .npz file of plain arrays", "a Parquet table"
TEXTS = {"labels": "label", "split": "split", "ids": "id", "answers": "answer"}
"""Columns beside the vectors: by its name in an ``.npz`` file, the name of each in Parquet."""


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
    suffix = path.suffix.lower()
    if suffix in PARQUET_SUFFIXES and path.is_file():
        with readable(path, PARQUET), opened_parquet(path, path, ()) as table:
            return "path" not in table.schema_arrow.names
    if suffix != ".npz" or not path.is_file():
        return False
    with readable(path, ARCHIVE):
        return "images" not in read_npz(path, ())[1]


def read_embeddings(path: Path, makers: Mapping[str, Generation]) -> EmbeddingTable:
    """Read the vectors of some generations, by name, with labels, splits, ids and answers as far as they are there.

    Raises:
        InputError: vectors of a generation are not there, of another shape, not finite or without a length; or a column has not
            as many rows.
        MissingExtraError: Parquet without pyarrow.
    """
    content = _content(path, tuple(makers))
    count = max(len(rows) if rows.ndim else 0 for rows in content.vectors.values())
    vectors = {
        name: _vectors(path, name, content.vectors[name], (count, maker.card.dimension))
        for name, maker in makers.items()
    }
    texts = {name: _texts(path, name, cells, count) for name, cells in content.cells.items()}
    numbers, names = _numbered(texts.get("labels", [""] * count))
    uris = tuple(f"{path}#{row}" for row in range(count))
    ids = tuple(text or None for text in texts["ids"]) if "ids" in texts else None
    images = without_pixels(numbers, names, uris, _hashes_of(vectors, count), ids)
    split = np.array([split_of(name) for name in texts["split"]], dtype=np.str_) if "split" in texts else None
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


@dataclass(frozen=True)
class _Content:
    """The columns of a table, as far as they are there.

    Attributes:
        vectors: arrays by the name of their maker.
        cells: of the columns of ``TEXTS`` by their names in an ``.npz`` file.
    """

    vectors: Mapping[str, NDArray[Any]]
    cells: Mapping[str, Sequence[Any]]


def _content(path: Path, makers: Sequence[str]) -> _Content:
    """Return what a table has, of every maker among it."""
    is_parquet = path.suffix.lower() in PARQUET_SUFFIXES
    content = _of_parquet(path, makers) if is_parquet else _of_archive(path, makers)
    missing = [name for name in makers if name not in content.vectors]
    if missing:
        raise InputError(
            f"{path} has no {'column' if is_parquet else 'array'} {missing[0]!r}: it needs vectors of each of "
            f"{', '.join(makers)} under its name, and labels or answers where the gate is to be opened."
        )
    return content


def _of_archive(path: Path, makers: Sequence[str]) -> _Content:
    with readable(path, ARCHIVE):
        arrays, _ = read_npz(path, (*makers, *TEXTS))
    for name in TEXTS:
        if name in arrays and arrays[name].ndim != 1:
            raise InputError(f"{path} has {name} of shape {arrays[name].shape}: give one for each row.")
    return _Content(
        {name: arrays[name] for name in makers if name in arrays},
        {name: arrays[name].tolist() for name in TEXTS if name in arrays},
    )


def _of_parquet(path: Path, makers: Sequence[str]) -> _Content:
    with readable(path, PARQUET), opened_parquet(path, path, (*makers, *TEXTS.values())) as table:
        there = table.schema_arrow.names
        columns: dict[str, list[Any]] = {name: [] for name in (*makers, *TEXTS.values()) if name in there}
        for batch in parquet_batches(path, table, ROWS, list(columns)):
            for name, cells in columns.items():
                cells += batch.column(name).to_pylist()
    return _Content(
        {name: _rows(path, name, columns[name]) for name in makers if name in columns},
        {plural: columns[name] for plural, name in TEXTS.items() if name in columns},
    )


def _rows(path: Path, name: str, lists: Sequence[Any]) -> NDArray[np.float32]:
    """A column of lists as an array (N, D)."""
    try:
        return np.array(lists, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise InputError(f"The column {name!r} of {path} is not of lists of numbers, all of one length.") from error


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


def _texts(path: Path, name: str, cells: Sequence[Any], count: int) -> list[str]:
    """A column as text; empty where a cell says nothing, as a negative number of a label does."""
    if len(cells) != count:
        raise InputError(f"{path} has {count} vectors and {len(cells)} values of {name!r}: give one for each.")
    texts = []
    for row, cell in enumerate(cells):
        try:
            says_nothing = name == "labels" and isinstance(cell, int) and cell < 0
            texts.append("" if says_nothing else normal((text_of(cell) or "").strip()))
        except ValueError as error:
            raise InputError(f"{path} has in row {row}, {name}, {error}: mend the table.") from error
    return texts


def _numbered(labels: Sequence[str]) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """(N,) numbers of labels, -1 for the empty one, and the names of the classes."""
    names = sorted({label for label in labels if label})
    numbers = {name: number for number, name in enumerate(names)}
    return np.array([numbers.get(label, -1) for label in labels], dtype=np.int64), tuple(names)


def _hashes_of(made: Mapping[str, Vectors], count: int) -> tuple[str, ...]:
    """A content hash for each row, since there is no image to have one."""
    rows = np.concatenate(list(made.values()), axis=1)
    return tuple(hashlib.sha256(rows[index].tobytes()).hexdigest() for index in range(count))
