"""Files that survive a kill."""

import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from evergallery.errors import BusyError, DamagedError, InputError
from evergallery.files import (
    TEMPORARY_PREFIX,
    FileContents,
    holder,
    lock,
    new_directory,
    new_file,
    read_json,
    require_place,
    write_atomic,
    write_json,
)


def test_a_failed_write_leaves_the_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "state.json"
    write_json(path, {"value": 1})

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomic(path, "half")
    assert read_json(path) == {"value": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_is_read_again_only_where_it_was_replaced(tmp_path: Path) -> None:
    path, read = tmp_path / "state.json", []

    def reading(path: Path) -> object:
        read.append(path)
        return read_json(path)

    known = FileContents(reading)
    with pytest.raises(DamagedError):
        known.get(path)
    read.clear()
    write_json(path, 1)
    # However long this takes, the file is young.
    os.utime(path, (time.time() + 3600,) * 2)
    assert known.get(path) == known.get(path) == 1
    assert len(read) == 2, "so young a file could be replaced unnoticed"
    os.utime(path, (1e9, 1e9))
    assert [known.get(path) for _ in range(3)] == [1, 1, 1]
    assert len(read) == 3
    for value in (2, 3, 2):
        write_json(path, value)
        assert known.get(path) == value
    path.unlink()
    with pytest.raises(DamagedError):
        known.get(path)


def test_a_place_where_nothing_can_be_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "none" / "x", tmp_path / "file" / "x"):
        for create in (new_file, new_directory):
            with pytest.raises(InputError, match="x cannot be written"), create(place):
                pass


def test_where_no_file_can_be_written_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    (tmp_path / "broken").symlink_to(tmp_path / "nothing")
    require_place(tmp_path / "file")
    require_place(tmp_path / "new", is_new=True)
    for place, is_new, says in (
        (tmp_path / "none" / "x", False, "there is no folder .*none; make it first"),
        (tmp_path / "file" / "x", True, "there is no folder .*file; make it first"),
        (tmp_path / "folder", False, "it is a folder; name a file in it"),
        (tmp_path / "folder", True, "it exists; give a new name"),
        (tmp_path / "broken", True, "it exists; give a new name"),
    ):
        with pytest.raises(InputError, match=f"{place} cannot be written: {says}"):
            require_place(place, is_new=is_new)


def test_directory_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), new_directory(tmp_path / "v0001") as temporary:
        (temporary / "card.json").write_text("{}")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    with new_directory(tmp_path / "v0001") as temporary:
        (temporary / "card.json").write_text("{}")
        assert temporary.name.startswith(TEMPORARY_PREFIX)
        assert not (tmp_path / "v0001").exists()
    assert [path.name for path in (tmp_path / "v0001").iterdir()] == ["card.json"]


def test_json_that_is_not_there_or_broken(tmp_path: Path) -> None:
    with pytest.raises(DamagedError, match="none.json is missing: restore it from a backup"):
        read_json(tmp_path / "none.json")
    (tmp_path / "broken.json").write_text('{"a": ')
    with pytest.raises(DamagedError, match="cannot be read as JSON"):
        read_json(tmp_path / "broken.json")


HOLDER = """
import sys
from pathlib import Path
from evergallery.files import lock
with lock(Path(sys.argv[1]), "learn"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_lock_names_its_holder_and_falls_with_it(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process.stdin, process.stdout:
        assert process.stdout.readline() == "held\n"
        with pytest.raises(BusyError, match=rf"in use: process {process.pid} \(learn\)"), lock(path, "index"):
            pass
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            with lock(path, "index"):
                return
        except BusyError:
            time.sleep(0.05)
    pytest.fail("the lock outlived its holder")


def test_who_looks_for_the_holder_of_a_lock_is_in_nobodys_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / ".lock"
    with path.open("a+") as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        assert holder(path) is None, "somebody else looks too"
        # It is a moment.
        monkeypatch.setattr(time, "sleep", lambda _: looking.close())
        with lock(path, "index"):
            assert holder(path) == f"process {os.getpid()} (index)"
    assert holder(path) is None
