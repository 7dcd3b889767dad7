"""What tests of the server share: workspaces to serve, clients in this process, and a server that listens."""

import asyncio
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import uvicorn
from fastapi import FastAPI
from fastapi.testclient import TestClient

from copies import copied
from evergallery.serving.app import create_app
from evergallery.serving.connections import ConnectionLimits, Server
from evergallery.serving.limits import Limits
from evergallery.serving.schemas import Scope
from evergallery.serving.service import ServiceSettings
from shops import held_out, make_shop

UNLIMITED = Limits(rate=0)
# A server of uvicorn looks ten times a second whether it shall end, and then whether it has: tests end many.
vars(uvicorn.server)["asyncio"] = SimpleNamespace(
    **{**vars(asyncio), "sleep": lambda seconds: asyncio.sleep(seconds / 5)}
)


def make_served(folder: Path) -> Path:
    """A workspace: v1 answers; v2 may take its place; v3 only after a refresh; v4 through an adapter, once it is made."""
    with make_shop(folder) as shop:
        shop.check("v2", held_out(), against="all")
        shop.check("v3", held_out())
        return shop.directory


def copy_of(workspace: Path, folder: Path) -> Path:
    """A copy that may be changed; the pictures of its items are those of the first one."""
    return copied(workspace, folder / "shop")


@contextmanager
def client(
    directory: Path, *, anonymous: Scope | None = "read", names: Collection[str] | None = None, **settings: Any
) -> Iterator[TestClient]:
    """Asks an application in this process, with settings of its service."""
    service = ServiceSettings(**{"limits": UNLIMITED, **settings})
    app = create_app(directory, service, anonymous=anonymous, names=names)
    with TestClient(app, raise_server_exceptions=False) as asking:
        yield asking


@contextmanager
def listening(app: FastAPI, port: int = 0, config: uvicorn.Config | None = None) -> Iterator[str]:
    """The address of an application that listens on loopback while the block lasts, with the connections of ``serve``; at any
    free port by default."""
    server = Server(
        config
        or uvicorn.Config(
            app,
            port=port,
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=5,
            **ConnectionLimits().options(),
        )
    )
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()))
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive(), "the server did not start"
            time.sleep(0.01)
        bound = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{bound}"
    finally:
        app.state.service.stop()
        server.should_exit = True
        thread.join()


def finished(asking: TestClient) -> dict[str, Any]:
    """The job, once it has ended."""
    for _ in range(2000):
        job: dict[str, Any] = asking.get("/api/v1/job").json()
        if job["state"] != "running":
            return job
        time.sleep(0.01)
    raise AssertionError(job)


def photographs(made: Path) -> list[Path]:
    """The pictures that the items of a workspace were made of."""
    return sorted((made.parent / "photos").rglob("*.png"))


def unit(seed: int, dimension: int = 8) -> list[float]:
    """A unit vector."""
    values = np.random.default_rng(seed).normal(size=dimension).astype(np.float32)
    return [float(value) for value in values / np.linalg.norm(values)]
