"""Tables of vectors that somebody else has made: embeddings with their ids, as ``.npz``, ``.npy`` or Parquet.

Nothing is ever unpickled. A table is checked as a whole when it is opened, then read batch by batch.
"""

import hashlib
import json
import math
import re
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evergallery.data.columns import Scalar, scalar_of, text_of
from evergallery.data.images import Skipped
from evergallery.errors import InputError, MissingExtraError
from evergallery.files import new_file
from evergallery.names import normal

SUFFIXES = (".npz", ".npy", ".parquet", ".pq")
BATCH = 1024

# The gallery's own: what it holds is left as it is, so that it comes back bit for bit.
UNIT_TOLERANCE = 1e-3

TEXTS = {"labels": "label", "uris": "uri", "content_hashes": "content_hash"}
"""Columns of text beside the ids, as arrays and Parquet call them."""
SPACE = "evergallery.space"
LARGEST_INTEGER = 2**63 - 1


@dataclass(frozen=True, eq=False)
class VectorBatch:
    """B vectors with what is known of them; an empty text counts as none."""

    ids: tuple[str, ...]
    embeddings: NDArray[np.float32]
    """(B, D) unit rows."""
    labels: tuple[str | None, ...]
    uris: tuple[str | None, ...]
    content_hashes: tuple[str | None, ...]
    metadata: tuple[Mapping[str, Scalar], ...]

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, eq=False)
class _Rows:
    """A stretch of a table as the file has it."""

    embeddings: NDArray[Any]
    """(B, D); NaN where there is no vector of D numbers."""
    ids: Sequence[str | None]
    texts: Mapping[str, Sequence[str | None]]
    metadata: Sequence[Mapping[str, Scalar] | str | None]
    """Read already, or as JSON."""
    problems: Mapping[int, str] = field(default_factory=dict)
    """What the reader found wrong, by index into these rows."""


class VectorTable(ABC):
    """A table that was read once and found good; ``open_vectors`` makes one.

    Attributes:
        path: the file.
        dimension: D of its vectors.
        rows: how many of them are good.
        normalised: how many of these were not of unit length and are made so, which the cosine does not mind.
        skipped: the bad ones, where they are skipped.
        content: SHA-256 of the good ids and vectors, whatever the format and the order of the rows.
        space: fingerprint of the embedding space, where the file was exported from a gallery.
    """

    dimension: int
    space: str | None = None

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows = self.normalised = 0
        self.skipped: tuple[Skipped, ...] = ()
        self.content = ""
        self._bad: frozenset[int] = frozenset()

    def batches(self, size: int = BATCH) -> Iterator[VectorBatch]:
        """The good rows in their order, at most ``size`` at a time."""
        first = 0
        for rows in self._read(size):
            kept = [index for index in range(len(rows.ids)) if first + index not in self._bad]
            first += len(rows.ids)
            if kept:
                yield _batch(rows, kept)

    def check(self, skip_bad: bool) -> None:
        """Read everything once; fixed memory but for a digest of each id.

        Raises:
            InputError: a row that cannot be used, unless ``skip_bad``; no row that can.
        """
        seen: set[bytes] = set()
        bad: list[int] = []
        skipped: list[Skipped] = []
        total = first = 0
        for rows in self._read(BATCH):
            problems = _problems(rows)
            for index, identifier in enumerate(rows.ids):
                if index not in problems:
                    digest = hashlib.blake2b(str(identifier).encode(), digest_size=16).digest()
                    if digest in seen:
                        problems[index] = "has an id that an earlier row has"
                    seen.add(digest)
            for index in sorted(problems):
                name = f"row {first + index}" + (f" (id {rows.ids[index]!r})" if rows.ids[index] else "")
                if not skip_bad:
                    raise InputError(
                        f"{self.path}: {name} {problems[index]}; mend the table, or leave such rows out with --skip-bad."
                    )
                bad.append(first + index)
                skipped.append(Skipped(name, problems[index]))
            kept = [index for index in range(len(rows.ids)) if index not in problems]
            self.normalised += int((~_is_unit(rows.embeddings[kept])).sum())
            total = (total + _content(_batch(rows, kept))) % (1 << 256)
            self.rows += len(kept)
            first += len(rows.ids)
        if not self.rows:
            reason = f"; the first: {skipped[0].uri} {skipped[0].reason}" if skipped else ""
            raise InputError(f"{self.path} holds no vector that can be used{reason}.")
        self._bad, self.skipped = frozenset(bad), tuple(skipped)
        self.content = hashlib.sha256(f"{self.rows}:{self.dimension}:{total:064x}".encode()).hexdigest()

    @abstractmethod
    def _read(self, size: int) -> Iterator[_Rows]: ...


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
        table = _ArrayTable.of_npz(path)
    elif suffix == ".npy":
        table = _ArrayTable.of_npy(path, None if ids is None else Path(ids).expanduser())
    else:
        table = _ParquetTable(path)
    table.check(skip_bad)
    return table


