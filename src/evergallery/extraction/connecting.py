"""Ray, connected to a cluster; and a cluster on this machine alone."""

import logging
import os
import secrets
import signal
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import ModuleType
from typing import Any

from evergallery.data.streaming import (
    processors,
)
from evergallery.errors import InputError, MissingExtraError, NotFoundError

ANSWER_WITHIN = 5.0
"""Seconds to wait for whoever listens at an address; Ray itself would wait for minutes."""
OBJECT_STORE = 512 << 20
"""Bytes at most that a cluster on this machine shares between its processes."""


@contextmanager
def connected(address: str, workers: int | None = None) -> Iterator[ModuleType]:
    """Ray, connected to a cluster for the time of the block; a process that is connected already stays so.

    Args:
        address: ``HOST:PORT``, ``ray://HOST:PORT``, ``auto``, or ``local``.
        workers: that a cluster on this machine must have room for.

    Raises:
        MissingExtraError: ray is not installed.
        NotFoundError: nothing answers there.
        InputError: the address is none, or the cluster there cannot be used.
    """
    # Read when Ray is imported: it tells nobody that it is used. One on this machine listens to this machine alone, and obeys
    # whoever has the token, which is not written down.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if address == "local":
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    try:
        import ray
    except ImportError as error:
        raise MissingExtraError("Extracting on a cluster", "ray") from error
    if ray.is_initialized():
        yield ray
        return
    logging.getLogger("ray").setLevel(logging.ERROR)
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "error", "configure_logging": False}
    with ExitStack() as stack:
        if address == "local":
            # Its sockets lie there too, whose paths must be short; so not below TMPDIR.
            scratch = stack.enter_context(
                tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True)
            )
            options |= {
                "num_cpus": max(processors(), workers or 0),
                "include_dashboard": False,
                "object_store_memory": OBJECT_STORE,
                "_temp_dir": scratch,
            }
        else:
            _require_answer(address)
        on_main = threading.current_thread() is threading.main_thread()
        handler = signal.getsignal(signal.SIGTERM)
        try:
            ray.init(address, **options)
        except (OSError, ValueError, RuntimeError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
            raise InputError(f"The cluster {address} cannot be used: {reason}.") from error
        stack.callback(ray.shutdown)
        # It would tell of workers that died, on standard output, where results go; there is no official way to keep it quiet.
        console: Any = ray._private.worker
        console._worker_logs_enabled = False
        stack.callback(setattr, console, "_worker_logs_enabled", True)
        if on_main and handler is not None:
            # Ray's own would print a page of addresses and abort.
            signal.signal(signal.SIGTERM, handler)
        yield ray


def _require_answer(address: str) -> None:
    if address == "auto":
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise InputError(f"{address!r} is no cluster's address: give HOST:PORT, ray://HOST:PORT, auto, or local.")
    try:
        socket.create_connection((host.strip("[]"), int(port)), ANSWER_WITHIN).close()
    except OSError as error:
        raise NotFoundError(
            f"Nothing answers at {address} ({error.strerror or error}): start a cluster there with  ray start --head, or give "
            f"local for one on this machine."
        ) from error
