"""Disks that are full, read-only or not there: a sentence, and nothing is lost."""

import fcntl
import os
import random
import shutil
import sqlite3
import subprocess
import sys
from collections import namedtuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from evergallery import Workspace
from evergallery.errors import FullError, NotFoundError, ReadOnlyError, RefusedError
from evergallery.files import durable as files
from evergallery.gallery import open_store
from evergallery.gallery.qdrant import QdrantStore
from servers import collection

Usage = namedtuple("Usage", "total used free")


def model(images: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.concatenate([images.mean(axis=(2, 3)) + 2, images[:, :, :4, :4].reshape(len(images), -1)], axis=1)


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    for number in range(6):
        path = tmp_path / "photos" / "cats" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (16, 16), (40 * number, 9, 200)).save(path)
    with Workspace.create(tmp_path / "shop", size=16) as space:
        space.register(model, size=16)
        space.index(tmp_path / "photos")
    return tmp_path / "shop"


def test_a_disk_that_is_nearly_full_refuses_to_store_and_lets_all_else(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Workspace(shop) as space:
        items = [item for batch in space.gallery.iterate() for item in batch]
        monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(1 << 30, 1 << 30, 1 << 20))
        Image.new("RGB", (16, 16), (1, 2, 3)).save(tmp_path / "photos" / "cats" / "new.png")
        with pytest.raises(FullError, match=r"1 MiB free.*make room"):
            space.index(tmp_path / "photos")
        assert space.gallery.count() == 6
        assert len(space.search(item=items[0].id, k=3)) == 3
        assert space.gallery.delete([items[0].id]) == 1
        monkeypatch.undo()
        assert space.index(tmp_path / "photos").added == 2


def test_a_lock_is_held_though_nobody_can_write_who_holds_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real: Any = Path.open

    def full(path: Path, mode: str = "r", *rest: Any, **more: Any) -> object:
        if mode == "w":
            raise OSError(28, "No space left on device")
        return real(path, mode, *rest, **more)

    monkeypatch.setattr(Path, "open", full)
    with files.lock(tmp_path / ".lock", "testing"):
        pass

    def nowhere(*_: Any) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", nowhere)
    with pytest.raises(RefusedError, match="No locks available"), files.lock(tmp_path / ".lock", "testing"):
        pass


def test_a_gallery_that_cannot_be_written_is_read(shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path: path.read_bytes() for path in shop.rglob("*") if path.is_file()}
    real: Any = Path.open

    def read_only(path: Path, mode: str = "r", *rest: Any, **more: Any) -> object:
        if path.is_relative_to(shop) and any(sign in mode for sign in "wa+"):
            raise OSError(30, "Read-only file system", str(path))
        return real(path, mode, *rest, **more)

    monkeypatch.setattr(Path, "open", read_only)
    with Workspace(shop) as space:
        assert space.gallery.count() == 6
        assert len(space.search(tmp_path / "photos" / "cats" / "1.png", k=2)) == 2
        spaces = space.status().spaces
        assert spaces is not None
        assert spaces[0].items == 6
        assert space.doctor() == []
        assert space.export_vectors(tmp_path / "out.npz").items == 6
        with pytest.raises(ReadOnlyError, match="read-only"):
            space.gallery.delete([next(iter(space.gallery.iterate()))[0].id])
    monkeypatch.undo()
    after = {path: path.read_bytes() for path in shop.rglob("*") if path.is_file() and "notes" not in path.name}
    assert after.keys() - before.keys() == set()
    assert all(before[path] == content for path, content in after.items())


