"""The common part of the routes: one workspace with its searches, its changes, the running job, and who listens to them."""

import asyncio
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evergallery._version import __version__
from evergallery.errors import EvergalleryError
from evergallery.holdings.answer import Answer
from evergallery.holdings.comparing import space_of
from evergallery.holdings.state import State
from evergallery.serving import schemas
from evergallery.serving.budget import MemoryBudget
from evergallery.serving.canary import Canary, CanarySettings
from evergallery.serving.drift import REFERENCE, WATCHED, Drift
from evergallery.serving.events import Events
from evergallery.serving.held_out import HeldOutPictures
from evergallery.serving.jobs import Jobs, Kind
from evergallery.serving.limits import Limits
from evergallery.serving.metrics import GaugeValues, Metrics
from evergallery.serving.names import Names
from evergallery.serving.pictures import Pictures
from evergallery.serving.searches import Searches
from evergallery.serving.shadow import Shadow, ShadowSettings
from evergallery.serving.storing import ItemEditor
from evergallery.serving.threads import Threads
from evergallery.strings.redaction import redacted_text
from evergallery.upgrade.promotion import Promotion
from evergallery.watching import Watcher
from evergallery.workspace import Workspace

log = logging.getLogger("evergallery.serving")

LOOK_EVERY_SECONDS = 1.0
"""The interval at which listeners hear of the status at most, and of what another process changed."""


@dataclass(frozen=True)
class ServiceSettings:
    """The settings by which a workspace is served.

    Attributes:
        limits: of what a request may ask for.
        backups: where snapshots go; ``backups`` in the workspace by default.
        shadowing: which generation answers a sample of the searches too, and how.
        canarying: which generation answers some of the clients, and how.
        drift_reference: searches with which later ones are compared, to see whether queries drift; 0 for none.
    """

    limits: Limits = field(default_factory=Limits)
    backups: Path | None = None
    shadowing: ShadowSettings | None = None
    canarying: CanarySettings | None = None
    drift_reference: int = REFERENCE


