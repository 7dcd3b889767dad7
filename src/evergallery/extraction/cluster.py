"""Extraction on a Ray cluster: its workers read, hash, decode and embed what this process asks for, and keep nothing.

This process keeps whatever must be exact: which images there are, which are known, their order, what is stored. So a batch
whose worker died is done again by another one, and its answers are taken once. A batch that dies again, alone on its worker, is
parted until the image that kills is found, which is then skipped by name.
"""

import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Self

import numpy as np

from evergallery._version import __version__
from evergallery.data.images import UnreadableImage
from evergallery.data.images.decoding import largest_image
from evergallery.data.listing import Entry
from evergallery.data.roots import Roots
from evergallery.data.streaming import (
    Picture,
    batch_size,
    grouped,
)
from evergallery.errors import BusyError, InputError
from evergallery.extraction.connecting import connected
from evergallery.extraction.extraction import ItemAnswer, PictureAnswer, Tag
from evergallery.extraction.images import FAILED, ImageSource
from evergallery.extraction.worker import ItemToRenew, Refusal, Work, Worker
from evergallery.gallery.items import Item
from evergallery.generations.card import CARD
from evergallery.generations.generation import HEAD, LEARNED_FROM, MEMORY, Generation
from evergallery.holdings.notes import Problem

PER_WORKER = 2
"""Batches that a worker has at once: it decodes one while its network looks at the other."""
PARTS = 4
"""The number of assignments into which one that has killed its worker is parted."""
DEATHS_IN_A_ROW = 12
"""Workers that die without one batch done between them: it is not the images then."""
PATIENCE = 300.0
"""Seconds to wait for the first worker; a cluster that grows needs minutes for a machine."""


@dataclass(frozen=True)
class WorkerDeath:
    """The answer for an input whose workers died."""

    reason: str = (
        "the worker that looked at it was killed, and so was the next one: it may want more memory than there is."
    )


@dataclass(eq=False)
class PendingBatch:
    """A batch of inputs that was asked for, and as much of its answers as is there.

    Attributes:
        inputs: what the workers are sent.
        answers: one for each input, ``None`` where there is none yet.
        left: how many are still to come.
        future: of all answers.
    """

    inputs: Sequence[Any]
    answers: list[Any]
    left: int
    future: "Future[list[Any]]"


