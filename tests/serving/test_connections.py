"""Connections that say nothing, or half of something: they end, and keep nobody out."""

import asyncio
import resource
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from served import copy_of, listening

from evergallery.serving.app import create_app
from evergallery.serving.connections import ConnectionLimits, Server, room_for
from evergallery.serving.limits import Limits
from evergallery.serving.service import ServiceSettings

LONG = 30.0


@contextmanager
def patient(directory: Path, connections: ConnectionLimits, **limits: Any) -> Iterator[tuple[str, int]]:
    """A server that listens within these limits; its address."""
    app = create_app(directory, ServiceSettings(Limits(rate=0, **limits)))
    config = uvicorn.Config(
        app, port=0, log_config=None, access_log=False, timeout_graceful_shutdown=5, **connections.options()
    )
    with listening(app, config=config) as address:
        host, _, port = address.removeprefix("http://").partition(":")
        yield host, int(port)


def rest(connection: socket.socket) -> bytes:
    """What still comes until the other side closes."""
    connection.settimeout(LONG)
    answer = b""
    try:
        while part := connection.recv(65536):
            answer += part
    except ConnectionResetError:
        pass
    return answer


def until(connection: socket.socket, end: bytes) -> bytes:
    """What comes up to these bytes."""
    connection.settimeout(LONG)
    answer = b""
    while not answer.endswith(end):
        part = connection.recv(1)
        assert part, answer
        answer += part
    return answer


