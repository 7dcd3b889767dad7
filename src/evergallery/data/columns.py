"""Cells of tables as text and as metadata: one rule for tables of images and of vectors, whatever their format.

What says nothing (a null, an empty text, NaN) is ``None``. What is neither text nor a number that has one spelling is refused.
"""

import csv
import datetime
import decimal
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from evergallery.data.metadata import Scalar
from evergallery.errors import InputError

# Text in quotes with its quotes doubled, or without any.
_CELL = r'(?:"(?:[^"]|"")*"|[^",\r\n]*)'
_RECORD = re.compile(rf"{_CELL}(?:,{_CELL})*(?:\r\n|\r|\n)?")


def text_of(value: Any) -> str | None:
    """A cell as text; ``None`` where it says nothing.

    Raises:
        ValueError: it cannot be text; the message says what it is.
    """
    if isinstance(value, bytes):
        try:
            value = value.decode()
        except UnicodeDecodeError:
            raise ValueError(f"the bytes {value[:20]!r}, which are not UTF-8") from None
    if value is None or isinstance(value, str):
        return value or None
    if isinstance(value, float):
        if math.isnan(value):
            return None
        if value.is_integer():
            return str(int(value))
    if isinstance(value, bool | int):
        return str(value)
    if isinstance(value, decimal.Decimal) and value.is_finite() and value == value.to_integral_value():
        return str(int(value))
    raise ValueError(f"{str(value)[:40]!r}, which is neither text nor a whole number")


def scalar_of(value: Any) -> Scalar:
    """A cell as metadata can hold it; ``None`` where it says nothing.

    Raises:
        ValueError: it cannot be; the message says what it is.
    """
    if isinstance(value, bytes):
        return text_of(value)
    if value is None or value == "" or (isinstance(value, float) and not math.isfinite(value)):
        return None
    if isinstance(value, str | int | float | bool):
        return value
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, decimal.Decimal):
        return str(value)
    raise ValueError(f"{str(value)[:40]!r}, which is neither text nor a number")


def names_of(path: Any, names: Sequence[str]) -> list[str]:
    """The names of a table's columns.

    Raises:
        InputError: two columns have one name.
    """
    named = [name for name in names if name]
    if len(set(named)) != len(named):
        raise InputError(f"{path} has two columns of one name among {', '.join(named)}: rename one.")
    return list(names)


def csv_records(path: str, lines: Iterable[str]) -> Iterator[tuple[int, list[str]]]:
    """The number of its last line and the cells of each record of a CSV table, as RFC 4180 has them; empty lines are left out.

    Raises:
        InputError: a quotation mark that is not closed, or stands where it changes what is read; or it is no text in UTF-8.
    """
    taken: list[str] = []

    def recorded() -> Iterator[str]:
        for line in lines:
            taken.append(line)
            yield line

    reader = csv.reader(recorded(), strict=True)
    first = 1
    while True:
        taken.clear()
        try:
            row = next(reader, None)
        except csv.Error as error:
            raise InputError(_misquoted(path, first, str(error))) from error
        except UnicodeDecodeError as error:
            raise InputError(f"{path} cannot be read as a CSV table in UTF-8 ({error}): save it as UTF-8.") from error
        if row is None:
            return
        text = "".join(taken)
        if '"' in text and not _RECORD.fullmatch(text):
            raise InputError(_misquoted(path, first, "a quotation mark inside a cell"))
        if row:
            yield reader.line_num, row
        first = reader.line_num + 1


def _misquoted(path: str, line: int, reason: str) -> str:
    return (
        f"{path} has a quotation mark in line {line} that is not closed or stands alone ({reason}): put the whole cell in "
        f"quotes, and double those inside it."
    )
