"""Events for listeners: the latest of each kind, so that a slow one misses nothing but the steps between."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

from evergallery.serving.failures import OverloadedError

HEARTBEAT = 15.0

Event = dict[str, Any]


class Events:
    """Server-sent events to any number of listeners; ``publish`` may be called by any thread.

    Args:
        most: listeners at once.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._loop: asyncio.AbstractEventLoop | None = None
        self._listeners: set[_Listener] = set()
        self._closing = False

    def start(self) -> None:
        """Take the loop of the caller as the one of all listeners."""
        self._loop = asyncio.get_running_loop()

    @property
    def heard(self) -> bool:
        """Return whether anybody listens."""
        return bool(self._listeners)

    def publish(self, event: str, data: Event) -> None:
        """Tell everyone."""
        self._call(self._tell, event, data)

    def close(self) -> None:
        """End every stream."""
        self._call(self._end)

    def listen(self, present: dict[str, Event], allowed: Callable[[], bool]) -> AsyncIterator[str]:
        """Events as they are written on the wire: what is present first, then what comes, and a sign of life between.

        Args:
            present: the latest of each kind.
            allowed: asked at every sign of life whether the listener may go on.

        Raises:
            OverloadedError: there are as many listeners as there may be.
        """
        if len(self._listeners) >= self._most:
            raise OverloadedError(f"{self._most} listeners hear of events already: close one of them.")
        listener = _Listener(present)
        self._listeners.add(listener)
        return self._stream(listener, allowed)

    async def _stream(self, listener: "_Listener", allowed: Callable[[], bool]) -> AsyncIterator[str]:
        try:
            yield "retry: 2000\n\n"
            while not self._closing:
                for event, data in listener.take():
                    yield f"event: {event}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n"
                try:
                    await asyncio.wait_for(listener.news.wait(), HEARTBEAT)
                except TimeoutError:
                    if not allowed():
                        return
                    yield ": still here\n\n"
        finally:
            self._listeners.discard(listener)

    def _call(self, what: Callable[..., None], *arguments: Any) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(what, *arguments)

    def _tell(self, event: str, data: Event) -> None:
        for listener in self._listeners:
            listener.waiting[event] = data
            listener.news.set()

    def _end(self) -> None:
        self._closing = True
        for listener in self._listeners:
            listener.news.set()


class _Listener:
    def __init__(self, waiting: dict[str, Event]) -> None:
        self.waiting = dict(waiting)
        self.news = asyncio.Event()

    def take(self) -> list[tuple[str, Event]]:
        self.news.clear()
        taken, self.waiting = list(self.waiting.items()), {}
        return taken
