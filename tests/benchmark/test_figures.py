"""Every figure in a table of results is in a committed result file: who changes one must run something."""

import json
import random
import re
import statistics
import sys
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from shutil import copytree
from types import ModuleType
from typing import Any

import pytest

from evergallery.benchmark import report
from evergallery.benchmark.tables import by_method, read_runs
from evergallery.data.glyphs import generate
from evergallery.methods import METHODS

ROOT = Path(__file__).parents[2]
FILES = ROOT / "benchmarks" / "results"
TABLES = ROOT / "docs" / "results.md"
PAGES = [ROOT / "README.md", *sorted(path for path in (ROOT / "docs").rglob("*.md") if path != TABLES)]
FIGURE = re.compile(r"[+−-]?(?<![\w.@])\d[\d ]*(?:\.\d+)?(?!\w)")
SCALES = {
    r"%|recall": (100,),
    r"\bms\b": (1000, 1 / 1000, 1 / 100),  # Of seconds; of one query of a batch of a thousand, or of a hundred.
    r"\bMiB\b": (1 / 2**20,),
    r"\bs\b|seconds": (1 / 1000,),
}
"""What figures are times what a file has, where a cell, its row or its column says so; as they are everywhere."""
SOURCES = re.compile(r"<!-- figures of ([\w., -]+\.json)(?:: (.+))? -->")
"""Result files, and a key of them below which the figures are."""
SETTINGS = ("default", "formula", "weight", "published code", "meaning", "paper", "expected", "bytes a dimension")
"""In the head of a table of what is set, not of what was measured."""


@dataclass(frozen=True)
class Table:
    """A table of a page.

    Attributes:
        where: page and line.
        head: its first line.
        names: the first cell of each of the others, which says what the row is.
        rows: the other cells of each.
        before: the lines above it, the nearest last.
    """

    where: str
    head: str
    names: list[str]
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
        rows = [line.strip().strip("|").split("|") for line in lines[start + 2 : end]]
        where = f"{path.relative_to(ROOT)}:{start + 1}"
        yield Table(where, lines[start], [row[0] for row in rows], [row[1:] for row in rows], lines[:start])
        start = end


def numbers(value: Any, keys: frozenset[str] = frozenset()) -> Iterator[tuple[frozenset[str], float]]:
    """All of them, with the keys that they are below; a list of numbers is one of seeds or turns, whose mean counts too."""
    if isinstance(value, dict):
        for key, part in value.items():
            yield from numbers(part, keys | {key})
    elif isinstance(value, list):
        for part in value:
            yield from numbers(part, keys)
        if value and all(isinstance(number, int | float) for number in value):
            yield keys, statistics.fmean(value)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield keys, float(value)


def below(value: Any, key: str) -> Iterator[Any]:
    """What a file has under a key, wherever it is."""
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, part in parts:
        if name == key:
            yield part
        yield from below(part, key)


def plain(text: str) -> str:
    """The words of a cell as a key of a file has them."""
    return re.sub(r"(?<=\d) (?=\d{3})", "", text.strip().strip("*`"))


@dataclass(frozen=True)
class Cell:
    """A cell with figures: what it says, and what its row and its column are."""

    text: str
    row: str
    column: str

    def known(self, contents: list[Any]) -> list[float]:
        """What it may say, sorted: what the files have of its row and its column, as far as these are keys of theirs."""
        found = [number for content in contents for number in numbers(content)]
        named = [len(keys & {plain(self.row), plain(self.column)}) for keys, _ in found]
        said = f"{self.text} {self.row} {self.column}"
        scales = {1.0, *(scale for word, scales in SCALES.items() if re.search(word, said) for scale in scales)}
        nearest = max(named, default=0)
        return sorted(
            number * scale
            for (_, number), times in zip(found, named, strict=True)
            if times == nearest
            for scale in scales
        )

    def missing(self, contents: list[Any]) -> list[str]:
        """Its figures that none of the files holds, rounded as it has them."""
        known, found = self.known(contents), []
        for text in FIGURE.findall(self.text):
            figure = re.sub(r"[ +]", "", text).replace("−", "-")
            # Half a unit of the last place, and a little for what was rounded before.
            half = 0.6 * 10.0 ** -len(figure.partition(".")[2])
            place = bisect_left(known, float(figure) - half)
            if place == len(known) or known[place] > float(figure) + half:
                found.append(text)
        return found


def cells(table: Table) -> Iterator[Cell]:
    heads = table.head.strip().strip("|").split("|")[1:]
    for name, row in zip(table.names, table.rows, strict=True):
        yield from (
            Cell(text, name, head) for text, head in zip(row, heads, strict=True) if re.match(r"[\s*+−-]*\d", text)
        )


def sources(table: Table) -> list[Any] | None:
    """What the files hold that are named above a table; ``None`` where none are."""
    above = next((line for line in reversed(table.before) if line.strip()), "")
    named = SOURCES.fullmatch(above.strip())
    if named is None:
        return None
    contents = [json.loads((FILES / name.strip()).read_text()) for name in named[1].split(",")]
    return contents if named[2] is None else [part for content in contents for part in below(content, named[2])]


def measured_tables() -> Iterator[Table]:
    """The tables of all pages whose figures have to be in a file."""
    for path in PAGES:
        for table in tables(path):
            if table.of_results() and not table.published() and not table.generated():
                yield table


