"""Every method and adapter has a card that names each option with its default, and no card leads nowhere."""

import inspect
import re
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from evergallery.adapters import ADAPTERS
from evergallery.methods import METHODS, Method

DIRECTORY = Path(__file__).parents[2] / "docs" / "methods"
RESULTS = DIRECTORY.parent / "results.md"
CARDS = sorted(DIRECTORY.glob("*.md"))
OPTION = re.compile(r"^\| `(\w+)` \| `([^`]*)` \|", re.MULTILINE)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def card(name: str) -> str:
    path = DIRECTORY / f"{name}.md"
    assert path.is_file(), f"{name} has no card: write docs/methods/{name}.md"
    return path.read_text()


def options(text: str) -> dict[str, str]:
    """Rows ``| `name` | `default` |`` of a card."""
    found = OPTION.findall(text)
    assert len(dict(found)) == len(found), "an option stands on the card twice"
    return dict(found)


@pytest.mark.parametrize("method", METHODS.values(), ids=list(METHODS))
def test_card_of_a_method_names_its_options_with_their_defaults(method: type[Method]) -> None:
    assert options(card(method.name)) == {field.name: str(field.default) for field in fields(method)}


@pytest.mark.parametrize(("name", "fit"), [(name, kind.fit) for name, kind in ADAPTERS.items()], ids=list(ADAPTERS))
def test_card_of_an_adapter_names_its_parameters_with_their_defaults(name: str, fit: Callable[..., Any]) -> None:
    parameters = inspect.signature(fit).parameters.values()
    expected = {
        parameter.name: str(parameter.default)
        for parameter in parameters
        if parameter.default is not inspect.Parameter.empty
    }
    assert options(card(name)) == expected


@pytest.mark.parametrize("name", [*METHODS, *ADAPTERS])
def test_card_says_what_it_is_for_what_it_needs_and_when_not_to_use_it(name: str) -> None:
    text = card(name)
    for part in (
        "**What for.**",
        "**Formula.**",
        "**What it needs.**",
        "**Published figures.**",
        "**When not to use it.**",
    ):
        assert part in text
    assert text.split("\n\n")[1].startswith("**What for.** "), "a card begins with what its reader can use it for"


@pytest.mark.parametrize("name", [*METHODS, *ADAPTERS])
def test_card_points_to_the_results_where_a_table_has_a_row_of_it(name: str) -> None:
    row = re.compile(rf"^\| ([\w-]+\+)?{name}(@[\w.=]+)? \|", re.MULTILINE)
    told = "Measured: see [results](../results.md)." in card(name)
    assert told == (row.search(RESULTS.read_text()) is not None)
    assert told or "o table of [results](../results.md) has" in " ".join(card(name).split())


@pytest.mark.parametrize("name", METHODS)
def test_card_says_whether_the_parent_runs_on_each_batch(name: str) -> None:
    """What it costs is what the trainer does: other methods look at the parent before the first epoch, or not at all."""
    says = "extra forward pass of the parent" in " ".join(card(name).split())
    assert says == METHODS[name].needs.old_batches


def test_index_has_one_row_for_each_card() -> None:
    rows = re.findall(r"^\| \[([\w-]+)\]\(([\w-]+)\.md\)", card("README"), re.MULTILINE)
    assert sorted(rows) == sorted((name, name) for name in [*METHODS, *ADAPTERS])
    assert {path.stem for path in CARDS} == {"README", *METHODS, *ADAPTERS}


@pytest.mark.parametrize("name", METHODS)
def test_table_says_what_the_method_says_that_it_needs(name: str) -> None:
    lines = card("README").splitlines()
    head = next(line for line in lines if line.startswith("| method |"))
    row = next(line for line in lines if line.startswith(f"| [{name}]("))
    cells = dict(zip(head.strip("| ").split(" | "), row.strip("| ").split(" | "), strict=True))
    wanted = METHODS[name].needs.cells(METHODS[name]().old_images())
    assert {column: cells[column] for column in wanted} == wanted


@pytest.mark.parametrize("path", CARDS, ids=lambda path: path.stem)
def test_relative_links_resolve(path: Path) -> None:
    links = [link.partition("#")[0] for link in LINK.findall(path.read_text())]
    targets = {(path.parent / link).resolve() for link in links if link and not re.match(r"[a-z]+:", link)}
    assert targets
    assert [target for target in targets if not target.exists()] == []


@pytest.mark.parametrize("path", CARDS, ids=lambda path: path.stem)
def test_rows_of_a_table_have_as_many_cells_as_its_head(path: Path) -> None:
    tables = re.findall(r"(?:^\|.*\|\n)+", path.read_text(), re.MULTILINE)
    for table in tables:
        assert len({line.count("|") for line in table.splitlines()}) == 1, table
