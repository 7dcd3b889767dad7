"""The example of a workflow: its commands exist, and what it reads of the answers is there."""

import json
import re
import shlex
from pathlib import Path

import pytest

import models
from conftest import as_json, evergallery
from evergallery import Workspace
from shops import held_out, make_photos

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "check-model.yml"
yaml = pytest.importorskip("yaml")


def commands() -> list[list[str]]:
    steps = yaml.safe_load(EXAMPLE.read_text())["jobs"]["check"]["steps"]
    lines = "\n".join(step["run"] for step in steps if "run" in step).splitlines()
    return [shlex.split(line) for line in lines if line.startswith("evergallery ")]


def test_its_commands_take_their_options() -> None:
    assert [command[1] for command in commands()] == ["register", "check"]
    for command in commands():
        told = evergallery(command[1], "--help").stdout
        for option in (word for word in command if word.startswith("--")):
            assert option in told


def test_what_it_reads_is_there(tmp_path: Path) -> None:
    shop = Workspace.create(tmp_path / "shop", size=16)
    shop.register(models.worn, size=16)
    shop.index(make_photos(tmp_path / "photos", each=2))
    shop.close()
    here = ("-w", tmp_path / "shop")
    assert as_json("register", "models:better", "--size", 16, *here)["name"] == "v2"
    found = shop.check("v2", held_out()).to_dict()
    text = EXAMPLE.read_text()
    for name in re.findall(r"\(\.(\w+)", text):
        assert name in found or name in found["pairs"][0], name
    json.dumps(found)
