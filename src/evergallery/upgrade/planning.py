"""The verb ``plan``: what a refresh would cost and give, measured on a sample of the stored items."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from evergallery.data.image_set import ImageSet
from evergallery.data.tasks import whole_classes
from evergallery.evaluation import protocol
from evergallery.extraction.images import PixelSource, find_images
from evergallery.gallery.items import Item, View
from evergallery.holdings.comparing import space_of
from evergallery.holdings.embedding import extract
from evergallery.holdings.holdings import Holdings
from evergallery.holdings.notes import Problem
from evergallery.holdings.spaces import Space
from evergallery.searching.routes import route_to
from evergallery.upgrade.check import PairCheck, check_pair
from evergallery.upgrade.checking import through_adapters
from evergallery.upgrade.embedding_table import without_pixels
from evergallery.upgrade.gate import gate_of
from evergallery.upgrade.options import cost_of
from evergallery.upgrade.orders import ORDERS
from evergallery.upgrade.pairing import EmbeddedSpace, Pairing
from evergallery.upgrade.plan import (
    LEAST_SAMPLE,
    SAMPLE,
    SHARES,
    ExpectedRecall,
    Plan,
    Sample,
    Vectors,
    expected_recall,
)
from evergallery.upgrade.renewal import (
    before_refresh,
    given_images,
    mapped,
    maps_into,
    roots_for,
    target_of,
    to_refresh,
)
from evergallery.watching import SILENT, Watcher

ARRIVALS = ("index", "import", "add")
"""Operations of the journal by which items come into the gallery."""


@dataclass(frozen=True)
class _RefreshedSample:
    """A sample as it would be refreshed.

    Attributes:
        items: whose image was found, or is not needed.
        queries: (N, D) theirs by the generation that would query; ``None`` without any.
        missing: items whose image was not found.
        seconds: spent.
        images: whether images were read.
    """

    items: Sequence[Item]
    queries: Vectors | None
    missing: int
    seconds: float
    images: bool


def plan(
    holdings: Holdings,
    generation: str,
    *,
    adapter: str | None = None,
    images: str | Path | ImageSet | None = None,
    price_per_hour: float | None = None,
    data_dir: Path | None = None,
    watcher: Watcher = SILENT,
) -> Plan:
    """What refreshing the gallery for a generation would cost, and what each share of it is expected to give.

    Nothing is changed. Recall is measured on a sample of the stored items that have labels and whose images are found.

    Args:
        generation: that would query.
        adapter: that would map the stored vectors, in place of extracting images again.
        images: where to look for the images first, by content; each item's URI otherwise.
        price_per_hour: of this machine, in whatever currency, for what each way of answering costs.
        data_dir: where named sets lie.
        watcher: hears of progress.

    Raises:
        InputError: there is nothing to refresh.
    """
    proposal = RefreshProposal(generation, adapter, images, SHARES, tuple(ORDERS), data_dir, price_per_hour)
    return measured_plan(holdings, proposal, watcher)


@dataclass(frozen=True)
class RefreshProposal:
    """A refresh that somebody thinks of.

    Attributes:
        generation: that would query.
        adapter: that would map the stored vectors, in place of extracting images again.
        images: where to look for the images first, by content.
        shares: of the items at which recall is measured, each in [0, 1].
        orders: names of the orders in which items would be refreshed.
        data_dir: where named sets lie.
        price_per_hour: of this machine, in whatever currency.
    """

    generation: str
    adapter: str | None
    images: str | Path | ImageSet | None
    shares: Sequence[float]
    orders: Sequence[str]
    data_dir: Path | None = None
    price_per_hour: float | None = None


@dataclass(frozen=True)
class _ProposedRefresh:
    """A refresh, as the workspace would do it.

    Attributes:
        holdings: of the workspace.
        asker: the space of the generation that would query.
        target: the space that vectors would come to lie in.
    """

    holdings: Holdings
    asker: Space
    target: Space

    def made(
        self, sampled: Sequence[Item], items: Sequence[Item], given: PixelSource | None, watcher: Watcher
    ) -> _RefreshedSample:
        """What the generation that would query makes of a sample."""
        maps = maps_into(self.holdings, self.target)
        started = time.perf_counter()
        if self.target.adapter is None and all(item.generation in maps for item in items):
            # What the generation makes of an image follows from the stored vector.
            ((_, vectors),) = mapped(iter([sampled]), maps)
            queries = np.stack([vector for vector in vectors if not isinstance(vector, Problem)])
            return _RefreshedSample(sampled, queries, 0, time.perf_counter() - started, images=False)
        maker, roots = self.asker.maker, roots_for(self.holdings, sampled, given, watcher)
        found = find_images(sampled, maker.preprocessing, roots, given)
        embeddings = extract(self.holdings, maker, found.images, watcher, keep=False) if found.items else None
        seconds, reads = time.perf_counter() - started, self.target.adapter is None
        return _RefreshedSample(found.items, embeddings, len(found.problems), seconds, images=reads)

    def curves(self, items: Sequence[Item], queries: Vectors, proposal: RefreshProposal) -> ExpectedRecall:
        """What is to be expected of a sample, as a search ranks."""
        refreshed = self.target.map(np.stack([item.embedding for item in items])) if self.target.adapter else queries
        spaces = {*(item.generation for item in items), self.target.fingerprint}
        routes = {space: route_to(self.holdings, self.asker, space_of(self.holdings, space)) for space in spaces}
        sample = Sample(items, queries, refreshed, routes, self.target.fingerprint)
        counted = self.holdings.notes.times_found()
        known = [order for order in proposal.orders if order not in _uninformed(self.holdings, counted)]
        return expected_recall(sample, counted, proposal.shares, known)

    def pair(
        self, items: Sequence[Item], queries: Vectors, pace: float, price_per_hour: float | None
    ) -> PairCheck | None:
        """The sample's images among each other, as ``check`` measures them: those of the space that most of them lie in."""
        space, count = Counter(item.generation for item in items).most_common(1)[0]
        if count < LEAST_SAMPLE:
            return None
        rows = [row for row, item in enumerate(items) if item.generation == space]
        some = [items[row] for row in rows]
        names, numbers = np.unique([str(item.label) for item in some], return_inverse=True)
        images = without_pixels(
            numbers.astype(np.int64),
            tuple(names.tolist()),
            tuple(item.uri or item.id for item in some),
            tuple(item.content_hash or item.id for item in some),
        )
        old = space_of(self.holdings, space)
        stored = EmbeddedSpace(old.name, space, np.stack([item.embedding for item in some]), ())
        new = EmbeddedSpace(self.asker.name, self.asker.fingerprint, queries[rows], ())
        cost = replace(cost_of(self.holdings, self.asker.maker, old, price_per_hour), each=pace)
        pairing = Pairing(protocol(images), new, stored, gate_of(self.holdings))
        return check_pair(pairing, adapters=through_adapters(self.holdings, new, stored), cost=cost)


