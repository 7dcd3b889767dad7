"""The right answers, where labels do not say so: a table of queries, items and grades, by the names that users have."""

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evergallery.data.image_set import ImageSet
from evergallery.data.unpacking import bounded_parts, import_arrow
from evergallery.errors import InputError
from evergallery.evaluation import Judgements, Protocol
from evergallery.watching import Watcher

PARQUET = (".parquet", ".pq")
SHOWN = 3


@dataclass(frozen=True)
class RightAnswer:
    """A row of the table: an item that is right for a query, and how much."""

    query: str
    item: str
    grade: float


def read_answers(path: Path) -> list[RightAnswer]:
    """Read a ``.csv`` or Parquet table ``query,item[,grade]``; rows of grade 0 say that an item is wrong, as all others are.

    Raises:
        InputError: it cannot be read, lacks a column, or has a row without a name or with a grade that is no number from 0.
        MissingExtraError: Parquet without pyarrow.
    """
    if not path.is_file():
        raise InputError(f"There is no file {path}: name a .csv or .parquet table of answers.")
    rows = _parquet_rows(path) if path.suffix.lower() in PARQUET else _csv_rows(path)
    found = []
    for number, row in enumerate(rows, 1):
        query, item = (_text(row.get(name)) for name in ("query", "item"))
        if not query or not item:
            raise InputError(f"{path} has no query or no item in row {number}: fill it in or drop the row.")
        grade = _grade(row.get("grade"))
        if grade is None:
            raise InputError(f"{path} has the grade {row['grade']!r} in row {number}: grades are numbers from 0.")
        if grade > 0:
            found.append(RightAnswer(query, item, grade))
    if not found:
        raise InputError(f"{path} names no right answer: it needs rows query,item[,grade] with grades above 0.")
    return found


def judgements_of(protocol: Protocol, judged: Sequence[RightAnswer], source: str, watcher: Watcher) -> Judgements:
    """Judgements by index of the held-out images; what names no query or no item of the gallery is counted and told.

    Args:
        protocol: of N held-out images.
        judged: rows of a table.
        source: where they come from.
        watcher: hears how many were left out.

    Raises:
        InputError: none of them can be used.
    """
    queries, items = (_by_name(protocol.images, rows) for rows in (protocol.query, protocol.gallery))
    grades: dict[tuple[int, int], float] = {}
    unknown: list[str] = []
    for answer in judged:
        query, item = queries.get(answer.query, -1), items.get(answer.item, -1)
        if query < 0 or item < 0:
            unknown.append(answer.query if query < 0 else answer.item)
        else:
            grades[query, item] = max(answer.grade, grades.get((query, item), 0.0))
    named = ", ".join(list(dict.fromkeys(unknown))[:SHOWN])
    if not grades:
        raise InputError(
            f"None of the answers of {source} names a query and an item that are there, for instance not {named}: names are item "
            f"ids, addresses, or file names that only one image has."
        )
    if unknown:
        watcher.said(
            f"{len(unknown)} answers of {source} name no query or item that is there and are left out: {named}"
        )
    pairs = np.array(list(grades), dtype=np.int64)
    return Judgements(pairs[:, 0], pairs[:, 1], np.array(list(grades.values()), dtype=np.float64))


def parquet_columns(path: Path) -> tuple[str, ...]:
    """Names of the columns of a Parquet table.

    Raises:
        InputError: it cannot be read.
        MissingExtraError: without pyarrow.
    """
    return tuple(_parquet(path).schema_arrow.names)


def parquet_arrays(path: Path, vectors: Sequence[str], texts: Mapping[str, str]) -> dict[str, NDArray[Any]]:
    """Columns of a Parquet table, as far as they are there.

    Args:
        path: of the table.
        vectors: columns of lists of numbers, which become (N, D).
        texts: columns of text or numbers, which become (N,), with the names that they get.

    Raises:
        InputError: it cannot be read, or the lists of a column are not of one length.
        MissingExtraError: without pyarrow.
    """
    there = parquet_columns(path)
    columns = [name for name in (*vectors, *texts) if name in there]
    table = _parquet(path, columns).read(columns=columns)
    found: dict[str, NDArray[Any]] = {}
    for name in [name for name in vectors if name in there]:
        try:
            found[name] = np.array(table.column(name).to_pylist(), dtype=np.float32)
        except (TypeError, ValueError) as error:
            raise InputError(f"The column {name!r} of {path} is not of lists of numbers, all of one length.") from error
    for name in (name for name in texts if name in there):
        column = table.column(name).to_pylist()
        found[texts[name]] = np.array(["" if cell is None else str(cell) for cell in column], dtype=np.str_)
    return found


def _by_name(images: ImageSet, rows: NDArray[np.int64]) -> dict[str, int]:
    """Images by every name that only one of them has."""
    ids = images.item_ids or (None,) * len(images)
    found: dict[str, int] = {}
    # Item ids go before addresses, and these before file names, which may mean several images.
    for names in (
        [(ids[row], row) for row in rows.tolist()],
        [(images.uris[row], row) for row in rows.tolist()],
        [(images.hashes[row], row) for row in rows.tolist()],
        [(PurePosixPath(images.uris[row]).name, row) for row in rows.tolist()],
        [(images.uris[row].rpartition("#")[2], row) for row in rows.tolist()],
    ):
        fresh: dict[str, int] = {}
        for name, row in names:
            if name and name not in found:
                fresh[name] = row if fresh.get(name, row) == row else -1
        found |= fresh
    return found


def _csv_rows(path: Path) -> list[Mapping[str, Any]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, skipinitialspace=True)
            _require_columns(path, [name.strip() for name in reader.fieldnames or ()])
            return [{str(name).strip(): value for name, value in row.items()} for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read as a UTF-8 CSV table ({error}).") from error


def _parquet_rows(path: Path) -> list[Mapping[str, Any]]:
    names = parquet_columns(path)
    _require_columns(path, names)
    columns = [name for name in ("query", "item", "grade") if name in names]
    rows: list[Mapping[str, Any]] = _parquet(path, columns).read(columns=columns).to_pylist()
    return rows


def _require_columns(path: Path, names: Sequence[str]) -> None:
    for name in ("query", "item"):
        if name not in names:
            raise InputError(
                f"{path} has no column {name!r}: it needs query,item[,grade] and has {', '.join(names) or 'none'}."
            )


def _parquet(path: Path, columns: Sequence[str] = ()) -> Any:
    """A Parquet file of which these columns may be read whole."""
    arrow, parquet = import_arrow()
    try:
        opened = parquet.ParquetFile(path)
        bounded_parts(path, opened, columns)
        return opened
    except (OSError, arrow.ArrowInvalid) as error:
        raise InputError(f"{path} cannot be read as a Parquet table ({str(error).splitlines()[0]}).") from error


def _text(value: Any) -> str:
    return "" if value is None else str(value).strip()


def _grade(value: Any) -> float | None:
    """A grade, 1 where there is none; ``None`` for what is none."""
    if _text(value) == "":
        return 1.0
    try:
        grade = float(value)
    except (TypeError, ValueError):
        return None
    return grade if math.isfinite(grade) and grade >= 0 else None
