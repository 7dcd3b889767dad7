"""Files that are small on disk and large in memory: how large they may be is known before they are unpacked."""

import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from evergallery.errors import InputError, MissingExtraError

MOST_UNPACKED = 256 << 20
"""Bytes of memory that the arrays of an ``.npz`` file, or a row group of a Parquet table, may always take."""
MOST_TIMES = 100
"""The multiple of its bytes on disk that it may take beyond that; real vectors and pictures take 1 to 20 times theirs."""
LONGEST_TEXT = 256 << 10
"""Bytes of a cell of text in a Parquet table."""

WIDTHS = {"BOOLEAN": 1, "INT32": 4, "INT64": 8, "INT96": 12, "FLOAT": 4, "DOUBLE": 8}
"""Bytes of a value, by the name of its type in Parquet."""


def require_bounded(path: object, what: str, unpacked: int, packed: int, remedy: str) -> None:
    """Refuse what takes far more memory than it takes on disk.

    Raises:
        InputError: it does.
    """
    if unpacked > max(MOST_UNPACKED, MOST_TIMES * packed):
        raise InputError(
            f"{path} has {what} of {packed:,} bytes that would take {unpacked / 2**20:,.0f} MiB of memory, more than "
            f"{MOST_UNPACKED >> 20} MiB and {MOST_TIMES} times its size: {remedy}."
        )


def read_npz(path: Path, names: Sequence[str] | None = None) -> tuple[dict[str, NDArray[Any]], list[str]]:
    """The arrays of these names in an ``.npz`` file, those that are there, all by default; and the names of all.

    Raises:
        InputError: they would take far more memory than the file has bytes.
        OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError: it is no whole file of plain arrays.
    """
    # NumPy takes what is no archive for a pickle, and leaves it open.
    with zipfile.ZipFile(path) as archive:
        found = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        wanted = [name for name in found if names is None or name in names]
        packed = sum(found[name].compress_size for name in wanted)
        unpacked = sum(max(found[name].file_size, _size_of_array(archive, found[name])) for name in wanted)
        require_bounded(path, "arrays", unpacked, packed, "save them in parts")
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in wanted}, list(found)


def _size_of_array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> int:
    """The bytes of memory that the header of an array asks for; none of what is no array, as the reader will say."""
    try:
        with archive.open(member) as file:
            major = np.lib.format.read_magic(file)[0]
            read = np.lib.format.read_array_header_1_0 if major == 1 else np.lib.format.read_array_header_2_0
            shape, _, kind = read(file)
    except (ValueError, EOFError, zlib.error, zipfile.BadZipFile, NotImplementedError, RuntimeError):
        return 0
    size = kind.itemsize
    for length in shape:
        size *= length
    return size


def import_arrow() -> tuple[Any, Any]:
    """pyarrow and its reader of Parquet.

    Raises:
        MissingExtraError: the extra ``parquet`` is not installed.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise MissingExtraError("A Parquet table", "parquet") from error
    return pyarrow, parquet


@contextmanager
def opened_parquet(path: Path | str, file: Path | IO[bytes], columns: Sequence[str] | None = None) -> Iterator[Any]:
    """A Parquet file whose row groups may be read, one at a time, in bounded memory.

    Args:
        path: what it is called in messages.
        file: to be read.
        columns: that will be read, all by default.

    Raises:
        MissingExtraError: the extra ``parquet`` is not installed.
        InputError: a row group would take far more memory than it takes on disk.
        Exception: what pyarrow raises where it is no whole Parquet file.
    """
    arrow, parquet = import_arrow()
    with parquet.ParquetFile(file, pre_buffer=False) as opened:
        names = opened.schema_arrow.names
        # A text that many rows share is in memory once, until it is known to be short.
        shared = {part.path_in_schema for part in bounded_parts(path, opened, columns) if part.has_dictionary_page}
    types = arrow.types
    texts = [
        name
        for name, kind in zip(names, opened.schema_arrow.types, strict=True)
        if name in shared and (types.is_string(kind) or types.is_large_string(kind) or types.is_binary(kind))
    ]
    if hasattr(file, "seek"):
        file.seek(0)
    with parquet.ParquetFile(file, pre_buffer=False, read_dictionary=texts) as opened:
        yield opened


def bounded_parts(path: Path | str, table: Any, columns: Sequence[str] | None = None) -> list[Any]:
    """Return what a Parquet file says of its columns, row group by row group.

    Args:
        path: what it is called in messages.
        table: the opened file.
        columns: that will be read, all by default.

    Raises:
        InputError: a row group would take far more memory than it takes on disk.
    """
    wanted = set(table.schema_arrow.names if columns is None else columns)
    found = []
    for number in range(table.metadata.num_row_groups):
        group = table.metadata.row_group(number)
        parts = [group.column(index) for index in range(group.num_columns)]
        parts = [part for part in parts if part.path_in_schema.partition(".")[0] in wanted]
        unpacked = sum(
            max(part.total_uncompressed_size, part.num_values * WIDTHS.get(part.physical_type, 0)) for part in parts
        )
        packed = sum(part.total_compressed_size for part in parts)
        require_bounded(path, "a row group", unpacked, packed, "write it with smaller row groups")
        found += parts
    return found


def parquet_batches(path: Path | str, table: Any, size: int, columns: Sequence[str] | None = None) -> Iterator[Any]:
    """The rows of a table from ``opened_parquet``, at most ``size`` at a time.

    Raises:
        InputError: a cell holds a text of more than ``LONGEST_TEXT`` bytes.
    """
    from pyarrow import compute, types

    for batch in table.iter_batches(size, columns=columns, use_threads=False):
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            if types.is_dictionary(column.type):
                longest = compute.max(compute.binary_length(column.dictionary)).as_py() or 0
                if longest > LONGEST_TEXT:
                    raise InputError(
                        f"{path} has a text of {longest:,} bytes in its column {name!r}: one of up to {LONGEST_TEXT:,} is read."
                    )
        yield batch
