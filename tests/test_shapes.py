"""Files of a workspace that are not what was written: JSON of another shape, copies, altered figures. A sentence, never more."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import as_json, evergallery
from copies import copied
from evergallery.cli import main
from shops import held_out, make_shop

SHAPES = ("[]", "{}", '{"format": "x", "ids": [3], "tokens": [4]}', "\0")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with make_shop(tmp_path_factory.mktemp("shop")) as shop:
        shop.check("v2", held_out())
        directory = shop.directory
    evergallery("token", "create", "--name", "me", "--scope", "read", "-w", directory)
    return directory


@pytest.fixture
def shop(whole: Path, tmp_path: Path) -> Path:
    return copied(whole, tmp_path / "shop")


FILES: dict[str, Callable[[Path], Path]] = {
    "state": lambda shop: shop / "workspace.json",
    "note of items": lambda shop: shop / "held.json",
    "contents": lambda shop: shop / "gallery" / "contents.json",
    "space": lambda shop: next(shop.glob("gallery/*/space.json")),
    "move": lambda shop: shop / "gallery" / "moving.json",
    "index": lambda shop: next(shop.glob("gallery/*/space.json")).with_name("index.json"),
    "card": lambda shop: shop / "generations" / "v0001" / "card.json",
    "check": lambda shop: next(shop.glob("checks/v2-in-*.json")),
    "log": lambda shop: shop / "log.jsonl",
    "tokens": lambda shop: shop / "tokens.json",
    "gate": lambda shop: shop / "gate.toml",
}


@pytest.mark.parametrize("name", FILES)
def test_json_of_another_shape_is_a_sentence(shop: Path, name: str) -> None:
    path = FILES[name](shop)
    for content in SHAPES:
        before = path.read_bytes() if path.is_file() else None
        path.write_text(content)
        for command in (["doctor"], ["log"], ["promote", "v2"], ["token", "list"]):
            # What is wrong is an exit status and a line; an error of another kind would come out of this.
            run(*command, "-w", shop)
        path.write_bytes(before) if before is not None else path.unlink(missing_ok=True)


def run(*command: Any) -> None:
    before, sys.argv = sys.argv, ["evergallery", *map(str, command)]
    try:
        with pytest.raises(SystemExit):
            main()
            sys.exit(0)
    finally:
        sys.argv = before


@pytest.mark.parametrize("name", ["check", "tokens", "gate", "card", "contents"])
def test_the_doctor_sees_it(shop: Path, name: str) -> None:
    assert as_json("doctor", "-w", shop)["problems"] == []
    path = FILES[name](shop)
    path.write_text("[")
    problems = as_json("doctor", "-w", shop, expect=6)["problems"]
    assert any(str(path) in problem for problem in problems)


def test_the_doctor_sees_two_cards_of_one_name(shop: Path) -> None:
    shutil.copytree(shop / "generations" / "v0002", shop / "generations" / "v0009")
    (problem,) = as_json("doctor", "-w", shop, expect=6)["problems"]
    assert "both call themselves v2" in problem


def test_the_doctor_sees_an_altered_dimension(shop: Path) -> None:
    path = next(shop.glob("gallery/*/space.json"))
    path.write_text(json.dumps({**json.loads(path.read_text()), "dimension": 7}))
    assert as_json("doctor", "-w", shop, expect=6)["problems"]
