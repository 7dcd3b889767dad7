"""Stored items extracted again with a newer generation, or mapped by an adapter; resumable, and undone by one change.

The new vectors lie beside the old ones until ``commit``. Searches see them at once where their generation is the promoted
one; otherwise they wait in the shadow and appear with its promotion, in the same change.
"""

import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from itertools import chain, groupby
from pathlib import Path
from typing import Literal

import numpy as np

from evergallery.data.image_set import ImageSet
from evergallery.data.roots import EVERYWHERE, Roots
from evergallery.data.tasks import whole_classes
from evergallery.errors import BusyError, InputError, RefusedError
from evergallery.extraction.extraction import Renewed
from evergallery.extraction.images import Known, by_content, find_images
from evergallery.extraction.opening import extracting
from evergallery.gallery.items import Filter, Item, View
from evergallery.holdings.comparing import require_compatible, space_of, stored_spaces
from evergallery.holdings.embedding import extract
from evergallery.holdings.holdings import Holdings, changing
from evergallery.holdings.images import load_images
from evergallery.holdings.notes import Problem
from evergallery.holdings.spaces import Map, Space, maps_to
from evergallery.holdings.state import Refresh, now
from evergallery.searching.routes import route_to
from evergallery.upgrade.orders import ORDERS
from evergallery.upgrade.plan import (
    LEAST_SAMPLE,
    SAMPLE,
    SHARES,
    Plan,
    Sample,
    expected_recall,
    order_of,
    share_for,
)
from evergallery.watching import SILENT, Stopped, Watcher

BATCH = 256
FINE_SHARES = tuple(step / 20 for step in range(21))


