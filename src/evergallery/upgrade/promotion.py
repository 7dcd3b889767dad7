"""The verbs ``promote`` and ``rollback``: one atomic change of what answers queries, after the gate.

A promotion is judged on the new generation alone against the one that answers now, and on the vectors of every other space
that it would search: each from the last check of the two, while that is of the same fingerprints.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self, overload

from evergallery.errors import BusyError, InputError, NotFoundError, RefusedError
from evergallery.gallery.items import View
from evergallery.holdings.answer import CHECKED, Answer, Way
from evergallery.holdings.comparing import may_stand_together, require_compatible, stored_spaces
from evergallery.holdings.holdings import Holdings, changing
from evergallery.holdings.spaces import Space
from evergallery.holdings.state import Pair, PromotionReason, State, now
from evergallery.retrieval.calibration import Calibration
from evergallery.upgrade.gate import Condition, Scope, gate_of
from evergallery.upgrade.kept_evidence import evidence_between

MOST_ENTRIES = 10_000
"""Entries of the log in which earlier checks are looked for."""


@dataclass(frozen=True)
class Comparison:
    """A space that a promotion is judged against.

    Attributes:
        space: which.
        scope: whether it answers now, so that both generations alone are compared, and whether it would be searched.
        share: of the gallery that has vectors of the new generation, in [0, 1].
    """

    space: Space
    scope: Scope
    share: float = 0.0


@dataclass(frozen=True)
class Judgement:
    """The grounds on which a promotion is judged.

    Attributes:
        judged: what was compared, in words; what was not needed, and why.
        conditions: of the gate, each with the name of the space that is compared with.
    """

    judged: str
    conditions: tuple[tuple[str, Condition], ...]

    @property
    def failed(self) -> list[str]:
        """The conditions that are not met, in words."""
        return [f"{space}: {condition}" for space, condition in self.conditions if condition.failed]

    @property
    def refresh_would_do(self) -> bool:
        """Return whether nothing but the older vectors stands against the generation."""
        return bool(self.failed) and {condition.name for _, condition in self.conditions if condition.failed} <= {
            "cross-test",
            "negative flips",
        }

    def next_step(self, generation: str) -> str:
        """Return what may open the gate to a generation that is refused, in a sentence with its command."""
        if self.refresh_would_do:
            return (
                f"Alone it passes: run  evergallery refresh {generation}  , whose vectors wait in the shadow, and promote it "
                f"then; or choose a way of answering with --answer, of which  evergallery check {generation} --data HELD_OUT  "
                f"says what each gives."
            )
        return f"To show more, run  evergallery check {generation} --data HELD_OUT  again with more held-out images."


@dataclass(frozen=True)
class Promotion(Sequence[tuple[str, Condition]]):
    """The result of a promotion; as a sequence, the gate's conditions, each with the name of the space compared with.

    Attributes:
        generation: that answers queries now.
        before: that did.
        judged: what was compared, in words.
        conditions: of the gate.
        refused: what the gate refused, where it was promoted all the same.
        answer: how queries are answered over older vectors.
        scores: how a smallest score moves with the model, in a sentence; ``None`` where nothing moved.
        checks: how many checks had failed before the one that passed, in a sentence; ``None`` where none had.
        changed: whether another generation answered before, or in another way.
        why: in the words of whoever decided it.
    """

    generation: str
    before: str | None
    judged: str
    conditions: tuple[tuple[str, Condition], ...] = ()
    refused: str | None = None
    answer: Answer = CHECKED
    scores: str | None = None
    checks: str | None = None
    changed: bool = True
    why: str | None = None

    @classmethod
    def unchanged(cls, generation: str, answer: Answer) -> Self:
        """The result where a generation answers so already."""
        judged = "nothing, because nothing was changed"
        return cls(generation, generation, judged, answer=answer, changed=False)

    def __str__(self) -> str:
        return " ".join(self.lines)

    @property
    def lines(self) -> list[str]:
        """Return what was done, then what somebody should know of the checks before it and of smallest scores; a line each."""
        if not self.changed:
            return [f"{self.generation} answers queries already: nothing was changed."]
        how = "" if self.answer.way == "checked" else f" Way of answering: {self.answer}."
        notes = [note for note in (self.checks, self.scores) if note]
        if self.refused:
            done = (
                f"{self.generation} answers queries now, against what was measured or is missing. {self.refused}{how}"
            )
        else:
            done = f"{self.generation} answers queries now. Judged: {self.judged}.{how}"
        return [done, *notes]

    @overload
    def __getitem__(self, index: int) -> tuple[str, Condition]: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[tuple[str, Condition], ...]: ...
    def __getitem__(self, index: Any) -> Any:
        return self.conditions[index]

    def __len__(self) -> int:
        return len(self.conditions)


def comparisons(holdings: Holdings, candidate: Space) -> list[Comparison]:
    """Return what a promotion of a generation is judged on, as the gallery stands.

    Raises:
        RefusedError: the generation that answers now is not here.
    """
    answering = _answering(holdings, candidate)
    view = view_with(holdings, candidate.name)
    counts = holdings.gallery.count_by_generation(view=view)
    share = counts.get(candidate.fingerprint, 0) / max(1, sum(counts.values()))
    held = {space.fingerprint: space for space in stored_spaces(holdings, view=view)}
    others = ({answering.fingerprint: answering} if answering else {}) | held
    return [
        Comparison(
            space, Scope(answering is not None and fingerprint == answering.fingerprint, fingerprint in held), share
        )
        for fingerprint, space in others.items()
        if fingerprint != candidate.fingerprint
    ]


def judge(holdings: Holdings, generation: str, answer: Answer | None = None) -> Judgement:
    """Return what a promotion would be judged on as the gallery stands: the last checks, by the policy of this moment.

    The generation alone is compared with the one that answers now, alone, and its queries with those of every other space
    whose vectors it would search, in the way that they would be answered. While the gallery is empty no check is asked for; one
    that was made counts.

    Args:
        holdings: of the workspace.
        generation: that would answer.
        answer: how it would; as it does where it answers already, and else as the last check has shown.

    Raises:
        RefusedError: it has not been checked against one of them.
    """
    candidate = Space(holdings.generation(generation))
    answer = _chosen(holdings.state, generation, answer)
    compared = comparisons(holdings, candidate)
    empty = not stored_spaces(holdings, view=view_with(holdings, generation))
    judged: list[str] = []
    conditions: list[tuple[str, Condition]] = []
    for comparison in compared:
        space, scope = comparison.space, comparison.scope
        evidence = evidence_between(holdings, candidate, space, answer, comparison.share)
        if evidence is None and empty:
            continue
        if evidence is None:
            why = "answers queries now" if scope.alone else "has vectors in the gallery that it would search"
            how = f" in the way {answer.way}" if answer.way != "checked" else ""
            raise RefusedError(
                f"{candidate.name} has not been checked{how} against {space.name}, which {why}: run  evergallery check "
                f"{candidate.name} --against {space.name} --data HELD_OUT  first."
            )
        judged += [f"{candidate.name} alone against {space.name} alone"] if scope.alone else []
        judged += (
            [f"queries of {candidate.name} in vectors of {space.name} {evidence.path()}"] if scope.searched else []
        )
        found = gate_of(holdings).conditions(evidence, scope)
        conditions += [(space.name, condition) for condition in found]
    if not judged:
        judged = [
            "nothing, because no generation has answered before"
            if holdings.state.promoted is None
            else "nothing, because the gallery is empty, so that no answer can become worse"
        ]
    return Judgement(" and ".join(judged), tuple(conditions))


def promote(
    holdings: Holdings,
    generation: str,
    *,
    answer: Answer | Way | None = None,
    force: bool = False,
    why: str | None = None,
) -> Promotion:
    """Let a generation answer queries from now on, in a way that is chosen; one atomic change.

    Vectors that were refreshed for it, and not shown so far, are shown from the same moment. For re-scoring a refresh is opened,
    which keeps what is made. Where the generation answers so already, nothing changes.

    Args:
        holdings: of the workspace.
        generation: that shall answer.
        answer: how older vectors are searched, or its name; as now where the generation answers already, and else as the last
            check has shown.
        force: although the gate refuses it.
        why: the reason for that.

    Returns:
        What was done and what it was judged on; as a sequence, the conditions of the gate, each with the name of the space
        that is compared with.

    Raises:
        RefusedError: the gate has not been passed, see ``judge``, or nobody has shown that it may search a space whose
            vectors the gallery holds; ``force`` with a reason ``why`` accepts that, and both are recorded.
        BusyError: another promotion, or a refresh, came between.
        DamagedError: another model is behind its endpoint than was registered.
        UnavailableError: its endpoint does not answer.
    """
    candidate = Space(holdings.generation(generation))
    if force:
        _require_reason(generation, why)
    basis = holdings.state
    chosen = _chosen(basis, generation, Answer.of(answer) if isinstance(answer, str) else answer)
    if (candidate.name, chosen) == (basis.promoted, basis.answer):
        return Promotion.unchanged(candidate.name, chosen)
    stored = stored_spaces(holdings, view=view_with(holdings, generation))
    _require_able(basis, candidate, chosen, stored)
    if candidate.maker.is_asked and not force:
        # What was checked is the model that was registered, and not whatever is behind its name by now.
        holdings.loaded.embedder(candidate.maker).require_same()
    found, refusal = judge_with_refusal(holdings, generation, chosen, basis)
    if refusal is not None and not force:
        raise _recorded(holdings, refusal, candidate.name, chosen) from refusal
    promotion = Promotion(
        candidate.name,
        basis.promoted,
        found.judged,
        found.conditions,
        refused=None if refusal is None else str(refusal),
        answer=chosen,
        checks=_failed_checks(holdings, candidate.name, {space for space, _ in found.conditions}),
        why=why,
    )
    _switch(holdings, promotion, candidate, stored if force else (), basis)
    _record(holdings, promotion)
    return replace(promotion, scores=_scores_moved(holdings.state, basis, candidate, holdings))


def _require_reason(generation: str, why: str | None) -> None:
    if not (why and why.strip()):
        raise InputError(
            f"Promoting against the evidence needs a reason: give it with  evergallery promote {generation} --force --why REASON"
        )


def _recorded(holdings: Holdings, refusal: RefusedError, generation: str, answer: Answer) -> RefusedError:
    """A refusal of the gate, noted in the journal, with what promotes the generation all the same."""
    holdings.journal.record("promote refused", generation=generation, answer=str(answer), reason=str(refusal))
    return RefusedError(f"{refusal} To promote it all the same:  evergallery promote {generation} --force --why REASON")


def _switch(
    holdings: Holdings, promotion: Promotion, candidate: Space, accepted: Sequence[Space], basis: State
) -> None:
    """Let a generation answer, in one change of the state that it was judged on.

    Args:
        holdings: of the workspace.
        promotion: what is to be done.
        candidate: the generation's space.
        accepted: the spaces that it may search because somebody says so.
        basis: the state that it was judged on.

    Raises:
        BusyError: the state is another one by now.
    """
    with changing(holdings, "promoting a generation") as state:
        if (state.promoted, state.answer, state.view()) != (basis.promoted, basis.answer, basis.view()):
            raise BusyError(f"What answers queries changed while {candidate.name} was judged: promote it again.")
        if accepted:
            _accept(state, candidate, accepted, promotion.answer, str(promotion.why))
        if promotion.answer.way == "rescore" and state.refresh is None:
            # In the shadow until the promotion, which shows it, so that a rollback hides what it will keep.
            state.open_refresh(candidate.name, candidate.fingerprint, candidate.fingerprint)
        state.promote(
            candidate.name,
            PromotionReason(
                promotion.why or f"the gate was passed, judged on {promotion.judged}",
                promotion.judged,
                promotion.refused,
            ),
            fingerprint=candidate.fingerprint,
            answer=promotion.answer,
        )


def _record(holdings: Holdings, promotion: Promotion) -> None:
    holdings.journal.record(
        "promote",
        generation=promotion.generation,
        before=promotion.before,
        answer=str(promotion.answer),
        forced=promotion.refused is not None,
        why=promotion.why,
        refused=promotion.refused,
        judged=promotion.judged,
        checks=promotion.checks,
        conditions=[f"{space}: {condition}" for space, condition in promotion.conditions],
    )


def judge_with_refusal(
    holdings: Holdings, generation: str, answer: Answer, state: State
) -> tuple[Judgement, RefusedError | None]:
    """Return what the gate says of a generation that would answer in a way, and why it refuses that; nothing is changed.

    Args:
        holdings: of the workspace.
        generation: that would answer.
        answer: how it would.
        state: of now.
    """
    candidate = Space(holdings.generation(generation))
    found = Judgement("nothing, because there is no evidence", ())
    try:
        found = judge(holdings, generation, answer)
        if found.failed:
            raise RefusedError(
                f"The gate refuses {candidate.name}. {'; '.join(found.failed)}. {found.next_step(candidate.name)}"
            )
        stored = stored_spaces(holdings, view=view_with(holdings, generation))
        require_compatible(holdings, candidate, stored, state.model_copy(update={"answer": answer}))
    except RefusedError as refusal:
        return found, refusal
    return found, None


def as_promoted(
    holdings: Holdings, state: State, generation: str, answer: Answer, *, forced: str | None = None
) -> State:
    """A state in which a generation answers, and that nobody writes down.

    Args:
        holdings: of the workspace.
        state: that it follows.
        generation: that answers.
        answer: how it does.
        forced: why, where the gate refuses it.
    """
    copy = state.model_copy(deep=True)
    candidate = Space(holdings.generation(generation))
    copy.promote(generation, PromotionReason("for some clients"), fingerprint=candidate.fingerprint, answer=answer)
    if forced is not None:
        _accept(copy, candidate, stored_spaces(holdings, view=copy.view()), answer, forced)
    return copy


def _accept(state: State, candidate: Space, stored: Sequence[Space], answer: Answer, why: str) -> None:
    """Let a generation search all that is stored, because somebody says so."""
    for space in stored:
        if not state.may_compare(candidate.fingerprint, space.fingerprint) and not answer.looks_twice:
            state.accept(
                Pair(
                    new=candidate.name,
                    old=space.name,
                    fingerprints=(candidate.fingerprint, space.fingerprint),
                    shown_by="force",
                    evidence=why,
                    time=now(),
                )
            )


def roll_back(holdings: Holdings) -> str:
    """Let the generation that was promoted before answer queries again, over the vectors that it searched; atomic.

    Raises:
        RefusedError: there was none before, or the vectors that it searched were given up by a commit.
    """
    with changing(holdings, "rolling back") as state:
        left = state.promoted
        name = state.roll_back()
        before = Space(holdings.generation(name))
        for space in stored_spaces(holdings, view=state.view()):
            if not may_stand_together(state, before, space):
                raise RefusedError(
                    f"The gallery holds vectors of {space.name} that {name} has not been shown to be compatible with: "
                    f"run  evergallery check {name} --against {space.name} --data HELD_OUT  and then  evergallery promote {name}"
                )
    holdings.journal.record("rollback", generation=name, left=left)
    return name


def _answering(holdings: Holdings, candidate: Space) -> Space | None:
    """The generation that answers now, with vectors of its own."""
    if holdings.state.promoted is None:
        return None
    try:
        return Space(holdings.promoted)
    except NotFoundError as error:
        raise RefusedError(f"{error} Nothing can be compared with {candidate.name}.") from error


def view_with(holdings: Holdings, generation: str) -> View:
    """Return what searches would see once ``generation`` is promoted."""
    state = holdings.state.model_copy(deep=True)
    state.promote(generation, PromotionReason(""), fingerprint=holdings.generation(generation).fingerprint)
    return state.view()


def _chosen(state: State, generation: str, answer: Answer | None) -> Answer:
    return answer or (state.answer if generation == state.promoted else CHECKED)


def _require_able(state: State, candidate: Space, answer: Answer, stored: Sequence[Space]) -> None:
    """Refuse a way of answering that cannot work, before anything is judged."""
    if answer.way != "rescore":
        return
    name = candidate.name
    if not candidate.maker.extracts and any(space.fingerprint != candidate.fingerprint for space in stored):
        raise InputError(
            f"{name} has vectors only and cannot look at images, so that nothing can be scored again: choose --answer dual, or "
            f"import its vectors of all items with  evergallery import FILE --refresh"
        )
    opened = state.refresh
    if opened is not None and opened.fingerprint != candidate.fingerprint:
        raise RefusedError(
            f"{opened.id}, a refresh for {opened.generation}, is open, and vectors that are scored again are kept in one for "
            f"{name}: end it with  evergallery refresh --commit  or  --discard  first."
        )


def _failed_checks(holdings: Holdings, generation: str, others: Collection[str]) -> str | None:
    """Say that a generation was checked until it passed, which may be chance."""
    entries = [
        entry
        for entry in holdings.journal.last(MOST_ENTRIES)
        if entry["operation"] == "check" and entry.get("generation") == generation and entry.get("against") in others
    ]
    failed = sum(
        any(str(condition).startswith("NOT MET: self-test") for condition in entry.get("conditions", ()))
        for entry in entries
    )
    if not failed:
        return None
    return (
        f"Of {len(entries)} checks of {generation}, {failed} did not show that it is no worse alone. The last one counts, and of "
        f"many one passes by chance."
    )


def _scores_moved(state: State, before: State, candidate: Space, holdings: Holdings) -> str | None:
    """Say that a smallest score of before means something else now, with an example where it is known."""
    if before.promoted is None or before.promoted == candidate.name:
        return None
    old = Space(holdings.generation(before.promoted)).fingerprint
    if old == candidate.fingerprint:
        return None
    scales = [state.scale(space, space, None) for space in (old, candidate.fingerprint)]
    new, earlier = candidate.name, before.promoted
    told = f"Scores of {new} are not those of {earlier}: a --min-score chosen for {earlier} must change."
    if scales[0] is None or scales[1] is None:
        return f"{told} Measure what it becomes with  evergallery check {new} --against {earlier} --data HELD_OUT"
    was, now_is = (Calibration(scale.slope, scale.intercept) for scale in scales if scale is not None)
    example = was.score_at(0.5)
    return (
        f"{told} A match as likely to be right as wrong had a score of {example:.2f} and has {now_is.score_at(0.5):.2f} now. To "
        f"have yours translated, search with  --min-score SCORE --min-score-of {earlier}"
    )
