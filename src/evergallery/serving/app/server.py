"""The process: one server at one address, until it is told to stop."""

import ipaddress
import socket
import sys
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import uvicorn
from fastapi import FastAPI

from evergallery.errors import InputError, RefusedError
from evergallery.holdings.holdings import Holdings
from evergallery.serving.app.application import create_app
from evergallery.serving.connections import ConnectionLimits, Server, room_for
from evergallery.serving.guards import is_loopback
from evergallery.serving.limits import Limits
from evergallery.serving.local import local_socket
from evergallery.serving.logs import log_to_stderr
from evergallery.serving.schemas import Scope
from evergallery.serving.service import Service, ServiceSettings
from evergallery.serving.tokens import Tokens
from evergallery.workspace import Workspace

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")
WAITING = 1024
"""Connections that wait to be accepted."""
SAMPLE = 100
"""Items, of which it is told if nobody may open their images."""


@dataclass(frozen=True)
class Address:
    """The address of a server.

    Attributes:
        host: address to listen at; any but loopback needs tokens.
        port: 0 for any free one.
        names: by which else the server is called, behind a proxy.
        proxies: addresses or networks of proxies, whose ``X-Forwarded-For`` is believed; by default nobody's is.

    Raises:
        InputError: a proxy is none; callers are known by addresses, so that no name would ever be one.
    """

    host: str = "127.0.0.1"
    port: int = 8765
    names: Sequence[str] = ()
    proxies: Sequence[str] = ()

    def __post_init__(self) -> None:
        for proxy in self.proxies:
            try:
                ipaddress.ip_network(proxy, strict=False)
            except ValueError as error:
                raise InputError(
                    f"--proxy {proxy!r} is not usable: give the IP address of the proxy, or its network, as in 10.0.0.0/8."
                ) from error


@dataclass(frozen=True)
class TokenPolicy:
    """The policy of tokens.

    Attributes:
        allow_writes: on loopback, let everyone do everything without a token.
        require_token: whether a token is demanded while there is none, from now on; as before by default, which is so since the
            first one was made.
    """

    allow_writes: bool = False
    require_token: bool | None = None


USUAL_POLICY = TokenPolicy()


def serve(
    directory: Path,
    address: Address,
    settings: ServiceSettings,
    *,
    policy: TokenPolicy = USUAL_POLICY,
    images_from: Sequence[str] = (),
) -> None:
    """Serve a workspace until SIGTERM or Ctrl-C; requests that are running then are finished first.

    Args:
        directory: of the workspace.
        address: where it is found.
        settings: how it is served.
        policy: what a token is needed for.
        images_from: folders below which pictures of stored items may be opened, from now on.

    Raises:
        NotFoundError: there is no workspace.
        RefusedError: others could reach it, and nobody needs a token; or tokens shall not be demanded, and there are some; or the
            gate refuses the canary.
        BusyError: another process has the gallery.
        InputError: the address cannot be listened at.
    """
    rights = _rights(directory, address.host, policy)
    if images_from:
        Workspace(directory).allow_images(*images_from)
    names = (*LOOPBACK_NAMES, *address.names) if rights.local or address.names else None
    app = create_app(directory, settings, anonymous=rights.anonymous, names=names)
    service: Service = app.state.service
    with ExitStack() as stack:
        listening = stack.enter_context(listen(address.host, address.port))
        # Before anything is promised: what is wrong is said here, and whoever asks meanwhile waits.
        service.open()
        log_to_stderr()
        _say_if_nothing_is_shown(service)
        local = stack.enter_context(local_socket(service.holdings.directory))
        where = f"{directory.resolve().name} at http://{_netloc(listening)}"
        print(f"Serving {where} (allowed: {rights}). Ctrl-C ends it.", flush=True)
        sockets = [listening] if local is None else [listening, local]
        _Server(_config(app, address.proxies, settings.limits), service).run(sockets=sockets)


