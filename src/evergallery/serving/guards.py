"""Guards that every request passes before it is read: whose name the server is called by, and what is left unread."""

import asyncio
import ipaddress
from collections.abc import Collection
from contextlib import suppress
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from evergallery.serving.failures import failure
from evergallery.serving.limits import Limits

HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob: data:; object-src 'none'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
SAFE = {"GET", "HEAD", "OPTIONS"}


class SecurityHeaders:
    """Says to browsers what a page from here may do; answers are not kept unless they say so."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it."""

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                # The page's files are asked for anew by their tags; what the gallery holds is kept nowhere.
                headers.setdefault("Cache-Control", "no-store" if scope["path"].startswith("/api/") else "no-cache")
            await send(message)

        await self._app(scope, receive, sent if scope["type"] == "http" else send)


class KnownHosts:
    """Answers only to names that the server is known by, and lets no other site's page change anything without a token.

    A page of another site cannot read what is answered here, unless it makes the browser believe that its own name leads to
    this address (DNS rebinding): such requests bear a foreign ``Host``. What it can do is send a form: such requests bear its
    ``Origin``. A request with a token was not made by a foreign page, which knows none.

    Args:
        app: what stands behind it.
        names: hosts without ports; ``None`` for any.
    """

    def __init__(self, app: ASGIApp, names: Collection[str] | None) -> None:
        self._app = app
        self._names = None if names is None else {name.lower() for name in names}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it."""
        refusal = self._refusal(scope) if scope["type"] == "http" else None
        if refusal is None:
            return await self._app(scope, receive, send)
        return await refusal(scope, receive, send)

    def _refusal(self, scope: Scope) -> ASGIApp | None:
        headers = Headers(scope=scope)
        if "transfer-encoding" in headers and "content-length" in headers:
            # Whoever passes it on may see two requests where there is one.
            return failure(400, "The request has two lengths: send Content-Length or Transfer-Encoding.")
        host = headers.get("host", "")
        if self._names is not None and host_of(host) not in self._names:
            return failure(421, "This server is not known by that name: name it with  --name  when it is started.")
        origin, site = headers.get("origin"), headers.get("sec-fetch-site", "none")
        foreign = site not in ("none", "same-origin") or (origin is not None and urlsplit(origin).netloc != host)
        if foreign and scope["method"] not in SAFE and "authorization" not in headers:
            return failure(403, "A page of another site asked for this: only this server's own page may, or a token.")
        return None


class UnreadBodies:
    """Closes the connection of a request that was answered before all of it had come.

    What still comes is thrown away for a moment first: a client that is sending would otherwise find its connection broken, and
    not read why.

    Args:
        app: what stands behind it.
        limits: of that moment, and of what is thrown away.
    """

    def __init__(self, app: ASGIApp, limits: Limits) -> None:
        self._app = app
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        complete = headers.get("content-length", "0") == "0" and "transfer-encoding" not in headers
        closing = False

        async def received() -> Message:
            nonlocal complete
            message = await receive()
            complete = complete or not message.get("more_body", False)
            return message

        async def sent(message: Message) -> None:
            nonlocal closing
            if message["type"] == "http.response.start" and not complete:
                closing = True
                MutableHeaders(scope=message)["Connection"] = "close"
            if closing and message["type"] == "http.response.body" and not message.get("more_body", False):
                await send({**message, "more_body": True})
                await throw_away()
                message = {"type": "http.response.body", "body": b""}
            await send(message)

        async def throw_away() -> None:
            thrown = 0
            with suppress(TimeoutError):
                async with asyncio.timeout(self._limits.left_seconds):
                    while not complete and thrown <= self._limits.body_bytes:
                        thrown += len((await received()).get("body", b""))

        await self._app(scope, received, sent)


def host_of(address: str) -> str:
    """The host in ``host:port``, in small letters; of IPv6 without brackets."""
    try:
        return (urlsplit(f"//{address}").hostname or "").lower()
    except ValueError:
        return ""


def is_loopback(host: str) -> bool:
    """Return whether nobody but this machine can reach an address."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
