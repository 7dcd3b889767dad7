"""Work that takes minutes, in a thread of its own: one at a time, watched, and stopped where it can go on later."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from evergallery.errors import BusyError, EvergalleryError, NotFoundError
from evergallery.watching import Stopped, Watcher

Kind = Literal["check", "matrix", "adapt", "plan", "refresh", "commit", "discard", "snapshot", "duplicates"]
State = Literal["running", "done", "stopped", "failed"]
log = logging.getLogger("evergallery.serving")

TELL_EVERY_SECONDS = 0.25


@dataclass
class Job:
    """One piece of work; only its thread and ``Jobs.stop`` change it."""

    id: str
    kind: Kind
    arguments: dict[str, Any]
    state: State = "running"
    done: int = 0
    total: int | None = None
    phase: str = "beginning"
    seconds: float = 0.0
    remaining_seconds: float | None = None
    error: str | None = None
    result: dict[str, Any] | None = None
    started: float = field(default_factory=time.monotonic, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """The job as JSON values."""
        told = asdict(self)
        del told["started"]
        if self.state == "running":
            told["seconds"] = time.monotonic() - self.started
        return told


class Jobs:
    """Runs one job at a time.

    Args:
        tell: hears of every change of a job, at most a few times a second while it runs.
        explain: the sentence of an error, for a client.
    """

    def __init__(self, tell: Callable[[dict[str, Any]], None], explain: Callable[[Exception], str]) -> None:
        self._tell = tell
        self._explain = explain
        self._one_at_a_time = threading.Lock()
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self._last: Job | None = None
        self._count = 0

    @property
    def last(self) -> Job | None:
        """The running job, or the last one."""
        return self._last

    def start(self, kind: Kind, arguments: dict[str, Any], work: Callable[[Watcher], dict[str, Any]]) -> Job:
        """Begin a job.

        Raises:
            BusyError: another one is running.
        """
        with self._one_at_a_time:
            if self._last is not None and self._last.state == "running":
                raise BusyError(f"A {self._last.kind} is running: wait for it to end, or stop it.")
            self._count += 1
            self._stop.clear()
            job = self._last = Job(f"j{self._count}", kind, arguments)
            self._thread = threading.Thread(target=self._run, args=(job, work), name=f"evergallery-{kind}")
            self._thread.start()
        self._tell(job.to_dict())
        return job

    def stop(self) -> Job:
        """Ask the running job to stop at the next place from which it can go on.

        Raises:
            NotFoundError: none has run.
        """
        if self._last is None:
            raise NotFoundError("No job has run since the server was started.")
        self.ask_to_stop()
        return self._last

    def ask_to_stop(self) -> None:
        """Ask whatever runs to stop at the next place from which it can go on."""
        self._stop.set()

    def close(self) -> None:
        """Stop what runs, and wait until it has."""
        self.ask_to_stop()
        if self._thread is not None:
            self._thread.join()

    def _run(self, job: Job, work: Callable[[Watcher], dict[str, Any]]) -> None:
        state: State
        try:
            job.result = work(_JobWatcher(job, self._stop, self._tell))
            state = "stopped" if job.result.get("stopped_by") == "request" else "done"
        except Stopped:
            state = "stopped"
        except Exception as error:
            job.error = self._explain(error)
            state = "failed"
            if not isinstance(error, EvergalleryError):
                log.error("a job failed", exc_info=error, extra={"told": {"job": job.id}})
        job.seconds = time.monotonic() - job.started
        job.remaining_seconds = None
        # Last of all: whoever reads that it has ended reads the rest too.
        job.state = state
        self._tell(job.to_dict())


class _JobWatcher(Watcher):
    def __init__(self, job: Job, stop: threading.Event, tell: Callable[[dict[str, Any]], None]) -> None:
        self.job = job
        self._stop = stop
        self._tell = tell
        self._told = 0.0
        self._began = time.monotonic()
        self._first = 0

    def counted(self, activity: str, done: int, total: int) -> None:
        if activity != self.job.phase:
            self.job.phase, self._began, self._first = activity, time.monotonic(), done
        self.job.done, self.job.total = done, total
        seconds, steps = time.monotonic() - self._began, done - self._first
        self.job.remaining_seconds = seconds / steps * (total - done) if steps > 0 else None
        self._now_and_then(done == total)
        if self._stop.is_set():
            raise Stopped

    def said(self, message: str) -> None:
        self.job.phase = message
        self._now_and_then(True)

    def _now_and_then(self, due: bool) -> None:
        if due or time.monotonic() - self._told >= TELL_EVERY_SECONDS:
            self._told = time.monotonic()
            self._tell(self.job.to_dict())
