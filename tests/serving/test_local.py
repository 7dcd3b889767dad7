"""Commands of this machine ask the server of their workspace where it answers alike, and do their work themselves where not."""

import asyncio
import json
import os
import shutil
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from served import client, copy_of, photographs
from test_server import running

from conftest import as_json, evergallery
from evergallery import Workspace
from evergallery.serving import asking, local
from evergallery.serving.app import create_app
from evergallery.serving.connections import ConnectionLimits, Server
from evergallery.serving.limits import Limits
from evergallery.serving.local import LONGEST_PATH, SOCKET, TERMS, connected, local_socket
from evergallery.serving.service import ServiceSettings
from evergallery.serving.tokens import Tokens
from evergallery.strings.environment import LARGEST_IMAGE, RUNTIME, SERVER, TOKEN

BUSY = 4
"""Exit status of a command that finds the gallery in use: it has done its work itself, or tried to."""


@pytest.fixture(autouse=True)
def _a_busy_machine_has_time_to_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "TERMS_SECONDS", 30.0)


@pytest.fixture
def directory(served_workspace: Path, tmp_path: Path) -> Path:
    return copy_of(served_workspace, tmp_path)


@pytest.fixture(scope="session")
def picture(served_workspace: Path) -> Path:
    return photographs(served_workspace)[3]


@contextmanager
def serving(directory: Path, limits: Limits | None = None) -> Iterator[Any]:
    """The application of a workspace, asked through the socket in it and in no other way; it holds the gallery."""
    app = create_app(directory, ServiceSettings(limits or Limits(rate=0)))
    with local_socket(directory) as listening:
        assert listening is not None
        server = Server(
            uvicorn.Config(
                app, log_config=None, access_log=False, timeout_graceful_shutdown=5, **ConnectionLimits().options()
            )
        )
        thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listening])))
        thread.start()
        try:
            while not server.started:
                assert thread.is_alive(), "the server did not start"
                time.sleep(0.01)
            yield app
        finally:
            app.state.service.stop()
            server.should_exit = True
            thread.join()


def told(directory: Path, *words: Any, expect: int = 0) -> tuple[str, str]:
    """What a search writes."""
    done = evergallery("search", *words, "-w", directory, expect=expect)
    return done.stdout, done.stderr