@pytest.mark.parametrize("table", list(measured_tables()), ids=lambda table: table.where)
def test_figures_are_in_a_result_file(table: Table) -> None:
    contents = sources(table)
    assert contents, (
        f"{table.where} has figures of nobody knows what: name the result files above it, <!-- figures of NAME.json -->"
    )
    lost = [figure for cell in cells(table) for figure in cell.missing(contents)]
    assert not lost, f"{table.where}: {', '.join(lost)} in none of its files"


@pytest.mark.parametrize("table", list(measured_tables()), ids=lambda table: table.where)
def test_an_altered_figure_would_be_seen(table: Table) -> None:
    """Where a file holds so much that nearly any figure is in it, the mark has to say below which key."""
    contents, draws = sources(table) or [], random.Random(0)

    def altered(found: re.Match[str]) -> str:
        figure = re.sub(r"[ +]", "", found[0]).replace("−", "-")
        return f"{float(figure) * (1 + draws.choice((-1, 1)) * draws.uniform(0.03, 0.3)):.{len(figure.partition('.')[2])}f}"

    changed = [replace(cell, text=FIGURE.sub(altered, cell.text)) for cell in cells(table) for _ in range(5)]
    different = [
        cell
        for cell, before in zip(changed, (c for c in cells(table) for _ in range(5)), strict=True)
        if cell != before
    ]
    seen = [bool(cell.missing(contents)) for cell in different]
    assert statistics.fmean(seen) > 0.6, (
        f"{table.where}: {statistics.fmean(seen):.0%} of altered figures are in none of its files"
    )


@pytest.fixture
def results(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(FILES.parent)
    import results

    yield results
    for name in ("results", "claims", "common"):
        sys.modules.pop(name, None)


def test_the_page_of_results_is_what_the_files_say(results: ModuleType) -> None:
    """All of it: tables, differences, each update, virtual features, the search, and what is said of them."""
    written = TABLES.read_text().splitlines()
    made = results.whole_page(ROOT / "results", TABLES).splitlines()
    for number, (line, expected) in enumerate(zip_longest(written, made), 1):
        assert line == expected, f"line {number}: run  python benchmarks/results.py"


def test_the_card_of_evergreen_shows_every_protocol_as_the_files_do(results: ModuleType) -> None:
    """Differences to others are told of all protocols, and not of those alone that speak for it."""
    written = (
        results.CARD.read_text().partition("<!-- protocols -->")[2].partition("<!-- end of protocols -->")[0].strip()
    )
    assert written == results.side_by_side(ROOT / "results"), "run  python benchmarks/results.py"
    assert len(written.splitlines()) == 2 + len(list((ROOT / "results").glob("*/runs")))


def test_the_tables_beside_the_runs_are_what_they_say(
    results: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("self-cross", "old-new", "refresh", "tasks", "updates")

    def there(runs: object, directory: Path) -> list[Path]:
        return [path for name in names if (path := directory / f"{name}.svg").is_file()]

    monkeypatch.setattr(report, "write_plots", there)
    for number, (_, directory) in enumerate(results.kept(ROOT / "results")):
        copy = Path(copytree(directory, tmp_path / str(number)))
        report.write_report(copy)
        for name in ("table.md", "table.csv", "table.tex"):
            assert (copy / name).read_text() == (directory / name).read_text(), (
                f"{directory.name}/{name}: run  python benchmarks/results.py"
            )
        for plot in sorted(copy.glob("*.svg")):
            methods = {name for name, found in by_method(read_runs(copy)).items() if len(found) == 1}
            shown = plot.read_text()
            assert not [name for name in methods if f">{name}<" in shown], f"{plot} shows one seed as if it were many"


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
    page.write_text(
        "<!-- figures of x.json -->\n| | a, % | b, % | c |\n|---|---|---|---|\n| v1 | 73.1 | 50.0 | 12.3 ms |\n"
    )

    def lost() -> list[str]:
        (table,) = tables(page)
        assert table.of_results()
        return [figure.strip() for cell in cells(table) for figure in cell.missing(sources(table) or [])]

    assert lost() == []
    page.write_text(page.read_text().replace("73.1", "73.4"))
    assert lost() == ["73.4"]
    # A sign is a part of a figure, and the row or the column that a file knows by name narrows it down.
    (tmp_path / "x.json").write_text(json.dumps({"a": {"gain": -0.3, "other": 0.5}, "b": {"gain": 0.5}}))
    page.write_text(
        "<!-- figures of x.json -->\n| | a | b |\n|---|---|---|\n| gain | −0.3 | 0.5 |\n| gain | 0.3 | 0.5 |\n"
    )
    assert lost() == ["0.3"]
    page.write_text(
        "<!-- figures of x.json -->\n| | a | b |\n|---|---|---|\n| gain | 0.5 | −0.3 |\n| gain | −0.3 | 0.5 |\n"
    )
    assert lost() == ["0.5", "−0.3"]
    page.write_text(
        "<!-- figures of x.json: b -->\n| | u | v |\n|---|---|---|\n| w | 0.5 | −0.3 |\n| w | 0.5 | 0.5 |\n"
    )
    assert lost() == ["−0.3"]


def test_a_command_names_no_folder_of_one_machine() -> None:
    for path in (ROOT / "benchmarks" / "results").glob("*.json"):
        command = json.loads(path.read_text()).get("command", "")
        assert not [word for word in command.split() if word.startswith("/")], path.name
