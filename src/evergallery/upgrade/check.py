"""Generations side by side on held-out images: the matrix, every pair's evidence, and the queries that flip."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from evergallery.devices.computing import computed
from evergallery.evaluation import Protocol, measure
from evergallery.holdings.answer import Answer
from evergallery.retrieval import continual
from evergallery.retrieval.knn import nearest
from evergallery.retrieval.metrics import RetrievalMetrics
from evergallery.retrieval.width import in_width_of
from evergallery.strings.redaction import redacted
from evergallery.upgrade.evidence import Evidence
from evergallery.upgrade.gate import ALL, Condition, Scope
from evergallery.upgrade.options import UNKNOWN, Cost, Option, Recommendation, options_of, recommend
from evergallery.upgrade.pairing import EmbeddedSpace, Flip, Pairing, Vectors, cross_fitted
from evergallery.upgrade.verdict import Verdict, verdict
from evergallery.watching import SILENT, Watcher

PROMOTED, EVERY = "promoted", "all"
"""The opponents of a check that are no names: the generation that answers, and the whole lineage."""
AGREEMENT_AT = 10
# Fewer pairs than dimensions do not determine a rotation, let alone show that it holds for other images.
LEAST_PAIRS = 64


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
        scope: what a promotion would ask for of these vectors.
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
    scope: Scope = ALL
    answer: Answer | None = None

    @property
    def passed(self) -> bool:
        """Return whether every condition of the gate is met that is asked for, directly or through a stored adapter."""
        return not any(condition.failed for condition in self.conditions)


@dataclass(frozen=True)
class Agreement:
    """The agreement of two generations, where no labels say which items are right.

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
    """The result of ``check``.

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
        """Return whether the gate would let the candidate search all that was checked; never without labels."""
        return bool(self.pairs) and all(pair.passed for pair in self.pairs)

    @property
    def advice(self) -> tuple[Recommendation, ...]:
        """The advice to follow: that of keeping the generation that answers silences what is advised for older vectors."""
        kept = [pair.advice for pair in self.pairs if pair.scope.alone and pair.advice.answer is None]
        useful = [pair.advice for pair in self.pairs if pair.advice.answer is not None]
        return tuple(dict.fromkeys(kept or useful or [pair.advice for pair in self.pairs]))

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
        """The check as JSON values; flips with the URIs and labels of query and answers."""

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
            "advice": [advice.text for advice in self.advice],
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
    pairing: Pairing,
    *,
    adapters: Mapping[str, tuple[Vectors, Vectors]] | None = None,
    scope: Scope = ALL,
    cost: Cost = UNKNOWN,
) -> PairCheck:
    """Measure queries of a generation in vectors of another one, and judge them.

    Args:
        pairing: the two, on held-out images.
        adapters: by name, queries of the new and vectors of the old one, both (N, E) as an adapter compares them by their inner
            product; each is measured. Without any, where the direct way fails, rotations fitted on one half of the images and
            measured on the other tell whether an adapter would help.
        scope: what a promotion would be judged on.
        cost: of looking at images, as far as it is known.
    """
    new, old, gate = pairing.new, pairing.old, pairing.gate
    as_it_is = in_width_of(new.embeddings, old.embeddings), old.embeddings
    direct, flips = pairing.through(*as_it_is)
    routes = [pairing.through(*vectors, adapter=name) for name, vectors in (adapters or {}).items()]
    ways = {"direct": as_it_is, **(adapters or {})}
    direct = direct.model_copy(
        update={"outcomes": pairing.outcomes_of((direct, *(route for route, _ in routes)), ways)}
    )
    if not adapters and not gate.compatible(direct) and len(pairing.protocol.images) >= 2 * LEAST_PAIRS:
        turned = cross_fitted(new.embeddings, old.embeddings)
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
    return PairCheck(direct, adapted, measured, serves, word, reason, conditions, *flips, options, advice, scope)


def agreement(protocol: Protocol, new: EmbeddedSpace, old: EmbeddedSpace, k: int = AGREEMENT_AT) -> Agreement:
    """Compare the lists that both generations' queries get from the old vectors of the gallery, each itself left out."""
    query, rows = protocol.query, protocol.gallery
    gallery, exclusion = torch.from_numpy(old.embeddings[rows]), protocol.exclusion()
    itself = exclusion.itself
    k = max(1, min(k, len(gallery) - int(itself is not None and bool((itself >= 0).any()))))
    lists = [
        computed(
            len(query) * gallery.numel(), nearest, torch.from_numpy(queries[query]), gallery, k, exclusion=exclusion
        ).indices
        for queries in (old.embeddings, in_width_of(new.embeddings, old.embeddings))
    ]
    common = (lists[0][:, :, None] == lists[1][:, None, :]).any(2).double().mean().item()
    first = (lists[0][:, 0] == lists[1][:, 0]).double().mean().item()
    return Agreement(new.name, old.name, k, common, first, len(query))


def without(protocol: Protocol, left_out: NDArray[np.bool_]) -> Protocol:
    """A protocol without some of its N images."""
    kept = np.flatnonzero(~left_out)
    place = np.full(len(left_out), -1, dtype=np.int64)
    place[kept] = np.arange(len(kept))
    query, gallery = place[protocol.query], place[protocol.gallery]
    return replace(
        protocol, images=protocol.images.select(kept), query=query[query >= 0], gallery=gallery[gallery >= 0]
    )
