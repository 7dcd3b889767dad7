"""The verbs ``promote`` and ``rollback``: one atomic change of what answers queries, after the gate.

A promotion is judged on the new generation alone against the one that answers now, and on the vectors of every other space
that it would search: each from the last check of the two, while that is of the same fingerprints.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, overload

from evergallery.errors import BusyError, InputError, NotFoundError, RefusedError
from evergallery.gallery.items import View
from evergallery.holdings.comparing import require_compatible, stored_spaces
from evergallery.holdings.holdings import Holdings, changing
from evergallery.holdings.spaces import Space
from evergallery.holdings.state import Pair, now
from evergallery.upgrade.checks import evidence_between
from evergallery.upgrade.gate import Condition, Judged, gate_of


@dataclass(frozen=True)
class Comparison:
    """A space that a promotion is judged against.

    Attributes:
        space: which.
        judged: whether it answers now, so that both generations alone are compared, and whether it would be searched.
    """

    space: Space
    judged: Judged


@dataclass(frozen=True)
class Judgement:
    """What a promotion is judged on.

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

    def next_step(self, generation: str) -> str:
        """What may open the gate to a generation that is refused, in a sentence with its command."""
        failed = {condition.name for _, condition in self.conditions if condition.failed}
        if failed <= {"cross-test", "negative flips"}:
            return (
                f"Alone it passes: run  evergallery refresh {generation}  , whose vectors wait in the shadow, and promote it "
                f"then."
            )
        return (
            f"To show more, give more held-out images to  evergallery check {generation} --data HELD_OUT  , which says how many "
            f"would decide."
        )


@dataclass(frozen=True)
class Promotion(Sequence[tuple[str, Condition]]):
    """What a promotion did; as a sequence, the gate's conditions, each with the name of the space that is compared with.

    Attributes:
        generation: that answers queries now.
        before: that did.
        judged: what was compared, in words.
        conditions: of the gate.
        refused: what the gate refused, where it was promoted all the same.
    """

    generation: str
    before: str | None
    judged: str
    conditions: tuple[tuple[str, Condition], ...] = ()
    refused: str | None = None

    @property
    def changed(self) -> bool:
        """Whether another generation answered before."""
        return self.generation != self.before

    def __str__(self) -> str:
        if not self.changed:
            return f"{self.generation} answers queries already: nothing was changed."
        if self.refused:
            return f"{self.generation} answers queries now, against what was measured or is missing. {self.refused}"
        return f"{self.generation} answers queries now. Judged: {self.judged}."

    @overload
    def __getitem__(self, index: int) -> tuple[str, Condition]: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[tuple[str, Condition], ...]: ...
    def __getitem__(self, index: Any) -> Any:
        return self.conditions[index]

    def __len__(self) -> int:
        return len(self.conditions)


def comparisons(holdings: Holdings, candidate: Space) -> list[Comparison]:
    """What a promotion of a generation is judged on, as the gallery stands.

    Raises:
        RefusedError: the generation that answers now is not here.
    """
    answering = _answering(holdings, candidate)
    held = {space.fingerprint: space for space in stored_spaces(holdings, view=_view_with(holdings, candidate.name))}
    others = ({answering.fingerprint: answering} if answering else {}) | held
    return [
        Comparison(space, Judged(answering is not None and fingerprint == answering.fingerprint, fingerprint in held))
        for fingerprint, space in others.items()
        if fingerprint != candidate.fingerprint
    ]


def judge(holdings: Holdings, generation: str) -> Judgement:
    """What a promotion would be judged on as the gallery stands: the last checks, by the policy of this moment.

    The generation alone is compared with the one that answers now, alone, and its queries with those of every other space
    whose vectors it would search. While the gallery is empty no check is asked for; one that was made counts.

    Raises:
        RefusedError: it has not been checked against one of them.
    """
    candidate = Space(holdings.generation(generation))
    compared = comparisons(holdings, candidate)
    empty = not stored_spaces(holdings, view=_view_with(holdings, generation))
    judged: list[str] = []
    conditions: list[tuple[str, Condition]] = []
    for one in compared:
        space, asked = one.space, one.judged
        evidence = evidence_between(holdings, candidate, space)
        if evidence is None and empty:
            continue
        if evidence is None:
            why = "answers queries now" if asked.alone else "has vectors in the gallery that it would search"
            raise RefusedError(
                f"{candidate.name} has not been checked against {space.name}, which {why}: run  evergallery check "
                f"{candidate.name} --against {space.name} --data HELD_OUT  first."
            )
        judged += [f"{candidate.name} alone against {space.name} alone"] if asked.alone else []
        judged += (
            [f"queries of {candidate.name} in vectors of {space.name} {evidence.path()}"] if asked.searched else []
        )
        found = gate_of(holdings).conditions(evidence, asked)
        conditions += [(space.name, condition) for condition in found]
    if not judged:
        judged = [
            "nothing, because no generation has answered before"
            if holdings.state.promoted is None
            else "nothing, because the gallery is empty, so that no answer can become worse"
        ]
    return Judgement(" and ".join(judged), tuple(conditions))