@dataclass(frozen=True)
class Refreshed:
    """What a call of ``refresh`` did.

    Attributes:
        refresh: its id.
        generation: that queries the new vectors.
        refreshed: items that have a new vector now and had none before the call.
        remaining: items that keep their old vector so far.
        problems: of items whose image is gone or cannot be read; they keep their old vector.
        seconds: spent.
        stopped_by: ``done``, ``fraction``, ``budget``, or ``request`` where the watcher asked for it.
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


def plan(
    holdings: Holdings,
    generation: str,
    *,
    adapter: str | None = None,
    images: str | Path | ImageSet | None = None,
    data_dir: Path | None = None,
    watcher: Watcher = SILENT,
) -> Plan:
    """What refreshing the gallery for a generation would cost, and what each share of it is expected to give.

    Nothing is changed. Recall is measured on a sample of the stored items that have labels and whose images are found.

    Args:
        generation: that would query.
        adapter: that would map the stored vectors, in place of extracting images again.
        images: where to look for the images first, by content; each item's URI otherwise.
        data_dir: where named sets lie.
        watcher: hears of progress.

    Raises:
        InputError: there is nothing to refresh.
    """
    return _planned(
        holdings, generation, adapter=adapter, images=images, shares=SHARES, orders=tuple(ORDERS), data_dir=data_dir,
        watcher=watcher,
    )  # fmt: skip


def _planned(
    holdings: Holdings,
    generation: str,
    *,
    adapter: str | None,
    images: str | Path | ImageSet | None,
    shares: Sequence[float],
    orders: Sequence[str],
    data_dir: Path | None,
    watcher: Watcher,
) -> Plan:
    target = _target(holdings, generation, adapter)
    asker = Space(holdings.generation(generation))
    view = _before(holdings)
    counts = {
        space_of(holdings, one).name: count
        for one, count in holdings.gallery.count_by_generation(view=view).items()
        if one != target.fingerprint
    }
    items = _to_refresh(holdings, target, view, vectors=False)
    if not items:
        raise InputError(f"The gallery holds nothing but vectors of {target.name}: there is nothing to refresh.")
    given = _given(holdings, images, asker, data_dir, watcher)
    rows = whole_classes([item.label for item in items], SAMPLE)
    labelled = len(rows) >= LEAST_SAMPLE
    if not labelled:
        rows = np.random.default_rng(0).permutation(len(items))[: SAMPLE // 4]
    asked = [item for row in rows if (item := holdings.gallery.get(items[row].id, view=view)) is not None]
    watcher.said(f"measuring on {len(asked)} stored items")
    maps = _maps(holdings, target)
    mapped = target.adapter is None and all(item.generation in maps for item in items)
    started = time.perf_counter()
    present, missing, queries = asked, 0, None
    if mapped:
        # What the generation makes of an image follows from the stored vector.
        ((_, made),) = _mapped(iter([asked]), maps)
        queries = np.stack([one for one in made if not isinstance(one, Problem)])
    else:
        found = find_images(asked, asker.maker.preprocessing, _roots(holdings, asked, given, watcher), given)
        present, missing = found.items, len(found.problems)
        queries = extract(holdings, asker.maker, found.images, watcher, keep=False) if present else None
    seconds = time.perf_counter() - started
    curves: tuple[int, dict[str, tuple[float, ...]], dict[str, tuple[float, ...]]] = (0, {}, {})
    if labelled and queries is not None and len(present) >= LEAST_SAMPLE:
        refreshed = target.map(np.stack([one.embedding for one in present])) if target.adapter else queries
        spaces = {*(one.generation for one in present), target.fingerprint}
        routes = {one: route_to(holdings, asker, space_of(holdings, one)) for one in spaces}
        sample = Sample(present, queries, refreshed, routes, target.fingerprint)
        counted = holdings.notes.times_found()
        # Before anything was searched for, nothing is popular.
        orders = [order for order in orders if order != "popular" or counted]
        curves = expected_recall(sample, counted, shares, orders)
    # float32, and what is written of an item beside its vector, once as such and once to be searched by.
    texts = [len(text or "") for item in asked for text in (item.id, item.label, item.uri, item.content_hash)]
    bytes_each = 4 * target.dimension + 2 * sum(texts) // max(1, len(asked))
    return Plan(
        generation,
        adapter,
        counts,
        missing / max(1, len(asked)),
        seconds / max(1, len(asked)) * sum(counts.values()) if target.adapter is None else 0.0,
        bytes_each * sum(counts.values()),
        len(present),
        curves[0],
        tuple(shares),
        curves[1],
        curves[2],
        images=not (mapped or target.adapter),
    )


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
    watcher: Watcher = SILENT,
) -> Refreshed:
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
        watcher: hears of progress.

    Raises:
        RefusedError: another refresh is open, or mapped vectors have not been shown to serve.
        InputError: an argument is out of range, or the recall asked for is not to be expected.
        BusyError: another process has the gallery.
        NotFoundError: nothing answers at the cluster's address.
    """
    _check_arguments(order, fraction, budget, rate)
    if adapter is not None and cluster is not None:
        raise InputError(f"{adapter} maps stored vectors, which this process does alone: leave out the cluster.")
    started = time.monotonic()
    target = _target(holdings, generation, adapter)
    asker = Space(holdings.generation(generation))
    if until is not None:
        planned = _planned(
            holdings, generation, adapter=adapter, images=images, shares=FINE_SHARES, orders=(order,),
            data_dir=data_dir, watcher=watcher,
        )  # fmt: skip
        fraction = min(fraction, _share_until(until, planned, order, watcher))
    items = _to_refresh(holdings, target, _before(holdings))
    if not items:
        raise InputError(f"The gallery holds nothing but vectors of {target.name}: there is nothing to refresh.")
    maps = _maps(holdings, target)
    with ExitStack() as stack:
        extraction = given = None
        roots = holdings.roots
        unmapped = [item for item in items if item.generation not in maps]
        if unmapped and target.adapter is None:
            extraction = stack.enter_context(extracting(holdings, asker.maker, cluster, workers, watcher))
            given = _given(holdings, images, asker, data_dir, watcher)
            roots = _roots(holdings, unmapped, given, watcher)
        opened = open_refresh(holdings, asker, target, adapter)
        tidy(holdings)
        ordered = [items[index] for index in order_of(order, items, holdings.notes.times_found())]
        wanted = ordered[: int(np.ceil(fraction * len(ordered)))]
        remaining = holdings.state.view().remaining(opened.id)
        left = {item.id for item in _to_refresh(holdings, target, remaining, vectors=False)}
        pending = [item for item in wanted if item.id in left]
        done, gained, problems = len(wanted) - len(pending), 0, []
        stopped_by = "done" if fraction == 1 else "fraction"
        mapped = _mapped(_batches([item for item in pending if item.generation in maps], rate), maps)
        others = _batches([item for item in pending if item.generation not in maps], rate)
        extracted = _unmapped(others, target) if extraction is None else extraction.renew(others, given, roots)
        began = time.monotonic()
        for batch, answers in chain(mapped, stack.enter_context(closing(extracted))):
            failed = [one for one in answers if isinstance(one, Problem)]
            new = [
                replace(item, embedding=answer, generation=target.fingerprint)
                for item, answer in zip(batch, answers, strict=True)
                if not isinstance(answer, Problem)
            ]
            gained += holdings.gallery.refresh(new, opened.id)
            holdings.notes.record(failed)
            holdings.notes.solved(item.id for item in new)
            problems += failed
            done += len(batch)
            try:
                watcher.counted(f"refreshing with {target.name}", done, len(wanted))
            except Stopped:
                stopped_by = "request"
                break
            if rate is not None:
                time.sleep(max(0.0, len(batch) / rate - (time.monotonic() - began)))
            began = time.monotonic()
            # What was made is stored first: a short budget makes headway too.
            if budget is not None and done < len(wanted) and began - started >= budget:
                stopped_by = "budget"
                break
    current = holdings.state.refresh or opened
    result = Refreshed(
        opened.id, generation, gained, len(left) - gained, tuple(problems), time.monotonic() - started, stopped_by,
        current.shown,
    )  # fmt: skip
    holdings.journal.record(
        "refresh", refresh=opened.id, generation=generation, adapter=adapter, order=order, fraction=fraction,
        refreshed=gained, remaining=result.remaining, problems=len(problems), stopped_by=stopped_by,
        seconds=round(result.seconds, 1),
    )  # fmt: skip
    return result


