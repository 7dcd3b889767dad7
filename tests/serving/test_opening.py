"""What is opened of addresses that came with imported vectors: nothing, unless the operator has allowed it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from served import client, copy_of, photographs

from conftest import as_json, evergallery
from evergallery import Workspace
from evergallery.errors import InputError, NotFoundError
from evergallery.files import sha256_of
from evergallery.watching import Watcher


@contextmanager
def web(files: dict[str, bytes], moved: dict[str, str] | None = None) -> Iterator[tuple[str, list[str]]]:
    """A web server on loopback: its address, and what it is asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            target = (moved or {}).get(self.path)
            data = files.get(self.path, b"")
            self.send_response(302 if target else 200 if data else 404)
            if target:
                self.send_header("Location", target)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def import_addresses(directory: Path, addresses: dict[str, str], hashes: dict[str, str] | None = None) -> None:
    """Store vectors of v1 that came with these addresses, by the ids of their items."""
    vectors = np.random.default_rng(5).normal(size=(len(addresses), 8)).astype(np.float32)
    table = directory.parent / "imported.npz"
    content: dict[str, Any] = (
        {"content_hashes": np.array([(hashes or {}).get(address, "") for address in addresses])} if hashes else {}
    )
    np.savez(
        table, ids=np.array(list(addresses)), embeddings=vectors, uris=np.array(list(addresses.values())), **content
    )
    with Workspace(directory) as shop:
        shop.import_vectors(table, into="v1")


@pytest.fixture
def private(served_workspace: Path, tmp_path: Path) -> Path:
    """A picture that nobody has indexed."""
    path = tmp_path / "private" / "secret.png"
    path.parent.mkdir()
    path.write_bytes(photographs(served_workspace)[0].read_bytes())
    return path


def test_no_private_file_is_shown(served_workspace: Path, tmp_path: Path, private: Path) -> None:
    directory = copy_of(served_workspace, tmp_path)
    photos = photographs(served_workspace)[0].parents[1]
    addresses = {
        "plain": str(private), "url": f"file://{private}", "round": f"{photos}/../../{tmp_path.name}/private/secret.png",
        "state": str(directory / "workspace.json"), "etc": "/etc/passwd", "relative": "private/secret.png",
    }  # fmt: skip
    import_addresses(directory, addresses, dict.fromkeys(addresses, sha256_of(private)))
    with client(directory, anonymous="admin") as ask:
        for name in addresses:
            assert ask.get("/api/v1/item", params={"id": name}).json()["thumbnail"] is None
            assert ask.get("/api/v1/thumbnail", params={"id": name}).status_code == 404
            answer = ask.post("/api/v1/search", json={"item": name, "generation": "v2"})
            assert answer.status_code == 404
            assert "no image may be opened" in answer.json()["error"]["message"]
        indexed = ask.get("/api/v1/items", params={"limit": 500}).json()["items"]
        assert sum(item["thumbnail"] is not None for item in indexed) == 200
        with Workspace(directory) as beside:
            beside.allow_images(private.parent)
        for name in ("plain", "url", "round"):
            assert ask.get("/api/v1/thumbnail", params={"id": name}).status_code == 200, "heeded at once"
        with Workspace(directory) as beside:
            beside.forbid_images(private.parent)
        assert ask.get("/api/v1/thumbnail", params={"id": "plain"}).status_code == 404, "nor out of the cache"


def test_no_request_is_sent_anywhere(served_workspace: Path, tmp_path: Path) -> None:
    """Not for a thumbnail, not for a search, not by a refresh; and where a host is allowed it cannot send on to another."""
    directory = copy_of(served_workspace, tmp_path)
    data = photographs(served_workspace)[0].read_bytes()
    with web({"/inner.png": data}) as (inner, asked), web({}, {"/go": f"{inner}/inner.png"}) as (outer, asked_outer):
        import_addresses(directory, {
            "inner": f"{inner}/inner.png", "capital": f"HTTP{inner.removeprefix('http')}/inner.png", "go": f"{outer}/go",
            "chained": f"simplecache::{inner}/inner.png",
        })  # fmt: skip
        with client(directory, anonymous="admin") as ask:
            for name in ("inner", "capital", "go", "chained"):
                assert ask.get("/api/v1/thumbnail", params={"id": name}).status_code == 404
                assert ask.post("/api/v1/search", json={"item": name, "generation": "v2"}).status_code == 404
        with Workspace(directory) as shop:
            refreshed = shop.refresh("v2")
            assert {problem.item for problem in refreshed.problems} == {"inner", "capital", "go", "chained"}
            assert refreshed.refreshed == 200
            assert (asked, asked_outer) == ([], [])
            shop.allow_images(outer)
            assert shop.refresh("v2").refreshed == 0
            assert set(asked_outer) == {"/go"}
            assert asked == [], "an allowed host sends nobody on"
            shop.allow_images(inner)
            assert "inner" not in {match.item for match in shop.refresh("v2").problems}


