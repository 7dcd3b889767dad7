"""Generations side by side on held-out images: the matrix, every pair's evidence, and the queries that flip."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from evergallery.adapters import fit_procrustes
from evergallery.evaluation import Protocol, measure
from evergallery.holdings.answer import Answer
from evergallery.holdings.state import now
from evergallery.redaction import redacted
from evergallery.retrieval import continual
from evergallery.retrieval.bootstrap import bootstrap_interval
from evergallery.retrieval.calibrating import DEPTH, calibrate, fit_calibration
from evergallery.retrieval.calibration import Calibration
from evergallery.retrieval.compatibility import negative_flip_rate, positive_flip_rate
from evergallery.retrieval.knn import nearest
from evergallery.retrieval.metrics import RetrievalMetrics
from evergallery.retrieval.width import in_width_of
from evergallery.upgrade.evidence import TESTS, Evidence, Figures, OldClasses, Outcome, Test
from evergallery.upgrade.gate import ALL, Condition, Gate, Scope
from evergallery.upgrade.options import UNKNOWN, Cost, Option, Recommendation, options_of, recommend
from evergallery.upgrade.verdict import Verdict, verdict
from evergallery.upgrade.ways import RouteVectors, outcomes
from evergallery.watching import SILENT, Watcher

Vectors = NDArray[np.float32]
AGREEMENT_AT = 10
# Fewer pairs than dimensions do not determine a rotation, let alone show that it holds for other images.
LEAST_PAIRS = 64


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


_Searches = dict[Test, tuple[dict[str, RetrievalMetrics], Calibration | None]]
"""Metrics by group of classes, and the scale of the cosines, by test."""
_Flips = tuple[tuple[Flip, ...], tuple[Flip, ...]]
"""Negative and positive ones."""


@dataclass(frozen=True)
class PairCheck:
    """Queries of one generation in the vectors of another: evidence, and what the gate says of it.

    Attributes:
        evidence: for the direct route.
        adapted: for the best route through an adapter: one that the gate lets pass, if there is one; ``None`` without any.
        routes: for every route through an adapter that was measured.
        serves: for the route that queries would take.
        verdict: in a word; see ``upgrade.verdict``.
        reason: in a sentence.
        conditions: of the gate, on the route that would serve; those that a promotion would ask for, where that is known.
        negative: queries that would be answered wrongly and were not.
        positive: queries the other way round.
        options: every way of answering, with what it gives and costs.
        advice: which of them to take.
        answer: the way of answering that the conditions are on, where one was asked for; else as the check shows.
    """

    evidence: Evidence
    adapted: Evidence | None
    routes: tuple[Evidence, ...]
    serves: Evidence
    verdict: Verdict
    reason: str
    conditions: tuple[Condition, ...]
    negative: tuple[Flip, ...] = field(repr=False)
    positive: tuple[Flip, ...] = field(repr=False)
    options: tuple[Option, ...] = field(repr=False)
    advice: Recommendation
    answer: Answer | None = None

    @property
    def passed(self) -> bool:
        """Whether every condition of the gate is met that is asked for, directly or through a stored adapter."""
        return not any(condition.failed for condition in self.conditions)


@dataclass(frozen=True)
class Agreement:
    """How far two generations show the same items, where no labels say which are right.

    Attributes:
        new: name.
        old: name.
        k: length of the lists.
        overlap: mean share of the k nearest old vectors that queries of both generations have in common.
        same_first: share of queries whose nearest old vector is the same.
        queries: how many.
    """

    new: str
    old: str
    k: int
    overlap: float
    same_first: float
    queries: int


@dataclass(frozen=True)
class Check:
    """What ``check`` found.

    Attributes:
        candidate: name of the generation in question.
        generations: those measured, oldest first.
        protocol: what was searched for in what.
        images: the held-out images, for pictures of flips.
        conclusion: what the held-out images can conclude, in words.
        excluded: images left out because a generation had learned from them.
        matrix: by queries' and vectors' names, queries not older than vectors, metrics by group of classes.
        pairs: the candidate in the vectors of each other one.
        agreements: in place of pairs, where the images have no labels.
    """

    candidate: str
    generations: tuple[str, ...]
    protocol: str
    images: Protocol = field(repr=False)
    excluded: int
    matrix: Mapping[tuple[str, str], Mapping[str, RetrievalMetrics]] = field(default_factory=dict, repr=False)
    pairs: tuple[PairCheck, ...] = ()
    agreements: tuple[Agreement, ...] = ()
    conclusion: str = ""

    @property
    def passed(self) -> bool:
        """Whether the gate would let the candidate search all that was checked; never without labels."""
        return bool(self.pairs) and all(pair.passed for pair in self.pairs)

    @property
    def verdict(self) -> str:
        """The verdict on each pair with its reason, a sentence each."""
        if not self.pairs:
            return "nothing can be concluded: without labels nobody knows which answers are right."
        return " ".join(f"{pair.verdict}: {pair.reason}" for pair in self.pairs)

    def values(self, group: str = "all", metric: str = "recall@1") -> NDArray[np.float64]:
        """The matrix (T, T) of one metric, in the order of ``generations``; NaN above the diagonal."""
        count = len(self.generations)
        matrix = np.full((count, count), np.nan)
        for q, query in enumerate(self.generations):
            for g, gallery in enumerate(self.generations[: q + 1]):
                found = self.matrix[query, gallery].get(group)
                matrix[q, g] = np.nan if found is None else found.to_dict()[metric]
        return matrix

    def lineage(self) -> dict[str, float | None]:
        """AC, AM, BC and FC of recall@1 on all classes; see ``retrieval.continual`` for their formulas."""
        matrix = self.values()
        return {
            "AC": continual.average_compatibility(matrix),
            "AM": continual.average_multimodel(matrix),
            "BC": continual.backward_compatibility_change(matrix),
            "FC": continual.forward_compatibility_change(matrix),
        }

    def to_dict(self) -> dict[str, Any]:
        """The same as JSON values; flips with the URIs and labels of query and answers."""

        def shown(flips: Sequence[Flip]) -> list[dict[str, Any]]:
            images = self.images.images

            def image(index: int) -> dict[str, Any]:
                label = images.labels[index]
                return {
                    "uri": redacted(images.uris[index]),
                    "content_hash": images.hashes[index],
                    "label": images.classes[label] if label >= 0 else None,
                }

            return [
                {"query": image(flip.query), "before": image(flip.before), "after": image(flip.after)} for flip in flips
            ]

        return {
            "candidate": self.candidate,
            "generations": list(self.generations),
            "protocol": self.protocol,
            "conclusion": self.conclusion,
            "excluded": self.excluded,
            "passed": self.passed,
            "verdict": self.verdict,
            "matrix": {
                f"{query}:{gallery}": {group: metrics.to_dict() for group, metrics in found.items()}
                for (query, gallery), found in self.matrix.items()
            },
            "lineage": self.lineage() if self.matrix else {},
            "pairs": [
                {
                    "verdict": pair.verdict,
                    "reason": pair.reason,
                    "passed": pair.passed,
                    "answer": None if pair.answer is None else pair.answer.model_dump(),
                    "conditions": [vars(condition) for condition in pair.conditions],
                    "evidence": pair.evidence.model_dump(mode="json", by_alias=True),
                    "routes": [route.model_dump(mode="json", by_alias=True) for route in pair.routes],
                    "adapted": None if pair.adapted is None else pair.adapted.model_dump(mode="json", by_alias=True),
                    "negative flips": shown(pair.negative),
                    "positive flips": shown(pair.positive),
                    "options": [option.to_dict() for option in pair.options],
                    "advice": pair.advice.text,
                }
                for pair in self.pairs
            ],
            "agreements": [vars(agreement) for agreement in self.agreements],
        }


def compatibility(
    protocol: Protocol, spaces: Sequence[EmbeddedSpace], old_classes: Sequence[str], watcher: Watcher = SILENT
) -> dict[tuple[str, str], dict[str, RetrievalMetrics]]:
    """M(q, g) for every q not older than g: T extractions, T (T + 1) / 2 searches.

    Args:
        protocol: of N held-out images.
        spaces: T, oldest first.
        old_classes: names of the classes that count as old in every cell.
        watcher: hears how many searches are done, and of how many.
    """
    pairs = [(query, gallery) for index, query in enumerate(spaces) for gallery in spaces[: index + 1]]
    found = {}
    for done, (query, gallery) in enumerate(pairs, 1):
        vectors = in_width_of(query.embeddings, gallery.embeddings)
        found[query.name, gallery.name] = measure(protocol, vectors, gallery.embeddings, old_classes)
        watcher.counted("comparing generations", done, len(pairs))
    return found


def check_pair(
    protocol: Protocol,
    new: EmbeddedSpace,
    old: EmbeddedSpace,
    gate: Gate,
    *,
    adapters: Mapping[str, tuple[Vectors, Vectors]] | None = None,
    best: EmbeddedSpace | None = None,
    excluded: int = 0,
    scope: Scope = ALL,
    cost: Cost = UNKNOWN,
) -> PairCheck:
    """Measure queries of ``new`` in vectors of ``old`` and judge them.

    Args:
        protocol: of N held-out labelled images.
        new: the generation that would query.
        old: the space that would be searched.
        gate: the policy.
        adapters: by name, queries of ``new`` and vectors of ``old``, both (N, E) as an adapter compares them by their inner
            product; each is measured. Without any, where the direct way fails, rotations fitted on one half of the images and
            measured on the other tell whether an adapter would help.
        best: the same recipe without the constraint of compatibility, for update gain and price.
        excluded: images that were left out.
        scope: what a promotion would be judged on.
        cost: of looking at images, as far as it is known.
    """
    pairing = _Pairing(protocol, new, old, gate, best, excluded)
    as_it_is = in_width_of(new.embeddings, old.embeddings), old.embeddings
    direct, flips = pairing.through(*as_it_is)
    routes = [pairing.through(*vectors, adapter=name) for name, vectors in (adapters or {}).items()]
    ways = {"direct": as_it_is, **(adapters or {})}
    direct = direct.model_copy(
        update={"outcomes": pairing.outcomes_of((direct, *(route for route, _ in routes)), ways)}
    )
    if not adapters and not gate.compatible(direct) and len(protocol.images) >= 2 * LEAST_PAIRS:
        turned = _cross_fitted(new.embeddings, old.embeddings)
        routes = [pairing.through(turned, old.embeddings, adapter="procrustes", estimated=True)]
    measured = tuple(route for route, _ in routes)
    word, reason = verdict(gate, direct, *measured)
    serves, adapted = direct, None
    if routes:
        adapted, its_flips = max(routes, key=lambda route: (gate.compatible(route[0]), route[0].score("cross")))
        if gate.serves_through(direct, adapted):
            serves, flips = adapted, its_flips
    options = options_of(direct, gate, cost)
    advice = recommend(direct, options, gate, cost)
    conditions = gate.conditions(serves, scope)
    return PairCheck(direct, adapted, measured, serves, word, reason, conditions, *flips, options, advice)


def agreement(protocol: Protocol, new: EmbeddedSpace, old: EmbeddedSpace, k: int = AGREEMENT_AT) -> Agreement:
    """Compare the lists that both generations' queries get from the old vectors of the gallery, each itself left out."""
    query, rows = protocol.query, protocol.gallery
    gallery, exclusion = torch.from_numpy(old.embeddings[rows]), protocol.exclusion()
    itself = exclusion.itself
    k = max(1, min(k, len(gallery) - int(itself is not None and bool((itself >= 0).any()))))
    lists = [
        nearest(torch.from_numpy(queries[query]), gallery, k, exclusion=exclusion).indices
        for queries in (old.embeddings, in_width_of(new.embeddings, old.embeddings))
    ]
    common = (lists[0][:, :, None] == lists[1][:, None, :]).any(2).double().mean().item()
    first = (lists[0][:, 0] == lists[1][:, 0]).double().mean().item()
    return Agreement(new.name, old.name, k, common, first, len(query))


@dataclass(frozen=True)
class _Pairing:
    """Two spaces on the same held-out images, and how one is measured in the other; see ``check_pair``."""

    protocol: Protocol
    new: EmbeddedSpace
    old: EmbeddedSpace
    gate: Gate
    best: EmbeddedSpace | None
    excluded: int

    @cached_property
    def alone(self) -> _Searches:
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
    ) -> tuple[Evidence, _Flips]:
        """Evidence for a route, and the queries that flip on it.

        Args:
            query: (N, E) queries of the new generation as the route compares them.
            gallery: (N, E) vectors of the old one, likewise.
            adapter: name of the adapter that the route goes through.
            estimated: whether that was fitted to the held-out images themselves, in halves.
        """
        searches: _Searches = {**self.alone, "cross": self._searched(query, gallery)}
        before, cross = searches["old self"][0]["all"], searches["cross"][0]["all"]
        flips = (
            _flips(self.protocol, before.valid & before.hits_at_1 & ~cross.hits_at_1, before, cross),
            _flips(self.protocol, before.valid & ~before.hits_at_1 & cross.hits_at_1, before, cross),
        )
        return self._evidence(searches, adapter, estimated), flips

    def outcomes_of(
        self, routes: Sequence[Evidence], vectors: Mapping[str, tuple[Vectors, Vectors]]
    ) -> tuple[Outcome, ...]:
        """What every way of answering gives.

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
        return outcomes(self.protocol, old, new, compared, confidence=self.gate.confidence)

    def _searched(self, query: Vectors, gallery: Vectors) -> tuple[dict[str, RetrievalMetrics], Calibration | None]:
        metrics = measure(self.protocol, query, gallery, self.old.classes)
        return metrics, _calibration(self.protocol, query, gallery)

    def _evidence(self, searches: _Searches, adapter: str | None, estimated: bool) -> Evidence:
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
            protocol=protocol.description,
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
        """What the new generation, alone, has lost on the old classes; or why that was not measured."""
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
    if protocol.judgements is not None:
        found = nearest(
            torch.from_numpy(query[q]), torch.from_numpy(gallery[g]), min(DEPTH, len(g)), exclusion=protocol.exclusion()
        )
        matches, there = protocol.relevance(q, g).grades(found) > 0, found.indices >= 0
        return fit_calibration(found.scores[there], matches[there])
    return calibrate(
        torch.from_numpy(query[q]), labels[q], torch.from_numpy(gallery[g]), labels[g], exclusion=protocol.exclusion()
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


def _cross_fitted(new: Vectors, old: Vectors) -> Vectors:
    """(N, D') each half of the embeddings mapped by the rotation that the other half gave."""
    order = np.random.default_rng(0).permutation(len(new))
    mapped = np.empty_like(old)
    for fitted, measured in ((order[::2], order[1::2]), (order[1::2], order[::2])):
        adapter = fit_procrustes(torch.from_numpy(new[fitted]), torch.from_numpy(old[fitted]))
        mapped[measured] = adapter(torch.from_numpy(new[measured])).numpy()
    return mapped


def without(protocol: Protocol, left_out: NDArray[np.bool_]) -> Protocol:
    """A protocol without some of its N images."""
    kept = np.flatnonzero(~left_out)
    place = np.full(len(left_out), -1, dtype=np.int64)
    place[kept] = np.arange(len(kept))
    query, gallery = place[protocol.query], place[protocol.gallery]
    return replace(
        protocol, images=protocol.images.select(kept), query=query[query >= 0], gallery=gallery[gallery >= 0]
    )
