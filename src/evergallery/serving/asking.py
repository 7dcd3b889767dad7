"""Asking the server of a workspace, where one runs on this machine, in place of doing its work again.

A server has the gallery open and its network in memory, so that its answer takes a fraction of the time; and a gallery that one
process has at a time is closed to all others. It is asked only on equal terms, see ``local.terms``.
"""

import json
import os
import socket
from collections.abc import Mapping
from contextlib import closing
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from secrets import token_hex
from typing import Any

from evergallery.errors import EvergalleryError, InputError, NotFoundError, RefusedError
from evergallery.serving.local import SOCKET, TERMS, connected, terms
from evergallery.strings.environment import TOKEN

TERMS_SECONDS, ANSWER_SECONDS = 2.0, 30.0
TOLD: dict[str, type[EvergalleryError]] = {kind.__name__: kind for kind in (InputError, NotFoundError, RefusedError)}
"""Errors that say something of the question: they are the same whoever answers."""


def asked(directory: Path, verb: str, question: Mapping[str, Any], picture: Path | None = None) -> Any:
    """Return what the server of a workspace answers to a command, as the functions of ``searching.rows`` tell it.

    ``None`` where there is none, or none that would answer as this process does: it has other terms, knows no such token, has
    too much to do, or cannot.

    Args:
        directory: of the workspace.
        verb: what is asked for: ``search``, ``items`` or ``item``.
        question: by the names of its schema: ``schemas.LocalSearch``, ``LocalItems`` or ``LocalItem``.
        picture: the image that is searched with.

    Raises:
        InputError, NotFoundError, RefusedError: the verb does, there as here.
    """
    if not (directory / SOCKET).exists():
        return None
    try:
        with closing(_Connection(directory)) as connection:
            if _answer(connection, "GET", TERMS) != terms(directory):
                return None
            connection.wait(ANSWER_SECONDS)
            named = {} if picture is None else {"named": str(picture)}
            kind, body = _form({**question, **named}, None if picture is None else picture.read_bytes())
            told = _answer(connection, "POST", f"{TERMS}/{verb}", body, {"Content-Type": kind})
            answer, error = told["answer"], _error(told["error"], directory)
    except (OSError, HTTPException, ValueError, KeyError, TypeError):
        return None
    if error is not None:
        raise error
    return answer


class _Connection(HTTPConnection):
    """HTTP through the socket of a workspace."""

    def __init__(self, directory: Path) -> None:
        super().__init__("localhost", timeout=TERMS_SECONDS)
        self._place = directory / SOCKET
        self._seconds = TERMS_SECONDS

    def connect(self) -> None:
        """Connect."""
        self.sock: socket.socket | None = connected(self._place, self._seconds)

    def wait(self, seconds: float) -> None:
        """Give answers so much time from now on, over another connection where the server has closed this one."""
        self._seconds = seconds
        if self.sock is not None:
            self.sock.settimeout(seconds)


def _answer(
    connection: _Connection, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] = {}
) -> Any:
    """Return what is answered, where that is a whole and good answer.

    Raises:
        ValueError: it is not.
    """
    token = os.environ.get(TOKEN, "").strip()
    shown = {"Authorization": f"Bearer {token}"} if token else {}
    connection.request(method, path, body, {**headers, **shown})
    response = connection.getresponse()
    content = response.read()
    if response.status != 200:
        raise ValueError(response.status)
    return json.loads(content)


def _error(told: Mapping[str, str] | None, directory: Path) -> EvergalleryError | None:
    """An error that the server told of, with the workspace as it is called here."""
    return None if told is None else TOLD[told["kind"]](told["message"].replace(told["directory"], str(directory)))


def _form(question: Mapping[str, Any], picture: bytes | None) -> tuple[str, bytes]:
    """A form with a question and a picture: its media type, and its bytes."""
    boundary = token_hex(16)
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="question"\r\n\r\n{json.dumps(question)}\r\n'.encode()
    ]
    if picture is not None:
        named = f'--{boundary}\r\nContent-Disposition: form-data; name="picture"; filename="picture"\r\n\r\n'
        parts += [named.encode(), picture, b"\r\n"]
    return f"multipart/form-data; boundary={boundary}", b"".join([*parts, f"--{boundary}--\r\n".encode()])