def test_a_search_tells_the_same_by_a_server_and_without(
    directory: Path, picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = tmp_path / "odd.jpg"
    odd.write_bytes(b"no picture")
    with Workspace(directory) as shop:
        item = next(iter(shop.gallery.iterate()))[0]
    searches: list[tuple[int, tuple[Any, ...]]] = [
        (0, (picture,)),
        (0, (picture, "--json")),
        (0, (picture, "-k", 3, "--label", item.label, "--json")),
        (0, (picture, "--within", "v1", "--exact", "--min-score", 0.2, "--json")),
        (0, (picture, "--generation", "v1", "--json")),
        (0, (picture, "--min-probability", 0.2, "--json")),
        (0, ("--item", item.id, "--json")),
        (3, (picture, "--label", "nobody")),
        (3, (picture, "--within", "v9")),
        (3, (picture, "--generation", "v9")),
        (3, ("--item", "nobody")),
        (2, (odd,)),
        (2, (tmp_path / "none.jpg",)),
        (2, (tmp_path,)),
        (2, ()),
        (2, (picture, "--item", item.id)),
        (2, ("--text", "red")),
        (2, (picture, "--min-probability", 2)),
    ]
    monkeypatch.chdir(tmp_path)
    place = Path(directory.name)
    alone = [told(place, *words, expect=status) for status, words in searches]
    with serving(directory):
        # Whatever is not asked of the server finds the gallery in use, and ends with another status.
        assert [told(place, *words, expect=status) for status, words in searches] == alone


def test_items_are_listed_and_shown_alike_by_a_server_and_without(directory: Path) -> None:
    with Workspace(directory) as shop:
        item = next(iter(shop.gallery.iterate()))[0]
    commands: list[tuple[int, tuple[Any, ...]]] = [
        (0, ("list",)),
        (0, ("list", "--json", "--limit", 3)),
        (0, ("list", "--label", item.label, "--within", "v1", "--limit", 1000, "--json")),
        (0, ("list", "--label", "nobody", "--json")),
        (3, ("list", "--within", "v9")),
        (0, ("show", item.id)),
        (0, ("show", item.id, "--json")),
        (3, ("show", "nobody")),
    ]

    def outputs() -> list[tuple[str, str]]:
        found = [evergallery("gallery", *words, "-w", directory, expect=status) for status, words in commands]
        return [(done.stdout, done.stderr) for done in found]

    alone = outputs()
    with serving(directory):
        assert outputs() == alone
        evergallery("gallery", "list", "--no-server", "-w", directory, expect=BUSY)
        evergallery("gallery", "list", "--limit", 10**6, "-w", directory, expect=BUSY)


def test_the_server_is_not_asked_where_it_may_answer_otherwise(
    directory: Path, picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(directory):
        told(directory, picture)
        told(directory, picture, "--no-server", expect=BUSY)
        with monkeypatch.context() as changed:
            changed.setenv(SERVER, "no")
            told(directory, picture, expect=BUSY)
        with monkeypatch.context() as changed:
            changed.setattr("evergallery.serving.asking.terms", lambda _: {"version": "another"})
            told(directory, picture, expect=BUSY)
        told(directory, picture)


def test_another_workspace_that_has_the_socket_is_not_answered_for(directory: Path, picture: Path) -> None:
    other = Path(shutil.copytree(directory, directory.with_name("other")))
    with serving(directory):
        (other / SOCKET).symlink_to(directory / SOCKET)
        with Workspace(other) as shop:
            shop.gallery.delete([item.id for batch in shop.gallery.iterate() for item in batch])
        told(other, picture, expect=3)


def test_a_server_that_takes_pictures_of_another_size_is_not_asked_with_one(directory: Path, picture: Path) -> None:
    with Workspace(directory) as shop:
        item = next(iter(shop.gallery.iterate()))[0].id
    for limits in (Limits(rate=0, upload_pixels=1000), Limits(rate=0, upload_bytes=10)):
        with serving(directory, limits):
            told(directory, picture, expect=BUSY)
            told(directory, "--item", item)


def test_a_command_shows_the_token_that_its_user_has_and_no_other(
    directory: Path, picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(directory):
        token = Tokens(directory).create("till", "read")
        told(directory, picture, expect=BUSY)
        monkeypatch.setenv(TOKEN, f"{token}x")
        told(directory, picture, expect=BUSY)
        monkeypatch.setenv(TOKEN, token)
        told(directory, picture)


def test_a_server_that_does_not_answer_is_left_alone(
    directory: Path, picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "TERMS_SECONDS", 0.05)
    with local_socket(directory) as silent:
        assert silent is not None
        told(directory, picture)


def test_nothing_is_shown_to_another_user_who_listens_there(
    directory: Path, picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(directory):
        with closing(connected(directory / SOCKET, 30.0)) as connection:
            assert local._listener(connection, directory / SOCKET) == os.geteuid()
        monkeypatch.setattr(local, "_listener", lambda *_: 12345)
        told(directory, picture, expect=BUSY)


def test_the_socket_is_its_owners_and_goes_with_the_server(directory: Path) -> None:
    place = directory / SOCKET
    with local_socket(directory):
        assert stat.S_IMODE(place.stat().st_mode) == 0o600
        with local_socket(directory) as second:
            assert second is None, "a server that runs keeps its place"
        assert place.exists()
    assert not place.exists()
    assert not list(directory.glob(".writing-*"))


def test_a_later_server_that_took_the_place_keeps_it(directory: Path) -> None:
    with local_socket(directory):
        (directory / SOCKET).unlink()
        with local_socket(directory) as later:
            assert later is not None
            mark = (directory / SOCKET).stat().st_ino
            (directory / "aside").hardlink_to(directory / SOCKET)
        (directory / "aside").rename(directory / SOCKET)
    assert (directory / SOCKET).stat().st_ino == mark


def test_a_workspace_may_lie_deep(directory: Path, picture: Path) -> None:
    deep = directory.parent / ("d" * LONGEST_PATH) / "shop"
    deep.parent.mkdir()
    directory.rename(deep)
    with serving(deep):
        told(deep, picture)


def test_where_no_socket_can_be_made_a_server_goes_without(tmp_path: Path) -> None:
    with local_socket(tmp_path / "nowhere") as none:
        assert none is None


def test_nobody_reaches_through_a_port_what_commands_ask_for(directory: Path) -> None:
    with client(directory) as asking_over_a_port:
        assert asking_over_a_port.get(TERMS).status_code == 404
        assert asking_over_a_port.post(f"{TERMS}/search", data={"question": "{}"}).status_code == 404
        described = asking_over_a_port.get("/openapi.json").json()
        assert not [path for path in described["paths"] if path.startswith(TERMS)]


def test_what_is_no_question_is_refused(directory: Path) -> None:
    with serving(directory):
        for verb, question in (("search", {}), ("search", {"k": "many"}), ("items", {"unknown": 1}), ("nothing", {})):
            assert asking.asked(directory, verb, question) is None


def test_a_killed_server_is_not_asked_and_the_next_one_is(
    directory: Path, picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = as_json("search", picture, "-w", directory)
    item = alone[0]["id"]
    with running(directory) as (_, process):
        assert as_json("search", picture, "-w", directory) == alone
        process.kill()
        process.join()
        assert (directory / SOCKET).exists()
        assert as_json("search", picture, "-w", directory) == alone
    with running(directory) as (_, process):
        assert as_json("search", picture, "-w", directory) == alone
        told(directory, picture, "--no-server", expect=BUSY)
        for name, option, value in ((LARGEST_IMAGE, "--largest-image", 10**6), (RUNTIME, "--runtime", "torch")):
            with monkeypatch.context() as changed:
                changed.setenv(name, "")
                told(directory, "--item", item, option, value, expect=BUSY)
        told(directory, "--item", item)
        process.terminate()
        process.join(60)
        assert process.exitcode == 0
        assert not (directory / SOCKET).exists()


def test_a_command_that_is_answered_loads_no_numbers(directory: Path, picture: Path) -> None:
    script = "import sys\nfrom evergallery.cli import main\ntry:\n    main()\nfinally:\n    assert 'numpy' not in sys.modules"
    with serving(directory):
        command = [sys.executable, "-c", script, "search", str(picture), "-w", str(directory), "--json"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == as_json("search", picture, "-w", directory)
