"""Every docstring, help text and description is a sentence of its own: no opening that points back, and no question."""

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "evergallery"
FRAGMENT = re.compile(r"(Those|These|Likewise|The same|As above|Also|Even|Of|That|Its|Their)\b|\d, \d")
QUESTION = re.compile(r"(What|Whether|How|Where|Which|Who|Whom|Whose|Why)\b")


def texts(code: str) -> Iterator[tuple[int, str]]:
    """Strings that stand as statements, and what calls have as ``help`` or ``description``; each with its line."""
    for node in ast.walk(ast.parse(code)):
        found: list[ast.AST] = []
        if isinstance(node, ast.Expr):
            found = [node.value]
        elif isinstance(node, ast.Call):
            found = [word.value for word in node.keywords if word.arg in ("help", "description")]
            found += node.args[1:2] if isinstance(node.func, ast.Name) and node.func.id == "_setting" else []
        for text in found:
            if isinstance(text, ast.Constant) and isinstance(text.value, str):
                yield text.lineno, text.value


def fragments(code: str) -> list[int]:
    """Lines of texts that begin as a fragment."""
    return [line for line, text in texts(code) if FRAGMENT.match(text)]


def questions(code: str) -> list[int]:
    """Lines of docstrings that begin as a question."""
    found = [node.value for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Expr)]
    return [
        text.lineno
        for text in found
        if isinstance(text, ast.Constant) and isinstance(text.value, str) and QUESTION.match(text.value)
    ]


@pytest.mark.parametrize(
    "opening", ["Those of the rest.", "Likewise the other.", "1, 2, …", "The same as JSON.", "Of it."]
)
def test_a_fragment_is_seen_wherever_it_stands(opening: str) -> None:
    assert fragments(f'"""{opening}"""')
    assert fragments(f'def f() -> None:\n    """{opening}"""')
    assert fragments(f'LIMIT = 1\n"""{opening}"""')
    assert fragments(f'Option(help="{opening}")')
    assert not fragments('Option(help="Seed of the rest.")')


@pytest.mark.parametrize("opening", ["What it does.", "Whether it is.", "How many there are.", "Where it lies."])
def test_a_question_is_seen_wherever_it_stands(opening: str) -> None:
    assert questions(f'"""{opening}"""')
    assert questions(f'class A:\n    def f(self) -> int:\n        """{opening}"""')
    assert questions(f'LIMIT = 1\n"""{opening}"""')
    assert not questions('"""Return what it does."""')


@pytest.mark.parametrize("faults", [fragments, questions])
def test_every_text_begins_with_a_noun_or_a_verb(faults: Callable[[str], list[int]]) -> None:
    found = {str(path.relative_to(SOURCE)): faults(path.read_text()) for path in sorted(SOURCE.rglob("*.py"))}
    assert not {name: lines for name, lines in found.items() if lines}, (
        "begin with a noun or a verb, and a function's text with what it does: Return …"
    )
