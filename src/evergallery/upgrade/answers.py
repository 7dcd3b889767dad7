"""The right answers, where labels do not say so: a table of queries, items and grades, by the names that users have."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evergallery.data.image_set import ImageSet
from evergallery.data.listing import Entry
from evergallery.data.tables import read_table
from evergallery.errors import InputError
from evergallery.evaluation import Judgements, Protocol
from evergallery.strings.names import normal
from evergallery.watching import Watcher

COLUMNS = ("query", "item", "grade")
FORM = "query,item[,grade]"
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
    table = read_table(str(path), COLUMNS)
    table.require(COLUMNS[:2], FORM)
    found = []
    for row in table.rows:
        query, item = (normal(row.text(name) or "") for name in COLUMNS[:2])
        if not query or not item:
            raise InputError(f"{path} has no query or no item in {row.where}: fill it in or drop the row.")
        grade = _grade(row.cells.get("grade"))
        if grade is None:
            raise InputError(f"{path} has the grade {row.cells['grade']!r} in {row.where}: grades are numbers from 0.")
        if grade > 0:
            found.append(RightAnswer(query, item, grade))
    if not found:
        raise InputError(f"{path} names no right answer: it needs rows {FORM} with grades above 0.")
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
        raise _none_named(source, named)
    if unknown:
        watcher.said(
            f"{len(unknown)} answers of {source} name no query or item that is there and are left out: {named}"
        )
    pairs = np.array(list(grades), dtype=np.int64)
    return Judgements(pairs[:, 0], pairs[:, 1], np.array(list(grades.values()), dtype=np.float64))


def require_some_named(judged: Sequence[RightAnswer], entries: Sequence[Entry], source: str, *, items: bool) -> None:
    """Refuse answers of which none can name a query and an item among image files, before one of these is opened.

    Args:
        judged: rows of a table.
        entries: of the files.
        source: where the answers come from.
        items: whether the items are among the files, too; else they are stored ones.

    Raises:
        InputError: there are answers, and none of them can.
    """
    names = {normal(name) for entry in entries for name in (entry.item_id, *_names_of(entry.uri)) if name}

    def known(name: str) -> bool:
        # The hash of a file's content names it too, and is not known before.
        return name in names or re.fullmatch("[0-9a-f]{64}", name) is not None

    unknown = [answer.query if not known(answer.query) else answer.item for answer in judged]
    if judged and not any(known(answer.query) and (not items or known(answer.item)) for answer in judged):
        raise _none_named(source, ", ".join(list(dict.fromkeys(unknown))[:SHOWN]))


def _none_named(source: str, named: str) -> InputError:
    return InputError(
        f"None of the answers of {source} names a query and an item that are there, for instance not {named}: names are item "
        f"ids, addresses, or file names that only one image has."
    )


def _names_of(uri: str) -> tuple[str, str, str]:
    """An address, the name of its file, and what stands for a part of a file."""
    return uri, PurePosixPath(uri).name, uri.rpartition("#")[2]


def _by_name(images: ImageSet, rows: NDArray[np.int64]) -> dict[str, int]:
    """Images by every name that only one of them has."""
    ids = images.item_ids or (None,) * len(images)
    found: dict[str, int] = {}
    # Item ids go before addresses, and these before file names, which may mean several images.
    for names in (
        [(ids[row], row) for row in rows.tolist()],
        [(images.uris[row], row) for row in rows.tolist()],
        [(images.hashes[row], row) for row in rows.tolist()],
        *([(_names_of(images.uris[row])[form], row) for row in rows.tolist()] for form in (1, 2)),
    ):
        fresh: dict[str, int] = {}
        for name, row in names:
            if name and (key := normal(name)) not in found:
                fresh[key] = row if fresh.get(key, row) == row else -1
        found |= fresh
    return found


def _grade(cell: Any) -> float | None:
    """A grade, 1 where the cell says nothing; ``None`` for what is no grade."""
    try:
        grade = 1.0 if cell in (None, "") else float(cell)
    except (TypeError, ValueError):
        return None
    if math.isnan(grade) and isinstance(cell, float):
        return 1.0
    return grade if math.isfinite(grade) and grade >= 0 else None
