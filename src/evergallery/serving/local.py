"""The socket in a workspace at which commands of its owner reach the server, and on which terms it answers for them.

It is a Unix socket and not an address: nobody but its owner may use it, nothing that goes through it leaves the machine, whoever
finds it in a workspace has found the server of that workspace, and a server that was killed no longer answers at it. Tokens are
demanded as anywhere else.
"""

import errno
import os
import secrets
import socket
import struct
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from evergallery._version import __version__
from evergallery.files import TEMPORARY_PREFIX
from evergallery.strings.environment import LARGEST_IMAGE, RUNTIME

SOCKET = "serving.socket"
TERMS = "/api/v1/local"
WAITING = 64
"""Connections that wait to be accepted."""
LONGEST_PATH = 100
"""Bytes of a socket's path that every system takes."""


def terms(directory: Path) -> dict[str, Any]:
    """Return what two processes must have in common for one to answer for the other, as JSON values.

    Args:
        directory: of the workspace; told by what it is, since its name may be another one elsewhere.
    """
    status = directory.stat()
    return {
        "version": __version__,
        "directory": [status.st_dev, status.st_ino],
        **{name: os.environ.get(name, "") for name in (LARGEST_IMAGE, RUNTIME)},
    }


@contextmanager
def local_socket(directory: Path) -> Iterator[socket.socket | None]:
    """A socket that listens in a workspace while the block lasts.

    ``None`` where another server of the workspace has it, or where its disk takes none: commands do their work themselves then.
    """
    place = directory / SOCKET
    made = None if _is_answered(place) else _made(place)
    if made is None:
        yield None
        return
    listening, mark = made
    try:
        yield listening
    finally:
        with suppress(OSError):
            # A later server may have taken the place of one that seemed gone.
            if place.lstat().st_ino == mark:
                place.unlink()
        listening.close()


def connected(place: Path, seconds: float) -> socket.socket:
    """A connection to a socket's place.

    Args:
        place: where it lies.
        seconds: to wait for whoever listens there, now and for each answer.

    Raises:
        OSError: nobody answers there, this user may not ask, or somebody listens who is neither this user, nor root, nor the
            directory's owner.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(seconds)
        with _short(place) as path:
            connection.connect(path)
        # Whoever else may write to the directory could listen in the server's place, and would be shown pictures and tokens.
        if _listener(connection, place) not in (0, os.geteuid(), place.parent.stat().st_uid):
            raise PermissionError(errno.EPERM, "another user listens there", str(place))
    except OSError:
        connection.close()
        raise
    return connection


def _listener(connection: socket.socket, place: Path) -> int:
    """The user who listens at a socket; where the system does not say, whoever owns its file."""
    if not hasattr(socket, "SO_PEERCRED"):
        return place.stat().st_uid
    told = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _, user, _ = struct.unpack("3i", told)
    return int(user)


def _is_answered(place: Path) -> bool:
    with suppress(OSError), closing(connected(place, 1.0)):
        return True
    return False


def _made(place: Path) -> tuple[socket.socket, int] | None:
    """A socket that listens at a place, and its inode. It appears there with all its permissions, and answered."""
    temporary = place.with_name(f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}")
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with _short(temporary) as path:
            listening.bind(path)
        temporary.chmod(0o600)
        listening.listen(WAITING)
        mark = temporary.lstat().st_ino
        temporary.replace(place)
    except OSError:
        listening.close()
        with suppress(OSError):
            temporary.unlink()
        return None
    return listening, mark


@contextmanager
def _short(path: Path) -> Iterator[str]:
    """A path as sockets take it, which have room for about a hundred bytes."""
    if len(os.fsencode(path)) <= LONGEST_PATH or not Path("/proc/self/fd").is_dir():
        yield str(path)
        return
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
