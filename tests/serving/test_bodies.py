"""Bodies: whose they are is known before they are read, and no request costs much more than its bytes."""

import io
import json
import socket
import tempfile
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from inspect import iscoroutinefunction
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from fastapi import APIRouter
from fastapi.exceptions import RequestValidationError
from fastapi.testclient import TestClient
from PIL import Image
from pydantic import TypeAdapter
from served import UNLIMITED, client, copy_of, listening, photographs, unit

from evergallery.errors import InputError
from evergallery.serving import bodies, schemas
from evergallery.serving.app import create_app
from evergallery.serving.bodies import GuardedRoute, parse
from evergallery.serving.budget import MemoryBudget
from evergallery.serving.failures import OverloadedError
from evergallery.serving.forms import metadata_of
from evergallery.serving.limits import Limits
from evergallery.serving.routes import generations, health, items, local, marking, operating, searching, upgrading
from evergallery.serving.service import ServiceSettings
from evergallery.serving.tokens import Tokens

ANNOUNCED = 71 << 20
SEARCH: TypeAdapter[Any] = TypeAdapter(schemas.Search)
ROUTERS = [module.router for module in (searching, items, local, marking, generations, operating, upgrading, health)]


@pytest.fixture(scope="module")
def directory(served_workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_of(served_workspace, tmp_path_factory.mktemp("bodies"))


def announce(address: str, method: str, path: str, token: str | None, kind: str) -> tuple[int, str]:
    """Status and text of the answer to a request that announces a body and sends none of it."""
    where = urlsplit(address)
    assert where.hostname is not None
    authorization = f"Authorization: Bearer {token}\r\n" if token else ""
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\n{authorization}"
        f"Content-Length: {ANNOUNCED}\r\n\r\n"
    )
    with socket.create_connection((where.hostname, where.port), timeout=20) as connection:
        connection.sendall(head.encode())
        answer = b""
        while part := connection.recv(65536):
            answer += part
    return int(answer.split()[1]), answer.decode()


def test_nothing_is_read_of_whom_it_is_not_taken_from(served_workspace: Path, tmp_path: Path) -> None:
    """Every route that takes a body, for every scope: those who may not are answered, and those who may are waited for."""
    directory = copy_of(served_workspace, tmp_path)
    tokens = Tokens(directory)
    made = {scope: tokens.create(f"body-{scope}", scope) for scope in ("read", "write", "admin")}
    asked = 0
    limits = Limits(rate=0, left_seconds=0, chunk_seconds=0.05)
    app = create_app(directory, ServiceSettings(limits))
    with listening(app) as address:
        for path, operations in app.openapi()["paths"].items():
            for method, operation in operations.items():
                if "requestBody" not in operation:
                    continue
                (kind,) = operation["requestBody"]["content"]
                kind += "; boundary=b"
                for token in (None, "evg_00000000_x"):
                    status, answer = announce(address, method.upper(), path, token, kind)
                    assert (status, "connection: close" in answer) == (401, True), path
                answers = {scope: announce(address, method.upper(), path, token, kind) for scope, token in made.items()}
                statuses = {scope: status for scope, (status, _) in answers.items()}
                if kind.startswith("application/json"):
                    assert set(statuses.values()) <= {403, 413}, "JSON of 71 MiB is what no route takes"
                else:
                    assert set(statuses.values()) <= {403, 408, 413}
                assert statuses["admin"] in (408, 413)
                asked += 1
    assert asked >= 8


def test_a_route_that_would_read_what_anybody_sends_cannot_be_made() -> None:
    router = APIRouter(route_class=GuardedRoute)
    with pytest.raises(TypeError, match="anybody"):

        @router.post("/open")
        async def opened(body: schemas.Search) -> None: ...


def test_no_dependency_of_a_route_waits_for_a_thread(directory: Path) -> None:
    """FastAPI sends each that is no coroutine to a thread, which costs more than what it does."""

    def calls(dependant: Any) -> Iterator[Any]:
        for needed in dependant.dependencies:
            yield needed.call
            yield from calls(needed)

    routes = [route for router in ROUTERS for route in router.routes]
    found = {call for route in routes for call in calls(route.dependant)}
    assert len(found) > 4
    waiting = [call for call in found if not iscoroutinefunction(call) and not iscoroutinefunction(type(call).__call__)]
    assert not waiting


@pytest.mark.parametrize(("path", "most"), [("/api/v1/search", 500), ("/api/v1/search/batch", 2000)])
def test_each_route_takes_what_it_needs(directory: Path, path: str, most: int) -> None:
    limits = Limits(rate=0, question_bytes=500, questions_bytes=2000)
    query = json.dumps({"vector": unit(1), "generation": "v1", "k": 1})
    body = query if path == "/api/v1/search" else json.dumps({"queries": [json.loads(query)]})
    headers = {"Content-Type": "application/json"}
    with client(directory, limits=limits) as ask:
        assert ask.post(path, content=body.ljust(most).encode(), headers=headers).status_code == 200
        for content in (body.ljust(most + 1).encode(), iter([body.encode(), b" " * most])):
            answer = ask.post(path, content=content, headers=headers)
            assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_large")
        assert str(most) in answer.json()["error"]["message"]