def test_a_gallery_that_is_gone_is_not_made_anew(shop: Path, tmp_path: Path) -> None:
    with Workspace(shop) as space:
        assert space.gallery.count() == 6
        shutil.move(shop / "gallery", tmp_path / "elsewhere")
        Image.new("RGB", (16, 16), (1, 2, 3)).save(tmp_path / "photos" / "cats" / "new.png")
        with pytest.raises(NotFoundError, match="is gone"):
            space.index(tmp_path / "photos")
    (shop / "gallery").mkdir(exist_ok=True)
    with Workspace(shop) as space:
        assert any("is gone, and it held 6 items" in problem for problem in space.doctor())
        with pytest.raises(NotFoundError, match="is gone, and it held 6 items"):
            space.gallery.count()
    shutil.rmtree(shop / "gallery")
    shutil.move(tmp_path / "elsewhere", shop / "gallery")
    with Workspace(shop) as space:
        assert space.gallery.count() == 6


@pytest.mark.parametrize("damage", [b"not a database at all", random.Random(0).randbytes(8192)], ids=["text", "noise"])
def test_damaged_notes_are_begun_anew(shop: Path, damage: bytes, caplog: pytest.LogCaptureFixture) -> None:
    (shop / "notes.sqlite").write_bytes(damage)
    with Workspace(shop) as space:
        identifier = next(iter(space.gallery.iterate()))[0].id
        found = space.search(item=identifier, k=2)
        assert space.holdings.notes.times_found() == {match.item.id: 1 for match in found}
        assert space.holdings.notes.problems() == []
    assert "was damaged" in caplog.text
    assert (shop / "notes.sqlite.damaged").read_bytes() == damage
    with sqlite3.connect(shop / "notes.sqlite") as database:
        assert database.execute("pragma integrity_check").fetchone() == ("ok",)
    database.close()


def test_what_kills_have_left_is_named_and_mended(shop: Path) -> None:
    (shop / "images").mkdir()
    (shop / "backups").mkdir()
    Image.new("RGB", (16, 16)).save(shop / "images" / "needed.png")
    Image.new("RGB", (16, 16), (5, 5, 5)).save(shop / "images" / "orphan.png")
    left = [
        shop / ".writing-a",
        shop / "backups" / ".writing-b",
        shop / "images" / ".writing-c",
        shop / "images" / "orphan.png",
    ]
    left[0].write_text("half")
    (left[1] / "gallery").mkdir(parents=True)
    left[2].write_text("half")
    with Workspace(shop) as space:
        space.index(shop / "images" / "needed.png")
        found = space.doctor()
        assert len(found) == 4
        assert all(any(str(path) in problem and "--mend" in problem for problem in found) for path in left)
        assert sorted(space.mend()) == sorted(left)
        assert space.doctor() == []
        assert (shop / "images" / "needed.png").is_file()


def mirrored(images: NDArray[np.float32]) -> NDArray[np.float32]:
    return model(images[..., ::-1])


def test_a_generation_is_checked_in_a_workspace_that_cannot_be_written(shop: Path, tmp_path: Path) -> None:
    if subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode:
        pytest.skip("nothing may be mounted here")
    draw = np.random.default_rng(0)
    for kind in ("cats", "dogs"):
        for number in range(4):
            path = tmp_path / "held out" / kind / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(draw.integers(0, 255, (16, 16, 3), dtype=np.uint8)).save(path)
    with Workspace(shop) as space:
        space.register(mirrored, size=16)
    before = {path: path.read_bytes() for path in shop.rglob("*") if path.is_file()}
    checking = [
        sys.executable,
        "-m",
        "evergallery",
        "check",
        "v2",
        "--data",
        str(tmp_path / "held out"),
        "-w",
        str(shop),
    ]
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && exec "$@"', shop, *checking],
        capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert done.returncode in (0, 1), done.stderr
    assert "nothing of this check is remembered" in done.stderr
    assert "recall@1" in done.stdout
    assert before == {path: path.read_bytes() for path in shop.rglob("*") if path.is_file()}


