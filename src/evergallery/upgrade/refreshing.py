"""The verb ``refresh``: stored items extracted again with a newer generation, or mapped by an adapter; resumable.

The new vectors lie beside the old ones until ``commit``. Searches see them at once where their generation is the promoted
one; otherwise they wait in the shadow and appear with its promotion, in the same change.
"""

import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from evergallery.data.image_set import ImageSet
from evergallery.data.streaming import in_background
from evergallery.errors import InputError, RefusedError, require_known, require_positive, require_share
from evergallery.extraction.extraction import ItemAnswer
from evergallery.extraction.opening import extracting
from evergallery.gallery.items import Filter, Item
from evergallery.holdings.comparing import answers_from_refresh
from evergallery.holdings.holdings import Holdings, changing
from evergallery.holdings.images import ImageReader
from evergallery.holdings.maps import Map
from evergallery.holdings.notes import Problem
from evergallery.holdings.spaces import Space
from evergallery.holdings.state import Refresh
from evergallery.upgrade.orders import ORDERS, order_of
from evergallery.upgrade.plan import Plan, RefreshProposal, share_for
from evergallery.upgrade.planning import measured_plan
from evergallery.upgrade.renewal import (
    before_refresh,
    given_images,
    mapped,
    maps_into,
    roots_for,
    target_of,
    to_refresh,
    with_vectors,
)
from evergallery.upgrade.settling import tidy
from evergallery.watching import SILENT, Stopped, Watcher

BATCH = 256
"""Items that are stored together where their images are looked at."""
FIRST_BATCH = 16
"""Items of the first batch of a refresh with a budget, which tells the pace of the others."""
FINE_SHARES = tuple(step / 20 for step in range(21))

Answers = Generator[tuple[Sequence[Item], list[ItemAnswer]], None, None]
"""Batches of items, each with their new vectors or why they have none."""


@dataclass(frozen=True)
class RefreshResult:
    """The result of a call of ``refresh``.

    Attributes:
        refresh: its id.
        generation: that queries the new vectors.
        refreshed: items that have a new vector now and had none before the call.
        remaining: items that keep their old vector so far.
        problems: of items whose image is gone or cannot be read; they keep their old vector.
        seconds: spent.
        stopped_by: ``done``, ``fraction``, ``until`` where the recall is to be expected, ``budget``, or ``request`` where the
            watcher asked for it.
        shown: whether searches see the new vectors.
    """

    refresh: str
    generation: str
    refreshed: int
    remaining: int
    problems: tuple[Problem, ...]
    seconds: float
    stopped_by: str
    shown: bool


@dataclass(frozen=True)
class _Queue:
    """Items on their way to new vectors.

    Attributes:
        wanted: how many are to have them when all is done.
        pending: those of them that have none yet, in order.
        left: how many of all items have none yet.
    """

    wanted: int
    pending: Sequence[Item]
    left: int


class TimeBudget:
    """The time of a refresh, and batches small enough to keep it.

    Args:
        started: when the call began, in seconds of ``time.monotonic``.
        seconds: from then on; ``None`` for as many as it takes.

    Attributes:
        done: items so far.
    """

    def __init__(self, started: float, seconds: float | None) -> None:
        self.end = None if seconds is None else started + seconds
        self.began = started
        self.done = 0

    def begin(self) -> None:
        """Measure the pace from now on."""
        self.began = time.monotonic()

    @property
    def is_spent(self) -> bool:
        """Return whether no time is left."""
        return self.end is not None and time.monotonic() >= self.end

    def batch(self, most: int) -> int:
        """Return how many items the next batch may have: a quarter of the time left, as the one after it is read meanwhile."""
        if self.end is None:
            return most
        if not self.done:
            return min(most, FIRST_BATCH)
        now = time.monotonic()
        pace = max(now - self.began, 1e-9) / self.done
        return max(1, min(most, int((self.end - now) / (4 * pace))))


