"""Access: who asks, what they may do, and how often they may ask."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Send
from starlette.types import Scope as Connection

from evergallery.serving.failures import DeniedError, failure
from evergallery.serving.limits import Limits, Takes
from evergallery.serving.schemas import Scope
from evergallery.serving.service import Service
from evergallery.serving.tokens import Tokens

SCOPES: tuple[Scope, ...] = ("read", "write", "admin")
UNCOUNTED = {"/healthz", "/readyz"}
"""Asked by whoever restarts a server that does not answer, whatever others do; they cost nothing, and tell nothing else."""
REMEMBERED = 10_000
"""Clients whose rate is remembered; beyond that the one that has been silent longest is forgotten."""


@dataclass(frozen=True)
class Caller:
    """Somebody who asks.

    Attributes:
        name: of the token, for the log; ``anonymous`` without one.
        scope: the widest that they have; ``None`` for somebody who has none.
        anonymous: whether they showed no token.
    """

    name: str
    scope: Scope | None
    anonymous: bool

    @property
    def scopes(self) -> tuple[Scope, ...]:
        """All that they may do."""
        return () if self.scope is None else SCOPES[: SCOPES.index(self.scope) + 1]


NOBODY = Caller("nobody", None, True)


class Access:
    """Knows callers by their tokens.

    Args:
        tokens: of the workspace; where there is one, everybody needs one.
        anonymous: what callers without a token may do while none is demanded; ``None`` for nothing.
        demanded: whether the workspace demands one though there is none.
    """

    def __init__(self, tokens: Tokens, anonymous: Scope | None, demanded: Callable[[], bool]) -> None:
        self._tokens = tokens
        self._anonymous: Scope | None = anonymous
        self._demanded = demanded
        self._were_tokens = False

    def caller(self, authorization: str) -> Caller:
        """Return who sends an ``Authorization`` header; without scopes where it names no token, and one is needed."""
        kind, _, given = authorization.partition(" ")
        if kind.lower() == "bearer" and given.strip():
            token = self._tokens.verify(given.strip())
            return NOBODY if token is None else Caller(token.name, token.scope, False)
        # Nor does this process forget it, where nobody could write it down.
        self._were_tokens = self._were_tokens or bool(self._tokens.all())
        if self._anonymous is None or self._were_tokens or self._demanded():
            return NOBODY
        return Caller("anonymous", self._anonymous, True)


class Authentication:
    """Finds out who calls, and lets nobody call more often than they may.

    Args:
        app: what stands behind it.
        access: knows the callers.
        limits: of a rate.
    """

    def __init__(self, app: ASGIApp, access: Access, limits: Limits) -> None:
        self._app = app
        self._access = access
        self._rates = RateLimiter(limits.rate, limits.burst)

    async def __call__(self, scope: Connection, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        if scope["path"] in UNCOUNTED:
            scope.setdefault("state", {})["caller"] = NOBODY
            return await self._app(scope, receive, send)
        caller = self._access.caller(Headers(scope=scope).get("authorization", ""))
        scope.setdefault("state", {})["caller"] = caller
        # Callers without a token share a rate with whoever else is at their address, and so do those who try tokens.
        client = (scope.get("client") or ("unknown",))[0]
        wait = self._rates.wait(("address", client) if caller.anonymous else ("token", caller.name))
        if wait > 0:
            answer = failure(
                429,
                f"That were too many requests: wait {wait:.1f} seconds.",
                headers={"Retry-After": str(int(wait) + 1)},
            )
            return await answer(scope, receive, send)
        return await self._app(scope, receive, send)


class RateLimiter:
    """A bucket of tokens for each client: full at first, one taken by each request, filled again at a steady rate.

    Args:
        rate: requests a second in the long run; 0 for any number.
        burst: requests at once.
    """

    def __init__(self, rate: float, burst: int) -> None:
        self._rate = rate
        self._burst = burst
        self._buckets: OrderedDict[tuple[str, str], tuple[float, float]] = OrderedDict()
        self._one_at_a_time = threading.Lock()

    def wait(self, client: tuple[str, str]) -> float:
        """Seconds after which a client may come again; 0 where this request may be made, and is counted."""
        if self._rate <= 0:
            return 0.0
        now = time.monotonic()
        with self._one_at_a_time:
            left, since = self._buckets.pop(client, (float(self._burst), now))
            left = min(float(self._burst), left + (now - since) * self._rate)
            self._buckets[client] = (left - 1 if left >= 1 else left), now
            while len(self._buckets) > REMEMBERED:
                self._buckets.popitem(last=False)
        return 0.0 if left >= 1 else (1 - left) / self._rate


def service_of(request: Request) -> Service:
    """The service behind a request."""
    service: Service = request.app.state.service
    return service


def caller_of(request: Request) -> Caller:
    """Return who makes a request.

    Raises:
        DeniedError: nobody who may do anything.
    """
    caller: Caller = request.state.caller
    if caller.scope is None:
        given = "authorization" in request.headers
        raise DeniedError(
            401,
            "This token is not known here: ask for another one."
            if given
            else "This server asks for a token: give it as  Authorization: Bearer TOKEN",
            {"WWW-Authenticate": "Bearer"},
        )
    return caller


async def _served(request: Request) -> Service:
    # What is no coroutine is sent to a thread and waited for, which costs more than the function.
    return service_of(request)


async def _called(request: Request) -> Caller:
    return caller_of(request)


Served = Annotated[Service, Depends(_served)]
Called = Annotated[Caller, Depends(_called)]


@dataclass(frozen=True)
class Admission:
    """Lets only callers of a scope pass, with no more than the route takes; a dependency of every route but a few.

    Attributes:
        scope: that is needed.
        takes: what comes with a request, where anything does.
    """

    scope: Scope
    takes: Takes = "one"

    async def __call__(self, caller: Called) -> None:
        """Let a caller pass.

        Raises:
            DeniedError: they may not.
        """
        if self.scope in caller.scopes:
            return
        if caller.anonymous:
            raise DeniedError(403, f"Without a token this server only reads: this needs the scope {self.scope}.")
        raise DeniedError(403, f"The token {caller.name} has the scope {caller.scope}, and this needs {self.scope}.")
