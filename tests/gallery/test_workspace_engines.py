"""A workspace whose gallery is in PostgreSQL, and one that moves there and back."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from conftest import as_json, evergallery
from evergallery import Workspace
from evergallery.errors import InputError, NotFoundError, RefusedError
from evergallery.gallery.places import without_password
from servers import schema


@pytest.fixture
def url(postgres_url: str) -> Iterator[str]:
    with schema(postgres_url) as place:
        yield place


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Vectors of thirty items."""
    draw = np.random.default_rng(0)
    path = tmp_path / "vectors.npz"
    np.savez(
        path, ids=np.array([f"item {n}" for n in range(30)]), embeddings=draw.normal(size=(30, 8)).astype(np.float32)
    )
    return path


def test_workspace_in_postgres_from_the_command_line(url: str, table: Path, tmp_path: Path) -> None:
    shop = tmp_path / "shop"
    made = evergallery("init", shop, "--store", url.replace("test@", "test:secret@"))
    assert "The password in the URL is left out" in made.stderr
    assert json.loads((shop / "workspace.json").read_text())["store"] == url
    assert not any(b"secret" in path.read_bytes() for path in shop.rglob("*") if path.is_file())
    assert not (shop / "gallery").exists()
    evergallery("import", table, "-w", shop)
    assert as_json("gallery", "-w", shop)["by_generation"] == {"v1": 30}
    assert len(as_json("search", "--item", "item 3", "-k", 5, "-w", shop)) == 5
    assert as_json("doctor", "-w", shop) == {"problems": [], "mended": []}
    refused = evergallery("init", tmp_path / "other", "--store", url, expect=1)
    assert "is not empty: name another one" in refused.stderr
    assert not (tmp_path / "other").exists()


def test_two_processes_share_a_gallery(url: str, table: Path, tmp_path: Path) -> None:
    evergallery("init", tmp_path / "shop", "--store", url)
    with Workspace(tmp_path / "shop") as shop:
        shop.import_vectors(table)
        done = subprocess.run(
            [sys.executable, "-m", "evergallery", "gallery", "delete", "item 7", "-w", str(tmp_path / "shop")],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert shop.gallery.count() == 29


def test_workspace_moves_there_and_back(url: str, table: Path, tmp_path: Path) -> None:
    shop = tmp_path / "shop"
    evergallery("init", shop)
    evergallery("import", table, "-w", shop)
    before = as_json("search", "--item", "item 3", "-k", 8, "-w", shop)
    assert "There is no gallery" in evergallery("gallery", "use", url, "-w", shop, expect=3).stderr
    copied = as_json("gallery", "copy", shop / "gallery", url)
    assert (copied["items"], copied["copied"]) == (30, 30)
    assert as_json("gallery", "use", url, "-w", shop) == {"store": url}
    assert as_json("search", "--item", "item 3", "-k", 8, "-w", shop) == before
    evergallery("gallery", "delete", "item 5", "-w", shop)
    assert (
        "not the same: 'item 5' has 0 versions"
        in evergallery("gallery", "use", shop / "gallery", "-w", shop, expect=1).stderr
    )
    as_json("gallery", "copy", url, shop / "back")
    assert as_json("gallery", "use", shop / "back", "-w", shop) == {"store": "back"}
    assert as_json("gallery", "-w", shop)["items"] == 29
    assert [entry["gallery"] for entry in as_json("log", "-w", shop) if entry["operation"] == "use"] == [url, "back"]


def test_failed_change_of_the_gallery_changes_nothing(url: str, table: Path, tmp_path: Path) -> None:
    evergallery("init", tmp_path / "shop")
    with Workspace(tmp_path / "shop") as shop:
        shop.import_vectors(table)
        (tmp_path / "empty").mkdir()
        with pytest.raises(RefusedError, match="'item \\d+' has 1 versions in the one and 0"):
            shop.use_gallery(tmp_path / "empty")
        assert shop.holdings.state.store == "gallery"
        assert shop.gallery.count() == 30
        shop.use_gallery(tmp_path / "empty", force=True)
        assert shop.holdings.state.store == str(tmp_path / "empty")
        assert shop.gallery.count() == 0


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgresql://me:secret@host:5432/db?gallery=shop", "postgresql://me@host:5432/db?gallery=shop"),
        ("postgresql://host/db?user=me&password=secret", "postgresql://host/db?user=me"),
        (
            "postgresql://a:b@one:1,two:2/db?sslpassword=secret&sslmode=require",
            "postgresql://a@one:1,two:2/db?sslmode=require",
        ),
        ("postgresql:///db?host=/run/postgresql", "postgresql:///db?host=/run/postgresql"),
        ("shop/gallery", "shop/gallery"),
    ],
)
def test_passwords_are_left_out(url: str, expected: str) -> None:
    assert without_password(url) == expected


@pytest.mark.parametrize("url", ["postgresql://me:se/cret@host/db", "postgresql://me:se?cret@host/db"])
def test_password_that_cannot_be_told_apart_is_refused_unquoted(url: str) -> None:
    with pytest.raises(InputError, match="has / or \\? in its password") as caught:
        without_password(url)
    assert "cret" not in str(caught.value)


def test_lost_server_is_named_without_a_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPASSWORD", "secret")
    with pytest.raises(NotFoundError, match="localhost:1/db does not answer") as caught:
        Workspace.create(tmp_path / "shop", store="postgresql://me:secret@localhost:1/db")
    assert "secret" not in str(caught.value)
    assert not (tmp_path / "shop").exists()
