"""The log: one JSON object a line on standard error; never an image, a vector, a token, or what was searched for."""

import json
import logging
import secrets
import time
import traceback
from datetime import UTC, datetime

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from evergallery.serving.metrics import Metrics
from evergallery.strings.redaction import redacted_values

log = logging.getLogger("evergallery.requests")


class JsonLines(logging.Formatter):
    """A record as one JSON object; what is in ``record.told`` joins it."""

    def format(self, record: logging.LogRecord) -> str:
        """A record as a line of JSON."""
        told = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            **getattr(record, "told", {}),
        }
        if record.exc_info and record.exc_info[1]:
            told["error"] = "".join(traceback.format_exception(record.exc_info[1]))
        return json.dumps(redacted_values(told), ensure_ascii=False)


def log_to_stderr() -> None:
    """Let this process log so: requests, and what goes wrong in the server."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines())
    for name, level in (("evergallery", logging.INFO), ("uvicorn", logging.WARNING)):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(level)
        logger.propagate = False


class RequestLog:
    """One line for each request, with an id that the answer bears too; and its time and status among the metrics."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        identifier, began, status = secrets.token_hex(8), time.perf_counter(), 500
        scope.setdefault("state", {})["id"] = identifier

        async def sent(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["X-Request-ID"] = identifier
            await send(message)

        try:
            await self._app(scope, receive, sent)
        finally:
            seconds = time.perf_counter() - began
            # The route and not the path, which may hold names of items.
            route = getattr(scope.get("route"), "path", None) or (
                "/static" if scope["path"].startswith("/static/") else "none"
            )
            self._metrics.answered(scope["method"], route, status, seconds)
            caller = scope["state"].get("caller")
            told = {
                "id": identifier,
                "method": scope["method"],
                "route": route,
                "status": status,
                "ms": round(1000 * seconds, 1),
                "caller": caller.name if caller else None,
                "scope": caller.scope if caller else None,
            }
            log.info("request", extra={"told": told})
