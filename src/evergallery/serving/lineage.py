"""Generations, the matrix of what was measured between them, and the gate's verdict, as clients see them."""

from collections.abc import Sequence
from typing import Any, Literal

from evergallery.errors import NotFoundError, RefusedError
from evergallery.generations.generation import Generation
from evergallery.holdings.answer import Answer
from evergallery.holdings.comparing import stored_spaces
from evergallery.holdings.embedding import reads_words
from evergallery.holdings.holdings import Holdings
from evergallery.holdings.spaces import Space
from evergallery.holdings.state import PromotionReason
from evergallery.retrieval.bootstrap import wilson
from evergallery.serving import schemas
from evergallery.strings.redaction import redacted_values
from evergallery.upgrade import choosing
from evergallery.upgrade.evidence import Evidence, Test
from evergallery.upgrade.gate import Condition
from evergallery.upgrade.kept_evidence import evidence_between, read_check
from evergallery.upgrade.promotion import Judgement, judge

PRIVATE = ("checksums", "run", "classes", "new_classes")
"""Parts of a card that say nothing to a client, or are said elsewhere."""


def generations(holdings: Holdings) -> schemas.Generations:
    """Every generation, oldest first."""
    counts = holdings.gallery.count_by_generation()
    promoted = holdings.state.promoted
    return schemas.Generations(
        promoted=promoted,
        generations=[_described(holdings, generation, promoted, counts) for generation in holdings.generations()],
    )


def generation(holdings: Holdings, name: str) -> schemas.GenerationDetail:
    """A generation, with the names of its classes."""
    found = holdings.generation(name)
    told = _described(holdings, found, holdings.state.promoted, holdings.gallery.count_by_generation())
    return schemas.GenerationDetail(
        **told.model_dump(), class_names=list(found.card.classes), new_class_names=list(found.card.new_classes)
    )


def matrix(holdings: Holdings) -> schemas.Matrix:
    """Recall@1 of queries of each generation in the vectors of each space, from the last checks."""
    cells: dict[tuple[str, str, str], tuple[str, schemas.Cell]] = {}
    checks = [evidence for path in _checks(holdings) if (evidence := _evidence(holdings, path))]
    for evidence in checks:
        tests: dict[Test, tuple[str, str]] = {
            "old self": (evidence.old, evidence.old),
            "new self": (evidence.new, evidence.new),
            "cross": (evidence.new, evidence.old),
        }
        for test, (query, stored) in tests.items():
            # Vectors that an adapter has mapped answer no queries of their own.
            if query.startswith("a"):
                continue
            for group, figures in evidence.figures[test].items():
                value = figures.recall[1]
                low, high = wilson(value, figures.queries)
                cell = schemas.Cell(
                    query=query,
                    gallery=stored,
                    value=value,
                    low=low,
                    high=high,
                    classes=group,  # type: ignore[arg-type]
                    queries=figures.queries,
                )
                known = cells.get((query, stored, group))
                if known is None or known[0] < evidence.time:
                    cells[query, stored, group] = evidence.time, cell
    latest = max(checks, key=lambda evidence: evidence.time, default=None)
    return schemas.Matrix(
        generations=[generation.name for generation in holdings.generations()],
        metric="recall@1",
        cells=[cell for _, cell in cells.values()],
        protocol="Nothing has been measured yet: run  evergallery check GENERATION --data HELD_OUT"
        if latest is None
        else f"{latest.protocol}; 95 % Wilson intervals; the last check was made {latest.time}.",
    )


def gate(holdings: Holdings, name: str, answer: Answer | None = None) -> schemas.Gate:
    """The verdict on a generation as the gallery stands, with every condition, and what its promotion would change.

    Args:
        holdings: of the workspace.
        name: of the generation.
        answer: how it would answer; as the last check has shown by default.
    """
    candidate = holdings.generation(name)
    state = holdings.state
    told: dict[str, Any] = {"generation": name, "would_change": _would_change(holdings, candidate)}
    closed = {**told, "judged": None, "verdict": None, "passed": None, "conditions": [], "against": None}
    if name == state.promoted and answer in (None, state.answer):
        return schemas.Gate(**closed, next=None, reason=f"{name} answers queries already.")
    try:
        found = judge(holdings, name, answer)
    except RefusedError as refusal:
        return schemas.Gate(**closed, next="check", reason=str(refusal))
    told = {**told, "judged": found.judged, "passed": not found.failed, "conditions": told_conditions(found.conditions)}
    failed = [space for space, condition in found.conditions if condition.failed]
    spaces = failed or [space for space, _ in found.conditions]
    if not spaces:
        return schemas.Gate(**told, verdict=None, against=None, next="promote", reason=f"Judged: {found.judged}.")
    check = read_check(holdings.directory / "checks" / f"{name}-in-{spaces[0]}.json")
    leads = _leads_on(holdings, found, candidate, spaces[0], check["verdict"])
    return schemas.Gate(**told, verdict=check["verdict"], against=spaces[0], next=leads, reason=check["reason"])


def _leads_on(
    holdings: Holdings, found: Judgement, candidate: Generation, against: str, verdict: str
) -> Literal["promote", "check", "adapt", "refresh"]:
    """Return what leads on from a judgement."""
    if not found.failed:
        return "promote"
    if verdict == "compatible after an adapter":
        # One that is made, and that no check has measured since, waits for a check.
        made = any(
            adapter.card.source.name == candidate.name and adapter.card.target.name == against
            for adapter in holdings.adapters()
        )
        return "check" if made else "adapt"
    return "refresh" if found.refresh_would_do else "check"


def ways(holdings: Holdings, name: str) -> schemas.Ways:
    """The ways in which a generation could answer."""
    found = choosing.ways(holdings, name)
    if found is None:
        return schemas.Ways(generation=name, against=None, options=[], advice=None)
    options = [
        schemas.Option(
            name=option.name,
            way=option.outcome.way,
            candidates=option.outcome.candidates,
            share=1.0 if option.outcome.way == "refresh" else option.outcome.share,
            score=option.outcome.score,
            change=option.outcome.change.mean,
            low=option.outcome.change.low,
            high=option.outcome.change.high,
            milliseconds=option.milliseconds,
            images=option.images,
            seconds=option.seconds,
            passes=option.passes,
        )
        for option in found.options
    ]
    return schemas.Ways(generation=name, against=found.old, options=options, advice=found.advice.text)


def told_conditions(conditions: Sequence[tuple[str, Condition]]) -> list[schemas.GateCondition]:
    """The gate's conditions, each with the name of the space that is compared with."""
    return [
        schemas.GateCondition(
            space=space,
            name=condition.name,
            passed=condition.met,
            value=condition.measured,
            limit=condition.required,
            sentence=str(condition),
        )
        for space, condition in conditions
    ]


def _would_change(holdings: Holdings, candidate: Generation) -> str:
    state = holdings.state
    if candidate.name == state.promoted:
        return f"Nothing: {candidate.name} answers queries already."
    after = state.model_copy(deep=True)
    after.promote(candidate.name, PromotionReason(""), fingerprint=candidate.fingerprint)
    counts = holdings.gallery.count_by_generation(view=after.view())
    held = {space.name: counts[space.fingerprint] for space in stored_spaces(holdings, view=after.view())}
    searched = " and ".join(f"{count} vectors of {space}" for space, count in held.items()) or "no vectors yet"
    sentence = f"{candidate.name} answers queries in place of {state.promoted or 'nobody'}, and searches {searched}."
    if state.refresh is not None and state.view() != after.view():
        sentence += f" The new vectors of the refresh {state.refresh.id} are shown from the same moment."
    return sentence


def _checks(holdings: Holdings) -> list[str]:
    folder = holdings.directory / "checks"
    return sorted(path.stem for path in folder.glob("*-in-*.json")) if folder.is_dir() else []


def _evidence(holdings: Holdings, check: str) -> Evidence | None:
    new, _, old = check.partition("-in-")
    try:
        return evidence_between(holdings, Space(holdings.generation(new)), holdings.space(old))
    except NotFoundError:
        return None


def _described(
    holdings: Holdings, generation: Generation, promoted: str | None, counts: dict[str, int]
) -> schemas.Generation:
    card = generation.card
    return schemas.Generation(
        name=card.name,
        parent=card.parent,
        kind=card.kind,
        method=card.method.name,
        backbone=card.architecture.backbone if card.architecture else None,
        dimension=card.dimension,
        classes=len(card.classes),
        new_classes=len(card.new_classes),
        created=card.created,
        fingerprint=card.fingerprint,
        items=counts.get(card.fingerprint, 0),
        promoted=card.name == promoted,
        reads_words=reads_words(holdings, generation),
        card=redacted_values(
            {name: value for name, value in card.model_dump(mode="json").items() if name not in PRIVATE}
        ),
    )