def test_json_is_parsed_away_from_the_loop(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    threads = []

    def watched(*arguments: Any) -> Any:
        threads.append(threading.current_thread().name)
        return parse(*arguments)

    monkeypatch.setattr(bodies, "parse", watched)
    query = {"vector": unit(1), "generation": "v1"}
    with client(directory) as ask:
        for content in (json.dumps(query).encode(), b"\xef\xbb\xbf" + json.dumps(query).encode()):
            for kind in ("application/json", "application/vnd.x+json; charset=utf-8", "Application/JSON"):
                answer = ask.post("/api/v1/search", content=content, headers={"Content-Type": kind})
                assert answer.status_code == 200
                assert len(answer.json()["results"]) == 10
    assert len(threads) == 6
    assert all(name.startswith("evergallery-decoding") for name in threads)


HOSTILE: dict[str, Callable[[int], str]] = {
    "lists": lambda size: '{"vector": [' + "[]," * (size // 3) + "1]}",
    "objects": lambda size: '{"vector": [' + "{}," * (size // 3) + "1]}",
    "names": lambda size: "{" + ",".join(f'"{number:x}":1' for number in range(size // 10)) + "}",
    "texts": lambda size: '{"vector": [' + '"ab",' * (size // 5) + "1]}",
    "numbers": lambda size: '{"vector": [' + "1," * (size // 2) + "1]}",
    "not finite": lambda size: '{"vector": [' + "1e999," * (size // 6) + "1]}",
    "digits": lambda size: '{"k": ' + "9" * size + "}",
    "fraction": lambda size: '{"min_score": 0.' + "9" * size + "}",
    "deep": lambda size: "[" * size,
    "deep objects": lambda size: '{"a":' * (size // 5),
    "labels": lambda size: '{"item": "x", "labels": [' + "1," * (size // 2) + "1]}",
    "metadata": lambda size: '{"item": "x", "metadata": {' + ",".join(f'" {n}":[]' for n in range(size // 12)) + "}}",
    "half": lambda size: '{"item": "' + "x" * size,
    "surrogate": lambda size: '{"item": "\\ud800"}',
    "nothing": lambda size: "",
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_no_json_costs_much_more_than_its_bytes(directory: Path, kind: str) -> None:
    data = HOSTILE[kind](1 << 20).encode()
    with client(directory) as ask:
        answer = ask.post("/api/v1/search", content=data, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "invalid")
    assert len(answer.text) < 1000
    tracemalloc.start()
    try:
        with pytest.raises((InputError, RequestValidationError)):
            parse(SEARCH, data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 100 << 20


def large_picture() -> bytes:
    """A picture of more bytes than are usually kept in memory."""
    noise = np.random.default_rng(0).integers(0, 256, (1100, 1100, 3), np.uint8)
    written = io.BytesIO()
    Image.fromarray(noise).save(written, "BMP")
    return written.getvalue()


def test_only_files_of_whom_may_write_touch_the_disk(
    served_workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = []
    roll = tempfile.SpooledTemporaryFile.rollover

    def watched(self: Any) -> None:
        written.append(self)
        roll(self)

    monkeypatch.setattr(tempfile.SpooledTemporaryFile, "rollover", watched)
    data = large_picture()
    with client(copy_of(served_workspace, tmp_path), anonymous="admin") as ask:
        searched = ask.post("/api/v1/search/image", files={"image": data})
        assert (searched.status_code, written) == (200, [])
        assert ask.post("/api/v1/items", files={"image": data}).json()["added"] == 1
        assert len(written) == 1


def test_what_all_requests_hold_is_bounded_and_given_back(directory: Path, served_workspace: Path) -> None:
    query = json.dumps({"vector": unit(1), "generation": "v1"}).encode()
    picture = photographs(served_workspace)[0].read_bytes()
    app = create_app(
        directory, ServiceSettings(Limits(rate=0, held_bytes=len(query) + len(picture) + 1000)), anonymous="admin"
    )
    budget: MemoryBudget = app.state.service.budget
    headers = {"Content-Type": "application/json"}

    def dripping() -> Iterator[bytes]:
        yield query[:10]
        raise OSError("the client is gone")

    with TestClient(app, raise_server_exceptions=False) as ask:
        for _ in range(3):
            assert ask.post("/api/v1/search", content=query, headers=headers).status_code == 200
            assert ask.post("/api/v1/search", content=b"{", headers=headers).status_code == 422
            assert ask.post("/api/v1/search/image", files={"image": picture}).status_code == 200
            assert ask.post("/api/v1/search/image", files={"image": b"x"}).status_code == 422
            assert ask.post("/api/v1/search", content=dripping(), headers=headers).status_code == 500
        budget.take(1001 + len(picture))
        answer = ask.post("/api/v1/search", content=query, headers=headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "unavailable")
        assert answer.headers["Retry-After"] == "1"
        budget.give_back(1001 + len(picture))
        assert ask.post("/api/v1/search", content=query, headers=headers).status_code == 200
    budget.take(len(query) + len(picture) + 1000)
    with pytest.raises(OverloadedError):
        budget.take(1)


def test_what_is_no_json_is_refused(directory: Path) -> None:
    query = json.dumps({"vector": unit(1), "generation": "v1"}).encode()
    with client(directory, limits=UNLIMITED) as ask:
        for kind in ("text/plain", "text/json", "application/octet-stream", "application/xml", "json", ""):
            assert ask.post("/api/v1/search", content=query, headers={"Content-Type": kind}).status_code == 422
        assert (
            ask.post("/api/v1/search/image", content=query, headers={"Content-Type": "text/plain"}).status_code == 422
        )


PART = b'--b\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n%s\r\n'


def form(*fields: tuple[bytes, bytes]) -> bytes:
    """A form with a file that is no picture, and these fields."""
    parts = [PART % (name, b"", value) for name, value in fields]
    return b"".join([PART % (b"image", b'; filename="x"', b"x"), *parts, b"--b--\r\n"])


def test_a_forms_charset_is_one_that_is_decoded_at_once(directory: Path) -> None:
    body = form((b"generation", b""))
    with client(directory, anonymous="admin") as ask:
        for path in ("/api/v1/search/image", "/api/v1/items"):
            for charset in ("punycode", "idna", "utf-7", "zlib", '"punycode"', "UTF-16"):
                kind = f"multipart/form-data; boundary=b; charset={charset}"
                assert ask.post(path, content=body, headers={"Content-Type": kind}).status_code == 415
            for charset in ("utf-8", "UTF-8", '"utf-8"', "latin-1"):
                kind = f"multipart/form-data; charset={charset}; boundary=b"
                assert ask.post(path, content=body, headers={"Content-Type": kind}).status_code in (200, 422)


@pytest.mark.parametrize(
    "metadata",
    [b"[" + b"[]," * 300_000 + b"1]", b"[" * 900_000, b"{" + b",".join(b'"%d":[]' % n for n in range(80_000)) + b"}",
     b"{" + b",".join(b'"%d":1' % n for n in range(1001)) + b"}", b'{"a": ' + b"9" * 900_000 + b"}", b'{"a": "\\ud800"}'],
)  # fmt: skip
def test_no_forms_metadata_cost_much_more_than_their_bytes(directory: Path, metadata: bytes) -> None:
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    with client(directory) as ask:
        answer = ask.post("/api/v1/search/image", content=form((b"metadata", metadata)), headers=headers)
    assert answer.status_code == 422
    assert answer.json()["error"]["message"].startswith("metadata: give")
    tracemalloc.start()
    try:
        with pytest.raises(InputError):
            metadata_of(metadata.decode())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 30 << 20


def test_a_form_without_files_is_not_parsed(directory: Path) -> None:
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    with client(directory) as ask:
        answer = ask.post("/api/v1/search/image", content=b"&" * (8 << 20), headers=headers)
    assert (answer.status_code, answer.json()["error"]["message"]) == (422, "image: it is missing.")


def test_many_names_are_refused_before_they_are_looked_at() -> None:
    query = {"item": "x", "metadata": {f" {number}": [] for number in range(1001)}}
    with pytest.raises(RequestValidationError, match="up to 1000 names"):
        parse(SEARCH, json.dumps(query).encode())


def test_the_results_of_a_batch_are_bounded(directory: Path) -> None:
    query = {"vector": unit(1), "generation": "v1", "k": 1000}
    with client(directory) as ask:
        assert ask.post("/api/v1/search/batch", json={"queries": [query] * 25}).status_code == 200
        answer = ask.post("/api/v1/search/batch", json={"queries": [query] * 26})
    assert answer.status_code == 422
    assert "together ask for 26000 results" in answer.json()["error"]["message"]


def test_a_request_of_two_lengths_is_refused(directory: Path) -> None:
    raw = (
        b"POST /api/v1/search HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 4\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    )
    with listening(create_app(directory, ServiceSettings(UNLIMITED))) as address:
        where = urlsplit(address)
        assert where.hostname is not None
        with socket.create_connection((where.hostname, where.port), timeout=20) as connection:
            connection.sendall(raw)
            answer = b""
            while part := connection.recv(65536):
                answer += part
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1 ") == 1


def test_numbers_that_float32_does_not_hold_are_refused(directory: Path) -> None:
    with client(directory, anonymous="admin") as ask:
        for number in (1e300, -1e39, 1e30):
            item = {"id": "x", "embedding": [number] + [0.0] * 7}
            answer = ask.post("/api/v1/items/vectors", json={"generation": "v1", "items": [item]})
            assert (answer.status_code, answer.json()["error"]["code"]) == (422, "invalid")