@pytest.fixture(scope="module")
def directory(served_workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_of(served_workspace, tmp_path_factory.mktemp("connections"))


@pytest.mark.parametrize(
    "begun", [b"", b"G", b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-", b"\r\n", b"POST / HTTP/1.1\r\nHost: x\r\n"]
)
def test_half_a_head_is_not_waited_for(directory: Path, begun: bytes) -> None:
    with (
        patient(directory, ConnectionLimits(head_seconds=0.1)) as address,
        socket.create_connection(address) as connection,
    ):
        connection.sendall(begun)
        assert b"200" not in rest(connection)


def test_a_byte_now_and_then_is_no_head(directory: Path) -> None:
    """Neither of the first request, nor of a later one on a connection that was kept."""
    whole = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with patient(directory, ConnectionLimits(head_seconds=0.3, kept_seconds=60)) as address:
        for before in (b"", whole):
            with socket.create_connection(address) as connection:
                connection.sendall(before)
                if before:
                    assert b"alive" in until(connection, b"}")
                ended = threading.Event()

                def drip(connection: socket.socket = connection, ended: threading.Event = ended) -> None:
                    try:
                        while not ended.is_set():
                            connection.sendall(b"G")
                            time.sleep(0.02)
                    except OSError:
                        pass

                thread = threading.Thread(target=drip)
                thread.start()
                rest(connection)
                ended.set()
                thread.join()


def test_silent_connections_keep_nobody_out(directory: Path) -> None:
    with patient(directory, ConnectionLimits(connections=8, head_seconds=LONG)) as address, ExitStack() as stack:
        silent = [stack.enter_context(socket.create_connection(address)) for _ in range(60)]
        for connection in silent[::2]:
            try:
                connection.sendall(b"GET / HT")
            except OSError:
                continue
        for _ in range(3):
            with socket.create_connection(address) as asking:
                asking.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                assert b"200 OK" in rest(asking)


@pytest.mark.parametrize("before", [0, 1])
def test_a_head_that_is_too_long_is_heard_out_and_answered(directory: Path, before: int) -> None:
    whole = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with patient(directory, ConnectionLimits()) as address, socket.create_connection(address) as connection:
        connection.settimeout(LONG)
        connection.sendall(before * whole)
        if before:
            assert b"alive" in until(connection, b"}")
        # More than the sockets take in between: who is not heard out cannot send it.
        connection.sendall(b"GET /?" + 32_000_000 * b"x")
        connection.shutdown(socket.SHUT_WR)
        answer = rest(connection)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"at most, together." in answer


def test_a_broken_body_ends_its_connection(directory: Path) -> None:
    begun = (
        b"POST /api/v1/search HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n"
    )
    with patient(directory, ConnectionLimits()) as address, socket.create_connection(address) as connection:
        connection.sendall(begun + b"2\r\n{}\r\n")
        time.sleep(0.2)  # The request is being answered.
        connection.sendall(b"no chunk\r\n")
        assert rest(connection).startswith(b"HTTP/1.1 400 ")
        # Nobody hears the rest out, however long the other side stays.
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            for _ in range(int(4 / 0.02)):
                connection.sendall(b"x")
                time.sleep(0.02)


def test_a_connection_that_is_used_is_kept(directory: Path) -> None:
    whole = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    limits = ConnectionLimits(connections=8, head_seconds=0.2)
    with patient(directory, limits) as address, socket.create_connection(address) as connection:
        connection.settimeout(LONG)
        for pause in (0.0, 0.4, 0.4):
            time.sleep(pause)
            connection.sendall(whole)
            assert b"alive" in until(connection, b"}")
        connection.sendall(3 * whole)
        for _ in range(3):
            assert b"alive" in until(connection, b"}")
        # A request that takes its time is none that waits.
        connection.sendall(
            b"POST /api/v1/search HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n"
        )
        time.sleep(0.4)
        connection.sendall(b"{}")
        assert b"422" in until(connection, b"}}")


def test_a_dripping_body_holds_its_connection_no_longer_than_its_answer(directory: Path) -> None:
    head = b"POST /api/v1/search HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n"
    slow: dict[str, Any] = {"body_seconds": 0.2, "left_seconds": 0.2}
    with patient(directory, ConnectionLimits(), **slow) as address, socket.create_connection(address) as connection:
        connection.sendall(head)
        ended = threading.Event()

        def drip() -> None:
            try:
                while not ended.is_set():
                    connection.sendall(b" ")
                    time.sleep(0.02)
            except OSError:
                pass

        thread = threading.Thread(target=drip)
        thread.start()
        assert b"408" in rest(connection)
        ended.set()
        thread.join()


def test_an_answer_that_nobody_reads_is_given_up(directory: Path) -> None:
    gone = []

    async def ask() -> None:
        config = uvicorn.Config(lambda *_: None, **ConnectionLimits(unread_seconds=0.05).options())
        config.load()
        protocol: Any = config.http_protocol_class
        connection = protocol(config=config, server_state=uvicorn.Server(config).server_state, app_state={})

        class Transport(asyncio.Transport):
            def abort(self) -> None:
                gone.append(self)

        connection.connection_made(Transport({"peername": ("127.0.0.1", 1)}))
        connection.pause_writing()
        connection.resume_writing()
        await asyncio.sleep(0.1)
        assert gone == []
        connection.pause_writing()
        await asyncio.sleep(0.1)

    asyncio.run(ask())
    assert len(gone) == 1


def test_a_server_that_ends_cuts_off_an_answer_that_nobody_reads() -> None:
    async def endless(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while True:
            await send({"type": "http.response.body", "body": bytes(1 << 20), "more_body": True})

    server = Server(uvicorn.Config(endless, port=0, lifespan="off", log_config=None, timeout_graceful_shutdown=1))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()))
    thread.start()
    while not server.started:
        time.sleep(0.01)
    with socket.create_connection(server.servers[0].sockets[0].getsockname()) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert connection.recv(1) == b"H"
        server.should_exit = True
        thread.join()
        assert not server.server_state.connections
        assert rest(connection), "what had been sent, and then the end"


def test_there_are_no_more_connections_than_files(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = []
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: kept.append(limits))
    for limits, room, raised in (
        ((1024, 4096), 1000, [(1512, 4096)]), ((1024, 1024), 512, [(1024, 1024)]), ((5000, 5000), 1000, []),
        ((64, 64), 16, [(64, 64)]), ((256, resource.RLIM_INFINITY), 1000, [(1512, resource.RLIM_INFINITY)]),
    ):  # fmt: skip
        kept.clear()
        monkeypatch.setattr(resource, "getrlimit", lambda _, limits=limits: limits)
        assert room_for(1000) == room
        assert kept == raised
