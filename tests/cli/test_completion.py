"""The Tab key proposes what the workspace holds, in each shell that there is, and never fails."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

import models
from conftest import evergallery
from evergallery import Workspace
from evergallery.cli.choices import SearchWay
from evergallery.cli.completion import BACKBONES, WAYS, search_ways
from evergallery.holdings.answer import WAYS as KNOWN_WAYS
from evergallery.network import build_backbone
from evergallery.serving.tokens import Tokens


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two generations, of which v1 answers, and a token."""
    directory = tmp_path_factory.mktemp("completed") / "a shop"
    with Workspace.create(directory, size=16) as shop:
        shop.register(models.worn, size=16)
        shop.register(models.turned, size=16)
    Tokens(directory).create("till", "read")
    return directory


def proposed(line: list[str], here: Path, **environment: str) -> list[str]:
    """What is proposed for the last word of a line."""
    asking = {
        "_EVERGALLERY_COMPLETE": "complete_bash",
        "COMP_WORDS": "\n".join(["evergallery", *(shlex.quote(word) if word else "" for word in line)]),
        "COMP_CWORD": str(len(line)),
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(here)
        for name, value in {**asking, **environment}.items():
            patch.setenv(name, value)
        done = evergallery()
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (["promote", "v"], ["v1", "v2"]),
        (["check", "v2"], ["v2"]),
        (["diff", "v1", ""], ["v1", "v2"]),
        (["check", "v2", "--against", ""], ["v1", "v2", "promoted", "all"]),
        (["check", "v2", "--against", "a"], ["all"]),
        (["search", "--within", "v1"], ["v1"]),
        (["learn", "photos", "--parent", ""], ["v1", "v2"]),
        (["learn", "photos", "--method", "ever"], ["evergreen"]),
        (["promote", "v2", "--answer", "r"], ["rescore"]),
        (["token", "revoke", ""], ["till"]),
        (["gallery", "d"], ["duplicates", "delete"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_names_that_the_workspace_holds(shop: Path, line: list[str], words: list[str]) -> None:
    assert proposed(line, shop) == words


def test_of_the_workspace_that_the_line_or_the_environment_names(shop: Path, tmp_path: Path) -> None:
    assert proposed(["promote", "-w", str(shop), "v"], tmp_path) == ["v1", "v2"]
    assert proposed(["-w", str(shop), "promote", "v"], tmp_path) == ["v1", "v2"]
    assert proposed(["promote", "v"], tmp_path, EVERGALLERY_WORKSPACE=str(shop)) == ["v1", "v2"]


def test_nothing_where_there_is_no_workspace_or_a_broken_one(shop: Path, tmp_path: Path) -> None:
    assert proposed(["promote", ""], tmp_path) == []
    broken = Path(shutil.copytree(shop, tmp_path / "broken"))
    (broken / "generations" / "v0002" / "card.json").write_text("{")
    assert proposed(["promote", "v2"], broken) == []


@pytest.mark.parametrize(
    ("shell", "asking"),
    [
        (
            "bash",
            'COMP_WORDS=(evergallery promote v); COMP_CWORD=2; _evergallery_completion evergallery; echo "${COMPREPLY[@]}"',
        ),
        ("fish", "complete -C 'evergallery promote v'"),
        # Its completion works at a terminal alone: what stands for it there shows what would be proposed.
        (
            "zsh",
            "compdef() { }; _arguments() { echo $@ }; words=(evergallery promote v); CURRENT=3; _evergallery_completion",
        ),
    ],
    ids=["bash", "fish", "zsh"],
)
def test_each_shell_asks_for_them(shop: Path, tmp_path: Path, shell: str, asking: str) -> None:
    """The installed function is run by the shell itself."""
    found = shutil.which(shell)
    if found is None:
        pytest.skip(f"no {shell} here")
    command = tmp_path / "evergallery"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m evergallery "$@"\n')
    command.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    script = subprocess.run(
        ["evergallery", "--show-completion", shell],
        env={**environment, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    lines = [script, asking] if shell != "zsh" else [asking.partition(";")[0], script, asking.partition(";")[2]]
    done = subprocess.run(
        [found, "-c", "\n".join(lines)], cwd=shop, env=environment, capture_output=True, text=True, check=True
    )
    assert "v1" in done.stdout
    assert "v2" in done.stdout


def test_what_is_proposed_is_known() -> None:
    assert set(WAYS) == set(KNOWN_WAYS)
    assert [way for way, _ in search_ways()] == list(get_args(SearchWay))
    for name in BACKBONES:
        assert build_backbone(name).width