def test_who_sits_at_the_terminal_is_asked(served_workspace: Path, tmp_path: Path, private: Path) -> None:
    directory = copy_of(served_workspace, tmp_path)
    import_addresses(directory, {"secret": str(private)})
    questions = []

    class Answerer(Watcher):
        def __init__(self, answer: bool) -> None:
            self.answer = answer

        def confirms(self, question: str) -> bool:
            questions.append(question)
            return self.answer

    with Workspace(directory) as shop:
        assert [match.item for match in shop.refresh("v2", watcher=Answerer(False)).problems] == ["secret"]
        assert "1 of 201 images lie where nobody has allowed them" in questions[0]
        assert str(private) in questions[0]
        assert shop.refresh("v2", watcher=Answerer(True)).problems == ()
        assert str(private.parent) not in shop.holdings.state.image_roots, "this once"
        assert len(questions) == 2
        shop.discard()
        shop.allow_images(private.parent)
        assert shop.refresh("v2", watcher=Answerer(False)).problems == ()
        assert len(questions) == 2


def test_a_table_that_is_indexed_sends_nobody_to_the_web(served_workspace: Path, tmp_path: Path) -> None:
    directory = copy_of(served_workspace, tmp_path)
    picture = next(path for path in photographs(served_workspace) if path.name.startswith("0"))
    changed = picture.read_bytes() + b"\0"
    with web({"/a.png": changed}) as (address, asked):
        (tmp_path / "table.csv").write_text(f"path,label\n{address}/a.png,cat\n")
        refused = evergallery("index", tmp_path / "table.csv", "-w", directory, expect=2).stderr
        assert "--images-from" in refused
        with Workspace(directory) as shop, pytest.raises(InputError, match="only where you allow it"):
            shop.read(tmp_path / "table.csv")
        assert asked == []
        done = as_json("index", tmp_path / "table.csv", "--images-from", address, "-w", directory)
        assert done["added"] == 1


def test_what_a_table_names_elsewhere_is_told(served_workspace: Path, tmp_path: Path, private: Path) -> None:
    directory = copy_of(served_workspace, tmp_path)
    private.write_bytes(private.read_bytes() + b"\0")
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables/table.csv").write_text(f"path\n{private}\n")
    told = evergallery("index", tmp_path / "tables/table.csv", "-w", directory).stderr
    assert f"1 image lies elsewhere than what was indexed, such as {private}" in told
    with client(directory) as ask:
        assert ask.get("/api/v1/thumbnail", params={"id": sha256_of(private)}).status_code == 404


def test_commands(served_workspace: Path, tmp_path: Path) -> None:
    directory = copy_of(served_workspace, tmp_path)
    photos = str(photographs(served_workspace)[0].parents[1])
    assert as_json("gallery", "images-from", "-w", directory) == {"images_from": [photos]}
    listed = evergallery("gallery", "images-from", tmp_path, "https://x.example/a/", "-w", directory).stdout.split()
    assert listed == [photos, str(tmp_path), "https://x.example/a"]
    left = as_json("gallery", "images-from", "--forget", tmp_path, "--forget", photos, "-w", directory)
    assert left == {"images_from": ["https://x.example/a"]}
    assert (
        "is not allowed anyway"
        in evergallery("gallery", "images-from", "--forget", "/x", "-w", directory, expect=3).stderr
    )
    with Workspace(directory) as shop, pytest.raises(NotFoundError):
        shop.forbid_images(photos)


def test_an_imported_address_costs_no_other_items_picture(served_workspace: Path, tmp_path: Path) -> None:
    directory = copy_of(served_workspace, tmp_path)
    data = photographs(served_workspace)[0].read_bytes() + b"\0"
    with client(directory, anonymous="admin") as ask:
        assert ask.post("/api/v1/items", files={"image": data}, data={"id": "mine"}).json()["added"] == 1
    (kept,) = (directory / "images").glob("*.png")
    import_addresses(directory, {"other": str(kept)})
    with client(directory, anonymous="admin") as ask:
        ask.request("DELETE", "/api/v1/items", json={"ids": ["other"]})
        assert kept.is_file()
        assert ask.get("/api/v1/thumbnail", params={"id": "mine"}).status_code == 200
        ask.request("DELETE", "/api/v1/items", json={"ids": ["mine"]})
        assert not kept.exists()
