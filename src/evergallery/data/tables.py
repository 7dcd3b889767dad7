"""Tables of rows, as CSV or Parquet: images, right answers and pairs are read, or refused, by one rule.

A CSV table is text in UTF-8, with or without a byte-order mark, as RFC 4180 has it: cells are separated by commas, a cell with
a comma or a quotation mark is in quotes. Spaces around names and cells, empty lines, and empty cells beyond the last column say
nothing.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from evergallery.data.columns import csv_records, names_of, scalar_of, text_of
from evergallery.data.metadata import Scalar
from evergallery.data.places import opened
from evergallery.data.unpacking import import_arrow, opened_parquet, parquet_batches
from evergallery.errors import InputError

PARQUET_SUFFIXES = (".parquet", ".pq")
TABLE_SUFFIXES = (".csv", *PARQUET_SUFFIXES)
OTHER_SEPARATORS = (";", "\t", "|")
ROWS = 4096

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class TableRow:
    """A row of a table.

    Attributes:
        path: of the table.
        where: the row is, in words.
        cells: by the names of their columns.
    """

    path: str
    where: str
    cells: Mapping[str, Any]

    def text(self, name: str) -> str | None:
        """A cell as text; ``None`` where it says nothing, or there is no such column.

        Raises:
            InputError: it cannot be text.
        """
        return self._read(text_of, name)

    def scalar(self, name: str) -> Scalar:
        """A cell as metadata can hold it; ``None`` where it says nothing, or there is no such column.

        Raises:
            InputError: it cannot be.
        """
        return self._read(scalar_of, name)

    def _read(self, read: Callable[[Any], Value], name: str) -> Value:
        try:
            return read(self.cells.get(name))
        except ValueError as error:
            raise InputError(f"{self.path} has in {self.where}, column {name!r}, {error}: mend the table.") from error


@dataclass(frozen=True)
class Table:
    """A table whose rows are read one after the other.

    Attributes:
        path: of the table.
        names: of its columns.
        rows: can be gone through once.
    """

    path: str
    names: Sequence[str]
    rows: Iterator[TableRow]

    def require(self, names: Iterable[str], form: str = "") -> None:
        """Refuse a table that lacks one of some columns.

        Args:
            names: of the columns.
            form: that the table should have, where one sentence says it.

        Raises:
            InputError: it does.
        """
        for name in names:
            if name not in self.names:
                needs = f"needs {form} and " if form else ""
                raise InputError(
                    f"{self.path} has no column {name!r}: it {needs}has {', '.join(self.names) or 'none'}."
                )


def read_table(path: str, columns: Sequence[str], texts: Sequence[str] = ()) -> Table:
    """Read a table by its suffix: Parquet for those of ``PARQUET_SUFFIXES``, CSV for any other.

    Args:
        path: its address.
        columns: that are read, as far as they are there; none of them has a cell of several lines.
        texts: columns that are read, too, of any text.

    Raises:
        InputError: it cannot be read, now or while it is gone through; the message says where, and what to change.
        MissingExtraError: a Parquet table without pyarrow.
    """
    is_parquet = path.lower().endswith(PARQUET_SUFFIXES)
    rows = _parquet_rows(path, (*columns, *texts)) if is_parquet else _csv_rows(path, columns)
    return Table(path, list(next(rows).cells), rows)


def _csv_rows(path: str, columns: Sequence[str]) -> Iterator[TableRow]:
    """A row of nothing, which has all columns, then those of the table."""
    try:
        with opened(path, "r", newline="", encoding="utf-8-sig") as file:
            records = csv_records(path, file)
            names = names_of(path, [name.strip() for name in next(records, (0, []))[1]])
            separator = next((mark for mark in OTHER_SEPARATORS if len(names) == 1 and mark in names[0]), None)
            if separator is not None:
                raise InputError(f"{path} separates its cells by {separator!r}: save it with commas between them.")
            yield TableRow(path, "the head", dict.fromkeys(name for name in names if name))
            for number, (line, row) in enumerate(records, 1):
                cells = [cell.strip() for cell in row]
                where = f"row {number} (line {line})"
                if len(cells) < len(names) or any(cells[len(names) :]):
                    raise InputError(
                        f"{path} has {len(cells)} cells in {where} and {len(names)} columns: put a cell with a comma in quotes, "
                        f"or add what is missing."
                    )
                found = {name: cell for name, cell in zip(names, cells, strict=False) if name}
                for name in columns:
                    if "\n" in found.get(name, "") or "\r" in found.get(name, ""):
                        raise InputError(
                            f"{path} has a {name} of several lines that ends in {where}: close its quotation mark."
                        )
                yield TableRow(path, where, found)
    except OSError as error:
        raise InputError(f"{path} cannot be read as a CSV table ({error}).") from error


def _parquet_rows(path: str, wanted: Sequence[str]) -> Iterator[TableRow]:
    """A row of nothing, which has all columns, then those of the table with the columns that are wanted."""
    arrow, _ = import_arrow()
    try:
        with opened(path) as file, opened_parquet(path, file, wanted) as table:
            names = names_of(path, table.schema_arrow.names)
            yield TableRow(path, "the head", dict.fromkeys(names))
            number = 0
            for batch in parquet_batches(path, table, ROWS, [name for name in wanted if name in names]):
                for row in batch.to_pylist():
                    number += 1
                    cells = {name: value.strip() if isinstance(value, str) else value for name, value in row.items()}
                    yield TableRow(path, f"row {number}", cells)
    except (OSError, arrow.ArrowException) as error:
        raise InputError(f"{path} cannot be read as a Parquet table ({str(error).splitlines()[0]}).") from error
