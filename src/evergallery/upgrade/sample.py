"""The expected gain of a refresh, measured on a sample of the stored items."""

import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from evergallery.evaluation import protocol
from evergallery.extraction.images import ImageSource, find_images
from evergallery.gallery.items import Item
from evergallery.holdings.comparing import space_of
from evergallery.holdings.embedding import begin, extract
from evergallery.holdings.holdings import Holdings
from evergallery.holdings.notes import Problem
from evergallery.holdings.spaces import Space
from evergallery.retrieval.refresh_curve import mixed_recall
from evergallery.searching.routes import Route, route_to
from evergallery.upgrade.check import PairCheck, check_pair
from evergallery.upgrade.checking import through_adapters
from evergallery.upgrade.embedding_table import without_pixels
from evergallery.upgrade.gate import gate_of
from evergallery.upgrade.options import cost_of
from evergallery.upgrade.orders import order_of
from evergallery.upgrade.pairing import EmbeddedSpace, Pairing
from evergallery.upgrade.plan import LEAST_SAMPLE, ExpectedRecall, PlanBasis, SampleMeasurements
from evergallery.upgrade.renewal import mapped, maps_into, roots_for
from evergallery.watching import Watcher

Vectors = NDArray[np.float32]


def measured(holdings: Holdings, basis: PlanBasis, given: ImageSource | None, watcher: Watcher) -> SampleMeasurements:
    """Return what a refresh costs and gives on a sample.

    Args:
        holdings: of the workspace.
        basis: the refresh, and the sample.
        given: images that are looked at first.
        watcher: hears of progress.
    """
    refresh = _Refresh(holdings, basis.asker, basis.target)
    proposal, sampled, orders = basis.proposal, basis.sampled, basis.orders
    made = refresh.made(sampled, basis.counts, given, watcher)
    curves, pair = ExpectedRecall(0, {}, {}), None
    if orders is not None and made.queries is not None and len(made.items) >= LEAST_SAMPLE:
        curves = refresh.curves(made.items, made.queries, proposal.shares, orders)
        if refresh.target.adapter is None:
            pace = made.seconds / max(1, len(sampled))
            pair = refresh.pair(made.items, made.queries, pace, proposal.price_per_hour)
    return SampleMeasurements(
        missing=made.missing,
        seconds=made.seconds,
        images=made.images,
        sample=len(made.items),
        curves=curves,
        options=() if pair is None else pair.options,
        advice=None if pair is None else pair.advice,
    )


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


@dataclass(frozen=True)
class _Refresh:
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
        self, sampled: Sequence[Item], held: Collection[str], given: ImageSource | None, watcher: Watcher
    ) -> _RefreshedSample:
        """Return what the generation that would query makes of a sample of items, which lie in the spaces that are held."""
        maps = maps_into(self.holdings, self.target)
        started = time.perf_counter()
        if self.target.adapter is None and maps.keys() >= set(held):
            # What the generation makes of an image follows from the stored vector.
            ((_, vectors),) = mapped(iter([sampled]), maps)
            queries = np.stack([vector for vector in vectors if not isinstance(vector, Problem)])
            return _RefreshedSample(sampled, queries, 0, time.perf_counter() - started, images=False)
        maker, roots = self.asker.maker, roots_for(self.holdings, sampled, given, watcher)
        # A network is opened once however many images follow: what that takes says nothing of each.
        begin(self.holdings, maker, len(sampled), watcher)
        started = time.perf_counter()
        found = find_images(sampled, maker.preprocessing, roots, given)
        embeddings = extract(self.holdings, maker, found.images, watcher, keep=False) if found.items else None
        seconds, reads = time.perf_counter() - started, self.target.adapter is None
        return _RefreshedSample(found.items, embeddings, len(found.problems), seconds, images=reads)

    def curves(
        self, items: Sequence[Item], queries: Vectors, shares: Sequence[float], orders: Sequence[str]
    ) -> ExpectedRecall:
        """Return what is to be expected of a sample, as a search ranks."""
        refreshed = self.target.map(np.stack([item.embedding for item in items])) if self.target.adapter else queries
        spaces = {*(item.generation for item in items), self.target.fingerprint}
        routes = {space: route_to(self.holdings, self.asker, space_of(self.holdings, space)) for space in spaces}
        sample = Sample(items, queries, refreshed, routes, self.target.fingerprint)
        return expected_recall(sample, self.holdings.notes.times_found(), shares, orders)

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


@dataclass(frozen=True)
class Sample:
    """Stored items with a label and an image, as stored and as refreshed.

    Attributes:
        items: N.
        queries: (N, D) by the generation that would query.
        refreshed: (N, D') the new vectors.
        routes: from the queries to each stored space, by fingerprint, and to the new one.
        new: fingerprint of the new space.
    """

    items: Sequence[Item]
    queries: Vectors
    refreshed: Vectors
    routes: Mapping[str, Route]
    new: str


def expected_recall(
    sample: Sample, found: Mapping[str, int], shares: Sequence[float], orders: Sequence[str]
) -> ExpectedRecall:
    """recall@1 of the sample's images among each other while more and more of them are refreshed."""
    labels = np.unique([str(item.label) for item in sample.items], return_inverse=True)[1]
    numbers = torch.from_numpy(labels)
    count = len(numbers)
    hits = numbers[:, None] == numbers[None, :]
    hits.fill_diagonal_(False)
    before, before_raw = torch.empty(count, count), torch.empty(count, count)
    by_space: dict[str, list[int]] = {}
    for index, item in enumerate(sample.items):
        by_space.setdefault(item.generation, []).append(index)
    calibrated = all(sample.routes[space].calibration for space in (*by_space, sample.new))
    for space, rows in by_space.items():
        vectors = np.stack([sample.items[index].embedding for index in rows])
        before_raw[:, rows], before[:, rows] = _scores(sample.routes[space], sample.queries, vectors, calibrated)
    after_raw, after = _scores(sample.routes[sample.new], sample.queries, sample.refreshed, calibrated)
    for scores in (before, before_raw, after, after_raw):
        scores.fill_diagonal_(-torch.inf)
    curves: dict[str, tuple[float, ...]] = {}
    raw: dict[str, tuple[float, ...]] = {}
    for name in orders:
        order = torch.from_numpy(order_of(name, sample.items, found))
        curves[name] = tuple(mixed_recall(before, after, hits, order=order, shares=shares))
        raw[name] = tuple(mixed_recall(before_raw, after_raw, hits, order=order, shares=shares))
    return ExpectedRecall(int(hits.any(1).sum()), curves, raw)


def _scores(route: Route, queries: Vectors, vectors: Vectors, calibrated: bool) -> tuple[torch.Tensor, torch.Tensor]:
    scores = torch.from_numpy(route.scores(queries, vectors))
    scale = route.calibration
    return scores, scale.slope * scores + scale.intercept if calibrated and scale else scores