def conditions(holdings: Holdings, generation: str) -> list[tuple[str, Condition]]:
    """The gate's conditions on a generation as it stands, each with the name of the space that is compared with.

    Raises:
        RefusedError: see ``judge``.
    """
    return list(judge(holdings, generation).conditions)


def promote(holdings: Holdings, generation: str, *, force: bool = False, why: str | None = None) -> Promotion:
    """Let a generation answer queries from now on; one atomic change. Where it answers already, nothing changes.

    Vectors that were refreshed for it, and not shown so far, are shown from the same moment.

    Returns:
        What was done and what it was judged on; as a sequence, the conditions of the gate, each with the name of the space
        that is compared with.

    Raises:
        RefusedError: the gate has not been passed, see ``judge``, or nobody has shown that it may search a space whose
            vectors the gallery holds; ``force`` with a reason ``why`` accepts that, and both are recorded.
        BusyError: another promotion, or a refresh, came between.
    """
    candidate = Space(holdings.generation(generation))
    if force and not why:
        raise InputError("Promoting against the evidence needs a reason: give it with --why.")
    basis = holdings.state
    if candidate.name == basis.promoted:
        return Promotion(candidate.name, candidate.name, "nothing, because nothing was changed")
    found, refused = Judgement("nothing, because there is no evidence", ()), None
    stored = stored_spaces(holdings, view=_view_with(holdings, generation))
    try:
        found = judge(holdings, generation)
        if found.failed:
            raise RefusedError(
                f"The gate refuses {candidate.name}. {'; '.join(found.failed)}. {found.next_step(candidate.name)}"
            )
        require_compatible(holdings, candidate, stored)
    except RefusedError as refusal:
        if not force:
            holdings.journal.record("promote refused", generation=candidate.name, reason=str(refusal))
            raise RefusedError(
                f"{refusal} To promote it all the same, give --force and the reason with --why."
            ) from refusal
        refused = str(refusal)
    with changing(holdings, "promoting a generation") as state:
        if (state.promoted, state.view()) != (basis.promoted, basis.view()):
            raise BusyError(f"What answers queries changed while {candidate.name} was judged: promote it again.")
        if force:
            for space in stored:
                if not state.may_compare(candidate.fingerprint, space.fingerprint):
                    state.accept(
                        Pair(new=candidate.name, old=space.name, fingerprints=(candidate.fingerprint, space.fingerprint),
                             shown_by="force", evidence=str(why), time=now())
                    )  # fmt: skip
        state.promote(
            candidate.name,
            why or f"the gate was passed, judged on {found.judged}",
            judged=found.judged,
            refused=refused,
        )
    holdings.journal.record(
        "promote", generation=candidate.name, before=basis.promoted, forced=refused is not None, why=why, refused=refused,
        judged=found.judged, conditions=[f"{space}: {condition}" for space, condition in found.conditions],
    )  # fmt: skip
    return Promotion(candidate.name, basis.promoted, found.judged, found.conditions, refused)


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
            if not state.may_compare(before.fingerprint, space.fingerprint):
                raise RefusedError(
                    f"The gallery holds vectors of {space.name} that {name} has not been shown to be compatible with: "
                    f"check it against them, or promote it with --force."
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
        raise RefusedError(
            f"{error} Nothing can be compared with it: promote {candidate.name} with --force and --why."
        ) from error


def _view_with(holdings: Holdings, generation: str) -> View:
    """What searches would see once ``generation`` is promoted."""
    state = holdings.state.model_copy(deep=True)
    state.promote(generation, "")
    return state.view()
