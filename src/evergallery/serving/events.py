"""What listeners hear: the latest of each kind of event, so that a slow one misses nothing but the steps between."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from evergallery.errors import BusyError

HEARTBEAT = 15.0


class Events:
    """Server-sent events to any number of listeners; ``publish`` may be called by any thread."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._loop: asyncio.AbstractEventLoop | None = None
        self._listeners: set[_Listener] = set()
        self._closing = False

    def start(self) -> None:
        """Take the loop of the caller as the one of all listeners."""
        self._loop = asyncio.get_running_loop()

    def publish(self, event: str, data: dict[str, Any]) -> None:
        """Tell everyone."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._tell, event, data)

    def close(self) -> None:
        """End every stream."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._end)

    async def listen(self, present: dict[str, dict[str, Any]]) -> AsyncIterator[str]:
        """Events as they are written on the wire: what is present first, then what comes, and a sign of life between.

        Raises:
            BusyError: there are as many listeners as there may be.
        """
        if len(self._listeners) >= self._most:
            raise BusyError(f"{self._most} listeners hear of events already: close one of them.")
        listener = _Listener(dict(present))
        self._listeners.add(listener)
        return self._stream(listener)

    async def _stream(self, listener: "_Listener") -> AsyncIterator[str]:
        try:
            yield "retry: 2000\n\n"
            while not self._closing:
                for event, data in listener.take():
                    yield f"event: {event}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n"
                try:
                    await asyncio.wait_for(listener.news.wait(), HEARTBEAT)
                except TimeoutError:
                    yield ": still here\n\n"
        finally:
            self._listeners.discard(listener)

    def _tell(self, event: str, data: dict[str, Any]) -> None:
        for listener in self._listeners:
            listener.waiting[event] = data
            listener.news.set()

    def _end(self) -> None:
        self._closing = True
        for listener in self._listeners:
            listener.news.set()


class _Listener:
    def __init__(self, waiting: dict[str, dict[str, Any]]) -> None:
        self.waiting = waiting
        self.news = asyncio.Event()

    def take(self) -> list[tuple[str, dict[str, Any]]]:
        self.news.clear()
        taken, self.waiting = list(self.waiting.items()), {}
        return taken