@dataclass(frozen=True)
class _Pace:
    """The speed of a refresh, and its time.

    Attributes:
        rate: items a second, at most; ``None`` for as many as it can.
        budget: the time that it has.
        batch: items that are stored together, at most; ``None`` for as many as is usual.
    """

    rate: float | None
    budget: TimeBudget
    batch: int | None

    def batches(self, items: Sequence[Item], usual: int) -> Iterator[Sequence[Item]]:
        """Items in batches that keep the time, of as many as is usual at most."""
        most = self.batch or usual
        if self.rate is not None:
            # A limit of a few images a second would otherwise work for seconds and sleep for minutes.
            most = max(1, min(most, int(self.rate)))
        start = 0
        while start < len(items):
            batch = items[start : start + self.budget.batch(most)]
            yield batch
            start += len(batch)

    def wait(self, items: int, began: float) -> None:
        """Sleep as long as so many items should have taken and have not, since a moment of ``time.monotonic``."""
        if self.rate is not None:
            time.sleep(max(0.0, items / self.rate - (time.monotonic() - began)))


@dataclass
class _Progress:
    """The progress of a call so far.

    Attributes:
        done: items that have been dealt with.
        gained: items that have a new vector now and had none before.
        problems: of items that keep their old vector.
        stopped_by: ``request`` or ``budget``; ``None`` where nothing stopped it.
    """

    done: int
    gained: int = 0
    problems: list[Problem] = field(default_factory=list)
    stopped_by: str | None = None


def refresh(
    holdings: Holdings,
    generation: str,
    *,
    adapter: str | None = None,
    order: str = "random",
    fraction: float = 1.0,
    budget: float | None = None,
    until: float | None = None,
    rate: float | None = None,
    images: str | Path | ImageSet | None = None,
    data_dir: Path | None = None,
    cluster: str | None = None,
    workers: int | None = None,
    batch: int | None = None,
    watcher: Watcher = SILENT,
) -> RefreshResult:
    """Give stored items new vectors, by a newer generation or by an adapter; resumable, safe beside searches and adds.

    Where the generation is promoted, searches see each new vector at once; otherwise all of them wait in the shadow
    until it is. The earlier vectors stay until ``commit``, so that ``rollback`` is exact. Items whose image is gone
    keep their vector and are named.

    Args:
        generation: that queries the new vectors.
        adapter: maps the stored vectors, and no image is read.
        order: one of ``evergallery.upgrade.orders.ORDERS``.
        fraction: of the items, in (0, 1].
        budget: seconds after which to stop.
        until: stop where this recall@1 is to be expected, by the curve that ``plan`` measures.
        rate: items a second, at most.
        images: where to look for the images first, by content; each item's URI otherwise.
        data_dir: where named sets lie.
        cluster: the address of a Ray cluster whose workers extract, as of ``index``.
        workers: how many of the cluster's there are to be.
        batch: items stored together, at most; a search beside may wait for that long. 256 by default, or where no image is
            looked at as many as the gallery's engine takes best.
        watcher: hears of progress.

    Raises:
        RefusedError: another refresh is open, or mapped vectors have not been shown to serve.
        InputError: an argument is out of range, or the recall asked for is not to be expected.
        BusyError: another process has the gallery.
        NotFoundError: nothing answers at the cluster's address.
    """
    _check_arguments(order, fraction, budget=budget, rate=rate, batch=batch)
    if adapter is not None and cluster is not None:
        raise InputError(f"{adapter} maps stored vectors, which this process does alone: leave out the cluster.")
    started = time.monotonic()
    target, asker = target_of(holdings, generation, adapter), Space(holdings.generation(generation))
    limit = "fraction"
    if until is not None:
        request = RefreshProposal(generation, adapter, images, FINE_SHARES, (order,), data_dir)
        enough = _share_until(until, measured_plan(holdings, request, watcher), order, watcher)
        fraction, limit = min((fraction, limit), (enough, "until"))
    items = to_refresh(holdings, target, before_refresh(holdings))
    maps = maps_into(holdings, target)
    with ExitStack() as stack:
        renew, extraction = _without_images(target), None
        unmapped = [item for item in items if item.generation not in maps]
        if unmapped and target.adapter is None:
            extraction = stack.enter_context(extracting(holdings, asker.maker, cluster, workers, watcher))
            given = given_images(ImageReader(holdings, data_dir, watcher), images, asker)
            roots = roots_for(holdings, unmapped, given, watcher)
            renew = partial(extraction.renew, most=len(unmapped), known=given, roots=roots)
        opened = open_refresh(holdings, asker, target, adapter)
        tidy(holdings)
        run = _RefreshRun(holdings, target, opened.id)
        queue = run.queue(items, order, fraction)
        pace = _Pace(rate, TimeBudget(started, budget), batch)
        answers = stack.enter_context(closing(run.answers(queue.pending, maps, renew, pace)))
        progress = run.store(queue, answers, pace, watcher)
    result = RefreshResult(
        refresh=opened.id,
        generation=generation,
        refreshed=progress.gained,
        remaining=queue.left - progress.gained,
        problems=tuple(progress.problems),
        seconds=time.monotonic() - started,
        stopped_by=progress.stopped_by or ("done" if fraction == 1 else limit),
        shown=(holdings.state.refresh or opened).shown,
    )
    how = {"adapter": adapter, "order": order, "fraction": fraction}
    _record(holdings, result, how, {} if extraction is None else extraction.how)
    return result


