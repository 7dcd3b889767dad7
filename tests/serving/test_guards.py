"""What no request passes: foreign names, other sites' pages, too much, too slowly."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from served import client, copy_of
from starlette.exceptions import HTTPException
from starlette.types import Message

from evergallery.serving.app import create_app
from evergallery.serving.app.server import LOOPBACK_NAMES
from evergallery.serving.bodies import Body
from evergallery.serving.budget import MemoryBudget
from evergallery.serving.guards import UnreadBodies, host_of, is_loopback
from evergallery.serving.limits import Limits


@pytest.fixture(scope="module")
def ask(served_workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    directory = copy_of(served_workspace, tmp_path_factory.mktemp("guarded"))
    limits = Limits(rate=0, body_bytes=3000, upload_bytes=1000, images=2)
    with client(directory, limits=limits, anonymous="admin", names=LOOPBACK_NAMES) as asking:
        asking.headers["Host"] = "localhost:8765"
        yield asking


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8765", 200), ("localhost", 200), ("LOCALHOST:1", 200), ("[::1]:8765", 200), ("evil.example", 421),
        ("localhost.evil.example", 421), ("evil.example:8765", 421), ("", 421), ("[", 421), ("127.0.0.1.evil.example", 421),
    ],
)  # fmt: skip
def test_only_own_names_are_answered(ask: TestClient, host: str, status: int) -> None:
    assert ask.get("/api/v1/me", headers={"Host": host}).status_code == status


@pytest.mark.parametrize(
    ("headers", "refused"),
    [
        ({}, False),
        ({"Origin": "http://localhost:8765"}, False),
        ({"Origin": "http://localhost:8765", "Sec-Fetch-Site": "same-origin"}, False),
        ({"Origin": "http://localhost:9999"}, True),
        ({"Origin": "http://evil.example"}, True),
        ({"Origin": "null"}, True),
        ({"Sec-Fetch-Site": "cross-site"}, True),
        ({"Sec-Fetch-Site": "same-site"}, True),
    ],
)
def test_no_other_sites_page_changes_anything(ask: TestClient, headers: dict[str, str], refused: bool) -> None:
    answer = ask.request("DELETE", "/api/v1/items", json={"ids": ["nobody's"]}, headers=headers)
    assert answer.status_code == (403 if refused else 200)
    assert ask.get("/api/v1/me", headers=headers).status_code == 200


def test_every_answer_has_the_headers(ask: TestClient) -> None:
    for path in ("/api/v1/me", "/nothing", "/api/v1/items?limit=0", "/openapi.json"):
        headers = ask.get(path).headers
        assert "default-src 'self'" in headers["Content-Security-Policy"]
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
        assert "unsafe" not in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["Cache-Control"] == ("no-store" if path.startswith("/api/") else "no-cache")
        assert len(headers["X-Request-ID"]) == 16
        assert "Access-Control-Allow-Origin" not in headers


def test_large_requests_are_refused(ask: TestClient) -> None:
    picture = ("x.png", b"x" * 1001)
    assert ask.post("/api/v1/search/image", files={"image": picture}).status_code == 413
    many = [("image", ("x.png", b"x"))] * 3
    assert ask.post("/api/v1/items", files=many).json()["error"]["code"] == "too_large"
    announced = ask.post("/api/v1/search", content=b"x" * 3001, headers={"Content-Type": "application/json"})
    assert announced.json()["error"]["code"] == "too_large"

    def unannounced() -> Any:
        for _ in range(4):
            yield b"x" * 1000

    for path, kind in (
        ("/api/v1/search", "application/json"),
        ("/api/v1/search/image", "multipart/form-data; boundary=b"),
    ):
        answer = ask.post(path, content=unannounced(), headers={"Content-Type": kind})
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_large")


def test_many_pixels_are_refused_before_they_are_decoded(served_workspace: Path, tmp_path: Path) -> None:
    from io import BytesIO

    from PIL import Image

    written = BytesIO()
    Image.new("RGB", (200, 200)).save(written, "PNG")
    with client(copy_of(served_workspace, tmp_path), limits=Limits(rate=0, upload_pixels=30_000)) as asking:
        answer = asking.post("/api/v1/search/image", files={"image": written.getvalue()})
    assert answer.status_code == 422
    assert "200 x 200 pixels, more than the 30,000 allowed" in answer.json()["error"]["message"]


def test_a_slow_client_is_sent_away() -> None:
    """One that sends nothing more, and one that always sends a little."""

    async def ask(pause: float, limits: Limits) -> int:
        async def receive() -> Message:
            await asyncio.sleep(pause)
            return {"type": "http.request", "body": b"x", "more_body": True}

        body = Body(receive, 0, 1000, limits, MemoryBudget(1000))
        try:
            while (await body()).get("more_body"):
                pass
        except HTTPException as error:
            return error.status_code
        return 200

    assert asyncio.run(ask(60, Limits(chunk_seconds=0.02))) == 408
    assert asyncio.run(ask(0.005, Limits(chunk_seconds=10, body_seconds=0.05))) == 408


def test_waiting_for_a_client_to_leave_is_not_waiting_for_its_request() -> None:
    async def ask() -> list[str]:
        messages: list[Message] = [{"type": "http.request", "body": b""}, {"type": "http.disconnect"}]

        async def receive() -> Message:
            if len(messages) == 1:
                await asyncio.sleep(0.05)
            return messages.pop(0)

        body = Body(receive, 0, 1000, Limits(chunk_seconds=0.01), MemoryBudget(1000))
        return [(await body())["type"], (await body())["type"]]

    assert asyncio.run(ask()) == ["http.request", "http.disconnect"]


def test_the_rest_of_a_request_is_thrown_away_and_its_connection_closed() -> None:
    """The answer goes out at once; the connection is closed when nothing more comes, or after a moment."""

    async def refuse(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 401, "headers": []})
        await send({"type": "http.response.body", "body": b"no"})

    async def ask(parts: int, limits: Limits) -> tuple[int, list[Message]]:
        sent: list[Message] = []
        read = 0

        async def receive() -> Message:
            nonlocal read
            assert sent[1]["body"] == b"no", "the answer waits for nothing"
            read += 1
            if read > parts:
                await asyncio.sleep(60)
            return {"type": "http.request", "body": b"x" * 1000, "more_body": True}

        async def send(message: Message) -> None:
            sent.append(message)

        scope = {"type": "http", "headers": [(b"content-length", b"10000000")]}
        await UnreadBodies(refuse, limits)(scope, receive, send)
        return read, sent

    for parts, limits in ((3, Limits(left_seconds=1)), (10**9, Limits(left_seconds=60, body_bytes=5000))):
        read, sent = asyncio.run(ask(parts, limits))
        assert 3 < read < 10
        assert (b"connection", b"close") in sent[0]["headers"]
        assert [message.get("more_body", False) for message in sent[1:]] == [True, False]


def test_nothing_is_told_of_what_went_wrong_inside(
    served_workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("a secret")

    directory = copy_of(served_workspace, tmp_path)
    app = create_app(directory)
    with TestClient(app, raise_server_exceptions=False) as asking:
        monkeypatch.setattr(app.state.service.workspace.gallery, "count_by_label", fail)
        answer = asking.get("/api/v1/labels")
        missing = asking.get("/api/v1/generations/v9").json()["error"]["message"]
    assert answer.status_code == 500
    assert answer.json() == {
        "error": {"code": "internal", "message": "Something went wrong in the server: its log says what."}
    }
    assert "a secret" in caplog.text
    (record,) = [record for record in caplog.records if record.getMessage() == "a request failed"]
    assert record.told == {"id": answer.headers["X-Request-ID"]}  # type: ignore[attr-defined]
    assert "Content-Security-Policy" in answer.headers
    assert missing == "shop has no generation 'v9'; there is v1, v2, v3, v4."


def test_tokens_that_cannot_be_read_let_nobody_in(served_workspace: Path, tmp_path: Path) -> None:
    directory = copy_of(served_workspace, tmp_path)
    with client(directory, anonymous="admin") as asking:
        (directory / "tokens.json").write_text("{")
        answer = asking.get("/api/v1/labels")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "unavailable")
    assert str(tmp_path) not in answer.text


@pytest.mark.parametrize(
    ("address", "host"), [("a:1", "a"), ("A", "a"), ("[::1]:80", "::1"), ("", ""), ("[x", ""), ("a:b", "a")]
)
def test_hosts(address: str, host: str) -> None:
    assert host_of(address) == host


def test_loopback() -> None:
    assert all(map(is_loopback, ("localhost", "127.0.0.1", "127.8.8.8", "::1")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "192.168.1.2", "example.org", "")))
