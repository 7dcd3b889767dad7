"""The verb ``refresh``: stored items extracted again with a newer generation, or mapped by an adapter; resumable.

The new vectors lie beside the old ones until ``commit``. Searches see them at once where their generation is the promoted
one; otherwise they wait in the shadow and appear with its promotion, in the same change.
"""

import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from evergallery.data.image_set import ImageSet
from evergallery.data.streaming import in_background
from evergallery.errors import InputError, RefusedError, require_known, require_share
from evergallery.extraction.extraction import Extraction, ItemAnswer
from evergallery.extraction.opening import extracting, require_workers
from evergallery.gallery.items import Item
from evergallery.holdings.comparing import answers_from_refresh
from evergallery.holdings.holdings import Holdings, changing
from evergallery.holdings.images import ImageReader
from evergallery.holdings.maps import Map
from evergallery.holdings.notes import Problem
from evergallery.holdings.spaces import Space
from evergallery.holdings.state import Refresh, State
from evergallery.upgrade.orders import BY_VECTORS, ORDERS, order_of
from evergallery.upgrade.pace import Pace, TimeBudget
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


@dataclass(frozen=True)
class _Extent:
    """The share of the items that is refreshed, and which of them come first.

    Attributes:
        order: one of ``evergallery.upgrade.orders.ORDERS``.
        fraction: of the items, in (0, 1].
        until: the recall@1 in (0, 1] that is enough; ``None`` where a fraction is refreshed whatever it brings.

    Raises:
        InputError: a value is out of range.
    """

    order: str
    fraction: float
    until: float | None

    def __post_init__(self) -> None:
        require_share("fraction", self.fraction, "items")
        if self.until is not None:
            require_share("recall@1", self.until, "queries")
        require_known("order", self.order, ORDERS)

    def limited(self, plan: Callable[[], Plan], watcher: Watcher) -> tuple[float, str]:
        """The share of the items that is refreshed, in (0, 1], and what limits it: ``fraction`` or ``until``.

        Args:
            plan: measures at which share a recall is to be expected.
            watcher: hears of that share.

        Raises:
            InputError: the recall is not to be expected, or nobody can know.
        """
        if self.until is None:
            return self.fraction, "fraction"
        measured = plan()
        if self.order not in measured.recall:
            raise InputError(
                "What recall to expect is measured on labelled items with images, of which there are too few."
            )
        share = share_for(self.until, measured.shares, measured.recall[self.order])
        watcher.said(f"recall@1 {self.until:g} is expected after {100 * share:.0f} % of the items")
        return min((self.fraction, "fraction"), (share, "until"))


@dataclass(frozen=True)
class _Extractor:
    """The place where images are looked for, and the one where they are extracted.

    Attributes:
        images: where to look for them first, by content.
        data_dir: where named sets lie.
        cluster: the address of a Ray cluster whose workers extract; ``None`` for this process.
        workers: how many of the cluster's.

    Raises:
        InputError: a number of workers that cannot be.
    """

    images: str | Path | ImageSet | None
    data_dir: Path | None
    cluster: str | None
    workers: int | None

    def __post_init__(self) -> None:
        require_workers(self.cluster, self.workers)

    def require_use(self, holdings: Holdings, target: Space) -> None:
        """Refuse images and a cluster where every new vector follows from a stored one, so that neither would be asked.

        Raises:
            InputError: one is given.
        """
        given = [name for name, value in (("images", self.images), ("cluster", self.cluster)) if value is not None]
        if not given:
            return
        held = holdings.gallery.generations(view=before_refresh(holdings)) - {target.fingerprint}
        if target.adapter is not None or (held and maps_into(holdings, target).keys() >= held):
            raise InputError(
                f"{target.name} makes its vectors of the stored ones and looks at no image: leave the "
                f"{' and the '.join(given)} out."
            )

    @contextmanager
    def renewing(
        self, holdings: Holdings, asker: Space, items: Sequence[Item], watcher: Watcher
    ) -> Iterator["_Renewal"]:
        """Items whose images are looked at; what they need is opened, and closed in the end.

        Raises:
            InputError: the images cannot be read.
            NotFoundError: nothing answers at the cluster's address.
        """
        with extracting(holdings, asker.maker, self.cluster, self.workers, watcher) as extraction:
            given = given_images(ImageReader(holdings, self.data_dir, watcher), self.images, asker, items)
            roots = roots_for(holdings, items, given, watcher)
            yield _Renewal(partial(extraction.renew, most=len(items), known=given, roots=roots), extraction)