def measured_plan(holdings: Holdings, proposal: RefreshProposal, watcher: Watcher) -> Plan:
    """The plan of a refresh at the shares and in the orders of a proposal; see ``plan``."""
    asker = Space(holdings.generation(proposal.generation))
    target = target_of(holdings, proposal.generation, proposal.adapter)
    proposed = _ProposedRefresh(holdings, asker, target)
    view = before_refresh(holdings)
    counts = {
        space_of(holdings, space).name: count
        for space, count in holdings.gallery.count_by_generation(view=view).items()
        if space != target.fingerprint
    }
    items = to_refresh(holdings, target, view)
    given = given_images(holdings, proposal.images, asker, proposal.data_dir, watcher)
    sampled, labelled = _sampled(holdings, items, view)
    watcher.said(f"measuring on {len(sampled)} stored items")
    made = proposed.made(sampled, items, given, watcher)
    curves, pair = ExpectedRecall(0, {}, {}), None
    count, size = sum(counts.values()), max(1, len(sampled))
    if labelled and made.queries is not None and len(made.items) >= LEAST_SAMPLE:
        curves = proposed.curves(made.items, made.queries, proposal)
        if target.adapter is None:
            pair = proposed.pair(made.items, made.queries, made.seconds / size, proposal.price_per_hour)
    # float32, and what is written of an item beside its vector, once as such and once to be searched by.
    texts = [len(text or "") for item in sampled for text in (item.id, item.label, item.uri, item.content_hash)]
    return Plan(
        generation=proposal.generation,
        adapter=proposal.adapter,
        items=counts,
        missing=made.missing / size,
        seconds=made.seconds / size * count if target.adapter is None else 0.0,
        bytes=(4 * target.dimension + 2 * sum(texts) // size) * count,
        sample=len(made.items),
        queries=curves.queries,
        shares=tuple(proposal.shares),
        recall=curves.recall,
        uncalibrated=curves.uncalibrated,
        images=made.images,
        options=() if pair is None else pair.options,
        advice=None if pair is None else pair.advice,
    )


def _sampled(holdings: Holdings, items: Sequence[Item], view: View) -> tuple[list[Item], bool]:
    """Items to measure on, with their vectors, and whether enough of them have a label."""
    rows = whole_classes([item.label for item in items], SAMPLE)
    labelled = len(rows) >= LEAST_SAMPLE
    if not labelled:
        rows = np.random.default_rng(0).permutation(len(items))[: SAMPLE // 4]
    found = (holdings.gallery.get(items[row].id, view=view) for row in rows)
    return [item for item in found if item is not None], labelled


def _uninformed(holdings: Holdings, counted: Mapping[str, int]) -> set[str]:
    """Orders of which nothing is known: before a search nothing is popular, and what came in one go has one age."""
    arrivals = [entry for entry in holdings.journal.entries() if entry["operation"] in ARRIVALS and entry.get("added")]
    return ({"popular"} if not counted else set()) | ({"oldest"} if len(arrivals) < 2 else set())
