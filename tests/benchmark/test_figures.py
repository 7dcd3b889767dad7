"""Every figure in a table of results is in a committed result file: who changes one must run something."""

import json
import re
import statistics
import sys
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from evergallery.benchmark.tables import markdown, read_runs
from evergallery.data.glyphs import generate
from evergallery.methods import METHODS

ROOT = Path(__file__).parents[2]
FILES = ROOT / "benchmarks" / "results"
TABLES = ROOT / "docs" / "results.md"
PAGES = [ROOT / "README.md", *sorted(path for path in (ROOT / "docs").rglob("*.md") if path != TABLES)]
FIGURE = re.compile(r"(?<![\w.@])\d[\d ]*(?:\.\d+)?(?!\w)")
SCALES = (1, 100, 1000, 1 / 100, 1 / 1000, 1 / 2**20)
"""As they are, in percent, in milliseconds, of one query of a batch, in MiB."""
SOURCES = re.compile(r"<!-- figures of ([\w., -]+) -->")
SETTINGS = ("default", "formula", "weight", "published code", "meaning", "paper", "expected", "bytes a dimension")
"""In the head of a table of what is set, not of what was measured."""


@dataclass(frozen=True)
class Table:
    """A table of a page.

    Attributes:
        where: page and line.
        head: its first line.
        rows: the cells of the others, without the first of each, which says what the row is.
        before: the lines above it, the nearest last.
    """

    where: str
    head: str
    rows: list[list[str]]
    before: list[str]

    def of_results(self) -> bool:
        """Whether it says what was measured: figures with decimals or shares, several of them."""
        measured = [
            cell for row in self.rows for cell in row if re.match(r"[\s*+−-]*\d[\d ]*(\.\d+|( ±| %|$))", cell.strip())
        ]
        return len(measured) >= 3 and not any(word in self.head.lower() for word in SETTINGS)

    def published(self) -> bool:
        """Whether it repeats what others have published."""
        above = [line for line in self.before if re.match(r"#|\*\*[A-Z]", line)]
        return bool(above) and ("Published figures" in above[-1] or "published" in above[-1].lower())

    def generated(self) -> bool:
        """Whether a command writes it, whose own test holds it to its file."""
        marks = [line for line in self.before if re.match(r"<!-- (?!figures of)", line)]
        return bool(marks) and not marks[-1].startswith("<!-- end")


def tables(path: Path) -> Iterator[Table]:
    lines = path.read_text().splitlines()
    start = 0
    while start < len(lines):
        if not lines[start].startswith("|"):
            start += 1
            continue
        end = next((i for i in range(start, len(lines)) if not lines[i].startswith("|")), len(lines))
        rows = [line.strip().strip("|").split("|")[1:] for line in lines[start + 2 : end]]
        yield Table(f"{path.relative_to(ROOT)}:{start + 1}", lines[start], rows, lines[:start])
        start = end


def numbers(value: Any) -> Iterator[float]:
    """All of them, without their signs; a list of numbers is one of seeds or turns, whose mean counts too."""
    if isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from numbers(part)
        if isinstance(value, list) and value and all(isinstance(number, int | float) for number in value):
            yield abs(statistics.fmean(value))
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield abs(float(value))


def missing(table: Table, files: list[str]) -> list[str]:
    """Figures of a table that none of the files holds, on whatever scale, rounded as the table has them."""
    known = sorted(
        number * scale
        for name in files
        for number in numbers(json.loads((FILES / name).read_text()))
        for scale in SCALES
    )
    found = []
    for cell in (cell for row in table.rows for cell in row if re.match(r"[\s*+−-]*\d", cell)):
        for text in FIGURE.findall(cell):
            figure = text.replace(" ", "")
            # Half a unit of the last place, and a little for what was rounded before.
            half = 0.6 * 10.0 ** -len(figure.partition(".")[2])
            place = bisect_left(known, float(figure) - half)
            if place == len(known) or known[place] > float(figure) + half:
                found.append(figure)
    return found


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_figures_are_in_a_result_file(path: Path) -> None:
    for table in tables(path):
        if not table.of_results() or table.published() or table.generated():
            continue
        above = next((line for line in reversed(table.before) if line.strip()), "")
        named = SOURCES.fullmatch(above.strip())
        assert named, (
            f"{table.where} has figures of nobody knows what: name the result files above it, <!-- figures of NAME.json -->"
        )
        files = [name.strip() for name in named[1].split(",")]
        assert not (lost := missing(table, files)), f"{table.where}: {', '.join(lost)} in none of {', '.join(files)}"


def test_the_page_of_results_is_what_the_files_say() -> None:
    page = TABLES.read_text()
    for runs in sorted((ROOT / "results").rglob("runs")):
        assert markdown(read_runs(runs.parent)).strip() in page, (
            f"{runs.parent.name}: run  python benchmarks/results.py"
        )


def test_every_method_was_searched_for_on_characters_that_no_table_shows() -> None:
    """The split is the one that the glyphs are made in, and what was chosen is what the file's figures say."""
    known = json.loads((FILES.parent / "glyphs_characters.json").read_text())
    assert not set(known["development"]) & set(known["report"])
    drawn = generate(classes=200, train_per_class=1, test_per_class=0, size=8)
    assert list(drawn.classes) == known["report"], "the set that the tables are of"
    result = json.loads((FILES / "search.json").read_text())["result"]
    found = result["methods"]
    without = {name for name, method in METHODS.items() if method.role in ("baseline", "bound")}
    assert set(METHODS) - without - set(found) == {"replay", "cores", "cl2r"}, "those begin anew, or read old images"
    page = TABLES.read_text()
    for name, search in found.items():
        best = max(search["values"], key=lambda value: statistics.fmean(search["values"][value]["both"]))
        assert search["best"] == best
        assert best in list(search["values"])[1:-1] or len(search["values"]) == result.get("most", 4), (
            "as many values for each as its best one takes"
        )
        assert f"| {name} | `{search['weight']}` | {float(search['default']):g} | " in page


def test_a_figure_that_no_file_holds_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = sys.modules[__name__]
    monkeypatch.setattr(module, "FILES", tmp_path)
    monkeypatch.setattr(module, "ROOT", tmp_path)
    (tmp_path / "x.json").write_text(json.dumps({"recall": [0.7314, 0.5], "seconds": 0.0123}))
    page = tmp_path / "page.md"
    page.write_text("<!-- figures of x.json -->\n| | a | b | c |\n|---|---|---|---|\n| v1 | 73.1 | 50.0 | 12.3 ms |\n")
    (table,) = tables(page)
    assert table.of_results()
    assert missing(table, ["x.json"]) == []
    page.write_text(page.read_text().replace("73.1", "73.4"))
    (table,) = tables(page)
    assert missing(table, ["x.json"]) == ["73.4"]


def test_a_command_names_no_folder_of_one_machine() -> None:
    for path in (ROOT / "benchmarks" / "results").glob("*.json"):
        command = json.loads(path.read_text()).get("command", "")
        assert not [word for word in command.split() if word.startswith("/")], path.name