@dataclass(eq=False)
class Assignment:
    """The inputs of a pending batch that go to a worker together.

    Attributes:
        pending: the batch that they are of.
        work: what is to be done.
        start: the first of its inputs.
        stop: the one after the last.
        deaths: of workers that had it.
    """

    pending: PendingBatch
    work: Work
    start: int
    stop: int
    deaths: int = 0

    @property
    def inputs(self) -> Sequence[Any]:
        """The inputs themselves."""
        return self.pending.inputs[self.start : self.stop]

    def answer(self, answers: Sequence[Any]) -> None:
        """Put the answers to these inputs into their batch."""
        self.pending.answers[self.start : self.stop] = answers
        self.pending.left -= self.stop - self.start
        if not self.pending.left:
            self.pending.future.set_result(self.pending.answers)

    def parted(self) -> list["Assignment"]:
        """Smaller assignments of the same inputs."""
        step = -(-(self.stop - self.start) // PARTS)
        starts = range(self.start, self.stop, step)
        return [replace(self, start=start, stop=min(start + step, self.stop), deaths=1) for start in starts]


@dataclass(eq=False)
class WorkerHandle:
    """A worker as this process sees it.

    Attributes:
        actor: Ray's handle of it.
        is_ready: whether it has the generation.
        is_gone: whether it died.
        assignments: that it has.
    """

    actor: Any
    is_ready: bool = False
    is_gone: bool = False
    assignments: list[Assignment] = field(default_factory=list)

    def has_room(self, assignment: Assignment) -> bool:
        """Return whether it may be given an assignment, too.

        One that a worker has died of is alone with the next worker, so that no other assignment is blamed.
        """
        if not self.is_ready or len(self.assignments) >= PER_WORKER:
            return False
        return not self.assignments or not (assignment.deaths or any(other.deaths for other in self.assignments))


class Cluster:
    """An extraction by the workers of a cluster, which end with the block.

    One thread hears of all that happens and hands out the batches, so that nothing here is shared. No more batches are under way
    than a few for each worker.

    Args:
        address: of a Ray cluster, as ``ray.init`` takes it; ``local`` starts one on this machine. A process that is connected
            already stays so.
        generation: whose embedder the workers run; they are sent its files.
        workers: how many; one for each GPU of the cluster by default, or else for each CPU.

    Raises:
        MissingExtraError: ray is not installed.
        NotFoundError: nothing answers at the address.
        InputError: it cannot be used, or its machines cannot run the generation.
        BusyError: it has no room for a worker.
    """

    def __init__(self, address: str, generation: Generation, workers: int | None = None) -> None:
        self.address = address
        self.generation = generation
        self.how: Mapping[str, str] = {}
        self._files = _files_of(generation)
        self._wanted = workers
        self._stack = ExitStack()
        self._happened: queue.Queue[Callable[[], None] | None] = queue.Queue()
        self._waiting: deque[Assignment] = deque()
        self._workers: list[WorkerHandle] = []
        self.deaths = 0
        """The number of workers that have died so far."""
        self._deaths_in_a_row = 0
        self._failure: Exception | None = None
        self._first: Future[None] = Future()
        self._thread = threading.Thread(target=self._listen, daemon=True)

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._ray = stack.enter_context(connected(self.address, self._wanted))
            machines = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
            with_gpu = [machine for machine in machines if machine.get("GPU", 0) >= 1]
            self._on_gpu = bool(with_gpu)
            # A machine's processors are shared out among its GPUs, to read and decode for them.
            processors = (int(machine.get("CPU", 0) // machine["GPU"]) for machine in with_gpu)
            self._threads = max(1, min(processors, default=1))
            counted = "GPU" if with_gpu else "CPU"
            self.size = self._wanted or int(sum(machine.get(counted, 0) for machine in machines)) or 1
            self._remote = self._ray.remote(Worker).options(
                num_cpus=self._threads, num_gpus=int(self._on_gpu), max_concurrency=PER_WORKER, max_restarts=0
            )
            self._sent = self._ray.put(self._files)
            stack.callback(self._dismiss)
            self._thread.start()
            for _ in range(self.size):
                self._happened.put(self._hire)
            try:
                self._first.result(PATIENCE)
            except TimeoutError:
                raise self._no_room() from None
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def read(self, entries: Iterable[Entry]) -> Generator[Picture | UnreadableImage, None, None]:
        """The files of entries, hashed; their data stays where it was read."""
        groups = ((None, group) for group in grouped(entries, batch_size(self.generation.preprocessing.size)))
        for _, found in self._answers("read", groups, lambda entry, reason: UnreadableImage(entry.uri, reason)):
            yield from found

    def embed(
        self, batches: Iterable[tuple[Tag, Sequence[Picture]]], most: int
    ) -> Generator[tuple[Tag, list[PictureAnswer]], None, None]:
        """The vectors of pictures."""
        yield from self._answers("embed", batches, lambda picture, reason: UnreadableImage(picture.entry.uri, reason))

    def renew(
        self, batches: Iterable[Sequence[Item]], most: int, known: ImageSource | None, roots: Roots
    ) -> Generator[tuple[Sequence[Item], list[ItemAnswer]], None, None]:
        """New vectors of stored items; what is known of their images is sent along."""

        def to_renew(item: Item) -> ItemToRenew:
            image = known(item.content_hash) if known is not None and item.content_hash else None
            return replace(item, embedding=np.empty(0, np.float32)), image, roots

        sending = ((batch, [to_renew(item) for item in batch]) for batch in batches)
        yield from self._answers("renew", sending, lambda sent, reason: Problem(sent[0].id, FAILED, reason))

    def _answers(
        self,
        work: Work,
        batches: Iterable[tuple[Tag, Sequence[Any]]],
        fatal: Callable[[Any, str], Any],
    ) -> Generator[tuple[Tag, list[Any]], None, None]:
        """The answers to each batch, in order; a few more are begun than the workers have."""
        begun: deque[tuple[Tag, PendingBatch]] = deque()

        def first() -> tuple[Tag, list[Any]]:
            tag, pending = begun.popleft()
            answers = zip(pending.inputs, pending.future.result(), strict=True)
            return tag, [
                fatal(sent, answer.reason) if isinstance(answer, WorkerDeath) else answer for sent, answer in answers
            ]

        for tag, inputs in batches:
            begun.append((tag, self._ask(work, inputs)))
            if len(begun) > (PER_WORKER + 1) * self.size:
                yield first()
        while begun:
            yield first()

    def _ask(self, work: Work, inputs: Sequence[Any]) -> PendingBatch:
        pending = PendingBatch(inputs, [None] * len(inputs), len(inputs), Future())
        if inputs:
            self._happened.put(lambda: self._on_request(Assignment(pending, work, 0, len(inputs))))
        else:
            pending.future.set_result([])
        return pending

    # What follows runs in the thread that listens.

    def _listen(self) -> None:
        while True:
            happened: Callable[[], None] | None = self._require_workers
            with suppress(queue.Empty):
                happened = self._happened.get(timeout=PATIENCE)
            if happened is None:
                return
            try:
                happened()
                self._hand_out()
            except Exception as error:
                self._fail(error)

    def _require_workers(self) -> None:
        if self._waiting and not any(worker.is_ready for worker in self._workers):
            raise self._no_room()

    def _no_room(self) -> BusyError:
        return BusyError(
            f"The cluster {self.address} has had no room for a worker in {PATIENCE:.0f} s: wait for those who use it, or add "
            f"machines, and run the command again."
        )

    def _on_request(self, assignment: Assignment) -> None:
        self._waiting.append(assignment)
        if self._failure is not None:
            self._fail(self._failure)

    def _hand_out(self) -> None:
        for worker in sorted(self._workers, key=lambda worker: len(worker.assignments)):
            while self._waiting and worker.has_room(self._waiting[0]):
                assignment = self._waiting.popleft()
                worker.assignments.append(assignment)
                made = worker.actor.do.remote(assignment.work, assignment.inputs)
                self._when_made(made, worker, partial(self._on_answers, worker, assignment))

    def _when_made(self, made: Any, worker: WorkerHandle, then: Callable[[Any], None]) -> None:
        """Once Ray has what a worker made, or knows that it died, go on with it here."""

        def hear(future: "Future[Any]") -> None:
            self._happened.put(lambda: self._on_result(future, worker, then))

        made.future().add_done_callback(hear)

    def _on_result(self, future: "Future[Any]", worker: WorkerHandle, then: Callable[[Any], None]) -> None:
        if worker.is_gone:
            # What it had is done again already.
            return
        error = future.exception()
        if error is None:
            result = future.result()
            if isinstance(result, Refusal):
                raise InputError(result.reason)
            then(result)
        elif isinstance(error, self._ray.exceptions.RayError) and not isinstance(
            error, self._ray.exceptions.RayTaskError
        ):
            self._on_death(worker, error)
        else:
            raise error

    def _hire(self) -> None:
        if self._failure is None:
            worker = WorkerHandle(self._remote.remote(self._threads, self._on_gpu, largest_image()))
            self._workers.append(worker)
            self._when_made(
                worker.actor.prepare.remote(__version__, self._sent), worker, lambda _: self._on_ready(worker)
            )

    def _on_ready(self, worker: WorkerHandle) -> None:
        worker.is_ready = True
        if not self._first.done():
            self._first.set_result(None)

    def _on_answers(self, worker: WorkerHandle, assignment: Assignment, answers: Sequence[Any]) -> None:
        self._deaths_in_a_row = 0
        worker.assignments.remove(assignment)
        assignment.answer(answers)

    def _on_death(self, worker: WorkerHandle, error: BaseException) -> None:
        worker.is_gone = True
        self._workers.remove(worker)
        self._ray.kill(worker.actor)
        for assignment in reversed(worker.assignments):
            assignment.deaths += 1
            if assignment.deaths == 1:
                self._waiting.appendleft(assignment)
            elif assignment.stop - assignment.start == 1:
                assignment.answer([WorkerDeath()])
            else:
                self._waiting.extendleft(reversed(assignment.parted()))
        self.deaths += 1
        self._deaths_in_a_row += 1
        if self._deaths_in_a_row == DEATHS_IN_A_ROW:
            reason = str(error).strip().splitlines()[-1].strip().rstrip(".")
            raise BusyError(
                f"{DEATHS_IN_A_ROW} workers of the cluster {self.address} have died in a row, the last one so: {reason}. What is "
                f"stored stays; see that its machines have Evergallery and memory enough, and run the command again."
            )
        self._hire()

    def _fail(self, error: Exception) -> None:
        """Tell whoever waits that nothing more can be done."""
        self._failure = error
        assignments = [*self._waiting, *(assignment for worker in self._workers for assignment in worker.assignments)]
        self._waiting.clear()
        for worker in self._workers:
            worker.assignments.clear()
            worker.is_gone = True
        for pending in {id(assignment.pending): assignment.pending for assignment in assignments}.values():
            pending.future.set_exception(error)
        if not self._first.done():
            self._first.set_exception(error)

    def _dismiss(self) -> None:
        self._happened.put(None)
        self._thread.join()
        for worker in self._workers:
            with suppress(self._ray.exceptions.RayError):
                self._ray.kill(worker.actor)


def _files_of(generation: Generation) -> dict[str, bytes]:
    """The files that it takes to run a generation's embedder, by name."""
    names = {CARD, *generation.card.checksums} - {HEAD, MEMORY, LEARNED_FROM}
    return {name: (generation.directory / name).read_bytes() for name in sorted(names)}
