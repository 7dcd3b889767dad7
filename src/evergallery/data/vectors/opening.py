"""A table of vectors by its file."""

from pathlib import Path

from evergallery.data.vectors.arrays import ArrayTable
from evergallery.data.vectors.parquet import ParquetTable
from evergallery.data.vectors.table import SUFFIXES, VectorTable
from evergallery.errors import InputError


def open_vectors(path: str | Path, *, ids: str | Path | None = None, skip_bad: bool = False) -> VectorTable:
    """Open a table of vectors, and check every row of it.

    Args:
        path: one of

            - ``.npz`` with ``embeddings`` (N, D) and ``ids`` (N,), optionally ``labels``, ``uris``, ``content_hashes`` and
              ``metadata`` (N,), the last as JSON objects;
            - ``.npy`` with embeddings (N, D), whose ids are row numbers from 0 unless ``ids`` names a file;
            - Parquet with columns ``embedding`` (lists of numbers) and ``id``, optionally ``label``, ``uri``,
              ``content_hash`` and ``metadata``; every other column of text, numbers or booleans becomes metadata.
        ids: a text file with an id on each line, for ``.npy``.
        skip_bad: leave out rows whose vector is not finite, zero or of another dimension, whose id is missing or was
            there before, or whose metadata cannot be stored; they are named in ``skipped``. Otherwise the first is refused.

    Raises:
        InputError: the file is missing, damaged or of another form, or holds a bad row.
        MissingExtraError: Parquet without pyarrow.
    """
    path = Path(path).expanduser()
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise InputError(f"{path} is no table of vectors: name a .npz, .npy or .parquet file.")
    if not path.is_file():
        raise InputError(f"There is no file {path}: name a .npz, .npy or .parquet file of vectors.")
    if ids is not None and suffix != ".npy":
        raise InputError(f"{path} has ids of its own: a file of ids is for .npy files alone.")
    table: VectorTable
    if suffix == ".npz":
        table = ArrayTable.of_npz(path)
    elif suffix == ".npy":
        table = ArrayTable.of_npy(path, None if ids is None else Path(ids).expanduser())
    else:
        table = ParquetTable(path)
    table.check(skip_bad)
    return table