class _ArrayTable(VectorTable):
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
    def of_npz(cls, path: Path) -> "_ArrayTable":
        known = ("embeddings", "ids", *TEXTS, "metadata", "space")
        # numpy takes what is no archive for a pickle, and says so.
        with (
            _readable(path, "an .npz file of plain arrays"),
            zipfile.ZipFile(path),
            np.load(path, allow_pickle=False) as file,
        ):
            arrays = {name: file[name] for name in known if name in file.files}
            found = ", ".join(file.files) or "none"
        for name in ("embeddings", "ids"):
            if name not in arrays:
                raise InputError(
                    f"{path} has no array {name!r}: it needs embeddings (N, D) and ids (N,), and has {found}."
                )
        return cls(path, arrays, None)

    @classmethod
    def of_npy(cls, path: Path, ids: Path | None) -> "_ArrayTable":
        with _readable(path, "an .npy file of a plain array"):
            array = np.lib.format.open_memmap(path, mode="r")
        if ids is None:
            return cls(path, {"embeddings": array}, None)
        with _readable(ids, "a UTF-8 text file of ids"):
            lines = ids.read_bytes().decode("utf-8-sig").split("\n")
        names = [line.removesuffix("\r") for line in (lines[:-1] if lines[-1] == "" else lines)]
        if array.ndim and len(names) != len(array):
            raise InputError(f"{ids} has {len(names)} lines and {path} {len(array)} rows: one id on a line for each.")
        return cls(path, {"embeddings": array}, names)

    def _read(self, size: int) -> Iterator[_Rows]:
        for start in range(0, len(self.embeddings), size):
            part = slice(start, min(start + size, len(self.embeddings)))
            texts = {name: _texts(column[part]) for name, column in self.columns.items()}
            count = part.stop - start
            nothing = (None,) * count
            if self.ids is not None:
                ids: Sequence[str | None] = [one or None for one in self.ids[part]]
            else:
                ids = texts["ids"] if "ids" in texts else [str(row) for row in range(start, part.stop)]
            yield _Rows(
                np.asarray(self.embeddings[part]),
                ids,
                {name: texts.get(name, nothing) for name in TEXTS},
                texts.get("metadata", nothing),
            )