class Service:
    """One workspace, served.

    Args:
        directory: of the workspace.
        settings: how it is served.

    Raises:
        NotFoundError: there is no workspace.
    """

    def __init__(self, directory: Path, settings: ServiceSettings) -> None:
        # Absolute, so that messages can be told without it, and pictures are found wherever the server runs.
        self.workspace = Workspace(directory.resolve())
        self.holdings = self.workspace.holdings
        self.settings = settings
        self.limits = limits = settings.limits
        self.backups = (settings.backups or self.holdings.directory / "backups").resolve()
        self.metrics = Metrics()
        self.threads = Threads()
        self.budget = MemoryBudget(limits.held_bytes)
        self.events = Events(limits.streams)
        self.jobs = Jobs(self._job_moved, self.explain)
        self.pictures = Pictures(self.holdings.directory, limits.upload_pixels)
        self.held_out = HeldOutPictures(self.holdings.directory / "held-out", self.pictures)
        reference = settings.drift_reference
        self.drift = Drift(self.holdings.directory, reference, self.threads.pool) if reference else None
        self.ready = False
        self._who_answers = threading.Lock()
        self._changed = True

    # Life

    def open(self) -> None:
        """Open the gallery, and load the model that answers, where that has not been done.

        Raises:
            BusyError: another process has the gallery.
            RefusedError: the gate refuses the canary.
        """
        if hasattr(self, "searches"):
            return
        try:
            self._open()
        except EvergalleryError:
            # Nobody serves it: others may have it.
            self.workspace.close()
            raise

    def _open(self) -> None:
        holdings = self.holdings
        _ = holdings.gallery, holdings.notes
        self.searches = Searches(holdings, self.pictures, self.threads, self.limits, self.metrics)
        self.editor = ItemEditor(holdings, self.pictures, self.searches, self._who_answers, self._items_changed)
        self.searches.drift = self.drift
        self.names = Names(holdings)
        self.pictures.prepare()
        if self.settings.shadowing is not None:
            self.searches.shadow = Shadow(holdings, self.settings.shadowing, self.searches.as_if, self.metrics)
            self.searches.load(holdings.generation(self.settings.shadowing.generation))
        if self.settings.canarying is not None:
            self.searches.canary = Canary(holdings, self.settings.canarying)
            self.searches.load(holdings.generation(self.settings.canarying.generation))
        if holdings.state.promoted is not None:
            self.searches.load(holdings.promoted)
            self.ready = True

    def close(self) -> None:
        """Stop the running job where it can go on, finish what is being answered, and release the gallery."""
        self.stop()
        self.jobs.close()
        if self.drift is not None:
            self.drift.close()
        self.threads.close()
        if hasattr(self, "searches"):
            self.searches.close()
        self.workspace.close()

    def stop(self) -> None:
        """Begin to end: listeners are let go, the running job is asked to stop."""
        self.ready = False
        self.events.close()
        self.jobs.ask_to_stop()

    async def watch(self) -> None:
        """Tell listeners of the status whenever it has changed, by this process or another; until it is cancelled."""
        seen: State | None = None
        while True:
            await asyncio.sleep(LOOK_EVERY_SECONDS)
            try:
                seen = await self._look(seen)
            except (EvergalleryError, OSError):
                log.exception("the status cannot be told")

    async def _look(self, seen: State | None) -> State:
        state = await self.threads.run(lambda: self.holdings.state)
        if seen is not None and state.promoted != seen.promoted:
            self.events.publish("promoted", {"promoted": state.promoted})
        if (self._changed or state != seen) and self.events.heard:
            self._changed = False
            self.events.publish("status", (await self.threads.run(self.status)).model_dump())
        return state

    def explain(self, error: Exception) -> str:
        """The sentence of an error; of one that nobody foresaw, only that there was one."""
        if not isinstance(error, EvergalleryError):
            return "Something went wrong in the server: its log says what."
        return self.told(str(error))

    def told(self, sentence: str) -> str:
        """A sentence without the place of the workspace on this machine, and without secrets."""
        return redacted_text(sentence).replace(str(self.holdings.directory), self.holdings.directory.name)

    # Switching

    def promote(self, generation: str, *, answer: Answer | None, force: bool, why: str | None) -> Promotion:
        """Let a generation answer; its model is loaded before anything changes.

        Raises:
            NotFoundError: no such generation.
            RefusedError: the gate refuses it.
        """
        self.searches.load(self.holdings.generation(generation))
        with self._who_answers:
            done = self.workspace.promote(generation, answer=answer, force=force, why=why)
        self._switched()
        return done

    def rollback(self) -> None:
        """Let the generation before answer again; its model is loaded before anything changes.

        Raises:
            RefusedError: there was none before, or the vectors that it searched were given up.
        """
        before = self._before()
        if before is not None:
            self.searches.load(self.holdings.generation(before))
        with self._who_answers:
            self.workspace.rollback()
        self._switched()

    def begin(
        self, kind: Kind, arguments: dict[str, Any], work: Callable[[Workspace, Watcher], dict[str, Any]]
    ) -> schemas.Job:
        """Begin a job.

        Raises:
            BusyError: another one is running.
        """

        def at_work(watcher: Watcher) -> dict[str, Any]:
            try:
                return work(self.workspace, watcher)
            finally:
                # A server stays for weeks, and looks at many images now and then.
                self.holdings.loaded.leave_gpu()

        job = self.jobs.start(kind, arguments, at_work)
        return schemas.Job.model_validate(job.to_dict())

    # Looking

    def info(self, *, writes: bool) -> schemas.Info:
        """Return what this server is."""
        limits = self.limits
        return schemas.Info(
            name=self.holdings.directory.name,
            version=__version__,
            promoted=self.holdings.state.promoted,
            items=sum(self.searches.counts.of(self.holdings.state.view()).values()),
            generations=[generation.name for generation in self.holdings.generations()],
            limits=schemas.InfoLimits(
                upload_bytes=limits.upload_bytes, upload_pixels=limits.upload_pixels, k=limits.k, batch=limits.batch
            ),
            writes=writes,
        )

    def status(self) -> schemas.Status:
        """Return where the workspace stands."""
        status = self.workspace.status()
        spaces = status.spaces or ()
        states = dict.fromkeys(("current", "compatible", "needs refresh", "image missing", "failed"), 0)
        for space in spaces:
            states[space.state] = states.get(space.state, 0) + space.items
        for kind, count in status.problems.items():
            states[kind] = states.get(kind, 0) + count
        before, job = self._before(), self.jobs.last
        return schemas.Status(
            promoted=status.promoted,
            answer=status.answer,
            forced=status.forced,
            items=sum(space.items for space in spaces),
            states=states,
            by_generation={space.name: space.items for space in spaces},
            refresh=schemas.Refresh.model_validate(vars(status.refresh)) if status.refresh else None,
            shadow=self._shadow(),
            canary=self._canary(),
            drift=None if self.drift is None else self.drift.told(),
            job=schemas.Job.model_validate(job.to_dict()) if job else None,
            can_roll_back_to=before,
            would_roll_back=self._would_roll_back(before),
        )

    def prometheus(self) -> bytes:
        """The metrics, as Prometheus reads them."""
        job = self.jobs.last
        running = job if job is not None and job.state == "running" else None
        counts = self.searches.counts.of(self.holdings.state.view())
        values = GaugeValues(
            items={space_of(self.holdings, space).name: count for space, count in counts.items()},
            promoted=self.holdings.state.promoted,
            job=None if running is None else (running.kind, running.done / running.total if running.total else 0.0),
            problems=self.holdings.notes.problems_by_kind(),
            ready=self.ready,
            drift=self._drift_figures(),
        )
        return self.metrics.read(values)

    # Inside

    def _before(self) -> str | None:
        """The generation that a rollback would promote."""
        name = self.holdings.state.last_promotion.get("before")
        return name if isinstance(name, str) else None

    def _shadow(self) -> schemas.Shadow | None:
        if self.searches.shadow is None:
            return None
        found = self.searches.shadow.told()
        return found.model_copy(update={"problem": None if found.problem is None else self.told(found.problem)})

    def _drift_figures(self) -> dict[str, dict[str, float]]:
        told = None if self.drift is None else self.drift.told()
        if told is None:
            return {}
        alarm = {name: float(name in told.alarms) for name in WATCHED}
        return {"distance": told.distances, "limit": told.limits, "alarm": alarm}

    def _canary(self) -> schemas.Canary | None:
        if self.searches.canary is None:
            return None
        found = self.searches.canary.told()
        return found.model_copy(update={"refused": None if found.refused is None else self.told(found.refused)})

    def _would_roll_back(self, before: str | None) -> str:
        state = self.holdings.state
        if before is None:
            return "No generation was promoted before this one: there is nothing to go back to."
        shown = bool(state.last_promotion.get("refresh shown before", False))
        vectors = ""
        if state.refresh is not None and state.refresh.shown != shown:
            vectors = f" The new vectors of the refresh {state.refresh.id} are {'shown' if shown else 'hidden'} again."
        return (
            f"{before} answers queries again in place of {state.promoted}, over the vectors that it searched.{vectors}"
        )

    def _switched(self) -> None:
        self.ready = True
        self._changed = True

    def _items_changed(self) -> None:
        self.searches.counts.forget()
        self.names.forget()
        self._changed = True

    def _job_moved(self, job: dict[str, Any]) -> None:
        self.events.publish("job", job)
        self._changed = True
