"""Every failure as one sentence with a code; never a stack trace."""

import errno
import logging
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from evergallery.errors import (
    BusyError,
    EvergalleryError,
    FullError,
    InputError,
    MissingExtraError,
    NotFoundError,
    ReadOnlyError,
    RefusedError,
    StoredFileError,
    UnavailableError,
    fault_of,
)
from evergallery.serving.schemas import ErrorAnswer

log = logging.getLogger("evergallery.serving")


class OverloadedError(EvergalleryError):
    """More is asked for at once than can be answered in time."""


KINDS: dict[type[EvergalleryError], tuple[int, str]] = {
    InputError: (422, "invalid"),
    NotFoundError: (404, "not_found"),
    RefusedError: (409, "refused"),
    BusyError: (423, "busy"),
    StoredFileError: (503, "unavailable"),
    ReadOnlyError: (503, "unavailable"),
    FullError: (503, "unavailable"),
    UnavailableError: (503, "unavailable"),
    MissingExtraError: (503, "unavailable"),
    OverloadedError: (503, "unavailable"),
}
DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)
"""Numbers of the errors of a disk that is full, or may not be used."""
CODES = {
    400: "invalid",
    401: "unauthorised",
    403: "forbidden",
    404: "not_found",
    405: "invalid",
    408: "invalid",
    413: "too_large",
    415: "invalid",
    421: "forbidden",
    422: "invalid",
    429: "rate_limited",
    503: "unavailable",
}
SENTENCES = {
    404: "There is nothing at this address.",
    405: "This address does not know this method.",
}
RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorAnswer, "description": description}
    for status, description in {
        400: "The request cannot be read.",
        401: "A token is needed, or it is not known.",
        403: "The token does not allow it.",
        404: "Not found.",
        408: "The request came too slowly.",
        409: "Refused: it would give wrong results.",
        413: "Too large.",
        415: "Of another media type than is understood.",
        422: "Invalid.",
        423: "Busy: another job or process excludes this.",
        429: "Too many requests; `Retry-After` says when to come again.",
        503: "Not available now.",
    }.items()
}


class DeniedError(Exception):
    """A request that may not be made."""

    def __init__(self, status: int, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers


def failure(status: int, message: str, code: str | None = None, headers: dict[str, str] | None = None) -> JSONResponse:
    """An error as clients see it."""
    return JSONResponse(
        {"error": {"code": code or CODES.get(status, "internal"), "message": message}}, status, headers=headers
    )


def status_of(error: Exception) -> tuple[int, str]:
    """The HTTP status and the code of an error."""
    if isinstance(error, OSError) and error.errno in DISK:
        return 503, "unavailable"
    return next((told for kind, told in KINDS.items() if isinstance(error, kind)), (500, "internal"))


def failure_of(error: Exception, state: Mapping[str, Any], explain: Callable[[Exception], str]) -> JSONResponse:
    """An error of this program's, or one that nobody foresaw, as clients see it; what is the server's fault is logged."""
    status, code = status_of(error)
    if status >= 500:
        log.error("a request failed", exc_info=error, extra={"told": {"id": state.get("id")}})
    return failure(status, explain(error), code, {"Retry-After": "1"} if status == 503 else None)


class UnexpectedErrors:
    """Answers what nobody foresaw, from whatever stands behind it.

    Args:
        app: what stands behind it.
        explain: the sentence of an error.
    """

    def __init__(self, app: ASGIApp, explain: Callable[[Exception], str]) -> None:
        self._app = app
        self._explain = explain

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it."""
        begun = False

        async def sent(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, sent)
        except Exception as error:
            # Half an answer cannot be taken back: the connection breaks, and the client sees that it is not whole.
            if begun or scope["type"] != "http":
                raise
            await failure_of(error, scope.get("state", {}), self._explain)(scope, receive, send)


def explain_failures(app: FastAPI, explain: Callable[[Exception], str]) -> None:
    """Let an application answer in this form whatever its routes raise on purpose."""

    async def ours(request: Request, error: Exception) -> JSONResponse:
        return failure_of(error, request.scope["state"], explain)

    async def denied(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, DeniedError), "Starlette calls a handler for its own kind"
        return failure(error.status, str(error), headers=error.headers)

    async def invalid(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError), "Starlette calls a handler for its own kind"
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][1:]) or str(first["loc"][0])
        return failure(422, f"{where}: {fault_of(error)}.")

    async def gone(_: Request, __: Exception) -> JSONResponse:
        return failure(400, "The connection ended before the request was whole: send it again.")

    async def http(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException), "Starlette calls a handler for its own kind"
        told = SENTENCES.get(error.status_code, error.detail or HTTPStatus(error.status_code).phrase)
        return failure(error.status_code, str(told), headers=dict(error.headers or {}))

    app.add_exception_handler(EvergalleryError, ours)
    app.add_exception_handler(OSError, ours)
    app.add_exception_handler(DeniedError, denied)
    app.add_exception_handler(ClientDisconnect, gone)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http)
