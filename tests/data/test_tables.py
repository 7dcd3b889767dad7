"""Tables of images, of right answers and of pairs: what is read, and what is refused, is the same for all."""

from collections.abc import Callable
from pathlib import Path

import pytest

from evergallery.data.evaluation_sets import evaluation_set
from evergallery.data.listing import list_table
from evergallery.data.tables import read_table
from evergallery.errors import InputError
from evergallery.upgrade.answers import read_answers

Cells = list[tuple[str, ...]]


def images(table: Path) -> Cells:
    entries, _ = list_table(str(table), require_labels=True).in_order()
    return [(Path(entry.uri).name, str(entry.label)) for entry in entries]


def answers(table: Path) -> Cells:
    return [(answer.query, answer.item) for answer in read_answers(table)]


def pairs(table: Path) -> Cells:
    found = evaluation_set(str(table))
    names = [Path(entry.uri).name for entry in found.entries]
    return [(names[0], names[1])]


READERS: list[tuple[Callable[[Path], Cells], tuple[str, ...]]] = [
    (images, ("path", "label")),
    (answers, ("query", "item")),
    (pairs, ("first", "second", "same")),
]


@pytest.fixture(params=READERS, ids=[reader.__name__ for reader, _ in READERS])
def kind(request: pytest.FixtureRequest) -> tuple[Callable[[Path], Cells], tuple[str, ...]]:
    chosen: tuple[Callable[[Path], Cells], tuple[str, ...]] = request.param
    return chosen


Kind = tuple[Callable[[Path], Cells], tuple[str, ...]]


def written(
    folder: Path, names: tuple[str, ...], first: str, *, ends: str = "\n", start: str = "", more: str = ""
) -> Path:
    """A table of one row, whose first cell is as it is given."""
    cells = [first, "b.png", "1"][: len(names)]
    lines = [",".join(names) + more, ",".join(cells) + more]
    path = folder / "t.csv"
    path.write_bytes((start + ends.join(lines) + ends).encode())
    return path


@pytest.mark.parametrize(
    ("first", "seen", "options"),
    [
        ("a.png", "a.png", {}),
        ("a.png", "a.png", {"start": "\ufeff"}),
        ("a.png", "a.png", {"ends": "\r\n"}),
        ("a.png", "a.png", {"ends": "\n\n"}),
        ("a.png", "a.png", {"more": ",,"}),
        (" a.png ", "a.png", {}),
        ('"a.png"', "a.png", {}),
        ('"a,2.png"', "a,2.png", {}),
        ('"a ""2"".png"', 'a "2".png', {}),
    ],
    ids=[
        "plain",
        "byte-order mark",
        "CRLF",
        "empty lines",
        "empty cells",
        "spaces",
        "quotes",
        "comma",
        "quotes inside",
    ],
)
def test_what_is_read(tmp_path: Path, kind: Kind, first: str, seen: str, options: dict[str, str]) -> None:
    read, names = kind
    assert read(written(tmp_path, names, first, **options))[0] == (seen, "b.png")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{head}\na.png,b.png,1,more,cells\n", "has 5 cells in row 1 .line 2. and"),
        ("{head}\na.png\n", "has 1 cells in row 1 .line 2. and"),
        ('{head}\n"a.png,b.png,1\n', "quotation mark in line 2"),
        ('{head}\na".png,b.png,1\n', "quotation mark in line 2"),
        ('{head}\n"a\n.png",b.png,1\n', "of several lines that ends in row 1 .line 3."),
        ("{head},{first}\na.png,b.png,1,c\n", "two columns of one name"),
        ("{semicolons}\na.png;b.png;1\n", "separates its cells by ';': save it with commas"),
        ("{tabs}\na.png\tb.png\t1\n", "separates its cells by .*t': save it with commas"),
        ("other\na.png\n", "has no column '{first}': it .*has other"),
        ("", "has no column '{first}': it .*has none"),
        ("{head}\n\xe9.png,b.png,1\n", "cannot be read as a CSV table in UTF-8"),
    ],
)
def test_what_is_refused(tmp_path: Path, kind: Kind, content: str, says: str) -> None:
    read, names = kind
    head, first = ",".join(names), names[0]
    table = tmp_path / "t.csv"
    text = content.format(head=head, first=first, semicolons=";".join(names), tabs="\t".join(names))
    # As many cells as there are columns, where it is not the number of cells that is wrong.
    if len(names) == 2 and "cells" not in says:
        text = text.replace(",b.png,1", ",b.png").replace(";b.png;1", ";b.png")
    table.write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=says.format(first=first)):
        read(table)


def test_parquet_has_the_cells_of_csv(tmp_path: Path) -> None:
    """Numbers that pandas made floats, because a cell of their column was empty, are the names that they were."""
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")

    table = tmp_path / "t.pq"
    parquet.write_table(
        pyarrow.table({"query": [1.0, 2.0, None], "item": ["x ", "y", "z"], "grade": [None, float("nan"), 2.0]}), table
    )
    with pytest.raises(InputError, match="no query or no item in row 3"):
        read_answers(table)
    rows = read_table(str(table), ("query", "item"))
    assert [(row.text("query"), row.text("item")) for row in rows.rows] == [("1", "x"), ("2", "y"), (None, "z")]
    parquet.write_table(pyarrow.table({"query": [1.0, 2.0], "item": ["x ", "y"], "grade": [None, float("nan")]}), table)
    assert [(answer.query, answer.item, answer.grade) for answer in read_answers(table)] == [
        ("1", "x", 1.0),
        ("2", "y", 1.0),
    ]
    for grade in (float("inf"), -1.0):
        parquet.write_table(pyarrow.table({"query": ["a"], "item": ["x"], "grade": [grade]}), table)
        with pytest.raises(InputError, match="has the grade .* in row 1: grades are numbers from 0"):
            read_answers(table)