@dataclass(frozen=True)
class _Rights:
    """The rights of callers.

    Attributes:
        local: whether the server can be reached from this machine only.
        has_tokens: whether there are tokens.
        demanded: whether everybody needs one.
        everything: whether everybody may do everything without one.
    """

    local: bool
    has_tokens: bool
    demanded: bool
    everything: bool

    @property
    def anonymous(self) -> Scope | None:
        """Return what callers without a token may do."""
        return None if self.demanded else "admin" if self.everything else "read"

    def __str__(self) -> str:
        if self.everything:
            return "everything"
        if not self.demanded:
            return "reading"
        if self.has_tokens:
            return "what a token says"
        return "nothing until there is a token, made with  evergallery token create --scope read --name NAME"


def _rights(directory: Path, host: str, policy: TokenPolicy) -> _Rights:
    """Return what callers may do at an address, from now on.

    Raises:
        RefusedError: others could reach it, and nobody needs a token; or tokens shall not be demanded, and there are some.
        InputError: everybody shall do everything, and tokens are demanded.
    """
    local, has_tokens = is_loopback(host), bool(Tokens(directory).all())
    if policy.allow_writes and not local:
        raise RefusedError(
            f"Others could reach {host}: --allow-writes is for loopback; make tokens for those who write."
        )
    if not local and not has_tokens:
        raise RefusedError(
            f"Others could reach {host}: make a token first, with  evergallery token create --scope read --name NAME"
        )
    demanded = _demanded(directory, local, has_tokens, policy.require_token)
    if policy.allow_writes and demanded:
        raise InputError(
            "--allow-writes is for servers without tokens, and here they are demanded: make one that may write, with  "
            "evergallery token create --scope admin --name NAME"
        )
    return _Rights(local, has_tokens, demanded, policy.allow_writes)


def _config(app: FastAPI, proxies: Sequence[str], limits: Limits) -> uvicorn.Config:
    bounds = ConnectionLimits(connections=room_for(ConnectionLimits().connections))
    return uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="on",
        # Whoever may name an address of another would have as many rates as they like.
        proxy_headers=bool(proxies),
        forwarded_allow_ips=list(proxies),
        timeout_graceful_shutdown=int(limits.closing_seconds),
        **bounds.options(),
    )


def _netloc(listening: socket.socket) -> str:
    """Host and port of a socket, as they stand in a URL."""
    host, port = listening.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _demanded(directory: Path, local: bool, are_tokens: bool, require_token: bool | None) -> bool:
    """Return whether everybody needs a token, from now on; remembered by the workspace."""
    tokens = Tokens(directory)
    if require_token is False:
        if are_tokens or not local:
            raise RefusedError(
                "--no-require-token is for servers on loopback without tokens: revoke them first, with  "
                "evergallery token revoke NAME"
            )
        tokens.demand(False)
    elif require_token or are_tokens:
        # A workspace that cannot be written goes on as it is: the running server remembers.
        with suppress(OSError):
            tokens.demand()
    return are_tokens or not local or require_token is True or Holdings(directory).state.require_token


def _say_if_nothing_is_shown(service: Service) -> None:
    """Tell whoever starts a workspace of an earlier version, where no folder is allowed yet."""
    holdings = service.holdings
    first = next(iter(holdings.gallery.iterate(batch_size=SAMPLE, with_embeddings=False)), [])
    there = [item.uri for item in first if item.uri is not None and Path(item.uri).is_absolute()]
    if there and not any(map(holdings.roots.admits, there)):
        print(
            f"No small pictures are shown of images such as {there[0]}: allow their folder with  evergallery gallery "
            f"images-from FOLDER",
            file=sys.stderr,
            flush=True,
        )


class _Server(Server):
    """Lets listeners go, and asks the running job to stop, as soon as it is told to end itself."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal came; a second one ends the server without waiting for anybody."""
        self._service.stop()
        self.force_exit = self.should_exit
        self.should_exit = True


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens; connections to it send every answer at once.

    Raises:
        InputError: nothing can listen there.
    """
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.create_server(address[:2], family=family, backlog=WAITING)
    except OSError as error:
        raise InputError(
            f"Nothing can listen at {host}, port {port} ({error.strerror}): choose another one."
        ) from error
    # An answer's head and body are two packets. By default the second waits for the first to be acknowledged, which takes 40 ms;
    # asyncio knows that, but not for sockets that it did not make.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening
