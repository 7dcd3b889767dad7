"""Two spaces on the same held-out images: queries of one in vectors of the other, as evidence, with the queries that flip."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from evergallery.adapters import fit_procrustes
from evergallery.devices.computing import computed
from evergallery.evaluation import Protocol, measure
from evergallery.holdings.state import now
from evergallery.retrieval import continual
from evergallery.retrieval.bootstrap import bootstrap_interval
from evergallery.retrieval.calibrating import DEPTH, calibrate, fit_calibration
from evergallery.retrieval.calibration import Calibration
from evergallery.retrieval.compatibility import negative_flip_rate, positive_flip_rate
from evergallery.retrieval.knn import nearest
from evergallery.retrieval.metrics import RetrievalMetrics
from evergallery.upgrade.evidence import TESTS, Evidence, Figures, OldClasses, Outcome, Test
from evergallery.upgrade.gate import Gate
from evergallery.upgrade.ways import ComparedVectors, RouteVectors, outcomes

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class EmbeddedSpace:
    """A space on the held-out images.

    Attributes:
        name: of the generation, or of the adapter that maps stored vectors.
        fingerprint: of the space.
        embeddings: (N, D) unit rows.
        classes: that count as old where newer generations are compared with it; empty where nobody knows.
        classes_from: who says so.
        no_classes: why nobody knows.
    """

    name: str
    fingerprint: str
    embeddings: Vectors
    classes: tuple[str, ...]
    classes_from: OldClasses = "learned"
    no_classes: str = "nobody knows which classes are old"


@dataclass(frozen=True)
class Flip:
    """A query whose answer changed: the nearest item before and after, as indices of the held-out images."""

    query: int
    before: int
    after: int


Searches = dict[Test, tuple[dict[str, RetrievalMetrics], Calibration | None]]
"""Metrics by group of classes, and the scale of the cosines, by test."""
Flips = tuple[tuple[Flip, ...], tuple[Flip, ...]]
"""Negative and positive ones."""


@dataclass(frozen=True)
class Pairing:
    """Two spaces on the same held-out images, and how one is measured in the other.

    Attributes:
        protocol: of N held-out labelled images.
        new: the generation that would query.
        old: the space that would be searched.
        gate: the policy.
        best: the same recipe without the constraint of compatibility, for update gain and price.
        excluded: images that were left out.
    """

    protocol: Protocol
    new: EmbeddedSpace
    old: EmbeddedSpace
    gate: Gate
    best: EmbeddedSpace | None = None
    excluded: int = 0

    @cached_property
    def alone(self) -> Searches:
        """Each generation in vectors of its own."""
        old, new = self.old.embeddings, self.new.embeddings
        return {"old self": self._searched(old, old), "new self": self._searched(new, new)}

    @cached_property
    def reference(self) -> float | None:
        """Recall@1 of the generation that was trained without the constraint, alone."""
        if self.best is None:
            return None
        vectors = self.best.embeddings
        return measure(self.protocol, vectors, vectors, self.old.classes)["all"].recall[1]

    def through(
        self, query: Vectors, gallery: Vectors, adapter: str | None = None, estimated: bool = False
    ) -> tuple[Evidence, Flips]:
        """Evidence for a route, and the queries that flip on it.

        Args:
            query: (N, E) queries of the new generation as the route compares them.
            gallery: (N, E) vectors of the old one, likewise.
            adapter: name of the adapter that the route goes through.
            estimated: whether that was fitted to the held-out images themselves, in halves.
        """
        searches: Searches = {**self.alone, "cross": self._searched(query, gallery)}
        before, cross = searches["old self"][0]["all"], searches["cross"][0]["all"]
        flips = (
            _flips(self.protocol, before.valid & before.hits_at_1 & ~cross.hits_at_1, before, cross),
            _flips(self.protocol, before.valid & ~before.hits_at_1 & cross.hits_at_1, before, cross),
        )
        return self._evidence(searches, adapter, estimated), flips

    def outcomes_of(
        self, routes: Sequence[Evidence], vectors: Mapping[str, tuple[Vectors, Vectors]]
    ) -> tuple[Outcome, ...]:
        """Return what every way of answering gives.

        Args:
            routes: evidence for each, the direct one first.
            vectors: queries and vectors of each by its name, in the same order.
        """
        scales = [route.calibrations["cross"] for route in routes]
        compared = {
            name: RouteVectors(*pair, scale) for (name, pair), scale in zip(vectors.items(), scales, strict=True)
        }
        old = RouteVectors(self.old.embeddings, self.old.embeddings, self.alone["old self"][1])
        new = RouteVectors(self.new.embeddings, self.new.embeddings, self.alone["new self"][1])
        return outcomes(self.protocol, ComparedVectors(old, new, compared), confidence=self.gate.confidence)

    def _searched(self, query: Vectors, gallery: Vectors) -> tuple[dict[str, RetrievalMetrics], Calibration | None]:
        metrics = measure(self.protocol, query, gallery, self.old.classes, full_ranking=self.protocol.full_ranking)
        return metrics, _calibration(self.protocol, query, gallery)

    def _evidence(self, searches: Searches, adapter: str | None, estimated: bool) -> Evidence:
        new, old, protocol, reference = self.new, self.old, self.protocol, self.reference
        found = {test: metrics for test, (metrics, _) in searches.items()}
        before, alone, cross = (found[test]["all"] for test in TESTS)
        right = {test: found[test]["all"].hits_at_1[before.valid] for test in TESTS}
        worth = {test: found[test]["all"].gain_at_1[before.valid] for test in TESTS}
        forgetting, why_not = self._forgetting(found)
        return Evidence(
            new=new.name,
            old=old.name,
            fingerprints=(new.fingerprint, old.fingerprint),
            adapter=adapter,
            estimated=estimated,
            protocol=protocol.searched,
            data=protocol.images.fingerprint(),
            excluded=self.excluded,
            queries=before.queries,
            figures={
                test: {group: _figures(metrics) for group, metrics in groups.items()} for test, groups in found.items()
            },
            metric="recall@1" if before.ndcg is None else "nDCG@1",
            cross_change=_change(worth["cross"], worth["old self"], self.gate),
            self_change=_change(worth["new self"], worth["old self"], self.gate),
            forgetting=forgetting,
            old_classes=old.classes_from if old.classes else None,
            forgetting_not_measured=why_not,
            negative_flips=negative_flip_rate(right["old self"], right["cross"]),
            positive_flips=positive_flip_rate(right["old self"], right["cross"]),
            update_gain=None
            if reference is None
            else continual.update_gain(cross.recall[1], before.recall[1], reference),
            price=None if reference is None else continual.price(reference, alone.recall[1]),
            best=None if self.best is None else self.best.name,
            calibrations={test: calibration for test, (_, calibration) in searches.items()},
            time=now(),
        )

    def _forgetting(self, found: Mapping[Test, Mapping[str, RetrievalMetrics]]) -> tuple[float | None, str | None]:
        """Return what the new generation, alone, has lost on the old classes; or why that was not measured."""
        if "old" in found["old self"]:
            return found["old self"]["old"].score - found["new self"]["old"].score, None
        if self.old.classes:
            return None, "none of the old classes is among the held-out images"
        return None, self.old.no_classes


def _figures(metrics: RetrievalMetrics) -> Figures:
    found = Figures.model_validate(
        {
            "recall": metrics.recall,
            "mAP@R": metrics.map_at_r,
            "queries": metrics.queries,
            "dropped": metrics.dropped,
            "ndcg": metrics.ndcg,
        }
    )
    known = found.by_name()
    return found.model_copy(update={"others": {n: value for n, value in metrics.values.items() if n not in known}})


def _change(after: Tensor, before: Tensor, gate: Gate) -> Any:
    return bootstrap_interval(after.double() - before.double(), confidence=gate.confidence)


def _calibration(protocol: Protocol, query: Vectors, gallery: Vectors) -> Calibration | None:
    labels = torch.from_numpy(protocol.images.labels)
    q, g = protocol.query, protocol.gallery
    multiplications = len(q) * len(g) * query.shape[1]
    if protocol.judgements is not None:
        found = computed(
            multiplications,
            nearest,
            torch.from_numpy(query[q]),
            torch.from_numpy(gallery[g]),
            min(DEPTH, len(g)),
            exclusion=protocol.exclusion(),
        )
        matches, there = protocol.judgements.among(q, g).grades(found) > 0, found.indices >= 0
        return fit_calibration(found.scores[there], matches[there])
    return computed(
        multiplications,
        calibrate,
        torch.from_numpy(query[q]),
        labels[q],
        torch.from_numpy(gallery[g]),
        labels[g],
        exclusion=protocol.exclusion(),
    )


def _flips(protocol: Protocol, which: Tensor, before: RetrievalMetrics, after: RetrievalMetrics) -> tuple[Flip, ...]:
    return tuple(
        Flip(
            int(protocol.query[index]),
            int(protocol.gallery[before.nearest[index]]),
            int(protocol.gallery[after.nearest[index]]),
        )
        for index in torch.nonzero(which).flatten().tolist()
    )


def cross_fitted(new: Vectors, old: Vectors) -> Vectors:
    """(N, D') each half of the embeddings mapped by the rotation that the other half gave."""
    order = np.random.default_rng(0).permutation(len(new))
    mapped = np.empty_like(old)
    for fitted, measured in ((order[::2], order[1::2]), (order[1::2], order[::2])):
        adapter = fit_procrustes(torch.from_numpy(new[fitted]), torch.from_numpy(old[fitted]))
        mapped[measured] = adapter(torch.from_numpy(new[measured])).numpy()
    return mapped
