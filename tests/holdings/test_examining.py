"""The doctor names every file that is damaged, every file that may not be read, and what to do about each."""

import errno
import json
import multiprocessing
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import evergallery
from copies import copied
from evergallery import Workspace
from evergallery.errors import BusyError, DamagedError, UnreadableError
from evergallery.files import read_json
from evergallery.holdings.journal import Journal, is_entry, lay_aside
from shops import held_out, make_shop


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with a file of each kind."""
    with make_shop(tmp_path_factory.mktemp("made")) as shop:
        shop.adapt("v3", "v1", held_out(), kind="procrustes")
        shop.check("v2", held_out())
        item = next(shop.gallery.iterate())[0]
        shop.holdings.marks.say(item.id, item.id, True)
        return shop.directory


@pytest.fixture
def shop(made: Path, tmp_path: Path) -> Workspace:
    return Workspace(copied(made, tmp_path / "shop"))


def deny(monkeypatch: pytest.MonkeyPatch, denied: Path) -> None:
    """Let nobody open a file, as its mode does for everybody but root."""
    right: Callable[..., Any] = Path.open

    def opened(path: Path, *arguments: Any, **options: Any) -> Any:
        if path == denied:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return right(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", opened)


@pytest.mark.parametrize("name", ["log.jsonl", "marks.jsonl"])
@pytest.mark.parametrize("line", [b"{", b"[]", b"3", b'{"time": 3}', b"\xff\xfe", b"[" * 100_000])
def test_damaged_lines_are_named_and_laid_aside(shop: Workspace, name: str, line: bytes) -> None:
    path = shop.directory / name
    whole = path.read_bytes()
    assert shop.doctor() == []
    path.write_bytes(line + b"\n" + whole + line)
    last = len(whole.splitlines()) + 2
    found = shop.doctor()
    assert found == [
        f"{path} has damaged lines (2: 1, {last}), which are passed over: restore it from a backup, or lay them aside with  "
        f"evergallery doctor --mend"
    ]
    assert shop.mend() == [path]
    assert shop.doctor() == []
    assert path.read_bytes().startswith(whole)
    assert path.with_name(f"{name}.damaged").read_bytes() == (line + b"\n") * 2


def test_the_command_says_what_it_laid_aside(shop: Workspace) -> None:
    path = shop.directory / "log.jsonl"
    with path.open("a") as file:
        file.write('{"operation": "ind')
    told = evergallery("doctor", "-w", str(shop.directory), "--mend")
    assert f"Damaged lines of {path} are in {path}.damaged now." in told.stdout
    assert "All is well" in told.stdout


def append(path: Path, name: str) -> None:
    for number in range(60):
        Journal(path).record("test", writer=name, number=number)


def test_nobody_who_appends_meanwhile_loses_a_line(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.touch()
    writers = [multiprocessing.get_context("fork").Process(target=append, args=(path, name)) for name in "ab"]
    for writer in writers:
        writer.start()
    laid = 0
    while any(writer.is_alive() for writer in writers):
        with path.open("ab") as file:
            file.write(b"{\n")
        laid += lay_aside(path, is_entry) is not None
    for writer in writers:
        writer.join()
    lay_aside(path, is_entry)
    entries = Journal(path).entries()
    assert laid
    for name in "ab":
        assert [entry["number"] for entry in entries if entry["writer"] == name] == list(range(60))


@pytest.mark.parametrize("content", ["{", "[]", '{"items": "many"}', '{"items": -3}', "{}", "[" * 100_000])
def test_what_the_gallery_held_is_examined(shop: Workspace, content: str) -> None:
    held = shop.directory / "held.json"
    held.write_text(content)
    assert [problem.partition(" does not say")[0] for problem in shop.doctor()] == [str(held)]
    shop.close()
    held.unlink()
    assert shop.doctor() == []


@pytest.mark.parametrize(
    "name",
    [
        "generations/v0002/card.json",
        "generations/v0002/probe.safetensors",
        "adapters/a0001/card.json",
        "adapters/a0001/adapter.safetensors",
        "checks/v2-in-v1.json",
        "log.jsonl",
        "marks.jsonl",
        "held.json",
        "tokens.json",
    ],
)
def test_a_file_that_may_not_be_read_is_not_called_damaged(
    shop: Workspace, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (shop.directory / "tokens.json").write_text('{"tokens": []}')
    assert shop.doctor() == []
    shop.close()
    deny(monkeypatch, shop.directory / name)
    with Workspace(shop.directory) as again:
        found = [problem for problem in again.doctor() if str(again.directory / name) in problem]
    assert len(found) == 1
    assert "may not be read (Permission denied)" in found[0]
    assert "backup" not in found[0]


def test_a_command_that_may_not_read_says_so_with_status_5(shop: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.close()
    deny(monkeypatch, shop.directory / "workspace.json")
    told = evergallery("status", "-w", str(shop.directory), expect=5)
    assert "workspace.json may not be read (Permission denied)" in told.stderr


def test_a_workspace_whose_generations_are_gone_says_so(shop: Workspace) -> None:
    shutil.rmtree(shop.directory / "generations")
    place = str(shop.directory)
    assert "has no generation 'v2'" in evergallery("promote", "v2", "-w", place, expect=3).stderr
    told = evergallery("doctor", "-w", place, expect=6)
    assert "The promoted generation v1 is missing" in told.stdout


def test_a_file_where_a_folder_belongs_is_a_sentence(shop: Workspace) -> None:
    shutil.rmtree(shop.directory / "checks")
    (shop.directory / "checks").touch()
    shop.close()
    told = evergallery("check", "v2", "--data", "@gallery", "-w", shop.directory, expect=6)
    assert "checks cannot be used (File exists): something else lies where a file or folder" in told.stderr
    assert "Traceback" not in told.stderr


@pytest.mark.parametrize("name", ["log.jsonl", "marks.jsonl", "held.json", "tokens.json", "gate.toml"])
def test_a_folder_where_a_file_belongs_is_named(shop: Workspace, name: str) -> None:
    path = shop.directory / name
    path.unlink(missing_ok=True)
    path.mkdir()
    assert any(problem.startswith(f"{path} is no file: move it out") for problem in shop.doctor())


def test_a_gallery_that_is_in_use_is_not_called_damaged(shop: Workspace) -> None:
    assert shop.gallery.count()
    with pytest.raises(BusyError):
        Workspace(shop.directory).doctor()


def test_json_may_be_missing_denied_or_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.json"
    with pytest.raises(DamagedError, match="restore it from a backup"):
        read_json(path)
    path.write_text("[" * 100_000)
    with pytest.raises(DamagedError, match="restore it from a backup"):
        read_json(path)
    path.write_text(json.dumps({"é": 1}, ensure_ascii=False), encoding="utf-8")
    assert read_json(path) == {"é": 1}
    deny(monkeypatch, path)
    with pytest.raises(UnreadableError, match="give this user permission to read it"):
        read_json(path)