def _record(holdings: Holdings, result: RefreshResult, how: Mapping[str, Any], embedded: Mapping[str, str]) -> None:
    """Note a refresh in the journal.

    Args:
        holdings: of the workspace.
        result: what it did.
        how: it was asked for.
        embedded: how this process has embedded images, if it has.
    """
    holdings.journal.record(
        "refresh",
        refresh=result.refresh,
        generation=result.generation,
        **how,
        refreshed=result.refreshed,
        remaining=result.remaining,
        problems=len(result.problems),
        stopped_by=result.stopped_by,
        seconds=round(result.seconds, 1),
        **embedded,
    )


def open_refresh(holdings: Holdings, asker: Space, target: Space, adapter: str | None) -> Refresh:
    """The open refresh into a space, begun where none is open; searches see it where its generation answers.

    Args:
        holdings: whose.
        asker: the space of the queries that it is for.
        target: the space of the new vectors.
        adapter: that maps them, if one does.

    Raises:
        RefusedError: another refresh is open, or mapped vectors have not been shown to serve.
    """
    with changing(holdings, "beginning a refresh") as state:
        opened = state.refresh
        if opened is not None and opened.fingerprint != target.fingerprint:
            again = (
                f". Searches of {state.promoted} are scored again and would begin another one: let it answer otherwise "
                f"before, with  evergallery promote {state.promoted} --answer dual"
            )
            raise RefusedError(
                f"{opened.id}, a refresh for {opened.generation}, is open: end it first, with  evergallery refresh --commit  "
                f"or  evergallery refresh --discard"
                + (again if state.answer.way == "rescore" and answers_from_refresh(holdings, state) else "")
            )
        if opened is None:
            opened = state.open_refresh(asker.name, asker.fingerprint, target.fingerprint, adapter)
        if opened.shown or not answers_from_refresh(holdings, state):
            return opened
        if not state.may_compare(asker.fingerprint, target.fingerprint):
            raise RefusedError(
                f"Vectors mapped by {target.name} have not been shown to serve queries of {asker.name}: run  evergallery "
                f"check {asker.name} --against {target.name} --data HELD_OUT  first."
            )
        state.show_refresh()
        return state.refresh or opened