@dataclass(frozen=True)
class _Renewal:
    """New vectors of items whose stored ones do not tell them.

    Attributes:
        renew: gives them, batch by batch.
        extraction: that looks at images; ``None`` where none is looked at.
    """

    renew: Callable[[Iterator[Sequence[Item]]], Answers]
    extraction: Extraction | None = None

    @classmethod
    def without_images(cls, target: Space) -> "_Renewal":
        """Says of items whose vectors an adapter does not map that they keep them."""

        def refused(batches: Iterator[Sequence[Item]]) -> Answers:
            for batch in batches:
                reason = f"{target.name} maps vectors of {target.maker.name} only"
                yield batch, [Problem(item.id, "failed", reason) for item in batch]

        return cls(refused)

    @property
    def how(self) -> Mapping[str, str]:
        """Return how images were embedded, for the journal."""
        return {} if self.extraction is None else self.extraction.how


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
    extent, extractor = _Extent(order, fraction, until), _Extractor(images, data_dir, cluster, workers)
    pace = Pace(rate, TimeBudget(time.monotonic(), budget), batch)
    target, asker = target_of(holdings, generation, adapter), Space(holdings.generation(generation))
    extractor.require_use(holdings, target)
    require_no_other(holdings, holdings.state, target)
    proposal = RefreshProposal(generation, adapter, images, FINE_SHARES, (order,), data_dir)
    share, limit = extent.limited(partial(measured_plan, holdings, proposal, watcher), watcher)
    return _refreshed(holdings, _Request(asker, target, order, share, limit), extractor, pace, watcher)


@dataclass(frozen=True)
class _Request:
    """A refresh that is decided on.

    Attributes:
        asker: the space of the queries that it is for.
        target: the space of the new vectors.
        order: in which the items come.
        share: of them, in (0, 1].
        limit: what the share follows from, ``fraction`` or ``until``.
    """

    asker: Space
    target: Space
    order: str
    share: float
    limit: str

    @property
    def adapter(self) -> str | None:
        """The adapter that maps the vectors, by name, if one does."""
        return None if self.target.adapter is None else self.target.adapter.card.name


def _refreshed(
    holdings: Holdings, request: _Request, extractor: _Extractor, pace: Pace, watcher: Watcher
) -> RefreshResult:
    """Give items their new vectors, as far as the request and its time go."""
    asker, target = request.asker, request.target
    by_vectors = request.order in BY_VECTORS
    items = to_refresh(holdings, target, before_refresh(holdings), with_embeddings=by_vectors)
    maps = maps_into(holdings, target)
    unmapped = [item for item in items if item.generation not in maps]
    with ExitStack() as stack:
        renewal = _Renewal.without_images(target)
        if unmapped and target.adapter is None:
            renewal = stack.enter_context(extractor.renewing(holdings, asker, unmapped, watcher))
        opened = open_refresh(holdings, asker, target, request.adapter)
        tidy(holdings)
        run = _RefreshRun(holdings, target, opened.id)
        queue = run.queue(items, request.order, request.share)
        answers = stack.enter_context(closing(run.answers(queue.pending, maps, renewal.renew, pace)))
        progress = run.store(queue, answers, pace, watcher)
    result = RefreshResult(
        refresh=opened.id,
        generation=asker.name,
        refreshed=progress.gained,
        remaining=queue.left - progress.gained,
        problems=tuple(progress.problems),
        seconds=pace.budget.spent,
        stopped_by=progress.stopped_by or ("done" if request.share == 1 else request.limit),
        shown=(holdings.state.refresh or opened).shown,
    )
    _record(holdings, result, request, renewal.how)
    return result


def _record(holdings: Holdings, result: RefreshResult, request: _Request, embedded: Mapping[str, str]) -> None:
    """Note a refresh in the journal.

    Args:
        holdings: of the workspace.
        result: what it did.
        request: what was asked for.
        embedded: how this process has embedded images, if it has.
    """
    holdings.journal.record(
        "refresh",
        refresh=result.refresh,
        generation=result.generation,
        adapter=request.adapter,
        order=request.order,
        fraction=request.share,
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
        require_no_other(holdings, state, target)
        opened = state.refresh
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


def require_no_other(holdings: Holdings, state: State, target: Space) -> None:
    """Refuse a refresh into a space while one into another space is open.

    Raises:
        RefusedError: one is.
    """
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
        left = sum(item.superseded != self.name for item in items)
        return _Queue(len(wanted), [item for item in wanted if item.superseded != self.name], left)

    def answers(
        self,
        pending: Sequence[Item],
        maps: Mapping[str, Map],
        renew: Callable[[Iterator[Sequence[Item]]], Answers],
        pace: Pace,
    ) -> Answers:
        """New vectors: first of the items whose stored vectors tell them, then of those whose images are looked at."""
        told = [item for item in pending if item.generation in maps]
        others = [item for item in pending if item.generation not in maps]
        stored = with_vectors(self.holdings, pace.batches(told, self.holdings.gallery.together), maps)
        with in_background(mapped(stored, maps)) as ready:
            yield from ready
        with closing(renew(pace.batches(others, BATCH))) as renewed:
            yield from renewed

    def store(self, queue: _Queue, answers: Answers, pace: Pace, watcher: Watcher) -> _Progress:
        """Store new vectors as they come, at a rate, until all are there, somebody stops it, or its time is up."""
        progress, budget = _Progress(queue.wanted - len(queue.pending)), pace.budget
        maker = self.target.fingerprint
        watcher.counted(f"refreshing with {self.target.name}", progress.done, queue.wanted)
        budget.begin()
        began = time.monotonic()
        for batch, made in answers:
            failed = [answer for answer in made if isinstance(answer, Problem)]
            new = [
                item.renewed(answer, maker)
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