def commit(holdings: Holdings, *, watcher: Watcher = SILENT) -> int:
    """Give up the earlier vectors of refreshed items for good; returns how many were deleted.

    Raises:
        RefusedError: no refresh is open, or its vectors are not shown yet.
    """
    with changing(holdings, "committing a refresh") as state:
        opened = _opened(state.refresh)
        if not opened.shown:
            raise RefusedError(
                f"The vectors of {opened.id} are for {opened.generation}, which is not promoted: promote it first, or "
                f"give them up with  evergallery refresh --discard"
            )
        state.refresh = None
        state.committed.append(opened.id)
    holdings.journal.record("commit", refresh=opened.id, generation=opened.generation)
    return _settle_all(holdings, watcher)


def discard(holdings: Holdings, *, watcher: Watcher = SILENT) -> int:
    """Give up the new vectors of an open refresh; returns how many were deleted.

    Raises:
        RefusedError: no refresh is open, or the promoted generation cannot search the earlier vectors.
    """
    opened = _opened(holdings.state.refresh)
    before = stored_spaces(holdings, view=holdings.state.view().before(opened.id))
    require_compatible(holdings, Space(holdings.promoted), before)
    with changing(holdings, "discarding a refresh") as state:
        state.refresh = None
        state.discarded.append(opened.id)
    holdings.journal.record("discard", refresh=opened.id, generation=opened.generation)
    return _settle_all(holdings, watcher)


def tidy(holdings: Holdings, watcher: Watcher | None = None) -> int:
    """Delete what earlier commits and discards gave up and were killed before deleting; returns how many vectors."""
    state, watcher = holdings.state, watcher or Watcher()
    pending: list[tuple[str, Literal["new", "old"]]] = [
        *((one, "new") for one in state.committed), *((one, "old") for one in state.discarded)
    ]  # fmt: skip
    deleted = 0
    for one, keep in pending:
        deleted += holdings.gallery.settle(
            one, keep, on_progress=lambda done, total: watcher.counted("deleting vectors", done, total)
        )
        with changing(holdings, "settling a refresh") as changed:
            changed.committed = [other for other in changed.committed if other != one]
            changed.discarded = [other for other in changed.discarded if other != one]
    return deleted


def _settle_all(holdings: Holdings, watcher: Watcher) -> int:
    try:
        return tidy(holdings, watcher)
    except BusyError:
        # The state says already what is to go: whoever opens the gallery next deletes it.
        watcher.said("the gallery is in use: the vectors are hidden now and are deleted when it is next refreshed")
        return 0


def _opened(refresh: Refresh | None) -> Refresh:
    if refresh is None:
        raise RefusedError("No refresh is open: begin one with  evergallery refresh GENERATION")
    return refresh


def _target(holdings: Holdings, generation: str, adapter: str | None) -> Space:
    maker = holdings.generation(generation)
    if adapter is None:
        if not maker.extracts:
            raise InputError(f"{generation} has vectors only: nothing can be extracted with it.")
        return Space(maker)
    space = holdings.space(adapter)
    assert space.adapter is not None
    card = space.adapter.card
    if card.direction != "gallery" or card.target.name != generation:
        raise InputError(
            f"{adapter} maps {card.source.name} to {card.target.name} for the {card.direction}: stored vectors are mapped by "
            f"one made with  evergallery adapt {generation} OLD --direction gallery"
        )
    return space