@pytest.mark.parametrize("where", [".", "gallery", "images", "generations"])
def test_what_a_kill_has_left_is_swept_at_the_next_opening(shop: Path, where: str) -> None:
    (shop / "images").mkdir(exist_ok=True)
    (shop / "backups" / ".writing-snapshot" / "gallery").mkdir(parents=True)
    left = [
        shop / "backups" / ".writing-snapshot",
        shop / "images" / f"{'0' * 64}.png",
        shop / "generations" / ".writing-x",
    ]
    for path in left[1:]:
        path.write_bytes(b"half")
    with Workspace(shop) as space:
        assert space.gallery.count() == 6
    assert all(path.exists() for path in left), "nobody was killed"
    code = (
        "import os, signal, sys; from pathlib import Path; from evergallery.files import lock\n"
        "with lock(Path(sys.argv[1]) / '.lock', 'dying'): os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = subprocess.run([sys.executable, "-c", code, shop / where], check=False)
    assert killed.returncode == -9
    with Workspace(shop) as space:
        assert space.gallery.count() == 6
        assert not any(path.exists() for path in left)
        assert space.doctor() == []


def test_a_gallery_that_is_gone_is_known_from_the_journal(shop: Path) -> None:
    (shop / "held.json").unlink()
    shutil.rmtree(shop / "gallery")
    with Workspace(shop) as space, pytest.raises(NotFoundError, match="is gone, and it held 6 items") as refused:
        space.gallery.count()
    command = str(refused.value).partition("empty one:  ")[2]
    done = subprocess.run(
        command.replace("evergallery ", f"{sys.executable} -m evergallery ", 1),
        shell=True,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    with Workspace(shop) as space:
        assert space.gallery.count() == 0


def test_a_note_of_another_shape_is_no_gallery_lost(shop: Path) -> None:
    (shop / "held.json").write_text("[6]")
    with Workspace(shop) as space:
        assert space.gallery.count() == 6


def test_a_gallery_behind_a_url_that_was_made_anew_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = np.random.default_rng(0).normal(size=(30, 8)).astype(np.float32)
    np.savez(tmp_path / "vectors.npz", ids=np.arange(30), embeddings=vectors)
    with collection(monkeypatch) as url:
        with Workspace.create(tmp_path / "shop", store=url) as space:
            space.import_vectors(tmp_path / "vectors.npz")
        with Workspace(tmp_path / "shop") as space:
            space.gallery.delete([str(number) for number in range(30)])
        with Workspace(tmp_path / "shop") as space:
            assert space.gallery.count() == 0, "what was deleted is not lost"
        with open_store(url) as store:
            assert isinstance(store, QdrantStore)
            store._client.delete_collection(url.rpartition("/")[2])
        open_store(url).close()
        with Workspace(tmp_path / "shop") as space, pytest.raises(NotFoundError, match="is gone, and it held 30 items"):
            space.gallery.count()
        with Workspace(tmp_path / "shop") as space:
            space.use_gallery(url, force=True)
            assert space.gallery.count() == 0


def test_what_else_lies_in_the_directory_of_a_gallery_is_left_alone(shop: Path) -> None:
    (shop / "gallery" / "lost+found").mkdir()
    (shop / "gallery" / "notes.txt").write_text("ours")
    with Workspace(shop) as space:
        assert space.gallery.count() == 6
        assert space.doctor() == []
    assert (shop / "gallery" / "lost+found").is_dir()


def test_an_address_with_nul_is_skipped_and_the_rest_goes_on(shop: Path, tmp_path: Path) -> None:
    new = tmp_path / "photos" / "cats" / "new.png"
    Image.new("RGB", (16, 16), (7, 99, 3)).save(new)
    (tmp_path / "table.csv").write_text(f"path,label\na\0b.png,cats\n{new},cats\n")
    with Workspace(shop) as space:
        done = space.index(tmp_path / "table.csv")
        assert (done.added, done.skipped_count) == (1, 1)
        assert "NUL" in done.skipped[0].reason
        assert space.image_files().gone == 0


def test_a_file_system_without_locks_has_no_holder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".lock").write_text("process 1 (doing something)")

    def nowhere(*_: Any) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", nowhere)
    assert files.holder(tmp_path / ".lock") is None
