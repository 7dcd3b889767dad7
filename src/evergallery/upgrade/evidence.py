"""The evidence of a check of two spaces, as figures that a gate can judge later."""

from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

from evergallery.holdings.answer import CHECKED, Answer
from evergallery.retrieval.bootstrap import Interval
from evergallery.retrieval.calibration import Calibration

Test = Literal["old self", "new self", "cross"]
"""The old generation alone, the new one alone, and new queries in old vectors."""
TESTS: tuple[Test, ...] = get_args(Test)


OldClasses = Literal["given", "learned", "gallery"]
"""Named by whoever asked, learned by the old generation, or the labels of its items in the gallery."""


class Figures(BaseModel):
    """One search, for one group of classes; fractions in [0, 1]."""

    model_config = ConfigDict(frozen=True)

    recall: dict[int, float]
    map_at_r: float = Field(alias="mAP@R")
    queries: int
    dropped: int
    ndcg: dict[int, float] | None = None
    """nDCG@k by k, where judgements are graded."""
    others: dict[str, float] = Field(default_factory=dict)
    """Every other metric by name; none in checks of older versions."""

    def by_name(self) -> dict[str, float]:
        """Every metric by name, as ``RetrievalMetrics.values`` has them."""
        recall = {f"recall@{k}": value for k, value in self.recall.items()}
        graded = {f"nDCG@{k}": value for k, value in (self.ndcg or {}).items()}
        return {**recall, "mAP@R": self.map_at_r, **self.others, **graded}


class Setting(BaseModel):
    """A way of answering, with a share of the gallery refreshed.

    Attributes:
        way: one of ``holdings.answer``; or ``wait``, the old generation alone, or ``refresh``, the new one alone.
        candidates: older vectors that are scored again for a query, where any are.
        through: name of the adapter that queries go through, or ``direct`` where re-scoring finds its candidates without the old
            model.
        share: of the gallery that is refreshed, in [0, 1].
    """

    model_config = ConfigDict(frozen=True)

    way: Literal["wait", "direct", "adapter", "dual", "rescore", "refresh"]
    candidates: int | None = None
    through: str | None = None
    share: float = 0.0


class Outcome(Setting):
    """The outcome of a way of answering.

    Attributes:
        score: recall@1, or nDCG@1 where judgements are graded, in [0, 1].
        change: of it against the old generation alone, paired over queries.
        negative_flips: share of queries that the old generation answers rightly and this way wrongly.
        images: that are embedded for a query while nothing is kept.
        images_kept: the same over the held-out queries in a row, each image once.
    """

    score: float
    change: Interval
    negative_flips: float
    images: float = 0.0
    images_kept: float = 0.0


class Evidence(BaseModel):
    """Queries of ``new`` in vectors of ``old``, measured on held-out images.

    Attributes:
        new: name of the generation that queries.
        old: name of the space that is searched.
        fingerprints: of both.
        adapter: name of the adapter that queries go through, or ``None``.
        estimated: whether the adapter was fitted and measured on halves of the held-out images, and is not stored.
        protocol: what was searched for in what.
        data: fingerprint of the held-out images.
        excluded: images left out because a generation had learned from them.
        queries: queries that counted.
        recall_at_1: by test and group of classes: old, new, all.
        metric: what ``score`` is, and what the changes are of: recall@1, or nDCG@1 where judgements are graded.
        cross_change: recall@1 of the cross-test minus that of the old self-test, all classes, paired over queries.
        self_change: the same for the new self-test.
        forgetting: recall@1 on old classes, old self-test minus new self-test; ``None`` where it was not measured.
        old_classes: where the names of the old classes come from; in checks of older versions ``None``.
        forgetting_not_measured: why not.
        negative_flips: share of queries that the old generation answers rightly and the cross-test wrongly.
        positive_flips: share of queries the other way round.
        update_gain: Γ against the reference generation ``best``; ``None`` without one.
        price: recall@1 that ``best`` has over ``new``, each alone.
        best: name of the generation trained without the constraint of compatibility.
        calibrations: for the cosines of new queries in old vectors, and of each generation in its own.
        answer: how queries get to the old vectors.
        outcomes: what every way of answering gives, on the direct route; none in checks of older versions.
        time: ISO 8601, UTC.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    new: str
    old: str
    fingerprints: tuple[str, str]
    adapter: str | None = None
    estimated: bool = False
    protocol: str
    data: str
    excluded: int = 0
    queries: int
    metric: Literal["recall@1", "nDCG@1"] = "recall@1"
    figures: dict[Test, dict[str, Figures]]
    cross_change: Interval
    self_change: Interval
    forgetting: float | None
    old_classes: OldClasses | None = None
    forgetting_not_measured: str | None = None
    negative_flips: float
    positive_flips: float
    update_gain: float | None = None
    price: float | None = None
    best: str | None = None
    calibrations: dict[Test, Calibration | None]
    answer: Answer = CHECKED
    outcomes: tuple[Outcome, ...] = ()
    time: str

    def recall(self, test: Test, group: str = "all", k: int = 1) -> float:
        """recall@k of a test, in [0, 1]."""
        return self.figures[test][group].recall[k]

    def score(self, test: Test, group: str = "all") -> float:
        """Return what a test gives in ``metric``, in [0, 1]."""
        figures = self.figures[test][group]
        return figures.ndcg[1] if self.metric == "nDCG@1" and figures.ndcg else figures.recall[1]

    def answered(self, answer: Answer, share: float, through: str | None = None) -> "Evidence | None":
        """The evidence of a dual query, or of re-scoring, at the worst of the shares that a refresh has still to pass.

        Args:
            answer: how queries get to the old vectors.
            share: of the gallery that is refreshed by now.
            through: how re-scoring finds its candidates where the old model does not look at queries.

        Returns:
            ``None`` where that has not been measured.
        """
        found = [
            outcome
            for outcome in self.outcomes
            if (outcome.way, outcome.through) == (answer.way, through)
            and (answer.way == "dual" or outcome.candidates == self._measured(answer.candidates))
        ]
        last = max((outcome.share for outcome in found if outcome.share <= share), default=0.0)
        ahead = [outcome for outcome in found if outcome.share >= last]
        if not ahead:
            return None
        worst = min(ahead, key=lambda outcome: outcome.change.low)
        return self.model_copy(
            update={
                "answer": answer,
                "cross_change": worst.change,
                "negative_flips": max(outcome.negative_flips for outcome in ahead),
                "adapter": None,
            }
        )

    def _measured(self, candidates: int) -> int | None:
        """The largest number of candidates that was measured and is not above this one."""
        numbers = [outcome.candidates for outcome in self.outcomes if outcome.candidates is not None]
        return max((number for number in numbers if number <= candidates), default=None)

    def path(self) -> str:
        """Return how queries get from ``new`` to ``old``, for a sentence."""
        if self.answer.way == "dual":
            return f"by queries of {self.old} itself, at the worst share that is refreshed"
        if self.answer.way == "rescore":
            return f"through {self.answer.candidates} candidates that are scored again, at the worst share that is refreshed"
        if self.adapter is None:
            return "directly"
        return (
            f"through an adapter ({self.adapter}, fitted on other held-out images)"
            if self.estimated
            else f"through {self.adapter}"
        )
