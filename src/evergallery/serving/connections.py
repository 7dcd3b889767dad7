"""Connections: how long one may be silent, or leave its answers unread, and how many there may be.

A request begins with its head. Nobody knows whose it is before all of that has come, so silence costs most there: a connection
that sends half a head, a byte now and then, or nothing at all is closed. Where there are too many, the one that has waited
longest for a request makes room, so that those who say nothing keep nobody out.
"""

import asyncio
import resource
import socket
from dataclasses import dataclass
from functools import partial
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol


@dataclass(frozen=True)
class ConnectionLimits:
    """The number of connections that there may be, and the time that they may take.

    Attributes:
        connections: at once; of more, one that waits for a request is closed, and where none does, 503 is answered.
        head_seconds: for the head of a request: from the connection's beginning, or from a later request's first byte.
        kept_seconds: for which a connection is kept that asks nothing more.
        unread_seconds: for which an answer may wait to be read.
    """

    connections: int = 1000
    head_seconds: float = 10.0
    kept_seconds: int = 15
    unread_seconds: float = 30.0

    def options(self) -> dict[str, Any]:
        """The limits as options of uvicorn's ``Config``."""
        waiting: dict[Connection, None] = {}
        return {
            "http": partial(Connection, limits=self, waiting=waiting),
            "limit_concurrency": self.connections + 1,
            "timeout_keep_alive": self.kept_seconds,
            # No socket is taken over from HTTP here.
            "ws": "none",
        }


class Connection(H11Protocol):
    """One connection.

    Args:
        limits: with it.
        waiting: connections that wait for a request, of all connections; who has waited longest is first.
    """

    def __init__(
        self, *arguments: Any, limits: ConnectionLimits, waiting: "dict[Connection, None]", **named: Any
    ) -> None:
        super().__init__(*arguments, **named)
        self._limits = limits
        self._waiting = waiting
        self._head: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None
        self._refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Somebody has connected."""
        super().connection_made(transport)
        while len(self.connections) > self._limits.connections and self._waiting:
            next(iter(self._waiting))._end()
        self._waiting[self] = None
        self._head = self.loop.call_later(self._limits.head_seconds, self._end)

    def data_received(self, data: bytes) -> None:
        """Something has come."""
        if self._refused:
            return
        super().data_received(data)
        if self._waits:
            if self._head is None and not self.transport.is_closing():
                self._head = self.loop.call_later(self._limits.head_seconds, self._end)
        else:
            self._forget()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no request, or has a head that is too long, and hear the rest of it out.

        An answer is lost on its way where a socket is closed that still has something to read. What spoils the body of a request
        that is being answered ends its connection at once.
        """
        if not self._waits:
            super().send_400_response(msg)
            return
        text = f"{msg} An address and its headers take 16 KB at most, together.\n".encode()
        headers = {"Content-Type": "text/plain; charset=utf-8", "Content-Length": str(len(text)), "Connection": "close"}
        for event in (
            h11.Response(status_code=400, reason=b"Bad Request", headers=list(headers.items())),
            h11.Data(data=text),
            h11.EndOfMessage(),
        ):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.write_eof()
        self._refused = True

    def on_response_complete(self) -> None:
        """An answer has been given away."""
        super().on_response_complete()
        if self.transport.is_closing():
            # What nobody reads would keep it open.
            self.loop.call_later(self._limits.unread_seconds, self.transport.abort)
        elif self._waits:
            self._waiting[self] = None

    def pause_writing(self) -> None:
        """More waits to be read than should."""
        super().pause_writing()
        self._unread = self.loop.call_later(self._limits.unread_seconds, self._end)

    def resume_writing(self) -> None:
        """Note that what waited was read: the client may be slow, but is there."""
        super().resume_writing()
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody is there any more."""
        self._forget()
        if self._unread is not None:
            self._unread.cancel()
        super().connection_lost(exc)

    @property
    def _waits(self) -> bool:
        """Return whether the connection waits for a request."""
        return self.cycle is None or self.cycle.response_complete

    def _forget(self) -> None:
        """Note that the connection waits for no request any more."""
        self._waiting.pop(self, None)
        if self._head is not None:
            self._head.cancel()
            self._head = None

    def _end(self) -> None:
        self._forget()
        # Its place is free from now on; what becomes of the socket is heard later.
        self.connections.discard(self)
        self.transport.abort()


class Server(uvicorn.Server):
    """A server that leaves no connection open when it ends.

    uvicorn asks connections to close, and those that still hold an answer which nobody reads never do.
    """

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Finish the requests, for as long as the configuration allows; then cut off what is left."""
        await super().shutdown(sockets)
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        # What was aborted is closed when the loop comes around.
        await asyncio.sleep(0)


def room_for(connections: int, beside: int = 512) -> int:
    """Return how many connections this process may have: its limit of open files is raised, as far as that is allowed.

    Args:
        connections: that are wanted.
        beside: files that it needs besides.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + beside
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return connections if soft == resource.RLIM_INFINITY else max(16, min(connections, soft - beside))
