"""A workspace's gallery compacted, copied and put back: what is searched afterwards, and what is refused."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import as_json, evergallery
from evergallery import Workspace
from evergallery.errors import BusyError, DamagedError, RefusedError
from evergallery.gallery.edge import EdgeStore, shard


def table(path: Path, count: int, seed: int = 0, dimension: int = 8, first: int = 0) -> Path:
    rows = np.random.default_rng(seed).normal(size=(count, dimension)).astype(np.float32)
    np.savez(
        path,
        ids=np.array([f"item {first + number}" for number in range(count)]),
        embeddings=rows / np.linalg.norm(rows, axis=1, keepdims=True),
        labels=np.array([f"class {number % 3}" for number in range(count)]),
    )
    return path


@pytest.fixture
def shop(tmp_path: Path) -> Workspace:
    space = Workspace.create(tmp_path / "shop")
    space.import_vectors(table(tmp_path / "first.npz", 40))
    space.close()
    return space


def query(dimension: int = 8) -> np.ndarray:
    made: np.ndarray = np.eye(1, dimension, dtype=np.float32)[0]
    return made


def names(space: Workspace) -> list[str]:
    return [result.item.id for result in space.search(query(), k=40)]


def test_restoring_over_a_gallery_wants_force_and_keeps_it(shop: Workspace, tmp_path: Path) -> None:
    here = ("-w", shop.directory)
    before = names(shop)
    shop.close()
    assert as_json("gallery", "snapshot", tmp_path / "snapshot", *here)["vectors"] == 40
    assert "is whole: 40 vectors" in evergallery("gallery", "verify", tmp_path / "snapshot").stdout
    evergallery("gallery", "delete", "item 3", "item 4", *here)
    refused = evergallery("gallery", "restore", tmp_path / "snapshot", *here, expect=1).stderr
    assert "holds 38 vectors: give --force" in " ".join(refused.split())
    done = as_json("gallery", "restore", tmp_path / "snapshot", "--force", *here)
    assert (done["vectors"], done["earlier"]) == (40, str(shop.directory / "gallery"))
    assert shop.holdings.state.store == "gallery-2"
    assert names(shop) == before
    assert shop.doctor() == []
    shop.close()
    with EdgeStore(shop.directory / "gallery") as earlier:
        assert earlier.count() == 38
    done = evergallery("gallery", "restore", tmp_path / "snapshot", "--force", *here)
    assert "The earlier gallery is still in" in done.stdout
    assert shop.holdings.state.store == "gallery-3"
    assert [entry["operation"] for entry in shop.log()][-3:] == ["snapshot", "restore", "restore"]


def test_restoring_into_a_workspace_that_has_the_generations_and_no_gallery(shop: Workspace, tmp_path: Path) -> None:
    before = names(shop)
    shop.snapshot(tmp_path / "snapshot")
    shop.close()
    shutil.copytree(shop.directory, tmp_path / "moved", ignore=shutil.ignore_patterns("gallery"))
    moved = Workspace(tmp_path / "moved")
    moved.restore(tmp_path / "snapshot")
    assert names(moved) == before
    assert moved.holdings.state.store == "gallery-2", "an empty one was there for a moment, under the lock"
    assert not (moved.directory / "gallery").exists()
    moved.close()


def test_a_damaged_gallery_gives_way(shop: Workspace, tmp_path: Path) -> None:
    before = names(shop)
    shop.snapshot(tmp_path / "snapshot")
    shop.close()
    (space_file,) = (shop.directory / "gallery").rglob("space.json")
    space_file.write_text("[]")
    with pytest.raises(DamagedError):
        names(shop)
    shop.restore(tmp_path / "snapshot")
    assert names(shop) == before
    assert space_file.exists(), "what is left of it stays"
    shop.close()


def test_vectors_that_no_generation_made_are_refused(shop: Workspace, tmp_path: Path) -> None:
    shop.snapshot(tmp_path / "snapshot")
    shop.close()
    other = Workspace.create(tmp_path / "other")
    with pytest.raises(RefusedError, match=r"holds 40 vectors of a generation or adapter .* that is not in .*other"):
        other.restore(tmp_path / "snapshot", force=True)


def test_damage_is_found_before_anything_changes(shop: Workspace, tmp_path: Path) -> None:
    shop.snapshot(tmp_path / "snapshot")
    shop.close()
    for path in (tmp_path / "snapshot").rglob("space.json"):
        path.write_text("[]")
    before = (shop.directory / "workspace.json").read_bytes()
    with pytest.raises(DamagedError, match="use another snapshot"):
        shop.restore(tmp_path / "snapshot", force=True)
    assert "has 2 bytes of" in evergallery("gallery", "verify", tmp_path / "snapshot", expect=6).stderr
    assert (shop.directory / "workspace.json").read_bytes() == before
    assert not (shop.directory / "gallery-2").exists()
    assert len(names(shop)) == 40
    shop.close()


def test_a_kill_before_the_change_leaves_the_earlier_gallery(
    shop: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.snapshot(tmp_path / "snapshot")
    shop.gallery.delete(["item 1"])
    shop.close()

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("evergallery.holdings.restoring.changing", killed)
        shop.restore(tmp_path / "snapshot", force=True)
    assert len(names(shop)) == 39
    shop.restore(tmp_path / "snapshot", force=True)
    assert len(names(shop)) == 40
    shop.close()


def test_another_process_that_has_the_gallery_is_named(shop: Workspace, tmp_path: Path) -> None:
    shop.snapshot(tmp_path / "snapshot")
    assert len(names(shop)) == 40, "who has it can be asked while it copies itself"
    other = Workspace(shop.directory)
    asked: tuple[Callable[[], object], ...] = (
        lambda: other.restore(tmp_path / "snapshot", force=True),
        lambda: other.snapshot(tmp_path / "more"),
    )
    for ask in asked:
        with pytest.raises(BusyError, match=r"gallery is in use: process \d+ \(using the gallery\)"):
            ask()
    shop.close()


def test_an_open_refresh_is_searched_as_it_was(shop: Workspace, tmp_path: Path) -> None:
    new = table(tmp_path / "second.npz", 25, seed=1, dimension=12)
    shop.import_vectors(new, refresh=True)
    before = names(shop)
    shop.snapshot(tmp_path / "hidden")
    shop.promote("v2", force=True, why="a test")
    shown = [result.item.id for result in shop.search(query(12), generation="v2", k=40)]
    shop.snapshot(tmp_path / "shown")
    assert shop.commit() == 25
    shop.restore(tmp_path / "shown", force=True)
    assert [result.item.id for result in shop.search(query(12), generation="v2", k=40)] == shown
    assert shop.gallery.count() == 40
    shop.rollback()
    assert names(shop) == before, "and the way back is open again"
    shop.restore(tmp_path / "hidden", force=True)
    assert names(shop) == before
    assert shop.gallery.count() == 40
    assert shop.holdings.state.refreshes == 1
    shop.close()


def test_compacting_and_searching_by_the_index(
    shop: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = ("-w", shop.directory)
    assert "every search is exact" in evergallery("gallery", "compact", *here).stdout
    assert as_json("gallery", *here)["indexes"] == {}
    monkeypatch.setattr(shard, "INDEX_FROM", 500)
    shop.import_vectors(table(tmp_path / "more.npz", 800, seed=2, first=100), into="v1")
    shop.close()
    assert "index, recall@10" in " ".join(evergallery("gallery", "compact", *here).stdout.split())
    summary = as_json("gallery", *here)
    index = summary["indexes"]["v1"]
    assert (summary["items"], index["vectors"], index["serves"]) == (840, 840, True)
    assert index["recall"] >= 0.95
    asked: list[bool] = []
    ask = shard.Shard.search

    def noting(self: shard.Shard, request: Any) -> Any:
        asked.append(request.params.exact)
        return ask(self, request)

    monkeypatch.setattr(shard.Shard, "search", noting)
    for option, exact in (((), False), (("--exact",), True), (("--approximate",), False)):
        asked.clear()
        rows = json.loads(evergallery("search", "--item", "item 7", "--json", *option, *here).stdout)
        assert len(rows) == 10
        assert asked == [exact]
