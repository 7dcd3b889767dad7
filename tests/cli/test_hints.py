"""Every command that a message, a page or a document prints is one that the command line takes."""

import ast
import functools
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

import evergallery
from evergallery.cli.app import app
from evergallery.cli.console import COMMAND, Terminal, to_copy
from evergallery.errors import EXIT_STATUSES

PACKAGE = Path(evergallery.__file__).parent
ROOT = Path(__file__).parents[2]
PAGES = [
    path
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md")))
    if path.is_file()
]
SHELL = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`(evergallery [^`]+)`")


@pytest.fixture(autouse=True)
def without_workspace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Terminal, "workspace", None)


def parse(command: str) -> None:
    """Take a command as the command line would, but do nothing."""
    words = shlex.split(command, comments=True)
    assert words[0] == "evergallery", command
    verb: Any = typer.main.get_command(app)
    if len(words) == 2 and words[1].startswith("--"):
        # These would be done, not only parsed.
        assert words[1] in {option for parameter in verb.params for option in parameter.opts} | {"--help"}
        return
    context = verb.make_context("evergallery", words[1:])
    while hasattr(verb, "commands") and (rest := [*context._protected_args, *context.args]):
        name, verb, rest = verb.resolve_command(context, rest)
        context = verb.make_context(name, rest, parent=context)
    assert verb.name != "evergallery", f"{command} names no verb"


def filled(part: ast.expr) -> str:
    """A piece of a message; what is filled in stands as a word that an option of this name takes."""
    if isinstance(part, ast.Constant):
        return str(part.value)
    name = ast.unparse(part)
    return "float32" if "precision" in name else "0.5" if "share" in name else "v2"


def texts(path: Path) -> Iterator[str]:
    """Every string of a module but its docstrings; what is filled in stands as a name."""
    tree = ast.parse(path.read_text())
    prose = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    inner = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if id(node) in prose | inner:
            continue
        if isinstance(node, ast.JoinedStr):
            yield "".join(map(filled, node.values))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


@functools.cache
def printed() -> list[tuple[str, str]]:
    """Every command of a message of the package, or of its pages, with where it stands."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        # Few modules name a command at all, and all others need not be parsed.
        for text in texts(path) if re.search("(?<!from )evergallery ", path.read_text()) else ():
            commands = [match[0] for match in COMMAND.finditer(text)]
            commands += [text] if re.fullmatch(r"evergallery [a-z][^\n]*", text) else []
            found += [(str(path.relative_to(PACKAGE)), command) for command in commands]
    for path in sorted([*PACKAGE.rglob("*.js"), *PACKAGE.rglob("*.html")]):
        content = path.read_text()
        commands = [match[0] for match in COMMAND.finditer(content.replace('"', "\n"))]
        commands += re.findall(r'"(evergallery [a-z][^"]*)"|<code>(evergallery [^<{]*)</code>', content)
        found += [
            (path.name, command if isinstance(command, str) else command[0] or command[1]) for command in commands
        ]
    return found


def documented() -> list[tuple[str, str]]:
    """Every command in a shell block of a page."""
    found = []
    for path in PAGES:
        for block in SHELL.findall(path.read_text()):
            for line in block.replace("\\\n", " ").splitlines():
                bare = re.sub(r"^torchrun .*? -m ", "", re.sub(r"^([A-Z_]+=\S+ )+", "", line.strip()))
                command = re.split(r" [|>&] ?| && ", bare)[0]
                found += [(path.name, command)] if command.startswith("evergallery") else []
    return found


@pytest.mark.parametrize(("where", "command"), [*dict.fromkeys(printed()), *dict.fromkeys(documented())])
def test_a_printed_command_works_when_it_is_copied(where: str, command: str) -> None:
    parse(command.rstrip(".,;:"))


def test_commands_are_found_where_they_stand() -> None:
    assert len(printed()) > 40
    assert len(documented()) > 60


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_what_a_page_calls_a_command_is_one(path: Path) -> None:
    verbs: Any = typer.main.get_command(app)
    for command in INLINE.findall(path.read_text()):
        assert command.split()[1] in [*verbs.commands, "--help", "--version"], f"{path.name}: {command}"


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("do this:  evergallery plan v2", "do this:  evergallery plan v2 -w 'my shop'"),
        ("run  evergallery check v2 --data A  first.", "run  evergallery check v2 --data A -w 'my shop'  first."),
        ("run  evergallery doctor.", "run  evergallery doctor -w 'my shop'."),
        (
            "end it with  evergallery a --b  or  evergallery c",
            "end it with  evergallery a --b -w 'my shop'  or  evergallery c -w 'my shop'",
        ),
        ("create one with  evergallery init there", "create one with  evergallery init there"),
        ("Next:  evergallery index A -w other", "Next:  evergallery index A -w other"),
        ("evergallery is a word here", "evergallery is a word here"),
    ],
)
def test_commands_name_the_workspace_that_this_one_was_told_of(
    monkeypatch: pytest.MonkeyPatch, message: str, expected: str
) -> None:
    assert to_copy(message) == message
    monkeypatch.setattr(Terminal, "workspace", Path("my shop"))
    assert to_copy(message) == expected


def test_exit_statuses_are_documented_as_they_are() -> None:
    page = (ROOT / "docs" / "cli.md").read_text()
    for status, meaning in EXIT_STATUSES.items():
        assert f"| {status} | {meaning} |" in page