class _ParquetTable(VectorTable):
    """A Parquet file, never in memory as a whole."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.arrow, self.parquet = _arrow()
        with _readable(path, "a Parquet table"), self.parquet.ParquetFile(path) as file:
            schema = file.schema_arrow
        types = self.arrow.types
        for name in ("embedding", "id"):
            if name not in schema.names:
                raise InputError(
                    f"{path} has no column {name!r}: it needs embedding and id, and has {', '.join(schema.names) or 'none'}."
                )
        if len(set(schema.names)) != len(schema.names):
            raise InputError(f"{path} has two columns of one name among {', '.join(schema.names)}: rename one.")
        embedding = schema.field("embedding").type
        if not (types.is_list(embedding) or types.is_large_list(embedding) or types.is_fixed_size_list(embedding)):
            raise InputError(f"{path} has a column 'embedding' of {embedding}: it must hold lists of numbers.")
        if not (types.is_floating(embedding.value_type) or types.is_integer(embedding.value_type)):
            raise InputError(f"{path} has a column 'embedding' of {embedding}: it must hold lists of numbers.")
        self.extra = [name for name in schema.names if name not in ("embedding", "id", "metadata", *TEXTS.values())]
        for name in schema.names:
            if name != "embedding":
                self._check_column(name, schema.field(name).type)
        self.has_metadata = "metadata" in schema.names
        self.names = [name for name in ("id", *TEXTS.values()) if name in schema.names]
        space = (schema.metadata or {}).get(SPACE.encode())
        self.space = space.decode() if space else None
        self.dimension = self._first_dimension()

    def _check_column(self, name: str, kind: Any) -> None:
        types = self.arrow.types
        if types.is_dictionary(kind):
            kind = kind.value_type
        is_text = types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)
        is_bytes = types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind)
        texts = is_text or is_bytes or types.is_fixed_size_binary(kind) or types.is_null(kind)
        if name in self.extra:
            is_time = types.is_date(kind) or types.is_time(kind) or types.is_timestamp(kind) or types.is_decimal(kind)
            if not (texts or is_time or types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind)):
                raise InputError(
                    f"{self.path} has a column {name!r} of {kind}: what becomes metadata must be text, numbers or booleans; "
                    f"convert or drop it."
                )
            if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
                raise InputError(
                    f"{self.path} has a column {name!r}: names of metadata are letters, digits, _ and -; rename it."
                )
        elif not (
            texts
            or (name != "metadata" and (types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind)))
        ):
            raise InputError(f"{self.path} has a column {name!r} of {kind}: it must be text.")

    def _first_dimension(self) -> int:
        for column in self._columns(BATCH):
            for length in self._lengths(column["embedding"]):
                if length:
                    return length
        raise InputError(f"{self.path} holds no vector that can be used.")

    def _columns(self, size: int) -> Iterator[dict[str, Any]]:
        with _readable(self.path, "a Parquet table"), self.parquet.ParquetFile(self.path, pre_buffer=False) as file:
            for batch in file.iter_batches(batch_size=size, use_threads=False):
                yield dict(zip(batch.schema.names, batch.columns, strict=True))

    def _lengths(self, column: Any) -> list[int | None]:
        if self.arrow.types.is_fixed_size_list(column.type):
            return [column.type.list_size if valid else None for valid in column.is_valid().to_pylist()]
        lengths: list[int | None] = column.value_lengths().to_pylist()
        return lengths

    def _read(self, size: int) -> Iterator[_Rows]:
        for columns in self._columns(size):
            with _readable(self.path, "a Parquet table"):
                rows = self._rows(columns)
            yield rows

    def _rows(self, columns: Mapping[str, Any]) -> _Rows:
        column = columns["embedding"]
        problems = {
            index: "has no vector" if length is None else f"has a vector of {length} numbers, not {self.dimension}"
            for index, length in enumerate(self._lengths(column))
            if length != self.dimension
        }
        if problems:
            embeddings = np.full((len(column), self.dimension), np.nan)
            for index in set(range(len(column))) - set(problems):
                embeddings[index] = column[index].values.to_numpy(zero_copy_only=False)
        else:
            embeddings = column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), self.dimension)
        nothing = [None] * len(column)
        texts: dict[str, list[str | None]] = {}
        for name in self.names:
            texts[name] = []
            for index, value in enumerate(columns[name].to_pylist()):
                try:
                    texts[name].append(text_of(value))
                except ValueError as error:
                    texts[name].append(None)
                    problems.setdefault(index, f"has as {name} {error}")
        extra = {name: list(map(scalar_of, columns[name].to_pylist())) for name in self.extra}
        metadata: list[Mapping[str, Scalar] | str | None] = [
            {name: values[index] for name, values in extra.items() if values[index] is not None}
            for index in range(len(column))
        ]
        if self.has_metadata:
            for index, text in enumerate(columns["metadata"].to_pylist()):
                own = metadata[index]
                given = _parsed(text)
                metadata[index] = {**own, **given} if isinstance(own, dict) and isinstance(given, dict) else text
        return _Rows(
            embeddings,
            texts["id"],
            {plural: texts.get(name, nothing) for plural, name in TEXTS.items()},
            metadata,
            problems,
        )


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
    if not path.parent.is_dir():
        raise InputError(f"There is no directory {path.parent}: create it first.")
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
                    columns[name] += [one or "" for one in getattr(batch, name)]
                columns["metadata"] += [_json(one) if one else "" for one in batch.metadata]
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
            for one in batch.ids:
                if "\n" in one or "\r" in one:
                    raise InputError(f"The id {one!r} does not fit a line of {names}: write a .parquet file instead.")
                lines.write(f"{one}\n".encode())
    return [path, names]


def _write_header(file: Any, rows: int, dimension: int) -> None:
    header = {"descr": "<f4", "fortran_order": False, "shape": (rows, dimension)}
    np.lib.format.write_array_header_1_0(file, header)


def _write_parquet(path: Path, batches: Iterable[VectorBatch], space: str | None) -> None:
    arrow, parquet = _arrow()
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
                "metadata": arrow.array([_json(one) if one else None for one in batch.metadata], text),
            }
            writer.write_batch(arrow.record_batch([columns[name] for name in schema.names], schema=schema))


def _arrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise MissingExtraError("A Parquet table", "parquet") from error
    return pyarrow, parquet


@contextmanager
def _readable(path: Path, what: str) -> Iterator[None]:
    try:
        yield
    except InputError:
        raise
    # Readers answer damaged bytes with almost any exception: ValueError, EOFError, zlib.error, ArrowInvalid, OSError, ...
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(
            f"{path} cannot be read as {what} ({reason}): it may be damaged, cut short or of another kind."
        ) from error


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
        (one.decode(errors="surrogateescape") if isinstance(one, bytes) else str(one)) or None
        for one in column.tolist()
    ]


def _problems(rows: _Rows) -> dict[int, str]:
    """What is wrong with each bad row but repeated ids."""
    problems = dict(rows.problems)
    finite = np.isfinite(rows.embeddings).all(axis=1)
    zero = ~rows.embeddings.astype(bool).any(axis=1)
    for index in np.flatnonzero(~finite | zero).tolist():
        problems.setdefault(index, "is a vector of zeros" if finite[index] else "has a vector with NaN or infinity")
    for index, (identifier, metadata) in enumerate(zip(rows.ids, rows.metadata, strict=True)):
        if index in problems:
            continue
        if not identifier:
            problems[index] = "has no id"
            continue
        unstorable = _problem_of(metadata)
        if unstorable:
            problems[index] = unstorable
            continue
        try:
            "".join([identifier, *(texts[index] or "" for texts in rows.texts.values())]).encode()
        except UnicodeEncodeError:
            problems[index] = "has text that is not Unicode"
    return problems


def _problem_of(metadata: Mapping[str, Scalar] | str | None) -> str | None:
    """Why the gallery could not keep these metadata."""
    if not metadata:
        return None
    read = _parsed(metadata) if isinstance(metadata, str) else metadata
    if read is None:
        return "has metadata that are no JSON object"
    for name, value in read.items():
        if isinstance(value, float) and not math.isfinite(value):
            # It says nothing, and is left out.
            continue
        fits = isinstance(value, str | None) or (
            math.isfinite(value) and (isinstance(value, float) or abs(value) <= LARGEST_INTEGER)
            if isinstance(value, int | float)
            else False
        )
        if not fits or not re.fullmatch(r"[A-Za-z0-9_-]+", name):
            return f"has metadata {name!r} that cannot be stored ({value!r})"
    return None


def _parsed(text: str | None) -> dict[str, Scalar] | None:
    """The JSON object of a text; ``None`` where it is none."""
    if not text:
        return {}
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _batch(rows: _Rows, kept: Sequence[int]) -> VectorBatch:
    """Rows that were found good, as unit vectors."""
    texts = {name: tuple(column[index] for index in kept) for name, column in rows.texts.items()}
    metadata = [rows.metadata[index] for index in kept]
    return VectorBatch(
        ids=tuple(str(rows.ids[index]) for index in kept),
        embeddings=_unit(rows.embeddings[kept]),
        metadata=tuple(_saying((_parsed(one) or {}) if isinstance(one, str | None) else one) for one in metadata),
        **{**texts, "labels": tuple(None if one is None else normal(one) for one in texts["labels"])},
    )


def _saying(metadata: Mapping[str, Scalar]) -> Mapping[str, Scalar]:
    """Metadata without numbers that say nothing."""
    return {name: one for name, one in metadata.items() if not (isinstance(one, float) and not math.isfinite(one))}


def _norms(embeddings: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Rows (B, D) scaled to a largest coordinate of 1, their lengths (B,), and those before (B,): nothing overflows."""
    exact = embeddings.astype(np.float64)
    largest = np.abs(exact).max(axis=1, initial=0)
    scaled = exact / largest[:, None]
    lengths: NDArray[np.float64] = np.linalg.norm(scaled, axis=1)
    with np.errstate(over="ignore"):
        return scaled, lengths, lengths * largest


def _is_unit(embeddings: NDArray[Any]) -> NDArray[np.bool_]:
    return np.asarray(np.abs(_norms(embeddings)[2] - 1) <= UNIT_TOLERANCE)


def _unit(embeddings: NDArray[Any]) -> NDArray[np.float32]:
    """Finite rows (B, D), none of them zero, at unit length; those that have it already as they are."""
    scaled, lengths, before = _norms(embeddings)
    is_unit = np.abs(before - 1) <= UNIT_TOLERANCE
    with np.errstate(over="ignore"):
        as_they_are = embeddings.astype(np.float32)
    unit: NDArray[np.float32] = np.where(is_unit[:, None], as_they_are, (scaled / lengths[:, None]).astype(np.float32))
    return unit


def _content(batch: VectorBatch) -> int:
    """A sum of digests of id and vector, so that neither batches nor order matter."""
    vectors = batch.embeddings.astype("<f4")
    return sum(
        int.from_bytes(hashlib.sha256(f"{len(name)}:{name}".encode() + vector.tobytes()).digest(), "big")
        for name, vector in zip(batch.ids, vectors, strict=True)
    )


def _json(metadata: Mapping[str, Scalar]) -> str:
    return json.dumps(dict(metadata), ensure_ascii=False)
