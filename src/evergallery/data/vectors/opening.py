"""A table of vectors by its file."""

from pathlib import Path

from evergallery.data.vectors.arrays import ArrayTable
from evergallery.data.vectors.faiss_index import FaissTable
from evergallery.data.vectors.lance import LanceTable
from evergallery.data.vectors.parquet import ParquetTable
from evergallery.data.vectors.table import SUFFIXES, VectorTable
from evergallery.errors import InputError

INDEXES = (".faiss", ".index")
LANCE = ".lance"


def open_vectors(path: str | Path, *, ids: str | Path | None = None, skip_bad: bool = False) -> VectorTable:
    """Open a table of vectors, and check every row of it.

    Args:
        path: one of

            - ``.npz`` with ``embeddings`` (N, D) and ``ids`` (N,), optionally ``labels``, ``uris``, ``content_hashes`` and
              ``metadata`` (N,), the last as JSON objects;
            - ``.npy`` with embeddings (N, D), whose ids are row numbers from 0 unless ``ids`` names a file;
            - Parquet with columns ``embedding``, or ``vector`` (lists of numbers), and ``id``, optionally ``label``, ``uri``,
              ``content_hash`` and ``metadata``; every other column of text, numbers or booleans becomes metadata;
            - ``.lance``, a directory of LanceDB, with the same columns;
            - ``.faiss`` or ``.index``, an index of FAISS that gives its vectors back; its ids are those that it maps, or row
              numbers from 0, unless ``ids`` names a file.
        ids: a text file with an id on each line, for ``.npy`` and FAISS.
        skip_bad: leave out rows whose vector is not finite, zero or of another dimension, whose id is missing or was
            there before, or whose metadata cannot be stored; they are named in ``skipped``. Otherwise the first is refused.

    Raises:
        InputError: the file is missing, damaged or of another form, or holds a bad row.
        MissingExtraError: Parquet without pyarrow, LanceDB without pylance, or FAISS without faiss.
    """
    path = Path(path).expanduser()
    suffix = path.suffix.lower()
    if suffix not in (*SUFFIXES, *INDEXES, LANCE):
        raise InputError(
            f"{path} is no table of vectors: name a .npz, .npy, .parquet or .faiss file, or a .lance directory."
        )
    if not (path.is_dir() if suffix == LANCE else path.is_file()):
        raise InputError(f"There is no {'directory' if suffix == LANCE else 'file'} {path}: name a table of vectors.")
    if ids is not None and suffix not in (".npy", *INDEXES):
        raise InputError(f"{path} has ids of its own: a file of ids is for .npy and .faiss files alone.")
    rows = None if ids is None else Path(ids).expanduser()
    table: VectorTable
    if suffix == ".npz":
        table = ArrayTable.of_npz(path)
    elif suffix == ".npy":
        table = ArrayTable.of_npy(path, rows)
    elif suffix in INDEXES:
        table = FaissTable(path, rows)
    elif suffix == LANCE:
        table = LanceTable(path)
    else:
        table = ParquetTable(path)
    table.check(skip_bad)
    return table
