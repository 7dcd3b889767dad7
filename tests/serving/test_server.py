"""The process: it switches models under load, tells listeners what happens, and ends without losing anything."""

import asyncio
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import numpy as np
import pytest
from served import copy_of, photographs

from conftest import evergallery
from evergallery import Workspace
from evergallery.serving.app.server import listen
from evergallery.serving.events import Events
from forked import command, first_line, forked

PATIENCE = 60.0


@contextmanager
def running(directory: Path, *options: str) -> Iterator[tuple[str, BaseProcess]]:
    """A server in a process of its own, on any free port: its address, and the process."""
    said = directory.parent / "server.log"
    process = forked(said, command, "serve", "-w", directory, "--port", 0, "--rate", 0, *options)
    try:
        line = first_line(process, said)
        assert "Serving shop at http://" in line, said.read_text()
        yield line.split()[3], process
    finally:
        process.kill()
        process.join()


@pytest.fixture
def directory(served_workspace: Path, tmp_path: Path) -> Path:
    return copy_of(served_workspace, tmp_path)


def events_of(lines: Iterator[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    kind = ""
    for line in lines:
        if line.startswith("event: "):
            kind = line[7:]
        elif line.startswith("data: "):
            yield kind, json.loads(line[6:])


def is_of(generation: str, expected: list[tuple[str, float]], told: dict[str, Any]) -> bool:
    """Whether an answer is the expected one, in everything of this generation; its batch may round a score."""
    ids, generations = zip(
        *((result["item"]["id"], result["item"]["generation"]) for result in told["results"]), strict=True
    )
    return (
        told["promoted"] == generation
        and set(generations) == {generation}
        and list(ids) == [identifier for identifier, _ in expected]
        and [result["score"] for result in told["results"]] == pytest.approx([score for _, score in expected], abs=1e-5)
    )


def test_a_promotion_under_load_fails_no_request_and_blends_no_answer(directory: Path, served_workspace: Path) -> None:
    """The load goes on across a promotion with vectors from the shadow, and across the rollback.

    Every answer must be, item by item and vector by vector, what the workspace answers in the state of before or of after.
    """
    pictures = photographs(served_workspace)[::40]
    with Workspace(directory) as shop:
        shop.refresh("v3")
        expected: dict[tuple[str, int], list[tuple[str, float]]] = {}
        for name in ("v1", "v3"):
            if name == "v3":
                shop.promote("v3")
            for index, path in enumerate(pictures):
                expected[name, index] = [(match.item.id, match.score) for match in shop.search(str(path), k=5)]
        shop.rollback()
    assert expected["v1", 0] != expected["v3", 0]
    data = [path.read_bytes() for path in pictures]
    counts = {"v1": 0, "v3": 0}
    failed: list[str] = []
    blended: list[Any] = []
    lock, stop = threading.Lock(), threading.Event()

    def ask(address: str, seed: int) -> None:
        draw = np.random.default_rng(seed)
        with httpx2.Client(base_url=address, timeout=PATIENCE) as asking:
            while not stop.is_set():
                index = int(draw.integers(len(data)))
                answer = asking.post("/api/v1/search/image", files={"image": data[index]}, data={"k": 5})
                if answer.status_code != 200:
                    failed.append(answer.text)
                    continue
                told = answer.json()
                name = told["generation"]
                with lock:
                    counts[name] += 1
                    if not is_of(name, expected[name, index], told):
                        blended.append((index, told))

    def wait_for(name: str, more: int) -> None:
        goal, deadline = counts[name] + more, time.monotonic() + PATIENCE
        while counts[name] < goal and time.monotonic() < deadline:
            time.sleep(0.005)

    with running(directory, "--allow-writes") as (address, _):
        threads = [threading.Thread(target=ask, args=(address, seed)) for seed in range(4)]
        for thread in threads:
            thread.start()
        try:
            with httpx2.Client(base_url=address, timeout=PATIENCE) as deciding:
                for _ in range(3):
                    wait_for("v1", 20)
                    assert deciding.post("/api/v1/promote", json={"generation": "v3"}).json()["promoted"] == "v3"
                    wait_for("v3", 20)
                    assert deciding.post("/api/v1/rollback").json()["promoted"] == "v1"
        finally:
            stop.set()
            for thread in threads:
                thread.join()
    assert (failed, blended) == ([], [])
    assert min(counts.values()) >= 60


def test_events_and_an_end_in_the_middle_of_a_refresh(directory: Path) -> None:
    """SIGTERM: the stream ends, the refresh stops where it can go on, the gallery is whole, and the status is 0."""
    seen: list[tuple[str, dict[str, Any]]] = []
    with running(directory, "--allow-writes") as (address, process), httpx2.Client(timeout=PATIENCE) as asking:
        with asking.stream("GET", f"{address}/api/v1/events") as stream:
            assert stream.headers["Content-Type"].startswith("text/event-stream")
            told = events_of(stream.iter_lines())
            assert next(told)[0] == "status"
            with httpx2.Client(timeout=PATIENCE) as deciding:
                begun = deciding.post(f"{address}/api/v1/refresh", json={"generation": "v2", "rate": 20})
            assert begun.status_code == 202
            for event, data in told:
                seen.append((event, data))
                if event == "job" and data["done"] > 0:
                    process.terminate()
        process.join(PATIENCE)
        assert process.exitcode == 0
    progress = [data for event, data in seen if event == "job"]
    assert progress[0]["total"] in (None, 200)
    assert {data["phase"] for data in progress} == {"beginning", "refreshing with v2"}
    lines = [json.loads(line) for line in (directory.parent / "server.log").read_text().splitlines()[1:]]
    assert {line["message"] for line in lines} == {"request"}
    assert all(line["route"] and line["id"] and line["caller"] == "anonymous" for line in lines)
    with Workspace(directory) as shop:
        opened = shop.status().refresh
        assert opened is not None
        assert 0 < opened.refreshed < 200
        assert shop.doctor() == []
        assert shop.refresh("v2").remaining == 0


def test_a_running_request_is_finished_before_the_end(directory: Path, served_workspace: Path) -> None:
    data = photographs(served_workspace)[0].read_bytes()
    with running(directory) as (address, process):
        body = b'--b\r\nContent-Disposition: form-data; name="image"; filename="x"\r\n\r\n' + data + b"\r\n--b--\r\n"
        where = urlsplit(address)
        assert where.hostname is not None
        with socket.create_connection((where.hostname, where.port or 0), timeout=PATIENCE) as connection:
            connection.sendall(
                f"POST /api/v1/search/image HTTP/1.1\r\nHost: {where.netloc}\r\nContent-Length: {len(body)}\r\n"
                f"Content-Type: multipart/form-data; boundary=b\r\nExpect: 100-continue\r\n\r\n".encode()
            )
            told = connection.makefile("rb")
            # Asked for when the request has come to those who read it.
            assert told.readline() == b"HTTP/1.1 100 Continue\r\n"
            assert told.readline() == b"\r\n"
            assert process.pid is not None
            os.kill(process.pid, signal.SIGINT)
            connection.sendall(body)
            assert told.readline() == b"HTTP/1.1 200 OK\r\n"
            answer = json.loads(told.read().partition(b"\r\n\r\n")[2])
        assert len(answer["results"]) == 10
        process.join(PATIENCE)
        assert process.exitcode == 0


def test_a_gallery_in_use_and_an_address_in_use_are_one_sentence(directory: Path, tmp_path: Path) -> None:
    with Workspace(directory) as shop:
        assert shop.gallery.count() == 200
        assert "is in use: process" in evergallery("serve", "-w", directory, "--port", 0, expect=4).stderr
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused = evergallery("serve", "-w", directory, "--port", port, expect=2).stderr
    assert f"Nothing can listen at 127.0.0.1, port {port}" in refused


def test_connections_do_not_wait_for_acknowledgements() -> None:
    with listen("127.0.0.1", 0) as listening, socket.create_connection(listening.getsockname()):
        accepted, _ = listening.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1


def test_a_slow_listener_hears_the_latest_of_each_kind() -> None:
    async def listen() -> list[str]:
        events = Events(most=1)
        events.start()
        stream = events.listen({"status": {"n": 0}}, lambda: True)
        heard = [await anext(stream), await anext(stream)]
        for number in range(100):
            events.publish("job", {"n": number})
        events.publish("status", {"n": 1})
        await asyncio.sleep(0)
        heard += [await anext(stream), await anext(stream)]
        events.close()
        heard += [event async for event in stream]
        assert not events.heard
        return heard

    assert asyncio.run(listen()) == [
        "retry: 2000\n\n",
        'event: status\ndata: {"n": 0}\n\n',
        'event: job\ndata: {"n": 99}\n\n',
        'event: status\ndata: {"n": 1}\n\n',
    ]


def test_a_listener_whose_token_is_revoked_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evergallery.serving.events.HEARTBEAT", 0.01)
    answers = [True, True, False]

    async def listen() -> list[str]:
        events = Events(most=1)
        events.start()
        return [event async for event in events.listen({}, lambda: answers.pop(0))]

    assert asyncio.run(listen()) == ["retry: 2000\n\n", ": still here\n\n", ": still here\n\n"]
    assert answers == []
