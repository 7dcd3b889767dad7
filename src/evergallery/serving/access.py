"""Who asks, and what they may do."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from evergallery.serving.failures import Denied
from evergallery.serving.schemas import Scope
from evergallery.serving.service import Service

SCOPES: tuple[Scope, ...] = ("read", "write", "admin")


@dataclass(frozen=True)
class Caller:
    """Somebody who asks.

    Attributes:
        name: of the token, for the log; ``anonymous`` without one.
        scope: the widest that they have.
        anonymous: whether they showed no token.
    """

    name: str
    scope: Scope
    anonymous: bool

    @property
    def scopes(self) -> tuple[Scope, ...]:
        """All that they may do."""
        return SCOPES[: SCOPES.index(self.scope) + 1]


def service_of(request: Request) -> Service:
    """The service behind a request."""
    service: Service = request.app.state.service
    return service


def caller_of(request: Request) -> Caller:
    """Who makes a request.

    Raises:
        Denied: a token is needed and there is none, or it is not known.
    """
    tokens, anonymous = request.app.state.tokens, request.app.state.anonymous
    kind, _, given = request.headers.get("Authorization", "").partition(" ")
    if kind.lower() == "bearer" and given:
        token = tokens.verify(given.strip())
        if token is None:
            raise Denied(401, "This token is not known: ask for another one.", {"WWW-Authenticate": "Bearer"})
        caller = Caller(token.name, token.scope, False)
    elif anonymous is None or tokens.all():
        raise Denied(
            401, "This server asks for a token: give it as  Authorization: Bearer TOKEN", {"WWW-Authenticate": "Bearer"}
        )
    else:
        caller = Caller("anonymous", anonymous, True)
    request.state.caller = caller
    return caller


Served = Annotated[Service, Depends(service_of)]
Called = Annotated[Caller, Depends(caller_of)]


def require(scope: Scope) -> Callable[[Called], Awaitable[None]]:
    """What lets only callers of a scope pass."""

    async def check(caller: Called) -> None:
        if scope in caller.scopes:
            return
        if caller.anonymous:
            raise Denied(403, f"Without a token this server only reads: this needs the scope {scope}.")
        raise Denied(403, f"The token {caller.name} has the scope {caller.scope}, and this needs {scope}.")

    return check
