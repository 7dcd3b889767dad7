"""A Firefox without a window, driven by WebDriver BiDi: Playwright drives only a Firefox of its own."""

import json
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

STARTING_SECONDS = 60


class Firefox:
    """One tab.

    Attributes:
        complaints: errors that the page has written, or has not caught.
    """

    def __init__(self, socket: Any) -> None:
        self._socket = socket
        self._numbers = count(1)
        self.complaints: list[str] = []
        self._send("session.new", capabilities={})
        self._send("session.subscribe", events=["log.entryAdded"])
        self._tab = self._send("browsingContext.getTree")["contexts"][0]["context"]

    def goto(self, address: str) -> None:
        """Open an address, and wait until it is loaded; where only what is behind its # changes, nothing is loaded."""
        self._send("browsingContext.navigate", context=self._tab, url=address, wait="complete")

    def evaluate(self, script: str) -> Any:
        """What a script gives, a promise awaited; anything that JSON has."""
        told = self._send(
            "script.evaluate", expression=f"Promise.resolve({script}).then(one => JSON.stringify(one ?? null))",
            target={"context": self._tab}, awaitPromise=True,
        )  # fmt: skip
        if told["type"] != "success":
            raise AssertionError(told["exceptionDetails"]["text"])
        return json.loads(told["result"]["value"])

    def until(self, script: str) -> None:
        """Wait until a script says yes."""
        for _ in range(400):
            if self.evaluate(f"Boolean({script})"):
                return
            time.sleep(0.05)
        raise AssertionError(f"never: {script}")

    def _send(self, method: str, **parameters: Any) -> Any:
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            told = json.loads(self._socket.recv(timeout=60))
            if told.get("method") == "log.entryAdded" and told["params"]["level"] == "error":
                self.complaints.append(told["params"]["text"])
            if told.get("id") == number:
                if told["type"] == "error":
                    raise AssertionError(f"{method}: {told['message']}")
                return told["result"]


@contextmanager
def firefox(program: str) -> Iterator[Firefox]:
    """Start one with a profile of its own, and end it."""
    from websockets.sync.client import connect

    with tempfile.TemporaryDirectory() as profile:
        process = subprocess.Popen(
            [program, "--headless", "--no-remote", "--profile", profile, "--remote-debugging-port=0"],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env={"HOME": profile, "PATH": "/usr/bin:/bin"},
        )  # fmt: skip
        try:
            assert process.stderr is not None
            address = None
            end = time.monotonic() + STARTING_SECONDS
            while address is None and time.monotonic() < end:
                address = re.search(r"WebDriver BiDi listening on (ws://\S+)", process.stderr.readline())
            assert address is not None, "Firefox did not start"
            with connect(f"{address[1]}/session", max_size=None) as socket:
                yield Firefox(socket)
        finally:
            process.kill()
            process.wait()
            if process.stderr is not None:
                process.stderr.close()
