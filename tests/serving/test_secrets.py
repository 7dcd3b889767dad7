"""What nobody is told who may only read, and what is written nowhere: passwords, signatures, who runs the machine."""

import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from served import client, copy_of

from conftest import evergallery
from evergallery import Workspace
from evergallery.data.images import UnreadableImage
from evergallery.data.vectors import open_vectors
from evergallery.errors import InputError
from evergallery.indexing.skipped_names import SKIPPED_KEPT, SkippedNames
from evergallery.serving.tokens import Tokens

SECRET = "hunter2"
ADDRESS = f"https://user:{SECRET}@127.0.0.1:1/a.png?X-Amz-Signature={SECRET}&size=2"
SHOWN = "https://127.0.0.1:1/a.png?size=2"


@pytest.fixture
def directory(served_workspace: Path, tmp_path: Path) -> Path:
    """A workspace with an item whose address has secrets."""
    directory = copy_of(served_workspace, tmp_path)
    vector = np.eye(8, dtype=np.float32)[:1]
    np.savez(tmp_path / "table.npz", ids=np.array(["secret"]), embeddings=vector, uris=np.array([ADDRESS]))
    with Workspace(directory) as shop:
        shop.import_vectors(tmp_path / "table.npz", into="v1")
    return directory


def test_addresses_are_told_without_secrets(directory: Path) -> None:
    said = []
    with client(directory, anonymous="admin") as ask:
        answer = ask.get("/api/v1/item", params={"id": "secret"})
        assert answer.json()["uri"] == SHOWN
        said += [answer, ask.get("/api/v1/items", params={"limit": 500})]
        said += [ask.get("/api/v1/thumbnail", params={"id": "secret"})]
        said += [ask.post("/api/v1/search", json={"item": "secret", "generation": "v2"})]
        said += [ask.post("/api/v1/search", json={"vector": [1.0] + [0.0] * 7})]
        assert said[-1].json()["results"][0]["item"]["id"] == "secret"
        body = {"generation": "v1", "items": [{"id": "given", "embedding": [0.0] * 7 + [1.0], "uri": ADDRESS,
                                               "metadata": {"source": ADDRESS}}]}  # fmt: skip
        said += [ask.post("/api/v1/items/vectors", json=body)]
        assert said[-1].json()["items"][0]["uri"] == said[-1].json()["items"][0]["metadata"]["source"] == SHOWN
        with Workspace(directory) as beside:
            beside.allow_images("https://127.0.0.1:1/")
        assert ask.post("/api/v1/refresh", json={"generation": "v2"}).status_code == 202
        while ask.get("/api/v1/job").json()["state"] == "running":
            pass
        said += [
            ask.get(f"/api/v1/{route}")
            for route in ("problems", "job", "log", "status", "info", "generations", "labels")
        ]
        assert [problem["id"] for problem in ask.get("/api/v1/problems").json()["problems"]] == ["given", "secret"]
    assert all(SECRET not in answer.text for answer in said)


def test_files_that_are_handed_on_have_no_secrets(directory: Path, tmp_path: Path) -> None:
    with Workspace(directory) as shop:
        shop.allow_images(f"https://user:{SECRET}@127.0.0.1:1/")
        assert shop.refresh("v2").problems[0].item == "secret"
        shop.discard()
        shop.holdings.journal.record("tried", file=ADDRESS, nested={"list": [ADDRESS]})
        assert shop.gallery.get("secret").uri == ADDRESS, "by which the image is found again"  # type: ignore[union-attr]
        for suffix in ("npz", "parquet"):
            shop.export_vectors(tmp_path / f"out.{suffix}", generation="v1")
            (batch,) = open_vectors(tmp_path / f"out.{suffix}").batches(1000)
            assert SHOWN in batch.uris
            assert not any(SECRET in str(uri) for uri in batch.uris)
    names = SkippedNames(tmp_path / "skipped.csv")
    names.add([UnreadableImage(ADDRESS, f"it is not at {ADDRESS}.")] * (SKIPPED_KEPT + 1))
    names.close()
    written = [
        path for path in directory.rglob("*") if path.is_file() and "gallery" not in path.relative_to(directory).parts
    ]
    for path in [*written, tmp_path / "skipped.csv"]:
        assert SECRET.encode() not in path.read_bytes(), path
    with closing(sqlite3.connect(directory / "notes.sqlite")) as notes:
        assert SECRET not in str(notes.execute("select * from problem").fetchall())


def test_commands_and_errors_say_no_secrets(directory: Path) -> None:
    for command in (
        ("gallery", "list", "--limit", 500),
        ("gallery", "show", "secret"),
        ("search", "--item", "secret", "-k", 3),
    ):
        for json in ((), ("--json",)):
            assert SECRET not in evergallery(*command, *json, "-w", directory).stdout
    done = evergallery("refresh", "v2", "-w", directory)
    assert SHOWN in done.stderr
    assert SECRET not in done.stderr
    failed = evergallery(
        "index", f"https://user:{SECRET}@127.0.0.1:1/table.csv?token={SECRET}", "-w", directory, expect=2
    )
    assert SECRET not in failed.stderr
    assert SECRET not in str(InputError(f"{ADDRESS} is gone"))


@pytest.mark.parametrize(
    "place", ["qdrant://127.0.0.1:1/c?api_key={}", "postgresql://u:{}@127.0.0.1:1/db?options=-c%20a.b%3D{}"]
)
def test_a_gallerys_url_is_said_and_written_without_secrets(directory: Path, place: str) -> None:
    pytest.importorskip("psycopg_pool")
    pytest.importorskip("qdrant_client")
    place = place.format(SECRET, SECRET)
    refused = evergallery("gallery", "use", place, "--force", "-w", directory, expect=3)
    assert SECRET not in refused.stdout + refused.stderr
    # As earlier versions wrote it down.
    state = directory / "workspace.json"
    state.write_text(state.read_text().replace('"store": "gallery"', f'"store": "{place}"'))
    with Workspace(directory) as shop:
        assert SECRET not in shop.holdings.state.store
        shop.allow_images("/tmp")
    assert SECRET not in state.read_text()


def test_who_did_what_with_which_files_is_for_those_who_decide(directory: Path) -> None:
    tokens = Tokens(directory)
    headers = {
        scope: {"Authorization": f"Bearer {tokens.create(scope, scope)}"} for scope in ("read", "write", "admin")
    }
    with Workspace(directory) as shop:
        shop.holdings.journal.record("snapshot", path="/srv/backups/monday", vectors=3)
        shop.holdings.journal.record("promote refused", generation="v3", reason=f"No generation of {directory} has it.")
    with client(directory) as ask:
        entries = ask.get("/api/v1/log", headers=headers["admin"]).json()["log"]
        assert all("@" in entry["who"] for entry in entries)
        assert any(entry.get("path") == "/srv/backups/monday" for entry in entries)
        for scope in ("read", "write"):
            told = ask.get("/api/v1/log", headers=headers[scope]).json()["log"]
            assert [entry["operation"] for entry in told] == [entry["operation"] for entry in entries]
            assert not any("who" in entry for entry in told)
            assert "/srv" not in str(told)
            assert str(directory) not in str(told)
            assert told[1]["vectors"] == 3