def open_refresh(holdings: Holdings, asker: Space, target: Space, adapter: str | None) -> Refresh:
    """The open refresh into a space, begun where none is open.

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
        if opened is not None:
            if opened.fingerprint != target.fingerprint:
                raise RefusedError(
                    f"{opened.id}, a refresh for {opened.generation}, is open: end it with  evergallery refresh --commit  "
                    f"or  --discard  first."
                )
            return opened
        shown = state.promoted == asker.name
        if shown and not state.may_compare(asker.fingerprint, target.fingerprint):
            raise RefusedError(
                f"Vectors mapped by {target.name} have not been shown to serve queries of {asker.name}: run  evergallery "
                f"check {asker.name} --against {target.name} --data HELD_OUT  first."
            )
        state.refreshes += 1
        state.refresh = Refresh(
            id=f"r{state.refreshes}", generation=asker.name, fingerprint=target.fingerprint, adapter=adapter, shown=shown,
            started=now(),
        )  # fmt: skip
        return state.refresh


def _maps(holdings: Holdings, target: Space) -> dict[str, Map]:
    """How stored vectors become those of a target without their images, by the fingerprint of their space."""
    held = holdings.gallery.generations(view=_before(holdings))
    makers = [one for one in holdings.generations() if one.fingerprint in held]
    return maps_to(target, makers, holdings.loaded.embedder)


def _mapped(
    batches: Iterator[Sequence[Item]], maps: Mapping[str, Map]
) -> Iterator[tuple[Sequence[Item], list[Renewed]]]:
    """New vectors of items from their stored ones; no image is looked at."""
    for batch in batches:
        renewed: list[Renewed] = []
        for space, items in groupby(batch, key=lambda item: item.generation):
            renewed.extend(maps[space](np.stack([item.embedding for item in items])))
        yield batch, renewed


def _unmapped(
    batches: Iterator[Sequence[Item]], target: Space
) -> Generator[tuple[Sequence[Item], list[Renewed]], None, None]:
    for batch in batches:
        reason = f"{target.name} maps vectors of {target.maker.name} only"
        yield batch, [Problem(item.id, "failed", reason) for item in batch]


def _batches(items: Sequence[Item], rate: float | None) -> Iterator[Sequence[Item]]:
    # A limit of a few images a second would otherwise work for seconds and sleep for minutes.
    size = BATCH if rate is None else max(1, min(BATCH, int(rate)))
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _before(holdings: Holdings) -> View:
    """The gallery as it is without the open refresh."""
    state = holdings.state
    return state.view().before(state.refresh.id) if state.refresh else state.view()


def _to_refresh(holdings: Holdings, target: Space, view: View, *, vectors: bool = True) -> list[Item]:
    """The items of a view whose vectors lie in another space than the target."""
    batches = holdings.gallery.iterate(Filter(), with_embeddings=vectors, view=view)
    return [item for batch in batches for item in batch if item.generation != target.fingerprint]


def _check_arguments(order: str, fraction: float, budget: float | None, rate: float | None) -> None:
    if not 0 < fraction <= 1:
        raise InputError(f"A fraction of {fraction:g} is not usable: give a share of the items, above 0 and up to 1.")
    for name, value in (("budget", budget), ("rate", rate)):
        if value is not None and value <= 0:
            raise InputError(f"A {name} of {value:g} is not usable: it must be above 0.")
    if order not in ORDERS:
        raise InputError(f"There is no order {order!r}: choose {', '.join(ORDERS)}.")


def _share_until(recall: float, plan: Plan, order: str, watcher: Watcher) -> float:
    """The share of the items after which a recall is to be expected."""
    if order not in plan.recall:
        raise InputError("What recall to expect is measured on labelled items with images, of which there are too few.")
    share = share_for(recall, plan.shares, plan.recall[order])
    watcher.said(f"recall@1 {recall:g} is expected after {100 * share:.0f} % of the items")
    return share


def _roots(holdings: Holdings, items: Sequence[Item], given: Known | None, watcher: Watcher) -> Roots:
    """Below which the images of items may be opened; whoever watches is asked about those that lie elsewhere."""
    roots = holdings.roots
    elsewhere = (
        [item.uri for item in items if item.uri is not None and not roots.admits(item.uri)] if given is None else []
    )
    if elsewhere and watcher.confirms(
        f"{len(elsewhere)} of {len(items)} images lie where nobody has allowed them to be opened, such as {elsewhere[0]!r}. "
        f"Whoever wrote these addresses chooses what is read. Open them this once?"
    ):
        return EVERYWHERE
    return roots


def _given(
    holdings: Holdings, images: str | Path | ImageSet | None, asker: Space, data_dir: Path | None, watcher: Watcher
) -> Known | None:
    if images is None:
        return None
    return by_content(
        load_images(
            holdings, images, asker.maker.preprocessing, data_dir=data_dir, require_labels=False, watcher=watcher
        )
    )
