"""Tables of vectors, written so that they are read back exactly."""

import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evergallery.data.metadata import to_json
from evergallery.data.unpacking import import_arrow
from evergallery.data.vectors.table import SPACE, SUFFIXES, TEXTS, VectorBatch
from evergallery.errors import InputError
from evergallery.files import new_file, require_place


def write_vectors(
    path: str | Path, batches: Iterable[VectorBatch], *, rows: int, dimension: int, space: str | None = None
) -> list[Path]:
    """Write a table that ``open_vectors`` reads back exactly; it appears complete, or not at all.

    An ``.npy`` file holds embeddings alone: ids go to ``NAME.ids.txt`` beside it, and the rest is left out.

    Args:
        path: ``.npz``, ``.npy`` or ``.parquet``.
        batches: of ``rows`` vectors in all; only one of them need be in memory at a time.
        rows: N.
        dimension: D.
        space: fingerprint of the embedding space, which the file then remembers (``.npy`` cannot).

    Returns:
        The files written.

    Raises:
        InputError: another suffix, a place that cannot be written, or text that the format cannot hold.
        MissingExtraError: Parquet without pyarrow.
    """
    path = Path(path).expanduser()
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise InputError(f"{path} has no suffix of a table of vectors: end it in .npz, .npy or .parquet.")
    require_place(path)
    try:
        if suffix == ".npy":
            return _write_npy(path, batches, rows, dimension)
        if suffix == ".npz":
            _write_npz(path, batches, rows, dimension, space)
        else:
            _write_parquet(path, batches, space)
    except OSError as error:
        raise InputError(
            f"{path} cannot be written ({error.strerror or error}): make room or name another place."
        ) from error
    return [path]


def _write_npz(path: Path, batches: Iterable[VectorBatch], rows: int, dimension: int, space: str | None) -> None:
    columns: dict[str, list[str]] = {name: [] for name in ("ids", *TEXTS, "metadata")}
    with new_file(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        with archive.open("embeddings.npy", "w", force_zip64=True) as file:
            _write_header(file, rows, dimension)
            for batch in batches:
                file.write(np.ascontiguousarray(batch.embeddings, dtype="<f4").tobytes())
                columns["ids"] += batch.ids
                for name in TEXTS:
                    columns[name] += [value or "" for value in getattr(batch, name)]
                columns["metadata"] += [to_json(metadata) if metadata else "" for metadata in batch.metadata]
        for name, values in columns.items():
            ends = next((value for value in values if value.endswith("\0")), None)
            if ends is not None:
                raise InputError(f"{path} cannot hold {ends!r} among its {name}: write a .parquet file instead.")
            if name == "ids" or any(values):
                _write_member(archive, name, np.array(values, dtype=str))
        if space is not None:
            _write_member(archive, "space", np.array(space))


def _write_member(archive: zipfile.ZipFile, name: str, array: NDArray[Any]) -> None:
    with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
        np.lib.format.write_array(file, array, allow_pickle=False)


def _write_npy(path: Path, batches: Iterable[VectorBatch], rows: int, dimension: int) -> list[Path]:
    names = path.with_name(path.stem + ".ids.txt")
    with (
        new_file(path) as temporary,
        new_file(names) as temporary_names,
        temporary.open("wb") as file,
        temporary_names.open("wb") as lines,
    ):
        _write_header(file, rows, dimension)
        for batch in batches:
            file.write(np.ascontiguousarray(batch.embeddings, dtype="<f4").tobytes())
            for identifier in batch.ids:
                if "\n" in identifier or "\r" in identifier:
                    raise InputError(
                        f"The id {identifier!r} does not fit a line of {names}: write a .parquet file instead."
                    )
                lines.write(f"{identifier}\n".encode())
    return [path, names]


def _write_header(file: Any, rows: int, dimension: int) -> None:
    header = {"descr": "<f4", "fortran_order": False, "shape": (rows, dimension)}
    np.lib.format.write_array_header_1_0(file, header)


def _write_parquet(path: Path, batches: Iterable[VectorBatch], space: str | None) -> None:
    arrow, parquet = import_arrow()
    text = arrow.string()
    kinds = {
        "id": text,
        "embedding": arrow.list_(arrow.float32()),
        **dict.fromkeys((*TEXTS.values(), "metadata"), text),
    }
    schema = arrow.schema(list(kinds.items()), metadata={SPACE: space} if space else None)
    with new_file(path) as temporary, parquet.ParquetWriter(temporary, schema, use_dictionary=["label"]) as writer:
        for batch in batches:
            count, dimension = batch.embeddings.shape
            offsets = arrow.array(np.arange(count + 1, dtype=np.int32) * dimension)
            values = arrow.array(np.ascontiguousarray(batch.embeddings).reshape(-1))
            columns = {
                "id": arrow.array(batch.ids, text),
                "embedding": arrow.ListArray.from_arrays(offsets, values),
                **{name: arrow.array(getattr(batch, plural), text) for plural, name in TEXTS.items()},
                "metadata": arrow.array([to_json(metadata) if metadata else None for metadata in batch.metadata], text),
            }
            writer.write_batch(arrow.record_batch([columns[name] for name in schema.names], schema=schema))