@dataclass(frozen=True)
class _RefreshRun:
    """An open refresh at work.

    Attributes:
        holdings: of the workspace.
        target: the space of the new vectors.
        name: of the refresh.
    """

    holdings: Holdings
    target: Space
    name: str

    def queue(self, items: Sequence[Item], order: str, fraction: float) -> _Queue:
        """A share of the items in an order, without those that have their new vector already."""
        ordered = [items[index] for index in order_of(order, items, self.holdings.notes.times_found())]
        wanted = ordered[: int(np.ceil(fraction * len(ordered)))]
        remaining = self.holdings.state.view().remaining(self.name)
        others = Filter(generations=tuple(self.holdings.gallery.dimensions().keys() - {self.target.fingerprint}))
        left = {name for names in self.holdings.gallery.identifiers(others, view=remaining) for name in names}
        return _Queue(len(wanted), [item for item in wanted if item.id in left], len(left))

    def answers(
        self,
        pending: Sequence[Item],
        maps: Mapping[str, Map],
        renew: Callable[[Iterator[Sequence[Item]]], Answers],
        pace: _Pace,
    ) -> Answers:
        """New vectors: first of the items whose stored vectors tell them, then of those whose images are looked at."""
        told = [item for item in pending if item.generation in maps]
        others = [item for item in pending if item.generation not in maps]
        stored = with_vectors(self.holdings, pace.batches(told, self.holdings.gallery.together), maps)
        with in_background(mapped(stored, maps)) as ready:
            yield from ready
        with closing(renew(pace.batches(others, BATCH))) as renewed:
            yield from renewed

    def store(self, queue: _Queue, answers: Answers, pace: _Pace, watcher: Watcher) -> _Progress:
        """Store new vectors as they come, at a rate, until all are there, somebody stops it, or its time is up."""
        progress, budget = _Progress(queue.wanted - len(queue.pending)), pace.budget
        maker = self.target.fingerprint
        watcher.counted(f"refreshing with {self.target.name}", progress.done, queue.wanted)
        budget.begin()
        began = time.monotonic()
        for batch, made in answers:
            failed = [answer for answer in made if isinstance(answer, Problem)]
            # All at once, since a copy of an item costs as much as anything else that is done to it here.
            new = [
                replace(item, embedding=answer, generation=maker, refresh=self.name, superseded=None)
                for item, answer in zip(batch, made, strict=True)
                if not isinstance(answer, Problem)
            ]
            progress.gained += self.holdings.gallery.refresh(new, self.name)
            self.holdings.notes.record(failed)
            self.holdings.notes.solved(item.id for item in new)
            progress.problems += failed
            progress.done += len(batch)
            budget.done += len(batch)
            try:
                watcher.counted(f"refreshing with {self.target.name}", progress.done, queue.wanted)
            except Stopped:
                progress.stopped_by = "request"
                break
            pace.wait(len(batch), began)
            began = time.monotonic()
            # What was made is stored first: a short budget makes headway too.
            if progress.done < queue.wanted and budget.is_spent:
                progress.stopped_by = "budget"
                break
        return progress


def _without_images(target: Space) -> Callable[[Iterator[Sequence[Item]]], Answers]:
    """Says of items whose vectors an adapter does not map that they keep them."""

    def refused(batches: Iterator[Sequence[Item]]) -> Answers:
        for batch in batches:
            reason = f"{target.name} maps vectors of {target.maker.name} only"
            yield batch, [Problem(item.id, "failed", reason) for item in batch]

    return refused


def _check_arguments(
    order: str, fraction: float, *, budget: float | None, rate: float | None, batch: int | None
) -> None:
    """Refuse what is out of range, before anything is measured."""
    require_share("fraction", fraction, "items")
    for name, value in (("budget", budget), ("rate", rate), ("batch", batch)):
        require_positive(name, value)
    require_known("order", order, ORDERS)


def _share_until(recall: float, plan: Plan, order: str, watcher: Watcher) -> float:
    """The share of the items after which a recall is to be expected."""
    if order not in plan.recall:
        raise InputError("What recall to expect is measured on labelled items with images, of which there are too few.")
    share = share_for(recall, plan.shares, plan.recall[order])
    watcher.said(f"recall@1 {recall:g} is expected after {100 * share:.0f} % of the items")
    return share
